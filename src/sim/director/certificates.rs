//! Faults of certificates: what is installed where, when, and what shows that it was met.
//!
//! Certificates count in whole seconds and are good through their last one. A certificate that is to end at some moment
//! ends with the second before it: it has ended by that moment, and up to a second earlier if the moment is not a whole
//! second. The wall clock of the host that judges a certificate decides *whether* it has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gapless_world::tls::{Identity, TlsError, Usage};

use super::{Director, family::Family, presented::Certificate};
use crate::{
    fault::{CertificateFault, Effect, INSTALLED_BEFORE, Mismatch},
    history::{Name, What},
    scenario::Start,
    sim::{
        SimError,
        roster::{HARNESS, HostKind},
    },
};

/// The least time from the start of the run to t = 0 if a certificate ends `at` a time after t = 0: so it can be issued
/// before the first connection is made.
const T_ZERO: Duration = Duration::from_secs(5);

/// At the final heal a certificate must last for at least this much longer if no issuer renews it.
const LASTS: Duration = Duration::from_secs(600);

/// Resets on behalf of a step are counted apart: reset connections are no evidence that a certificate was met.
const RESETS: usize = 1 << 32;

/// A step that installs certificates. How often they are met is counted apart, in `presented`.
#[derive(Debug)]
pub(super) struct Certificates {
    fault: CertificateFault,
    /// The identity of each host before a mismatch.
    before: BTreeMap<Name, (u64, Identity)>,
    /// The phases of a rotation that are still to come.
    phases: Vec<(Duration, RotationPhase)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RotationPhase {
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
        let expires = |index: &usize| {
            let effect = self.plan.steps[*index].action.effect();
            matches!(effect, Effect::Certificate(CertificateFault::Expire { .. }))
        };
        let mut found: Vec<usize> = (0..self.plan.steps.len()).filter(|n| at(n) && expires(n)).collect();
        found.sort_by_key(|index| (self.offset(*index), *index));
        found
    }

    fn offset(&self, index: usize) -> Duration {
        if let Start::At(at) = &self.plan.steps[index].start { *at } else { Duration::ZERO }
    }
}

// ---- steps ----

impl Certificates {
    pub(super) fn new(fault: CertificateFault) -> Self {
        Self { fault, before: BTreeMap::new(), phases: Vec::new() }
    }

    fn begin_mismatch(&mut self, director: &mut Director<'_>, index: usize, wrong: Mismatch) {
        for host in director.hosts_of(index) {
            let before = director.stage.actor(&host).map(|actor| actor.certificates.installed());
            let serial = director.certificates.hosts.get(&host).map(|shown| shown.installed);
            if let (Some(before), Some(serial)) = (before, serial) {
                self.before.insert(host, (serial, before));
            }
        }
        let why = format!("wrong: {}", wrong.word());
        director.attempt(index, |this| this.install_each(index, &why, |this, host| this.mismatched(host, wrong)));
    }

    fn begin_rotation(&mut self, director: &mut Director<'_>, index: usize, overlap: Duration, reconnect: bool) {
        director.attempt(index, |this| this.stage.authorities.found());
        let newest = director.stage.authorities.newest();
        director.certificates.steps.entry(index).or_default().authority = Some(newest);
        director.steps[index].ends_at = Some(director.now + overlap * 2);
        if overlap.is_zero() {
            director.stage.authorities.sign_with_newest();
            director.forget_old_authorities();
            director.renew_all(index);
            director.reconnect_if(index, reconnect);
            return;
        }
        self.phases =
            vec![(director.now + overlap, RotationPhase::Sign), (director.now + overlap * 2, RotationPhase::Forget)];
        director.renew_all(index);
    }
}

