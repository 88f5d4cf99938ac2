//! # stops-when-asked
//!
//! A server that is asked to stop ends by itself in time.
//!
//! **Where it comes from.** What every supervisor does: SIGTERM, a grace period, SIGKILL (systemd's `TimeoutStopSec`,
//! Kubernetes' `terminationGracePeriodSeconds`, 30 s). A process that must be killed at every deployment does not
//! finish what it had taken in, and each deployment is a crash.
//!
//! **What it looks at.** Every request to stop that a step made of a server: `restart`, `upgrade`, `rolling-upgrade`,
//! `rollback`. The process has 30 s to end, not counting time during which its host stood still or its disk was slowed
//! down. Then it is killed, and that is the violation. A process that another step killed meanwhile is not judged.
//!
//! **What leaves it idle.** No server was asked to stop. That is no fault of the run.
//!
//! **A corner that goes wrong.** A graceful stop waits for the calls that are open, and a stream is open for as long as
//! its client likes. A task was spawned and never told to stop. A final sync has no deadline, on a disk that hangs.

use std::collections::BTreeMap;

use super::super::{
    index::Index,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Down, Name, What};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let servers = &index.history.header.servers;
    let mut asked: BTreeMap<&Name, usize> = BTreeMap::new();
    let mut violations = Violations::default();
    let mut stopped = 0;
    for (at, event) in index.history.events.iter().enumerate() {
        match &event.what {
            What::StopRequested {} | What::Down { .. } | What::Failed { .. } if !servers.contains(&event.host) => {}
            What::StopRequested {} => _ = asked.insert(&event.host, at),
            What::Down { how: Down::Killed } => {
                let asked = asked.remove(&event.host);
                violations.add("killed", None, || killed(index, &event.host, asked, at));
            }
            What::Down { how: Down::Stop } | What::Failed { .. } => {
                stopped += u64::from(asked.remove(&event.host).is_some());
            }
            What::Down { .. } => _ = asked.remove(&event.host),
            _ => {}
        }
    }
    let exercised = || words::count(stopped, "server that was asked to stop", "servers that were asked to stop");
    violations.or_held(stopped, exercised, "no server was asked to stop")
}

fn killed(index: &Index<'_>, server: &Name, asked: Option<usize>, at: usize) -> Violation {
    let (event, asked_at) = (index.event(at), asked.map(|asked| index.event(asked).at));
    let summary = match asked_at {
        Some(asked) => format!(
            "{server} was asked to stop at {}, still ran {} later, and was killed.",
            words::time(asked),
            words::span(event.at.saturating_sub(asked)),
        ),
        None => format!("{server} did not stop when it was asked to, and was killed at {}.", words::time(event.at)),
    };
    let open = connected(index, server, at);
    let why = open.first().map(|(peer, _)| match open.len() as u64 - 1 {
        0 => format!("{peer} was still connected to it"),
        others => format!("{peer} and {} were still connected to it", words::count(others, "other", "others")),
    });
    Violation::new(summary).because(why).shown_by(asked.into_iter().chain([at]).chain(open.first().map(|it| it.1)))
}

/// Returns the hosts that had a connection to a server when `at` happened, each once, and the event that opened the
/// connection.
fn connected<'h>(index: &Index<'h>, server: &Name, at: usize) -> Vec<(&'h Name, usize)> {
    let mut open: BTreeMap<u64, (&Name, usize)> = BTreeMap::new();
    for (n, event) in index.history.events[..at].iter().enumerate() {
        match &event.what {
            What::Connected { peer, connection, .. } if peer == server => {
                open.insert(*connection, (&event.host, n));
            }
            What::Disconnected { connection } => _ = open.remove(connection),
            _ => {}
        }
    }
    let mut hosts: Vec<(&Name, usize)> = Vec::new();
    for (host, event) in open.into_values() {
        if !hosts.iter().any(|(known, _)| *known == host) {
            hosts.push((host, event));
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::testing::Story, history::Invariant};

    fn asked() -> Story {
        let mut story = Story::new();
        let connected = What::Connected { peer: "server-1".into(), connection: 7, dialled: story.now() };
        story.at(500).says("client-1", connected.clone()).says("client-2", connected);
        story.at(1_000).says("server-1", What::StopRequested {});
        story
    }

    #[test]
    fn a_server_that_ends_when_it_is_asked_to_holds() {
        for end in [What::Down { how: Down::Stop }, What::Failed { error: "a client was rude".to_owned() }] {
            let mut story = asked();
            story.at(3_000).says("server-1", end);
            let exercised = "1 server that was asked to stop".to_owned();
            assert_eq!(story.finding(Invariant::StopsWhenAsked), Finding::Holds { exercised });
        }
    }

    #[test]
    fn one_that_had_to_be_killed_is_a_violation_and_says_who_was_connected() {
        let mut story = asked();
        story.at(31_005).says("server-1", What::Down { how: Down::Killed });
        let violation = story.violation(Invariant::StopsWhenAsked);
        let summary = "server-1 was asked to stop at 1.000s, still ran 30.0s later, and was killed.";
        assert_eq!(violation.summary, summary);
        assert_eq!(violation.why.as_deref(), Some("client-2 was still connected to it"));
        assert_eq!(violation.events, [1, 2, 3]);
    }

    #[test]
    fn a_crash_meanwhile_excuses_and_nobody_asked_is_idle() {
        let mut story = asked();
        story.at(3_000).says("server-1", What::Down { how: Down::Crash });
        assert!(matches!(story.finding(Invariant::StopsWhenAsked), Finding::Idle { .. }));
        let mut client = Story::new();
        client.says("client-1", What::StopRequested {}).says("client-1", What::Down { how: Down::Stop });
        assert!(matches!(client.finding(Invariant::StopsWhenAsked), Finding::Idle { .. }));
    }
}
