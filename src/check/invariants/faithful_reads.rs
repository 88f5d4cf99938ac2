//! # faithful-reads
//!
//! No read by a reader, tail or follower skips, repeats, reorders, goes back, shows what was not committed, or is older
//! than it claims to be.
//!
//! **Where it comes from.** *Total order* and *no duplication* of atomic broadcast (Hadzilacos and Toueg, 1994), with
//! the session guarantee *monotonic reads* (Terry and others, 1994) for a reader that resumes. For reads that state how
//! fresh they are: the real-time half of linearizability (Herlihy and Wing, 1990), and *bounded staleness*.
//!
//! **What it looks at.** Each reading by itself: its positions must count up by one from the first position of the log.
//! Each follower, over all its resumes: the next position, and no other. It may start at any position only after its
//! own host came up again. Then everything that was read, also by readings that broke off, is compared with the final
//! log, if that was read later: nothing may have been shown that is not there. Finally, each bound that a reader was
//! told: a linearizable read shows every entry whose acknowledgement anybody had received before the read was asked
//! for; a read of a stated age misses no entry that was acknowledged longer than that before the read was answered.
//!
//! **What leaves it idle.** Nobody read anything.
//!
//! **A corner that goes wrong.** A tail resumes after a reset from the last index that it *asked* for instead of the
//! last that it *got*: one entry is skipped, once, and only for this reader. The log is whole, so nobody else will ever
//! notice. A log that does not show its leaves may count from another number than 0; the first position of its readings
//! then counts as its first, and must be the same for all of them. And a leader that was cut off and replaced does not
//! know it: it answers from its own memory, quickly and in good faith, without anything that others have acknowledged
//! since.

use std::collections::BTreeMap;

use super::super::{
    fresh_reads::{self, Told},
    index::{Find, Index, Source},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Name, What, same_bytes};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    readings(index, &mut violations);
    followers(index, &mut violations);
    for find in index.finds.iter().filter(|find| index.owed(find.event)) {
        if !committed(index, find) {
            violations.add("not-committed", None, || not_committed(index, find));
        }
    }
    let Told { bounds, linearizable } = fresh_reads::judge(index, &mut violations);
    let seen = index.finds.len() as u64;
    let exercised = || {
        let readings = words::count(index.readings.len() as u64, "reading", "readings");
        let positions = words::count(seen, "position", "positions");
        let bounds = match bounds {
            0 => String::new(),
            _ => format!("; {}, {linearizable} of them linearizable", words::count(bounds, "bound", "bounds")),
        };
        format!("{positions} in {readings} and by followers{bounds}")
    };
    violations.or_held(seen, exercised, "nobody read anything")
}

/// Returns the position at which every reading must start.
fn first_position(index: &Index<'_>) -> Option<u64> {
    if index.merkle {
        return Some(0);
    }
    let firsts = index.readings.iter().filter_map(|reading| reading.finds.first());
    firsts.map(|&find| index.finds[find].found.position).min()
}

fn readings(index: &Index<'_>, violations: &mut Violations) {
    let Some(first) = first_position(index) else { return };
    for reading in &index.readings {
        let mut before: Option<&Find<'_>> = None;
        for find in reading.finds.iter().map(|&find| &index.finds[find]) {
            step(index, before, find, before.map_or(first, after), violations);
            before = Some(find);
        }
    }
}

fn followers(index: &Index<'_>, violations: &mut Violations) {
    let mut before: BTreeMap<&Name, &Find<'_>> = BTreeMap::new();
    let mut finds = index.finds.iter().filter(|find| find.source == Source::Follower).peekable();
    if finds.peek().is_none() {
        return;
    }
    for (at, event) in index.history.events.iter().enumerate() {
        if matches!(event.what, What::Up { .. }) {
            before.remove(&event.host);
        } else if let Some(find) = finds.next_if(|find| find.event == at) {
            let last = before.insert(&event.host, find);
            if let Some(last) = last {
                step(index, Some(last), find, after(last), violations);
            }
        }
    }
}

fn after(find: &Find<'_>) -> u64 {
    find.found.position.saturating_add(1)
}

/// Judges one step of a reader: from `before` to `find`, where `expected` was due.
fn step(index: &Index<'_>, before: Option<&Find<'_>>, find: &Find<'_>, expected: u64, violations: &mut Violations) {
    let got = find.found.position;
    let (kind, what) = match before.map(|it| it.found.position) {
        _ if got == expected => return,
        Some(last) if got == last => ("repeat", format!("was given position {got} twice")),
        Some(last) if got < last => ("back", format!("went back from position {last} to {got}")),
        _ if got < expected => ("start", format!("starts at position {got}; the log's first is {expected}")),
        _ if got - expected == 1 => ("skip", format!("skipped position {expected}")),
        _ => ("skip", format!("skipped positions {expected} to {}", got - 1)),
    };
    violations.add(kind, None, || {
        let at = words::time(index.event(find.event).at);
        let summary = format!("{} {what} at {at}.", index.reader(find));
        let resumed = before.and_then(|before| resumed_between(index, before, find));
        let shown = before.map(|before| before.event).into_iter().chain([find.event]).chain(resumed);
        Violation::new(summary).shown_by(shown)
    });
}

