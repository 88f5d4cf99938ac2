//! Checks the bounds that readers were told against what had been acknowledged by then: a part of `faithful-reads`.
//!
//! A reader was told at some moment that the first `size` leaves miss nothing that was acknowledged before an earlier
//! moment. Any entry whose acknowledgement reached its client before that earlier moment must stand below that size.
//! One look at each bound suffices: of all acknowledgements before a moment only the highest position matters.

use gapless_world::LogEvent;

use super::{
    index::{Entry, Index},
    verdict::Violation,
    violations::Violations,
    words,
};
use crate::history::{Outcome, RunClock, What};

/// Bounds that were told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// All of them.
    pub(super) bounds: u64,
    /// Those of linearizable reads.
    pub(super) linearizable: u64,
}

/// One bound: the leaves below `size` contain everything acknowledged before `as_of`.
#[derive(Clone, Copy)]
struct Bound<'h> {
    event: usize,
    server: &'h str,
    size: u64,
    as_of: RunClock,
    linearizable: bool,
}

/// Judges every bound that was told.
pub(super) fn judge(index: &Index<'_>, violations: &mut Violations) -> Told {
    let acknowledged = Acknowledged::of(index);
    let end = index.log.as_ref().filter(|_| index.merkle).map(|log| log.finds().len() as u64);
    let mut told = Told::default();
    for bound in bounds(index) {
        told.bounds += 1;
        told.linearizable += u64::from(bound.linearizable);
        if let Some((position, entry)) = acknowledged.before(bound.as_of)
            && position >= bound.size
        {
            let kind = if bound.linearizable { "linearizable" } else { "bound" };
            violations.add(kind, None, || missing(index, bound, position, entry));
        }
        if end.is_some_and(|end| bound.size > end) && index.owed(bound.event) {
            violations.add("beyond", None, || beyond(index, bound, end.unwrap_or_default()));
        }
    }
    told
}

fn bounds<'i, 'h>(index: &'i Index<'h>) -> impl Iterator<Item = Bound<'h>> + use<'i, 'h> {
    index.history.events.iter().enumerate().filter_map(|(event, it)| {
        let What::Log { event: log } = &it.what else { return None };
        let (server, size, age_ms, linearizable) = match log {
            LogEvent::BoundedRead { server, size, age_ms } => (server, *size, *age_ms, false),
            LogEvent::LinearizableRead { server, size, age_ms } => (server, *size, *age_ms, true),
            _ => return None,
        };
        // Nothing was acknowledged before the run began.
        let as_of = it.at.saturating_sub(RunClock::from_millis(age_ms));
        Some(Bound { event, server, size, as_of, linearizable })
    })
}

/// Acknowledgements in the order in which clients received them, each with the highest position so far and its entry.
struct Acknowledged<'i, 'h>(Vec<(RunClock, u64, &'i Entry<'h>)>);

