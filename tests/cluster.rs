//! What single runs of a cluster show beside their verdict: what it refuses, however much that costs, and what it does at once.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests")]

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use gapless::{
    history::{self, History, Outcome, What},
    world::LogEvent,
};

/// Two of three disks are empty; by number they are a majority.
const MAJORITY_WIPED: &str = r#"
title = "Two of three disks are gone"
[cluster]
servers = 3
[workload]
clients = 1
appends = "1/s"
for = "20s"
[[step]]
name = "gone"
action = "wipe"
on = ["server-2", "server-3"]
at = "8500ms"
for = "2s"
[expect]
recovers-within = "10s"
"#;

/// Plays a scenario, and returns what was said of it and its history.
fn replayed(scenario: &str, seed: u64) -> (Output, History) {
    let folder = tempfile::tempdir().unwrap();
    let (file, kept) = (folder.path().join("it.toml"), folder.path().join("history.jsonl"));
    std::fs::write(&file, scenario).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
    command.args(["replay", "--seed", &seed.to_string(), "--history"]).args([&kept, &file]);
    let said = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().unwrap();
    let history = history::read(&kept).unwrap();
    (said, history)
}

/// Never an empty log that looks like a log: what is left is read and verified, and takes nothing more.
#[test]
fn a_majority_that_lost_its_disks_is_refused_loudly_and_never_becomes_an_empty_log() {
    let (replay, _) = replayed(MAJORITY_WIPED, 1);
    let said = String::from_utf8_lossy(&replay.stdout);
    assert_eq!(replay.status.code(), Some(100), "{said}{}", String::from_utf8_lossy(&replay.stderr));

    let of = |host: &str| -> Vec<&str> {
        let mark = format!(" {host} ");
        said.lines().filter(|line| line.contains(&mark)).collect()
    };
    for host in ["server-2", "server-3"] {
        let lines = of(host);
        let wiped = lines.iter().position(|line| line.contains("wiped: its data folder is empty now")).unwrap();
        let after = &lines[wiped..];
        assert!(after.iter().any(|line| line.contains("failed: the data folder is not initialised")), "{host}");
        assert!(!after.iter().any(|line| line.contains("serves as node")), "{host} serves an empty log");
    }
    // Whoever writes is never told that anything went well, and the log is otherwise what it was.
    assert!(said.contains("recovers: "), "{said}");
    for invariant in ["append-only: ", "no-fork: ", "no-gaps: ", "no-phantoms: ", "acked-durable: "] {
        assert!(!said.contains(&format!("└ {invariant}")), "{invariant} {said}");
    }
}

/// The only server goes back to a snapshot, just after a client has lost its power: what the log acknowledged since, only
/// the clients know.
const THE_ONLY_SERVER_REWOUND: &str = r#"
title = "The only server goes back to a snapshot"
[cluster]
servers = 1
[workload]
clients = 2
appends = "40/s"
for = "20s"
[[step]]
name = "back"
action = "rewind"
on = "server-1"
at = "8s"
for = "3s"
[[step]]
name = "dark"
action = "power-loss"
on = "client-1"
after = "back:begins"
wait = "2900ms"
for = "1s"
[expect]
recovers-within = "10s"
"#;

/// A client knows more than the log shows, also after a power loss: its kept checkpoint is durable before an entry
/// leaves the outbox.
#[test]
fn a_log_that_was_put_back_is_refused_by_everybody_who_knows_more() {
    for seed in 0..3 {
        let (replay, history) = replayed(THE_ONLY_SERVER_REWOUND, seed);
        let said = String::from_utf8_lossy(&replay.stdout);
        assert_eq!(replay.status.code(), Some(100), "{said}{}", String::from_utf8_lossy(&replay.stderr));
        assert!(said.contains("server-1 was put back at "), "the cause is not named\n{said}");
        let events = &history.events;
        let back = events.iter().position(|event| matches!(event.what, What::Rewound { .. })).unwrap();
        let of = |client: &str, what: fn(&LogEvent) -> bool| {
            let logs = |event: &&history::Event| matches!(&event.what, What::Log { event } if what(event));
            events[back..].iter().filter(|event| *event.host == *client).filter(logs).count()
        };
        for client in ["client-1", "client-2"] {
            let refused = of(client, |event| matches!(event, LogEvent::Parked { .. }));
            assert!(refused > 0, "{client} did not notice under seed {seed}\n{said}");
            let taken = of(client, |event| matches!(event, LogEvent::CheckpointKept { .. }));
            assert_eq!(taken, 0, "{client} took it for the whole log under seed {seed}\n{said}");
        }
        // What it had not yet written down as acknowledged, it sends again: only the kept checkpoint tells it that the
        // receipts are those of another log.
        let rejected = of("client-1", |event| matches!(event, LogEvent::ReceiptRejected { .. }));
        assert!(rejected > 0, "no receipt was refused under seed {seed}\n{said}");
    }
}

