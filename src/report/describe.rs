//! Describes each event in a few words, as timelines show it.
//!
//! A description is one line of ASCII, so its width is its length. Bytes are summed up, never shown: a history may hold
//! secrets that somebody put into an audit entry, and a terminal is read over shoulders.

use gapless_world::{LogEvent, observer::Direction};

use crate::{
    check::words,
    history::{DiskOp, Down, EntryId, Event, Found, Name, Outcome, StepEvent, What},
};

/// Describes one event in a few words, without its time and host.
pub fn describe(event: &Event) -> String {
    let text = match &event.what {
        What::Began {} => "every client has one append acknowledged: t = 0".to_owned(),
        What::WorkloadEnded {} => "the workload offers nothing new".to_owned(),
        What::Healed {} => "the last fault is lifted".to_owned(),
        What::Settled { quiet: true } => "settled: nothing is left to deliver".to_owned(),
        What::Settled { quiet: false } => "NOT settled: something is left to deliver".to_owned(),
        What::Step { step, event } => format!("step `{step}` {}", step_event(event)),
        What::Up { life: 1 } => "starts".to_owned(),
        What::Up { life } => format!("starts again (life {life})"),
        What::Runs { revision } => format!("runs `{revision}`"),
        What::StopRequested {} => "is asked to stop".to_owned(),
        What::Down { how } => down(*how).to_owned(),
        What::Wiped {} => "wiped: its data folder is empty now".to_owned(),
        What::Rewound { to } => format!("rewound: its data folder is as it was at {}", words::time(*to)),
        What::Failed { error } => format!("failed: {error}"),
        What::Paused { paused: true } => "stands still".to_owned(),
        What::Paused { paused: false } => "goes on".to_owned(),
        What::Clock { offset, rate_ppm } => clock(*offset, *rate_ppm),
        What::Memory { budget } => format!("memory for queues and caches: {}", size(*budget)),
        What::Disk { op, path, bytes, error } => disk(*op, path, *bytes, error.as_deref()),
        What::Lost { path, bytes, torn } => lost(path, *bytes, *torn),
        What::LostName { path, made, bytes } => {
            let made = words::time(*made);
            format!("lost the name `{path}` ({}), made at {made}: its folder was not synced", size(*bytes))
        }
        What::Damaged { path, offset, bytes, fault } => {
            format!("{fault} damaged {} of `{path}` at byte {offset}", size(*bytes))
        }
        What::Mended { path, offset, bytes } => {
            format!("{} of `{path}` at byte {offset} are right again", size(*bytes))
        }
        What::Certificate { serial, name, authority, why, .. } => {
            format!("certificate {serial:x} for {name} by {authority}: {why}")
        }
        What::Took { serial } => format!("shows certificate {serial:x} from now on"),
        What::Connected { peer, connection, .. } => format!("connected to {peer} (connection {connection})"),
        What::Disconnected { connection } => format!("connection {connection} is over"),
        What::Submitted { entry, .. } => format!("append {}", entry_of(entry, &event.host)),
        What::Returned { entry, outcome } => {
            format!("{} {}{}", outcome_of(outcome), entry_of(entry, &event.host), told(outcome))
        }
        What::Holds { outbox, dead_letters } => format!(
            "holds {} and {}",
            words::count(outbox.len() as u64, "entry to deliver", "entries to deliver"),
            words::count(dead_letters.len() as u64, "dead letter", "dead letters"),
        ),
        What::ReadingBegan { reading, server, last: false } => format!("reading {reading} of {server} begins"),
        What::ReadingBegan { reading, server, last: true } => format!("last reading ({reading}) of {server} begins"),
        What::Found { reading, found } => format!("reading {reading}: {}", found_of(found)),
        What::Followed { found } => format!("was given {}", found_of(found)),
        What::CheckpointRead { reading, size, root } => {
            format!("reading {reading}: checkpoint of {}, root {}", leaves(*size), short(root))
        }
        What::ReadingEnded { reading, error: None } => format!("reading {reading} reached the end"),
        What::ReadingEnded { reading, error: Some(error) } => format!("reading {reading} broke off: {error}"),
        What::Marked { mark } => format!("mark: {mark}"),
        What::Log { event } => log_event(event),
    };
    one_line(&text)
}

