//! # real-time-order
//!
//! Where it is promised: if A was acknowledged before B was submitted, A precedes B in the log, regardless of who sent
//! them.
//!
//! **Where it comes from.** The real-time half of linearizability (Herlihy and Wing, 1990); for a log with one total
//! order nothing else is left of it. Jepsen calls it the "realtime" edge of a dependency graph.
//!
//! **What it looks at.** Every entry that counts in the final log and was submitted after some other entry had been
//! acknowledged. One sweep in the order of events keeps the highest position acknowledged so far: B breaks the promise
//! exactly if it stands below that position.
//!
//! **What leaves it idle.** Nothing was submitted after an acknowledgement, or there is no final log.
//!
//! **A corner that goes wrong.** A leader that was deposed and does not know it acknowledges nothing, so it does no
//! harm here; a log that shards by client and merges later does. Entries without an answer bind no other entry, but
//! they are bound themselves: an unknown B that turns up must still stand behind what was acknowledged before it was
//! sent.

use super::super::{
    index::{Entry, Index},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Outcome, What};

pub(super) fn check(index: &Index<'_>) -> Finding {
    if index.log.is_none() {
        return Finding::Idle { why: index.why_no_log() };
    }
    let mut violations = Violations::default();
    let mut highest: Option<(u64, &Entry<'_>)> = None;
    let mut bound = 0;
    for event in &index.history.events {
        match &event.what {
            What::Returned { entry, outcome: Outcome::Acked { .. } } => {
                let entry = index.entry(entry).map(|entry| &index.entries[entry]);
                if let Some((position, entry)) = entry.and_then(|entry| Some((index.position(entry)?, entry)))
                    && highest.is_none_or(|(known, _)| position > known)
                {
                    highest = Some((position, entry));
                }
            }
            What::Submitted { entry, .. } => {
                let entry = index.entry(entry).map(|entry| &index.entries[entry]);
                if let (Some((highest, earlier)), Some(entry)) = (highest, entry)
                    && let Some(position) = index.position(entry)
                {
                    bound += 1;
                    if position < highest {
                        violations.add("order", Some(entry.id()), || before(index, entry, earlier));
                    }
                }
            }
            _ => {}
        }
    }
    let exercised = || {
        let entries = words::count(bound, "entry", "entries");
        format!("{entries} submitted after an acknowledgement")
    };
    violations.or_held(bound, exercised, "nothing was submitted after an acknowledgement")
}

fn before(index: &Index<'_>, entry: &Entry<'_>, earlier: &Entry<'_>) -> Violation {
    let time = |event: Option<usize>| words::time(event.map(|at| index.event(at).at).unwrap_or_default());
    let (submitted, acked) = (entry.submitted.map(|it| it.0), earlier.acked().map(|it| it.0));
    let position = |entry| index.position(entry).unwrap_or_default();
    let summary = format!(
        "{} was submitted at {}, after {} had been acknowledged at {}, and stands before it: {} and {}.",
        entry.id(),
        time(submitted),
        earlier.id(),
        time(acked),
        position(entry),
        position(earlier),
    );
    let events = [earlier.submitted.map(|it| it.0), acked, submitted, entry.returned.map(|it| it.0)];
    Violation::new(summary).of([earlier.id()]).shown_by(events.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::testing::Story, history::Invariant};

    /// client-1 #0 is acknowledged at 2 s; client-2 #0 is submitted at `ms`; the log has this order.
    fn story(ms: u64, log: [&str; 2]) -> Story {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0);
        if ms < 2_000 {
            story.at(ms).submits("client-2", 0).at(2_000).acked("client-1", 0, None);
        } else {
            story.at(2_000).acked("client-1", 0, None).at(ms).submits("client-2", 0);
        }
        let found = [story.find(0, log[0], 0), story.find(1, log[1], 0)];
        story.at(9_000).reads_everywhere(&found);
        story
    }

    #[test]
    fn what_was_sent_later_stands_later() {
        let later = story(3_000, ["client-1", "client-2"]);
        assert!(matches!(later.finding(Invariant::RealTimeOrder), Finding::Holds { .. }));
        let summary = story(3_000, ["client-2", "client-1"]).violation(Invariant::RealTimeOrder).summary;
        assert_eq!(
            summary,
            "client-2 #0 was submitted at 3.000s, after client-1 #0 had been acknowledged at 2.000s, and stands before \
             it: 0 and 1."
        );
    }

    #[test]
    fn what_overlaps_may_stand_either_way_and_exercises_nothing() {
        for log in [["client-1", "client-2"], ["client-2", "client-1"]] {
            assert!(matches!(story(1_500, log).finding(Invariant::RealTimeOrder), Finding::Idle { .. }));
        }
    }
}