impl Family for Certificates {
    /// Installs what is to end at the step's moment, as soon as that moment is known and near enough.
    fn prepare(&mut self, director: &mut Director<'_>, index: usize) {
        let CertificateFault::Expire { .. } = self.fault else { return };
        if director.certificates.steps.contains_key(&index) {
            return;
        }
        let ends = match &director.plan.steps[index].start {
            Start::At(at) => Some(director.began + *at).filter(|ends| director.now + INSTALLED_BEFORE >= *ends),
            Start::After { moment, wait, since } => {
                let came = director.moments.when(moment, since.as_ref(), director.began);
                came.filter(|came| *came <= director.now).map(|came| came + *wait)
            }
        };
        if let Some(ends) = ends
            && !director.hosts_of(index).is_empty()
        {
            director.attempt(index, |this| this.install_ending(index, ends));
        }
    }

    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        match self.fault {
            CertificateFault::Expire { reconnect } => {
                if !director.certificates.steps.contains_key(&index) {
                    director.attempt(index, |this| this.install_ending(index, this.now));
                }
                director.certificates.steps.entry(index).or_default();
                director.reconnect_if(index, reconnect);
            }
            CertificateFault::Rotate { reconnect } => {
                // Without an issuer, somebody whose clock is right issues them.
                let not_before = director.wall(&director.plan.issuer.as_deref().unwrap_or(HARNESS).into());
                let why = "fresh, by hand";
                director.attempt(index, |this| {
                    this.install_each(index, why, |this, host| this.stage.authorities.fresh(host, not_before))
                });
                director.reconnect_if(index, reconnect);
            }
            CertificateFault::Mismatch { wrong, reconnect } => {
                self.begin_mismatch(director, index, wrong);
                director.reconnect_if(index, reconnect);
            }
            CertificateFault::NewAuthority { overlap, reconnect } => {
                self.begin_rotation(director, index, overlap, reconnect);
            }
        }
    }

    /// Performs the phases of a rotation that are due.
    fn go_on(&mut self, director: &mut Director<'_>, index: usize) -> bool {
        let CertificateFault::NewAuthority { reconnect, .. } = self.fault else { return false };
        let due: Vec<RotationPhase> =
            self.phases.iter().filter(|(at, _)| *at <= director.now).map(|(_, phase)| *phase).collect();
        self.phases.retain(|(at, _)| *at > director.now);
        for phase in due {
            match phase {
                RotationPhase::Sign => director.stage.authorities.sign_with_newest(),
                RotationPhase::Forget => director.forget_old_authorities(),
            }
            director.renew_all(index);
            director.reconnect_if(index, reconnect && phase == RotationPhase::Sign);
        }
        false
    }

    /// Installs what was there before a mismatch, or a fresh certificate if that one is no longer good.
    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        let Some(installed) = director.certificates.steps.get(&index) else { return };
        let serials = installed.serials.clone();
        for (host, (serial, identity)) in self.before.clone() {
            let shown = director.certificates.hosts.get(&host);
            if shown.is_none_or(|shown| Some(&shown.installed) != serials.get(&host)) {
                continue; // it has received another one since then
            }
            let certificate = shown.and_then(|shown| shown.known.get(&serial));
            if certificate.is_some_and(|certificate| director.is_good(&host, certificate)) {
                director.stage.install(&host, identity, "the right one again", director.now);
            } else {
                director.attempt(index, |this| this.make_good(&host));
            }
        }
    }

    fn evidence(&self, director: &Director<'_>, index: usize) -> Option<String> {
        let met = director.certificates.steps.get(&index)?.met();
        let with = match self.fault {
            CertificateFault::Expire { .. } => "a certificate that had ended",
            CertificateFault::Rotate { .. } => "the fresh certificate",
            CertificateFault::Mismatch { .. } => "the wrong certificate",
            CertificateFault::NewAuthority { .. } => "a certificate of the new authority",
        };
        let said: Vec<String> =
            met.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (!said.is_empty()).then(|| format!("connections with {with}: {}", said.join(", ")))
    }

    /// What happens at one instant is met only afterwards.
    fn may_bite_late(&self) -> bool {
        match self.fault {
            CertificateFault::Expire { .. }
            | CertificateFault::Rotate { .. }
            | CertificateFault::NewAuthority { .. } => true,
            CertificateFault::Mismatch { .. } => false,
        }
    }
}

// ---- at the final heal ----

impl Director<'_> {
    /// At the final heal, gives every host without a good certificate one, as somebody on call would.
    pub(super) fn heal_certificates(&mut self) {
        self.take_in_certificates();
        let hosts: Vec<Name> = self
            .stage
            .actors
            .iter()
            .filter(|actor| actor.kind != HostKind::Issuer)
            .map(|actor| actor.name.clone())
            .collect();
        for host in hosts {
            let shown = self.certificates.hosts.get(&host);
            let certificate = shown.and_then(|shown| shown.known.get(&shown.installed));
            if certificate.is_none_or(|certificate| !self.is_good(&host, certificate)) {
                self.attempt(usize::MAX, |this| this.make_good(&host));
            }
        }
    }
}

// ---- how ----

impl Director<'_> {
    /// Makes the authority that signs the only one that is trusted.
    fn forget_old_authorities(&mut self) {
        let now = self.true_wall();
        self.stage.authorities.trust_signer_only(now);
    }

    /// Makes every host in `on` renew at once; a host that does not renew by itself is given a new certificate. The
    /// auditor belongs to the harness and is included: no fault of certificates can strike it.
    fn renew_all(&mut self, index: usize) {
        let auditor = self.stage.actors.iter().filter(|actor| actor.kind == HostKind::Auditor).map(|a| a.name.clone());
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
        let is_server = self.stage.actor(host).is_some_and(|actor| actor.kind == HostKind::Server);
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
    fn is_good(&self, host: &Name, certificate: &Certificate) -> bool {
        let now = self.true_wall();
        let renews = self.plan.issuer.is_some();
        let lasts = if renews { 0 } else { i64::try_from(LASTS.as_secs()).unwrap_or(0) };
        let authorities = &self.stage.authorities;
        certificate.name == **host
            && certificate.both_ends
            && (certificate.not_before..=certificate.not_after.saturating_sub(lasts)).contains(&now)
            && authorities.trusts(&certificate.authority)
            && certificate.trusts.contains(&authorities.signer())
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

    /// Handles events that were recorded since the last tick, before they are needed.
    fn take_in_certificates(&mut self) {
        self.notice();
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
}
