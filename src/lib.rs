//! gapless proves that an audit log stays append-only and gapless while everything around it fails.
//!
//! An engineer writes an incident down as a scenario file. gapless plays it against a real gRPC audit log and its
//! clients, over mutual TLS, in a simulated network. Then it gives a verdict: did the log stay append-only, is anything
//! missing, and if so, which entry, when and why. One seed is one run, to the byte.
//!
//! A file passes through these stages, in one direction:
//!
//! ```text
//! scenario file → Scenario → Plan (every choice of the seed) → simulated run → History → checks → Verdict → report
//! ```
//!
//! # Your own log
//!
//! Any log that is written in Rust on tokio can be tested in this way. It runs unmodified except at five seams: where
//! it listens, how it connects, where it stores, what it presents as its identity, and when it stops. The log is a
//! [`System`], and its client is a [`Client`]. A test binary with [`main!`] makes a test of each scenario file.
//! `docs/your-own-log.md` shows how, step by step.
//!
//! # What cannot be simulated
//!
//! Code that does not call libc, or that does not run on the simulating thread, cannot be simulated:
//!
//! * **Threads and `spawn_blocking`.** The run fails and names the place in the code. Statically linked programs are
//!   not watched for this.
//! * **A clock or random bytes that another thread asks for.** The run fails in the same way.
//! * **Real sockets, and real files opened for writing**, on a simulated host. The run fails in the same way. Reading a
//!   file is allowed.
//! * **A C library that does I/O by itself.** This is detected if the library calls libc's `open` or `socket`, but not
//!   if it makes system calls of its own or uses `fopen`.
//! * **Random bytes from the processor** (`RDRAND`, which aws-lc uses) **and its counters** (`rdtsc`). These are not
//!   detected directly, but `gapless run --check-determinism` makes every run twice and names the first difference.
//!
//! A log gets its files and sockets from the [`Host`], which is also where faults reach them.

// This comes first, so that all other modules know its macro.
#[macro_use]
extern crate gapless_world as _;

pub mod check;
pub mod cli;
pub mod entry;
pub mod explain;
pub mod explore;
pub mod fault;
pub mod history;
pub mod link;
pub mod marks;
pub mod report;
pub mod scenario;
pub mod seam;
pub mod sim;
pub mod system;

/// The seams between a log and its environment, and what any log needs in order to use them with mutual TLS.
pub use gapless_world as world;
pub use history::Invariant;
pub use system::{
    Client, Entry, Explored, Failure, File, Findings as Found, Host, Outcome, Peer, Promises, Rule, System,
};

/// Returns the version and the source of this build. A seed is valid for one build: in another build, its run may take
/// another course.
pub fn build_id() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), "+", env!("GAPLESS_SOURCE"))
}
