//! `gapless list`: the scenarios of a folder, the catalogue of faults, the events that a scenario may speak of.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::{Exit, Stop, closed, select};
use crate::{fault::CATALOGUE, world::LogEvent};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to list.
    #[arg(value_enum, default_value_t = What::Scenarios)]
    what: What,
    /// Scenario files, or folders of them [default: scenarios/].
    paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Scenario files with their titles.
    Scenarios,
    /// Faults that a step can inject.
    Faults,
    /// Events that `seen`, `never`, `sometimes` and `first:EVENT` can name.
    Events,
}

/// One line each.
pub(super) fn list(arguments: &Arguments) -> Result<Exit, Stop> {
    if arguments.what != What::Scenarios && !arguments.paths.is_empty() {
        return Err(Stop::With(Exit::Usage, "error: only `list scenarios` takes paths".to_owned()));
    }
    let lines: Vec<(String, String)> = match arguments.what {
        What::Scenarios => {
            let scenarios = select::scenarios(&arguments.paths)?;
            scenarios.iter().map(|scenario| (scenario.name().to_owned(), scenario.title.clone())).collect()
        }
        What::Faults => CATALOGUE.iter().map(|fault| (fault.name.to_owned(), fault.summary.to_owned())).collect(),
        What::Events => LogEvent::NAMES.iter().map(|name| ((*name).to_owned(), String::new())).collect(),
    };
    let widest = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let text: String =
        lines.iter().map(|(name, about)| format!("{}\n", format!("{name:<widest$}  {about}").trim_end())).collect();
    io::stdout().lock().write_all(text.as_bytes()).or_else(closed)?;
    Ok(Exit::Holds)
}
