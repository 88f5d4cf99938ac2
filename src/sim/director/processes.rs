//! Faults of processes and their machines: who dies, stands still or loses its disk, and who is told of it.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use super::{Director, family::Family};
use crate::{
    fault::ProcessFault,
    history::{Name, What},
    link::LinkFault,
    sim::disk::PutBack,
};

/// A step that strikes processes.
#[derive(Debug)]
pub(super) struct Processes {
    fault: ProcessFault,
    /// The next crash of a churn, and the number of crashes so far.
    next_crash: Option<Duration>,
    crashes: u32,
    /// The number of syncs that a pause held.
    syncs_held: u64,
    /// Whether the disks were put back to their images.
    put_back: bool,
    /// The machines that were brought in place of lost ones.
    machines: BTreeMap<Name, u32>,
}

impl Processes {
    pub(super) fn new(fault: ProcessFault) -> Self {
        Self { fault, next_crash: None, crashes: 0, syncs_held: 0, put_back: false, machines: BTreeMap::new() }
    }

    fn churn(&mut self, director: &mut Director<'_>, index: usize, every: Duration, down: Duration) {
        let Some(due) = self.next_crash.filter(|due| *due <= director.now) else { return };
        if director.steps[index].ends_at.is_some_and(|end| due + down > end) {
            self.next_crash = None; // no room for the restart
            return;
        }
        for host in director.steps[index].hosts.clone() {
            take_down(director, index, &host, false);
            director.raise_at(index, host, director.now + down);
        }
        self.next_crash = Some(due + every);
        self.crashes += 1;
        director.count(index, self.crashes);
    }

    fn pause(&mut self, director: &Director<'_>, index: usize, host: &Name, paused: bool) {
        let hosts = std::slice::from_ref(host);
        if paused {
            director.strike_links(index, hosts, &director.others(hosts), true, LinkFault::Stall);
        }
        let Some(actor) = director.stage.actor(host) else { return };
        actor.still.store(paused, Ordering::Relaxed);
        self.syncs_held += actor.disk.pause(paused, director.now);
        director.stage.recorder.record_at(director.now, host, What::Paused { paused });
    }

    /// Loses a machine for good: what comes up under its name is another one. Nothing of this is evidence yet.
    fn replace(&mut self, director: &mut Director<'_>, index: usize, host: &Name) {
        let Some((bytes, files)) = wipe(director, index, host) else { return };
        let Some(actor) = director.stage.actor(host) else { return };
        let machine = actor.machine.fetch_add(1, Ordering::Relaxed) + 1;
        actor.disk.forget_images();
        director.steps[index].did.push(format!("{host} was lost with {bytes} bytes of {files} files"));
        self.machines.insert(host.clone(), machine);
    }
}

