//! The Merkle tree of RFC 6962, section 2.1, over SHA-256.
//!
//! The log's promise "nothing before this point changed" is one hash: the root of this tree. [`Tree`] proves, and the
//! two `verify_…` functions check; they share nothing but the two hash formulas, because a verifier that is built from
//! its prover repeats the prover's mistakes. Nothing here reads, writes or waits.

use sha2::{Digest, Sha256};

/// A node of the tree.
pub type Hash = [u8; 32];

/// `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(leaf).finalize().into()
}

/// `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// Returns the root of the tree without leaves: the SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The whole tree in memory: the hashes of all complete subtrees, level by level; about 64 bytes a leaf.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// `levels[k][i]` is the root of the complete subtree over the leaves `i·2^k .. (i+1)·2^k`. Level 0 has the leaves.
    levels: Vec<Vec<Hash>>,
}

/// The root of leaves that come one after the other and are not kept. It holds one hash for each complete subtree, of
/// which a tree of `n` leaves has as many as `n` has ones in binary.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    /// The largest subtree comes first.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Returns the number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let whole = self.subtrees.len() - self.size.trailing_ones() as usize;
        let hash = self.subtrees.drain(whole..).rev().fold(leaf, |right, left| node_hash(&left, &right));
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Returns the root of all leaves so far. Without leaves, it is the SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let subtrees = self.subtrees.iter().rev().copied();
        subtrees.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

impl Tree {
    /// Returns the number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut level = 0;
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            let [.., left, right] = row.as_slice() else { return };
            if row.len() % 2 == 1 {
                return;
            }
            hash = node_hash(left, right);
            level += 1;
        }
    }

    /// Forgets all leaves from `size` on. Does nothing if there are no more leaves than that.
    pub fn truncate(&mut self, size: u64) {
        for (level, row) in self.levels.iter_mut().enumerate() {
            row.truncate(usize::try_from(size >> level).unwrap_or(usize::MAX));
        }
        self.levels.retain(|row| !row.is_empty());
    }

    /// Returns the root of the first `size` leaves; `None` if there are fewer. The root of the empty tree is the
    /// SHA-256 of nothing.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        match size {
            0 => Some(empty_root()),
            _ if size > self.size() => None,
            _ => self.subtree(0, size),
        }
    }

    /// Returns the hash of a leaf.
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// Returns the audit path of `index` in the tree of `size` leaves (RFC 6962, 2.1.1), from the leaf's sibling up to
    /// the root's child; `None` unless `index < size <= self.size()`.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + largest_power_of_two_below(end - start);
            if index < middle {
                path.push(self.subtree(middle, end)?);
                end = middle;
            } else {
                path.push(self.subtree(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Returns the consistency proof (RFC 6962, 2.1.2); `None` unless `old <= new <= self.size()`; empty if `old` is 0
    /// or `new`.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        if old > new || new > self.size() {
            return None;
        }
        if old == 0 || old == new {
            return Some(Vec::new());
        }
        let (mut start, mut end) = (0, new);
        let mut path = Vec::new();
        while old != end {
            let middle = start + largest_power_of_two_below(end - start);
            if old <= middle {
                path.push(self.subtree(middle, end)?);
                end = middle;
            } else {
                path.push(self.subtree(start, middle)?);
                start = middle;
            }
        }
        // If the walk never went right, the subtree that is left is the whole old tree, whose root the verifier already
        // knows.
        if start != 0 {
            path.push(self.subtree(start, end)?);
        }
        path.reverse();
        Some(path)
    }

    /// Returns the root over the leaves `start..end`, where `start` is a multiple of the smallest power of two >=
    /// `end - start`.
    fn subtree(&self, start: u64, end: u64) -> Option<Hash> {
        let leaves = end - start;
        if leaves.is_power_of_two() {
            let level = leaves.trailing_zeros();
            let position = usize::try_from(start >> level).ok()?;
            return self.levels.get(level as usize)?.get(position).copied();
        }
        let middle = start + largest_power_of_two_below(leaves);
        Some(node_hash(&self.subtree(start, middle)?, &self.subtree(middle, end)?))
    }
}

