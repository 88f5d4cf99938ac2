//! `gapless schema`: the JSON Schema of scenario files, for editors.

use std::io::{self, Write};

use super::{Exit, Home, Stop, closed};

/// Prints the schema.
pub(super) fn schema(home: &Home) -> Result<Exit, Stop> {
    io::stdout().lock().write_all(crate::scenario::schema(&home.sizes).as_bytes()).or_else(closed)?;
    Ok(Exit::Holds)
}
