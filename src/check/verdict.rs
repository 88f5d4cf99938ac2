//! What a judgement consists of: a verdict, a finding for each invariant, and the facts that a reader asks for next.
//!
//! It is plain data that crosses a process boundary as JSON. A finding never says that an invariant holds unless it
//! was exercised; an invariant that nothing exercised is idle, and makes the verdict inconclusive.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{EntryId, Invariant, Name};

/// The most events that one violation points at: they have to fit a screen.
pub const EVENTS_MAX: usize = 12;
/// The most entries that one violation names; its sentence says how many there are in all.
pub const ENTRIES_MAX: usize = 64;

/// The verdict of a run, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every invariant was exercised and held, and everything expected was seen.
    Holds,
    /// Nothing was broken, but the run proves too little to show that everything holds.
    Inconclusive,
    /// An invariant or an expectation was broken.
    Violated,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The invariant was exercised and held.
    Holds {
        /// What was looked at, e.g. `912 acknowledged entries`.
        exercised: String,
    },
    /// The invariant was broken.
    Violated(Vec<Violation>),
    /// Nothing in this run could have shown the invariant to be broken.
    Idle {
        /// What was missing.
        why: String,
    },
    /// The invariant was not judged.
    Declined {
        /// Why not.
        why: String,
    },
}

/// One way in which an invariant was broken, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// One or two sentences that name entries, times and hosts.
    pub summary: String,
    /// The cause, where events show one.
    pub why: Option<String>,
    /// The entries concerned, at most [`ENTRIES_MAX`].
    pub entries: Vec<EntryId>,
    /// Indexes into the history's events that show the violation, ascending, at most [`EVENTS_MAX`].
    pub events: Vec<usize>,
}

impl Violation {
    /// A violation without evidence yet.
    pub fn new(summary: impl Into<String>) -> Self {
        Violation { summary: summary.into(), why: None, entries: Vec::new(), events: Vec::new() }
    }

    /// Adds events, the most telling ones first: those beyond [`EVENTS_MAX`] are left out.
    #[must_use]
    pub fn shown_by(mut self, events: impl IntoIterator<Item = usize>) -> Self {
        for event in events {
            if self.events.len() < EVENTS_MAX && !self.events.contains(&event) {
                self.events.push(event);
            }
        }
        self.events.sort_unstable();
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, why: Option<String>) -> Self {
        self.why = why;
        self
    }

    /// Adds entries concerned.
    #[must_use]
    pub fn of(mut self, entries: impl IntoIterator<Item = EntryId>) -> Self {
        for entry in entries {
            if self.entries.len() < ENTRIES_MAX && !self.entries.contains(&entry) {
                self.entries.push(entry);
            }
        }
        self
    }
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// What was not met, in a sentence.
    pub text: String,
    /// What to change in the scenario so that the run can show it.
    #[serde(default)]
    pub cure: Option<String>,
    /// The line of the scenario file, if the expectation stands on one.
    pub line: Option<usize>,
    /// Whether events contradict the expectation, which makes the verdict violated. False where evidence is missing.
    pub contradicted: bool,
    /// Indexes of events that show it, at most [`EVENTS_MAX`].
    pub events: Vec<usize>,
}

/// How often something that is only expected of a sweep happened in this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// The expectation as written.
    pub text: String,
    /// The line of the scenario file.
    pub line: usize,
    /// The number of events that matched.
    pub hits: u64,
}

/// Entries without an answer, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknowns {
    /// How many there are.
    pub total: u64,
    /// How many of these are in the final log (however often).
    pub found: u64,
    /// How many of these are not in the final log.
    pub never: u64,
}

/// The figures of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Entries acknowledged.
    pub acked: u64,
    /// How many of those were acknowledged while the workload went on: from t = 0 until it offered nothing new.
    #[serde(default)]
    pub acked_in_time: u64,
    /// Entries refused.
    pub refused: u64,
    /// Entries without an answer.
    pub unknown: Unknowns,
    /// The longest time for which one client with something to send had no acknowledgement, and that client.
    pub longest_blind: Option<(Duration, Name)>,
    /// The time from the last heal until the last of the clients that had something to send got its first
    /// acknowledgement.
    pub recovered_after: Option<Duration>,
    /// The number of steps that left evidence, and of all steps.
    pub faults_bit: (u32, u32),
    /// The dead letters that clients hold at the end.
    pub dead_letters: u64,
    /// The most connections that one host opened within a second, from t = 0 on, and that host.
    #[serde(default)]
    pub most_connections: Option<(u64, Name)>,
    /// The time of the last event.
    pub simulated: Duration,
}

/// The whole judgement of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// A finding for each invariant that is promised or declined, in the order of [`Invariant::ALL`].
    pub findings: Vec<(Invariant, Finding)>,
    /// The expectations that were not met, and the steps without evidence.
    pub unmet: Vec<Unmet>,
    /// What the verdict does not count and a reader should know all the same.
    #[serde(default)]
    pub remarks: Vec<Unmet>,
    /// What is expected only of a sweep.
    pub sometimes: Vec<Hits>,
    /// The figures.
    pub facts: Facts,
}

impl Judgement {
    /// Returns the broken invariants, each with its violations, of which there is at least one.
    pub fn violated(&self) -> impl Iterator<Item = (Invariant, &[Violation])> {
        self.findings.iter().filter_map(|(invariant, finding)| match finding {
            Finding::Violated(violations) if !violations.is_empty() => Some((*invariant, violations.as_slice())),
            _ => None,
        })
    }

    /// Returns the violation to report first: one whose cause is known, else one of `acked-durable`, else the first.
    pub fn headline(&self) -> Option<(Invariant, &Violation)> {
        let firsts = || self.violated().filter_map(|(invariant, all)| Some((invariant, all.first()?)));
        let caused = firsts().find(|(_, violation)| violation.why.is_some());
        caused.or_else(|| firsts().find(|it| it.0 == Invariant::AckedDurable)).or_else(|| firsts().next())
    }
}
