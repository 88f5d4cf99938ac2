//! Ctrl-C: the first one is noted, so that a sweep can report what it has found; the second one ends the process at
//! once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Returns whether the user asked to stop.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Notes the next SIGINT instead of ending on it. If SIGINT is ignored, as in a process that a script runs in the
/// background, it stays ignored.
pub(super) fn listen() {
    extern "C" fn note(_: libc::c_int) {
        ASKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: both structures are plain data, for which zero is a valid value; the calls get pointers to them that are
    // valid for as long as the calls last. The handler does nothing but store into an atomic, which is allowed in a
    // signal handler.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGINT, std::ptr::null(), &mut before) != 0 || before.sa_sigaction == libc::SIG_IGN {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        // Only once: a user who presses twice does not want to see the results.
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}
