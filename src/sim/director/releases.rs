//! Deployments: hosts that stop at one schema revision and start at another.
//!
//! A host is stopped as by a restart, and its next life is told its revision. A host that is down when its turn comes
//! is not stopped: it runs the new revision whenever it comes up. Either way its turn is over when a life later than
//! the one at the beginning of the turn serves: the listener is bound, or the client came up. The step bites when all
//! its hosts serve.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::PoisonError,
    time::Duration,
};

use super::{Director, family::Family};
use crate::{
    fault::{ReleaseFault, RevisionRole},
    history::Name,
};

/// A host that does not serve within this time is given up: the step then did not bite, and no further host is stopped.
const SERVE_MAX: Duration = Duration::from_secs(120);

/// The progress of a deployment.
#[derive(Debug)]
pub(super) struct Releases {
    fault: ReleaseFault,
    /// Hosts whose turn has not come yet.
    waiting: VecDeque<Name>,
    /// When the next turn may come.
    next_at: Duration,
    /// Hosts whose turn it is: since when, and the life that they were in.
    turns: BTreeMap<Name, (Duration, u32)>,
    served: u32,
}

impl Releases {
    pub(super) fn new(fault: ReleaseFault) -> Self {
        Self { fault, waiting: VecDeque::new(), next_at: Duration::ZERO, turns: BTreeMap::new(), served: 0 }
    }

    fn begin_turn(&mut self, director: &mut Director<'_>, index: usize, host: Name) {
        let Some(actor) = director.stage.actor(&host) else { return };
        let mut revisions = actor.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fault {
            ReleaseFault::Upgrade { to } | ReleaseFault::RollingUpgrade { to, .. } => {
                if revisions.last() != Some(&to) {
                    revisions.push(to);
                }
            }
            // There is no revision before the one that the host started with: the host is restarted as it is.
            ReleaseFault::Rollback => {
                if revisions.len() > 1 {
                    revisions.pop();
                }
            }
        }
        drop(revisions);
        let (life, _) = actor.life();
        self.turns.insert(host.clone(), (director.now, life));
        if director.stage.sim.is_host_running(&*host) && !director.held_down.contains_key(&host) {
            director.stop(index, &host, false);
        }
    }

    fn end_turns(&mut self, director: &mut Director<'_>, index: usize) {
        for (host, (since, before)) in self.turns.clone() {
            let Some(actor) = director.stage.actor(&host) else { continue };
            let (life, serves) = actor.life();
            let revision = actor.revisions.lock().unwrap_or_else(PoisonError::into_inner).last().copied();
            let revision = revision.unwrap_or(RevisionRole::Current).word();
            let up = life > before && serves && director.stage.sim.is_host_running(&*host);
            let held = !up && director.is_held_by_others(index, &host);
            if held {
                // The host serves once the other step releases it: its time counts from then on.
                self.turns.insert(host, (director.now, before));
                continue;
            }
            if !up && director.now < since + SERVE_MAX {
                continue;
            }
            self.turns.remove(&host);
            if !up {
                self.waiting.clear();
                director.steps[index].did.push(format!("{host} did not serve at `{revision}` within {SERVE_MAX:?}"));
                continue;
            }
            self.served += 1;
            self.end_turn(director, index, format!("{host} serves at `{revision}`"));
        }
    }

    fn end_turn(&mut self, director: &mut Director<'_>, index: usize, did: String) {
        if let ReleaseFault::RollingUpgrade { pause, .. } = self.fault {
            self.next_at = director.now + pause;
            director.count(index, self.served);
        }
        match usize::try_from(self.served) == Ok(director.steps[index].hosts.len()) {
            true => director.note_bite(index, did),
            false => director.steps[index].did.push(did),
        }
    }
}

impl Family for Releases {
    /// Lines the hosts up. The first turn, or all of them, comes in the same tick.
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        self.waiting = director.steps[index].hosts.iter().cloned().collect();
        self.next_at = director.now;
    }

    /// Ends the turns of hosts that serve again and begins those that are due. Returns whether any are left.
    fn go_on(&mut self, director: &mut Director<'_>, index: usize) -> bool {
        director.finish_stops(index);
        director.raise(index);
        self.end_turns(director, index);
        let one_by_one = matches!(self.fault, ReleaseFault::RollingUpgrade { .. });
        loop {
            let busy = one_by_one && (!self.turns.is_empty() || self.next_at > director.now);
            if busy {
                return true;
            }
            let Some(host) = self.waiting.pop_front() else { break };
            self.begin_turn(director, index, host);
        }
        !self.turns.is_empty()
    }

    /// Unless every host served at its revision, nothing is proved, whatever happened to the others.
    fn told(&self, director: &Director<'_>, index: usize) -> Option<Vec<String>> {
        let step = &director.steps[index];
        step.has_bitten.then(|| step.did.clone())
    }

    fn waits_for_the_heal(&self, director: &Director<'_>, index: usize) -> bool {
        !self.turns.is_empty() && self.turns.keys().all(|host| director.is_held_by_others(index, host))
    }
}
