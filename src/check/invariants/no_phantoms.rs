//! # no-phantoms
//!
//! What was never submitted, or was refused, is not in the log. What was once read does not vanish.
//!
//! **Where it comes from.** *Integrity* of atomic broadcast (Hadzilacos and Toueg, 1994: a message is delivered only if
//! it was broadcast). The name is the one that Gray's school gives to what a second look finds changed. Jepsen's set
//! checkers call the same two failures "unexpected" and "lost".
//!
//! **What it looks at.** Everything that anybody found. An entry that carries a client's mark must have been submitted
//! by the workload. An entry that was refused must not count anywhere; it may stand in the log as void, because a log
//! that decides from the log itself keeps what it refused. And whatever counted in an earlier reading, or was given to
//! a follower, must count at the same position in the final log, if that was read later.
//!
//! **What leaves it idle.** Nobody found an entry of the workload.
//!
//! **A corner that goes wrong.** A server answers a read from entries that it has appended and not yet committed. The
//! leader dies, the tail is replaced, and the reader has seen a history that never was. Entries without an answer are
//! no phantoms when they turn up: "unknown" permits once, or never.

use super::super::{
    cause,
    index::{Find, Index},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::Outcome;

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    let mut seen = 0;
    for find in &index.finds {
        let Some(number) = find.entry else { continue };
        seen += 1;
        let entry = &index.entries[number];
        let at = || words::time(index.event(find.event).at);
        let position = find.found.position;
        if entry.submitted.is_none() {
            violations.add("never-submitted", Some(entry.id()), || {
                let reader = index.reader(find);
                let summary = format!("{} was never submitted, and {reader} found it at {position}.", entry.id());
                Violation::new(summary).shown_by([find.event])
            });
        }
        if let Some((refused, Outcome::Refused { why })) = entry.returned
            && find.found.counts
        {
            violations.add("refused", Some(entry.id()), || {
                let when = words::time(index.event(refused).at);
                let summary = format!(
                    "{} was refused at {when} ({why}) and counts at position {position} at {}.",
                    entry.id(),
                    at()
                );
                let submitted = entry.submitted.map(|it| it.0);
                Violation::new(summary).shown_by(submitted.into_iter().chain([refused, find.event]))
            });
        }
        if find.found.counts && index.owed(find.event) && !still_there(index, find) {
            violations.add("vanished", Some(entry.id()), || vanished(index, find));
        }
    }
    let exercised = || format!("{} found by all readers", words::count(seen, "entry", "entries"));
    violations.or_held(seen, exercised, "nobody found an entry of the workload")
}

/// Returns whether the entry of the find counts in the final log at the same position.
fn still_there(index: &Index<'_>, find: &Find<'_>) -> bool {
    let last = index.log.as_ref().and_then(|log| log.at(find.found.position)).map(|at| &index.finds[at]);
    match last {
        Some(last) => last.entry == find.entry && last.found.counts,
        None => index.is_merely_not_shown(find.event),
    }
}

fn vanished(index: &Index<'_>, find: &Find<'_>) -> Violation {
    let position = find.found.position;
    let entry = find.entry.map(|entry| index.entries[entry].id());
    let last = index.log.as_ref().and_then(|log| log.at(position)).map(|at| &index.finds[at]);
    let now = match last {
        None => "where the final log has nothing".to_owned(),
        Some(last) if last.entry == find.entry => "where it no longer counts at the end".to_owned(),
        Some(last) => match last.entry {
            Some(other) => format!("where the final log has {}", index.entries[other].id()),
            None => "where the final log has something else".to_owned(),
        },
    };
    let what = entry.as_ref().map_or("an entry".to_owned(), |entry| entry.to_string());
    let at = words::time(index.event(find.event).at);
    let summary = format!("{what} was found at position {position} at {at} ({}), {now}.", index.reader(find));
    let (why, events) = cause::of_a_dirty_read(index, find);
    let events = [find.event].into_iter().chain(last.map(|last| last.event)).chain(events);
    Violation::new(summary).of(entry).because(why).shown_by(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Invariant, What},
    };

    fn summary(story: &Story) -> String {
        story.violation(Invariant::NoPhantoms).summary
    }

    #[test]
    fn what_was_submitted_may_be_found_also_without_an_answer() {
        let mut story = Story::new();
        assert!(matches!(story.finding(Invariant::NoPhantoms), Finding::Idle { .. }));
        story.submits("client-1", 0).unknown("client-1", 0);
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::NoPhantoms), Finding::Holds { .. }));
    }

    #[test]
    fn what_nobody_submitted_is_a_phantom() {
        let mut story = Story::new();
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads("server-1", false, &found);
        assert_eq!(summary(&story), "client-1 #0 was never submitted, and the reading of server-1 found it at 0.");
    }

    #[test]
    fn a_refused_entry_must_not_count_and_may_lie_void() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).refused("client-1", 0);
        let mut found = [story.find(0, "client-1", 0)];
        let mut counting = story.clone();
        counting.at(9_000).reads_everywhere(&found);
        assert_eq!(
            summary(&counting),
            "client-1 #0 was refused at 1.000s (refused) and counts at position 0 at 9.000s."
        );
        found[0].counts = false;
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::NoPhantoms), Finding::Holds { .. }));
    }

    #[test]
    fn what_a_follower_was_given_must_not_vanish() {
        let mut story = Story::new();
        story.history.header.servers.truncate(1);
        story.submits("client-1", 0).submits("client-1", 1);
        let found = [story.find(0, "client-1", 0), story.find(1, "client-1", 1)];
        story.at(2_000).says("client-2", What::Followed { found: found[1].clone() });
        let mut gone = story.clone();
        gone.at(9_000).reads_everywhere(&found[..1]);
        assert_eq!(
            summary(&gone),
            "client-1 #1 was found at position 1 at 2.000s (the follower on client-2), where the final log has nothing."
        );
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::NoPhantoms), Finding::Holds { .. }));
    }

    #[test]
    fn what_was_shown_before_it_was_synced_is_told_with_the_reading_and_the_loss() {
        let mut story = Story::new();
        story.history.header.servers.truncate(1);
        story.at(1_000).submits("client-1", 0).submits("client-1", 1);
        let shown = [story.find(0, "client-1", 0), story.find(1, "client-1", 1)];
        story.at(2_000).reads("server-1", false, &shown);
        let lost = What::Lost { path: "log".to_owned(), bytes: 3_107, torn: 0 };
        story.at(2_060).says("server-1", lost);
        story.at(9_000).reads("server-1", true, &shown[..1]);
        let violation = story.violation(Invariant::NoPhantoms);
        assert!(violation.summary.contains("at 2.000s (the reading of server-1)"), "{}", violation.summary);
        let why = "server-1 lost 3 107 unsynced bytes of `log` at 2.060s, and what it had shown at 2.000s was not synced then";
        assert_eq!(violation.why.as_deref(), Some(why));
    }
}
