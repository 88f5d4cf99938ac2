//! Which hosts or link a step strikes, and with which values.

use std::time::Duration;

use super::{Subject, dice::Dice, rules::brought_up_to_date, value::value};
use crate::{
    fault::{Action, ActsOn, End, Fault, Given, HostRef, Kind, Link, Need, RevisionRole, Synced, Value, find},
    scenario::{Moment, OVERSIZE_CAUSES, Scenario, Start, Step},
};

/// Events after which a sync is due.
static WRITTEN: &[&str] = &["batch-written", "receipt-verified", "member-changed", "corruption-found"];

/// The hosts of one drawn scenario, and the one that is struck again and again.
pub(super) struct Scene<'a> {
    subject: &'a Subject,
    servers: Vec<HostRef>,
    clients: Vec<HostRef>,
    /// Fewer than half of the servers, whose disks may lie.
    minority: Vec<HostRef>,
    /// One host on which faults accumulate, in every second run.
    victim: Option<HostRef>,
    /// How long before its end a certificate is renewed, if there is an issuer.
    renews: Option<Duration>,
    /// The size of an entry, in bytes.
    size: u64,
    /// The latency of the network itself, one way.
    latency: Duration,
    /// Events of the log that can happen here and at which steps may aim.
    moments: Vec<&'static str>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(dice: &mut Dice, subject: &'a Subject, scenario: &Scenario) -> Self {
        let servers: Vec<HostRef> = (1..=scenario.cluster.servers).map(HostRef::Server).collect();
        let clients: Vec<HostRef> = (1..=scenario.workload.clients).map(HostRef::Client).collect();
        let minority = match servers.len() {
            1 => servers.clone(),
            count => dice.some(&servers, (count - 1) / 2),
        };
        let struck = if dice.one_in(4) { &clients } else { &servers };
        let victim = dice.one_in(2).then(|| dice.pick(struck).cloned()).flatten();
        let (renews, size) = (scenario.cluster.renew_before, scenario.workload.size);
        let latency = scenario.cluster.latency;
        let refuses = scenario.workload.oversize_every.is_some();
        let happens = |event: &&&str| refuses || !OVERSIZE_CAUSES.contains(event);
        let moments = subject.explored.moments.iter().filter(happens).copied().collect();
        Self { subject, servers, clients, minority, victim, renews, size, latency, moments }
    }

    /// Draws the whole action of a step. Returns `None` if this fault has nothing to strike here.
    pub(super) fn action(&self, dice: &mut Dice, fault: &'static Fault, steps: &[Step]) -> Option<Action> {
        self.given(dice, fault, steps).and_then(|given| fault.action(&given))
    }

    fn given(&self, dice: &mut Dice, fault: &'static Fault, steps: &[Step]) -> Option<Given> {
        let mut given = Given::default();
        match fault.acts_on {
            ActsOn::Hosts { .. } => given.on = Some(self.hosts(dice, fault, steps)?),
            ActsOn::Links { one_way } => given.link = Some(self.link(dice, one_way)?),
            ActsOn::Workload => {}
        }
        let explored = &self.subject.explored;
        let all = |is: fn(&HostRef) -> bool| given.on.as_ref().is_some_and(|on| on.iter().all(is));
        let paths: &[&'static str] = match () {
            () if all(HostRef::is_server) => &explored.paths,
            () if all(HostRef::is_client) => &explored.client_paths,
            () => &[],
        };
        for parameter in fault.parameters {
            let mut drawn = value(dice, fault, parameter, paths, &self.subject.revisions);
            // In every fourth case there is room for a few entries, but not for everything that is done with them.
            if let ("memory-pressure", Value::Size(budget)) = (fault.name, &mut drawn)
                && let Kind::Size { min, max } = parameter.kind
                && dice.one_in(4)
            {
                *budget = self.size.saturating_mul(dice.between(8, 32)).clamp(min, max);
            }
            // `fault.rule` demands that a process is down for less than the time between two crashes.
            if let ("churn", "down", Some(every)) = (fault.name, parameter.name, given.duration("every")) {
                let most = every.saturating_sub(Duration::from_millis(1));
                if let Value::Duration(down) = &mut drawn {
                    *down = (*down).min(most);
                }
            }
            // Until the others have a leader, and everything that this server has forgotten.
            if let ("rewind", "down", Value::Duration(down)) = (fault.name, parameter.name, &mut drawn)
                && !given.on.iter().flatten().all(HostRef::is_client)
            {
                *down = (*down).max(brought_up_to_date(self.latency));
            }
            given.values.insert(parameter.name, drawn);
        }
        Some(given)
    }

    /// Draws the hosts that a fault of hosts strikes.
    fn hosts(&self, dice: &mut Dice, fault: &'static Fault, steps: &[Step]) -> Option<Vec<HostRef>> {
        let ActsOn::Hosts { servers, clients, auditor, issuer } = fault.acts_on else { return None };
        if fault.synced == Synced::Forgotten && clients && (self.servers.len() == 1 || dice.one_in(2)) {
            return Some(vec![dice.pick(&self.clients).cloned()?]);
        }
        if fault.synced != Synced::Kept && !self.subject.explored.free_of.contains(&"damage-stays-with-a-minority") {
            let one = dice.pick(&self.minority).cloned()?;
            return Some(if dice.one_in(4) { self.minority.clone() } else { vec![one] });
        }
        let rolls = fault.name == "rolling-upgrade" || fault.name == "ca-rotate";
        if rolls && !dice.one_in(4) {
            let mut on = vec![HostRef::Servers];
            if dice.one_in(2) {
                on.insert(usize::from(dice.one_in(2)), HostRef::Clients);
            }
            return Some(on);
        }
        if let Some(victim) = self.victim.clone().filter(|_| dice.one_in(2))
            && ((victim.is_server() && servers) || (victim.is_client() && clients))
        {
            return Some(vec![victim]);
        }
        let before: Vec<&Step> = steps.iter().filter(|step| fits(step, fault)).collect();
        if let Some(step) = dice.pick(&before).filter(|_| dice.one_in(6)) {
            return Some(vec![HostRef::Step(step.name.clone())]);
        }
        match dice.below(16) {
            0 if auditor => Some(vec![HostRef::Auditor]),
            1 | 2 if issuer && self.renews.is_some() => Some(vec![HostRef::Issuer]),
            3..=5 if clients => self.some_clients(dice),
            _ if servers => self.some_servers(dice),
            _ => None,
        }
    }

    fn some_clients(&self, dice: &mut Dice) -> Option<Vec<HostRef>> {
        match dice.below(6) {
            0 => Some(vec![HostRef::Clients]),
            1 => Some(vec![HostRef::AnyClient]),
            _ => Some(vec![dice.pick(&self.clients).cloned()?]),
        }
    }

    fn some_servers(&self, dice: &mut Dice) -> Option<Vec<HostRef>> {
        let (several, led) = (self.servers.len() > 1, self.is_led());
        match dice.below(12) {
            0 | 1 if led => Some(vec![HostRef::Leader]),
            2 if led => Some(vec![HostRef::Followers]),
            3 => Some(vec![HostRef::Servers]),
            4 => Some(vec![HostRef::AnyServer]),
            5 | 6 if several => {
                let count = dice.between(1, self.servers.len() as u64 - 1) as usize;
                Some(dice.some(&self.servers, count))
            }
            _ => Some(vec![dice.pick(&self.servers).cloned()?]),
        }
    }

    /// Draws a link with a server or the issuer at one end at least.
    fn link(&self, dice: &mut Dice, one_way: bool) -> Option<Link> {
        let here = self.some_servers(dice)?;
        let there = match dice.below(12) {
            0..=4 if self.servers.len() > 1 => self.some_servers(dice)?,
            5 => vec![HostRef::Auditor],
            6 if self.renews.is_some() => vec![HostRef::Issuer],
            7 if self.renews.is_some() && dice.one_in(2) => {
                return Some(Link::Between(self.some_clients(dice)?, vec![HostRef::Issuer]));
            }
            _ => self.some_clients(dice)?,
        };
        Some(match dice.below(4) {
            0 if one_way => Link::OneWay { from: here, to: there },
            1 if one_way => Link::OneWay { from: there, to: here },
            _ => Link::Between(there, here),
        })
    }

    /// Returns a fault on the hosts or the link of another step, or `None` if it does not act there or not on this log.
    pub(super) fn meeting(&self, dice: &mut Dice, fault: &'static Fault, step: &Step) -> Option<Action> {
        let mut given = Given::default();
        match (fault.acts_on, step.action.link()) {
            (ActsOn::Links { .. }, Some(link)) => {
                let (one, other) = link.ends();
                given.link = Some(Link::Between(one.clone(), other.clone()));
            }
            (ActsOn::Hosts { .. }, None) if fits(step, fault) => {
                given.on = Some(vec![HostRef::Step(step.name.clone())]);
            }
            _ => return None,
        }
        self.plainly(dice, fault, given)
    }

    /// Builds the action. Parameters that are not given get their defaults, and those that the fault requires are
    /// drawn.
    fn plainly(&self, dice: &mut Dice, fault: &'static Fault, mut given: Given) -> Option<Action> {
        for parameter in fault.parameters {
            if given.values.contains_key(parameter.name) {
                continue;
            }
            let plain = match &parameter.need {
                Need::Default(_) if parameter.name == "reconnect" => Value::Flag(true),
                Need::Default(default) => default.clone(),
                _ => value(dice, fault, parameter, &[], &self.subject.revisions),
            };
            given.values.insert(parameter.name, plain);
        }
        self.is_able(fault.name).then(|| fault.action(&given)).flatten()
    }

    /// Returns a fault on these hosts with these values, and with the defaults for all other parameters.
    pub(super) fn with(
        &self,
        dice: &mut Dice,
        fault: &'static Fault,
        on: Vec<HostRef>,
        values: &[(&'static str, Value)],
    ) -> Option<Action> {
        let values = values.iter().cloned().collect();
        self.plainly(dice, fault, Given { on: Some(on), values, ..Given::default() })
    }

    /// Returns a fault of the issuer, if there is an issuer and the fault can strike it.
    pub(super) fn of_the_issuer(&self, dice: &mut Dice, fault: &'static Fault) -> Option<Action> {
        let ActsOn::Hosts { issuer: true, .. } = fault.acts_on else { return None };
        let on = self.renews.map(|_| vec![HostRef::Issuer])?;
        self.with(dice, fault, on, &[])
    }

    /// Returns how long before its end a certificate is renewed, if certificates are renewed.
    pub(super) fn renews(&self) -> Option<Duration> {
        self.renews
    }

    /// Returns a start at a moment when something was written and is not yet synced, after an earlier step has begun.
    pub(super) fn written(&self, dice: &mut Dice, steps: &[Step]) -> Option<Start> {
        let events: Vec<&str> = WRITTEN.iter().filter(|event| self.moments().contains(event)).copied().collect();
        let moment = Moment::First((*dice.pick(&events)?).to_owned());
        let since = Moment::Begins(dice.pick(steps)?.name.clone());
        Some(Start::After { moment, wait: Duration::ZERO, since: Some(since) })
    }

    /// Draws one server.
    pub(super) fn any_server(&self, dice: &mut Dice) -> Option<HostRef> {
        dice.pick(&self.servers).cloned()
    }

    /// Returns all servers except those, or `None` if only the run decides which they are, or if no server is left.
    pub(super) fn servers_but(&self, on: &[HostRef]) -> Option<Vec<HostRef>> {
        let known = on.iter().all(|host| self.servers.contains(host));
        let others: Vec<HostRef> = self.servers.iter().filter(|server| !on.contains(server)).cloned().collect();
        Some(others).filter(|others| known && !others.is_empty())
    }

    /// Returns the path of the entries on the disk of a server, if a fault can single it out.
    pub(super) fn entries_path(&self) -> Option<&'static str> {
        self.subject.explored.paths.first().copied()
    }

    /// Returns a fault without values of its own on these connections, if connections can suffer it.
    pub(super) fn on_link(&self, fault: &str, link: Link) -> Option<Action> {
        let fault = find(fault).filter(|fault| self.is_able(fault.name))?;
        fault.action(&Given { link: Some(link), ..Given::default() })
    }

    fn is_able(&self, fault: &str) -> bool {
        self.subject.faults.iter().any(|able| able.name == fault)
    }

    /// Returns whether there are several servers, of which one leads.
    pub(super) fn is_led(&self) -> bool {
        self.servers.len() > 1 && self.subject.explored.leader
    }

    /// Returns the latency of the network itself, one way, in milliseconds.
    pub(super) fn latency_ms(&self) -> u64 {
        u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the events of the log at which steps may aim.
    pub(super) fn moments(&self) -> &[&'static str] {
        &self.moments
    }

    /// Draws the one host on which a breaking revision is tried.
    pub(super) fn one_host(&self, dice: &mut Dice) -> Option<HostRef> {
        let from = if dice.one_in(3) { &self.clients } else { &self.servers };
        dice.pick(from).cloned()
    }

    /// Returns whether this log can be rolled back from a revision that it cannot read.
    pub(super) fn breaks(&self) -> bool {
        self.subject.revisions.contains(&RevisionRole::Breaking) && self.is_able("upgrade") && self.is_able("rollback")
    }
}

/// Returns whether a fault may strike the hosts that an earlier step struck.
fn fits(step: &Step, fault: &Fault) -> bool {
    let (ActsOn::Hosts { clients, auditor, issuer, .. }, ActsOn::Hosts { .. }) =
        (fault.acts_on, step.action.fault().acts_on)
    else {
        return false;
    };
    let may = |host: &HostRef| match host {
        HostRef::Auditor => auditor,
        HostRef::Issuer => issuer,
        HostRef::Step(_) => false,
        host => host.is_server() || clients,
    };
    step.action.on().is_some_and(|on| on.iter().all(may))
}

/// Draws how long a step lasts: mostly from 0.2 s to 20 s; now and then until the final heal, one millisecond, or
/// longer than the run.
pub(super) fn length(dice: &mut Dice, action: &Action, work: Duration) -> Option<Duration> {
    let fault = action.fault();
    match fault.end {
        End::Instant => return None,
        End::After(default) if dice.one_in(3) => return Some(default),
        End::Healed if dice.one_in(10) => return None,
        End::After(_) | End::Healed => {}
    }
    // Between one crash and six, and the last process comes up again.
    if let (Some(every), Some(down)) = (action.duration("every"), action.duration("down")) {
        let times = dice.between(1, 6) as u32;
        return Some(every.saturating_mul(times) + down);
    }
    let ms = match dice.below(16) {
        0 => 1,
        1 => dice.magnitude(1, work.as_millis() as u64 * 5 / 4),
        _ => dice.magnitude(200, 20_000),
    };
    Some(Duration::from_millis(ms))
}
