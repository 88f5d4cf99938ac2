//! Finds out which step waits for which: circles, and the earliest instant at which each step can begin.
//!
//! A step waits for every step that its `after`, its `since` or an `@step` refers to. The times found here are lower
//! bounds: a moment that only the run knows is assumed to come at once.

use std::{ops::Range, time::Duration};

use crate::fault::HostRef;

use super::{
    draft::DraftStep,
    model::{Moment, Start},
    walk::Problems,
};

/// The steps in the order in which they can begin.
pub(super) struct Order {
    references: Vec<Vec<Reference>>,
    /// `None` for steps in or behind a circle, and for steps with an unknown start.
    earliest: Vec<Option<Duration>>,
    /// Steps that wait for themselves, directly or not, or for a step that does.
    stuck: Vec<bool>,
}

/// The fact that a step waits for another one, by index.
pub(super) enum Reference {
    /// Through `after` or `since`.
    Moment {
        /// The other step.
        step: usize,
    },
    /// Through `@step`.
    Hosts {
        /// The other step.
        step: usize,
        /// The place of the word.
        span: Range<usize>,
    },
}

impl Reference {
    fn step(&self) -> usize {
        match self {
            Reference::Moment { step } | Reference::Hosts { step, .. } => *step,
        }
    }
}

impl Order {
    /// Determines which step waits for which. Names that no step has are ignored.
    pub(super) fn of(steps: &[DraftStep]) -> Order {
        let references: Vec<_> = steps.iter().map(|step| references(steps, step)).collect();
        let mut waits: Vec<usize> = references.iter().map(Vec::len).collect();
        let mut waited_by: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (index, list) in references.iter().enumerate() {
            list.iter().for_each(|reference| waited_by[reference.step()].push(index));
        }
        let mut earliest = vec![None; steps.len()];
        let mut stuck = vec![true; steps.len()];
        let mut ready: Vec<usize> = (0..steps.len()).filter(|index| waits[*index] == 0).collect();
        while let Some(index) = ready.pop() {
            stuck[index] = false;
            earliest[index] = earliest_start(steps, &steps[index], &earliest);
            for next in &waited_by[index] {
                waits[*next] -= 1;
                if waits[*next] == 0 {
                    ready.push(*next);
                }
            }
        }
        Order { references, earliest, stuck }
    }

    /// Returns the earliest instant at which a step can begin.
    pub(super) fn earliest(&self, index: usize) -> Option<Duration> {
        self.earliest[index]
    }

    /// Returns what a step waits for.
    pub(super) fn references(&self, index: usize) -> &[Reference] {
        &self.references[index]
    }

    /// Files a problem for each circle, at its first step in the file.
    pub(super) fn report_circles(&self, steps: &[DraftStep], problems: &mut Problems) {
        let mut seen = vec![false; steps.len()];
        for start in (0..steps.len()).filter(|index| self.stuck[*index]) {
            let mut path = Vec::new();
            let mut at = start;
            while !seen[at] {
                seen[at] = true;
                path.push(at);
                // A stuck step waits for at least one stuck step: that is why it is stuck.
                let Some(next) = self.references[at].iter().map(Reference::step).find(|next| self.stuck[*next]) else {
                    break;
                };
                at = next;
            }
            let Some(entry) = path.iter().position(|index| *index == at) else { continue };
            let circle = &path[entry..];
            let Some(first) = circle.iter().min().map(|index| &steps[*index]) else { continue };
            let message = match circle {
                [_] => format!("`{}` waits for itself", first.name),
                _ => format!("{} steps wait for each other in a circle", circle.len()),
            };
            let mut names: Vec<_> = circle.iter().take(4).map(|index| steps[*index].name.as_str()).collect();
            names.push(if circle.len() > 4 { "…" } else { names[0] });
            problems.file("circle", first.start_span.clone(), message, names.join(" → "));
        }
    }
}

fn references(steps: &[DraftStep], step: &DraftStep) -> Vec<Reference> {
    let find = |name: &str| steps.iter().position(|other| other.name == name);
    let mut list = Vec::new();
    if let Some(Start::After { moment, since, .. }) = &step.start {
        let moments = [Some(moment), since.as_ref()];
        let others = moments.into_iter().flatten().filter_map(|moment| find(moment.step()?));
        list.extend(others.map(|step| Reference::Moment { step }));
    }
    for (host, span) in &step.hosts {
        if let HostRef::Step(name) = host
            && let Some(step) = find(name)
        {
            list.push(Reference::Hosts { step, span: span.clone() });
        }
    }
    list
}

/// Returns the earliest start of a step; the times of everything that it waits for are already known.
fn earliest_start(steps: &[DraftStep], step: &DraftStep, earliest: &[Option<Duration>]) -> Option<Duration> {
    let when = |moment: &Moment| match moment.step() {
        None => Some(Duration::ZERO),
        Some(name) => {
            let index = steps.iter().position(|other| other.name == name)?;
            let length = match moment {
                Moment::Ended(_) => steps[index].duration.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            earliest[index]?.checked_add(length)
        }
    };
    match step.start.as_ref()? {
        Start::At(at) => Some(*at),
        Start::After { moment, wait, since } => {
            let since = since.as_ref().map_or(Some(Duration::ZERO), when)?;
            when(moment)?.max(since).checked_add(*wait)
        }
    }
}
