//! Ctrl-C: the first is noted, so that a sweep can say what it has found; the second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked to stop.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Notes the next SIGINT instead of dying of it. Where SIGINT is ignored, as for what runs in the background of a script,
/// it stays so.
pub(super) fn listen() {
    extern "C" fn note(_: libc::c_int) {
        ASKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: both structures are plain data, for which zero is a value; the calls get pointers to them that are good for
    // as long as the calls last. The handler does nothing but store into an atomic, which a signal may interrupt.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGINT, std::ptr::null(), &mut before) != 0 || before.sa_sigaction == libc::SIG_IGN {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        // Once: whoever presses twice does not want to hear the results.
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}
