//! The history of a run: one append-only stream of typed events, the only thing that checkers and reports read.

mod event;
mod file;
pub(crate) mod mark;
mod moment;
mod named;

pub(crate) use event::same_bytes;
pub use event::{
    DiskOp, Down, EntryId, Event, Found, Header, Invariant, LeafBytes, Name, Outcome, Promises, RunClock, StepEvent,
    What,
};
pub use file::{HistoryError, read, write};
pub use moment::Moment;

/// A whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// What was run, and what the log under test promises.
    pub header: Header,
    /// All events, in the order in which they happened.
    pub events: Vec<Event>,
}