/// The `k` of RFC 6962, section 2.1: the largest power of two smaller than `leaves`, which is at least 2.
fn largest_power_of_two_below(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// A proof that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadProof(pub String);

/// Verifies an inclusion proof by RFC 9162, section 2.1.3.2. It was written from that algorithm, independently of the
/// prover.
///
/// `size` and `root` must come from one signed checkpoint: the proof binds the leaf to the root, and only the signature
/// binds the root to its size.
///
/// # Errors
/// If the proof is too short or too long for this index and size, or leads to another root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), BadProof> {
    if index >= size {
        return Err(BadProof(format!("index {index} is outside a tree of {size} leaves")));
    }
    let (mut node, mut last) = (index, size - 1);
    let mut reached = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(BadProof(format!("the inclusion proof of index {index} in size {size} is too long")));
        }
        if node & 1 == 1 || node == last {
            reached = node_hash(sibling, &reached);
            skip_missing_levels(&mut node, &mut last);
        } else {
            reached = node_hash(&reached, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(BadProof(format!("the inclusion proof of index {index} in size {size} is too short")));
    }
    if reached != *root {
        return Err(BadProof(format!("the inclusion proof of index {index} leads to another root of size {size}")));
    }
    Ok(())
}

/// Verifies a consistency proof by RFC 9162, section 2.1.4.2. Sizes of 0 and equal sizes are defined, too: everything
/// is consistent with size 0, by an empty proof; equal sizes need equal roots and an empty proof.
///
/// # Errors
/// If the proof is too short or too long for these sizes, or leads to another old or new root.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), BadProof> {
    if old > new {
        return Err(BadProof(format!("size {new} is not newer than size {old}: the log went back")));
    }
    if old == 0 || old == new {
        return verify_without_proof(old, new, proof, old_root, new_root);
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // The proof does not repeat an old tree that is one complete subtree.
    let (seed, path) = match (old.is_power_of_two(), proof) {
        (true, [_, ..]) => (*old_root, proof),
        (false, [first, rest @ ..]) => (*first, rest),
        (_, []) => return Err(BadProof(format!("the consistency proof from size {old} to {new} is empty"))),
    };
    let (mut old_reached, mut new_reached) = (seed, seed);
    for sibling in path {
        if last == 0 {
            return Err(BadProof(format!("the consistency proof from size {old} to {new} is too long")));
        }
        if node & 1 == 1 || node == last {
            old_reached = node_hash(sibling, &old_reached);
            new_reached = node_hash(sibling, &new_reached);
            skip_missing_levels(&mut node, &mut last);
        } else {
            new_reached = node_hash(&new_reached, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(BadProof(format!("the consistency proof from size {old} to {new} is too short")));
    }
    if old_reached != *old_root {
        return Err(BadProof(format!("the consistency proof to size {new} leads to another root of size {old}")));
    }
    if new_reached != *new_root {
        return Err(BadProof(format!("the consistency proof from size {old} leads to another root of size {new}")));
    }
    Ok(())
}

/// Decides the two cases that RFC 9162 leaves open.
fn verify_without_proof(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> Result<(), BadProof> {
    if !proof.is_empty() {
        return Err(BadProof(format!("sizes {old} and {new} need no consistency proof, but there is one")));
    }
    if old == new && old_root != new_root {
        return Err(BadProof(format!("two roots of size {old}: the log forked")));
    }
    Ok(())
}

/// Goes up to the next level at which the node is a right child: on the right border of an incomplete tree, the levels
/// between have no sibling.
fn skip_missing_levels(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn grown(size: u64) -> Tree {
        let mut tree = Tree::default();
        (0..size).for_each(|index| tree.push(leaf_hash(&index.to_be_bytes())));
        tree
    }

    #[test]
    fn a_frontier_has_the_root_of_the_whole_tree_and_holds_a_hash_for_each_one_in_the_size() {
        let (whole, mut frontier) = (grown(4_100), Frontier::default());
        for size in 0..=whole.size() {
            assert_eq!((frontier.size(), Some(frontier.root())), (size, whole.root_at(size)));
            assert_eq!(frontier.subtrees.len(), size.count_ones() as usize, "{size}");
            frontier.push(leaf_hash(&size.to_be_bytes()));
        }
    }

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root_at(0).unwrap()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            tree.push(leaf_hash(&unhex(leaf)));
            assert_eq!(hex(&tree.root_at(tree.size()).unwrap()), root);
        }
        for (size, root) in (1..).zip(ROOTS) {
            assert_eq!(hex(&tree.root_at(size).unwrap()), root, "an older root is still known");
        }
        assert_eq!(tree.root_at(9), None);
    }

    #[test]
    fn the_proofs_are_those_of_certificate_transparency() {
        let mut tree = Tree::default();
        LEAVES.iter().for_each(|leaf| tree.push(leaf_hash(&unhex(leaf))));
        let path: Vec<String> = tree.inclusion(5, 8).unwrap().iter().map(|hash| hex(hash)).collect();
        assert_eq!(
            path,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        let path: Vec<String> = tree.consistency(6, 8).unwrap().iter().map(|hash| hex(hash)).collect();
        assert_eq!(
            path,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies() {
        let tree = grown(70);
        for size in 1..=70 {
            let root = tree.root_at(size).unwrap();
            for index in 0..size {
                let proof = tree.inclusion(index, size).unwrap();
                verify_inclusion(&tree.leaf(index).unwrap(), index, size, &proof, &root).unwrap();
                let proof = tree.consistency(index, size).unwrap();
                verify_consistency(index, size, &proof, &tree.root_at(index).unwrap(), &root).unwrap();
            }
            verify_consistency(size, size, &[], &root, &root).unwrap();
        }
    }

    #[test]
    fn what_does_not_exist_has_no_proof() {
        let tree = grown(5);
        assert_eq!(tree.inclusion(5, 5), None);
        assert_eq!(tree.inclusion(0, 6), None);
        assert_eq!(tree.consistency(4, 3), None);
        assert_eq!(tree.consistency(4, 6), None);
        assert_eq!(tree.leaf(5), None);
        assert!(verify_inclusion(&[0; 32], 0, 0, &[], &empty_root()).is_err());
    }

    #[test]
    fn a_log_that_went_back_or_forked_is_refused() {
        let tree = grown(6);
        let (old, new) = (tree.root_at(4).unwrap(), tree.root_at(6).unwrap());
        assert!(verify_consistency(6, 4, &[], &new, &old).is_err());
        assert!(verify_consistency(6, 6, &[], &new, &old).is_err());
        assert!(verify_consistency(4, 6, &[], &old, &new).is_err());
        assert!(verify_consistency(0, 6, &[old], &empty_root(), &new).is_err());
    }

    proptest! {
        #[test]
        fn an_inclusion_proof_holds_only_for_its_own_leaf(
            size in 1u64..=300, pick: u64, bit in 0usize..256, other: u64,
        ) {
            let tree = grown(size);
            let (index, root) = (pick % size, tree.root_at(size).unwrap());
            let (leaf, proof) = (tree.leaf(index).unwrap(), tree.inclusion(index, size).unwrap());
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root).is_ok());
            for at in 0..proof.len() {
                let mut altered = proof.clone();
                altered[at][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(verify_inclusion(&leaf, index, size, &altered, &root).is_err());
                altered.remove(at);
                prop_assert!(verify_inclusion(&leaf, index, size, &altered, &root).is_err());
            }
            let longer = [proof.clone(), vec![root]].concat();
            prop_assert!(verify_inclusion(&leaf, index, size, &longer, &root).is_err());
            let other_index = other % (size + 5);
            if other_index != index {
                prop_assert!(verify_inclusion(&leaf, other_index, size, &proof, &root).is_err());
            }
            let other_size = 1 + other % 300;
            if other_size != size {
                let other_root = grown(other_size).root_at(other_size).unwrap();
                prop_assert!(verify_inclusion(&leaf, index, other_size, &proof, &other_root).is_err());
            }
        }

        #[test]
        fn a_consistency_proof_holds_only_between_its_own_sizes(
            new in 2u64..=300, pick: u64, bit in 0usize..256, other: u64,
        ) {
            let tree = grown(300);
            let old = 1 + pick % (new - 1);
            let (old_root, new_root) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
            let proof = tree.consistency(old, new).unwrap();
            prop_assert!(verify_consistency(old, new, &proof, &old_root, &new_root).is_ok());
            for at in 0..proof.len() {
                let mut altered = proof.clone();
                altered[at][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(verify_consistency(old, new, &altered, &old_root, &new_root).is_err());
                altered.remove(at);
                prop_assert!(verify_consistency(old, new, &altered, &old_root, &new_root).is_err());
            }
            let longer = [proof.clone(), vec![new_root]].concat();
            prop_assert!(verify_consistency(old, new, &longer, &old_root, &new_root).is_err());
            let other = 1 + other % 300;
            let other_root = tree.root_at(other).unwrap();
            if other != old {
                prop_assert!(verify_consistency(other, new, &proof, &other_root, &new_root).is_err() || other == new);
                prop_assert!(verify_consistency(old, new, &proof, &other_root, &new_root).is_err());
            }
            if other != new {
                prop_assert!(verify_consistency(old, other, &proof, &old_root, &other_root).is_err());
                prop_assert!(verify_consistency(old, new, &proof, &old_root, &other_root).is_err());
            }
        }

        #[test]
        fn a_truncated_tree_is_the_tree_that_never_grew(long in 0u64..200, cut in 0u64..250) {
            let mut tree = grown(long);
            tree.truncate(cut);
            let short = long.min(cut);
            prop_assert_eq!(tree.size(), short);
            prop_assert_eq!(&tree.levels, &grown(short).levels);
            tree.push([7; 32]);
            prop_assert_eq!(tree.leaf(short), Some([7; 32]));
        }
    }
}
