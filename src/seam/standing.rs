//! Finds out from another thread where the simulating thread is, for a run whose time is up.
//!
//! A host that never yields cannot be asked; it can only be interrupted. A signal makes its thread write down its own
//! stack. The process ends afterwards, so the handler need not leave it in a usable state. If the thread cannot answer
//! (it may hold the very lock that it needs), the caller goes on without an answer.

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

/// A thread that makes no progress within this time does not yield. A tick takes far less.
const STILL: Duration = Duration::from_millis(500);

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// The simulating thread, as the C library identifies it; `None` before there is one, and once it is about to end. A
/// thread that has ended must not be sent a signal: what identified it is freed memory.
static THREAD: Mutex<Option<u64>> = Mutex::new(None);
/// The simulated time at the last tick in nanoseconds, and the number of ticks that began or ended.
static AT: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
static ANSWERED: Mutex<Option<(HostIndex, String)>> = Mutex::new(None);

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The simulated time.
    pub at: Duration,
    /// Whether the simulation is over.
    pub is_over: bool,
    /// The host that does not yield, if the simulation makes no progress.
    pub host: Option<HostIndex>,
    /// The place in the code of that host, one line per call; empty if it is not known.
    pub place: String,
}

/// Looks at the simulating thread from another thread. Takes up to a few seconds, and reads no clock. The process
/// should end afterwards.
pub fn standing() -> Standing {
    let ticks = TICKS.load(Ordering::Relaxed);
    thread::sleep(STILL);
    let mut standing = Standing { at: Duration::from_nanos(AT.load(Ordering::Relaxed)), ..Standing::default() };
    if ticks == 0 || TICKS.load(Ordering::Relaxed) != ticks {
        return standing;
    }
    if !interrupt() {
        standing.is_over = true;
        return standing;
    }
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

/// The simulating thread, which may be interrupted for as long as this lives.
#[derive(Debug)]
pub struct Interruptible(());

impl Interruptible {
    /// Notes that this thread simulates.
    pub fn here() -> Interruptible {
        // SAFETY: takes nothing and cannot fail.
        #[cfg(target_os = "linux")]
        note(Some(unsafe { libc::pthread_self() }));
        Interruptible(())
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        note(None);
    }
}

fn note(thread: Option<u64>) {
    *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = thread;
}

/// Notes that the run has come to `now`.
pub(super) fn came_to(now: Duration) {
    AT.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// Asks the simulating thread where it is. Returns whether there is still one.
#[cfg(target_os = "linux")]
fn interrupt() -> bool {
    // Held until the signal is sent, so that the thread does not end before.
    let thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(thread) = *thread else { return false };
    // SAFETY: an all-zero sigaction is valid, with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = answer as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is valid, and the thread is alive, because it waits for the lock before it ends.
    unsafe {
        if libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) == 0 {
            libc::pthread_kill(thread, libc::SIGUSR2);
        }
    }
    true
}

#[cfg(not(target_os = "linux"))]
fn interrupt() -> bool {
    true
}

/// Runs on the simulating thread, in the middle of whatever that thread is doing.
extern "C" fn answer(_signal: c_int) {
    let place = leak::place(&Backtrace::force_capture().to_string());
    *ANSWERED.lock().unwrap_or_else(PoisonError::into_inner) = Some((super::speaking(), place));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_ended_is_not_interrupted() {
        thread::spawn(|| drop(Interruptible::here())).join().unwrap();
        assert!(!interrupt());
    }
}
