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
//!
//! # Your own log
//!
//! Any log written in Rust on tokio can be tested in this way, unmodified but for five seams: where it listens, how it
//! connects, where it stores, what it shows as its identity, and when it stops. It is a [`System`]; its client is a
//! [`Client`]; a test binary with [`main!`] makes a test of each scenario file. `docs/your-own-log.md` leads through it.
//!
//! # What cannot be simulated
//!
//! Whatever does not ask libc, or does not run on the simulating thread:
//!
//! * **Threads and `spawn_blocking`.** The run fails and names the place in the code. Programs that are linked statically
//!   are not watched for this.
//! * **A clock or random bytes asked for on another thread.** The same.
//! * **Real sockets, and real files opened for writing**, on a simulated host. The same. Reading a file is let through.
//! * **A C library that does I/O by itself**: found where it calls libc's `open` or `socket`; not where it makes system
//!   calls of its own, or goes through `fopen`.
//! * **Random bytes from the processor** (`RDRAND`, as aws-lc has them) **and its counters** (`rdtsc`): not found by
//!   themselves; `gapless run --check-determinism` makes every run twice and names the first difference.
//!
//! A file or a socket comes from the [`Host`], and so do faults.

// First, so that its macro is known to all the others.
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

/// The seams between a log and what is outside it, and what any log needs in order to use them with mutual TLS.
pub use gapless_world as world;
pub use history::Promise as Invariant;
pub use system::{
    Client, Entry, Explored, Failure, File, Findings as Found, Host, Outcome, Peer, Promises, Rule, System,
};

/// Version and source of this build. A seed holds for one build: a run of another may take another course.
pub fn build_id() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), "+", env!("GAPLESS_SOURCE"))
}
