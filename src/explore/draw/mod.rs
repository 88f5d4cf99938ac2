//! Draws a whole scenario from a seed: a cluster, a workload, and a schedule of faults.
//!
//! A drawn scenario is an ordinary scenario. It can be printed and read back, and is run and judged like any other. Its
//! text is the same on every machine and in every build of one version. Three things bound it: what the log can suffer
//! ([`Subject`]), what it may be asked to survive ([`rules`](rules())), and what the file format allows. A step that
//! any of these refuses is left out, and another one is tried.

mod cluster;
mod dice;
mod family;
mod plot;
mod rules;
mod scene;
mod schedule;
mod sequel;
mod subject;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::scenario::{self, Problem, Scenario};

use dice::Dice;
pub use rules::{RULES, broken, rules};
pub use subject::Subject;

/// Returns the scenario of a seed, for a log.
///
/// # Errors
/// If a rule of the log, or the file format, refuses even a run without faults.
pub fn draw(subject: &Subject, seed: u64) -> Result<Scenario, DrawError> {
    let mut scenario = cluster::quiet(&mut Dice::new(seed, 0), subject, seed);
    cluster::lighten(&mut scenario, |scenario| rules::broken(subject, scenario).is_none());
    if let Some(rule) = rules::broken(subject, &scenario) {
        return Err(DrawError::Rule(rule.name));
    }
    let accepts = |scenario: &Scenario| {
        rules::broken(subject, scenario).is_none()
            && scenario::parse_for(&scenario.path, &scenario.print(), &subject.sizes).is_ok()
    };
    let families = schedule::fill(&mut Dice::new(seed, 1), subject, &mut scenario, accepts);
    scenario.expect = rules::expectations(&scenario);
    tell(&mut scenario, seed, &families);
    let text = scenario.print();
    scenario::parse_for(&scenario.path, &text, &subject.sizes).map_err(|problems| DrawError::Format { seed, problems })
}

/// Why nothing can be drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// A rule of the log forbids everything.
    #[error("the rule `{0}` does not even allow a run without faults\ncure: let it allow a scenario without steps")]
    Rule(&'static str),
    /// What was drawn is not a valid scenario.
    #[error("what seed {seed} draws is not a valid file: {}", .problems.first().map_or("", |problem| &problem.message))]
    Format {
        /// The seed.
        seed: u64,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
}

/// Gives the scenario a title and a story for readers of the file.
fn tell(scenario: &mut Scenario, seed: u64, families: &[&family::Family]) {
    let faults: BTreeSet<&str> = scenario.steps.iter().map(|step| step.action.name()).collect();
    let faults: Vec<&str> = faults.into_iter().collect();
    let what = if faults.is_empty() { "nothing goes wrong".to_owned() } else { faults.join(", ") };
    scenario.title = format!("Drawn from seed {seed}: {what}").chars().take(200).collect();
    let families: Vec<&str> = families.iter().map(|family| family.name).collect();
    scenario.story = format!(
        "This scenario was drawn from seed {seed}, from these families of faults:\n{}.\nNothing in it goes beyond what \
         the log may be asked to survive (`gapless explore --rules`).",
        families.join(", ")
    );
}
