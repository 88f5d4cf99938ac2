//! gapless proves that an audit log stays append-only and gapless while everything around it fails.
//!
//! An engineer writes an incident down as a scenario file. gapless plays it against a real gRPC audit log and its
//! clients, over mutual TLS, in a simulated network, and gives a verdict: did the log stay append-only, is anything
//! missing, and if so which entry, when and why. One seed is one run, to the byte.
//!
//! A file takes this road, in one direction:
//!
//! ```text
//! scenario file → Scenario → Plan (every choice of the seed) → simulated run → History → checks → Verdict → report
//! ```

pub mod audit;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod entry;
pub mod explore;
pub mod fault;
pub mod history;
pub mod link;
#[cfg(feature = "cli")]
pub mod log_cli;
pub mod report;
pub mod scenario;
pub mod seam;
pub mod sim;
pub mod system;
pub mod world;

/// Version and source of this build. A seed holds for one build: a run of another may take another course.
pub fn build_id() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), "+", env!("GAPLESS_SOURCE"))
}
