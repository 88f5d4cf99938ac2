//! From a scenario that fails to the smallest one that fails in the same way: the few steps that matter.
//!
//! Reductions are tried from coarse to fine until none of them fails any more; among the last are those that take away any
//! one step, so that the result is minimal in that sense (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002). What needs a step under one seed may do without it under another, where the same things
//! come in another order; so each step is also left out under a few others. Every candidate is a whole scenario, run and judged like any other; which one is taken
//! does not depend on how many are tried at a time.

mod failure;
mod reduce;
mod steps;
mod tell;

use std::collections::BTreeSet;

use super::{
    process::RunError,
    sweep::{Limits, Task, sweep},
    worker::{Order, Outcome},
};
use crate::scenario::{self, Expect, Scenario};

pub use failure::Failure;
use reduce::PHASES;

/// What came of it.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest scenario that fails in the same way, with a story of it. Its path is that of the original.
    pub scenario: Scenario,
    /// How both fail.
    pub failure: Failure,
    /// The screen of its violation; empty where it comes to no end.
    pub screen: String,
    /// Runs that it took.
    pub runs: usize,
    /// Nothing smaller was left to try; otherwise somebody ended it before.
    pub minimal: bool,
}

/// Why there is nothing to reduce.
#[derive(Debug, thiserror::Error)]
pub enum ShrinkError {
    /// It does not fail.
    #[error("this run does not fail: there is nothing to shrink\ncure: give the seed of a run that fails, by --seed")]
    Holds,
    /// The run of the original was stopped.
    #[error("stopped before the scenario itself had run\ncure: give it more time")]
    Stopped,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct SoFar<'a> {
    /// The smallest one so far.
    pub best: &'a Scenario,
    /// Runs until now.
    pub runs: usize,
}

/// Reduces a scenario that fails under a seed. `order` makes the order of a run of a text under a seed; `may` says whether a scenario may
/// be asked of the log, and is not asked where the original may not.
///
/// # Errors
/// Where the scenario does not fail, or is stopped before that is known.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    limits: Limits,
    order: impl Fn(String, u64) -> Order + Sync,
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

/// Under which seed it fails: as it says itself, unless that is more than a file can say.
fn seed_of(scenario: &Scenario, seed: u64) -> u64 {
    scenario.seeds.first().copied().unwrap_or(seed)
}

/// One run; `None` where it was stopped.
fn once(limits: Limits, order: Order) -> Option<Result<Outcome, RunError>> {
    let mut outcome = None;
    let task = |_| Task { order: order.clone(), twice: false };
    sweep(1, limits, task, |_, done| {
        outcome = Some(done.outcome);
        true
    });
    outcome
}

/// Whether both are as strict: a failure to keep a bound is none of a bound that was never asked for.
fn same_bounds(one: &Expect, other: &Expect) -> bool {
    let bounds = |it: &Expect| (it.recovers_within, it.blind_at_most, it.dead_letters, it.connections_at_most);
    bounds(one) == bounds(other) && one.acked_at_least == other.acked_at_least
}

/// What came of a row of candidates.
enum Tried {
    /// One of them fails in the same way, and is the best now.
    Better,
    /// None does.
    None,
    /// Somebody does not want to wait for that.
    Stopped,
}

/// The smallest so far, and what need not be tried again.
struct Search {
    best: Scenario,
    outcome: Option<Outcome>,
    tried: BTreeSet<String>,
    runs: usize,
}

impl Search {
    /// Every phase, again and again, until none of them finds anything smaller; whether it came to that.
    fn go_through(
        &mut self,
        mut try_all: impl FnMut(&[Scenario], &mut Self) -> Tried,
        acceptable: impl Fn(&Scenario) -> bool,
    ) -> bool {
        let (mut phase, mut idle) = (0, 0);
        while idle < PHASES.len() {
            let reduced = PHASES[phase](&self.best).into_iter();
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

    /// The best with its story, run once more as it will stand in its file: names and lines of its screen are then those of
    /// the file. Where it does not fail as it did, the best stays as it was.
    fn confirmed(
        self,
        seed: u64,
        failure: Failure,
        minimal: bool,
        run: impl FnOnce(&Scenario) -> Option<Result<Outcome, RunError>>,
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

    /// The first of the candidates that fails in the same way becomes the best, whichever ends first.
    fn try_all(
        &mut self,
        candidates: &[Scenario],
        limits: Limits,
        order: &(impl Fn(&Scenario) -> Order + Sync),
        failure: &Failure,
        told: &mut impl FnMut(SoFar<'_>),
    ) -> Tried {
        let mut better = None;
        let mut ended = 0;
        let texts: Vec<String> = candidates.iter().map(Scenario::print).collect();
        let task = |index: usize| Task { order: order(&candidates[index]), twice: false };
        sweep(candidates.len(), limits, task, |task, done| {
            ended += 1;
            self.runs += 1;
            told(SoFar { best: &self.best, runs: self.runs });
            if Failure::of(&done.outcome).is_some_and(|other| failure.is_shown_by(&other)) {
                let index = texts.iter().position(|text| *text == task.order.text);
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
