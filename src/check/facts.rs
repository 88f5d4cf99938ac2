//! The figures of a run: what was acknowledged, how long nobody could append, which faults bit.
//!
//! A client is *blind* while it has something to send and gets no acknowledgement. Blindness starts at the later of its
//! first pending submission and its last acknowledgement. An answer of "unknown" does not end it: the client still does
//! not know. A refusal of the last pending entry ends it, and so does the death of the client itself, which then sends
//! nothing.

use std::{collections::BTreeMap, time::Duration};

use super::{
    dials,
    index::Index,
    obligations,
    verdict::{Facts, Unknowns},
};
use crate::history::{Name, Outcome, RunClock, What};

pub(super) fn facts(index: &Index<'_>) -> Facts {
    let mut facts = Facts {
        acked_in_time: acked_in_time(index),
        longest_blind: longest_blind(index),
        recovered_after: obligations::recovered_after(index),
        simulated: index.end,
        most_connections: dials::busiest(index.history, Duration::from_secs(1)).map(|it| (it.count, it.host)),
        dead_letters: index.holds.values().map(|(_, _, dead)| dead.len() as u64).sum(),
        ..Facts::default()
    };
    for entry in index.entries.iter().filter(|entry| entry.submitted.is_some()) {
        match entry.returned {
            Some((_, Outcome::Acked { .. })) => facts.acked += 1,
            Some((_, Outcome::Refused { .. })) => facts.refused += 1,
            Some((_, Outcome::Unknown { .. })) | None => facts.unknown.add(entry.times > 0),
        }
    }
    mark!("unknown-was-found", facts.unknown.found > 0);
    mark!("unknown-never-came", facts.unknown.never > 0);
    mark!("entry-was-refused", facts.refused > 0);
    mark!("nothing-went-wrong", index.steps.is_empty());
    mark!("blind-for-long", facts.longest_blind.as_ref().is_some_and(|(time, _)| *time > Duration::from_secs(30)));
    for step in &index.steps {
        facts.faults_bit.0 += u32::from(step.has_bitten());
        facts.faults_bit.1 += 1;
    }
    facts
}

/// Counts the acknowledgements between t = 0 and the end of the workload. Those before t = 0 show how long the log took
/// to come up, and those after the workload how much was owed by then: neither shows how many entries it takes in a
/// second.
fn acked_in_time(index: &Index<'_>) -> u64 {
    let (mut goes_on, mut acked) = (false, 0);
    for event in &index.history.events {
        match &event.what {
            What::Began {} => goes_on = true,
            What::WorkloadEnded {} => goes_on = false,
            What::Returned { outcome: Outcome::Acked { .. }, .. } => acked += u64::from(goes_on),
            _ => {}
        }
    }
    acked
}

impl Unknowns {
    fn add(&mut self, found: bool) {
        self.total += 1;
        if found { self.found += 1 } else { self.never += 1 }
    }
}

/// Tracks whether one client can see.
#[derive(Debug, Default)]
struct Sight {
    pending: u64,
    blind_since: Option<RunClock>,
    /// The last time at which the client was blind with nothing pending any more.
    last_unknown: Option<RunClock>,
    longest: Duration,
}

impl Sight {
    fn sees(&mut self, at: RunClock) {
        if let Some(since) = self.blind_since.take() {
            self.longest = self.longest.max(at.saturating_sub(since));
        }
        self.last_unknown = None;
    }

    fn take(&mut self, at: RunClock, what: &What) {
        match what {
            What::Submitted { .. } => {
                self.pending += 1;
                self.blind_since.get_or_insert(at);
            }
            What::Returned { outcome, .. } => {
                self.pending = self.pending.saturating_sub(1);
                match outcome {
                    Outcome::Acked { .. } => {
                        self.sees(at);
                        self.blind_since = (self.pending > 0).then_some(at);
                    }
                    Outcome::Refused { .. } if self.pending == 0 => self.sees(at),
                    Outcome::Refused { .. } => {}
                    Outcome::Unknown { .. } => self.last_unknown = Some(at),
                }
            }
            What::Down { .. } | What::Failed { .. } => self.sees(at),
            What::Up { .. } if self.pending > 0 => {
                self.blind_since.get_or_insert(at);
            }
            _ => {}
        }
    }

    /// Closes the account at the end of the run.
    fn close(&mut self, end: RunClock) {
        let until = if self.pending > 0 { end } else { self.last_unknown.unwrap_or(end) };
        self.sees(until);
    }
}

