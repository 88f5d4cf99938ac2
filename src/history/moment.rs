//! The moments of a run that scenario files name, for what is to begin or to be seen after them. The director notes
//! when they come, and the judge finds them in the history.

use std::fmt;

use serde::Serialize;

/// A moment that only the run knows. If it never comes, the step does not run and the verdict is inconclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// `STEP`: the step has ended. A step that happens at one instant ends when it happens.
    Ended(String),
    /// `STEP:begins`.
    Begins(String),
    /// `STEP:bites`: the first evidence of the step.
    Bites(String),
    /// `STEP:2`: the n-th time, here the second, that the step does what it does repeatedly; n counts from 1.
    Nth(String, u32),
    /// `first:EVENT`: the first such event from any host.
    First(String),
}

impl Moment {
    /// Returns the step that it refers to.
    pub fn step(&self) -> Option<&str> {
        match self {
            Moment::Ended(step) | Moment::Begins(step) | Moment::Bites(step) | Moment::Nth(step, _) => Some(step),
            Moment::First(_) => None,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Ended(step) => f.write_str(step),
            Moment::Begins(step) => write!(f, "{step}:begins"),
            Moment::Bites(step) => write!(f, "{step}:bites"),
            Moment::Nth(step, n) => write!(f, "{step}:{n}"),
            Moment::First(event) => write!(f, "first:{event}"),
        }
    }
}
