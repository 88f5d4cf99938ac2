//! # accounted-for
//!
//! Every accepted entry is in the log, in a dead-letter queue or still in the outbox. What a client forgot, because its
//! data folder was wiped or put back to an earlier state, is listed as unknown.
//!
//! **Where it comes from.** The transactional outbox (Richardson, "Microservices Patterns", 2018), taken at its word:
//! between "accepted" and "delivered" there is always exactly one place that owes the entry. Accountants know this
//! conservation law as double entry.
//!
//! **What it looks at.** Every entry that a client's outbox reported as accepted before the final log was read. The
//! entry must count in the final log, or the client must say at the end that it still holds it. A log without an outbox
//! accepts an entry by acknowledging it.
//!
//! **What leaves it idle.** Nothing was accepted; or a client was not asked at the end what it holds, and some of its
//! entries are not in the log. Entries that a client held before its data folder was wiped, or accepted after the state
//! to which the folder was put back, are nobody's fault: those that are not in the log are listed.
//!
//! **A corner that goes wrong.** The client dies after it removed the entry from its outbox and before anybody knew
//! that the log had it. Or an entry is rejected for good and quietly dropped, because nobody thought of a dead letter
//! as a place that holds entries. Neither shows in the log: there is no hole where nothing was ever numbered.

use std::collections::BTreeSet;

