//! What a run shows to people and machines: the terminal's tables, screens and timelines.
//!
//! These are pure functions from a judgement, and where needed its history, to text. They decide nothing.

mod describe;
mod layout;
mod palette;
mod summary;
pub mod terminal;
pub(crate) mod text;
mod timeline;

pub use describe::describe;
pub use layout::{COLUMNS_MAX, COLUMNS_MIN, Layout};
pub use palette::Palette;
pub use summary::{Hints, RunSummary};
pub use timeline::timeline;
