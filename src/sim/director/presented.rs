//! What certificates the hosts present, as the history records it, and how often connections met those of a step.
//!
//! This is kept apart from the steps, because it goes on whatever a step does at the moment: a certificate can be met
//! long before its step begins, and long after it has ended.

use std::{collections::BTreeMap, time::Duration};

use gapless_world::LogEvent;

use super::Director;
use crate::{
    fault::{CertificateFault, Effect},
    history::{Event, Name, What},
};

/// The director's knowledge of certificates.
#[derive(Debug, Default)]
pub(super) struct Presented {
    pub(super) hosts: BTreeMap<Name, Shown>,
    /// What each step installed, by its index.
    pub(super) steps: BTreeMap<usize, Installed>,
    /// Since when each wall clock is wrong, by how many nanoseconds, and by how many millionths of the time since then.
    clocks: BTreeMap<Name, (Duration, i64, i64)>,
}

/// The certificates of one host, as the history records them.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) known: BTreeMap<u64, Certificate>,
    pub(super) installed: u64,
    taken: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) name: String,
    pub(super) authority: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) both_ends: bool,
    pub(super) trusts: Vec<String>,
}

/// What one step installed, and how often it was met.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// The serial number that each host had.
    pub(super) serials: BTreeMap<Name, u64>,
    /// The authority that a rotation brought up.
    pub(super) authority: Option<String>,
    connections: u64,
    refused: u64,
    closed: u64,
}

impl Installed {
    /// Returns how many connections met it, by what became of them.
    pub(super) fn met(&self) -> [(u64, &'static str); 3] {
        [(self.connections, "opened"), (self.refused, "refused"), (self.closed, "closed")]
    }
}

impl Director<'_> {
    /// Handles one event of the history.
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
                let certificate = Certificate {
                    name: name.clone(),
                    authority: authority.clone(),
                    not_before: *not_before,
                    not_after: *not_after,
                    both_ends: *for_servers && *for_clients,
                    trusts: trusts.clone(),
                };
                let shown = self.certificates.hosts.entry(event.host.clone()).or_default();
                shown.known.insert(*serial, certificate);
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
        let Presented { hosts, steps, .. } = &mut self.certificates;
        let between = [&*event.host, peer];
        let shows = |host: &str| {
            let shown = hosts.get(host)?;
            Some((shown.taken?, shown.known.get(&shown.taken?)?))
        };
        let to_issuer = self.plan.issuer.as_deref().is_some_and(|issuer| between.contains(&issuer));
        for (index, installed) in steps.iter_mut().filter(|_| !to_issuer) {
            let effect = self.plan.steps[*index].action.effect();
            let expires = matches!(effect, Effect::Certificate(CertificateFault::Expire { .. }));
            let elapsed = i64::try_from(event.at.as_secs()).unwrap_or(i64::MAX / 4);
            let ended = |certificate: &Certificate| self.scenario.cluster.wall_clock + elapsed > certificate.not_after;
            let met = between.iter().any(|host| {
                let Some((serial, certificate)) = shows(host) else { return false };
                let own = installed.serials.get(*host) == Some(&serial) && (!expires || ended(certificate));
                own || installed.authority.as_ref() == Some(&certificate.authority)
            });
            *which(installed) += u64::from(met);
        }
    }

    /// Returns what the wall clock of a host shows, in seconds since 1970.
    pub(super) fn wall(&self, host: &Name) -> i64 {
        let (at, offset, rate) = self.certificates.clocks.get(host).copied().unwrap_or_default();
        let since = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX >> 32);
        let (now, second) = (since(self.now), 1_000_000_000);
        let wrong = i128::from(offset) + i128::from(rate) * (now - since(at)) / 1_000_000;
        let shown = i128::from(self.scenario.cluster.wall_clock) + (now + wrong).div_euclid(second);
        i64::try_from(shown).unwrap_or(i64::MAX / 4)
    }
}