impl Family for Processes {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        let hosts = director.steps[index].hosts.clone();
        match self.fault {
            ProcessFault::Crash => hosts.iter().for_each(|host| take_down(director, index, host, false)),
            ProcessFault::PowerLoss => hosts.iter().for_each(|host| take_down(director, index, host, true)),
            ProcessFault::Restart => {
                hosts.iter().for_each(|host| director.stop(index, host, true));
                // Its length is the time between stop and start: it counts from the stop.
                director.steps[index].ends_at = None;
            }
            ProcessFault::Churn { .. } => self.next_crash = Some(director.now),
            ProcessFault::Pause => hosts.iter().for_each(|host| self.pause(director, index, host, true)),
            ProcessFault::Wipe => {
                for host in &hosts {
                    if let Some((bytes, files)) = wipe(director, index, host).filter(|(_, files)| *files > 0) {
                        let gone = format!("{bytes} bytes of {files} files were wiped from its disk");
                        director.note_bite(index, format!("{host} went dark, and {gone}"));
                    }
                }
            }
            ProcessFault::Rewind { .. } => {
                for actor in hosts.iter().filter_map(|host| director.stage.actor(host)) {
                    actor.disk.keep_image(index, director.now);
                }
            }
            ProcessFault::Replace => hosts.iter().for_each(|host| self.replace(director, index, host)),
        }
    }

    fn go_on(&mut self, director: &mut Director<'_>, index: usize) -> bool {
        if let ProcessFault::Churn { every, down } = self.fault {
            self.churn(director, index, every, down);
        }
        director.finish_stops(index);
        director.raise(index);
        false
    }

    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        self.next_crash = None;
        let hosts = director.steps[index].hosts.clone();
        match self.fault {
            ProcessFault::Restart => {} // the hosts come up by themselves
            ProcessFault::Pause => hosts.iter().for_each(|host| self.pause(director, index, host, false)),
            ProcessFault::Rewind { down } => {
                if !std::mem::replace(&mut self.put_back, true) {
                    hosts.iter().for_each(|host| rewind(director, index, host, down));
                }
            }
            ProcessFault::Crash
            | ProcessFault::PowerLoss
            | ProcessFault::Churn { .. }
            | ProcessFault::Wipe
            | ProcessFault::Replace => {
                // The operator takes the new machines into the cluster.
                self.machines.iter().for_each(|(host, machine)| director.stage.operator.order(host, *machine));
                for host in hosts {
                    if director.is_held_by(index, &host) {
                        director.raise_at(index, host, director.now);
                    }
                }
            }
        }
    }

    /// A replacement bites when the operator is done with all machines of the step.
    fn look_for_evidence(&mut self, director: &mut Director<'_>, index: usize) {
        let state = &director.steps[index];
        if state.has_bitten || self.machines.is_empty() || self.machines.len() < state.hosts.len() {
            return;
        }
        if self.machines.iter().all(|(host, machine)| director.stage.operator.is_done(host, *machine)) {
            let names: Vec<&str> = self.machines.keys().map(|host| &**host).collect();
            director.note_bite(index, format!("an operator took a new machine in for {}", names.join(", ")));
        }
    }

    fn evidence(&self, _director: &Director<'_>, _index: usize) -> Option<String> {
        (self.syncs_held > 0).then(|| format!("{} syncs held", self.syncs_held))
    }

    fn told(&self, director: &Director<'_>, index: usize) -> Option<Vec<String>> {
        let step = &director.steps[index];
        if !self.machines.is_empty() && !step.has_bitten {
            return None; // that a machine was lost is no replacement
        }
        if self.crashes > 1 {
            return Some(vec![format!("{} crashes", self.crashes)]);
        }
        Some(step.did.clone())
    }

    fn may_bite_late(&self) -> bool {
        self.fault == ProcessFault::Replace
    }
}

/// Kills a host on behalf of a step, which then holds it down.
fn take_down(director: &mut Director<'_>, index: usize, host: &Name, dark: bool) {
    if let Some(lost) = director.kill(index, host, dark) {
        let did = match dark {
            true => format!("{host} went dark, {lost} bytes that were not synced lost"),
            false => format!("{host} died while it ran"),
        };
        director.note_bite(index, did);
    }
}

/// Makes a host go dark, puts its disk back to the image that the step keeps, and starts the host after a while.
fn rewind(director: &mut Director<'_>, index: usize, host: &Name, down: Duration) {
    // A machine that took this one's place since the step began has no image.
    if !director.stage.actor(host).is_some_and(|actor| actor.disk.has_image(index)) {
        return;
    }
    director.kill(index, host, true);
    director.raise_at(index, host.clone(), director.now + down);
    let Some(PutBack { to, files }) =
        director.stage.actor(host).and_then(|actor| actor.disk.put_back(index, director.now))
    else {
        return;
    };
    director.stage.recorder.record_at(director.now, host, What::Rewound { to });
    if files > 0 {
        let to = to.as_secs_f64();
        director.note_bite(
            index,
            format!("{host} went dark, and its disk is as it was at {to:.3}s: {files} files changed"),
        );
    }
}

/// Makes a host go dark and wipes its disk. Returns how many bytes of how many files are gone if the host ran.
fn wipe(director: &mut Director<'_>, index: usize, host: &Name) -> Option<(u64, usize)> {
    director.kill(index, host, true)?;
    let gone = director.stage.actor(host)?.disk.wipe();
    director.stage.recorder.record_at(director.now, host, What::Wiped {});
    Some(gone)
}