/// Replaces control characters and line ends, which must not reach the terminal: errors and marks are the words of
/// others.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn step_event(event: &StepEvent) -> String {
    match event {
        StepEvent::Begins { hosts } if hosts.is_empty() => "begins".to_owned(),
        StepEvent::Begins { hosts } => format!("begins on {}", hosts.join(", ")),
        StepEvent::Bites { evidence } => format!("bites: {evidence}"),
        StepEvent::Nth { n } => format!("did it {n} times so far"),
        StepEvent::Ended { evidence: Some(evidence) } => format!("ended: {evidence}"),
        StepEvent::Ended { evidence: None } => "ended, without a trace so far".to_owned(),
        StepEvent::NotRun { why } => format!("did not run: {why}"),
    }
}

fn down(how: Down) -> &'static str {
    match how {
        Down::Crash => "crash",
        Down::PowerLoss => "power loss",
        Down::Stop => "stopped",
        Down::Killed => "did NOT stop when asked, killed",
    }
}

/// Describes a clock in milliseconds, because nobody reads nanoseconds.
fn clock(offset: i64, rate_ppm: i64) -> String {
    match (offset, rate_ppm) {
        (0, 0) => "wall clock is right".to_owned(),
        (offset, 0) => format!("wall clock is off by {:+} ms", offset / 1_000_000),
        (offset, rate) => format!("wall clock is off by {:+} ms and runs at {rate:+} ppm", offset / 1_000_000),
    }
}

fn disk(op: DiskOp, path: &str, bytes: u64, error: Option<&str>) -> String {
    let op = match op {
        DiskOp::Open => "open",
        DiskOp::Append => "append to",
        DiskOp::Write => "write to",
        DiskOp::Read => "read",
        DiskOp::Truncate => "truncate",
        DiskOp::Sync => "sync",
        DiskOp::Rename => "rename",
        DiskOp::Remove => "remove",
        DiskOp::SyncFolder => "sync folder",
    };
    let bytes = if bytes > 0 { format!(" ({})", size(bytes)) } else { String::new() };
    let error = error.map(|error| format!(" FAILED: {error}")).unwrap_or_default();
    format!("{op} `{path}`{bytes}{error}")
}

fn lost(path: &str, bytes: u64, torn: u64) -> String {
    let torn = if torn > 0 { format!(", {} torn", size(torn)) } else { String::new() };
    format!("lost {} of `{path}`{torn}", size(bytes))
}

/// Names an entry, without its client if that is the host under which the event is shown.
fn entry_of(entry: &EntryId, host: &Name) -> String {
    if entry.client == *host { format!("#{}", entry.number) } else { entry.to_string() }
}

fn outcome_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Acked { .. } => "acked",
        Outcome::Refused { .. } => "refused",
        Outcome::Unknown { .. } => "unknown",
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Acked { at: Some(at) } => format!(" as {at}"),
        Outcome::Acked { at: None } => String::new(),
        Outcome::Refused { why } | Outcome::Unknown { why } => format!(": {why}"),
    }
}

fn found_of(found: &Found) -> String {
    let entry = match &found.entry {
        Some(entry) => entry.to_string(),
        None => "no entry of the workload".to_owned(),
    };
    let void = if found.counts || found.entry.is_none() { "" } else { ", void" };
    let numbered = found.numbered.as_ref().map(|(client, epoch, sequence)| format!(" ({client} {epoch}/{sequence})"));
    format!("{} = {entry}{void}{}", found.position, numbered.unwrap_or_default())
}

/// Describes what the log reports about itself. Events with a name that says everything are shown by their name.
fn log_event(event: &LogEvent) -> String {
    let said = of_servers(event).or_else(|| of_connections(event)).or_else(|| of_clients(event));
    said.unwrap_or_else(|| event.name().replace('-', " "))
}

