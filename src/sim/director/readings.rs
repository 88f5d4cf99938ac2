//! Readings around steps: the auditor looks at one server shortly before and after each step begins and ends.
//!
//! The seed decides how long before and after, by a separate stream for each step. A beginning that is known in advance
//! is looked at from both sides; one that the run brings about can be looked at only afterwards.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Director;
use crate::{history::Name, scenario::Start, seam, sim::stage::streams::READINGS};

/// The largest number of readings asked for: a scenario may have a thousand steps, and each reading reads a whole
/// server.
const READINGS_MAX: usize = 48;

/// The time from the beginning of a reading until its server answers, as a multiple of the one-way latency: connecting,
/// a TLS handshake and the request. A reading that has to meet the state at a moment begins that much before.
const WAYS: u32 = 6;

/// A reading that is to meet a moment does so within this time before it.
const SHORTLY: Duration = Duration::from_millis(100);
/// Other readings come within this time of their moment.
const NEAR: Duration = Duration::from_millis(500);

/// The readings asked for around one step.
#[derive(Debug, Default)]
pub(super) struct Around {
    began: bool,
    luck: Option<ChaCha8Rng>,
}

impl Director<'_> {
    /// Asks for readings around the steps whose time is known from the start.
    pub(super) fn foresee_readings(&mut self) {
        for index in 0..self.plan.steps.len() {
            if let Start::At(at) = self.plan.steps[index].start {
                self.read_around_the_beginning(index, self.began + at);
            }
        }
    }

    /// Asks for readings around the moment at which a step will begin, when that moment first becomes known.
    pub(super) fn read_around_the_beginning(&mut self, index: usize, begins: Duration) {
        if std::mem::replace(&mut self.steps[index].readings.began, true) {
            return;
        }
        self.read_before(index, begins);
        let (near, after) = (self.draw(index, NEAR), self.draw(index, NEAR));
        self.read_at(index, begins.saturating_sub(near));
        self.read_at(index, begins + after);
    }

    /// Asks for a reading shortly before or after a step that has begun ends, if that time is known.
    pub(super) fn read_around_the_end(&mut self, index: usize) {
        let Some(ends) = self.steps[index].ends_at.filter(|ends| *ends > self.now) else { return };
        if self.luck(index).random_bool(0.5) {
            self.read_before(index, ends);
        } else {
            let after = self.draw(index, NEAR);
            self.read_at(index, ends + after);
        }
    }

    /// Asks for a reading that meets what its server shows shortly before a moment.
    fn read_before(&mut self, index: usize, moment: Duration) {
        let before = self.scenario.cluster.latency * WAYS + self.draw(index, SHORTLY);
        self.read_at(index, moment.saturating_sub(before));
    }

    /// Asks for a reading of one server that the step strikes, or else of any server; does nothing if it is too late.
    fn read_at(&mut self, index: usize, at: Duration) {
        let struck = self.struck_hosts(&self.plan.steps[index].action);
        let servers: Vec<Name> = self.plan.servers.iter().map(|name| name.as_str().into()).collect();
        let of_step: Vec<Name> = servers.iter().filter(|server| struck.contains(server)).cloned().collect();
        let from = if of_step.is_empty() { servers } else { of_step };
        let server = from[self.luck(index).random_range(0..from.len())].clone();
        if at > self.now && self.stage.agenda.borrow().len() < READINGS_MAX {
            self.stage.agenda.send_modify(|agenda| _ = agenda.insert((at, server)));
        }
    }

    /// Draws a length of time up to `most`, in whole milliseconds and at least one.
    fn draw(&mut self, index: usize, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.luck(index).random_range(1..=most.max(1)))
    }

    fn luck(&mut self, index: usize) -> &mut ChaCha8Rng {
        let (seed, stream) = (self.plan.seed, READINGS + 1 + index as u64);
        self.steps[index].readings.luck.get_or_insert_with(|| seam::stream(seed, stream))
    }
}
