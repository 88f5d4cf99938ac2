//! The file format of scenarios: from text to a checked [`Scenario`], and from that and a seed to a [`Plan`].
//!
//! An engineer writes a file after an incident or before a change. Every mistake in it is reported at once, each with
//! its line and its cure. Only [`read()`] and [`discover`] touch the disk; everything else is pure.

mod draft;
mod model;
mod order;
mod parse;
mod plan;
mod print;
mod problem;
mod quantity;
mod read;
mod reasons;
mod schema;
mod step;
mod validate;
mod walk;

pub mod render;

#[cfg(test)]
mod tests;

pub use crate::fault::{Per, Rate};
pub use model::{
    Action, Call, Cluster, EventPattern, Expect, HostRef, KnownViolation, LATENCY_DEFAULT, Link, MEMORY_DEFAULT,
    Moment, SECTORS, SIZE_DEFAULT, STEPS_MAX, Scenario, Sizes, Start, Step, WALL_CLOCK_DEFAULT, Workload,
};
pub use parse::{FILE_BYTES_MAX, parse, parse_for};
pub use plan::{Plan, PlannedStep, Targets, plan, step_names};
pub(crate) use problem::suggest;
pub use problem::{PROBLEMS_MAX, Problem};
pub use quantity::{LONGEST, QuantityError, duration, print_duration, print_size};
pub use read::{DiscoverError, ReadError, discover, read};
pub use reasons::{Cause, reasons};
pub use schema::schema;
pub(crate) use validate::OVERSIZE_CAUSES;
pub use validate::happens_anyway;
