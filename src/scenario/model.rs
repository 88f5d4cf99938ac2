//! A scenario as the engineer wrote it, checked: what stands, what runs, what happens when, what we want to see.
//!
//! A value of these types that came out of [`parse`](super::parse()) keeps every rule of the file format. Nothing in it
//! has been decided yet: which server `any-server` is belongs to the [`Plan`](super::Plan).

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

pub use crate::fault::{Action, HostRef, Link};

use crate::fault::Rate;

/// One scenario file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// One line, without control characters.
    pub title: String,
    /// Why it exists; may be empty, may have several lines.
    pub story: String,
    /// What stands.
    pub cluster: Cluster,
    /// What runs.
    pub workload: Workload,
    /// What happens, in the order of the file; at most [`STEPS_MAX`].
    pub steps: Vec<Step>,
    /// What we then want to see.
    pub expect: Expect,
    /// Seeds that are always run too.
    pub seeds: Vec<u64>,
    /// A violation that is known and not yet cured.
    pub known_violation: Option<KnownViolation>,
    /// Where it was read from.
    pub path: PathBuf,
    /// The whole text of the file.
    pub source: Arc<str>,
}

/// The most steps that one scenario may have.
pub const STEPS_MAX: usize = 1_000;

/// What the harness builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How many servers, 1 to 9.
    pub servers: u32,
    /// The network's own latency one way between any two hosts, 1 ms to 10 s.
    pub latency: Duration,
    /// Servers and clients ask the host `issuer` for a new certificate this long before their own ends. `None`: there is
    /// no issuer, and certificates outlast the run.
    pub renew_before: Option<Duration>,
    /// The wall clock at the start of the run, in seconds since 1970.
    pub wall_clock: i64,
    /// Bytes for all queues and caches of a process together.
    pub memory: u64,
    /// The largest payload that servers take, in bytes, within [`Sizes::payload_max`]. `None`: as much as the log can.
    pub payload_max: Option<u64>,
    /// Bytes that a disk writes whole or not at all, one of [`SECTORS`].
    pub sector: u64,
    /// A file of a server's log or of a client's outbox is closed behind the sync in which it grew past this many bytes,
    /// and the next one begun; within [`Sizes::segment`]. `None`: as the log has it.
    pub segment: Option<u64>,
}

/// The sizes that the log under test takes. A file that asks for others is refused at the place where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// The largest entry of a workload, in bytes; at least 64.
    pub entry_max: u64,
    /// The largest payload that any server can be told to take, in bytes.
    pub payload_max: u64,
    /// Sizes in bytes past which a file of the log can be told to be closed.
    pub segment: RangeInclusive<u64>,
}

/// Those that a file can say, whatever the log: entries and payloads of up to 1 MiB, segments of 4 KiB to 1 GiB.
impl Default for Sizes {
    fn default() -> Self {
        Sizes { entry_max: 1 << 20, payload_max: 1 << 20, segment: 4 << 10..=1 << 30 }
    }
}

/// The sectors that disks may have, in bytes; the first if a file does not say.
pub const SECTORS: [u64; 2] = [512, 4_096];

/// The wall clock at the start of a run if a file does not say: 2026-01-01T00:00:00Z.
pub const WALL_CLOCK_DEFAULT: i64 = 1_767_225_600;

/// Bytes for all queues and caches of a process together if a file does not say.
pub const MEMORY_DEFAULT: u64 = 64 << 20;

/// Latency between any two hosts if a file does not say: that of two zones of one region, and the longest tick.
pub const LATENCY_DEFAULT: Duration = Duration::from_millis(5);

/// What the clients do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// How many clients, 1 to 64.
    pub clients: u32,
    /// Appends offered by all clients together, whether or not the log keeps up.
    pub appends: Rate,
    /// For how long (`for`), 1 s to 24 h, counted from t = 0.
    pub duration: Duration,
    /// With which call.
    pub call: Call,
    /// Bytes of each payload, 64 to 61,440.
    pub size: u64,
    /// Every nth entry of each client is larger than `payload_max` by half; n is at least 2. `None`: no entry is.
    pub oversize_every: Option<u64>,
}

/// Bytes of each payload if a file does not say.
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
    /// Its name; the action's if none was given. Two steps may share a name only if nothing refers to it.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// When it begins.
    pub start: Start,
    /// For how long. `None`: until the final heal, or no length at all (see [`Step::is_instant`]).
    pub duration: Option<Duration>,
    /// The line of its `[[step]]`, from 1.
    pub line: usize,
}

impl Step {
    /// Whether it happens at one instant and so never heals.
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
        /// Which.
        moment: Moment,
        /// This much later.
        wait: Duration,
        /// The moment counts only from here on; only with [`Moment::First`].
        since: Option<Moment>,
    },
}