/// What a server says of its log.
fn of_servers(event: &LogEvent) -> Option<String> {
    Some(match event {
        LogEvent::ServerStarted { node, size, .. } => format!("serves as node {node}, log of {}", leaves(*size)),
        LogEvent::LogRecovered { frames, leaves: all } => format!("recovered {frames} frames, {}", leaves(*all)),
        LogEvent::TornTailTruncated { file, offset, bytes, .. } => {
            format!("torn tail: cut {} off `{file}` at {offset}", size(*bytes))
        }
        LogEvent::CorruptionFound { file, offset, what } => format!("CORRUPTION in `{file}` at {offset}: {what}"),
        LogEvent::ReadOnly { leaves: all, why } => format!("shows {} and takes nothing: {why}", leaves(*all)),
        LogEvent::RepairStalled { why } => format!("repair waits: {why}"),
        LogEvent::ReplicaRebuilt { frames, leaves: all, from } => {
            format!("has what it lacked from {from}, {frames} frames, {}, and puts it in place", leaves(*all))
        }
        LogEvent::ReplicaRepaired { frames, leaves: all, from, .. } => {
            format!("repaired from {from}: {frames} frames, {}", leaves(*all))
        }
        LogEvent::MemberLostTail { member, holds, acknowledged, .. } => {
            let lost = leaves(acknowledged.saturating_sub(*holds));
            format!("{member} LOST {lost} that it had acknowledged: it holds {holds} of {acknowledged}")
        }
        LogEvent::LeaderChange { node, term } => format!("leads: node {node}, term {term}"),
        LogEvent::ShutdownDone { size } => format!("shut down, log of {}", leaves(*size)),
        LogEvent::BatchWritten { raft_index, first_leaf, leaves: all } => {
            format!("batch {raft_index} written, not synced: {} from {first_leaf}", leaves(*all))
        }
        LogEvent::BatchSynced { raft_index } => format!("batch {raft_index} synced"),
        LogEvent::BatchCommitted { raft_index, size } => format!("batch {raft_index} committed: {}", leaves(*size)),
        LogEvent::CheckpointSigned { size, root, .. } => checkpoint("signed", *size, root),
        LogEvent::CheckpointKept { size, root, .. } => checkpoint("kept", *size, root),
        LogEvent::DuplicateAnswered { client, sequence, index } => {
            format!("repeat of {client} {sequence} answered with its first receipt, {index}")
        }
        LogEvent::EntryRefused { client, sequence, reason } => format!("refused {client} {sequence}: {reason}"),
        LogEvent::LoadShed { queued } => format!("load shed, {queued} queued"),
        LogEvent::MemberChanged { voters, learners, changing } => {
            let nodes = |all: &[u64]| all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let joint = if *changing { ", of before and after" } else { "" };
            match learners.is_empty() {
                true => format!("members changed: nodes {} vote{joint}", nodes(voters)),
                false => format!("members changed: nodes {} vote{joint}, {} learn", nodes(voters), nodes(learners)),
            }
        }
        LogEvent::ClockAnomaly { node, by_ms } => {
            format!("node {node}: wall clock moved by {by_ms:+} ms against the monotonic one")
        }
        LogEvent::MemoryUsed { what, bytes, limit } => {
            format!("memory: `{what}` held {} of {}", words::number(*bytes), size(*limit))
        }
        _ => return None,
    })
}