/// Returns the restart of the tail between two finds of a follower, if the follower reported one.
fn resumed_between(index: &Index<'_>, before: &Find<'_>, find: &Find<'_>) -> Option<usize> {
    let host = &index.event(find.event).host;
    let resumed = |at: &usize| index.event(*at).host == *host && index.event(*at).what.name() == "tail-started";
    (before.event..find.event).rev().find(resumed)
}

/// Returns whether the final log has exactly this find.
fn committed(index: &Index<'_>, find: &Find<'_>) -> bool {
    let last = index.log.as_ref().and_then(|log| log.at(find.found.position)).map(|at| index.finds[at].found);
    last.is_some_and(|last| {
        let leaves = last.leaf.is_none() || find.found.leaf.is_none() || last.leaf == find.found.leaf;
        leaves
            && last.entry == find.found.entry
            && same_bytes(&last.bytes, &find.found.bytes)
            && last.counts == find.found.counts
    })
}

fn not_committed(index: &Index<'_>, find: &Find<'_>) -> Violation {
    let position = find.found.position;
    let at = words::time(index.event(find.event).at);
    let last = index.log.as_ref().and_then(|log| log.at(position)).map(|at| index.finds[at].event);
    let what = if last.is_some() { "another entry there" } else { "nothing there" };
    let summary = format!("{} was shown position {position} at {at}; the final log has {what}.", index.reader(find));
    let entry = find.entry.map(|entry| index.entries[entry].id());
    Violation::new(summary).of(entry).shown_by([find.event].into_iter().chain(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::testing::Story, history::Invariant};

    fn summary(story: &Story) -> String {
        story.violation(Invariant::FaithfulReads).summary
    }

    /// A reading of server-1 that returns these positions.
    fn reading(positions: &[u64]) -> Story {
        let mut story = Story::new();
        let found: Vec<_> = positions.iter().map(|&position| Story::leaf(position, &position.to_string())).collect();
        story.reads("server-1", false, &found);
        story
    }

    /// A follower on client-2 that is given these positions and comes up again at each `None`.
    fn follower(positions: &[Option<u64>]) -> Story {
        let mut story = Story::new();
        for position in positions {
            match position {
                Some(n) => story.says("client-2", What::Followed { found: Story::leaf(*n, &n.to_string()) }),
                None => story.says("client-2", What::Up { life: 2 }),
            };
        }
        story
    }

    #[test]
    fn readings_count_up_by_one_from_the_first() {
        assert!(matches!(Story::new().finding(Invariant::FaithfulReads), Finding::Idle { .. }));
        assert!(matches!(reading(&[0, 1, 2]).finding(Invariant::FaithfulReads), Finding::Holds { .. }));
        assert_eq!(summary(&reading(&[0, 1, 4])), "the reading of server-1 skipped positions 2 to 3 at 0.000s.");
        assert_eq!(summary(&reading(&[1, 2])), "the reading of server-1 skipped position 0 at 0.000s.");
        assert_eq!(summary(&reading(&[0, 1, 1])), "the reading of server-1 was given position 1 twice at 0.000s.");
        assert_eq!(
            summary(&reading(&[0, 1, 2, 0])),
            "the reading of server-1 went back from position 2 to 0 at 0.000s."
        );
    }

    #[test]
    fn a_follower_goes_on_where_it_was_unless_its_host_came_up_again() {
        let holds = follower(&[Some(5), Some(6), None, Some(2), Some(3)]);
        assert!(matches!(holds.finding(Invariant::FaithfulReads), Finding::Holds { .. }));
        let skipped = follower(&[Some(5), Some(7)]);
        assert_eq!(summary(&skipped), "the follower on client-2 skipped position 6 at 0.000s.");
        let back = follower(&[Some(5), Some(6), Some(5)]);
        assert_eq!(summary(&back), "the follower on client-2 went back from position 6 to 5 at 0.000s.");
    }

    #[test]
    fn what_the_final_log_has_not_was_never_committed() {
        let mut story = follower(&[Some(0), Some(1)]);
        story.at(9_000).reads_everywhere(&[Story::leaf(0, "0")]);
        let shown = "the follower on client-2 was shown position 1 at 0.000s; the final log has nothing there.";
        assert_eq!(summary(&story), shown);
    }

    #[test]
    fn a_log_that_shows_no_leaves_may_count_from_one() {
        let mut story = Story::new();
        story.submits("client-1", 0).submits("client-1", 1);
        let found = [story.find(1, "client-1", 0), story.find(2, "client-1", 1)];
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::FaithfulReads), Finding::Holds { .. }));
    }
}
