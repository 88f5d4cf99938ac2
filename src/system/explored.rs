//! What an exploration may draw for a log: the clusters that it can form, the words that have a meaning for it, and
//! rules for what it may be asked to survive, each with its reason.
//!
//! A log returns this from [`System::explored`](super::System::explored). The faults come from
//! [`can_suffer`](super::System::can_suffer), the revisions from [`revisions`](super::System::revisions).

use gapless_world::mark::Table;

use crate::scenario::Scenario;

/// A rule for what may be asked of a log. A scenario that breaks it is not drawn, and no violation is reduced to one.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name, kebab-case.
    pub name: &'static str,
    /// Why nothing beyond the rule may be asked, in a sentence or two for people.
    pub reason: &'static str,
    /// Returns whether a scenario keeps the rule. A scenario that keeps it must still do so without some of its steps,
    /// unless one step repairs what another one did.
    pub allows: fn(&Scenario) -> bool,
}

/// What an exploration may draw for one log. By default: one server, only words that every log knows, and no rule of
/// its own.
#[derive(Debug, Clone)]
pub struct Explored {
    /// The possible numbers of servers of a cluster. Each element has an equal chance of being drawn.
    pub servers: Vec<u32>,
    /// Whether `leader` and `followers` can be struck, because the server that begins to lead reports
    /// [`LeaderChange`](gapless_world::LogEvent::LeaderChange) to its observer.
    pub leader: bool,
    /// Whether the log renews its certificates if there is an issuer ([`Host::renewal`](super::Host::renewal)).
    pub renewals: bool,
    /// Whether the log respects `[cluster] payload-max`, and its clients keep larger payloads as dead letters.
    pub dead_letters: bool,
    /// Files and folders of a server that a fault of its disk may single out, in the notation of `path`. The first one
    /// is where entries are stored.
    pub paths: Vec<&'static str>,
    /// The same for a client.
    pub client_paths: Vec<&'static str>,
    /// Events of the log whose first occurrence is a moment at which steps may aim, because it is in the middle of some
    /// process. `gapless list events` shows their names.
    pub moments: Vec<&'static str>,
    /// The tables of the log's own [marks](mod@gapless_world::mark). A sweep reports how often each mark was reached,
    /// together with those of the harness.
    pub marks: Vec<&'static Table>,
    /// Further rules.
    pub rules: Vec<Rule>,
    /// Names of rules for any log that do not bind this one.
    pub free_of: Vec<&'static str>,
}

impl Default for Explored {
    fn default() -> Self {
        Self {
            servers: vec![1],
            leader: false,
            renewals: false,
            dead_letters: false,
            paths: Vec::new(),
            client_paths: Vec::new(),
            moments: Vec::new(),
            marks: Vec::new(),
            rules: Vec::new(),
            free_of: Vec::new(),
        }
    }
}

impl Explored {
    /// Adds a rule.
    pub fn and(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Frees the log from the rule of this name, which binds any other log, because this log promises more.
    pub fn free_of(mut self, rule: &'static str) -> Self {
        self.free_of.push(rule);
        self
    }
}
