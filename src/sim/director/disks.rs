//! Faults of disks: which disk does what, and what it did.

use super::{Director, family::Family};
use crate::fault::DiskFault;

/// A step that makes disks fail or lie. The disks themselves count what it does.
#[derive(Debug)]
pub(super) struct Disks {
    fault: DiskFault,
    /// Which files are struck; empty for all.
    path: String,
}

impl Disks {
    pub(super) fn new(fault: DiskFault, path: String) -> Self {
        Self { fault, path }
    }
}

impl Family for Disks {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        for host in &director.steps[index].hosts {
            if let Some(actor) = director.stage.actor(host) {
                actor.disk.begin_fault(index, self.fault, &self.path, director.now);
            }
        }
    }

    /// Makes the disks sound again, and repairs what they have damaged.
    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        for host in &director.steps[index].hosts {
            if let Some(actor) = director.stage.actor(host) {
                actor.disk.end_fault(index, director.now);
            }
        }
    }

    fn evidence(&self, director: &Director<'_>, index: usize) -> Option<String> {
        let hosts = director.steps[index].hosts.iter().filter_map(|host| director.stage.actor(host));
        let said: Vec<String> = hosts
            .filter_map(|actor| Some(format!("{} of {}", actor.disk.evidence(index, director.now)?, actor.name)))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}
