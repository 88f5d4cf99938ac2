//! # deadlines-kept
//!
//! Every call ends by its deadline.
//!
//! **Where it comes from.** gRPC's own contract ("gRPC and Deadlines": a call ends by its deadline at each of its two
//! ends), and the lesson of every incident with a call that never came back: a wait without an end is an outage.
//!
//! **What it looks at.** Every call that reported its deadline, at the end that reported it. It must have ended by
//! then, with a slack of two ticks and 50 ms, in which a timer may fire late and its caller be told. Time during which
//! the host stood still does not count; a call whose process died needs no end. A call without an end is judged if its
//! deadline passed before the end of the run.
//!
//! **What leaves it idle.** No call reported a deadline.
//!
//! **A corner that goes wrong.** A deadline bounds the wait for the response head and not for the body: the connection
//! stalls between the two, and the stream waits for ever. Or a deadline is kept by wall-clock time on a host whose
//! clock jumps back.

use std::{collections::BTreeMap, time::Duration};

use gapless_world::LogEvent;

use super::super::{
    index::Index,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Name, RunClock, What};

/// What the lateness of a timer and the notification of its caller may cost beyond two ticks.
const SLACK: Duration = Duration::from_millis(50);

/// A call under way.
#[derive(Debug)]
struct Open {
    event: usize,
    at: RunClock,
    deadline: Duration,
    /// How long its host had stood still in all when the call began.
    still: Duration,
}

/// One host's life.
#[derive(Debug, Default)]
struct Host {
    calls: BTreeMap<u64, Open>,
    still: Duration,
    paused_since: Option<RunClock>,
}

impl Host {
    /// Returns how long the host has stood still so far.
    fn still_at(&self, at: RunClock) -> Duration {
        self.still + self.paused_since.map(|since| at.saturating_sub(since)).unwrap_or_default()
    }

    fn pause(&mut self, at: RunClock, paused: bool) {
        self.still = self.still_at(at);
        self.paused_since = paused.then_some(at);
    }

    /// Returns how long a call has taken, counting only the time for which its host was running.
    fn taken(&self, call: &Open, at: RunClock) -> Duration {
        at.saturating_sub(call.at).saturating_sub(self.still_at(at).saturating_sub(call.still))
    }
}

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut hosts: BTreeMap<&Name, Host> = BTreeMap::new();
    let mut violations = Violations::default();
    let slack = SLACK + index.history.header.tick * 2;
    let mut calls = 0;
    for (at, event) in index.history.events.iter().enumerate() {
        match &event.what {
            What::Log { event: LogEvent::CallStarted { call, deadline_ms, .. } } if *deadline_ms > 0 => {
                calls += 1;
                let host = hosts.entry(&event.host).or_default();
                let (deadline, still) = (Duration::from_millis(*deadline_ms), host.still_at(event.at));
                host.calls.insert(*call, Open { event: at, at: event.at, deadline, still });
            }
            What::Log { event: LogEvent::CallEnded { call, .. } } => {
                let Some(host) = hosts.get_mut(&event.host) else { continue };
                let Some(open) = host.calls.remove(call) else { continue };
                let taken = host.taken(&open, event.at);
                if taken > open.deadline.saturating_add(slack) {
                    violations.add("late", None, || late(index, &event.host, &open, Some(at), taken));
                }
            }
            What::Down { .. } | What::Failed { .. } | What::Up { .. } => {
                if let Some(host) = hosts.get_mut(&event.host) {
                    host.calls.clear();
                    host.pause(event.at, false);
                }
            }
            What::Paused { paused } => hosts.entry(&event.host).or_default().pause(event.at, *paused),
            _ => {}
        }
    }
    for (name, host) in &hosts {
        for open in host.calls.values() {
            let taken = host.taken(open, index.end);
            if taken > open.deadline.saturating_add(slack) {
                violations.add("never", None, || late(index, name, open, None, taken));
            }
        }
    }
    let exercised = || format!("{} with a deadline", words::count(calls, "call", "calls"));
    violations.or_held(calls, exercised, "no call told a deadline")
}

fn late(index: &Index<'_>, host: &Name, open: &Open, ended: Option<usize>, taken: Duration) -> Violation {
    let method = match &index.event(open.event).what {
        What::Log { event: LogEvent::CallStarted { method, .. } } => method.as_str(),
        _ => "a call",
    };
    let (began, deadline) = (words::time(open.at), words::time(open.deadline));
    let ended_after = match ended {
        Some(_) => format!("ended after {}", words::time(taken)),
        None => format!("had not ended {} later", words::time(taken)),
    };
    let summary = format!("{method} on {host} began at {began} with a deadline of {deadline} and {ended_after}.");
    Violation::new(summary).shown_by([open.event].into_iter().chain(ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Invariant},
    };

    fn starts(story: &mut Story, deadline_ms: u64) {
        let (method, peer) = ("Append".to_owned(), "server-1".to_owned());
        let event = LogEvent::CallStarted { call: 1, method, peer, attempt: 1, deadline_ms };
        story.says("client-1", What::Log { event });
    }

    fn ends(story: &mut Story) {
        let event = LogEvent::CallEnded { call: 1, status: "deadline-exceeded".to_owned(), detail: String::new() };
        story.says("client-1", What::Log { event });
    }

    /// A call with a deadline of 5 s starts at 1 s; then `tell` runs; the run ends at 20 s.
    fn call(tell: impl FnOnce(&mut Story)) -> Finding {
        let mut story = Story::new();
        starts(story.at(1_000), 5_000);
        tell(&mut story);
        story.at(20_000).says("harness", What::Healed {});
        story.finding(Invariant::DeadlinesKept)
    }

    fn first(finding: Finding) -> String {
        let Finding::Violated(violations) = finding else { panic!("{finding:?} is no violation") };
        violations[0].summary.clone()
    }

    #[test]
    fn a_call_that_ends_by_its_deadline_and_slack_holds() {
        assert!(matches!(call(|story| ends(story.at(6_055))), Finding::Holds { .. }));
        assert!(matches!(Story::new().finding(Invariant::DeadlinesKept), Finding::Idle { .. }));
    }

    #[test]
    fn a_late_end_and_no_end_are_violations() {
        let late = first(call(|story| ends(story.at(6_061))));
        assert_eq!(late, "Append on client-1 began at 1.000s with a deadline of 5.000s and ended after 5.061s.");
        let never = first(call(|_| ()));
        assert_eq!(
            never,
            "Append on client-1 began at 1.000s with a deadline of 5.000s and had not ended 19.000s later."
        );
    }

    #[test]
    fn time_that_the_host_stood_still_does_not_count_and_death_excuses() {
        let paused = call(|story| {
            story.at(2_000).says("client-1", What::Paused { paused: true });
            story.at(12_000).says("client-1", What::Paused { paused: false });
            ends(story.at(15_000));
        });
        assert!(matches!(paused, Finding::Holds { .. }));
        let dead = call(|story| {
            story.at(2_000).says("client-1", What::Down { how: Down::Crash });
        });
        assert!(matches!(dead, Finding::Holds { .. }));
    }
}
