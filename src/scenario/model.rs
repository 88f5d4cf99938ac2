//! A scenario as the engineer wrote it, checked: the cluster, the workload, the steps, and what we expect to see.
//!
//! A value of these types that came out of [`parse`](super::parse()) keeps every rule of the file format. Nothing in it
//! has been decided yet: which server `any-server` means is decided in the [`Plan`](super::Plan).

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

pub use crate::{
    check::KnownViolation,
    fault::{Action, HostRef, Link},
    history::Moment,
};

use crate::{check, fault::Rate};

/// One scenario file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// One line, without control characters.
    pub title: String,
    /// Why the scenario exists; may be empty, may have several lines.
    pub story: String,
    /// The cluster that the harness builds.
    pub cluster: Cluster,
    /// What the clients do.
    pub workload: Workload,
    /// The steps, in the order of the file; at most [`STEPS_MAX`].
    pub steps: Vec<Step>,
    /// What we expect to see.
    pub expect: Expect,
    /// Seeds that are always run as well.
    pub seeds: Vec<u64>,
    /// A violation that is known and not yet cured.
    pub known_violation: Option<KnownViolation>,
    /// The path from which it was read.
    pub path: PathBuf,
    /// The whole text of the file.
    pub source: Arc<str>,
}

/// The largest number of steps in one scenario.
pub const STEPS_MAX: usize = 1_000;

/// What the harness builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The number of servers, 1 to 9.
    pub servers: u32,
    /// The network's own one-way latency between any two hosts, 1 ms to 10 s.
    pub latency: Duration,
    /// How long before the end of its certificate a server or client asks the host `issuer` for a new one. `None`:
    /// there is no issuer, and certificates outlast the run.
    pub renew_before: Option<Duration>,
    /// The wall clock at the start of the run, in seconds since 1970.
    pub wall_clock: i64,
    /// The bytes for all queues and caches of a process together.
    pub memory: u64,
    /// The largest payload that servers accept, in bytes, within [`Sizes::payload_max`]. `None`: the most that the log
    /// can take.
    pub payload_max: Option<u64>,
    /// The bytes that a disk writes whole or not at all, one of [`SECTORS`].
    pub sector: u64,
    /// The size in bytes, within [`Sizes::segment`], at which a file of a server's log or of a client's outbox is
    /// closed, behind the sync in which it grew past that size, and the next one is begun. `None`: the default of the
    /// log.
    pub segment: Option<u64>,
}

/// The sizes that the log under test accepts. A file that asks for others is refused at the place where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// The largest entry of a workload, in bytes; at least 64.
    pub entry_max: u64,
    /// The largest payload that any server can be configured to accept, in bytes.
    pub payload_max: u64,
    /// The sizes in bytes at which a file of the log can be configured to be closed.
    pub segment: RangeInclusive<u64>,
}

/// The sizes that a file can give, whatever the log: entries and payloads of up to 1 MiB, segments of 4 KiB to 1 GiB.
impl Default for Sizes {
    fn default() -> Self {
        Sizes { entry_max: 1 << 20, payload_max: 1 << 20, segment: 4 << 10..=1 << 30 }
    }
}

/// The sector sizes that disks may have, in bytes; the first is the default.
pub const SECTORS: [u64; 2] = [512, 4_096];

/// The wall clock at the start of a run, unless the file gives one: 2026-01-01T00:00:00Z.
pub const WALL_CLOCK_DEFAULT: i64 = 1_767_225_600;

/// The bytes for all queues and caches of a process together, unless the file gives them.
pub const MEMORY_DEFAULT: u64 = 64 << 20;

/// The latency between any two hosts, unless the file gives one: that of two zones of one region, and the longest tick.
pub const LATENCY_DEFAULT: Duration = Duration::from_millis(5);

/// What the clients do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The number of clients, 1 to 64.
    pub clients: u32,
    /// The appends that all clients together offer, whether or not the log keeps up.
    pub appends: Rate,
    /// How long the workload lasts (`for`), 1 s to 24 h, counted from t = 0.
    pub duration: Duration,
    /// The call that appends entries.
    pub call: Call,
    /// The size of each payload in bytes, 64 to 61,440.
    pub size: u64,
    /// Every n-th entry of each client is larger than `payload_max` by half; n is at least 2. `None`: no entry is.
    pub oversize_every: Option<u64>,
}

