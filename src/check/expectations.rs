//! What the engineer expects to see, as plain data.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::history::Name;

/// `[expect]`, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectations {
    /// Within this time after the last heal, each client's appends must succeed.
    pub recovers_within: Duration,
    /// The longest time for which a client with something to send may go without an acknowledgement; `None`: only
    /// reported.
    pub blind_at_most: Option<Duration>,
    /// The most dead letters that all clients together may hold at the end.
    pub dead_letters: u64,
    /// The fewest acknowledgements for each client.
    pub acked_at_least: u64,
    /// The most connections that one host may open; `None`: only reported.
    #[serde(default)]
    pub connections_at_most: Option<ConnectionsAtMost>,
    /// Must be seen in every run.
    pub seen: Vec<Pattern>,
    /// Must never be seen.
    pub never: Vec<Pattern>,
    /// Must be seen once in a sweep; counted here, not judged.
    pub sometimes: Vec<Pattern>,
    /// A violation that is expected to happen.
    pub known_violation: Option<KnownViolation>,
    /// What the catalogue says about each step, by its name in the history.
    #[serde(default)]
    pub steps: BTreeMap<Name, Untouched>,
}

/// A bound on how often one host opens connections, from t = 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsAtMost {
    /// At most this many connections
    pub count: u64,
    /// within any stretch of this length.
    pub within: Duration,
}

/// What the catalogue says about a step: mostly, what to report if it left no trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The action, as `gapless explain` knows it.
    pub action: String,
    /// What did not happen; `{hosts}` stands for the hosts that the step was to strike.
    pub what: String,
    /// What to change in the scenario so that the step bites.
    pub cure: String,
    /// Line of the scenario file.
    pub line: usize,
    /// Whether a sound process may end because of the step.
    #[serde(default)]
    pub may_end: bool,
}

/// A violation that is known and not yet cured: it is shown and does not count. That it no longer happens does count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownViolation {
    /// The name of the invariant.
    pub invariant: String,
    /// Where the violation is discussed.
    pub issue: String,
    /// Text that the violation's sentence contains; `None`: any violation of the invariant.
    #[serde(default)]
    pub saying: Option<String>,
}

impl Default for Expectations {
    fn default() -> Self {
        Expectations {
            recovers_within: Duration::from_secs(30),
            blind_at_most: None,
            dead_letters: 0,
            acked_at_least: 1,
            connections_at_most: None,
            seen: Vec::new(),
            never: Vec::new(),
            sometimes: Vec::new(),
            known_violation: None,
            steps: BTreeMap::new(),
        }
    }
}

/// A pattern for events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The name of the event, or the text of a mark.
    pub event: String,
    /// Only on one of these hosts. `@step` stands for the hosts that the step hit.
    pub on: Option<Vec<Name>>,
    /// Only while this step lasts.
    pub during: Option<MomentRef>,
    /// Only after this moment.
    pub after: Option<MomentRef>,
    /// Only with this reason, why, status or error.
    pub reason: Option<String>,
    /// The pattern as written, for messages.
    pub text: String,
    /// Line of the scenario file.
    pub line: usize,
}

/// A moment, as scenario files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentRef {
    /// A moment of a step.
    Step {
        /// The name of the step.
        step: Name,
        /// Which moment of the step. Only `after` uses it; `during` is about the whole step.
        point: Point,
    },
    /// The first event of this name, on any host.
    First {
        /// Its name.
        event: String,
    },
}

/// A moment of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// The step began.
    Begins,
    /// The first evidence came.
    Bites,
    /// The nth host of the step is done.
    Nth(u32),
    /// The step ended.
    Ended,
}
