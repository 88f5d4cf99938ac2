//! # bounded-memory
//!
//! Queues and caches stay within the budget.
//!
//! **Where it comes from.** A service that queues without a bound turns a slow minute into an outage: it takes in more
//! than it can do, answers ever later, and is killed for its memory together with everything that it had taken in
//! (Google's SRE book, "Addressing Cascading Failures"). So each queue has a limit, all limits together fit the
//! process, and whatever does not fit is turned away before it is taken in.
//!
//! **What it looks at.** What each host's queues and caches report: the most that they held, and their limit. No more
//! than the limit may be held, and the limits that one host reported since its budget was last set must add up to no
//! more than that budget. What was taken in before a budget shrank may be finished first: for one second afterwards a
//! queue may hold more than its new limit. What a process reports after its end does not count: it is gone, and what is
//! left of it is being taken apart, by which time its budget may be that of the next one.
//!
//! **What leaves it idle.** No queue and no cache reported anything.
//!
//! **A corner that goes wrong.** A bound that is kept by count where entries differ in size; a cache that shrinks at
//! its next insertion, which never comes; or a budget that is divided once, at the start, so that the shares of an hour
//! ago are held while the process has half of the memory.

use std::{collections::BTreeMap, time::Duration};

use gapless_world::LogEvent;

use super::super::{
    index::Index,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Name, RunClock, What};

/// How long a queue may still hold what it held before its budget shrank.
const GRACE: Duration = Duration::from_secs(1);

/// What is known of one host.
#[derive(Debug, Default)]
struct Host<'h> {
    /// The budget in force and the event that set it.
    budget: Option<(u64, usize)>,
    /// When the budget last became smaller.
    shrank: Option<RunClock>,
    /// The limits reported under that budget in this life, and the events that reported them.
    limits: BTreeMap<&'h str, (u64, usize)>,
    /// Whether its process has ended, and no other one has begun.
    ended: bool,
}

impl<'h> Host<'h> {
    fn budget_is(&mut self, budget: u64, event: usize, at: RunClock) {
        if self.budget.is_some_and(|(before, _)| budget < before) {
            self.shrank = Some(at);
        }
        self.budget = Some((budget, event));
        self.limits.clear();
    }

    fn may_still_hold(&self, at: RunClock) -> bool {
        self.shrank.is_some_and(|shrank| at <= shrank + GRACE)
    }

    /// Returns the sum of all limits, the budget and the event that set it, where the sum exceeds the budget.
    fn beyond_budget(&self) -> Option<(u64, u64, usize)> {
        let (budget, event) = self.budget?;
        let all = self.limits.values().fold(0_u64, |sum, (limit, _)| sum.saturating_add(*limit));
        (all > budget).then_some((all, budget, event))
    }
}

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut hosts: BTreeMap<&Name, Host<'_>> = BTreeMap::new();
    let mut violations = Violations::default();
    let mut told = 0;
    let servers = &index.history.header.servers;
    for (at, event) in index.history.events.iter().enumerate() {
        match &event.what {
            What::Memory { budget } => hosts.entry(&event.host).or_default().budget_is(*budget, at, event.at),
            What::Up { .. } | What::Down { .. } => {
                let host = hosts.entry(&event.host).or_default();
                host.limits.clear();
                host.ended = matches!(event.what, What::Down { .. });
            }
            // A client that fails may be tried again in the same process.
            What::Failed { .. } if servers.contains(&event.host) => hosts.entry(&event.host).or_default().ended = true,
            What::Log { event: LogEvent::MemoryUsed { .. } } if hosts.get(&event.host).is_some_and(|it| it.ended) => {}
            What::Log { event: LogEvent::MemoryUsed { what, bytes, limit } } => {
                told += 1;
                let host = hosts.entry(&event.host).or_default();
                if bytes > limit && !host.may_still_hold(event.at) {
                    violations.add("full", None, || too_much(&event.host, event.at, what, (*bytes, *limit), at));
                }
                host.limits.insert(what, (*limit, at));
                if let Some((all, budget, set)) = host.beyond_budget() {
                    violations.add("divided", None, || {
                        let told = host.limits.values().map(|(_, event)| *event);
                        let summary = format!(
                            "The queues and caches of {} have limits of {} together, and the process has {}.",
                            event.host,
                            bytes_of(all),
                            bytes_of(budget)
                        );
                        Violation::new(summary).shown_by([set].into_iter().chain(told))
                    });
                }
            }
            _ => {}
        }
    }
    let exercised = || format!("{} of queues and caches", words::count(told, "peak", "peaks"));
    violations.or_held(told, exercised, "no queue and no cache told what it holds")
}

