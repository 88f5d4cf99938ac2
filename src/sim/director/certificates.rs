//! Faults of certificates: what is installed where, when, and what shows that it was met.
//!
//! Certificates count in whole seconds and are good through their last one. A certificate that is to end at some moment
//! ends with the second before it: it has ended by that moment, and up to a second earlier if the moment is not a whole
//! second. The wall clock of the host that judges a certificate decides *whether* it has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gapless_world::{
    LogEvent,
    tls::{Identity, TlsError, Usage},
};

use super::Director;
use crate::{
    fault::{CertificateFault, Effect, INSTALLED_BEFORE, Mismatch},
    history::{Event, Name, What},
    scenario::Start,
    sim::{SimError, authorities::ISSUER, stage::Role},
};

/// The least time from the start of the run to t = 0 if a certificate ends `at` a time after t = 0: so it can be issued
/// before the first connection is made.
const T_ZERO: Duration = Duration::from_secs(5);

/// At the final heal a certificate must last for at least this much longer if no issuer renews it.
const LASTS: Duration = Duration::from_secs(600);

/// Resets on behalf of a step are counted apart: reset connections are no evidence that a certificate was met.
const RESETS: usize = 1 << 32;

/// The director's knowledge of certificates.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    hosts: BTreeMap<Name, Shown>,
    steps: BTreeMap<usize, Installed>,
    /// Since when each wall clock is wrong, by how many nanoseconds, and by how many millionths of the time since then.
    clocks: BTreeMap<Name, (Duration, i64, i64)>,
}

/// The certificates of one host, as the history records them.
#[derive(Debug, Default)]
struct Shown {
    known: BTreeMap<u64, Facts>,
    installed: u64,
    taken: Option<u64>,
}

#[derive(Debug, Clone)]
struct Facts {
    name: String,
    authority: String,
    not_before: i64,
    not_after: i64,
    both_ends: bool,
    trusts: Vec<String>,
}

/// What one step installed, and what followed from it.
#[derive(Debug, Default)]
struct Installed {
    /// The serial number that each host had.
    serials: BTreeMap<Name, u64>,
    /// The identity of each host before a mismatch.
    before: BTreeMap<Name, (u64, Identity)>,
    /// The authority that a rotation brought up.
    authority: Option<String>,
    /// The phases of a rotation that are still to come.
    phases: Vec<(Duration, Phase)>,
    connections: u64,
    refused: u64,
    closed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The new authority signs.
    Sign,
    /// The old authority is not trusted any more.
    Forget,
}

fn prepare(error: TlsError) -> SimError {
    SimError::Prepare(error.to_string())
}

// ---- before t = 0 ----

impl Director<'_> {
    /// Issues certificates that are to end at a time that is known before the run begins.
    pub(super) fn issue_before_the_run(&mut self) -> Result<(), SimError> {
        let mut struck = BTreeSet::new();
        for index in self.expiries_at() {
            let hosts = self.struck_hosts(&self.plan.steps[index].action);
            if hosts.is_empty() || hosts.iter().any(|host| struck.contains(host)) {
                continue; // installed once the host is known, or has no other such certificate
            }
            struck.extend(hosts);
            self.install_ending(index, T_ZERO + self.offset(index)).map_err(prepare)?;
        }
        Ok(())
    }

    /// Returns the earliest time for t = 0.
    pub(super) fn t_zero_at_least(&self) -> Duration {
        if self.certificates.steps.is_empty() { Duration::ZERO } else { T_ZERO }
    }

    /// If t = 0 came later than planned, issues anew what was issued for it, and presents it.
    pub(super) fn issue_late(&mut self) -> Result<(), SimError> {
        if self.began < T_ZERO + self.plan.tick {
            return Ok(());
        }
        let early: Vec<usize> = self.certificates.steps.keys().copied().collect();
        for index in early {
            self.install_ending(index, self.began + self.offset(index)).map_err(prepare)?;
            self.reconnect(index);
        }
        Ok(())
    }

    /// Returns the steps by which certificates end at a time of their own, the earliest first.
    fn expiries_at(&self) -> Vec<usize> {
        let at = |index: &usize| matches!(self.plan.steps[*index].start, Start::At(_));
        let expires = |index: &usize| self.plan.steps[*index].action.name() == "cert-expire";
        let mut found: Vec<usize> = (0..self.plan.steps.len()).filter(|n| at(n) && expires(n)).collect();
        found.sort_by_key(|index| (self.offset(*index), *index));
        found
    }

    fn offset(&self, index: usize) -> Duration {
        if let Start::At(at) = &self.plan.steps[index].start { *at } else { Duration::ZERO }
    }
}

