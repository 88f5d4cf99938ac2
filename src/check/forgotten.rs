//! What hosts forgot on purpose, because their data folder was wiped or put back to an earlier state.

use std::collections::BTreeMap;

use super::index::Index;
use crate::history::{Name, RunClock, What};

/// The times that each host has forgotten.
pub(super) struct Forgotten<'h>(BTreeMap<&'h Name, Vec<Span>>);

/// A time of which a host has forgotten everything.
struct Span {
    from: RunClock,
    /// The event by which it was forgotten.
    to: usize,
}

impl<'h> Forgotten<'h> {
    pub(super) fn of(index: &Index<'h>) -> Forgotten<'h> {
        let mut all: BTreeMap<&Name, Vec<Span>> = BTreeMap::new();
        for (to, event) in index.history.events.iter().enumerate() {
            let from = match event.what {
                What::Wiped {} => RunClock::ZERO,
                What::Rewound { to } => to,
                _ => continue,
            };
            all.entry(&event.host).or_default().push(Span { from, to });
        }
        Forgotten(all)
    }

    /// Returns the event by which `host` forgot what it had done at `event`; `None` if it still knows.
    pub(super) fn when(&self, index: &Index<'_>, host: &Name, event: usize) -> Option<usize> {
        let at = index.event(event).at;
        let spans = self.0.get(host)?;
        spans.iter().find(|span| span.from <= at && event < span.to).map(|span| span.to)
    }
}
