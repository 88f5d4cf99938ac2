//! `gapless explain`: the page of a fault, an event, an invariant or a word of the reports.

use std::io::{self, Write};

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use super::{Exit, Stop, closed};
use crate::{
    explain::{self, Subject},
    report::{Layout, text::refit},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A fault, an event, an invariant or a word of the reports. Without a name, all names are listed.
    #[arg(value_parser = Name, hide_possible_values = true)]
    name: Option<String>,
}

/// Takes any name, so that an unknown name is answered with the nearest known one, and tells shells which names there
/// are.
#[derive(Clone)]
struct Name;

impl TypedValueParser for Name {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Subject::ALL.into_iter().flat_map(explain::names);
        Some(Box::new(names.map(|(name, about)| PossibleValue::new(name).help(about))))
    }
}

/// Prints one page, or the list of all pages.
pub(super) fn explain(arguments: &Arguments, layout: Layout) -> Result<Exit, Stop> {
    let text = match &arguments.name {
        None => contents(layout),
        Some(name) => refit(&explain::page(name).ok_or_else(|| unknown(name))?, layout.columns()),
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

/// Returns the list of all names, by subject.
fn contents(layout: Layout) -> String {
    let mut text = String::new();
    for subject in Subject::ALL {
        let title = match subject {
            Subject::Fault => "Faults",
            Subject::Event => "Events",
            Subject::Invariant => "Invariants",
            Subject::Word => "Words of a report",
        };
        let lines = explain::names(subject).into_iter().map(|(name, about)| (name.to_owned(), about));
        let table = super::list::table(&lines.collect::<Vec<_>>(), "  ", layout.columns());
        text.push_str(&format!("{title}\n{table}\n"));
    }
    text.trim_end().to_owned() + "\n"
}