// ---- steps ----

impl Director<'_> {
    /// Installs what is to end at the step's moment, as soon as that moment is known and near enough.
    pub(super) fn foresee_expiry(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        if step.action.name() != "cert-expire" || self.certificates.steps.contains_key(&index) {
            return;
        }
        let ends = match &step.start {
            Start::At(at) => Some(self.began + *at).filter(|ends| self.now + INSTALLED_BEFORE >= *ends),
            Start::After { moment, wait, since } => {
                let came = self.moments.when(moment, since.as_ref(), self.began);
                came.filter(|came| *came <= self.now).map(|came| came + *wait)
            }
        };
        if let Some(ends) = ends
            && !self.struck_hosts(&self.plan.steps[index].action).is_empty()
        {
            self.attempt(index, |this| this.install_ending(index, ends));
        }
    }

    /// Does what the step does when it begins.
    pub(super) fn begin_certificates(&mut self, index: usize, fault: CertificateFault) {
        match fault {
            CertificateFault::Expire { reconnect } => {
                if !self.certificates.steps.contains_key(&index) {
                    self.attempt(index, |this| this.install_ending(index, this.now));
                }
                self.certificates.steps.entry(index).or_default();
                self.reconnect_if(index, reconnect);
            }
            CertificateFault::Rotate { reconnect } => {
                let not_before = self.wall(&ISSUER.into());
                let why = "fresh, by hand";
                self.attempt(index, |this| {
                    this.install_each(index, why, |this, host| this.stage.authorities.fresh(host, not_before))
                });
                self.reconnect_if(index, reconnect);
            }
            CertificateFault::Mismatch { wrong, reconnect } => {
                for host in self.hosts_of(index) {
                    let before = self.stage.actor(&host).map(|actor| actor.certificates.installed());
                    let serial = self.certificates.hosts.get(&host).map(|shown| shown.installed);
                    if let (Some(before), Some(serial)) = (before, serial) {
                        let installed = self.certificates.steps.entry(index).or_default();
                        installed.before.insert(host, (serial, before));
                    }
                }
                let why = format!("wrong: {}", wrong.word());
                self.attempt(index, |this| this.install_each(index, &why, |this, host| this.mismatched(host, wrong)));
                self.reconnect_if(index, reconnect);
            }
            CertificateFault::NewAuthority { overlap, reconnect } => self.begin_rotation(index, overlap, reconnect),
        }
    }

    /// Performs the phases of a rotation that are due.
    pub(super) fn go_on_with_certificates(&mut self, index: usize) {
        let Some(installed) = self.certificates.steps.get_mut(&index) else { return };
        let due: Vec<Phase> =
            installed.phases.iter().filter(|(at, _)| *at <= self.now).map(|(_, phase)| *phase).collect();
        installed.phases.retain(|(at, _)| *at > self.now);
        for phase in due {
            match phase {
                Phase::Sign => self.stage.authorities.sign_with_newest(),
                Phase::Forget => {
                    let now = self.true_wall();
                    self.stage.authorities.trust_signer_only(now);
                }
            }
            self.renew_all(index);
            let reconnect = self.plan.steps[index].action.flag("reconnect").unwrap_or(false);
            self.reconnect_if(index, reconnect && phase == Phase::Sign);
        }
    }

    /// Installs what was there before a mismatch, or a fresh certificate if that one is no longer good.
    pub(super) fn undo_certificates(&mut self, index: usize) {
        let Some(installed) = self.certificates.steps.get(&index) else { return };
        let (before, serials) = (installed.before.clone(), installed.serials.clone());
        for (host, (serial, identity)) in before {
            let shown = self.certificates.hosts.get(&host);
            if shown.is_none_or(|shown| Some(&shown.installed) != serials.get(&host)) {
                continue; // it has received another one since then
            }
            let good = shown.and_then(|shown| shown.known.get(&serial)).is_some_and(|facts| self.is_good(&host, facts));
            if good {
                self.stage.install(&host, identity, "the right one again", self.now);
            } else {
                self.attempt(index, |this| this.make_good(&host));
            }
        }
    }

    /// At the final heal, gives every host without a good certificate one, as somebody on call would.
    pub(super) fn heal_certificates(&mut self) {
        self.take_in_certificates();
        let hosts: Vec<Name> = self
            .stage
            .actors
            .iter()
            .filter(|actor| actor.role != Role::Issuer)
            .map(|actor| actor.name.clone())
            .collect();
        for host in hosts {
            let shown = self.certificates.hosts.get(&host);
            let facts = shown.and_then(|shown| shown.known.get(&shown.installed));
            if facts.is_none_or(|facts| !self.is_good(&host, facts)) {
                self.attempt(usize::MAX, |this| this.make_good(&host));
            }
        }
    }

    /// Returns what shows that the step bit, in words.
    pub(super) fn certificate_evidence(&self, index: usize) -> Option<String> {
        let Installed { connections, refused, closed, .. } = self.certificates.steps.get(&index)?;
        let Effect::Certificate(fault) = self.plan.steps[index].action.effect() else { return None };
        let with = match fault {
            CertificateFault::Expire { .. } => "a certificate that had ended",
            CertificateFault::Rotate { .. } => "the fresh certificate",
            CertificateFault::Mismatch { .. } => "the wrong certificate",
            CertificateFault::NewAuthority { .. } => "a certificate of the new authority",
        };
        let said: Vec<String> = [(connections, "opened"), (refused, "refused"), (closed, "closed")]
            .into_iter()
            .filter(|(n, _)| **n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        (!said.is_empty()).then(|| format!("connections with {with}: {}", said.join(", ")))
    }

    /// Looks for evidence of steps that happen at one instant, because it comes after them.
    pub(super) fn look_for_late_evidence(&mut self, index: usize) {
        let action = &self.plan.steps[index].action;
        if ["cert-expire", "cert-rotate", "ca-rotate", "replace"].contains(&action.name()) {
            self.look_for_evidence(index);
        }
    }
}

