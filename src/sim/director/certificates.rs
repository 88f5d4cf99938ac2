//! Faults of certificates: what is installed where, when, and what shows that it was met.

use super::Director;

impl Director<'_> {
    /// What the step installs when it begins.
    pub(super) fn begin_certificates(&mut self, index: usize) {
        let _ = index;
    }

    /// Installs good certificates again.
    pub(super) fn undo_certificates(&mut self, index: usize) {
        let _ = index;
    }

    /// What shows that the step bit, in words.
    pub(super) fn certificate_evidence(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }
}
