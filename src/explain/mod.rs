//! The pages that explain a word of a scenario file or of a report: a fault, an event, an invariant, a verdict.
//!
//! Nothing is written twice. The page of a fault is its entry in the catalogue, the page of an event is the comment on
//! its variant, and the page of an invariant is the opening comment of its check. This module turns them into plain
//! text of at most [`COLUMNS_MAX`] columns.

mod event;
mod invariant;
mod word;

use std::fmt;

use gapless_world::LogEvent;

use crate::{check, fault, history::Invariant, report::text::wrap, scenario};

/// The width of the widest line of a page.
pub const COLUMNS_MAX: usize = 100;

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Something that a step does.
    Fault,
    /// Something that the log or its client reports about itself.
    Event,
    /// Something that a log promises to hold.
    Invariant,
    /// A word of a report: a verdict, an exit status.
    Word,
}

impl Subject {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Subject; 4] = [Subject::Fault, Subject::Event, Subject::Invariant, Subject::Word];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Fault => "fault",
            Subject::Event => "event",
            Subject::Invariant => "invariant",
            Subject::Word => "word of a report",
        })
    }
}

/// Returns every name that has a page, with one line about it, in the order of the catalogues.
pub fn names(subject: Subject) -> Vec<(&'static str, String)> {
    match subject {
        Subject::Fault => fault::CATALOGUE.iter().map(|fault| (fault.name, fault.summary.to_owned())).collect(),
        Subject::Event => {
            LogEvent::docs().iter().map(|doc| (doc.name.as_str(), lower(&plain(doc.summary())))).collect()
        }
        Subject::Invariant => {
            let explained =
                |invariant: &Invariant| Some((invariant.name(), invariant::summary(&check::explain(*invariant)?)));
            Invariant::ALL.iter().filter_map(explained).collect()
        }
        Subject::Word => word::WORDS.iter().map(|word| (word.name, word.summary.to_owned())).collect(),
    }
}

/// Returns the page of a name, or `None` if nothing has this name.
pub fn page(name: &str) -> Option<String> {
    if let Some(fault) = fault::find(name) {
        return Some(fault.page());
    }
    if let Some(page) = event::page(name) {
        return Some(page);
    }
    if let Some(word) = word::find(name) {
        return Some(word.page());
    }
    let invariant = Invariant::named(name)?;
    check::explain(invariant).map(|markdown| invariant::page(name, &markdown))
}

/// Suggests what was meant by a name that has no page.
pub fn suggest(name: &str) -> String {
    let all = Subject::ALL.map(names);
    let all: Vec<&str> = all.iter().flatten().map(|(name, _)| *name).collect();
    scenario::suggest(name, &all)
}

/// Wraps a paragraph of a page.
fn paragraph(text: &str) -> String {
    wrap(text, COLUMNS_MAX).into_iter().map(|line| line + "\n").collect()
}

/// Removes the marks of Markdown and of links in doc comments. Backticks stay: they set words apart in plain text too.
fn plain(markdown: &str) -> String {
    let unlinked = markdown.replace("[`", "`").replace("`]", "`");
    let mut code = false;
    let kept = |c: &char| {
        code ^= *c == '`';
        code || *c != '*'
    };
    unlinked.chars().filter(kept).collect()
}

/// Returns a sentence as it stands behind a name: without its capital letter.
fn lower(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let acronym = |rest: &str| rest.starts_with(|c: char| c.is_uppercase());
    match chars.next() {
        Some(first) if !acronym(chars.as_str()) => first.to_lowercase().chain(chars).collect(),
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_page_of_its_own_that_fits_a_terminal() {
        let mut seen = std::collections::BTreeSet::new();
        for subject in Subject::ALL {
            for (name, about) in names(subject) {
                assert!(seen.insert(name), "{name} is a {subject} and something else");
                assert!(!about.is_empty() && !about.contains("**"), "{name}: {about}");
                let page = page(name).unwrap_or_else(|| panic!("{name} has no page"));
                assert!(page.starts_with(name) && page.ends_with('\n'), "{page}");
                for line in page.lines() {
                    assert!(line.chars().count() <= COLUMNS_MAX && !line.contains("**"), "{name}: {line}");
                }
            }
        }
        assert!(LogEvent::NAMES.iter().all(|name| seen.contains(name)));
    }

    #[test]
    fn the_tables_of_the_documentation_list_every_fault_and_every_event_once() {
        let text = include_str!("../../docs/scenario-format.md");
        for (name, _) in names(Subject::Fault) {
            let rows = text.lines().filter(|line| line.starts_with(&format!("| `{name}` | ")));
            // A parameter of the same name (`latency`) has a row in another table.
            let rows =
                rows.filter(|line| line.contains("`on`") || line.contains("| link") || line.contains("`between`"));
            let surge = usize::from(name == "surge");
            assert_eq!(rows.count() + surge, 1, "{name}");
        }
        let events = text.split_once("### Events").and_then(|(_, rest)| rest.split_once("## ")).expect("a table").0;
        for (name, _) in names(Subject::Event) {
            assert_eq!(events.matches(&format!("`{name}`")).count(), 1, "{name}");
        }
    }

    #[test]
    fn a_name_without_a_page_is_answered_with_the_nearest() {
        assert_eq!(page("partiton"), None);
        assert!(suggest("partiton").starts_with("did you mean `partition`?"));
        assert!(suggest("acked-durabel").starts_with("did you mean `acked-durable`?"));
    }

    #[test]
    fn the_page_of_a_fault() {
        insta::assert_snapshot!(page("clock-jump").unwrap());
    }

    #[test]
    fn the_page_of_an_event() {
        insta::assert_snapshot!(page("handshake-refused").unwrap());
    }

    #[test]
    fn the_page_of_a_verdict() {
        insta::assert_snapshot!(page("inconclusive").unwrap());
    }

    #[test]
    fn the_page_of_an_invariant() {
        insta::assert_snapshot!(page("acked-durable").unwrap());
    }
}
