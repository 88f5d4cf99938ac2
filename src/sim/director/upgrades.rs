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

use super::Director;
use crate::{
    fault::{Effect, ReleaseFault, Role},
    history::Name,
};

/// A host that does not serve within this time is given up: the step then did not bite, and no further host is stopped.
const SERVE_MAX: Duration = Duration::from_secs(120);

/// The progress of a deployment.
#[derive(Debug, Default)]
pub(super) struct Upgrading {
    /// Hosts whose turn has not come yet.
    waiting: VecDeque<Name>,
    /// When the next turn may come.
    next_at: Duration,
    /// Hosts whose turn it is: since when, and the life that they were in.
    turns: BTreeMap<Name, (Duration, u32)>,
    served: u32,
}

impl Director<'_> {
    /// Returns whether the step is a deployment.
    pub(super) fn deploys(&self, index: usize) -> bool {
        matches!(self.plan.steps[index].action.effect(), Effect::Release(_))
    }

    /// Lines the hosts up. The first turn, or all of them, comes in the same tick.
    pub(super) fn begin_upgrade(&mut self, index: usize) {
        let state = &mut self.steps[index];
        state.upgrading.waiting = state.hosts.iter().cloned().collect();
        state.upgrading.next_at = self.now;
    }

    /// Ends the turns of hosts that serve again and begins those that are due. Returns whether any are left.
    pub(super) fn go_on_upgrading(&mut self, index: usize) -> bool {
        if !self.deploys(index) {
            return false;
        }
        self.end_turns(index);
        let one_by_one = self.plan.steps[index].action.duration("pause").is_some();
        loop {
            let upgrading = &mut self.steps[index].upgrading;
            let busy = one_by_one && (!upgrading.turns.is_empty() || upgrading.next_at > self.now);
            if busy {
                return true;
            }
            let Some(host) = upgrading.waiting.pop_front() else { break };
            self.begin_turn(index, host);
        }
        !self.steps[index].upgrading.turns.is_empty()
    }

    /// Returns whether only hosts are left that other steps hold down, perhaps until the final heal.
    pub(super) fn waits_for_the_heal(&self, index: usize) -> bool {
        let turns = &self.steps[index].upgrading.turns;
        !turns.is_empty() && turns.keys().all(|host| self.is_held_by_others(index, host))
    }

    pub(super) fn is_held_by_others(&self, index: usize, host: &Name) -> bool {
        self.held_down.get(host).is_some_and(|by| by.iter().any(|step| *step != index))
    }

    fn begin_turn(&mut self, index: usize, host: Name) {
        let Some(actor) = self.stage.actor(&host) else { return };
        let mut revisions = actor.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        match self.plan.steps[index].action.revision() {
            Some(to) if revisions.last() != Some(&to) => revisions.push(to),
            Some(_) => {}
            // There is no revision before the one that the host started with: the host is restarted as it is.
            None if revisions.len() > 1 => _ = revisions.pop(),
            None => {}
        }
        drop(revisions);
        let (life, _) = actor.life();
        self.steps[index].upgrading.turns.insert(host.clone(), (self.now, life));
        if self.stage.sim.is_host_running(&*host) && !self.held_down.contains_key(&host) {
            self.stop(index, &host);
        }
    }

    fn end_turns(&mut self, index: usize) {
        for (host, (since, before)) in self.steps[index].upgrading.turns.clone() {
            let Some(actor) = self.stage.actor(&host) else { continue };
            let (life, serves) = actor.life();
            let revision = actor.revisions.lock().unwrap_or_else(PoisonError::into_inner).last().copied();
            let revision = revision.unwrap_or(Role::Current).word();
            let up = life > before && serves && self.stage.sim.is_host_running(&*host);
            let held = !up && self.is_held_by_others(index, &host);
            if held {
                // The host serves once the other step releases it: its time counts from then on.
                self.steps[index].upgrading.turns.insert(host, (self.now, before));
                continue;
            }
            if !up && self.now < since + SERVE_MAX {
                continue;
            }
            let upgrading = &mut self.steps[index].upgrading;
            upgrading.turns.remove(&host);
            if !up {
                upgrading.waiting.clear();
                self.steps[index].did.push(format!("{host} did not serve at `{revision}` within {SERVE_MAX:?}"));
                continue;
            }
            upgrading.served += 1;
            self.end_turn(index, format!("{host} serves at `{revision}`"));
        }
    }

    fn end_turn(&mut self, index: usize, did: String) {
        let served = self.steps[index].upgrading.served;
        if let Effect::Release(ReleaseFault::RollingUpgrade { pause, .. }) = *self.plan.steps[index].action.effect() {
            self.steps[index].upgrading.next_at = self.now + pause;
            self.count(index, served);
        }
        match usize::try_from(served) == Ok(self.steps[index].hosts.len()) {
            true => self.bit(index, did),
            false => self.steps[index].did.push(did),
        }
    }
}
