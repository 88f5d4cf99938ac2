//! What the audit log reports about itself, as typed events.
//!
//! The simulator records them, `gapless-log serve --events` writes them as JSON lines, a drill merges them. Scenario
//! files name them in kebab-case (`seen = [{ event = "retry" }]`), so a name here is part of the file format. Events
//! never carry keys.

use std::error::Error;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An observer is told what happens. It is called synchronously, often on a hot path: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Takes one event.
    fn see(&self, event: LogEvent);
}

/// An observer that ignores everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn see(&self, _event: LogEvent) {}
}

/// The direction of a message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the caller.
    Request,
    /// To the caller.
    Response,
}

/// Formats an error and all its sources as one text, as events carry it: outermost first, each stated once.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

/// One thing that the log, or its client, did or noticed. [`LogEvent::name`] returns its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[allow(missing_docs, reason = "the variants are documented; their fields are named as the field's terms")]
pub enum LogEvent {
    // ---- a server's life ----
    /// A server serves: recovery is done, the listener is bound.
    ServerStarted { log_id: String, node: u64, size: u64 },
    /// Recovery has read this many frames and leaves of the log.
    LogRecovered { frames: u64, leaves: u64 },
    /// Bytes after the last synced frame did not form a frame; they were kept aside and cut off.
    TornTailTruncated { file: String, offset: u64, bytes: u64, kept_as: String },
    /// Damage was found at or below what was synced, or a log is shorter than its own checkpoint.
    CorruptionFound { file: String, offset: u64, what: String },
    /// A log with a single server is damaged: the leaves before the damage are shown, and no entry is accepted until
    /// the folder is whole again.
    ReadOnly { leaves: u64, why: String },
    /// A damaged replica waits, because no other member offers it what it needs. Reported again whenever the reason
    /// changes.
    RepairStalled { why: String },
    /// The replacement for a damaged replica was built from this member and verified: it takes the replica's place from
    /// here on.
    ReplicaRebuilt { frames: u64, leaves: u64, from: String },
    /// A damaged replica was rebuilt from this member, verified, and put in place; the damaged files are kept.
    /// `replaced` lists how the paths of the new files begin.
    ReplicaRepaired { frames: u64, leaves: u64, from: String, replaced: Vec<String> },
    /// The leader found that another member no longer holds what it had acknowledged, and sends it that part again: the
    /// member holds the first `holds` leaves, and had acknowledged the first `acknowledged`. Its disk claimed that they
    /// were synced, and lost them with the power: that disk can no longer be trusted.
    MemberLostTail { node: u64, member: String, holds: u64, acknowledged: u64 },
    /// This node leads from now on, in this term.
    LeaderChange { node: u64, term: u64 },
    /// A change of the members is committed and applied here: it names who votes from now on and who learns. While the
    /// voters are `changing`, both the old and the new set of voters have to agree.
    MemberChanged { voters: Vec<u64>, learners: Vec<u64>, changing: bool },
    /// A graceful stop began.
    ShutdownBegun {},
    /// Everything accepted is durable and answered, and the process ends.
    ShutdownDone { size: u64 },

    // ---- the write path ----
    /// A batch was handed to the disk and is not yet synced.
    BatchWritten { raft_index: u64, first_leaf: u64, leaves: u64 },
    /// The same batch is durable here.
    BatchSynced { raft_index: u64 },
    /// The batch is committed and applied.
    BatchCommitted { raft_index: u64, size: u64 },
    /// A checkpoint was signed. `note` is the whole signed note.
    CheckpointSigned { size: u64, root: String, note: String },
    /// A repeated entry was answered with its first receipt.
    DuplicateAnswered { client: String, sequence: u64, index: u64 },
    /// An entry was refused, with the reason of the wire contract in kebab-case.
    EntryRefused { client: String, sequence: u64, reason: String },
    /// The queue was full; the caller was told to come back later.
    LoadShed { queued: u64 },

    // ---- connections ----
    /// A TLS handshake was refused or failed, at either end.
    HandshakeRefused { peer: String, reason: String },
    /// This many further handshakes were refused for this reason. A server reports 64 a minute one by one, so that a
    /// flood does not fill its log, and counts the rest at the end of the minute.
    RefusalsCounted { reason: String, count: u64 },
    /// A TLS handshake succeeded. `not-after`, in seconds since the epoch, is the earlier end of the two certificates.
    HandshakeAccepted { peer: String, not_after: i64 },
    /// An established connection ended.
    ConnectionClosed { peer: String, why: String },
    /// A fresh certificate came from the issuer and holds from the next handshake on. `not-after` is in seconds since
    /// the epoch.
    CertRenewed { not_after: i64 },
    /// A renewal failed and will be tried again.
    RenewalFailed { attempt: u32, wait_ms: u64, why: String },
    /// The two ends of a connection run different schema revisions that are compatible. `revision` is the revision of
    /// this end.
    SchemaAgreed { peer: String, revision: String, theirs: String },
    /// The schema of the other end is not compatible with the one of this end: nothing is exchanged.
    SchemaRefused { peer: String, reason: String },

