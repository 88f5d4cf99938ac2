//! The Merkle tree of RFC 6962, section 2.1, as the judge computes it.
//!
//! It is deliberately written apart from the tree of the audit log: a judge that borrows the accused's arithmetic
//! shares its mistakes. It keeps a compact range only, the roots of the complete subtrees from left to right, so that
//! the roots of all sizes cost one pass over the leaves.

use sha2::{Digest, Sha256};

/// A node of the tree.
pub(super) type Hash = [u8; 32];

/// `SHA-256(0x00 || leaf)`.
pub(super) fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// `SHA-256(0x01 || left || right)`.
fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The complete subtrees of a growing list of leaves, largest first: one for each bit set in `size`.
#[derive(Debug, Default)]
pub(super) struct Range {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Range {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut carried = self.size;
        while carried & 1 == 1 {
            let Some(left) = self.subtrees.pop() else { break };
            node = node_hash(&left, &node);
            carried >>= 1;
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// Returns the root of all leaves so far; the root of the empty tree is SHA-256 of nothing.
    pub(super) fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(&last) = subtrees.next() else { return Sha256::digest([]).into() };
        subtrees.fold(last, |right, left| node_hash(left, &right))
    }
}

/// Returns whether `proof` leads from the leaf at `index` to the root of `size` leaves, by the algorithm of RFC 9162,
/// 2.1.3.2.
pub(super) fn includes(root: &Hash, size: u64, index: u64, leaf: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut number, mut last) = (index, size - 1);
    let mut node = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if number & 1 == 1 || number == last {
            node = node_hash(sibling, &node);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(&node, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    last == 0 && node == *root
}

/// Encodes bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a hash from 64 hex digits.
pub(super) fn from_hex(text: &str) -> Option<Hash> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 6962, 2.1, as defined there.
    pub(in crate::check) fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    /// PATH of RFC 6962, 2.1.1, as defined there.
    pub(in crate::check) fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        if index < left.len() {
            [path(index, left), vec![by_definition(right)]].concat()
        } else {
            [path(index - left.len(), right), vec![by_definition(left)]].concat()
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_known_trees() {
        assert_eq!(hex(&Range::default().root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut range = Range::default();
        range.push(leaf_hash(b""));
        assert_eq!(hex(&range.root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(from_hex(&hex(&range.root())), Some(range.root()));
        assert_eq!(from_hex("zz"), None);
    }

    #[test]
    fn every_root_on_the_way_is_the_definitions() {
        let leaves = leaves(70);
        let mut range = Range::default();
        for (n, leaf) in leaves.iter().enumerate() {
            assert_eq!(range.root(), by_definition(&leaves[..n]), "size {n}");
            range.push(*leaf);
        }
    }

    proptest! {
        #[test]
        fn a_proof_holds_for_its_own_leaf_and_no_other(
            size in 1usize..64,
            pick: prop::sample::Index,
            other: prop::sample::Index,
        ) {
            let (leaves, index) = (leaves(size), pick.index(size));
            let (root, proof) = (by_definition(&leaves), path(index, &leaves));
            prop_assert!(includes(&root, size as u64, index as u64, &leaves[index], &proof));
            let other = other.index(size);
            prop_assert_eq!(includes(&root, size as u64, other as u64, &leaves[index], &proof), other == index);
            prop_assert_eq!(includes(&root, size as u64, index as u64, &leaves[other], &proof), other == index);
            let longer = [proof.clone(), vec![root]].concat();
            prop_assert!(!includes(&root, size as u64, index as u64, &leaves[index], &longer));
            prop_assert!(!includes(&root, size as u64, size as u64, &leaves[index], &proof));
        }
    }
}
