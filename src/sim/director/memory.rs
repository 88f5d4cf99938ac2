//! Faults of memory and load: smaller budgets, more appends.

use super::Director;

impl Director<'_> {
    /// Takes memory away, or offers more.
    pub(super) fn begin_memory(&mut self, index: usize) {
        let _ = index;
    }

    /// Gives it back.
    pub(super) fn undo_memory(&mut self, index: usize) {
        let _ = index;
    }

    /// What shows that the step bit, in words.
    pub(super) fn memory_evidence(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }
}
