//! The process of a run and its parent: the one does not outlive the other.

/// Lets the kernel end this process when the thread that started it ends, however it ends. `false` where `parent` is
/// not this process's parent (any more).
pub fn end_with_parent(parent: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: this call takes a signal number and touches no memory.
        let told = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if told != 0 {
            return false;
        }
    }
    // Asked afterwards: a parent that died before the call was not noticed by it.
    std::os::unix::process::parent_id() == parent
}
