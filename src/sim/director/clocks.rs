//! Faults of clocks: whose wall clock is wrong, by how much, and who has read it.

use super::Director;

impl Director<'_> {
    /// Sets the clocks wrong.
    pub(super) fn begin_clock(&mut self, index: usize) {
        let _ = index;
    }

    /// Sets them right again.
    pub(super) fn undo_clock(&mut self, index: usize) {
        let _ = index;
    }

    /// What shows that the step bit, in words.
    pub(super) fn clock_evidence(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }
}
