//! How many files and sockets this process may have open at once.

use std::io;

/// Raises the soft limit of file descriptors (`RLIMIT_NOFILE`) to `wanted`, or as far as the hard limit allows. It is
/// never lowered. Returns the soft limit that is in force then, which is less than `wanted` where the hard limit is.
///
/// # Errors
/// As the kernel has it.
pub(crate) fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to `limit` alone, which is there for as long as it takes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = wanted.min(limit.rlim_max);
    if raised <= limit.rlim_cur {
        return Ok(limit.rlim_cur);
    }
    limit.rlim_cur = raised;
    // SAFETY: the call reads `limit` alone, which is there for as long as it takes.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raised)
}
