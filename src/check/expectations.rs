//! What the engineer expects to see, as plain data.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    fault::Rate,
    history::{Invariant, Moment, Name},
};

/// What a run is judged by besides the invariants that the log promises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    /// What the scenario expects.
    pub expect: Expect,
    /// A violation that is expected to happen.
    pub known_violation: Option<KnownViolation>,
    /// What the catalogue says about each step, by its name in the history.
    pub catalogue: BTreeMap<Name, Untouched>,
}

/// `[expect]` of a scenario file. The invariants of the log are not here: they always apply. `P` describes an event as
/// the file does or, for the judge, as a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect<P = Pattern> {
    /// Within this time after the final heal, each client's appends succeed. Default 30 s.
    pub recovers_within: Duration,
    /// The longest time that a client with something to send may go without an acknowledgement; `None`: only reported.
    pub blind_at_most: Option<Duration>,
    /// How many dead letters all clients together may hold at the end. Default 0.
    pub dead_letters: u64,
    /// The fewest appends of each client that must be acknowledged. Default 1.
    pub acked_at_least: u64,
    /// How many connections any one host may open, from t = 0 on, within any period of this length; `None`: only
    /// reported.
    pub connections_at_most: Option<Rate>,
    /// Must be seen in every run.
    pub seen: Vec<P>,
    /// Must be seen in no run.
    pub never: Vec<P>,
    /// Must be seen at least once in a sweep; counted in a single run, not judged.
    pub sometimes: Vec<P>,
}

impl<P> Default for Expect<P> {
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

impl<P> Expect<P> {
    /// Returns the same expectations with each event described in another way.
    pub fn map<Q>(&self, mut each: impl FnMut(&P) -> Q) -> Expect<Q> {
        let mut all = |patterns: &[P]| patterns.iter().map(&mut each).collect();
        Expect {
            recovers_within: self.recovers_within,
            blind_at_most: self.blind_at_most,
            dead_letters: self.dead_letters,
            acked_at_least: self.acked_at_least,
            connections_at_most: self.connections_at_most,
            seen: all(&self.seen),
            never: all(&self.never),
            sometimes: all(&self.sometimes),
        }
    }
}

/// An event to be seen, with groups of hosts spelled out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The name of the event, or the text of a mark.
    pub event: String,
    /// Only on one of these hosts. `@step` stands for the hosts that the step hit.
    pub on: Option<Vec<Name>>,
    /// Only while the step of this name lasts.
    pub during: Option<Name>,
    /// Only after this moment.
    pub after: Option<Moment>,
    /// Only with this reason, why, status or error.
    pub reason: Option<String>,
    /// The pattern as written, for messages.
    pub text: String,
    /// Line of the scenario file.
    pub line: usize,
}

/// A violation that is known and not yet cured: it is shown and does not count. That it no longer happens does count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownViolation {
    /// The invariant that is violated.
    pub invariant: Invariant,
    /// Where the violation is discussed; an `http` or `https` address.
    pub issue: String,
    /// Text that the violation's sentence contains. `None`: any violation of the invariant.
    pub saying: Option<String>,
}

/// What the catalogue says about a step: mostly, what to report if it left no trace.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub may_end: bool,
}
