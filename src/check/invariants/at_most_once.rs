//! # at-most-once
//!
//! No entry counts more than once, whatever the order of the entries.
//!
//! **Where it comes from.** The at-most-once half of exactly-once semantics for remote calls (Birrell and Nelson,
//! "Implementing Remote Procedure Calls", 1984). An auditor who counts events counts a repeat as something that
//! happened. A log whose clients append concurrently cannot promise an order, but it can still promise this.
//!
//! **What it looks at.** The final log: each entry of the workload may count at one position. A repeat that the log
//! itself knows to be void does not count. Only `may_repeat` releases a log from this promise; a log that declines
//! `no-gaps` is still held to it.
//!
//! **What leaves it idle.** No reading reached the end of the log after everything had healed, or it holds no entry of
//! the workload.
//!
//! **A corner that goes wrong.** A call times out, or the server dies between the write and the answer; the client
//! sends the entry again, and both copies arrive. A table of known ids that is kept in memory is empty after the
//! restart, which is when repeats come. A log that gives each attempt a new id cannot recognize a repeat.

use super::super::{
    cause,
    index::{Entry, Find, Index},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let Some(log) = &index.log else { return Finding::Idle { why: index.why_no_log() } };
    let mut violations = Violations::default();
    let mut entries = 0;
    for (at, entry) in index.counting(log) {
        if entry.first == Some(at) {
            entries += 1;
        } else {
            violations.add("twice", Some(entry.id()), || twice(index, entry, &index.finds[at]));
        }
    }
    let exercised = || words::count(entries, "entry of the workload", "entries of the workload");
    violations.or_held(entries, exercised, "the final log holds no entry of the workload")
}

fn twice(index: &Index<'_>, entry: &Entry<'_>, again: &Find<'_>) -> Violation {
    let first = index.position(entry).unwrap_or_default();
    let summary = match entry.times {
        0..=2 => format!("{} was recorded twice, at {first} and {}.", entry.id(), again.found.position),
        times => format!("{} was recorded {times} times, at {first}, {} …", entry.id(), again.found.position),
    };
    let (why, events) = cause::of_a_repeat(index, entry);
    let told = [entry.submitted.map(|it| it.0), entry.returned.map(|it| it.0)];
    let first = entry.first.map(|find| index.finds[find].event);
    let told = told.into_iter().chain([first, Some(again.event)]).flatten();
    Violation::new(summary).because(why).shown_by(told.chain(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Found, Invariant, What},
    };

    /// The entries of client-1 by number, in the order of the final log; `between` happens while #1 is under way.
    fn log(entries: &[u64], between: impl FnOnce(&mut Story)) -> Story {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).acked("client-1", 0, None);
        story.at(2_000).submits("client-1", 1);
        between(&mut story);
        story.at(3_000).acked("client-1", 1, None);
        let found: Vec<Found> = (0..).zip(entries).map(|(at, number)| story.find(at, "client-1", *number)).collect();
        story.at(9_000).reads_everywhere(&found);
        story
    }

    #[test]
    fn each_entry_once_holds_in_any_order_and_an_unread_log_is_idle() {
        let Finding::Holds { exercised } = log(&[1, 0], |_| ()).finding(Invariant::AtMostOnce) else {
            panic!("not held")
        };
        assert_eq!(exercised, "2 entries of the workload");
        assert!(matches!(Story::new().finding(Invariant::AtMostOnce), Finding::Idle { .. }));
    }

    #[test]
    fn a_repeat_is_told_with_both_positions_and_what_happened_in_between() {
        let story = log(&[0, 1, 1], |story| {
            story.at(2_500).says("server-1", What::Down { how: Down::Crash });
        });
        let violation = story.violation(Invariant::AtMostOnce);
        assert_eq!(violation.summary, "client-1 #1 was recorded twice, at 1 and 2.");
        let why = "server-1 crashed at 2.500s, between its submission at 2.000s and its answer at 3.000s";
        assert_eq!(violation.why.as_deref(), Some(why));
        let calm = log(&[0, 1, 1, 1], |_| ()).violation(Invariant::AtMostOnce);
        assert_eq!((calm.summary.as_str(), calm.why), ("client-1 #1 was recorded 3 times, at 1, 2 …", None));
    }

    #[test]
    fn declining_the_order_does_not_decline_it_and_may_repeat_does() {
        let mut story = log(&[0, 1, 1], |_| ());
        story.history.header.promises.kept.retain(|invariant| *invariant != Invariant::NoGaps);
        story.history.header.promises.declined.push((Invariant::NoGaps, "no numbers".to_owned()));
        assert!(matches!(story.finding(Invariant::AtMostOnce), Finding::Violated(_)));
        let why = "a retry may be recorded twice".to_owned();
        story.history.header.promises.may_repeat = Some(why.clone());
        assert_eq!(story.finding(Invariant::AtMostOnce), Finding::Declined { why });
    }

    #[test]
    fn a_void_repeat_does_not_count() {
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, None);
        let void = Found { counts: false, ..story.find(1, "client-1", 0) };
        let first = story.find(0, "client-1", 0);
        story.at(9_000).reads_everywhere(&[first, void]);
        assert!(matches!(story.finding(Invariant::AtMostOnce), Finding::Holds { .. }));
    }
}