fn too_much(host: &Name, at: RunClock, what: &str, (bytes, limit): (u64, u64), event: usize) -> Violation {
    let (held, most, at) = (bytes_of(bytes), bytes_of(limit), words::time(at));
    Violation::new(format!("`{what}` on {host} held {held} at {at}, and its limit is {most}.")).shown_by([event])
}

fn bytes_of(bytes: u64) -> String {
    words::count(bytes, "byte", "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Invariant},
    };

    fn used(story: &mut Story, what: &str, bytes: u64, limit: u64) {
        let event = LogEvent::MemoryUsed { what: what.to_owned(), bytes, limit };
        story.says("server-1", What::Log { event });
    }

    fn has(story: &mut Story, budget: u64) {
        story.says("server-1", What::Memory { budget });
    }

    fn finding(tell: impl FnOnce(&mut Story)) -> Finding {
        let mut story = Story::new();
        has(&mut story, 1_000);
        tell(&mut story);
        story.finding(Invariant::BoundedMemory)
    }

    fn first(finding: Finding) -> String {
        let Finding::Violated(violations) = finding else { panic!("{finding:?} is no violation") };
        violations[0].summary.clone()
    }

    #[test]
    fn what_keeps_to_its_limit_and_its_share_holds_and_silence_is_idle() {
        let held = finding(|story| {
            used(story, "queue", 400, 400);
            used(story, "cache", 1, 600);
            used(story, "queue", 399, 400);
        });
        assert_eq!(held, Finding::Holds { exercised: "3 peaks of queues and caches".to_owned() });
        assert!(matches!(finding(|_| ()), Finding::Idle { .. }));
    }

    #[test]
    fn more_than_the_limit_is_a_violation() {
        let over = first(finding(|story| used(story.at(2_500), "queue", 401, 400)));
        assert_eq!(over, "`queue` on server-1 held 401 bytes at 2.500s, and its limit is 400 bytes.");
    }

    #[test]
    fn limits_beyond_the_budget_are_a_violation_even_while_little_is_held() {
        let divided = first(finding(|story| {
            used(story, "queue", 1, 400);
            used(story, "cache", 1, 601);
        }));
        assert!(divided.contains("1 001 bytes together, and the process has 1 000 bytes"), "{divided}");
    }

    #[test]
    fn what_a_process_tells_after_its_end_counts_for_nothing_and_the_next_one_counts_again() {
        let ends = |what: What, next_limit: u64| {
            finding(move |story| {
                used(story, "cache", 1, 500);
                story.says("server-1", what);
                used(story, "queue", 1, 900);
                story.says("server-1", What::Up { life: 2 });
                used(story, "cache", 1, 500);
                used(story, "queue", 1, next_limit);
            })
        };
        let failed = || What::Failed { error: "damaged".to_owned() };
        for what in [failed(), What::Down { how: Down::Stop }] {
            assert!(matches!(ends(what, 500), Finding::Holds { .. }));
        }
        assert!(first(ends(failed(), 501)).contains("1 001 bytes"));
    }

    #[test]
    fn a_budget_that_shrinks_leaves_a_second_for_what_is_held_and_none_for_limits() {
        let shrinks = |told_at: u64, limit: u64| {
            finding(move |story| {
                used(story, "queue", 400, 400);
                has(story.at(10_000), 500);
                used(story.at(told_at), "queue", 390, limit);
            })
        };
        assert!(matches!(shrinks(11_000, 200), Finding::Holds { .. }));
        assert!(first(shrinks(11_001, 200)).contains("its limit is 200 bytes"));
        assert!(first(shrinks(10_000, 501)).contains("the process has 500 bytes"));
        let grows = finding(|story| {
            has(story.at(10_000), 2_000);
            used(story.at(10_001), "queue", 401, 400);
        });
        assert!(first(grows).contains("held 401 bytes"), "more memory is no excuse");
    }

    #[test]
    fn limits_of_an_earlier_life_or_budget_do_not_count() {
        let again = finding(|story| {
            used(story, "queue", 1, 900);
            story.says("server-1", What::Down { how: Down::Crash }).says("server-1", What::Up { life: 2 });
            used(story, "cache", 1, 900);
            has(story, 800);
            used(story, "tails", 1, 800);
        });
        assert!(matches!(again, Finding::Holds { .. }), "{again:?}");
    }
}
