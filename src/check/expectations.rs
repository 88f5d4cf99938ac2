//! What the engineer wants to have seen, as plain data.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::history::Name;

/// `[expect]`, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectations {
    /// After the last heal, each client's appends succeed within this time.
    pub recovers_within: Duration,
    /// Longest time for which a client with something to send may have no acknowledgement; `None`: only reported.
    pub blind_at_most: Option<Duration>,
    /// Most dead letters that clients may hold at the end, all together.
    pub dead_letters: u64,
    /// Fewest acknowledgements for each client.
    pub acked_at_least: u64,
    /// Most connections that one host may open; `None`: only reported.
    #[serde(default)]
    pub connections_at_most: Option<ConnectionsAtMost>,
    /// Must be seen in every run.
    pub seen: Vec<Pattern>,
    /// Must not be seen.
    pub never: Vec<Pattern>,
    /// Must be seen once in a sweep; counted here, not judged.
    pub sometimes: Vec<Pattern>,
    /// A violation that is expected to happen.
    pub known_violation: Option<KnownViolation>,
    /// What the catalogue says of each step, by its name in the history.
    #[serde(default)]
    pub steps: BTreeMap<Name, Untouched>,
}

/// A bound on how often one host opens connections, from t = 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsAtMost {
    /// So many
    pub count: u64,
    /// within any stretch of this length.
    pub within: Duration,
}

/// What the catalogue says of a step: mostly, what to say where it left no trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The action, as `gapless explain` knows it.
    pub action: String,
    /// What did not happen; `{hosts}` stands for whom it was to strike.
    pub what: String,
    /// What to change in the scenario so that it bites.
    pub cure: String,
    /// Line of the scenario file.
    pub line: usize,
    /// Whether a sound process may end because of it.
    #[serde(default)]
    pub may_end: bool,
}

/// A violation that is known and not yet cured: it is shown, and does not count; once it no longer happens, that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownViolation {
    /// The invariant, by its name.
    pub invariant: String,
    /// Where it is discussed.
    pub issue: String,
    /// Text that its sentence holds; `None`: any violation of the invariant.
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
    /// Name of the event, or the text of a mark.
    pub event: String,
    /// On one of these hosts. `@step` stands for the hosts that the step hit.
    pub on: Option<Vec<Name>>,
    /// While this step lasts.
    pub during: Option<MomentRef>,
    /// After this moment.
    pub after: Option<MomentRef>,
    /// With this reason, why, status or error.
    pub reason: Option<String>,
    /// As written, for messages.
    pub text: String,
    /// Line of the scenario file.
    pub line: usize,
}

/// A moment, as scenario files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentRef {
    /// Of a step.
    Step {
        /// Its name.
        step: Name,
        /// Which moment of it. Only `after` asks; `during` is about the whole step.
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
    /// It began.
    Begins,
    /// First evidence.
    Bites,
    /// The nth host of it is done.
    Nth(u32),
    /// It ended.
    Ended,
}
