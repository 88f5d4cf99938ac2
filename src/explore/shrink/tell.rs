//! Gives a reduced scenario what an author would have written: a title, a story of what fails, and names that say what
//! a step does.

use std::collections::{BTreeMap, BTreeSet};

use super::{super::worker::RunOutcome, failure::Failure, steps};
use crate::{
    report::text::wrap,
    scenario::{self, Scenario},
};

/// The longest title of a file, in characters.
const TITLE_MAX: usize = 200;

/// The number of columns of a story.
const COLUMNS: usize = 110;

/// Returns the scenario with its title, its story and its names.
pub(super) fn told(
    mut scenario: Scenario,
    seed: u64,
    failure: &Failure,
    outcome: Option<&RunOutcome>,
    minimal: bool,
) -> Scenario {
    scenario.title = title(&scenario, failure);
    scenario.story = story(&scenario, seed, outcome, minimal);
    let renamed = steps::rename(&scenario, &names(&scenario));
    let sound = |scenario: &Scenario| scenario::parse(&scenario.path, &scenario.print());
    // If the renamed file is not valid, the names stay as they were.
    sound(&renamed).or_else(|_| sound(&scenario)).unwrap_or(scenario)
}

/// Returns what is to be shown of a run.
pub(super) fn screen(outcome: &RunOutcome) -> String {
    match outcome {
        RunOutcome::Judged { screen, .. } => screen.clone(),
        RunOutcome::Failed { error } => error.clone(),
    }
}

fn title(scenario: &Scenario, failure: &Failure) -> String {
    let faults: BTreeSet<&str> = scenario.steps.iter().map(|step| step.action.name()).collect();
    let faults: Vec<&str> = faults.into_iter().collect();
    let after = match faults.as_slice() {
        [] => "without any fault".to_owned(),
        [one] => format!("after {one}"),
        [others @ .., last] => format!("after {} and {last}", others.join(", ")),
    };
    let what = match failure {
        Failure::Violated { first, .. } => format!("{first} does not hold"),
        Failure::Unmet { .. } => "What is expected does not hold".to_owned(),
        Failure::Ended { .. } => "The run does not come to an end".to_owned(),
    };
    format!("{what} {after}").chars().take(TITLE_MAX).collect()
}

fn story(scenario: &Scenario, seed: u64, outcome: Option<&RunOutcome>, minimal: bool) -> String {
    let mut lines = Vec::new();
    match outcome {
        Some(RunOutcome::Judged { summary, .. }) => {
            if let Some((promise, violation)) = summary.judgement.headline() {
                lines.push(format!("{promise}: {}", violation.summary));
                lines.extend(violation.why.as_ref().map(|why| format!("Why: {why}.")));
            } else if let Some(unmet) = summary.judgement.unmet.iter().find(|unmet| unmet.contradicted) {
                lines.push(unmet.text.clone());
            }
        }
        Some(RunOutcome::Failed { error }) => lines.push(error.clone()),
        None => {}
    }
    lines.push(match (minimal, scenario.steps.len()) {
        (true, 0) => format!("Seen under seed {seed}."),
        (true, 1) => format!("Seen under seed {seed}; without the step it does not happen."),
        (true, _) => format!("Seen under seed {seed}; without any one of these steps it does not happen."),
        (false, _) => format!("Seen under seed {seed}; it was not tried to the end whether every step matters."),
    });
    let plain = |c: char| c == '\n' || !c.is_control();
    let text: String = lines.join("\n").chars().filter(|c| plain(*c)).collect();
    text.lines().flat_map(|line| wrap(line, COLUMNS)).collect::<Vec<_>>().join("\n")
}

/// Returns the name of each step: that of its action, with a number if several steps have the same action.
fn names(scenario: &Scenario) -> BTreeMap<String, String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for step in &scenario.steps {
        let action = step.action.name();
        let n = count.entry(action).and_modify(|n| *n += 1).or_insert(1);
        let name = if *n == 1 { action.to_owned() } else { format!("{action}-{n}") };
        names.insert(step.name.clone(), name);
    }
    names
}