use super::super::{
    forgotten::Forgotten,
    index::Index,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{EntryId, What};

pub(super) fn check(index: &Index<'_>) -> Finding {
    if index.log.is_none() {
        return Finding::Idle { why: index.why_no_log() };
    }
    let held = held(index);
    let forgotten = Forgotten::of(index);
    let mut violations = Violations::default();
    let (mut seen, mut unasked, mut unknown) = (0, BTreeSet::new(), Vec::new());
    for (event, number) in accepted(index) {
        seen += 1;
        let entry = &index.entries[number];
        if entry.times > 0 || held.contains(&number) || !index.owed(event) {
            continue;
        }
        if entry.acked().is_some_and(|(acked, _)| index.is_merely_not_shown(acked)) {
            continue; // `recovers` reports it
        }
        if forgotten.when(index, entry.client, event).is_some() {
            unknown.push(entry.id());
        } else if index.holds.contains_key(&**entry.client) {
            violations.add("lost", Some(entry.id()), || dropped(index, entry.id(), event));
        } else {
            unasked.insert(entry.client);
        }
    }
    if let Some(client) = unasked.first().filter(|_| violations.is_empty()) {
        let others = if unasked.len() > 1 { format!(" (and {} others)", unasked.len() - 1) } else { String::new() };
        return Finding::Idle { why: format!("{client}{others} was not asked at the end what it still holds") };
    }
    let exercised = || {
        let lost = match unknown.len() as u64 {
            0 => String::new(),
            total => format!("; unknown, forgotten by a client: {}", words::entries(&unknown, total)),
        };
        format!("{}{lost}", words::count(seen, "accepted entry", "accepted entries"))
    };
    violations.or_held(seen, exercised, "nothing was accepted")
}

/// The event and the number of every accepted entry.
fn accepted(index: &Index<'_>) -> Vec<(usize, usize)> {
    if index.accepted.is_empty() {
        let acked =
            index.entries.iter().enumerate().filter_map(|(n, entry)| entry.acked().map(|(event, _)| (event, n)));
        return acked.collect();
    }
    index.accepted.iter().map(|&(event, _, entry)| (event, entry)).collect()
}

/// The entries that clients hold at the end.
fn held(index: &Index<'_>) -> BTreeSet<usize> {
    let all = index.holds.values().flat_map(|(_, outbox, dead)| outbox.iter().chain(dead.iter()));
    all.filter_map(|id| index.entry(id)).collect()
}

fn dropped(index: &Index<'_>, id: EntryId, event: usize) -> Violation {
    let at = words::time(index.event(event).at);
    let client = &id.client;
    let summary = format!("{id} was accepted at {at}; it is not in the final log, and {client} no longer holds it.");
    let entry = index.entry(&id).map(|entry| &index.entries[entry]);
    let path = entry.into_iter().flat_map(|it| [it.submitted.map(|s| s.0), it.returned.map(|r| r.0)]).flatten();
    let holds = index.holds.get(&**client).map(|held| held.0);
    let downs = (event..index.history.events.len()).filter(|&at| {
        index.event(at).host == *client && matches!(index.event(at).what, What::Down { .. } | What::Up { .. })
    });
    Violation::new(summary).shown_by([event].into_iter().chain(path).chain(holds).chain(downs.take(4)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Invariant, RunClock},
    };

    /// Two entries are accepted. The final log has the first; the client holds the given ones.
    fn story(outbox: &[u64], dead: &[u64]) -> Story {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).accepts("client-1", 0);
        story.at(1_100).submits("client-1", 1).accepts("client-1", 1);
        let found = [story.find(0, "client-1", 0)];
        let ids = |numbers: &[u64]| numbers.iter().map(|&n| Story::id("client-1", n)).collect();
        story.at(9_000).reads_everywhere(&found);
        story.says("client-1", What::Holds { outbox: ids(outbox), dead_letters: ids(dead) });
        story
    }

    #[test]
    fn the_log_the_outbox_and_the_dead_letters_are_places() {
        for story in [story(&[1], &[]), story(&[], &[1])] {
            let Finding::Holds { exercised } = story.finding(Invariant::AccountedFor) else { panic!("not held") };
            assert_eq!(exercised, "2 accepted entries");
        }
        assert!(matches!(Story::new().finding(Invariant::AccountedFor), Finding::Idle { .. }));
    }

    #[test]
    fn an_accepted_entry_that_is_nowhere_was_dropped() {
        let violation = story(&[], &[]).violation(Invariant::AccountedFor);
        assert_eq!(
            violation.summary,
            "client-1 #1 was accepted at 1.100s; it is not in the final log, and client-1 no longer holds it."
        );
    }

    #[test]
    fn a_client_that_was_not_asked_leaves_it_open() {
        let mut story = story(&[], &[]);
        story.history.events.pop();
        let Finding::Idle { why } = story.finding(Invariant::AccountedFor) else { panic!("not idle") };
        assert_eq!(why, "client-1 was not asked at the end what it still holds");
    }

    #[test]
    fn what_a_wiped_client_held_is_listed() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).accepts("client-1", 0).says("client-1", What::Wiped {});
        story.at(9_000).reads_everywhere(&[]);
        story.says("client-1", What::Holds { outbox: vec![], dead_letters: vec![] });
        let Finding::Holds { exercised } = story.finding(Invariant::AccountedFor) else { panic!("not held") };
        assert_eq!(exercised, "1 accepted entry; unknown, forgotten by a client: client-1 #0");
    }

    #[test]
    fn what_a_client_accepted_after_the_state_it_was_put_back_to_is_listed() {
        let put_back_to = |to| {
            let mut story = Story::new();
            story.at(1_000).submits("client-1", 0).accepts("client-1", 0);
            story.at(3_000).says("client-1", What::Rewound { to: RunClock::from_millis(to) });
            story.at(9_000).reads_everywhere(&[]);
            story.says("client-1", What::Holds { outbox: vec![], dead_letters: vec![] });
            story
        };
        let Finding::Holds { exercised } = put_back_to(900).finding(Invariant::AccountedFor) else {
            panic!("not held")
        };
        assert_eq!(exercised, "1 accepted entry; unknown, forgotten by a client: client-1 #0");
        let violation = put_back_to(1_100).violation(Invariant::AccountedFor);
        assert!(violation.summary.starts_with("client-1 #0 was accepted at 1.000s"), "{violation:?}");
    }

    #[test]
    fn dead_letters_beyond_those_expected_are_an_expectation_not_met() {
        let judgement = story(&[], &[1]).judge();
        assert!(judgement.unmet.iter().any(|it| it.contradicted && it.text.starts_with("1 dead letter at the end")));
    }
}