    // ---- resources ----
    /// The wall clock moved by this much against the monotonic clock since it was last checked. The log goes on, by
    /// index, and holds an entry that records the anomaly.
    ClockAnomaly { node: u64, by_ms: i64 },
    /// A queue or cache has held more than ever before under its limit, or the limit has changed. All values are in
    /// bytes.
    MemoryUsed { what: String, bytes: u64, limit: u64 },

    // ---- calls: exact bytes, at the end that tells ----
    /// A call begins. `call` is unique per process life; `deadline-ms` counts from now, 0 means none.
    CallStarted { call: u64, method: String, peer: String, attempt: u32, deadline_ms: u64 },
    /// One gRPC frame of a call's body passed, without the five-byte prefix. The history of a run keeps the first 4
    /// KiB, and in `omitted` the number of bytes that followed.
    CallMessage {
        call: u64,
        direction: Direction,
        #[serde(with = "base64_bytes")]
        bytes: Bytes,
        #[serde(default, with = "omitted_bytes")]
        omitted: u64,
    },
    /// The call ended for its caller, with the name of its gRPC status in kebab-case (`ok`, `deadline-exceeded`).
    CallEnded { call: u64, status: String, detail: String },

    // ---- a client's decisions ----
    /// An entry is durable in the outbox: from now on it is owed. `entry` is the payload.
    EntryAccepted {
        epoch: u64,
        sequence: u64,
        #[serde(with = "base64_bytes")]
        entry: Bytes,
    },
    /// The outbox was read after a start.
    OutboxRecovered { epoch: u64, next_sequence: u64, pending: u64, dead_letters: u64 },
    /// A call failed and will be made again.
    Retry { sequence: u64, attempt: u32, wait_ms: u64, why: String },
    /// A receipt was verified; the entry leaves the outbox. `receipt` is the exact protobuf message.
    ReceiptVerified {
        epoch: u64,
        sequence: u64,
        index: u64,
        #[serde(with = "base64_bytes")]
        receipt: Bytes,
    },
    /// A receipt did not verify; the entry stays in the outbox.
    ReceiptRejected { sequence: u64, why: String },
    /// A checkpoint was verified and kept, as the one that later ones must extend.
    CheckpointKept { size: u64, root: String, note: String },
    /// An entry was rejected for good and is kept as a dead letter; its slot in the log is closed by another entry. A
    /// start that still owes that other entry reports the dead letter again: a crash may have come between keeping it
    /// and reporting it.
    DeadLettered { epoch: u64, sequence: u64, reason: String },
    /// Delivery is parked until somebody provides a cure; nothing is lost.
    Parked { why: String },
    /// Delivery goes on after it was parked.
    Resumed {},
    /// The log has another entry under a sequence that this outbox has just assigned: its data folder was put back to an
    /// earlier state. It stops, and its next start opens a new epoch, to which the entries from this sequence on move.
    OutboxRolledBack { epoch: u64, sequence: u64 },
    /// The outbox is full; the caller has to wait.
    OutboxFull { pending: u64 },
    /// A tail (re)started at this index.
    TailStarted { from: u64 },
    /// A reader got this leaf.
    LeafRead {
        index: u64,
        #[serde(with = "base64_bytes")]
        leaf: Bytes,
    },
    /// A server stated how fresh its answer was: a log of this many leaves, in which nothing is missing that was
    /// acknowledged longer than this many milliseconds before this moment.
    BoundedRead { server: String, size: u64, age_ms: u64 },
    /// A server answered as the leader, which a quorum confirmed after the question came: nothing is missing that was
    /// acknowledged before the question, this many milliseconds ago.
    LinearizableRead { server: String, size: u64, age_ms: u64 },
}

