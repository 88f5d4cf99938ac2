//! Faults of memory and load: smaller budgets, more appends.

use gapless_world::LogEvent;

use super::Director;
use crate::{
    fault::LoadFault,
    history::{Event, Name, What},
};

/// What the hosts of a step reported about their memory while the step lasted.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// The number of calls and readers that were turned away.
    shed: u64,
    /// Queues and caches that reached nine tenths of their limit, by name.
    full: std::collections::BTreeMap<String, u64>,
    /// Hosts whose software was told about the smaller budget.
    told: Vec<Name>,
}

impl Director<'_> {
    /// Records what every host may use; called once, at the start.
    pub(super) fn record_budgets(&self) {
        for actor in &self.stage.actors {
            let budget = *actor.memory.borrow();
            self.stage.recorder.record_at(self.now, &actor.name, What::Memory { budget });
        }
    }

    /// Takes memory away, or offers more load.
    pub(super) fn begin_memory(&mut self, index: usize, fault: LoadFault) {
        match fault {
            LoadFault::MemoryPressure { budget } => {
                for host in self.steps[index].hosts.clone() {
                    let Some(actor) = self.stage.actor(&host) else { continue };
                    if actor.memory.receiver_count() > 0 {
                        self.steps[index].pressure.told.push(host.clone());
                    }
                    self.budget_is(&host, budget);
                }
            }
            LoadFault::Surge { appends } => self.stage.surges.begin(index, self.now, appends.interval()),
        }
    }

    /// Gives memory back. Where another step still takes it away, its budget stays: both have the same value.
    pub(super) fn undo_memory(&mut self, index: usize) {
        self.stage.surges.end(index);
        for host in self.steps[index].hosts.clone() {
            if !self.is_pressed(&host, Some(index)) {
                self.budget_is(&host, self.scenario.cluster.memory);
            }
        }
    }

    fn is_pressed(&self, host: &Name, except: Option<usize>) -> bool {
        self.steps.iter().enumerate().any(|(index, step)| {
            Some(index) != except
                && step.status == super::Status::Active
                && self.plan.steps[index].action.name() == "memory-pressure"
                && step.hosts.contains(host)
        })
    }

    fn budget_is(&self, host: &Name, budget: u64) {
        let Some(actor) = self.stage.actor(host) else { return };
        if actor.memory.send_replace(budget) != budget {
            self.stage.recorder.record_at(self.now, host, What::Memory { budget });
        }
    }

    /// Handles what a host reported about its memory, for the steps that squeeze it.
    pub(super) fn notice_memory(&mut self, event: &Event) {
        let What::Log { event: log } = &event.what else { return };
        if let LogEvent::MemoryUsed { .. } = log
            && !self.tell_of_memory.contains(&event.host)
        {
            self.tell_of_memory.push(event.host.clone());
        }
        for (step, state) in self.plan.steps.iter().zip(&mut self.steps) {
            let presses = step.action.name() == "memory-pressure"
                && state.status == super::Status::Active
                && state.hosts.contains(&event.host);
            match log {
                LogEvent::LoadShed { .. } if presses => state.pressure.shed += 1,
                LogEvent::MemoryUsed { what, bytes, limit } if presses && *bytes >= limit - limit / 10 => {
                    *state.pressure.full.entry(what.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// Returns what shows that the step bit, in words.
    pub(super) fn memory_evidence(&self, index: usize) -> Option<String> {
        let offered = self.stage.surges.offered(index);
        if offered > 0 {
            return Some(format!("{offered} appends offered on top"));
        }
        let Pressure { shed, full, told } = &self.steps[index].pressure;
        let mut said = Vec::new();
        if *shed > 0 {
            said.push(format!("shed {shed} times"));
        }
        said.extend(full.iter().map(|(what, times)| format!("`{what}` at its limit {times} times")));
        // If the software reports nothing about its memory, all that is known is that it was told.
        if said.is_empty() {
            let silent = told.iter().filter(|host| !self.tell_of_memory.contains(host));
            said.extend(silent.map(|host| format!("{host} was told of its budget")));
        }
        (!said.is_empty()).then(|| said.join(", "))
    }
}