// ---- how ----

impl Director<'_> {
    fn begin_rotation(&mut self, index: usize, overlap: Duration, reconnect: bool) {
        self.attempt(index, |this| this.stage.authorities.found());
        let phases = vec![(self.now + overlap, Phase::Sign), (self.now + overlap * 2, Phase::Forget)];
        let installed = self.certificates.steps.entry(index).or_default();
        (installed.phases, installed.authority) = (phases, Some(self.stage.authorities.newest()));
        self.steps[index].ends_at = Some(self.now + overlap * 2);
        if overlap.is_zero() {
            self.stage.authorities.sign_with_newest();
            let now = self.true_wall();
            self.stage.authorities.trust_signer_only(now);
            self.certificates.steps.entry(index).or_default().phases.clear();
            self.renew_all(index);
            self.reconnect_if(index, reconnect);
            return;
        }
        self.renew_all(index);
    }

    /// Makes every host in `on` renew at once; a host that does not renew by itself is given a new certificate. The
    /// auditor belongs to the harness and is included: no fault of certificates can strike it.
    fn renew_all(&mut self, index: usize) {
        let auditor = self.stage.actors.iter().filter(|actor| actor.role == Role::Auditor).map(|a| a.name.clone());
        let hosts: Vec<Name> = self.hosts_of(index).into_iter().chain(auditor).collect();
        for host in hosts {
            let renews = self.stage.actor(&host).is_some_and(|actor| actor.certificates.ask_to_renew());
            if !renews || self.plan.issuer.is_none() {
                self.attempt(index, |this| this.make_good(&host));
            }
        }
    }

    fn hosts_of(&self, index: usize) -> Vec<Name> {
        self.struck_hosts(&self.plan.steps[index].action)
    }

    fn install_each(
        &mut self,
        index: usize,
        why: &str,
        make: impl Fn(&mut Self, &Name) -> Result<Identity, TlsError>,
    ) -> Result<(), TlsError> {
        for host in self.hosts_of(index) {
            let identity = make(self, &host)?;
            self.stage.install(&host, identity, why, self.now);
            self.take_in_certificates();
            let serial = self.certificates.hosts.get(&host).map(|shown| shown.installed);
            self.certificates.steps.entry(index).or_default().serials.extend(serial.map(|serial| (host, serial)));
        }
        Ok(())
    }

    /// Installs certificates that have ended when the run reaches `ends`.
    fn install_ending(&mut self, index: usize, ends: Duration) -> Result<(), TlsError> {
        let epoch = self.scenario.cluster.wall_clock;
        let not_after = epoch + i64::try_from(ends.as_secs()).unwrap_or(i64::MAX / 4) - 1;
        let why = format!("ends at {}.{:03}s of the run", ends.as_secs(), ends.subsec_millis());
        self.install_each(index, &why, |this, host| this.stage.authorities.ending(host, not_after))
    }

    fn mismatched(&mut self, host: &Name, wrong: Mismatch) -> Result<Identity, TlsError> {
        let is_server = self.stage.actor(host).is_some_and(|actor| actor.role == Role::Server);
        let in_a_year = self.wall(host) + 365 * 24 * 60 * 60;
        let authorities = &mut self.stage.authorities;
        match wrong {
            Mismatch::Name => authorities.misnamed(),
            Mismatch::Issuer => authorities.foreign(host),
            Mismatch::NotYetValid => authorities.fresh(host, in_a_year),
            Mismatch::KeyUsage => authorities.one_ended(host, if is_server { Usage::Client } else { Usage::Server }),
        }
    }

    fn make_good(&mut self, host: &Name) -> Result<(), TlsError> {
        let identity = self.stage.authorities.good(host, self.true_wall())?;
        self.stage.install(host, identity, "good, by hand", self.now);
        self.take_in_certificates();
        Ok(())
    }

    /// Returns whether a certificate serves its host for as long as the run may still take.
    fn is_good(&self, host: &Name, facts: &Facts) -> bool {
        let now = self.true_wall();
        let renews = self.plan.issuer.is_some();
        let lasts = if renews { 0 } else { i64::try_from(LASTS.as_secs()).unwrap_or(0) };
        let authorities = &self.stage.authorities;
        facts.name == **host
            && facts.both_ends
            && (facts.not_before..=facts.not_after.saturating_sub(lasts)).contains(&now)
            && authorities.trusts(&facts.authority)
            && facts.trusts.contains(&authorities.signer())
    }

    fn reconnect_if(&mut self, index: usize, reconnect: bool) {
        if reconnect {
            self.reconnect(index);
        }
    }

    /// Resets every open connection of the step's hosts.
    fn reconnect(&mut self, index: usize) {
        for host in self.hosts_of(index) {
            for other in self.others(std::slice::from_ref(&host)) {
                self.stage.links.reset(RESETS + index, &host, &other);
            }
        }
    }

    /// Performs an operation on keys and certificates. Those of the simulator do not fail; if one ever did, the run
    /// would report it.
    fn attempt(&mut self, index: usize, act: impl FnOnce(&mut Self) -> Result<(), TlsError>) {
        if let Err(error) = act(self) {
            let step = self.plan.steps.get(index).map_or("the final heal", |step| &step.name);
            self.record(What::Failed { error: format!("{step}: {error}") });
        }
    }

    /// Returns the true wall clock, in seconds since 1970.
    fn true_wall(&self) -> i64 {
        self.scenario.cluster.wall_clock + i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX / 4)
    }

    /// Returns what the wall clock of a host shows, in seconds since 1970.
    fn wall(&self, host: &Name) -> i64 {
        let (at, offset, rate) = self.certificates.clocks.get(host).copied().unwrap_or_default();
        let since = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX >> 32);
        let (now, second) = (since(self.now), 1_000_000_000);
        let wrong = i128::from(offset) + i128::from(rate) * (now - since(at)) / 1_000_000;
        let shown = i128::from(self.scenario.cluster.wall_clock) + (now + wrong).div_euclid(second);
        i64::try_from(shown).unwrap_or(i64::MAX / 4)
    }
}