impl LogEvent {
    /// Returns the reason that the event states, if it states one: the `reason` of a pattern is compared with it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            LogEvent::EntryRefused { reason, .. }
            | LogEvent::HandshakeRefused { reason, .. }
            | LogEvent::RefusalsCounted { reason, .. }
            | LogEvent::SchemaRefused { reason, .. }
            | LogEvent::DeadLettered { reason, .. } => Some(reason),
            LogEvent::ConnectionClosed { why, .. }
            | LogEvent::Retry { why, .. }
            | LogEvent::RenewalFailed { why, .. }
            | LogEvent::ReceiptRejected { why, .. }
            | LogEvent::ReadOnly { why, .. }
            | LogEvent::RepairStalled { why }
            | LogEvent::Parked { why } => Some(why),
            LogEvent::CallEnded { status, .. } => Some(status),
            LogEvent::CorruptionFound { what, .. } => Some(what),
            _ => None,
        }
    }

    /// Returns the name that scenario files use.
    pub fn name(&self) -> &'static str {
        match self {
            LogEvent::ServerStarted { .. } => "server-started",
            LogEvent::LogRecovered { .. } => "log-recovered",
            LogEvent::TornTailTruncated { .. } => "torn-tail-truncated",
            LogEvent::CorruptionFound { .. } => "corruption-found",
            LogEvent::ReadOnly { .. } => "read-only",
            LogEvent::RepairStalled { .. } => "repair-stalled",
            LogEvent::ReplicaRebuilt { .. } => "replica-rebuilt",
            LogEvent::ReplicaRepaired { .. } => "replica-repaired",
            LogEvent::MemberLostTail { .. } => "member-lost-tail",
            LogEvent::LeaderChange { .. } => "leader-change",
            LogEvent::MemberChanged { .. } => "member-changed",
            LogEvent::ShutdownBegun {} => "shutdown-begun",
            LogEvent::ShutdownDone { .. } => "shutdown-done",
            LogEvent::BatchWritten { .. } => "batch-written",
            LogEvent::BatchSynced { .. } => "batch-synced",
            LogEvent::BatchCommitted { .. } => "batch-committed",
            LogEvent::CheckpointSigned { .. } => "checkpoint-signed",
            LogEvent::DuplicateAnswered { .. } => "duplicate-answered",
            LogEvent::EntryRefused { .. } => "entry-refused",
            LogEvent::LoadShed { .. } => "load-shed",
            LogEvent::HandshakeRefused { .. } => "handshake-refused",
            LogEvent::RefusalsCounted { .. } => "refusals-counted",
            LogEvent::HandshakeAccepted { .. } => "handshake-accepted",
            LogEvent::ConnectionClosed { .. } => "connection-closed",
            LogEvent::CertRenewed { .. } => "cert-renewed",
            LogEvent::RenewalFailed { .. } => "renewal-failed",
            LogEvent::SchemaAgreed { .. } => "schema-agreed",
            LogEvent::SchemaRefused { .. } => "schema-refused",
            LogEvent::ClockAnomaly { .. } => "clock-anomaly",
            LogEvent::MemoryUsed { .. } => "memory-used",
            LogEvent::CallStarted { .. } => "call-started",
            LogEvent::CallMessage { .. } => "call-message",
            LogEvent::CallEnded { .. } => "call-ended",
            LogEvent::EntryAccepted { .. } => "entry-accepted",
            LogEvent::OutboxRecovered { .. } => "outbox-recovered",
            LogEvent::Retry { .. } => "retry",
            LogEvent::ReceiptVerified { .. } => "receipt-verified",
            LogEvent::ReceiptRejected { .. } => "receipt-rejected",
            LogEvent::CheckpointKept { .. } => "checkpoint-kept",
            LogEvent::DeadLettered { .. } => "dead-lettered",
            LogEvent::Parked { .. } => "parked",
            LogEvent::Resumed {} => "resumed",
            LogEvent::OutboxRolledBack { .. } => "outbox-rolled-back",
            LogEvent::OutboxFull { .. } => "outbox-full",
            LogEvent::TailStarted { .. } => "tail-started",
            LogEvent::LeafRead { .. } => "leaf-read",
            LogEvent::BoundedRead { .. } => "bounded-read",
            LogEvent::LinearizableRead { .. } => "linearizable-read",
        }
    }

    /// Every name that a scenario file may use, in the order of the enum.
    pub const NAMES: &'static [&'static str] = &[
        "server-started",
        "log-recovered",
        "torn-tail-truncated",
        "corruption-found",
        "read-only",
        "repair-stalled",
        "replica-rebuilt",
        "replica-repaired",
        "member-lost-tail",
        "leader-change",
        "member-changed",
        "shutdown-begun",
        "shutdown-done",
        "batch-written",
        "batch-synced",
        "batch-committed",
        "checkpoint-signed",
        "duplicate-answered",
        "entry-refused",
        "load-shed",
        "handshake-refused",
        "refusals-counted",
        "handshake-accepted",
        "connection-closed",
        "cert-renewed",
        "renewal-failed",
        "schema-agreed",
        "schema-refused",
        "clock-anomaly",
        "memory-used",
        "call-started",
        "call-message",
        "call-ended",
        "entry-accepted",
        "outbox-recovered",
        "retry",
        "receipt-verified",
        "receipt-rejected",
        "checkpoint-kept",
        "dead-lettered",
        "parked",
        "resumed",
        "outbox-rolled-back",
        "outbox-full",
        "tail-started",
        "leaf-read",
        "bounded-read",
        "linearizable-read",
    ];
}

/// Writes how many bytes were left out, as a number in JSON. A serializer for a binary format gets no number if no
/// bytes were left out: it is given all bytes.
mod omitted_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(omitted: &u64, to: S) -> Result<S::Ok, S::Error> {
        if *omitted == 0 && !to.is_human_readable() {
            return to.serialize_unit();
        }
        to.serialize_u64(*omitted)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        u64::deserialize(from)
    }
}

/// Bytes as base64 text in JSON, and as they are in a binary format.
pub mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes base64, or the bytes themselves.
    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_bytes(bytes);
        }
        to.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
