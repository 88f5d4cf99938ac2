//! The layout of text: in colours or without, and in how many columns.

use super::Palette;

/// The widest line, whatever the terminal allows: longer lines are hard to read.
pub const COLUMNS_MAX: usize = 100;
/// The narrowest line: below it a table has no room for its columns.
pub const COLUMNS_MIN: usize = 40;

/// The colours and the width of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The colours.
    pub palette: Palette,
    columns: usize,
}

impl Layout {
    /// Makes a layout with this many columns, limited to the range from [`COLUMNS_MIN`] to [`COLUMNS_MAX`].
    pub fn new(palette: Palette, columns: usize) -> Self {
        Self { palette, columns: columns.clamp(COLUMNS_MIN, COLUMNS_MAX) }
    }

    /// Returns the width of the widest line. Text that is there to be pasted may be longer.
    pub fn columns(self) -> usize {
        self.columns
    }
}

impl From<Palette> for Layout {
    fn from(palette: Palette) -> Self {
        Self::new(palette, COLUMNS_MAX)
    }
}
