//! The events of a history, in the words that checkers and reports share.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use gapless_world::{LogEvent, observer::base64_bytes};
use serde::{Deserialize, Serialize};

/// The name of a host, a step or a client.
pub type Name = Arc<str>;

/// Simulated (or, in a drill, monotonic) time since the run began.
pub type RunClock = Duration;

/// One entry of the workload. `number` counts from 0 per client, over all lives of that client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The client host that submits it.
    pub client: Name,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.client, self.number)
    }
}

/// What the caller of `append` knows afterwards. Its variants are those of the history's file; [`Outcome::acked`],
/// [`refused`](Outcome::refused) and [`unknown`](Outcome::unknown) are shorter to write, and a `tonic::Status` or a
/// [`Failure`](crate::Failure) becomes an unknown outcome by `into()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The entry was acknowledged: from then on it must be found, unchanged, whatever fails. `at` is its index, if one
    /// was told.
    Acked {
        /// The position in the log. Written as `index`: an outcome is flattened into its event, whose `at` is a time.
        #[serde(rename = "index")]
        at: Option<u64>,
    },
    /// The entry was definitely not written and never will be. If it turns up later, that is a violation.
    Refused {
        /// The reason, in the log's words.
        why: String,
    },
    /// Anything else: a timeout, a reset, a cancelled call. The entry may turn up once, or never.
    Unknown {
        /// The reason, in the log's words.
        why: String,
    },
}

/// How a host went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down {
    /// The process died; the kernel, its page cache and its FINs live on.
    Crash,
    /// Everything not synced is gone, and nobody was told.
    PowerLoss,
    /// It ended by itself, without an error: because it was asked to stop, or without a known reason.
    Stop,
    /// It was asked to stop, went on running for longer than any supervisor waits, and was killed.
    Killed,
}

/// An operation of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named as the methods of `Disk` and `File`")]
pub enum DiskOp {
    Open,
    Append,
    Write,
    Read,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncFolder,
}

/// One thing that a reader found in the log under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Its position, as the log counts.
    pub position: u64,
    /// The workload's entry that was recognised in it, if any. Logs hold other things too.
    pub entry: Option<EntryId>,
    /// Whether the entry counts. A log may hold void repeats that it knows to be void.
    pub counts: bool,
    /// The client, the epoch and the sequence, if the log numbers its clients' entries.
    pub numbered: Option<(Name, u64, u64)>,
    /// The bytes of the entry as the reader got them, for byte equality. Empty for positions that hold no entry.
    #[serde(with = "base64_bytes")]
    pub bytes: Bytes,
    /// For a Merkle log, the whole leaf: its hash is SHA-256 over 0x00 and these bytes (RFC 6962).
    pub leaf: Option<LeafBytes>,
}

/// Bytes as base64 inside an `Option`.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeafBytes(#[serde(with = "base64_bytes")] pub Bytes);

impl PartialEq for LeafBytes {
    fn eq(&self, other: &LeafBytes) -> bool {
        same_bytes(&self.0, &other.0)
    }
}

/// Returns whether they are equal. A history holds large contents once, so most equal contents need not be compared.
pub(crate) fn same_bytes(one: &Bytes, other: &Bytes) -> bool {
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}

/// What happened to a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "moment")]
#[allow(missing_docs, reason = "named as in scenario files")]
pub enum StepEvent {
    /// The step began: its hosts or links are resolved, the fault is applied.
    Begins { hosts: Vec<Name> },
    /// The first evidence that the step bit came.
    Bites { evidence: String },
    /// A step that repeats what it does did it for the `n`th time, from 1: a host of a rollout serves again, a process
    /// crashed, a reply was flipped.
    Nth { n: u32 },
    /// The step ended; `evidence` sums up everything that it did, `None` if it left no trace.
    Ended { evidence: Option<String> },
    /// The step never ran.
    NotRun { why: String },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "what")]
