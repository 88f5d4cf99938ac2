//! A fault with its parameters filled in: what one step of a scenario does.
//!
//! An [`Action`] is generic over how hosts are named: as written in the file it holds [`HostRef`]s; in a plan it holds
//! the hosts that the seed made of them. Everything that differs from fault to fault is in the file of that fault, and
//! in the file of its family below `effect`.

use std::time::Duration;

use super::{ActsOn, Effect, Fault, Given, HostRef, Link, Rate, RevisionRole, Value};

/// What a step does, and to whom. [`Fault::action`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action<T = Vec<HostRef>> {
    fault: &'static Fault,
    aim: Aim<T>,
    /// In the order of the fault's parameters.
    values: Vec<(&'static str, Value)>,
    /// What the fault makes of the values.
    effect: Effect,
}

/// What an action strikes, as [`ActsOn`] of its fault demands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Aim<T> {
    /// These hosts; at least one.
    Hosts(T),
    /// The connections between two groups of hosts.
    Link(Link<T>),
    /// The work that the clients are asked to do.
    Workload,
}

impl Fault {
    /// Makes the action that this fault is with these values. Returns `None` if something that the fault needs was not
    /// given.
    pub fn action(&'static self, given: &Given) -> Option<Action> {
        let aim = match self.acts_on {
            ActsOn::Hosts { .. } => Aim::Hosts(given.on.clone()?),
            ActsOn::Links { .. } => Aim::Link(given.link.clone()?),
            ActsOn::Workload => Aim::Workload,
        };
        let names = self.parameters.iter().map(|parameter| parameter.name);
        let values: Option<Vec<_>> = names.map(|name| Some((name, given.values.get(name)?.clone()))).collect();
        Some(Action { fault: self, aim, values: values?, effect: (self.build)(given)? })
    }
}

impl<T> Action<T> {
    /// Returns its entry in the catalogue.
    pub fn fault(&self) -> &'static Fault {
        self.fault
    }

    /// Returns its name in scenario files.
    pub fn name(&self) -> &'static str {
        self.fault.name
    }

    /// Returns what it does, by family.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// Returns the hosts that it strikes, if it acts on hosts.
    pub fn on(&self) -> Option<&T> {
        match &self.aim {
            Aim::Hosts(on) => Some(on),
            Aim::Link(_) | Aim::Workload => None,
        }
    }

    /// Returns the link that it strikes, if it acts on a link.
    pub fn link(&self) -> Option<&Link<T>> {
        match &self.aim {
            Aim::Link(link) => Some(link),
            Aim::Hosts(_) | Aim::Workload => None,
        }
    }

    /// Returns its parameters, without hosts and links, by their names in the file.
    pub fn values(&self) -> &[(&'static str, Value)] {
        &self.values
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Returns a parameter that is a length of time, if this fault has it.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        if let Some(Value::Duration(length)) = self.value(name) { Some(*length) } else { None }
    }

    /// Returns a parameter that is yes or no, if this fault has it.
    pub fn flag(&self, name: &str) -> Option<bool> {
        if let Some(Value::Flag(flag)) = self.value(name) { Some(*flag) } else { None }
    }

    /// Returns a parameter that is a rate, if this fault has it.
    pub fn rate(&self, name: &str) -> Option<Rate> {
        if let Some(Value::Rate(rate)) = self.value(name) { Some(*rate) } else { None }
    }

    /// Returns the revision that a deployment asks for. A rollback leads to one that was asked for before.
    pub fn revision(&self) -> Option<RevisionRole> {
        if let Effect::Release(release) = self.effect { release.revision() } else { None }
    }

    /// Returns the same action with hosts named in another way. `each` is called for the groups in the order of the
    /// file.
    pub fn map<U>(&self, each: &mut impl FnMut(&T) -> U) -> Action<U> {
        let aim = match &self.aim {
            Aim::Hosts(on) => Aim::Hosts(each(on)),
            Aim::Link(link) => Aim::Link(link.map(each)),
            Aim::Workload => Aim::Workload,
        };
        Action { fault: self.fault, aim, values: self.values.clone(), effect: self.effect.clone() }
    }
}
