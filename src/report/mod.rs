//! What people and machines are shown of a run: the terminal's tables, screens and timelines.
//!
//! Pure functions from a judgement, and where needed its history, to text. They decide nothing.

mod describe;
mod palette;
mod summary;
pub mod terminal;
pub(crate) mod text;
mod timeline;

pub use describe::describe;
pub use palette::Palette;
pub use summary::{Hints, RunSummary};
pub use timeline::timeline;
