//! `gapless list`: the scenarios of a folder, and the words that a scenario may use, one line each.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use gapless_world::{EventDoc, ToldBy};

use super::{Exit, Home, Stop, closed, select};
use crate::{
    explain::{self, Subject},
    report::{Layout, text::cut},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to list.
    #[arg(value_enum, default_value_t = What::Scenarios)]
    what: What,
    /// Scenario files, names of scenarios, or folders of them [default: all scenarios].
    paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Scenarios with their titles.
    #[value(alias = "scenario")]
    Scenarios,
    /// Faults that a step can inject.
    #[value(alias = "fault")]
    Faults,
    /// Events that `seen`, `never`, `sometimes` and `first:EVENT` can name, and the hosts that report them.
    #[value(alias = "event")]
    Events,
    /// Invariants against which every run is judged.
    #[value(alias = "invariant")]
    Invariants,
}

/// Prints one line for each.
pub(super) fn list(arguments: &Arguments, home: &Home, layout: Layout) -> Result<Exit, Stop> {
    if arguments.what != What::Scenarios && !arguments.paths.is_empty() {
        return Err(Stop::With(Exit::Usage, "error: only `list scenarios` takes paths".to_owned()));
    }
    let words = |subject| explain::names(subject).into_iter().map(|(name, about)| (name.to_owned(), about)).collect();
    let lines: Vec<(String, String)> = match arguments.what {
        What::Scenarios => {
            let scenarios = select::scenarios(home, &arguments.paths, layout)?;
            scenarios.iter().map(|scenario| (scenario.name().to_owned(), scenario.title.clone())).collect()
        }
        What::Faults => words(Subject::Fault),
        What::Invariants => words(Subject::Invariant),
        What::Events => events(),
    };
    io::stdout().lock().write_all(table(&lines, "", layout.columns()).as_bytes()).or_else(closed)?;
    if arguments.what == What::Events {
        let note = "`client` and `both` can be seen at a client or a proxy, and so with any log; `server` cannot";
        let _ = writeln!(io::stderr(), "{note}");
    }
    Ok(Exit::Holds)
}

/// Returns the events; a column of its own says which hosts report each.
fn events() -> Vec<(String, String)> {
    let line = |(name, about): (&'static str, String)| {
        let who = match EventDoc::find(name).map(|doc| doc.told_by) {
            Some(ToldBy::Clients) => "client",
            Some(ToldBy::Both) => "both",
            Some(ToldBy::Servers) | None => "server",
        };
        (name.to_owned(), format!("{who:<6}  {about}"))
    };
    explain::names(Subject::Event).into_iter().map(line).collect()
}

/// Lays out names and their descriptions in two columns.
pub(super) fn table(lines: &[(String, String)], indent: &str, columns: usize) -> String {
    let widest = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let row = |(name, about): &(String, String)| {
        let row = format!("{indent}{name:<widest$}  {about}");
        // A name is never cut, so that it can be pasted.
        format!("{}\n", cut(row.trim_end(), columns.max(indent.len() + name.chars().count())))
    };
    lines.iter().map(row).collect()
}
