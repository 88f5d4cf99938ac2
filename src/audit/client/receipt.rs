//! Receipts: the proof that an entry is in the log for good, and the verification without which none counts.
//!
//! A receipt holds only if everything does: the checkpoint is signed by the pinned key and cosigned as the pinned policy
//! demands, the leaf contains exactly the
//! bytes that were sent, the leaf is in the signed tree, and that tree extends the one this client knew before. The
//! last makes each client a witness: a log that was rolled back, forked or wiped cannot give it a receipt. A
//! [`VerifiedReceipt`] can only be built here, and nothing may leave an outbox without one.

use bytes::Bytes;

use crate::audit::{
    leaf::{Content, DecodeError, Epoch, Index, Leaf, Sequence, SignedEntry},
    note::{Checkpoint, NoteError, NoteKey, Policy},
    tree::{self, BadProof, Hash},
    wire,
};

use super::line::{Line, Proven};

/// No proof in a tree of up to 2^64 leaves needs more hashes than this: longer ones are refused unread.
const PROOF_HASHES_MAX: usize = 128;

/// A tree that this client has verified: the one that every later tree must extend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Number of leaves.
    pub size: u64,
    /// Root of those leaves.
    pub root: Hash,
}

impl Known {
    /// What a client knows that never got a receipt: the empty tree, which every tree extends.
    pub fn nothing() -> Known {
        Known { size: 0, root: tree::empty_root() }
    }
}

impl From<&Checkpoint> for Known {
    fn from(checkpoint: &Checkpoint) -> Known {
        Known { size: checkpoint.size, root: checkpoint.root }
    }
}

/// A receipt of which everything was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// The entry's epoch.
    pub epoch: Epoch,
    /// The entry's position in it.
    pub sequence: Sequence,
    /// Where its leaf is in the log.
    pub index: Index,
    /// The leaf as stored.
    pub leaf: Bytes,
    /// The checkpoint whose root covers the leaf.
    pub checkpoint: Checkpoint,
    /// That checkpoint as signed.
    pub note: String,
    /// Whether the entry was in the log already and this repeats the receipt of the first time.
    pub repeated: bool,
    /// Keeps everybody else from building one.
    _verified: Verified,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Verified;

