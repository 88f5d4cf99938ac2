//! A fault with its parameters filled in: what one step of a scenario does.
//!
//! Generic over how hosts are named: `Action` as written holds [`HostRef`]s, an action of a plan holds what the seed
//! made of them. Everything that differs from fault to fault stands in that fault's own file; here are only the
//! shapes, so that whoever performs an action matches on it and the compiler tells them of a new one.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    Fault, HostRef, Link, bit_flip, blackhole, churn, crash, isolate, latency, partition, pause, power_loss, refuse,
    reset, restart,
};

/// What a step does. `on` is never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action<T = Vec<HostRef>> {
    /// The process ends at once; the operating system and its page cache live on.
    Crash {
        /// Whose.
        on: T,
    },
    /// The machine loses power: what was not synced is gone or torn.
    PowerLoss {
        /// Whose.
        on: T,
    },
    /// A graceful stop, then a start. The step's duration is the time between the two.
    Restart {
        /// Whose.
        on: T,
    },
    /// Crashes again and again.
    Churn {
        /// Whose.
        on: T,
        /// From one crash to the next.
        every: Duration,
        /// How long it stays down each time; shorter than `every`.
        down: Duration,
    },
    /// The process stands still, its connections stay.
    Pause {
        /// Whose.
        on: T,
    },
    /// Nothing passes; everything flows on at the heal.
    Partition {
        /// Where.
        link: Link<T>,
    },
    /// What is sent is swallowed; connections that lost bytes are dead after the heal.
    Blackhole {
        /// Where.
        link: Link<T>,
    },
    /// New connections are refused at once.
    Refuse {
        /// Where; with one way, `from` is who connects.
        link: Link<T>,
    },
    /// A partition from every host that is not in `on`.
    Isolate {
        /// Who is alone, together.
        on: T,
    },
    /// Open connections are reset.
    Reset {
        /// Where; always both ways.
        link: Link<T>,
    },
    /// Bytes arrive later.
    Latency {
        /// Where.
        link: Link<T>,
        /// By how much, on top of the network's own latency.
        delay: Duration,
        /// Up to this much more, drawn for each piece of data; zero for none.
        jitter: Duration,
    },
    /// One bit of a reply is flipped in the server's memory, before TLS.
    BitFlip {
        /// Which servers.
        on: T,
        /// From one flipped reply to the next.
        every: Duration,
    },
}

impl<T> Action<T> {
    /// Its entry in the catalogue.
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
        }
    }

    /// The name in scenario files.
    pub fn name(&self) -> &'static str {
        self.fault().name
    }

    /// Whom it strikes, if it acts on hosts.
    pub fn on(&self) -> Option<&T> {
        match self {
            Action::Crash { on }
            | Action::PowerLoss { on }
            | Action::Restart { on }
            | Action::Churn { on, .. }
            | Action::Pause { on }
            | Action::Isolate { on }
            | Action::BitFlip { on, .. } => Some(on),
            _ => None,
        }
    }

    /// What it strikes, if it acts on a link.
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

    /// Its parameters besides hosts and links, by their names in the file.
    pub fn values(&self) -> Vec<(&'static str, Value)> {
        let duration = |name, value: &Duration| (name, Value::Duration(*value));
        match self {
            Action::Churn { every, down, .. } => vec![duration("every", every), duration("down", down)],
            Action::Latency { delay, jitter, .. } => vec![duration("delay", delay), duration("jitter", jitter)],
            Action::BitFlip { every, .. } => vec![duration("every", every)],
            _ => Vec::new(),
        }
    }

    /// The same action with hosts named in another way. `each` sees the groups in the order of the file.
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
        }
    }
}

/// The value of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// A length of time.
    Duration(Duration),
}

/// What a step gave for its fault: everything that [`Fault::build`] needs. Defaults are already filled in.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Hosts, for a fault that acts on hosts.
    pub on: Option<Vec<HostRef>>,
    /// A link, for a fault that acts on links.
    pub link: Option<Link>,
    /// How long it lasts, if that was said.
    pub length: Option<Duration>,
    /// The other parameters.
    pub values: BTreeMap<&'static str, Value>,
}

impl Given {
    /// A parameter that is a length of time.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.values.get(name).map(|Value::Duration(length)| *length)
    }
}
