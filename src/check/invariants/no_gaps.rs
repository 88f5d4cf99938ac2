//! # no-gaps
//!
//! Per client, the entries that count are sequences 0..n without a hole and in order.
//!
//! **Where it comes from.** An auditor can trust silence only if a missing entry would show. The numbers that each
//! client assigns and signs, checked when an entry is applied, are the client sessions of Ongaro's dissertation
//! ("Consensus: Bridging Theory and Practice", section 6.3), used here to find holes as well as repeats.
//!
//! **What it looks at.** The final log, from first to last position. Where the log numbers its clients' entries, each
//! epoch of a client must count 0, 1, 2 … by position. Every log, numbered or not, must hold one client's entries in
//! the order in which they were submitted. Where the log gives no numbers, an entry may be missing only if it was not
//! acknowledged, and only acknowledged entries are held to their order: an entry that was given up may arrive late.
//! That an entry stands in the log only once is for `at-most-once`, whatever the order.
//!
//! **What leaves it idle.** No reading reached the end of the log after everything had healed, or it holds no entry of
//! the workload.
//!
//! **A corner that goes wrong.** A call times out, is sent again, and both copies arrive: the second must not count.
//! And a leader that is deposed between its check for repeats and the commit lets a repeat in; only a rule that is
//! applied from the log itself keeps it out. A log that is cut off at its end shows no hole at all: `acked-durable` has
//! to find that.

use std::collections::BTreeMap;

