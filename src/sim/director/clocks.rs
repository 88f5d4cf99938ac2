//! Faults of clocks: which wall clock is wrong, by how much, and who has read it.

use super::Director;
use crate::{
    fault::{ClockFault, Effect},
    history::{Name, What},
    seam::{self, WallClock, WrongReads},
};

impl Director<'_> {
    /// Sets the clocks wrong.
    pub(super) fn begin_clock(&mut self, index: usize, fault: ClockFault) {
        let clock = match fault {
            ClockFault::Skew { offset } => WallClock { offset: nanoseconds(offset), rate_ppm: 0 },
            ClockFault::Drift { drift, offset } => WallClock { offset: nanoseconds(offset), rate_ppm: drift.into() },
            ClockFault::Jump { by } => WallClock { offset: nanoseconds(by), rate_ppm: 0 },
        };
        for host in self.steps[index].hosts.clone() {
            let Some(actor) = self.stage.actor(&host) else { continue };
            seam::set_clock(actor.index, index, clock);
            self.record_clock(&host);
        }
    }

    /// Sets the clocks right again, as far as this step set them wrong.
    pub(super) fn undo_clock(&mut self, index: usize) {
        for host in self.steps[index].hosts.clone() {
            let Some(actor) = self.stage.actor(&host) else { continue };
            let reads = seam::lift_clock(actor.index, index);
            let so_far = self.steps[index].wrong_reads;
            self.steps[index].wrong_reads = together(so_far, reads);
            self.record_clock(&host);
        }
    }

    /// Returns what shows that the step bit, in words.
    pub(super) fn clock_evidence(&self, index: usize) -> Option<String> {
        let Effect::Clock(_) = self.plan.steps[index].action.effect() else { return None };
        let actors = self.steps[index].hosts.iter().filter_map(|host| self.stage.actor(host));
        let now = actors.map(|actor| seam::wrong_reads(actor.index, index));
        let WrongReads { times, most } = now.fold(self.steps[index].wrong_reads, together);
        (times > 0).then(|| format!("{times} readings of a wall clock that was up to {} wrong", milliseconds(most)))
    }

    /// Records what the clock of a host does from now on, all steps together.
    fn record_clock(&self, host: &Name) {
        let Some(actor) = self.stage.actor(host) else { return };
        let WallClock { offset, rate_ppm } = seam::clock_error(actor.index);
        self.stage.recorder.record_at(self.now, host, What::Clock { offset, rate_ppm });
    }
}

fn together(a: WrongReads, b: WrongReads) -> WrongReads {
    let most = if b.most.unsigned_abs() > a.most.unsigned_abs() { b.most } else { a.most };
    WrongReads { times: a.times + b.times, most }
}

/// Converts milliseconds, in which scenario files count; they stay below ten years.
fn nanoseconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_mul(1_000_000)
}

fn milliseconds(nanoseconds: i64) -> String {
    format!("{:+} ms", nanoseconds / 1_000_000)
}
