//! Faults of memory and load: smaller budgets, more appends.

use std::collections::BTreeMap;

use gapless_world::LogEvent;

use super::{Director, Status, family::Family};
use crate::{
    fault::{Effect, LoadFault},
    history::{Name, What},
};

/// A step that takes memory away or offers more load, with what its hosts reported about their memory while it lasted.
#[derive(Debug)]
pub(super) struct Load {
    fault: LoadFault,
    /// The number of calls and readers that were turned away.
    shed: u64,
    /// Queues and caches that reached nine tenths of their limit, by name.
    full: BTreeMap<String, u64>,
    /// Hosts whose software was told about the smaller budget.
    told: Vec<Name>,
}

impl Load {
    pub(super) fn new(fault: LoadFault) -> Self {
        Self { fault, shed: 0, full: BTreeMap::new(), told: Vec::new() }
    }

    /// Returns what hosts with less memory did, in words.
    fn pressure(&self, director: &Director<'_>) -> Option<String> {
        let mut said = Vec::new();
        if self.shed > 0 {
            said.push(format!("shed {} times", self.shed));
        }
        said.extend(self.full.iter().map(|(what, times)| format!("`{what}` at its limit {times} times")));
        // If the software reports nothing about its memory, all that is known is that it was told.
        if said.is_empty() {
            let silent = self.told.iter().filter(|host| !director.tell_of_memory.contains(host));
            said.extend(silent.map(|host| format!("{host} was told of its budget")));
        }
        (!said.is_empty()).then(|| said.join(", "))
    }
}

impl Family for Load {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        match self.fault {
            LoadFault::MemoryPressure { budget } => {
                for host in &director.steps[index].hosts {
                    let Some(actor) = director.stage.actor(host) else { continue };
                    if actor.memory.receiver_count() > 0 {
                        self.told.push(host.clone());
                    }
                    set_budget(director, host, budget);
                }
            }
            LoadFault::Surge { appends } => director.stage.surges.begin(index, director.now, appends.interval()),
        }
    }

    /// Ends the surge, or gives memory back. Where another step still takes it away, its budget stays: both have the
    /// same value.
    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        // Clients look at surges again whenever a step of this family ends, also when memory is given back.
        director.stage.surges.end(index);
        match self.fault {
            LoadFault::MemoryPressure { .. } => {
                for host in &director.steps[index].hosts {
                    if !is_pressed_by_others(director, index, host) {
                        set_budget(director, host, director.scenario.cluster.memory);
                    }
                }
            }
            LoadFault::Surge { .. } => {}
        }
    }

    fn notice(&mut self, event: &LogEvent) {
        match event {
            LogEvent::LoadShed { .. } => self.shed += 1,
            LogEvent::MemoryUsed { what, bytes, limit } if *bytes >= limit - limit / 10 => {
                *self.full.entry(what.clone()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn evidence(&self, director: &Director<'_>, index: usize) -> Option<String> {
        match self.fault {
            LoadFault::MemoryPressure { .. } => self.pressure(director),
            LoadFault::Surge { .. } => {
                let offered = director.stage.surges.offered(index);
                (offered > 0).then(|| format!("{offered} appends offered on top"))
            }
        }
    }
}

impl Director<'_> {
    /// Records what every host may use; called once, at the start.
    pub(super) fn record_budgets(&self) {
        for actor in &self.stage.actors {
            let budget = *actor.memory.borrow();
            self.stage.recorder.record_at(self.now, &actor.name, What::Memory { budget });
        }
    }
}

fn is_pressed_by_others(director: &Director<'_>, index: usize, host: &Name) -> bool {
    director.steps.iter().zip(&director.plan.steps).enumerate().any(|(other, (step, planned))| {
        other != index
            && step.status == Status::Active
            && matches!(planned.action.effect(), Effect::Load(LoadFault::MemoryPressure { .. }))
            && step.hosts.contains(host)
    })
}

fn set_budget(director: &Director<'_>, host: &Name, budget: u64) {
    let Some(actor) = director.stage.actor(host) else { return };
    if actor.memory.send_replace(budget) != budget {
        director.stage.recorder.record_at(director.now, host, What::Memory { budget });
    }
}
