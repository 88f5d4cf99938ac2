//! Reduces a failing scenario to the smallest one that fails in the same way: the few steps that matter.
//!
//! Reductions are tried from coarse to fine until none of them still fails. The last ones include those that remove any
//! one step, so the result is minimal in that sense (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002). A failure that needs a step under one seed may not need it under another, where the
//! same things happen in another order. Each step is therefore also left out under a few other seeds. Every candidate
//! is a whole scenario, which is run and judged like any other. Which candidate is taken does not depend on how many
//! are tried at a time.

mod failure;
mod reduce;
mod steps;
mod tell;

use std::collections::BTreeSet;

use super::{
    process::RunError,
    sweep::{Limits, Task, sweep},
    worker::{RunOutcome, RunRequest},
};
use crate::scenario::{self, Expect, Scenario};

pub use failure::Failure;
use reduce::PHASES;
use steps::Begins;

/// The result of a reduction.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest scenario that fails in the same way, with a title and a story. Its path is that of the original.
    pub scenario: Scenario,
    /// How both scenarios fail.
    pub failure: Failure,
    /// The screen of its violation, or the error of a run that failed; empty if its process left no outcome.
    pub screen: String,
    /// The number of runs that it took.
    pub runs: usize,
    /// Whether nothing smaller was left to try. Otherwise the reduction was stopped before.
    pub minimal: bool,
}

/// Why there is nothing to reduce.
#[derive(Debug, thiserror::Error)]
pub enum ShrinkError {
    /// The scenario does not fail.
    #[error("this run does not fail: there is nothing to shrink\ncure: give the seed of a run that fails, by --seed")]
    Holds,
    /// The run of the original was stopped.
    #[error("stopped before the scenario itself had run\ncure: give it more time")]
    Stopped,
}

/// The progress of a reduction.
#[derive(Debug, Clone, Copy)]
pub struct SoFar<'a> {
    /// The smallest scenario so far.
    pub best: &'a Scenario,
    /// The number of runs so far.
    pub runs: usize,
}

/// Reduces a scenario that fails under a seed. `order` returns the order for a run of a text under a seed. `may`
/// returns whether a scenario may be asked of the log; it is ignored if it forbids the original.
///
/// # Errors
/// If the scenario does not fail, or if the reduction is stopped before that is known.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    limits: Limits,
    order: impl Fn(String, u64) -> RunRequest + Sync,
    may: impl Fn(&Scenario) -> bool,
    mut told: impl FnMut(SoFar<'_>),
) -> Result<Shrunk, ShrinkError> {
    let mut original = scenario.clone();
    original.seeds = i64::try_from(seed).map(|_| vec![seed]).unwrap_or_default();
    original.known_violation = None;
    let outcome = once(limits, order(original.print(), seed)).ok_or(ShrinkError::Stopped)?;
    let failure = Failure::of(&outcome).ok_or(ShrinkError::Holds)?;
    let bound = may(&original);
    let expected = original.expect.clone();
    let acceptable = |candidate: &Scenario| {
        (!bound || may(candidate))
            && (!failure.is_of_expectations() || same_bounds(&candidate.expect, &expected))
            && scenario::parse(&candidate.path, &candidate.print()).is_ok()
    };
    let mut search = Search { best: original, outcome: outcome.ok(), tried: BTreeSet::new(), runs: 1 };
    let order = |it: &Scenario| order(it.print(), seed_of(it, seed));
    let minimal = search
        .go_through(|candidates, search| search.try_all(candidates, limits, &order, &failure, &mut told), acceptable);
    let seed = seed_of(&search.best, seed);
    Ok(search.confirmed(seed, failure, minimal, |it| once(limits, order(it))))
}

/// Returns the seed under which a scenario fails: the one in its file, or `seed` if that is too large for a file.
fn seed_of(scenario: &Scenario, seed: u64) -> u64 {
    scenario.seeds.first().copied().unwrap_or(seed)
}

/// Makes one run. Returns `None` if it was stopped.
fn once(limits: Limits, order: RunRequest) -> Option<Result<RunOutcome, RunError>> {
    let mut outcome = None;
    let task = |_| Task { request: order.clone(), twice: false };
    sweep(1, limits, task, |_, done| {
        outcome = Some(done.outcome);
        true
    });
    outcome
}

