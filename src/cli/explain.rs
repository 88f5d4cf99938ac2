//! `gapless explain`: the page of a fault, an event or an invariant.

use std::io::{self, Write};

use super::{Exit, Stop, closed};
use crate::explain::{self, Subject};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A fault, an event or an invariant; without it, all names are listed.
    name: Option<String>,
}

/// Prints one page, or what there are pages of.
pub(super) fn explain(arguments: &Arguments) -> Result<Exit, Stop> {
    let text = match &arguments.name {
        None => contents(),
        Some(name) => explain::page(name).ok_or_else(|| unknown(name))?,
    };
    io::stdout().lock().write_all(text.as_bytes()).or_else(closed)?;
    Ok(Exit::Holds)
}

fn unknown(name: &str) -> Stop {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let near = explain::suggest(name);
    let message = format!("error: nothing is called `{shown}`\n{near}\n`gapless explain` lists all names");
    Stop::With(Exit::NothingSelected, message)
}

/// All names, by what they are.
fn contents() -> String {
    let mut text = String::new();
    for (subject, title) in [(Subject::Fault, "Faults"), (Subject::Event, "Events"), (Subject::Invariant, "Invariants")]
    {
        let lines = explain::names(subject).into_iter().map(|(name, about)| (name.to_owned(), about));
        text.push_str(&format!("{title}\n{}\n", super::list::table(&lines.collect::<Vec<_>>(), "  ")));
    }
    text.trim_end().to_owned() + "\n"
}
