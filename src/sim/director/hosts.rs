//! Hosts that steps take down: who holds which host down, who is asked to stop, and when a host is started again.

use std::{sync::atomic::Ordering, time::Duration};

use super::Director;
use crate::history::{Down, Name};

/// How long a host that was asked to stop may take before it is killed, while nothing keeps it from stopping.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long a host stays down after a stop whose step has no length.
const DOWN_DEFAULT: Duration = Duration::from_secs(1);

/// A host that is to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    /// Whether it ran and was asked to stop. Otherwise there is nothing to wait for, and nothing that it could show.
    asked: bool,
    /// Whether the step bites as soon as the host has stopped.
    bites: bool,
    /// How long it could have stopped and did not.
    free: Duration,
    /// The time up to which `free` was counted.
    seen: Duration,
}

impl Director<'_> {
    /// Kills a host on behalf of a step, which then holds it down. Returns the bytes lost if it ran.
    pub(super) fn kill(&mut self, index: usize, host: &Name, dark: bool) -> Option<u64> {
        mark!("struck-while-down", self.held_down.contains_key(host));
        self.held_down.entry(host.clone()).or_default().push(index);
        self.stage.kill(host, if dark { Down::PowerLoss } else { Down::Crash }, self.now)
    }

    /// Asks a host to stop on behalf of a step, which then holds it down. Having stopped is evidence if the step
    /// `bites` by it.
    pub(super) fn stop(&mut self, index: usize, host: &Name, bites: bool) {
        let asked = self.stage.sim.is_host_running(&**host);
        if asked {
            self.stage.ask_to_stop(host, self.now);
        }
        self.held_down.entry(host.clone()).or_default().push(index);
        let stopping = Stopping { asked, bites, free: Duration::ZERO, seen: self.now };
        self.steps[index].stopping.insert(host.clone(), stopping);
    }

    /// Handles hosts that stopped when asked, or did not in time. Having to be killed is no evidence of a stop.
    pub(super) fn finish_stops(&mut self, index: usize) {
        for (host, mut stopping) in self.steps[index].stopping.clone() {
            if !self.is_hindered(&host) {
                stopping.free += self.now - stopping.seen;
            }
            stopping.seen = self.now;
            let late = stopping.free >= STOP_MAX;
            if self.stage.sim.is_host_running(&*host) && !late {
                self.steps[index].stopping.insert(host, stopping);
                continue;
            }
            let killed = late && self.stage.kill(&host, Down::Killed, self.now).is_some();
            if !killed {
                self.stage.mourn(&host, self.now);
            }
            let did = match stopping.asked {
                true => (!killed).then(|| format!("{host} stopped by itself")),
                // The host waits for its supervisor, unless another step keeps it down.
                false => (!self.is_held_by_others(index, &host)).then(|| format!("{host} had ended before")),
            };
            if let Some(did) = did {
                match stopping.bites {
                    true => self.note_bite(index, did),
                    false => self.steps[index].did.push(did),
                }
            }
            let up_at = self.now + self.plan.steps[index].duration.unwrap_or(DOWN_DEFAULT);
            self.steps[index].stopping.remove(&host);
            self.steps[index].ends_at = Some(up_at);
            self.raise_at(index, host, up_at);
        }
    }

    /// Returns whether something outside a host keeps it from stopping: it stands still, or its disk is slow.
    fn is_hindered(&self, host: &Name) -> bool {
        self.stage.actor(host).is_some_and(|actor| actor.still.load(Ordering::Relaxed) || actor.disk.is_slow())
    }

    /// Lets a step release a host at this time.
    pub(super) fn raise_at(&mut self, index: usize, host: Name, at: Duration) {
        self.steps[index].rising.insert(host, at);
    }

    /// Starts hosts whose time has come, unless another step holds them down.
    pub(super) fn raise(&mut self, index: usize) {
        for (host, at) in self.steps[index].rising.clone() {
            if at > self.now {
                continue;
            }
            self.steps[index].rising.remove(&host);
            if let Some(by) = self.held_down.get_mut(&host) {
                by.retain(|step| *step != index);
                if by.is_empty() {
                    self.held_down.remove(&host);
                    self.stage.start(&host);
                }
            }
        }
    }

    /// Returns whether a step holds a host down.
    pub(super) fn is_held_by(&self, index: usize, host: &Name) -> bool {
        self.held_down.get(host).is_some_and(|by| by.contains(&index))
    }

    /// Returns whether a step other than this one holds a host down.
    pub(super) fn is_held_by_others(&self, index: usize, host: &Name) -> bool {
        self.held_down.get(host).is_some_and(|by| by.iter().any(|step| *step != index))
    }
}
