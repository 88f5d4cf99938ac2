//! Collects the violations of one check, and merges those of one kind.
//!
//! A log that loses its last thousand entries breaks one promise once, not a thousand times: the first entry is
//! described in full, and the others are named behind it. Evidence is gathered only for the first violation of a kind,
//! so that a badly broken run is judged as fast as a good one.

use super::{
    verdict::{ENTRIES_MAX, Finding, Violation},
    words,
};
use crate::history::EntryId;

/// The violations of one check.
#[derive(Debug, Default)]
pub(super) struct Violations {
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    name: &'static str,
    first: Violation,
    others: Vec<EntryId>,
    total: u64,
}

impl Violations {
    /// Adds a violation of a kind; `tell` is called for the first of its kind only.
    pub(super) fn add(&mut self, kind: &'static str, entry: Option<EntryId>, tell: impl FnOnce() -> Violation) {
        match self.kinds.iter_mut().find(|known| known.name == kind) {
            Some(known) => {
                // One entry that three readers find broken is one entry.
                if entry.as_ref().is_some_and(|it| known.first.entries.contains(it) || known.others.contains(it)) {
                    return;
                }
                known.total += 1;
                if let Some(entry) = entry.filter(|_| known.others.len() < ENTRIES_MAX) {
                    known.others.push(entry);
                }
            }
            None => {
                let first = tell().of(entry);
                self.kinds.push(Kind { name: kind, first, others: Vec::new(), total: 1 });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Returns the violations that the check found, or else `otherwise`.
    pub(super) fn or(self, otherwise: Finding) -> Finding {
        if self.kinds.is_empty() {
            otherwise
        } else {
            Finding::Violated(self.kinds.into_iter().map(Kind::told).collect())
        }
    }

    /// Does what [`Violations::or`] does, for a check that holds if it looked at something; `seen` counts what it
    /// looked at.
    pub(super) fn or_held(self, seen: u64, exercised: impl FnOnce() -> String, idle: &str) -> Finding {
        self.or(if seen == 0 {
            Finding::Idle { why: idle.to_owned() }
        } else {
            Finding::Holds { exercised: exercised() }
        })
    }
}

impl Kind {
    fn told(self) -> Violation {
        let Kind { mut first, others, total, .. } = self;
        if total > 1 && others.is_empty() {
            first.summary.push_str(&format!(" It happened {} times in all.", words::number(total)));
        } else if total > 1 {
            first.summary.push_str(&format!(" Also {}.", words::entries(&others, total - 1)));
        }
        first.of(others)
    }
}