/// Why a receipt does not count. The entry stays in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The answer is to another entry.
    #[error("the answer names sequence {found} where {expected} was next to be answered")]
    WrongSequence {
        /// Next in order.
        expected: u64,
        /// In the answer.
        found: u64,
    },
    /// Neither a receipt nor a refusal.
    #[error("the answer holds neither a receipt nor a refusal; the server may speak a newer revision")]
    Empty,
    /// Not a checkpoint of this log.
    #[error("its checkpoint: {0}")]
    Note(#[from] NoteError),
    /// Not a leaf.
    #[error("its leaf: {0}")]
    Leaf(#[from] DecodeError),
    /// Another entry's leaf.
    #[error("its leaf does not hold the bytes that were sent")]
    OtherEntry,
    /// A hash of a wrong length, or too many of them.
    #[error("its {what} proof is not a list of at most {PROOF_HASHES_MAX} hashes of 32 bytes")]
    MalformedProof {
        /// Which proof.
        what: &'static str,
    },
    /// The leaf is not shown to be in the signed tree.
    #[error("inclusion of leaf {index} in {size} leaves: {why}")]
    NotIncluded {
        /// Where it should be.
        index: u64,
        /// Leaves of the signed tree.
        size: u64,
        /// What the verification says.
        why: BadProof,
    },
    /// The signed tree is not shown to extend the known one.
    #[error("consistency from {old} to {new} leaves: {why}")]
    Inconsistent {
        /// Leaves of the smaller tree.
        old: u64,
        /// Leaves of the larger tree.
        new: u64,
        /// What the verification says.
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
    /// Entries of one epoch that do not stand in the order of their sequences.
    #[error(
        "the log placed sequence {sequence} at index {index}, and sequence {other} of the same epoch at {other_index}: \
         out of order, so one of them is void there; whoever led the log broke its rules, keep both receipts as evidence"
    )]
    OutOfOrder {
        /// The entry that this receipt is for.
        sequence: u64,
        /// Where it says that the entry stands.
        index: u64,
        /// An entry that was acknowledged before.
        other: u64,
        /// Where that one stands.
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
    /// Two roots of one size, both signed.
    #[error("the log forked: it signed two different roots of {size} leaves; keep both notes as evidence")]
    Forked {
        /// Leaves of both trees.
        size: u64,
    },
}

impl Rejection {
    /// Whether asking again cannot help: the log itself is not the one that this client knew.
    pub fn needs_a_cure(&self) -> bool {
        matches!(self, Rejection::RolledBack { .. } | Rejection::Forked { .. } | Rejection::OutOfOrder { .. })
    }
}

/// A receipt that holds against the tree that was known when the entry was sent. What is still missing is the tree
/// that was kept meanwhile, from the receipts of entries sent before it.
#[derive(Debug)]
pub struct Examined {
    receipt: VerifiedReceipt,
    base: Known,
}

/// Verifies a receipt for `entry`, which was sent when `known` was the kept tree.
pub fn examine(
    receipt: &wire::Receipt,
    entry: &SignedEntry,
    key: &NoteKey,
    policy: &Policy,
    known: &Known,
) -> Result<Examined, Rejection> {
    let checkpoint = Checkpoint::verify_by(&receipt.checkpoint, key, policy)?;
    match Leaf::decode(receipt.leaf.clone())?.content {
        Content::Entry(stored) if stored.bytes() == entry.bytes() => {}
        _ => return Err(Rejection::OtherEntry),
    }
    let inclusion = hashes("inclusion", &receipt.inclusion)?;
    let leaf = tree::leaf_hash(&receipt.leaf);
    tree::verify_inclusion(&leaf, receipt.index, checkpoint.size, &inclusion, &checkpoint.root)
        .map_err(|why| Rejection::NotIncluded { index: receipt.index, size: checkpoint.size, why })?;
    let consistency = hashes("consistency", &receipt.consistency)?;
    extends(known, &Known::from(&checkpoint), &consistency)?;
    let receipt = VerifiedReceipt {
        epoch: entry.entry().epoch,
        sequence: entry.entry().sequence,
        index: Index(receipt.index),
        leaf: receipt.leaf.clone(),
        checkpoint,
        note: receipt.checkpoint.clone(),
        repeated: receipt.repeated,
        _verified: Verified,
    };
    Ok(Examined { receipt, base: known.clone() })
}

impl Examined {
    /// The tree under which it stands.
    pub(super) fn tree(&self) -> Known {
        Known::from(&self.receipt.checkpoint)
    }

    /// The tree that was known when its entry was sent.
    pub(super) fn base(&self) -> &Known {
        &self.base
    }

    /// Which entry of its epoch it is for, and where the leaf stands.
    pub(super) fn place(&self) -> (Sequence, Index) {
        (self.receipt.sequence, self.receipt.index)
    }

    /// The receipt, once its tree is proven to lie on the line of those that count.
    pub(super) fn counts_on(self, line: &Proven) -> Result<VerifiedReceipt, Rejection> {
        let Known { size, root } = self.tree();
        match line.root(size) {
            Some(proven) if *proven == root => Ok(self.receipt),
            Some(_) => Err(Rejection::Forked { size }),
            None => Err(Rejection::Unproven { old: self.base.size, new: size }),
        }
    }

    /// The two sizes, smaller first, whose consistency must still be proven because the kept tree has grown since the
    /// entry was sent; `None` where nothing is missing.
    ///
    /// Both trees extend the one that was known at sending. That does not make one of them extend the other: without
    /// this proof a fork could hide between two answers.
    pub fn missing(&self, kept: &Known) -> Option<(u64, u64)> {
        match self.line(kept).ok()?.missing()[..] {
            [old, new] => Some((old, new)),
            _ => None,
        }
    }

    /// The receipt, once `proof` has shown what was [`missing`](Self::missing). A tree smaller than the kept one is
    /// no rollback here: the answer was on its way while a later one overtook it.
    ///
    /// # Errors
    /// Where the proof does not hold, or the log forked.
    pub fn accept(self, kept: &Known, proof: &[Hash]) -> Result<VerifiedReceipt, Rejection> {
        let proven = self.line(kept)?.prove(&[proof.to_vec()])?;
        self.counts_on(&proven)
    }

    fn line(&self, kept: &Known) -> Result<Line, Rejection> {
        let mut line = Line::new(kept);
        line.add(self)?;
        Ok(line)
    }

    /// A receipt for nothing, under this tree.
    #[cfg(test)]
    pub(super) fn of_trees(tree: &Known, base: &Known) -> Examined {
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size: tree.size, root: tree.root };
        let receipt = VerifiedReceipt {
            epoch: Epoch(1),
            sequence: Sequence(1),
            index: Index(0),
            leaf: Bytes::new(),
            checkpoint,
            note: String::new(),
            repeated: false,
            _verified: Verified,
        };
        Examined { receipt, base: base.clone() }
    }
}

/// Verifies that the tree `new` begins with the tree `old`.
pub(super) fn extends(old: &Known, new: &Known, proof: &[Hash]) -> Result<(), Rejection> {
    if new.size < old.size {
        return Err(Rejection::RolledBack { known: old.size, found: new.size });
    }
    if new.size == old.size && new.root != old.root {
        return Err(Rejection::Forked { size: new.size });
    }
    tree::verify_consistency(old.size, new.size, proof, &old.root, &new.root).map_err(|why| Rejection::Inconsistent {
        old: old.size,
        new: new.size,
        why,
    })
}

/// The hashes of a proof as it stands on the wire.
pub(super) fn hashes(what: &'static str, proof: &[Bytes]) -> Result<Vec<Hash>, Rejection> {
    if proof.len() > PROOF_HASHES_MAX {
        return Err(Rejection::MalformedProof { what });
    }
    let hash = |bytes: &Bytes| Hash::try_from(bytes.as_ref()).map_err(|_| Rejection::MalformedProof { what });
    proof.iter().map(hash).collect()
}
