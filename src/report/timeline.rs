//! Timelines: the few events of a violation with its hosts as columns, and all events of a run for a `replay`.
//!
//! Each event takes one line, in the order of the history, no wider than the [`Layout`]. Deaths, failures and losses
//! stand out by a mark, not by colour alone.

use std::fmt::Write as _;

use super::{
    Layout, Palette, describe,
    text::{cut, wrap},
};
use crate::{
    check::{Verdict, words},
    history::{Event, History, Name, What},
};

/// The width of the time in front of a line.
const TIME_WIDTH: usize = 11;
/// The approximate minimum width of a host's column.
const HOST_WIDTH_MIN: usize = 20;
/// The most hosts that get a column of their own.
const HOSTS_MAX: usize = 4;

/// Shows a few events, with the hosts involved as columns. The text of each event begins in its host's column and may
/// run on to the right, where its row is empty.
pub(super) fn of_events(history: &History, events: &[usize], layout: Layout) -> String {
    let palette = layout.palette;
    let events: Vec<&Event> = events.iter().filter_map(|&at| history.events.get(at)).collect();
    if events.is_empty() {
        return String::new();
    }
    let mut hosts: Vec<&Name> = Vec::new();
    for event in &events {
        if !hosts.contains(&&event.host) {
            hosts.push(&event.host);
        }
    }
    // Clients send, servers answer: people read from left to right.
    hosts.sort_by_key(|host| !history.header.clients.contains(host));
    let columns = hosts.len().min(HOSTS_MAX).min(layout.columns() / HOST_WIDTH_MIN);
    let width = (layout.columns() - TIME_WIDTH - 2) / columns.max(2);
    let mut text = heading_of(&hosts[..columns], width, palette);
    for event in events {
        let column = hosts.iter().position(|host| **host == event.host).unwrap_or_default();
        let (column, named) =
            if column < columns { (column, String::new()) } else { (0, format!("[{}] ", event.host)) };
        let told = format!("{named}{}", mark(event) + &describe(event));
        let room = layout.columns() - TIME_WIDTH - 2 - column * width;
        let told = if event.what.is_grave() {
            palette.verdict(Verdict::Violated, &cut(&told, room))
        } else {
            cut(&told, room)
        };
        let time = words::time(event.at);
        let _ = writeln!(text, "{time:>TIME_WIDTH$}  {:indent$}{told}", "", indent = column * width);
    }
    text
}

fn heading_of(hosts: &[&Name], width: usize, palette: Palette) -> String {
    let mut line = format!("{:>TIME_WIDTH$}  ", "time");
    for host in hosts {
        let _ = write!(line, "{:<width$}", cut(host, width - 1));
    }
    palette.faint(line.trim_end()) + "\n"
}

fn mark(event: &Event) -> String {
    if event.what.is_grave() { "✖ ".to_owned() } else { String::new() }
}

/// Returns whether an event stands out in a timeline: something died, was lost or failed.
trait Grave {
    fn is_grave(&self) -> bool;

    /// Returns whether it carries the reason of a failure, in the words of others.
    fn says_why(&self) -> bool;
}

impl Grave for What {
    fn is_grave(&self) -> bool {
        match self {
            What::Down { .. } | What::Failed { .. } | What::Lost { .. } => true,
            What::LostName { .. } | What::Damaged { .. } | What::Wiped {} | What::Rewound { .. } => true,
            What::Disk { error, .. } => error.is_some(),
            What::Settled { quiet } => !quiet,
            What::Log { event } => {
                let name = event.name();
                matches!(
                    name,
                    "corruption-found" | "read-only" | "repair-stalled" | "member-lost-tail" | "receipt-rejected"
                )
            }
            _ => false,
        }
    }

    fn says_why(&self) -> bool {
        matches!(self, What::Failed { .. } | What::LostName { .. } | What::ReadingEnded { error: Some(_), .. })
            || matches!(self, What::Disk { error: Some(_), .. })
            || matches!(self, What::Log { event } if event.name() == "corruption-found")
    }
}

/// Shows every event of a run: time, host, what happened. Each takes one line; the reason of a failure takes as many as
/// it needs.
pub fn timeline(history: &History, layout: impl Into<Layout>) -> String {
    let layout = layout.into();
    let palette = layout.palette;
    let widest = history.events.iter().map(|event| event.host.len()).max().unwrap_or_default().min(24);
    let room = layout.columns().saturating_sub(TIME_WIDTH + widest + 4).max(8);
    let mut text = String::with_capacity(history.events.len() * 60);
    for event in &history.events {
        let time = words::time(event.at);
        let told = mark(event) + &describe(event);
        let paint = |told: &str| match &event.what {
            What::Step { .. } => palette.strong(told),
            what if what.is_grave() => palette.verdict(Verdict::Violated, told),
            _ => told.to_owned(),
        };
        let host = cut(&event.host, widest);
        if !event.what.says_why() {
            let _ = writeln!(text, "{time:>TIME_WIDTH$}  {host:<widest$}  {}", paint(&cut(&told, room)));
            continue;
        }
        // The reason why a process ended is what a reader looks for, so it is shown in full.
        for (n, line) in wrap(&told, room).iter().enumerate() {
            let (time, host) = if n == 0 { (time.as_str(), host.as_str()) } else { ("", "") };
            let _ = writeln!(text, "{time:>TIME_WIDTH$}  {host:<widest$}  {}", paint(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Story;

    #[test]
    fn why_a_process_ended_is_shown_whole_and_a_start_is_not_called_being_up() {
        let mut story = Story::new();
        let error = format!("open journal: {}checksum of frame 3 does not hold", "it was said again, ".repeat(12));
        story.says("server-1", What::Up { life: 17 }).says("server-1", What::Failed { error: error.clone() });
        let text = timeline(&story.history, Palette::Plain);
        let told: Vec<&str> = text.split_whitespace().collect();
        assert!(told.join(" ").ends_with(&error), "{text}");
        assert!(text.contains("starts again (life 17)") && !text.contains("up again"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= super::super::COLUMNS_MAX), "{text}");
    }
}