/// The size of each payload in bytes, unless the file gives one.
pub const SIZE_DEFAULT: u64 = 256;

/// The call by which entries are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// One call per batch.
    #[default]
    Append,
    /// One long stream.
    AppendStream,
}

impl Call {
    /// The names in scenario files.
    pub const NAMES: &'static [(&'static str, Call)] =
        &[("append", Call::Append), ("append-stream", Call::AppendStream)];
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name; the name of the action if none was given. Two steps may share a name only if nothing refers to it.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// When it begins.
    pub start: Start,
    /// How long it lasts. `None`: until the final heal, or no time at all (see [`Step::is_instant`]).
    pub duration: Option<Duration>,
    /// The line of its `[[step]]`, from 1.
    pub line: usize,
}

impl Step {
    /// Returns whether it happens at one instant and so never heals.
    pub fn is_instant(&self) -> bool {
        self.action.fault().end == crate::fault::End::Instant
    }
}

/// When a step begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// This long after t = 0, the moment at which every client has had one append acknowledged.
    At(Duration),
    /// After a moment.
    After {
        /// The moment.
        moment: Moment,
        /// The time between the moment and the beginning.
        wait: Duration,
        /// The moment counts only from this one on; only with [`Moment::First`].
        since: Option<Moment>,
    },
}

/// What the engineer expects to see.
pub type Expect = check::Expect<EventPattern>;

/// An event of the log, narrowed by the fields that are given.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPattern {
    /// Its name, one of [`LogEvent::NAMES`](gapless_world::LogEvent::NAMES).
    pub event: String,
    /// Reported by one of these hosts (`on` or `by`: whichever reads better).
    pub on: Option<Vec<HostRef>>,
    /// Only while this step lasts; never a step that happens at one instant.
    pub during: Option<String>,
    /// Only at or after this moment.
    pub after: Option<Moment>,
    /// Only with this reason (the event's `reason`, `why` or `status`).
    pub reason: Option<String>,
    /// Its line, from 1.
    pub line: usize,
}

impl Scenario {
    /// The time allowed for the cluster to come up and for every client's first acknowledgement, before t = 0.
    pub const STARTUP: Duration = Duration::from_secs(60);
    /// The time allowed for the last reads once everything has recovered.
    pub const SETTLE: Duration = Duration::from_secs(60);

    /// Returns the name of the file without folder and ending, which reports and tests use.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario")
    }

    /// Returns the names of the servers in order: `server-1` and so on.
    pub fn server_names(&self) -> Vec<String> {
        (1..=self.cluster.servers).map(|n| HostRef::Server(n).to_string()).collect()
    }

    /// Returns the names of the clients in order: `client-1` and so on.
    pub fn client_names(&self) -> Vec<String> {
        (1..=self.workload.clients).map(|n| HostRef::Client(n).to_string()).collect()
    }

    /// Returns the longest that a run can take in simulated time: start-up, the workload and any step that outlasts it,
    /// recovery, settling. A step begins before the end of the workload or not at all, so this is a true bound; a run
    /// that reaches it hangs.
    pub fn horizon(&self) -> Duration {
        let work = self.workload.duration;
        let ends = self.steps.iter().map(|step| {
            let length = step.duration.unwrap_or_default();
            match &step.start {
                Start::At(at) => at.saturating_add(length),
                Start::After { .. } => work.saturating_add(length),
            }
        });
        let end = ends.max().unwrap_or_default().max(work);
        end.saturating_add(Self::STARTUP).saturating_add(self.expect.recovers_within).saturating_add(Self::SETTLE)
    }

    /// Returns the step of this name, if exactly one step has it.
    pub fn step(&self, name: &str) -> Option<&Step> {
        let mut named = self.steps.iter().filter(|step| step.name == name);
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }

    /// Returns the same scenario as if it were in another file. Lines stay as they were.
    pub fn at_path(mut self, path: &Path) -> Self {
        self.path = path.to_owned();
        self
    }
}
