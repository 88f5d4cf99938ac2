//! From a scenario that fails to the smallest one that fails in the same way: the few steps that matter.
//!
//! Reductions are tried from coarse to fine until none of them fails any more; among the last are those that take away any
//! one step, so that the result is minimal in that sense (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002). Every candidate is a whole scenario, run and judged like any other; which one is taken
//! does not depend on how many are tried at a time.

mod failure;
mod reduce;
mod tell;

use std::collections::BTreeSet;

use super::{
    sweep::{Limits, Task, sweep},
    worker::{Order, Outcome},
};
use crate::scenario::{self, Scenario};

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
    #[error("stopped before the scenario itself had run")]
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

/// Reduces a scenario that fails under a seed. `order` makes the order of a run of a text; `may` says whether a scenario may
/// be asked of the log, and is not asked where the original may not.
///
/// # Errors
/// Where the scenario does not fail, or is stopped before that is known.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    limits: Limits,
    order: impl Fn(String) -> Order + Sync,
    may: impl Fn(&Scenario) -> bool,
    mut told: impl FnMut(SoFar<'_>),
) -> Result<Shrunk, ShrinkError> {
    let mut original = scenario.clone();
    original.seeds = i64::try_from(seed).map(|_| vec![seed]).unwrap_or_default();
    original.known_violation = None;
    let mut runs = 0;
    let mut first = None;
    let task = |_| Task { order: order(original.print()), twice: false };
    sweep(1, limits, task, |_, done| {
        first = Some(done.outcome);
        true
    });
    runs += 1;
    let outcome = first.ok_or(ShrinkError::Stopped)?;
    let failure = Failure::of(&outcome).ok_or(ShrinkError::Holds)?;
    let bound = may(&original);
    let acceptable = |candidate: &Scenario| {
        (!bound || may(candidate)) && scenario::parse(&candidate.path, &candidate.print()).is_ok()
    };
    let mut search = Search { best: original, outcome: outcome.ok(), tried: BTreeSet::new(), runs };
    let (mut phase, mut idle) = (0, 0);
    let mut minimal = true;
    while idle < PHASES.len() {
        let candidates: Vec<Scenario> = PHASES[phase](&search.best)
            .into_iter()
            .filter(|candidate| acceptable(candidate) && search.tried.insert(candidate.print()))
            .collect();
        match search.try_all(&candidates, limits, &order, &failure, &mut told) {
            Tried::Better => idle = 0,
            Tried::None => {
                phase = (phase + 1) % PHASES.len();
                idle += 1;
            }
            Tried::Stopped => {
                minimal = false;
                break;
            }
        }
    }
    let Search { best, outcome, mut runs, .. } = search;
    let mut scenario = tell::told(best.clone(), seed, &failure, outcome.as_ref(), minimal);
    let mut screen = outcome.map(|outcome| tell::screen(&outcome)).unwrap_or_default();
    // Once more as it will stand in its file: names and lines of its screen are then those of the file.
    let task = |_| Task { order: order(scenario.print()), twice: false };
    let mut last = None;
    sweep(1, limits, task, |_, done| {
        last = Some(done.outcome);
        true
    });
    if let Some(last) = last {
        runs += 1;
        match Failure::of(&last).filter(|other| failure.is_shown_by(other)) {
            Some(_) => screen = last.map(|outcome| tell::screen(&outcome)).unwrap_or_default(),
            None => scenario = best,
        }
    }
    Ok(Shrunk { scenario, failure, screen, runs, minimal })
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
    /// The first of the candidates that fails in the same way becomes the best, whichever ends first.
    fn try_all(
        &mut self,
        candidates: &[Scenario],
        limits: Limits,
        order: &(impl Fn(String) -> Order + Sync),
        failure: &Failure,
        told: &mut impl FnMut(SoFar<'_>),
    ) -> Tried {
        let mut better = None;
        let mut ended = 0;
        let texts: Vec<String> = candidates.iter().map(Scenario::print).collect();
        let task = |index: usize| Task { order: order(texts[index].clone()), twice: false };
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
