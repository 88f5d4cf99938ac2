//! Trees that a client has verified, and what it takes for another one to extend them.

use bytes::Bytes;

use super::rejection::{PROOF_HASHES_MAX, Rejection};
use crate::{
    note::Checkpoint,
    tree::{self, Hash},
};

/// A tree that this client has verified: the one that every later tree must extend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Number of leaves.
    pub size: u64,
    /// Root of those leaves.
    pub root: Hash,
}

impl Known {
    /// What a client knows before its first receipt: the empty tree, which every tree extends.
    pub fn nothing() -> Known {
        Known { size: 0, root: tree::empty_root() }
    }
}

impl From<&Checkpoint> for Known {
    fn from(checkpoint: &Checkpoint) -> Known {
        Known { size: checkpoint.size, root: checkpoint.root }
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

/// Reads the hashes of a proof as it stands on the wire.
pub(super) fn hashes(what: &'static str, proof: &[Bytes]) -> Result<Vec<Hash>, Rejection> {
    if proof.len() > PROOF_HASHES_MAX {
        return Err(Rejection::MalformedProof { what });
    }
    let hash = |bytes: &Bytes| Hash::try_from(bytes.as_ref()).map_err(|_| Rejection::MalformedProof { what });
    proof.iter().map(hash).collect()
}
