//! Values of arguments, and the defaults for those that are not given.

use std::{num::NonZeroUsize, thread, time::Duration};

/// Parses a length of time, in the notation of scenario files.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    crate::scenario::duration(text).map_err(|error| error.to_string())
}

pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
