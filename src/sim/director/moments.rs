//! The moments of a run that steps wait for.

use std::{collections::BTreeMap, time::Duration};

use crate::scenario::Moment;

/// When what happened. Only the first time counts, except for events, which may be asked for from a moment on.
#[derive(Debug, Default)]
pub(super) struct Moments {
    steps: BTreeMap<Moment, Duration>,
    events: BTreeMap<String, Vec<Duration>>,
}

/// More than these of one event are not remembered: `since` asks for the first one after a moment that came before.
const REMEMBERED: usize = 100_000;

impl Moments {
    /// A step reached a moment.
    pub(super) fn reached(&mut self, moment: Moment, at: Duration) {
        self.steps.entry(moment).or_insert(at);
    }

    /// An event of the log under test was seen.
    pub(super) fn saw(&mut self, event: &str, at: Duration) {
        let Some(times) = self.events.get_mut(event) else {
            self.events.insert(event.to_owned(), vec![at]);
            return;
        };
        if times.len() < REMEMBERED {
            times.push(at);
        }
    }

    /// When `moment` came, at or after `from`; `since` moves `from` to another moment.
    pub(super) fn when(&self, moment: &Moment, since: Option<&Moment>, from: Duration) -> Option<Duration> {
        let Moment::First(event) = moment else { return self.steps.get(moment).copied() };
        let from = match since {
            Some(since) => self.when(since, None, from)?,
            None => from,
        };
        // Hosts take turns inside a tick, so times are only nearly in order.
        self.events.get(event)?.iter().filter(|at| **at >= from).min().copied()
    }
}