use super::super::{
    index::{Entry, Find, Index, Log},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::Name;

pub(super) fn check(index: &Index<'_>) -> Finding {
    let Some(log) = &index.log else { return Finding::Idle { why: index.why_no_log() } };
    let mut violations = Violations::default();
    let slots = numbered_slots(index, log, &mut violations);
    let entries = workload(index, log, &mut violations);
    if !index.numbered {
        missing(index, &mut violations);
    }
    let exercised = || match slots {
        0 => words::count(entries, "entry of the workload, unnumbered", "entries of the workload, unnumbered"),
        _ => format!("{} in the order of their numbers", words::count(slots, "counting entry", "counting entries")),
    };
    violations.or_held(slots + entries, exercised, "the final log holds no entry of the workload")
}

/// Follows each client's epochs through the log. Returns how many numbered entries count.
fn numbered_slots(index: &Index<'_>, log: &Log, violations: &mut Violations) -> u64 {
    let mut next: BTreeMap<(&Name, u64), (u64, Option<usize>)> = BTreeMap::new();
    let mut slots = 0;
    for find in log.finds().map(|find| &index.finds[find]).filter(|find| find.found.counts) {
        let Some((client, epoch, sequence)) = &find.found.numbered else { continue };
        slots += 1;
        let slot = next.entry((client, *epoch)).or_insert((0, None));
        let (expected, before) = *slot;
        if *sequence != expected {
            let kind = if *sequence > expected { "hole" } else { "again" };
            let entry = find.entry.map(|entry| index.entries[entry].id());
            violations
                .add(kind, entry, || misnumbered(find, expected).shown_by(before.into_iter().chain([find.event])));
        }
        *slot = (expected.max(sequence.saturating_add(1)), Some(find.event));
    }
    slots
}

/// Reports that the sequence of `find` is not the next one of its client's epoch.
fn misnumbered(find: &Find<'_>, expected: u64) -> Violation {
    let Some((client, epoch, sequence)) = &find.found.numbered else { return Violation::new("an entry has no number") };
    let position = find.found.position;
    let what = match sequence.checked_sub(expected) {
        None => format!("sequence {sequence} counts again at position {position}; {expected} was to come"),
        Some(1) => format!("sequence {expected} is missing before {sequence} at position {position}"),
        Some(_) => {
            format!("sequences {expected} to {} are missing before {sequence} at position {position}", sequence - 1)
        }
    };
    Violation::new(format!("{client}, epoch {epoch}: {what}."))
}

/// Checks that each client's entries are in order. Returns how many entries count.
fn workload(index: &Index<'_>, log: &Log, violations: &mut Violations) -> u64 {
    let mut last: BTreeMap<&Name, &Entry<'_>> = BTreeMap::new();
    let mut entries = 0;
    for (at, entry) in index.counting(log) {
        entries += 1;
        if entry.first != Some(at) {
            continue; // a repeat is not a question of order
        }
        if !index.numbered && entry.acked().is_none() {
            continue;
        }
        match last.get(entry.client) {
            Some(before) if before.number > entry.number => {
                violations.add("order", Some(entry.id()), || out_of_order(index, before, entry));
            }
            _ => {
                last.insert(entry.client, entry);
            }
        }
    }
    entries
}

/// Returns the event of the entry's first find.
fn first_event(index: &Index<'_>, entry: &Entry<'_>) -> Option<usize> {
    entry.first.map(|find| index.finds[find].event)
}

fn out_of_order(index: &Index<'_>, before: &Entry<'_>, entry: &Entry<'_>) -> Violation {
    let position = |entry| index.position(entry).unwrap_or_default();
    let (number, after) = (before.number, position(entry));
    let summary = format!("{} stands at position {after}, behind #{number} at {}.", entry.id(), position(before));
    let submitted = [entry, before].into_iter().filter_map(|it| it.submitted.map(|it| it.0));
    Violation::new(summary).shown_by(submitted.chain(first_event(index, before)).chain(first_event(index, entry)))
}

/// Reports acknowledged entries that are missing from a log without numbers.
fn missing(index: &Index<'_>, violations: &mut Violations) {
    for entry in index.entries.iter().filter(|entry| entry.first.is_none()) {
        let Some((acked, _)) = entry.acked().filter(|&(acked, _)| index.owed(acked)) else { continue };
        if index.is_merely_not_shown(acked) {
            continue; // `recovers` reports it
        }
        violations.add("missing", Some(entry.id()), || {
            let at = words::time(index.event(acked).at);
            let summary = format!("{} is missing; it was acknowledged at {at}.", entry.id());
            Violation::new(summary).shown_by(entry.submitted.map(|it| it.0).into_iter().chain([acked]))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Found, Invariant},
    };

    /// A log of these pairs (entry number, sequence) of client-1, all acknowledged.
    fn log(entries: &[(u64, u64)]) -> Story {
        let mut story = Story::new();
        for number in 0..5 {
            story.at(1_000 + number).submits("client-1", number).acked("client-1", number, None);
        }
        let find = |(n, &(number, sequence)): (usize, &(u64, u64))| Found {
            numbered: Some(("client-1".into(), 1, sequence)),
            ..story.find(n as u64, "client-1", number)
        };
        let found: Vec<Found> = entries.iter().enumerate().map(find).collect();
        story.at(9_000).reads_everywhere(&found);
        story
    }

    fn summary(story: &Story) -> String {
        story.violation(Invariant::NoGaps).summary
    }

    #[test]
    fn whole_sequences_hold_and_an_unread_log_is_idle() {
        let story = log(&[(0, 0), (1, 1), (2, 2)]);
        let Finding::Holds { exercised } = story.finding(Invariant::NoGaps) else { panic!("not held") };
        assert_eq!(exercised, "3 counting entries in the order of their numbers");
        let Finding::Idle { why } = Story::new().finding(Invariant::NoGaps) else { panic!("not idle") };
        assert_eq!(why, "nobody read the log after everything had healed");
    }

    #[test]
    fn holes_repeats_and_disorder_are_told_apart() {
        let hole = summary(&log(&[(0, 0), (1, 1), (4, 4)]));
        assert_eq!(hole, "client-1, epoch 1: sequences 2 to 3 are missing before 4 at position 2.");
        let one = summary(&log(&[(1, 1)]));
        assert_eq!(one, "client-1, epoch 1: sequence 0 is missing before 1 at position 0.");
        let again = summary(&log(&[(0, 0), (1, 1), (2, 1)]));
        assert_eq!(again, "client-1, epoch 1: sequence 1 counts again at position 2; 2 was to come.");
        let order = summary(&log(&[(0, 0), (3, 1), (2, 2)]));
        assert_eq!(order, "client-1 #2 stands at position 2, behind #3 at 1.");
    }

    #[test]
    fn an_unnumbered_log_may_miss_only_what_was_not_acknowledged() {
        let mut story = Story::new();
        story.history.header.servers.truncate(1);
        for number in 0..3 {
            story.at(1_000 + number).submits("client-1", number);
        }
        story.acked("client-1", 0, None).unknown("client-1", 1).acked("client-1", 2, None);
        let found = [story.find(0, "client-1", 0), story.find(1, "client-1", 2), story.find(2, "client-1", 1)];
        let mut late = story.clone();
        late.at(9_000).reads_everywhere(&found);
        assert!(matches!(late.finding(Invariant::NoGaps), Finding::Holds { .. }));
        story.at(9_000).reads_everywhere(&found[..1]);
        assert_eq!(summary(&story), "client-1 #2 is missing; it was acknowledged at 1.002s.");
    }
}
