//! `gapless schema`: the JSON Schema of scenario files, for editors.

use std::io::{self, Write};

use super::{Exit, Stop, closed};

/// Prints it.
pub(super) fn schema() -> Result<Exit, Stop> {
    io::stdout().lock().write_all(crate::scenario::schema().as_bytes()).or_else(closed)?;
    Ok(Exit::Holds)
}