impl<'i, 'h> Acknowledged<'i, 'h> {
    fn of(index: &'i Index<'h>) -> Self {
        let mut all: Vec<(RunClock, u64, &Entry<'_>)> = Vec::new();
        for event in &index.history.events {
            let What::Returned { entry, outcome: Outcome::Acked { at } } = &event.what else { continue };
            let Some(entry) = index.entry(entry).map(|entry| &index.entries[entry]) else { continue };
            let Some(position) = at.or_else(|| index.position(entry)) else { continue };
            let highest = all.last().filter(|(_, known, _)| *known >= position).copied();
            let (position, entry) = highest.map_or((position, entry), |(_, known, holder)| (known, holder));
            let at = all.last().map_or(event.at, |last| last.0.max(event.at));
            all.push((at, position, entry));
        }
        Self(all)
    }

    /// Returns the highest position that was acknowledged before a moment, and its entry.
    fn before(&self, moment: RunClock) -> Option<(u64, &'i Entry<'h>)> {
        let last = self.0.partition_point(|(at, ..)| *at < moment).checked_sub(1)?;
        let (_, position, entry) = self.0[last];
        Some((position, entry))
    }
}

fn missing(index: &Index<'_>, bound: Bound<'_>, position: u64, entry: &Entry<'_>) -> Violation {
    let acked = entry.acked().map(|it| it.0);
    let acked_at = words::time(acked.map(|at| index.event(at).at).unwrap_or_default());
    let Bound { event, server, size, as_of, linearizable } = bound;
    let (at, as_of) = (words::time(index.event(event).at), words::time(as_of));
    let claim = match linearizable {
        true => format!("a linearizable read, asked at {as_of} and answered by {server} at {at}"),
        false => format!("a read that {server} answered at {at} with everything acknowledged before {as_of}"),
    };
    let leaves = words::count(size, "leaf", "leaves");
    let summary =
        format!("{claim}, shows {leaves}: {} is missing, acknowledged at {acked_at} as {position}.", entry.id());
    Violation::new(summary).of([entry.id()]).shown_by(acked.into_iter().chain([event]))
}

fn beyond(index: &Index<'_>, bound: Bound<'_>, end: u64) -> Violation {
    let at = words::time(index.event(bound.event).at);
    let leaves = words::count(bound.size, "leaf", "leaves");
    let summary = format!("{} said at {at} that it shows {leaves}; the final log has {end}.", bound.server);
    let began = index.log.as_ref().map(|log| log.began);
    Violation::new(summary).shown_by([bound.event].into_iter().chain(began))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Finding, testing::Story},
        history::Invariant,
    };

    fn bounded(size: u64, age_ms: u64) -> What {
        What::Log { event: LogEvent::BoundedRead { server: "server-2".to_owned(), size, age_ms } }
    }

    fn linearizable(size: u64, age_ms: u64) -> What {
        What::Log { event: LogEvent::LinearizableRead { server: "server-1".to_owned(), size, age_ms } }
    }

    /// Entries 0 to 2 of client-1, acknowledged at 1, 2 and 3 s as positions 0 to 2; at `ms` the auditor is told
    /// `what`.
    fn told(ms: u64, what: What) -> Story {
        let mut story = Story::new();
        let mut said = false;
        for number in 0..3 {
            let at = 1_000 * (number + 1);
            if ms < at && !std::mem::replace(&mut said, true) {
                story.at(ms).says("auditor", what.clone());
            }
            story.at(at - 500).submits("client-1", number).at(at).acked("client-1", number, Some(number));
        }
        if !said {
            story.at(ms).says("auditor", what);
        }
        let found: Vec<_> = (0..3).map(|number| story.find(number, "client-1", number)).collect();
        story.at(9_000).reads_everywhere(&found);
        story
    }

    fn holds(story: &Story) -> bool {
        matches!(story.finding(Invariant::FaithfulReads), Finding::Holds { .. })
    }

    #[test]
    fn a_linearizable_read_has_what_was_acknowledged_before_it_was_asked() {
        assert!(holds(&told(3_500, linearizable(3, 20))));
        assert!(holds(&told(3_010, linearizable(2, 20))), "acknowledged after it was asked");
        let violation = told(3_500, linearizable(2, 20)).violation(Invariant::FaithfulReads);
        assert_eq!(
            violation.summary,
            "a linearizable read, asked at 3.480s and answered by server-1 at 3.500s, shows 2 leaves: client-1 #2 is \
             missing, acknowledged at 3.000s as 2."
        );
        assert_eq!(violation.events.len(), 2);
    }

    #[test]
    fn a_bounded_read_may_miss_only_what_is_younger_than_it_says() {
        assert!(holds(&told(3_500, bounded(2, 500))), "acknowledged at that very moment");
        assert!(holds(&told(3_500, bounded(1, 1_600))));
        assert!(holds(&told(3_500, bounded(0, 60_000))), "older than the run");
        let violation = told(3_500, bounded(2, 499)).violation(Invariant::FaithfulReads);
        assert_eq!(
            violation.summary,
            "a read that server-2 answered at 3.500s with everything acknowledged before 3.001s, shows 2 leaves: \
             client-1 #2 is missing, acknowledged at 3.000s as 2."
        );
        assert!(!holds(&told(2_500, bounded(1, 0))));
    }

    #[test]
    fn the_highest_position_counts_whoever_was_acknowledged_last() {
        let mut story = Story::new();
        story.submits("client-1", 0).submits("client-2", 0);
        story.at(1_000).acked("client-2", 0, Some(1)).at(2_000).acked("client-1", 0, Some(0));
        story.at(3_000).says("auditor", bounded(1, 0));
        let summary = story.violation(Invariant::FaithfulReads).summary;
        assert!(summary.contains("client-2 #0 is missing, acknowledged at 1.000s as 1"), "{summary}");
    }

    #[test]
    fn nobody_shows_more_than_the_log_has() {
        let mut story = Story::new();
        story.at(1_000).says("auditor", linearizable(2, 5));
        story.at(9_000).reads_everywhere(&[Story::leaf(0, "a")]);
        let summary = story.violation(Invariant::FaithfulReads).summary;
        assert_eq!(summary, "server-1 said at 1.000s that it shows 2 leaves; the final log has 1.");
    }

    #[test]
    fn what_was_not_acknowledged_binds_nobody() {
        let mut story = Story::new();
        story.submits("client-1", 0).at(1_000).unknown("client-1", 0).at(2_000).says("auditor", linearizable(0, 5));
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads_everywhere(&found);
        assert!(holds(&story));
    }
}
