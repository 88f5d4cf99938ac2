//! Performs steps: when one begins, how it goes on, when it ends, and how its evidence is told. What a step does is a
//! matter of its family.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use super::{Director, course::Course, family::Family, hosts::Stopping, readings::Around};
use crate::{
    fault::{Effect, End},
    history::{Event, Name, StepEvent, What},
    scenario::{Moment, PlannedStep, Start},
};

/// The state of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Waiting,
    Active,
    Done,
    NotRun,
}

/// The director's knowledge of one step, as far as it is the same for all steps.
#[derive(Debug, Default)]
pub(super) struct StepState {
    pub(super) status: Status,
    began_at: Duration,
    /// When the step is undone; `None`: at the final heal.
    pub(super) ends_at: Option<Duration>,
    pub(super) hosts: Vec<Name>,
    pub(super) has_bitten: bool,
    /// What the step did to hosts, in words; links count what it did to them.
    pub(super) did: Vec<String>,
    /// Hosts that are to be down, and how far they have come.
    pub(super) stopping: BTreeMap<Name, Stopping>,
    /// Hosts that are to come up again at this time.
    pub(super) rising: BTreeMap<Name, Duration>,
    pub(super) readings: Around,
    /// What its family keeps of it; `None` only while the family acts.
    course: Option<Course>,
}

impl StepState {
    /// Returns the state of a step that has not begun.
    pub(super) fn new(effect: &Effect) -> Self {
        Self { course: Some(Course::new(effect)), ..Self::default() }
    }
}

// ---- from beginning to end ----

impl Director<'_> {
    /// Begins, continues and ends every step whose time has come.
    pub(super) fn direct_steps(&mut self) {
        if self.began.is_zero() {
            return;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for index in 0..self.steps.len() {
                changed |= match self.steps[index].status {
                    Status::Waiting => {
                        self.let_act(index, |family, director| family.prepare(director, index));
                        self.begin_if_due(index)
                    }
                    Status::Active => self.go_on(index),
                    Status::Done => {
                        if self.family(index).is_some_and(Family::may_bite_late) {
                            self.look_for_evidence(index);
                        }
                        false
                    }
                    Status::NotRun => false,
                };
            }
        }
        self.arm();
    }

    /// Ends every step that has no end of its own, in reverse order of beginning.
    pub(super) fn heal(&mut self) {
        let mut active: Vec<usize> =
            (0..self.steps.len()).filter(|index| self.steps[*index].status == Status::Active).collect();
        active.sort_by_key(|index| std::cmp::Reverse((self.steps[*index].began_at, *index)));
        for index in active {
            self.steps[index].ends_at = Some(self.now);
            self.go_on(index);
        }
        self.heal_certificates();
    }

    fn begin_if_due(&mut self, index: usize) -> bool {
        let due = match &self.plan.steps[index].start {
            Start::At(at) => Some(self.began + *at),
            Start::After { moment, wait, since } => {
                self.moments.when(moment, since.as_ref(), self.began).map(|at| at + *wait)
            }
        };
        if let Some(due) = due {
            self.read_around_the_beginning(index, due);
        }
        if due.is_none_or(|due| due > self.now) {
            return false;
        }
        self.begin(index);
        true
    }

    /// Begins a step, at its time or not.
    pub(super) fn begin(&mut self, index: usize) {
        let step: &PlannedStep = &self.plan.steps[index];
        let struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        let hosts = struck.unwrap_or_else(|| self.struck_hosts(&step.action));
        mark!("nobody-to-strike", step.action.on().is_some() && hosts.is_empty());
        let state = &mut self.steps[index];
        state.status = Status::Active;
        state.began_at = self.now;
        state.hosts.clone_from(&hosts);
        state.ends_at = match step.action.fault().end {
            End::Instant => Some(self.now),
            End::Healed => step.duration.map(|length| self.now + length),
            End::After(default) => Some(self.now + step.duration.unwrap_or(default)),
        };
        self.moments.reached(Moment::Begins(step.name.clone()), self.now);
        self.record_step(index, StepEvent::Begins { hosts });
        self.read_around_the_end(index);
        self.let_act(index, |family, director| family.begin(director, index));
    }

    /// Does what an active step does in this tick. Returns whether the step ended.
    fn go_on(&mut self, index: usize) -> bool {
        let has_more = self.let_act(index, |family, director| family.go_on(director, index));
        self.look_for_evidence(index);
        if has_more || self.steps[index].ends_at.is_none_or(|end| end > self.now) {
            return false;
        }
        self.let_act(index, |family, director| family.end(director, index));
        self.stage.links.lift(index);
        self.raise(index);
        self.finish_stops(index);
        let state = &self.steps[index];
        if !state.stopping.is_empty() || !state.rising.is_empty() {
            return false;
        }
        self.look_for_evidence(index);
        self.steps[index].status = Status::Done;
        let evidence = self.evidence(index);
        self.record_step(index, StepEvent::Ended { evidence });
        self.moments.reached(Moment::Ended(self.plan.steps[index].name.clone()), self.now);
        true
    }

    /// Counts something that a step does again and again as a moment: `STEP:2` is the second time.
    pub(super) fn count(&mut self, index: usize, n: u32) {
        self.moments.reached(Moment::Nth(self.plan.steps[index].name.clone(), n), self.now);
        self.record_step(index, StepEvent::Nth { n });
    }
}

