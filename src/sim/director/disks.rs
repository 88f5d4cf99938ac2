//! Faults of disks: which disk does what, and what it did.

use std::sync::atomic::Ordering;

use super::Director;
use crate::{
    fault::{DiskFault, Effect},
    history::{Name, What},
};

impl Director<'_> {
    /// Makes the disks of a step's hosts fail or lie.
    pub(super) fn begin_disk(&mut self, index: usize, fault: DiskFault, path: &str) {
        for host in &self.steps[index].hosts {
            if let Some(actor) = self.stage.actor(host) {
                actor.disk.begin_fault(index, fault, path, self.now);
            }
        }
    }

    /// Makes the disks sound again, and repairs what they have damaged.
    pub(super) fn undo_disk(&mut self, index: usize) {
        for host in &self.steps[index].hosts {
            if let Some(actor) = self.stage.actor(host) {
                actor.disk.end_fault(index, self.now);
            }
        }
    }

    /// Makes a host go dark and wipes its disk.
    pub(super) fn wipe(&mut self, index: usize, host: &Name) {
        if self.kill(index, host, true).is_none() {
            return;
        }
        let Some(actor) = self.stage.actor(host) else { return };
        let (bytes, files) = actor.disk.wipe();
        self.stage.recorder.record_at(self.now, host, What::Wiped {});
        if files > 0 {
            self.bit(index, format!("{host} went dark, and {bytes} bytes of {files} files were wiped from its disk"));
        }
    }

    /// Loses a machine for good: what comes up under its name is another one. Nothing of this is evidence yet.
    pub(super) fn replace(&mut self, index: usize, host: &Name) {
        if self.kill(index, host, true).is_none() {
            return;
        }
        let Some(actor) = self.stage.actor(host) else { return };
        let (bytes, files) = actor.disk.wipe();
        let machine = actor.machine.fetch_add(1, Ordering::Relaxed) + 1;
        self.stage.recorder.record_at(self.now, host, What::Wiped {});
        self.steps[index].did.push(format!("{host} was lost with {bytes} bytes of {files} files"));
        self.steps[index].machines.insert(host.clone(), machine);
    }

    /// Makes the operator take the new machines into the cluster.
    pub(super) fn order_replacements(&self, index: usize) {
        let machines = &self.steps[index].machines;
        machines.iter().for_each(|(host, machine)| self.stage.operator.order(host, *machine));
    }

    /// Looks whether the operator is done with all machines of a step; the step bites then.
    pub(super) fn look_for_replacements(&mut self, index: usize) {
        let machines = &self.steps[index].machines;
        if self.steps[index].bit || machines.is_empty() || machines.len() < self.steps[index].hosts.len() {
            return;
        }
        if machines.iter().all(|(host, machine)| self.stage.operator.is_done(host, *machine)) {
            let names: Vec<&str> = machines.keys().map(|host| &**host).collect();
            self.bit(index, format!("an operator took a new machine in for {}", names.join(", ")));
        }
    }

    /// Returns what shows that the step bit, in words.
    pub(super) fn disk_evidence(&self, index: usize) -> Option<String> {
        let Effect::Disk { .. } = self.plan.steps[index].action.effect() else { return None };
        let hosts = self.steps[index].hosts.iter().filter_map(|host| self.stage.actor(host));
        let said: Vec<String> = hosts
            .filter_map(|actor| Some(format!("{} of {}", actor.disk.evidence(index, self.now)?, actor.name)))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}