fn longest_blind(index: &Index<'_>) -> Option<(Duration, Name)> {
    let mut clients: BTreeMap<&Name, Sight> =
        index.history.header.clients.iter().map(|c| (c, Sight::default())).collect();
    for event in &index.history.events {
        match &event.what {
            What::Began {} => {
                for sight in clients.values_mut() {
                    sight.longest = Duration::ZERO;
                    sight.blind_since = (sight.pending > 0).then_some(event.at);
                }
            }
            What::Submitted { entry, .. } | What::Returned { entry, .. } => {
                if let Some(sight) = clients.get_mut(&entry.client) {
                    sight.take(event.at, &event.what);
                }
            }
            What::Down { .. } | What::Failed { .. } | What::Up { .. } => {
                if let Some(sight) = clients.get_mut(&event.host) {
                    sight.take(event.at, &event.what);
                }
            }
            _ => {}
        }
    }
    let mut longest: Option<(Duration, Name)> = None;
    for (client, mut sight) in clients {
        sight.close(index.end);
        if sight.longest > longest.as_ref().map(|it| it.0).unwrap_or_default() {
            longest = Some((sight.longest, client.clone()));
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::testing::Story, history::Down};

    fn blind(tell: impl FnOnce(&mut Story)) -> Option<(Duration, Name)> {
        let mut story = Story::new();
        tell(&mut story);
        story.judge().facts.longest_blind
    }

    fn client_1(ms: u64) -> Option<(Duration, Name)> {
        Some((Duration::from_millis(ms), "client-1".into()))
    }

    #[test]
    fn a_client_is_blind_from_its_last_acknowledgement_while_something_is_pending() {
        let longest = blind(|story| {
            story.at(1_000).submits("client-1", 0).submits("client-1", 1);
            story.at(1_100).acked("client-1", 0, Some(0));
            story.at(5_000).acked("client-1", 1, Some(1));
            story.at(60_000).says("harness", What::Healed {});
        });
        assert_eq!(longest, client_1(3_900));
    }

    #[test]
    fn an_unknown_answer_leaves_the_client_blind_and_a_refusal_does_not() {
        let longest = blind(|story| {
            story.at(1_000).submits("client-1", 0).at(6_000).unknown("client-1", 0);
            story.at(6_100).submits("client-1", 1).at(9_000).acked("client-1", 1, None);
        });
        assert_eq!(longest, client_1(8_000));
        let longest = blind(|story| {
            story.at(1_000).submits("client-1", 0).at(3_000).refused("client-1", 0);
            story.at(6_100).submits("client-1", 1).at(7_000).acked("client-1", 1, None);
        });
        assert_eq!(longest, client_1(2_000));
    }

    #[test]
    fn a_dead_client_is_not_blind_and_one_never_answered_is_until_the_end() {
        let longest = blind(|story| {
            story.at(1_000).submits("client-1", 0);
            story.at(2_000).says("client-1", What::Down { how: Down::Crash }).unknown("client-1", 0);
            story.at(50_000).says("client-1", What::Up { life: 2 });
            story.at(51_000).submits("client-1", 1).at(52_500).says("harness", What::Healed {});
        });
        assert_eq!(longest, client_1(1_500));
    }

    #[test]
    fn only_what_was_acknowledged_while_the_workload_went_on_was_in_time() {
        let mut story = Story::new();
        for number in 0..5 {
            story.at(100 + number).submits("client-1", number);
        }
        story.at(200).acked("client-1", 0, Some(0));
        story.at(1_000).says("harness", What::Began {}).acked("client-1", 1, Some(1));
        story.at(2_000).acked("client-1", 2, Some(2)).refused("client-1", 3);
        story.at(3_000).says("harness", What::WorkloadEnded {}).acked("client-1", 4, Some(3));
        let facts = story.judge().facts;
        assert_eq!((facts.acked, facts.acked_in_time), (4, 2));
    }

    #[test]
    fn entries_without_an_answer_are_told_by_what_became_of_them() {
        let mut story = Story::new();
        for number in 0..4 {
            story.at(1_000 + number).submits("client-1", number);
        }
        story.at(2_000).acked("client-1", 0, None).unknown("client-1", 1).refused("client-1", 2);
        let found = [story.find(0, "client-1", 0), story.find(1, "client-1", 1)];
        story.at(9_000).reads_everywhere(&found);
        let facts = story.judge().facts;
        assert_eq!((facts.acked, facts.refused), (1, 1));
        assert_eq!(facts.unknown, Unknowns { total: 2, found: 1, never: 1 });
        assert_eq!(facts.simulated, Duration::from_millis(9_000));
    }
}
