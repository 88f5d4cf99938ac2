//! What the log owes its clients once everything has healed: an acknowledgement of what they have to send.

use std::{collections::BTreeMap, time::Duration};

use super::index::Index;
use crate::history::{Name, Outcome, RunClock};

/// Returns how long after the last heal the last of the clients that had something to send was acknowledged again.
pub(super) fn recovered_after(index: &Index<'_>) -> Option<Duration> {
    let healed = index.healed?;
    let acked = obligations(index, healed).into_values().filter_map(|owed| owed.acked);
    acked.map(|acked| index.event(acked).at.saturating_sub(index.event(healed).at)).max()
}

/// What the log owes one client after the heal.
#[derive(Debug)]
pub(super) struct Owed {
    /// The start of the obligation: the heal, or the client's first submission afterwards.
    pub(super) since: RunClock,
    /// The client's first acknowledgement after the heal.
    pub(super) acked: Option<usize>,
}

/// Returns what each client that had something to send is owed.
pub(super) fn obligations<'h>(index: &Index<'h>, healed: usize) -> BTreeMap<&'h Name, Owed> {
    let (heal, within) = (index.event(healed).at, index.expect.recovers_within);
    let mut all: BTreeMap<&Name, Owed> = BTreeMap::new();
    let clients = &index.history.header.clients;
    for entry in index.entries.iter().filter(|entry| clients.contains(entry.client)) {
        let Some((submitted, _)) = entry.submitted else { continue };
        let returned = entry.returned.map(|it| it.0);
        if returned.is_some_and(|at| at < healed) {
            continue;
        }
        // Given up while the log recovered, or refused: both are answers that neither show recovery nor demand it.
        match entry.returned {
            Some((_, Outcome::Refused { .. })) => continue,
            Some((at, Outcome::Unknown { .. })) if index.event(at).at <= heal.saturating_add(within) => continue,
            _ => {}
        }
        let since = index.event(submitted).at.max(heal);
        let owed = all.entry(entry.client).or_insert(Owed { since, acked: None });
        owed.since = owed.since.min(since);
        if let Some((acked, _)) = entry.acked() {
            owed.acked = Some(owed.acked.map_or(acked, |known| known.min(acked)));
        }
    }
    all
}