const FAR_LEADER_LOST: &str = r#"
title = "A far cluster loses its leader"
[cluster]
servers = 3
latency = "200ms"
[workload]
clients = 1
appends = "5/s"
for = "20s"
[[step]]
name = "lost"
action = "crash"
on = "leader"
at = "8s"
for = "3s"
[expect]
recovers-within = "30s"
"#;

/// For each leader, how long it took from the entry with which it begins its term until that was committed.
fn beginnings(history: &History) -> Vec<Duration> {
    let logged = |host: &str, wanted: &dyn Fn(&LogEvent) -> bool, before: usize| {
        let of_host = |event: &&history::Event| *event.host == *host;
        let it = |event: &&history::Event| matches!(&event.what, What::Log { event } if wanted(event));
        history.events[..before].iter().rev().filter(of_host).find(it).unwrap().clone()
    };
    let begins = |(at, event): (usize, &history::Event)| {
        let What::Log { event: LogEvent::LeaderChange { .. } } = event.what else { return None };
        let committed = logged(&event.host, &|event| matches!(event, LogEvent::BatchCommitted { .. }), at);
        let What::Log { event: LogEvent::BatchCommitted { raft_index: first, .. } } = committed.what else {
            return None;
        };
        let is_first =
            |event: &LogEvent| matches!(event, LogEvent::BatchWritten { raft_index, .. } if *raft_index == first);
        Some(committed.at - logged(&event.host, &is_first, at).at)
    };
    history.events.iter().enumerate().filter_map(begins).collect()
}

/// What the voters hold came with their votes, so that a new leader need not ask for it.
#[test]
fn a_new_leader_commits_its_first_entry_after_one_round_trip() {
    for seed in 0..3 {
        let (_, history) = replayed(FAR_LEADER_LOST, seed);
        let beginnings = beginnings(&history);
        assert!(beginnings.len() >= 2, "seed {seed}: {beginnings:?}");
        for took in beginnings {
            // One round trip takes at most three times 200 ms, two take at least four times that; and there are disks.
            assert!(took < Duration::from_millis(700), "seed {seed}: it took {took:?}");
        }
    }
}

/// A vote that arrives after the voter was sent entries says nothing of what it holds later.
#[test]
fn a_leader_tells_exactly_how_much_a_member_lost() {
    let (_, history) = replayed(include_str!("../scenarios/a-follower-lost-what-it-had-acknowledged.toml"), 1);
    let (mut found, mut told) = (Vec::new(), Vec::new());
    for event in &history.events {
        match &event.what {
            What::Log { event: LogEvent::LogRecovered { leaves, .. } } if *event.host == *"server-1" => {
                found.push(*leaves)
            }
            What::Log { event: LogEvent::MemberLostTail { member, holds, .. } } => told.push((member.as_str(), *holds)),
            _ => {}
        }
    }
    let last = *found.last().expect("it has started");
    assert_eq!(told, [("server-1", last)], "the leader's word, and what its last start found on its disk");
}

const POWER_FAILS_WHILE_OFF: &str = r#"
title = "The power of a client fails while the client is off"
[cluster]
servers = 1
[workload]
clients = 2
appends = "20/s"
for = "10s"
[[step]]
name = "off"
action = "power-loss"
on = "client-1"
at = "3s"
for = "2s"
[[step]]
action = "power-loss"
on = "client-1"
after = "first:batch-written"
since = "off:begins"
for = "500ms"
"#;

/// Nothing is told of a host whose power fails in the middle of a tick, until the tick is over; of one that is off, until it is
/// started.
#[test]
fn a_host_whose_power_failed_while_it_was_off_is_heard_of_again() {
    let (replay, history) = replayed(POWER_FAILS_WHILE_OFF, 0);
    let started = |event: &history::Event| matches!(event.what, What::Up { life: 2 });
    let heard = history.events.iter().filter(|event| *event.host == *"client-1").skip_while(|event| !started(event));
    let acked =
        heard.filter(|event| matches!(event.what, What::Returned { outcome: Outcome::Acked { .. }, .. })).count();
    assert!(acked > 20, "{acked} acknowledged: {}", String::from_utf8_lossy(&replay.stdout));
    // The second step found nobody to strike.
    assert_eq!(replay.status.code(), Some(101));
}

const ROLLED_AS_IT_STARTS: &str = r#"
title = "A server is rolled at the moment at which it starts again"
[cluster]
servers = 1
[workload]
clients = 1
appends = "5/s"
for = "10s"
[[step]]
name = "off"
action = "power-loss"
on = "server-1"
at = "3s"
for = "1s"
[[step]]
action = "restart"
on = "server-1"
after = "off"
"#;

#[test]
fn a_server_that_is_asked_to_stop_as_it_starts_did_not_end_by_itself() {
    let (replay, _) = replayed(ROLLED_AS_IT_STARTS, 0);
    assert_eq!(replay.status.code(), Some(0), "{}", String::from_utf8_lossy(&replay.stdout));
}
