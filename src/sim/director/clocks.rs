//! Faults of clocks: which wall clock is wrong, by how much, and who has read it.

use super::{Director, family::Family};
use crate::{
    fault::ClockFault,
    history::{Name, What},
    seam::{self, WallClock, WrongReads},
};

/// A step that sets wall clocks wrong.
#[derive(Debug)]
pub(super) struct Clocks {
    fault: ClockFault,
    /// The readings of clocks that the step had set wrong and has set right again.
    wrong_reads: WrongReads,
}

impl Clocks {
    pub(super) fn new(fault: ClockFault) -> Self {
        Self { fault, wrong_reads: WrongReads::default() }
    }
}

impl Family for Clocks {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        let clock = match self.fault {
            ClockFault::Skew { offset } => WallClock { offset: nanoseconds(offset), rate_ppm: 0 },
            ClockFault::Drift { drift, offset } => WallClock { offset: nanoseconds(offset), rate_ppm: drift.into() },
            ClockFault::Jump { by } => WallClock { offset: nanoseconds(by), rate_ppm: 0 },
        };
        for host in &director.steps[index].hosts {
            let Some(actor) = director.stage.actor(host) else { continue };
            seam::set_clock(actor.index, index, clock);
            record_clock(director, host);
        }
    }

    /// Sets the clocks right again, as far as this step set them wrong.
    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        for host in &director.steps[index].hosts {
            let Some(actor) = director.stage.actor(host) else { continue };
            let reads = seam::lift_clock(actor.index, index);
            self.wrong_reads = together(self.wrong_reads, reads);
            record_clock(director, host);
        }
    }

    fn evidence(&self, director: &Director<'_>, index: usize) -> Option<String> {
        let actors = director.steps[index].hosts.iter().filter_map(|host| director.stage.actor(host));
        let now = actors.map(|actor| seam::wrong_reads(actor.index, index));
        let WrongReads { times, most } = now.fold(self.wrong_reads, together);
        (times > 0).then(|| format!("{times} readings of a wall clock that was up to {} wrong", milliseconds(most)))
    }
}

/// Records what the clock of a host does from now on, all steps together.
fn record_clock(director: &Director<'_>, host: &Name) {
    let Some(actor) = director.stage.actor(host) else { return };
    let WallClock { offset, rate_ppm } = seam::clock_error(actor.index);
    director.stage.recorder.record_at(director.now, host, What::Clock { offset, rate_ppm });
}

fn together(a: WrongReads, b: WrongReads) -> WrongReads {
    let most = if b.most.unsigned_abs() > a.most.unsigned_abs() { b.most } else { a.most };
    WrongReads { times: a.times + b.times, most }
}

/// Converts milliseconds, in which scenario files count, and ten years at most.
fn nanoseconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_mul(1_000_000)
}

fn milliseconds(nanoseconds: i64) -> String {
    format!("{:+} ms", nanoseconds / 1_000_000)
}