// ---- what came of it ----

impl Director<'_> {
    /// Handles events that were recorded since the last tick, before they are needed.
    fn take_in_certificates(&mut self) {
        self.notice();
    }

    /// Handles one event.
    pub(super) fn notice_certificates(&mut self, event: &Event) {
        match &event.what {
            What::Certificate {
                serial,
                name,
                authority,
                not_before,
                not_after,
                for_servers,
                for_clients,
                trusts,
                ..
            } => {
                let facts = Facts {
                    name: name.clone(),
                    authority: authority.clone(),
                    not_before: *not_before,
                    not_after: *not_after,
                    both_ends: *for_servers && *for_clients,
                    trusts: trusts.clone(),
                };
                let shown = self.certificates.hosts.entry(event.host.clone()).or_default();
                shown.known.insert(*serial, facts);
                shown.installed = *serial;
            }
            What::Clock { offset, rate_ppm } => {
                self.certificates.clocks.insert(event.host.clone(), (event.at, *offset, *rate_ppm));
            }
            What::Took { serial } => {
                self.certificates.hosts.entry(event.host.clone()).or_default().taken = Some(*serial);
            }
            What::Connected { peer, .. } => self.count_met(event, peer, |installed| &mut installed.connections),
            What::Log { event: LogEvent::HandshakeRefused { peer, .. } } => {
                self.count_met(event, peer, |installed| &mut installed.refused);
            }
            What::Log { event: LogEvent::ConnectionClosed { peer, why } } if why.contains("certificate") => {
                self.count_met(event, peer, |installed| &mut installed.closed);
            }
            _ => {}
        }
    }

    /// Counts something between two hosts for every step whose certificate is shown there.
    fn count_met(&mut self, event: &Event, peer: &str, which: fn(&mut Installed) -> &mut u64) {
        let Certificates { hosts, steps, .. } = &mut self.certificates;
        let between = [&*event.host, peer];
        let shows = |host: &str| {
            let shown = hosts.get(host)?;
            Some((shown.taken?, shown.known.get(&shown.taken?)?))
        };
        let to_issuer = between.contains(&ISSUER);
        for (index, installed) in steps.iter_mut().filter(|_| !to_issuer) {
            let expires = self.plan.steps[*index].action.name() == "cert-expire";
            let elapsed = i64::try_from(event.at.as_secs()).unwrap_or(i64::MAX / 4);
            let ended = |facts: &Facts| self.scenario.cluster.wall_clock + elapsed > facts.not_after;
            let met = between.iter().any(|host| {
                let Some((serial, facts)) = shows(host) else { return false };
                let own = installed.serials.get(*host) == Some(&serial) && (!expires || ended(facts));
                own || installed.authority.as_ref() == Some(&facts.authority)
            });
            *which(installed) += u64::from(met);
        }
    }
}