/// A moment that only the run knows. If it never comes, the step does not run and the verdict is inconclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// `STEP`: it has ended. A step that happens at one instant ends when it happens.
    Ended(String),
    /// `STEP:begins`.
    Begins(String),
    /// `STEP:bites`: its first evidence.
    Bites(String),
    /// `STEP:2`: the second time that the step does what it does repeatedly, from 1.
    Nth(String, u32),
    /// `first:EVENT`: the first such event from any host.
    First(String),
}

impl Moment {
    /// The step it speaks of.
    pub fn step(&self) -> Option<&str> {
        match self {
            Moment::Ended(step) | Moment::Begins(step) | Moment::Bites(step) | Moment::Nth(step, _) => Some(step),
            Moment::First(_) => None,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Ended(step) => f.write_str(step),
            Moment::Begins(step) => write!(f, "{step}:begins"),
            Moment::Bites(step) => write!(f, "{step}:bites"),
            Moment::Nth(step, n) => write!(f, "{step}:{n}"),
            Moment::First(event) => write!(f, "first:{event}"),
        }
    }
}

/// What the engineer wants to see. The invariants of the log are not here: they always hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// After the final heal each client's appends succeed within this time. Default 30 s.
    pub recovers_within: Duration,
    /// The longest time that one client with something to send may go without an acknowledgement; else only reported.
    pub blind_at_most: Option<Duration>,
    /// How many dead letters there are in all. Default 0.
    pub dead_letters: u64,
    /// How many appends of each client are acknowledged at least. Default 1.
    pub acked_at_least: u64,
    /// How many connections any one host may open, from t = 0 on, within any such length of time; else only reported.
    pub connections_at_most: Option<Rate>,
    /// Seen in every run.
    pub seen: Vec<EventPattern>,
    /// Seen in no run.
    pub never: Vec<EventPattern>,
    /// Seen at least once in a sweep; not judged in a single run.
    pub sometimes: Vec<EventPattern>,
}

impl Default for Expect {
    fn default() -> Self {
        Expect {
            recovers_within: Duration::from_secs(30),
            blind_at_most: None,
            dead_letters: 0,
            acked_at_least: 1,
            connections_at_most: None,
            seen: Vec::new(),
            never: Vec::new(),
            sometimes: Vec::new(),
        }
    }
}

/// An event of the log, narrowed by whatever is given.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPattern {
    /// Its name, one of [`LogEvent::NAMES`](gapless_world::LogEvent::NAMES).
    pub event: String,
    /// Told by one of these hosts (`on` or `by`: whichever reads better).
    pub on: Option<Vec<HostRef>>,
    /// While this step lasts; never a step that happens at one instant.
    pub during: Option<String>,
    /// At or after this moment.
    pub after: Option<Moment>,
    /// With this reason (the event's `reason`, `why` or `status`).
    pub reason: Option<String>,
    /// Its line, from 1.
    pub line: usize,
}

/// A violation that a scenario is known to show. It then exits 0, and fails once the violation no longer happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownViolation {
    /// Which invariant.
    pub invariant: String,
    /// Where it is discussed; an `http` or `https` address.
    pub issue: String,
    /// Text that its sentence holds. `None`: whichever violation of the invariant it is.
    pub saying: Option<String>,
}

/// The invariants that a known violation may name.
pub const INVARIANTS: &[&str] = &[
    "append-only",
    "no-fork",
    "no-gaps",
    "at-most-once",
    "acked-durable",
    "no-phantoms",
    "accounted-for",
    "authentic",
    "trusted-peers",
    "faithful-reads",
    "real-time-order",
    "no-silent-corruption",
    "stays-up",
    "stops-when-asked",
    "deadlines-kept",
    "recovers",
    "bounded-memory",
];

impl Scenario {
    /// Time allowed for the cluster to stand and for every client's first acknowledgement, before t = 0.
    pub const STARTUP: Duration = Duration::from_secs(60);
    /// Time allowed for the last reads once everybody has recovered.
    pub const SETTLE: Duration = Duration::from_secs(60);

    /// The name of the file without folder and ending: how reports and tests call it.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario")
    }

    /// The longest that a run can take in simulated time: start-up, the workload and whatever step outlasts it,
    /// recovery, settling. A step begins before the workload's end or not at all, so this is a true bound; a run
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

    /// The step of this name, if exactly one has it.
    pub fn step(&self, name: &str) -> Option<&Step> {
        let mut named = self.steps.iter().filter(|step| step.name == name);
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }

    /// The same scenario as if it stood in another file. Lines stay as they were.
    pub fn at_path(mut self, path: &Path) -> Self {
        self.path = path.to_owned();
        self
    }
}