/// Returns whether both are equally strict. A violated bound must not be replaced by a bound that the original never
/// set.
fn same_bounds(one: &Expect, other: &Expect) -> bool {
    let bounds = |it: &Expect| (it.recovers_within, it.blind_at_most, it.dead_letters, it.connections_at_most);
    bounds(one) == bounds(other) && one.acked_at_least == other.acked_at_least
}

/// The result of trying a row of candidates.
enum Tried {
    /// One of them fails in the same way, and is now the best.
    Better,
    /// None of them fails in the same way.
    None,
    /// The search was stopped.
    Stopped,
}

/// The smallest scenario so far, and the candidates that need not be tried again.
struct Search {
    best: Scenario,
    outcome: Option<RunOutcome>,
    tried: BTreeSet<String>,
    runs: usize,
}

impl Search {
    /// Repeats all phases until none of them finds anything smaller. Returns whether it came to that.
    fn go_through(
        &mut self,
        mut try_all: impl FnMut(&[Scenario], &mut Self) -> Tried,
        acceptable: impl Fn(&Scenario) -> bool,
    ) -> bool {
        let (mut phase, mut idle) = (0, 0);
        while idle < PHASES.len() {
            let reduced = PHASES[phase](&self.best, &self.begins()).into_iter();
            let candidates: Vec<Scenario> =
                reduced.filter(|it| acceptable(it) && self.tried.insert(it.print())).collect();
            match try_all(&candidates, self) {
                Tried::Better => idle = 0,
                Tried::None => {
                    phase = (phase + 1) % PHASES.len();
                    idle += 1;
                }
                Tried::Stopped => return false,
            }
        }
        true
    }

    /// Returns when each step of the best scenario began.
    fn begins(&self) -> Begins {
        match &self.outcome {
            Some(RunOutcome::Judged { begins, .. }) => begins.clone(),
            Some(RunOutcome::Failed { .. }) | None => Begins::new(),
        }
    }

    /// Returns the best scenario with its title and story. It is run once more in the form that its file will have, so
    /// that the names and lines on its screen are those of the file. If it then does not fail in the same way, it is
    /// returned as it was.
    fn confirmed(
        self,
        seed: u64,
        failure: Failure,
        minimal: bool,
        run: impl FnOnce(&Scenario) -> Option<Result<RunOutcome, RunError>>,
    ) -> Shrunk {
        let Search { best, outcome, mut runs, .. } = self;
        let mut scenario = tell::told(best.clone(), seed, &failure, outcome.as_ref(), minimal);
        let mut screen = outcome.map(|outcome| tell::screen(&outcome)).unwrap_or_default();
        if let Some(last) = run(&scenario) {
            runs += 1;
            match Failure::of(&last).filter(|other| failure.is_shown_by(other)) {
                Some(_) => screen = last.map(|outcome| tell::screen(&outcome)).unwrap_or_default(),
                None => scenario = best,
            }
        }
        Shrunk { scenario, failure, screen, runs, minimal }
    }

    /// Tries all candidates. The first one in the list that fails in the same way becomes the best, no matter which run
    /// ends first.
    fn try_all(
        &mut self,
        candidates: &[Scenario],
        limits: Limits,
        order: &(impl Fn(&Scenario) -> RunRequest + Sync),
        failure: &Failure,
        told: &mut impl FnMut(SoFar<'_>),
    ) -> Tried {
        let mut better = None;
        let mut ended = 0;
        let texts: Vec<String> = candidates.iter().map(Scenario::print).collect();
        let task = |index: usize| Task { request: order(&candidates[index]), twice: false };
        sweep(candidates.len(), limits, task, |task, done| {
            ended += 1;
            self.runs += 1;
            told(SoFar { best: &self.best, runs: self.runs });
            if Failure::of(&done.outcome).is_some_and(|other| failure.is_shown_by(&other)) {
                let index = texts.iter().position(|text| *text == task.request.text);
                better = index.map(|index| (index, done.outcome.ok()));
            }
            better.is_none()
        });
        if let Some((index, outcome)) = better {
            self.best = candidates[index].clone();
            self.outcome = outcome;
            told(SoFar { best: &self.best, runs: self.runs });
            return Tried::Better;
        }
        if ended < candidates.len() { Tried::Stopped } else { Tried::None }
    }
}