pub enum What {
    /// t = 0: every client has had one append acknowledged.
    Began {},
    /// The workload offers nothing new from here on.
    WorkloadEnded {},
    /// The last fault has been lifted.
    Healed {},
    /// The settle phase is over: either everything owed was delivered or its time is up.
    Settled {
        /// Whether nothing was left to deliver.
        quiet: bool,
    },
    /// Something happened to a step of the scenario.
    Step {
        /// The name of the step.
        step: Name,
        /// What happened to it.
        #[serde(flatten)]
        event: StepEvent,
    },
    /// The host runs, for the `life`-th time, counted from 1.
    Up {
        /// The number of the life.
        life: u32,
    },
    /// The schema revision that this life of the host runs.
    Runs {
        /// The role of the revision in a rollout.
        revision: String,
    },
    /// The host's software was asked to stop, as with SIGTERM.
    StopRequested {},
    /// The host is down.
    Down {
        /// How it went down.
        how: Down,
    },
    /// The host's data folder was replaced by an empty one: everything in it is gone, on purpose.
    Wiped {},
    /// The host's data folder was put back to what it held at an earlier time: what was written since is forgotten, on
    /// purpose.
    Rewound {
        /// The time of the image.
        #[serde(with = "nanoseconds")]
        to: RunClock,
    },
    /// The software on the host ended by itself with an error; the harness restarts it as a supervisor would.
    Failed {
        /// The error, with its causes.
        error: String,
    },
    /// The host stands still, or goes on.
    Paused {
        /// Whether it stands still from now on.
        paused: bool,
    },
    /// The host's wall clock was set. From now on it shows the time that it would show if nothing were wrong (the
    /// header's epoch and the time since the run began), plus `offset`, plus `rate-ppm` millionths of the time since
    /// now.
    Clock {
        /// The nanoseconds by which it is ahead of the true time at this moment.
        offset: i64,
        /// How much faster it runs than true time, in parts per million.
        rate_ppm: i64,
    },
    /// The host's software may use this much memory for its queues and caches from now on.
    Memory {
        /// The number of bytes.
        budget: u64,
    },
    /// A disk operation of interest: every sync, and everything that failed or was lost.
    Disk {
        /// The operation.
        op: DiskOp,
        /// The file, relative to the data folder.
        path: String,
        /// The number of bytes concerned.
        bytes: u64,
        /// The error that the caller got, if any.
        error: Option<String>,
    },
    /// A power loss took these bytes: they were written and not synced.
    Lost {
        /// The file, relative to the data folder.
        path: String,
        /// The number of bytes lost.
        bytes: u64,
        /// The number of bytes of writes that survived in part.
        torn: u64,
    },
    /// A power loss took a name: it had been made by creating, renaming or making a folder, and the folder that
    /// contains it had not been synced since. What the name led to may have been synced, and is gone with it.
    LostName {
        /// The file or folder, relative to the data folder.
        path: String,
        /// When the name was made.
        #[serde(with = "nanoseconds")]
        made: RunClock,
        /// The bytes of the files that are gone with it.
        bytes: u64,
    },
    /// From now on every read of these bytes returns something else than what was written, and no error: the disk
    /// rotted, or a power loss showed that it had lied.
    Damaged {
        /// The file, relative to the data folder.
        path: String,
        /// The offset in the file.
        offset: u64,
        /// The number of bytes.
        bytes: u64,
        /// The fault of the catalogue that damaged them.
        fault: String,
    },
    /// These bytes were damaged and are right again, as if their file had been restored from a good copy.
    Mended {
        /// The file, relative to the data folder.
        path: String,
        /// The offset in the file.
        offset: u64,
        /// The number of bytes.
        bytes: u64,
    },
    /// A certificate was installed at the host, in place of any other. Its software may not have noticed yet.
    Certificate {
        /// The serial number.
        serial: u64,
        /// The first DNS name in it.
        name: String,
        /// The name of the authority that signed it.
        authority: String,
        /// The first second of its validity, since 1970.
        not_before: i64,
        /// The last second of its validity, since 1970.
        not_after: i64,
        /// Whether it is good for the server's end of a connection.
        for_servers: bool,
        /// Whether it is good for the client's end of a connection.
        for_clients: bool,
        /// The names of the authorities that the host is to trust with it.
        trusts: Vec<String>,
        /// Why it was installed.
        why: String,
    },
    /// The software on the host took up the certificate with this serial number, and the authorities trusted with it.
    Took {
        /// The serial number.
        serial: u64,
    },
    /// The host has connected to another.
    Connected {
        /// The host that it connected to.
        peer: Name,
        /// The number of the connection in this run.
        connection: u64,
        /// When the host began to connect. The certificate that it shows on this connection was taken up by then.
        #[serde(with = "nanoseconds")]
        dialled: RunClock,
    },
    /// That connection is over for the host that made it.
    Disconnected {
        /// The number of the connection.
        connection: u64,
    },
    /// The workload hands an entry to the client.
    Submitted {
        /// The entry.
        entry: EntryId,
        /// Its bytes.
        #[serde(with = "base64_bytes")]
        bytes: Bytes,
    },
    /// The client's `append` came back (or its host died: `Unknown`).
    Returned {
        /// The entry.
        entry: EntryId,
        /// The outcome.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// At the end, a client reports what it still holds, by its own count.
    Holds {
        /// Entries still to be delivered.
        outbox: Vec<EntryId>,
        /// Entries that were rejected for good and kept.
        dead_letters: Vec<EntryId>,
    },
    /// A reader begins to read a server from the first entry. Finds and the end follow with the same `reading`.
    ReadingBegan {
        /// The number of the reading in this run.
        reading: u32,
        /// The server.
        server: Name,
        /// Whether this is one of the auditor's last readings, after everything has healed.
        last: bool,
    },
    /// A reading found this.
    Found {
        /// The number of the reading.
        reading: u32,
        /// What it found.
        found: Found,
    },
    /// A follower (a tail that resumes by itself) was given this.
    Followed {
        /// What it was given.
        found: Found,
    },
    /// A reading saw or verified a checkpoint: size and RFC 6962 root, in hex.
    CheckpointRead {
        /// The number of the reading.
        reading: u32,
        /// The number of leaves.
        size: u64,
        /// The root in lower-case hex.
        root: String,
    },
    /// The reading ended, with an error if it did not reach the end of the log.
    ReadingEnded {
        /// The number of the reading.
        reading: u32,
        /// Why it stopped early.
        error: Option<String>,
    },
    /// The software under test marked something rare.
    Marked {
        /// The text of the mark.
        mark: String,
    },
    /// The log under test reported something about itself.
    Log {
        /// The event. It is nested, not flattened: its fields are the log's own and may be called `what` or `at`.
        #[serde(rename = "log")]
        event: LogEvent,
    },
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    #[serde(with = "nanoseconds")]
    pub at: RunClock,
    /// Where it happened: a host, or `harness`.
    pub host: Name,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Something that must hold whatever happens, named as in `gapless explain`. A log under test promises invariants and
/// is then held to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is explained in the file of its check")]
pub enum Invariant {
    AppendOnly,
    NoFork,
    NoGaps,
    AtMostOnce,
    AckedDurable,
    NoPhantoms,
    AccountedFor,
    Authentic,
    TrustedPeers,
    FaithfulReads,
    RealTimeOrder,
    NoSilentCorruption,
    StaysUp,
    StopsWhenAsked,
    DeadlinesKept,
    Recovers,
    BoundedMemory,
}

/// The invariants that a log under test promises, and those that it declines to, with reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promises {
    /// The invariants that the log is held to.
    pub kept: Vec<Invariant>,
    /// The invariants that are not judged, with the reason that every verdict prints.
    pub declined: Vec<(Invariant, String)>,
    /// Why an entry may be recorded more than once, if it may: this alone declines `at-most-once`.
    pub may_repeat: Option<String>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The version of this format.
    pub format: u32,
    /// The scenario's name: its file name without `.toml`.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The version and the source hash of the program that ran it.
    pub build: String,
    /// The true wall clock at the start of the run, in seconds since 1970.
    pub epoch: i64,
    /// The length of a tick.
    #[serde(with = "nanoseconds")]
    pub tick: Duration,
    /// The servers, in order.
    pub servers: Vec<Name>,
    /// The clients, in order.
    pub clients: Vec<Name>,
    /// What the log promises.
    pub promises: Promises,
    /// The C2SP vkey of the log, if it signs checkpoints.
    pub log_key: Option<String>,
    /// `[expect] recovers-within`.
    #[serde(with = "nanoseconds")]
    pub recovers_within: Duration,
}

mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}
