//! The number of files and sockets that this process may have open at once.

use rustix::{
    io,
    process::{Resource, getrlimit, setrlimit},
};

/// Raises the soft limit of file descriptors (`RLIMIT_NOFILE`) to `wanted`, or as far as the hard limit allows, and
/// never lowers it. Returns the soft limit that is in force afterwards, which is less than `wanted` if the hard limit
/// is.
///
/// # Errors
/// Those of the kernel.
pub(super) fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    // A limit without a number is no limit.
    let Some(current) = limit.current else { return Ok(u64::MAX) };
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if raised <= current {
        return Ok(current);
    }
    limit.current = Some(raised);
    setrlimit(Resource::Nofile, limit)?;
    Ok(raised)
}
