//! Where the simulating thread stands, asked from another thread: for a run whose time is up.
//!
//! A host that never yields cannot be asked, only interrupted: a signal makes its thread write down its own stack. The
//! process ends afterwards, so nothing needs to be safe beyond that; where the thread cannot answer (it may hold the
//! very lock that it needs), the question goes unanswered, and the caller goes on without.

use std::{
    backtrace::Backtrace,
    ffi::c_int,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{HostIndex, leak};

/// A thread that comes no further within this does not yield. A tick takes far less.
const STILL: Duration = Duration::from_millis(500);

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// The simulating thread, as its C library names it; 0 before there is one.
static THREAD: AtomicU64 = AtomicU64::new(0);
/// Simulated nanoseconds at the last tick, and ticks begun or ended.
static AT: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
static ANSWERED: Mutex<Option<(HostIndex, String)>> = Mutex::new(None);

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Simulated time.
    pub at: Duration,
    /// The host that does not yield, where the run goes no further.
    pub host: Option<HostIndex>,
    /// Where in its code, a line per call; empty where it could not be told.
    pub place: String,
}

/// Looks at the simulating thread from another one. Takes up to a few seconds, and reads no clock. The process should
/// end afterwards.
pub fn standing() -> Standing {
    let ticks = TICKS.load(Ordering::Relaxed);
    thread::sleep(STILL);
    let mut standing = Standing { at: Duration::from_nanos(AT.load(Ordering::Relaxed)), ..Standing::default() };
    if ticks == 0 || TICKS.load(Ordering::Relaxed) != ticks {
        return standing;
    }
    interrupt();
    let step = Duration::from_millis(10);
    for _ in 0..ANSWER.as_millis() / step.as_millis() {
        thread::sleep(step);
        if let Ok(mut answer) = ANSWERED.try_lock()
            && let Some((host, place)) = answer.take()
        {
            standing.host = Some(host);
            standing.place = place;
            return standing;
        }
    }
    standing.host = Some(HostIndex::MAX);
    standing
}

/// This thread simulates.
pub(super) fn simulating_here() {
    // SAFETY: takes nothing and cannot fail.
    #[cfg(target_os = "linux")]
    THREAD.store(unsafe { libc::pthread_self() }, Ordering::Relaxed);
}

/// The run has come to `now`.
pub(super) fn came_to(now: Duration) {
    AT.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    TICKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(target_os = "linux")]
fn interrupt() {
    let thread = THREAD.load(Ordering::Relaxed);
    if thread == 0 {
        return;
    }
    // SAFETY: an all-zero sigaction is a valid one, with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = answer as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is valid, and the thread lives: it is the one that does not come to its end.
    unsafe {
        if libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) == 0 {
            libc::pthread_kill(thread, libc::SIGUSR2);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn interrupt() {}

/// On the simulating thread, in the midst of whatever it does.
extern "C" fn answer(_signal: c_int) {
    let place = leak::place(&Backtrace::force_capture().to_string());
    *ANSWERED.lock().unwrap_or_else(PoisonError::into_inner) = Some((super::speaking(), place));
}
