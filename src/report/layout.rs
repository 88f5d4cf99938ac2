//! For whom text is laid out: in colours or without, and in how many columns.

use super::Palette;

/// Widest line, whatever the terminal has: longer ones are hard to read.
pub const COLUMNS_MAX: usize = 100;
/// Narrowest: below it a table has no room for its columns.
pub const COLUMNS_MIN: usize = 40;

/// See the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Its colours.
    pub palette: Palette,
    columns: usize,
}

impl Layout {
    /// In so many columns, or as few or as many as there can be: [`COLUMNS_MIN`] to [`COLUMNS_MAX`].
    pub fn new(palette: Palette, columns: usize) -> Self {
        Self { palette, columns: columns.clamp(COLUMNS_MIN, COLUMNS_MAX) }
    }

    /// Widest line. What is there to be pasted may be longer.
    pub fn columns(self) -> usize {
        self.columns
    }
}

impl From<Palette> for Layout {
    fn from(palette: Palette) -> Self {
        Self::new(palette, COLUMNS_MAX)
    }
}
