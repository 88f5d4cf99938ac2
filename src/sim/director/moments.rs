//! The moments of a run that steps wait for.

use std::{collections::BTreeMap, time::Duration};

use crate::scenario::Moment;

/// The times at which moments came. Only the first time counts, except for events, which `since` may count from a later
/// moment on.
#[derive(Debug, Default)]
pub(super) struct Moments {
    steps: BTreeMap<Moment, Duration>,
    events: BTreeMap<String, Vec<Duration>>,
}

/// The number of times of one event that are remembered: `since` asks for the first one after a moment that came
/// before.
const REMEMBERED: usize = 100_000;

impl Moments {
    /// Notes that a step reached a moment.
    pub(super) fn reached(&mut self, moment: Moment, at: Duration) {
        self.steps.entry(moment).or_insert(at);
    }

    /// Notes that an event of the log under test was seen.
    pub(super) fn saw(&mut self, event: &str, at: Duration) {
        let Some(times) = self.events.get_mut(event) else {
            self.events.insert(event.to_owned(), vec![at]);
            return;
        };
        if times.len() < REMEMBERED {
            times.push(at);
        }
    }

    /// Returns when `moment` came, at or after `from`; `since` moves `from` to another moment.
    pub(super) fn when(&self, moment: &Moment, since: Option<&Moment>, from: Duration) -> Option<Duration> {
        let Moment::First(event) = moment else { return self.steps.get(moment).copied() };
        let from = match since {
            Some(since) => self.when(since, None, from)?,
            None => from,
        };
        // Hosts take turns within a tick, so times are only nearly in order.
        self.events.get(event)?.iter().filter(|at| **at >= from).min().copied()
    }
}
