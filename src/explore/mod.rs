//! Many runs: each in a process of its own, several at a time, and twice if determinism is to be checked.

mod determinism;
pub mod draw;
mod expectations;
mod process;
mod scratch;
pub mod shrink;
mod sweep;
mod worker;

pub use determinism::{Difference, check_determinism};
pub use process::{RUN_MAX, RunError, run};
pub use scratch::Scratch;
pub use sweep::{Done, Limits, Task, sweep};
pub use worker::{RunOutcome, RunRequest, Spent, Took, become_worker_if_asked};
