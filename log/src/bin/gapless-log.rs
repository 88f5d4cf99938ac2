//! The audit log for production: make one, serve it, append to it, follow it, verify it.
//!
//! This binary answers no entropy and no clock of its own: the keys it makes and the certificates it checks rest on the
//! operating system's.

use std::process::ExitCode;

fn main() -> ExitCode {
    gapless_log::cli::main()
}
