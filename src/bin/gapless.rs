//! The command line of the harness. This binary simulates, so it defines the libc seam.

use std::process::ExitCode;

use gapless::system::AuditLog;

gapless::define_seam!();

fn main() -> ExitCode {
    // This comes first, because the child process of a run must not have done anything that would become part of the
    // run.
    gapless::explore::become_worker_if_asked(AuditLog::default);
    gapless::cli::main(&AuditLog::default())
}
