//! What an exploration may draw for a log: the clusters that it can form, the words that mean something to it, and rules
//! of what it may be asked to survive, each with its reason.
//!
//! A log says so in [`System::explored`](super::System::explored). The faults come from
//! [`can_suffer`](super::System::can_suffer), the revisions from [`revisions`](super::System::revisions).

use gapless_world::mark::Table;

use crate::scenario::Scenario;

/// A rule of what may be asked: a scenario that breaks it is not drawn, and no violation is reduced to one.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name, kebab-case.
    pub name: &'static str,
    /// Why nothing beyond it may be asked, in a sentence or two for people.
    pub reason: &'static str,
    /// Whether a scenario keeps it. A scenario that keeps it still does so without some of its steps, unless one step
    /// makes good what another one did.
    pub allows: fn(&Scenario) -> bool,
}

/// What an exploration may draw for one log. By default: one server, no word that not every log knows, no rule of its own.
#[derive(Debug, Clone)]
pub struct Explored {
    /// How many servers a cluster may have; drawn from with equal chance.
    pub servers: Vec<u32>,
    /// `leader` and `followers` can be struck, for [`System::leader`](super::System::leader) says who leads.
    pub leader: bool,
    /// The log renews its certificates where there is an issuer ([`Host::renewal`](super::Host::renewal)).
    pub renewals: bool,
    /// The log keeps to `[cluster] payload-max`, and its clients keep what is larger as dead letters.
    pub dead_letters: bool,
    /// Files and folders of a server that a fault of its disk may single out, as `path` has them; where entries stand first.
    pub paths: Vec<&'static str>,
    /// The same of a client.
    pub client_paths: Vec<&'static str>,
    /// Events that the log tells, whose first one is a moment to aim at: it is in the middle of something. `gapless list
    /// events` has their names.
    pub moments: Vec<&'static str>,
    /// The tables of the log's own [marks](mod@gapless_world::mark): a sweep says how often each of them was reached, beside those
    /// of the harness.
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
    /// Also keeps this rule.
    pub fn and(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Is not bound by the rule of this name, which binds any other log: it promises more.
    pub fn free_of(mut self, rule: &'static str) -> Self {
        self.free_of.push(rule);
        self
    }
}
