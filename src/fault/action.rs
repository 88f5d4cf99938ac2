//! A fault with its parameters filled in: what one step of a scenario does.
//!
//! An [`Action`] is generic over how hosts are named: as written in the file it holds [`HostRef`]s; in a plan it holds
//! the hosts that the seed made of them. Everything that differs from fault to fault is in the file of that fault. This
//! file holds only the shapes: code that performs an action matches on them, so the compiler reports a new one.

use std::time::Duration;

use serde::Serialize;

use super::{
    Fault, HostRef, Link, Rate, Value, bit_flip, bit_rot, blackhole, ca_rotate, cert_expire, cert_mismatch,
    cert_rotate, churn, clock_drift, clock_jump, clock_skew, crash, disk_error, disk_full, fsync_error, isolate,
    latency, memory_pressure, misdirected_write, partition, pause, power_loss, refuse, replace, reset, restart,
    rollback, rolling_upgrade, slow_disk, slow_reader, surge, torn_write, upgrade, wipe,
};

/// What a step does. `on` is never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action<T = Vec<HostRef>> {
    /// The process ends at once; the operating system and its page cache survive.
    Crash {
        /// The hosts.
        on: T,
    },
    /// The machine loses power: what was not synced is gone or torn.
    PowerLoss {
        /// The hosts.
        on: T,
    },
    /// A graceful stop, then a start. The step's duration is the time between the two.
    Restart {
        /// The hosts.
        on: T,
    },
    /// Crashes again and again.
    Churn {
        /// The hosts.
        on: T,
        /// The time from one crash to the next.
        every: Duration,
        /// How long the process stays down each time; shorter than `every`.
        down: Duration,
    },
    /// The process stands still; its connections stay open.
    Pause {
        /// The hosts.
        on: T,
    },
    /// Nothing passes; everything flows on at the heal.
    Partition {
        /// Which link.
        link: Link<T>,
    },
    /// What is sent is swallowed; connections that lost bytes are dead after the heal.
    Blackhole {
        /// Which link.
        link: Link<T>,
    },
    /// New connections are refused at once.
    Refuse {
        /// Which link. If it is one-way, `from` is the end that connects.
        link: Link<T>,
    },
    /// A partition from every host that is not in `on`.
    Isolate {
        /// The hosts that are isolated, as one group.
        on: T,
    },
    /// Open connections are reset.
    Reset {
        /// Which link; always in both directions.
        link: Link<T>,
    },
    /// Bytes arrive later.
    Latency {
        /// Which link.
        link: Link<T>,
        /// How much later, on top of the latency of the network.
        delay: Duration,
        /// Up to this much later still, drawn for each piece of data; zero for none.
        jitter: Duration,
    },
    /// One bit of a reply is flipped in the server's memory, before TLS.
    BitFlip {
        /// Which servers.
        on: T,
        /// The time from one flipped reply to the next.
        every: Duration,
    },
    /// Hosts are slow to read what they are sent.
    SlowReader {
        /// The hosts.
        on: T,
        /// The bytes a second that a host takes from each of its connections.
        bytes: u64,
    },
    /// A certificate expires at the step's moment.
    CertExpire {
        /// The hosts.
        on: T,
        /// Whether open connections are reset at that moment.
        reconnect: bool,
    },
    /// A fresh certificate replaces the old one. It is valid from this moment on, by the issuer's clock.
    CertRotate {
        /// The hosts.
        on: T,
        /// Whether open connections are reset, so that the certificate is presented at once.
        reconnect: bool,
    },
    /// A host presents a certificate that nobody should accept.
    CertMismatch {
        /// The hosts.
        on: T,
        /// What is wrong with the certificate.
        wrong: Mismatch,
        /// Whether open connections are reset, so that the certificate is presented at once.
        reconnect: bool,
    },
    /// A new certificate authority takes the place of the old one.
    CaRotate {
        /// The hosts that are told to renew at once. The others learn of the new authority when they renew by
        /// themselves.
        on: T,
        /// How long both authorities are trusted before the new one signs, and again before the old one is dropped. If
        /// zero, the old one is dropped at once.
        overlap: Duration,
        /// Whether open connections are reset once the new authority signs.
        reconnect: bool,
    },
    /// The wall clock is wrong by a constant.
    ClockSkew {
        /// The hosts.
        on: T,
        /// The error, in milliseconds.
        offset: i64,
    },
    /// The wall clock runs too fast or too slow.
    ClockDrift {
        /// The hosts.
        on: T,
        /// The error of the rate, in parts per million.
        drift: i32,
        /// The error that the clock already has when the step begins, in milliseconds.
        offset: i64,
    },
    /// The wall clock jumps, from whatever it shows.
    ClockJump {
        /// The hosts.
        on: T,
        /// How far the clock jumps, in milliseconds.
        by: i64,
    },
    /// A graceful stop, then a start at another schema revision.
    Upgrade {
        /// The hosts.
        on: T,
        /// Which revision.
        to: Role,
    },
    /// The same, one host after the other. The next host follows only once the previous one serves.
    RollingUpgrade {
        /// The hosts, in this order.
        on: T,
        /// Which revision.
        to: Role,
        /// The time from the moment at which one host serves again to the stop of the next.
        pause: Duration,
    },
    /// A host returns to the revision that it ran before its present one.
    Rollback {
        /// The hosts.
        on: T,
    },
    /// Queues and caches have to make do with less memory.
    MemoryPressure {
        /// The hosts.
        on: T,
        /// The budget, in bytes.
        budget: u64,
    },
    /// The machine loses power, and its disk is empty when it comes back.
    Wipe {
        /// The hosts.
        on: T,
    },
    /// The machine is lost for good, and an operator puts an empty one in its place.
    Replace {
        /// The hosts.
        on: T,
    },
    /// A sync fails, and what it covered is marked clean without having been written.
    FsyncError {
        /// The hosts.
        on: T,
        /// Which sync, counted from 1 at the step's beginning.
        nth: u64,
        /// Whether every later sync fails too.
        onwards: bool,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Reads or writes fail.
    DiskError {
        /// The hosts.
        on: T,
        /// What fails.
        access: Access,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Files can no longer grow.
    DiskFull {
        /// The hosts.
        on: T,
        /// The bytes that still fit.
        free: u64,
    },
    /// Syncs and reads take longer.
    SlowDisk {
        /// The hosts.
        on: T,
        /// How much longer.
        latency: Duration,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Only the beginning of one write reaches the platter, although a sync reports success.
    TornWrite {
        /// The hosts.
        on: T,
        /// Which of the writes that can be torn, counted from 1 at the step's beginning.
        nth: u64,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Bits of durable bytes flip.
    BitRot {
        /// The hosts.
        on: T,
        /// How many bits.
        bits: u64,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// One write lands in the wrong place.
    MisdirectedWrite {
        /// The hosts.
        on: T,
        /// Which write, counted from 1 at the step's beginning.
        nth: u64,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Clients offer more entries than usual.
    Surge {
        /// What all clients together offer on top of the workload.
        appends: Rate,
    },
}

impl<T> Action<T> {
    /// Returns its entry in the catalogue.
    pub fn fault(&self) -> &'static Fault {
        match self {
            Action::Crash { .. } => &crash::FAULT,
            Action::PowerLoss { .. } => &power_loss::FAULT,
            Action::Restart { .. } => &restart::FAULT,
            Action::Churn { .. } => &churn::FAULT,
            Action::Pause { .. } => &pause::FAULT,
            Action::Partition { .. } => &partition::FAULT,
            Action::Blackhole { .. } => &blackhole::FAULT,
            Action::Refuse { .. } => &refuse::FAULT,
            Action::Isolate { .. } => &isolate::FAULT,
            Action::Reset { .. } => &reset::FAULT,
            Action::Latency { .. } => &latency::FAULT,
            Action::BitFlip { .. } => &bit_flip::FAULT,
            Action::SlowReader { .. } => &slow_reader::FAULT,
            Action::CertExpire { .. } => &cert_expire::FAULT,
            Action::CertRotate { .. } => &cert_rotate::FAULT,
            Action::CertMismatch { .. } => &cert_mismatch::FAULT,
            Action::CaRotate { .. } => &ca_rotate::FAULT,
            Action::ClockSkew { .. } => &clock_skew::FAULT,
            Action::ClockDrift { .. } => &clock_drift::FAULT,
            Action::ClockJump { .. } => &clock_jump::FAULT,
            Action::Upgrade { .. } => &upgrade::FAULT,
            Action::RollingUpgrade { .. } => &rolling_upgrade::FAULT,
            Action::Rollback { .. } => &rollback::FAULT,
            Action::MemoryPressure { .. } => &memory_pressure::FAULT,
            Action::Wipe { .. } => &wipe::FAULT,
            Action::Replace { .. } => &replace::FAULT,
            Action::FsyncError { .. } => &fsync_error::FAULT,
            Action::DiskError { .. } => &disk_error::FAULT,
            Action::DiskFull { .. } => &disk_full::FAULT,
            Action::SlowDisk { .. } => &slow_disk::FAULT,
            Action::TornWrite { .. } => &torn_write::FAULT,
            Action::BitRot { .. } => &bit_rot::FAULT,
            Action::MisdirectedWrite { .. } => &misdirected_write::FAULT,
            Action::Surge { .. } => &surge::FAULT,
        }
    }

    /// Returns its name in scenario files.
    pub fn name(&self) -> &'static str {
        self.fault().name
    }

    /// Returns the hosts that it strikes, if it acts on hosts.
    pub fn on(&self) -> Option<&T> {
        match self {
            Action::Crash { on }
            | Action::PowerLoss { on }
            | Action::Restart { on }
            | Action::Churn { on, .. }
            | Action::Pause { on }
            | Action::Isolate { on }
            | Action::BitFlip { on, .. }
            | Action::SlowReader { on, .. }
            | Action::CertExpire { on, .. }
            | Action::CertRotate { on, .. }
            | Action::CertMismatch { on, .. }
            | Action::CaRotate { on, .. }
            | Action::ClockSkew { on, .. }
            | Action::ClockDrift { on, .. }
            | Action::ClockJump { on, .. }
            | Action::Upgrade { on, .. }
            | Action::RollingUpgrade { on, .. }
            | Action::Rollback { on }
            | Action::MemoryPressure { on, .. }
            | Action::Wipe { on }
            | Action::Replace { on }
            | Action::FsyncError { on, .. }
            | Action::DiskError { on, .. }
            | Action::DiskFull { on, .. }
            | Action::SlowDisk { on, .. }
            | Action::TornWrite { on, .. }
            | Action::BitRot { on, .. }
            | Action::MisdirectedWrite { on, .. } => Some(on),
            _ => None,
        }
    }

    /// Returns the link that it strikes, if it acts on a link.
    pub fn link(&self) -> Option<&Link<T>> {
        match self {
            Action::Partition { link }
            | Action::Blackhole { link }
            | Action::Refuse { link }
            | Action::Reset { link }
            | Action::Latency { link, .. } => Some(link),
            _ => None,
        }
    }

    /// Returns its parameters, without hosts and links, by their names in the file.
    pub fn values(&self) -> Vec<(&'static str, Value)> {
        let duration = |name, value: &Duration| (name, Value::Duration(*value));
        let files = |path: &String| ("path", Value::Path(path.clone()));
        match self {
            Action::Churn { every, down, .. } => vec![duration("every", every), duration("down", down)],
            Action::Latency { delay, jitter, .. } => vec![duration("delay", delay), duration("jitter", jitter)],
            Action::BitFlip { every, .. } => vec![duration("every", every)],
            Action::SlowReader { bytes, .. } => vec![("bytes", Value::Size(*bytes))],
            Action::CertExpire { reconnect, .. } | Action::CertRotate { reconnect, .. } => {
                vec![("reconnect", Value::Flag(*reconnect))]
            }
            Action::CertMismatch { wrong, reconnect, .. } => {
                vec![("wrong", Value::Word(wrong.word())), ("reconnect", Value::Flag(*reconnect))]
            }
            Action::CaRotate { overlap, reconnect, .. } => {
                vec![duration("overlap", overlap), ("reconnect", Value::Flag(*reconnect))]
            }
            Action::ClockSkew { offset, .. } => vec![("offset", Value::Offset(*offset))],
            Action::ClockDrift { drift, offset, .. } => {
                vec![("drift", Value::Drift(*drift)), ("offset", Value::Offset(*offset))]
            }
            Action::ClockJump { by, .. } => vec![("by", Value::Offset(*by))],
            Action::Upgrade { to, .. } => vec![("to", Value::Word(to.word()))],
            Action::RollingUpgrade { to, pause, .. } => {
                vec![("to", Value::Word(to.word())), duration("pause", pause)]
            }
            Action::MemoryPressure { budget, .. } => vec![("budget", Value::Size(*budget))],
            Action::FsyncError { nth, onwards, path, .. } => {
                vec![("nth", Value::Count(*nth)), ("onwards", Value::Flag(*onwards)), files(path)]
            }
            Action::DiskError { access, path, .. } => vec![("access", Value::Word(access.word())), files(path)],
            Action::DiskFull { free, .. } => vec![("free", Value::Size(*free))],
            Action::SlowDisk { latency, path, .. } => vec![duration("latency", latency), files(path)],
            Action::TornWrite { nth, path, .. } | Action::MisdirectedWrite { nth, path, .. } => {
                vec![("nth", Value::Count(*nth)), files(path)]
            }
            Action::BitRot { bits, path, .. } => vec![("bits", Value::Count(*bits)), files(path)],
            Action::Surge { appends } => vec![("appends", Value::Rate(*appends))],
            _ => Vec::new(),
        }
    }

    /// Returns the same action with hosts named in another way. `each` is called for the groups in the order of the
    /// file.
    pub fn map<U>(&self, each: &mut impl FnMut(&T) -> U) -> Action<U> {
        match self {
            Action::Crash { on } => Action::Crash { on: each(on) },
            Action::PowerLoss { on } => Action::PowerLoss { on: each(on) },
            Action::Restart { on } => Action::Restart { on: each(on) },
            Action::Churn { on, every, down } => Action::Churn { on: each(on), every: *every, down: *down },
            Action::Pause { on } => Action::Pause { on: each(on) },
            Action::Partition { link } => Action::Partition { link: link.map(each) },
            Action::Blackhole { link } => Action::Blackhole { link: link.map(each) },
            Action::Refuse { link } => Action::Refuse { link: link.map(each) },
            Action::Isolate { on } => Action::Isolate { on: each(on) },
            Action::Reset { link } => Action::Reset { link: link.map(each) },
            Action::Latency { link, delay, jitter } => {
                Action::Latency { link: link.map(each), delay: *delay, jitter: *jitter }
            }
            Action::BitFlip { on, every } => Action::BitFlip { on: each(on), every: *every },
            Action::SlowReader { on, bytes } => Action::SlowReader { on: each(on), bytes: *bytes },
            Action::CertExpire { on, reconnect } => Action::CertExpire { on: each(on), reconnect: *reconnect },
            Action::CertRotate { on, reconnect } => Action::CertRotate { on: each(on), reconnect: *reconnect },
            Action::CertMismatch { on, wrong, reconnect } => {
                Action::CertMismatch { on: each(on), wrong: *wrong, reconnect: *reconnect }
            }
            Action::CaRotate { on, overlap, reconnect } => {
                Action::CaRotate { on: each(on), overlap: *overlap, reconnect: *reconnect }
            }
            Action::ClockSkew { on, offset } => Action::ClockSkew { on: each(on), offset: *offset },
            Action::ClockDrift { on, drift, offset } => {
                Action::ClockDrift { on: each(on), drift: *drift, offset: *offset }
            }
            Action::ClockJump { on, by } => Action::ClockJump { on: each(on), by: *by },
            Action::Upgrade { on, to } => Action::Upgrade { on: each(on), to: *to },
            Action::RollingUpgrade { on, to, pause } => Action::RollingUpgrade { on: each(on), to: *to, pause: *pause },
            Action::Rollback { on } => Action::Rollback { on: each(on) },
            Action::MemoryPressure { on, budget } => Action::MemoryPressure { on: each(on), budget: *budget },
            Action::Wipe { on } => Action::Wipe { on: each(on) },
            Action::Replace { on } => Action::Replace { on: each(on) },
            Action::FsyncError { on, nth, onwards, path } => {
                Action::FsyncError { on: each(on), nth: *nth, onwards: *onwards, path: path.clone() }
            }
            Action::DiskError { on, access, path } => {
                Action::DiskError { on: each(on), access: *access, path: path.clone() }
            }
            Action::DiskFull { on, free } => Action::DiskFull { on: each(on), free: *free },
            Action::SlowDisk { on, latency, path } => {
                Action::SlowDisk { on: each(on), latency: *latency, path: path.clone() }
            }
            Action::TornWrite { on, nth, path } => Action::TornWrite { on: each(on), nth: *nth, path: path.clone() },
            Action::BitRot { on, bits, path } => Action::BitRot { on: each(on), bits: *bits, path: path.clone() },
            Action::MisdirectedWrite { on, nth, path } => {
                Action::MisdirectedWrite { on: each(on), nth: *nth, path: path.clone() }
            }
            Action::Surge { appends } => Action::Surge { appends: *appends },
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// Each word of a scenario file with its meaning.
            pub const WORDS: &'static [(&'static str, &'static str)] = &[$(($word, $text)),*];

            /// Returns the word in scenario files.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// Returns the meaning of a word, or `None` if it is not one of these words.
            pub fn read(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// What is wrong with a certificate that nobody should accept.
    Mismatch {
        Name = "name": "it is good, but was issued for another name",
        Issuer = "issuer": "an authority that nobody trusts has signed it",
        NotYetValid = "not-yet-valid": "it becomes valid only in a year",
        KeyUsage = "key-usage": "it is not meant for its end of a connection",
    }
}

words! {
    /// Which accesses to a disk fail.
    Access {
        Both = "both": "reads and writes fail",
        Reads = "reads": "only reads fail",
        Writes = "writes": "only writes fail",
    }
}

words! {
    /// A schema revision, by its role in a rollout.
    Role {
        Previous = "previous": "the revision before the current one",
        Current = "current": "the revision that every host runs when a run begins",
        Next = "next": "a compatible successor: new fields, new enum values",
        Breaking = "breaking": "a successor that is not compatible: a changed type, a re-used number",
    }
}
