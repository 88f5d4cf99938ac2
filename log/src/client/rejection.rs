//! Why a receipt does not count.

use crate::{leaf::DecodeError, note::NoteError, tree::BadProof};

/// No proof in a tree of up to 2^64 leaves needs more hashes than this: longer ones are refused unread.
pub(super) const PROOF_HASHES_MAX: usize = 128;

/// Why a receipt does not count. The entry stays in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The answer is for another entry.
    #[error("the answer names sequence {found} where {expected} was next to be answered")]
    WrongSequence {
        /// The sequence that is next in order.
        expected: u64,
        /// The sequence in the answer.
        found: u64,
    },
    /// The answer is neither a receipt nor a refusal.
    #[error("the answer holds neither a receipt nor a refusal; the server may speak a newer revision")]
    Empty,
    /// The checkpoint is not one of this log.
    #[error("its checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The leaf cannot be decoded.
    #[error("its leaf: {0}")]
    Leaf(#[from] DecodeError),
    /// The leaf is that of another entry.
    #[error("its leaf does not hold the bytes that were sent")]
    OtherEntry,
    /// A proof has a hash of the wrong length, or too many hashes.
    #[error("its {what} proof is not a list of at most {PROOF_HASHES_MAX} hashes of 32 bytes")]
    MalformedProof {
        /// Which proof.
        what: &'static str,
    },
    /// The leaf is not shown to be in the signed tree.
    #[error("inclusion of leaf {index} in {size} leaves: {why}")]
    NotIncluded {
        /// The index at which the leaf should be.
        index: u64,
        /// Leaves of the signed tree.
        size: u64,
        /// Why the verification failed.
        why: BadProof,
    },
    /// The signed tree is not shown to extend the known one.
    #[error("consistency from {old} to {new} leaves: {why}")]
    Inconsistent {
        /// Leaves of the smaller tree.
        old: u64,
        /// Leaves of the larger tree.
        new: u64,
        /// Why the verification failed.
        why: BadProof,
    },
    /// Nothing shows that one of two trees begins with the other.
    #[error("nothing proves that the tree of {new} leaves begins with the one of {old}; the server left a proof out")]
    Unproven {
        /// Leaves of the smaller tree.
        old: u64,
        /// Leaves of the larger tree.
        new: u64,
    },
    /// Entries of one epoch do not stand in the log in the order of their sequences.
    #[error(
        "the log placed sequence {sequence} at index {index}, and sequence {other} of the same epoch at {other_index}: \
         out of order, so one of them is void there; a leader of the log broke its rules; keep both receipts as \
         evidence"
    )]
    OutOfOrder {
        /// The entry that this receipt is for.
        sequence: u64,
        /// The index at which, by this receipt, the entry stands.
        index: u64,
        /// An entry that was acknowledged before.
        other: u64,
        /// The index at which that entry stands.
        other_index: u64,
    },
    /// The log is shorter than it was.
    #[error(
        "the log was rolled back: it signs {found} leaves where it had signed {known}; compare the kept checkpoint \
         with the log's replicas before anything is appended"
    )]
    RolledBack {
        /// Leaves this client had verified before it asked.
        known: u64,
        /// Leaves of the signed tree.
        found: u64,
    },
    /// The log signed two roots of the same size.
    #[error("the log forked: it signed two different roots of {size} leaves; keep both notes as evidence")]
    Forked {
        /// Leaves of both trees.
        size: u64,
    },
}

impl Rejection {
    /// Returns whether asking again cannot help, because the log itself is not the one that this client knew.
    pub fn needs_a_cure(&self) -> bool {
        matches!(self, Rejection::RolledBack { .. } | Rejection::Forked { .. } | Rejection::OutOfOrder { .. })
    }
}
