//! The audit log for production: create a log, serve it, append to it, follow it, verify it.
//!
//! This binary provides no entropy and no clock of its own: the keys that it makes and the certificates that it checks
//! depend on those of the operating system.

use std::process::ExitCode;

fn main() -> ExitCode {
    gapless_log::cli::main()
}
