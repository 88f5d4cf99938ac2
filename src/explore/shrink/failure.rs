//! How a run failed, in the terms in which a smaller scenario has to fail in the same way.

use std::{collections::BTreeSet, fmt};

use super::super::{process::RunError, worker::RunOutcome};
use crate::{check::Verdict, history::Invariant};

/// How a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Invariants were violated.
    Violated {
        /// The one that is reported first.
        first: Invariant,
        /// All of them.
        all: BTreeSet<Invariant>,
    },
    /// A bound of the scenario was broken, or an event happened that it forbids.
    Unmet {
        /// The sentence about it, without figures.
        text: String,
    },
    /// The run did not come to an end: a panic, a hang, a leak.
    Ended {
        /// How it ended, without figures.
        text: String,
    },
}

impl Failure {
    /// Returns how this run failed, or `None` if it did not fail or was stopped.
    pub fn of(outcome: &Result<RunOutcome, RunError>) -> Option<Self> {
        let judgement = match outcome {
            Ok(RunOutcome::Judged { summary, .. }) => &summary.judgement,
            Ok(RunOutcome::Failed { error }) => return Some(Failure::Ended { text: without_figures(error) }),
            Err(RunError::Stopped | RunError::Io(_)) => return None,
            Err(error) => return Some(Failure::Ended { text: without_figures(&error.to_string()) }),
        };
        if judgement.verdict != Verdict::Violated {
            return None;
        }
        if let Some((first, _)) = judgement.headline() {
            return Some(Failure::Violated { first, all: judgement.violated().map(|(promise, _)| promise).collect() });
        }
        let unmet = judgement.unmet.iter().find(|unmet| unmet.contradicted)?;
        Some(Failure::Unmet { text: without_figures(&unmet.text) })
    }

    /// Returns whether a bound of the scenario was broken, rather than an invariant that must always hold.
    pub fn is_of_expectations(&self) -> bool {
        matches!(self, Failure::Unmet { .. } | Failure::Violated { first: Invariant::Recovers, .. })
    }

    /// Returns whether another run shows this failure, possibly among others: the same invariant, or the same end.
    pub fn is_shown_by(&self, other: &Failure) -> bool {
        match (self, other) {
            (Failure::Violated { first, .. }, Failure::Violated { all, .. }) => all.contains(first),
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Violated { first, .. } => write!(f, "{first}"),
            Failure::Unmet { .. } => f.write_str("what is expected"),
            Failure::Ended { .. } => f.write_str("a run that does not come to an end"),
        }
    }
}

/// Returns the text without digits and the marks that separate them, because times, counts, numbers of hosts and places
/// in files differ from one run to the next.
fn without_figures(text: &str) -> String {
    let bare: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    bare.split_whitespace().map(|word| word.trim_matches(['.', ','])).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violated(first: Invariant, all: &[Invariant]) -> Failure {
        Failure::Violated { first, all: all.iter().copied().collect() }
    }

    #[test]
    fn a_run_that_breaks_the_same_invariant_among_others_shows_the_failure() {
        let failure = violated(Invariant::AckedDurable, &[Invariant::AckedDurable, Invariant::NoGaps]);
        let more = violated(Invariant::NoFork, &[Invariant::NoFork, Invariant::AckedDurable]);
        assert!(failure.is_shown_by(&more));
        assert!(!failure.is_shown_by(&violated(Invariant::NoGaps, &[Invariant::NoGaps])));
        assert!(!failure.is_shown_by(&Failure::Ended { text: String::new() }));
    }

    #[test]
    fn a_panic_is_the_same_at_another_time_and_not_at_another_place() {
        let panic = |at: &str, place: &str| RunOutcome::Failed {
            error: format!("a task panicked at {at} of simulated time\n  index out of bounds\n  at src/{place}.rs:267"),
        };
        let of = |outcome| Failure::of(&Ok(outcome)).expect("failed");
        assert!(of(panic("1.5s", "a")).is_shown_by(&of(panic("12.25s", "a"))));
        assert!(!of(panic("1.5s", "a")).is_shown_by(&of(panic("1.5s", "b"))));
        assert_eq!(Failure::of(&Err(RunError::Stopped)), None);
    }
}
