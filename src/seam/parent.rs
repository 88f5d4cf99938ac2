//! The process of a run does not outlive its parent.

/// Makes the kernel end this process when the thread that started it ends, for whatever reason. Returns `false` if
/// `parent` is not, or is no longer, the parent of this process.
pub fn end_with_parent(parent: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: this call takes a signal number and touches no memory.
        let told = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if told != 0 {
            return false;
        }
    }
    // This is checked afterwards, because the call does not notice a parent that ended before it.
    std::os::unix::process::parent_id() == parent
}