// ---- families ----

impl Director<'_> {
    /// Lets the family of a step act. It may ask the director for anything, so its own state is out of the director's
    /// hands meanwhile.
    fn let_act<R: Default>(&mut self, index: usize, act: impl FnOnce(&mut dyn Family, &mut Self) -> R) -> R {
        let Some(mut course) = self.steps[index].course.take() else { return R::default() };
        let done = act(course.family_mut(), self);
        self.steps[index].course = Some(course);
        done
    }

    fn family(&self, index: usize) -> Option<&dyn Family> {
        self.steps[index].course.as_ref().map(Course::family)
    }

    /// Returns whether a step is under way and ends by itself, without the final heal.
    pub(super) fn comes_to_an_end(&self, index: usize) -> bool {
        let step = &self.steps[index];
        let waits = || self.family(index).is_some_and(|family| family.waits_for_the_heal(self, index));
        step.status == Status::Active && step.ends_at.is_some() && !waits()
    }

    /// Shows an event of the log to the steps that strike its host.
    pub(super) fn notice_on_steps(&mut self, event: &Event) {
        let What::Log { event: log } = &event.what else { return };
        for step in &mut self.steps {
            if step.status == Status::Active
                && step.hosts.contains(&event.host)
                && let Some(course) = &mut step.course
            {
                course.family_mut().notice(log);
            }
        }
    }
}

// ---- evidence ----

impl Director<'_> {
    /// Notes what a step did to a host; the step bites if it has not done so before.
    pub(super) fn note_bite(&mut self, index: usize, did: String) {
        self.steps[index].did.push(did.clone());
        self.bite(index, did);
    }

    fn bite(&mut self, index: usize, evidence: String) {
        if !std::mem::replace(&mut self.steps[index].has_bitten, true) {
            self.moments.reached(Moment::Bites(self.plan.steps[index].name.clone()), self.now);
            self.record_step(index, StepEvent::Bites { evidence });
        }
    }

    fn look_for_evidence(&mut self, index: usize) {
        self.let_act(index, |family, director| family.look_for_evidence(director, index));
        if self.steps[index].has_bitten {
            return;
        }
        if let Some(evidence) = self.counted_evidence(index) {
            self.bite(index, evidence);
        }
    }

    /// Returns what was counted for a step, by links and by others.
    fn counted_evidence(&self, index: usize) -> Option<String> {
        let links = self.stage.links.evidence(index);
        let mut said: Vec<String> = links.is_some().then(|| links.to_string()).into_iter().collect();
        said.extend(self.family(index).and_then(|family| family.evidence(self, index)));
        (!said.is_empty()).then(|| said.join(", "))
    }

    /// Returns what the history tells of a step when it ends.
    fn evidence(&self, index: usize) -> Option<String> {
        let mut said = self.family(index)?.told(self, index)?;
        said.extend(self.counted_evidence(index));
        (!said.is_empty()).then(|| said.join("; "))
    }
}
