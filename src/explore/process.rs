//! The parent's side of a run: starts the child, waits for it, and kills it if it does not end.
//!
//! The request and the outcome pass through one file without a name, which is the standard input of the child. The
//! child ends with its parent.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    scratch::Scratch,
    worker::{Desk, PARENT, RunOutcome, RunRequest},
};

/// A run that takes longer than this in real time is ended, because something in it never ends.
pub const RUN_MAX: Duration = Duration::from_secs(300);

/// A child ends itself when its time is up, since it can report where it is. A child that cannot is killed after this
/// further time.
const GRACE: Duration = Duration::from_secs(5);

/// How often the parent checks whether the child has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How glibc keeps the heap of a run, which only ever adds to its history: in one piece that grows in large steps and
/// is never returned to the kernel. By default glibc would ask the kernel for every few kilobytes, because the heap of
/// a second thread grows page by page. If the user has set this variable, that value is kept. Only speed depends on it.
const TUNABLES: &str = "GLIBC_TUNABLES";
const HEAP: &str = "glibc.malloc.arena_max=1:glibc.malloc.top_pad=33554432:glibc.malloc.trim_threshold=1073741824";

/// How much of the error output of a failed child is shown.
const LAST_WORDS_BYTES_MAX: u64 = 16 * 1024;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file system or the process table refused a request.
    #[error("cannot start a run's process: {0}")]
    Io(#[from] io::Error),
    /// The run took too long and was killed.
    #[error("the run did not end within {0:?} of real time and was killed; a host that never yields would do this")]
    TooLong(Duration),
    /// The child died.
    #[error("the run's process ended with {status} and without an outcome{}{stderr}", if .stderr.is_empty() { "" } else { "\n" })]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The last part of its error output.
        stderr: String,
    },
    /// The run was stopped, because its outcome is no longer wanted.
    #[error("the run was stopped")]
    Stopped,
}

/// Makes one run in a new process of this same program.
///
/// # Errors
/// See [`RunError`]. A run that failed by itself is a [`RunOutcome::Failed`].
pub fn run(request: &RunRequest, limit: Duration) -> Result<RunOutcome, RunError> {
    run_unless(request, limit, &AtomicBool::new(false))
}

/// Makes one run like [`run`], but gives up as soon as `stop` is set.
pub(super) fn run_unless(request: &RunRequest, limit: Duration, stop: &AtomicBool) -> Result<RunOutcome, RunError> {
    let mut desk = Scratch::new()?;
    desk.fill(&serde_json::to_vec(&Desk { request, limit }).map_err(io::Error::other)?)?;
    let mut stderr = Scratch::new()?;
    let mut child = Reaped(
        Command::new(this_program()?)
            .env(PARENT, std::process::id().to_string())
            .env(TUNABLES, std::env::var_os(TUNABLES).unwrap_or_else(|| HEAP.into()))
            .stdin(desk.hand_over()?)
            .stdout(Stdio::null())
            .stderr(stderr.hand_over()?)
            .spawn()?,
    );
    let status = wait(&mut child.0, limit, stop)?;
    // A system under test may end the process by itself, with any status. The file then still holds the request.
    if let Ok(outcome) = serde_json::from_slice(&desk.tail(u64::MAX)?) {
        return Ok(outcome);
    }
    // Ctrl-C goes to every process of the terminal, so it interrupts the runs together with the sweep.
    if status.signal() == Some(libc::SIGINT) {
        return Err(RunError::Stopped);
    }
    let stderr = String::from_utf8_lossy(&stderr.tail(LAST_WORDS_BYTES_MAX)?).trim_end().to_owned();
    Err(RunError::Died { status, stderr })
}

/// Returns the running program itself, even if its file was replaced in the meantime: all runs of a sweep are of one
/// build.
fn this_program() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

fn wait(child: &mut Child, limit: Duration, stop: &AtomicBool) -> Result<ExitStatus, RunError> {
    let end = Instant::now() + limit + GRACE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        if Instant::now() > end {
            return Err(RunError::TooLong(limit));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A child that is killed when this value is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both calls fail if the child has already ended, which does no harm.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
