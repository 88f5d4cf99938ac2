//! Receipts: the proof that an entry is in the log for good, and the verification without which none counts.
//!
//! A receipt holds only if all of this does: the checkpoint is signed by the pinned key and cosigned as the pinned
//! policy demands, the leaf contains exactly the bytes that were sent, the leaf is in the signed tree, and that tree
//! extends the one this client knew before. The last condition makes each client a witness: a log that was rolled back,
//! forked or wiped cannot give it a receipt. A [`VerifiedReceipt`] can only be built here, and nothing may leave an
//! outbox without one.

use bytes::Bytes;

use super::{
    known::{Known, extends, hashes},
    line::{Line, Proven},
    rejection::Rejection,
};
use crate::{
    leaf::{Content, Epoch, Index, Leaf, Sequence, SignedEntry},
    note::{Checkpoint, NoteKey, Policy},
    tree::{self, Hash},
    wire,
};

/// A receipt that was verified in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// The entry's epoch.
    pub epoch: Epoch,
    /// The entry's position in that epoch.
    pub sequence: Sequence,
    /// The index of its leaf in the log.
    pub index: Index,
    /// The leaf as stored.
    pub leaf: Bytes,
    /// The checkpoint whose root covers the leaf.
    pub checkpoint: Checkpoint,
    /// That checkpoint as signed.
    pub note: String,
    /// Whether the entry was already in the log and this receipt repeats the first one.
    pub repeated: bool,
    /// Keeps all other modules from building one.
    _verified: Verified,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Verified;

/// A receipt that holds against the tree that was known when the entry was sent. It has yet to be linked to the tree
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
    /// Returns the tree of its checkpoint.
    pub(super) fn tree(&self) -> Known {
        Known::from(&self.receipt.checkpoint)
    }

    /// Returns the tree that was known when its entry was sent.
    pub(super) fn base(&self) -> &Known {
        &self.base
    }

    /// Returns which entry of its epoch it is for, and where the leaf stands.
    pub(super) fn place(&self) -> (Sequence, Index) {
        (self.receipt.sequence, self.receipt.index)
    }

    /// Returns the receipt if its tree lies on the proven line.
    pub(super) fn counts_on(self, line: &Proven) -> Result<VerifiedReceipt, Rejection> {
        let Known { size, root } = self.tree();
        match line.root(size) {
            Some(proven) if *proven == root => Ok(self.receipt),
            Some(_) => Err(Rejection::Forked { size }),
            None => Err(Rejection::Unproven { old: self.base.size, new: size }),
        }
    }

    /// Returns the two sizes, the smaller one first, whose consistency must still be proven because the kept tree has
    /// grown since the entry was sent, or `None` if nothing is missing.
    ///
    /// Both trees extend the one that was known when the entry was sent. That does not make one of them extend the
    /// other: without this proof, a fork could hide between two answers.
    pub fn missing(&self, kept: &Known) -> Option<(u64, u64)> {
        match self.line(kept).ok()?.missing()[..] {
            [old, new] => Some((old, new)),
            _ => None,
        }
    }

    /// Returns the receipt if `proof` shows what was [`missing`](Self::missing). A tree smaller than the kept one is no
    /// rollback here: a later answer overtook this one on its way.
    ///
    /// # Errors
    /// Fails if the proof does not hold, or if the log forked.
    pub fn accept(self, kept: &Known, proof: &[Hash]) -> Result<VerifiedReceipt, Rejection> {
        let proven = self.line(kept)?.prove(&[proof.to_vec()])?;
        self.counts_on(&proven)
    }

    fn line(&self, kept: &Known) -> Result<Line, Rejection> {
        let mut line = Line::new(kept);
        line.add(self.tree(), &self.base)?;
        Ok(line)
    }
}
