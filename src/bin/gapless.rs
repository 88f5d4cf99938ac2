//! The harness's command line. This binary defines the libc seam: it is the one that simulates.

use std::process::ExitCode;

use gapless::system::AuditLog;

gapless::define_seam!();

fn main() -> ExitCode {
    // First of all: a child of a run must not have done anything that would become part of the run.
    gapless::explore::become_worker_if_asked(AuditLog::default);
    gapless::cli::main(&AuditLog::default())
}