/// What either end says of its connections and calls.
fn of_connections(event: &LogEvent) -> Option<String> {
    Some(match event {
        LogEvent::HandshakeRefused { peer, reason } => format!("handshake with {peer} refused: {reason}"),
        LogEvent::RefusalsCounted { reason, count } => format!("{count} more handshakes refused: {reason}"),
        LogEvent::HandshakeAccepted { peer, .. } => format!("handshake with {peer}"),
        LogEvent::ConnectionClosed { peer, why } => format!("connection to {peer} closed: {why}"),
        LogEvent::SchemaAgreed { peer, revision, theirs } => {
            format!("schema agreed with {peer}: `{revision}` here, `{theirs}` there")
        }
        LogEvent::SchemaRefused { peer, reason } => format!("schema of {peer} REFUSED: {reason}"),
        LogEvent::CallStarted { call, method, peer, attempt, deadline_ms } => {
            let deadline = if *deadline_ms > 0 { format!(", {deadline_ms} ms") } else { String::new() };
            let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            format!("call {call} {method} with {peer}{attempt}{deadline}")
        }
        LogEvent::CallMessage { call, direction, bytes, omitted } => {
            let way = if *direction == Direction::Request { "->" } else { "<-" };
            format!("call {call} {way} {}", size(bytes.len() as u64 + omitted))
        }
        LogEvent::CallEnded { call, status, detail } if detail.is_empty() => format!("call {call} ended: {status}"),
        LogEvent::CallEnded { call, status, detail } => format!("call {call} ended: {status} ({detail})"),
        _ => return None,
    })
}

/// What a client or a reader says.
fn of_clients(event: &LogEvent) -> Option<String> {
    Some(match event {
        LogEvent::EntryAccepted { epoch, sequence, entry } => {
            format!("accepted {epoch}/{sequence} into the outbox, {}", size(entry.len() as u64))
        }
        LogEvent::OutboxRecovered { epoch, next_sequence, pending, dead_letters } => {
            format!("outbox read: {epoch}/{next_sequence} is next, {pending} pending, {dead_letters} dead letters")
        }
        LogEvent::Retry { sequence, attempt, wait_ms, why } => {
            format!("retry of {sequence} in {wait_ms} ms (attempt {attempt}): {why}")
        }
        LogEvent::ReceiptVerified { epoch, sequence, index, .. } => {
            format!("receipt of {epoch}/{sequence} verified: index {index}")
        }
        LogEvent::ReceiptRejected { sequence, why } => format!("receipt of {sequence} REJECTED: {why}"),
        LogEvent::DeadLettered { epoch, sequence, reason } => format!("dead letter {epoch}/{sequence}: {reason}"),
        LogEvent::Parked { why } => format!("parked: {why}"),
        LogEvent::OutboxRolledBack { epoch, sequence } => {
            format!("outbox was put back: sequence {sequence} of epoch {epoch} is taken in the log")
        }
        LogEvent::OutboxFull { pending } => format!("outbox full, {pending} pending"),
        LogEvent::TailStarted { from } => format!("tail starts at {from}"),
        LogEvent::BoundedRead { server, size, age_ms } => {
            format!("{server} shows {} as of {age_ms} ms ago", leaves(*size))
        }
        LogEvent::LinearizableRead { server, size, age_ms } => {
            format!("{server} leads, and shows {} as of {age_ms} ms ago", leaves(*size))
        }
        LogEvent::LeafRead { index, leaf } => format!("read leaf {index}, {}", size(leaf.len() as u64)),
        _ => return None,
    })
}

fn checkpoint(what: &str, size: u64, root: &str) -> String {
    format!("{what} checkpoint of {}, root {}", leaves(size), short(root))
}

fn leaves(count: u64) -> String {
    words::count(count, "leaf", "leaves")
}

fn size(bytes: u64) -> String {
    words::count(bytes, "byte", "bytes")
}

/// Returns the first digits of a root, which are enough to distinguish two roots.
fn short(root: &str) -> String {
    root.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_move_the_cursor() {
        let what = What::Failed { error: "two\nlines \u{1b}[31mred".to_owned() };
        let event = Event { at: Default::default(), host: "server-1".into(), what };
        assert_eq!(describe(&event), "failed: two lines  [31mred");
    }

    #[test]
    fn bytes_are_summed_up_by_their_length() {
        let bytes = bytes::Bytes::from_static(b"secret");
        for (omitted, said) in [(0, "call 3 -> 6 bytes"), (100, "call 3 -> 106 bytes")] {
            let bytes = bytes.clone();
            let log = LogEvent::CallMessage { call: 3, direction: Direction::Request, bytes, omitted };
            let event = Event { at: Default::default(), host: "client-1".into(), what: What::Log { event: log } };
            assert_eq!(describe(&event), said);
        }
    }
}
