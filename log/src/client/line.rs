//! The line of trees: the proof that all checkpoints of a group of answers belong to one history.
//!
//! Each answer proves that its tree extends the one that was kept when its entry was sent. Of two such trees, neither
//! need extend the other: a log could show a different history in every second answer. So before any answer of a group
//! counts, the trees of the group and the kept one are put in order of size, and each has to be proven to begin with
//! the one before: then the largest begins with all of them. Trees of the same size must have the same root. For `n`
//! different trees that takes `n - 1` links; some come with the answers, and one call brings all the others. If a link
//! were left out, a fork could hide exactly there.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::Hash;

use super::{
    known::{Known, extends},
    rejection::Rejection,
};

/// Trees in order of their size, the kept one among them.
#[derive(Debug)]
pub(super) struct Line {
    trees: BTreeMap<u64, Hash>,
    /// The pairs of sizes that are proven, the smaller one first.
    proven: BTreeSet<(u64, u64)>,
    kept: Known,
}

impl Line {
    pub(super) fn new(kept: &Known) -> Line {
        let trees = [(kept.size, kept.root)].into();
        Line { trees, proven: BTreeSet::new(), kept: kept.clone() }
    }

    /// Puts the tree of an answer in its place. `base` is the tree that was known when its entry was sent.
    ///
    /// # Errors
    /// Fails if another tree of the same size has another root.
    pub(super) fn add(&mut self, tree: Known, base: &Known) -> Result<(), Rejection> {
        let Known { size, root } = tree;
        if *self.trees.entry(size).or_insert(root) != root {
            return Err(Rejection::Forked { size });
        }
        // If `base` was kept earlier, other trees may lie between it and this one, of which the answer proves nothing.
        if *base == self.kept {
            self.proven.insert((self.kept.size, size));
        }
        Ok(())
    }

    /// Returns the neighbours of which it is not yet proven that the larger one begins with the smaller one. Every tree
    /// begins with the empty one.
    fn gaps(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        let sizes: Vec<u64> = self.trees.keys().copied().collect();
        let pairs: Vec<(u64, u64)> = sizes.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs.into_iter().filter(|pair| pair.0 > 0 && !self.proven.contains(pair))
    }

    /// Returns the sizes of trees of which each has yet to be proven to begin with the one before; empty if nothing is
    /// missing.
    pub(super) fn missing(&self) -> Vec<u64> {
        let mut gaps = self.gaps();
        let Some((first, end)) = gaps.next() else { return Vec::new() };
        let last = gaps.next_back().map_or(end, |(_, last)| last);
        self.trees.range(first..=last).map(|(size, _)| *size).collect()
    }

    /// Verifies what was [`missing`](Self::missing): one proof for each step between those sizes, in their order.
    ///
    /// # Errors
    /// Fails if a proof does not hold or is missing.
    pub(super) fn prove(mut self, proofs: &[Vec<Hash>]) -> Result<Proven, Rejection> {
        for (pair, proof) in self.missing().windows(2).zip(proofs) {
            let tree = |size: u64| self.trees.get(&size).map(|root| Known { size, root: *root });
            let (Some(old), Some(new)) = (tree(pair[0]), tree(pair[1])) else { continue };
            extends(&old, &new, proof)?;
            self.proven.insert((old.size, new.size));
        }
        let gap = self.gaps().next();
        gap.map_or(Ok(Proven(self.trees)), |(old, new)| Err(Rejection::Unproven { old, new }))
    }
}

/// The trees of one history: each is proven to begin with the one before.
#[derive(Debug)]
pub(super) struct Proven(BTreeMap<u64, Hash>);

impl Proven {
    /// Returns the root of the tree of this size, if there is one.
    pub(super) fn root(&self, size: u64) -> Option<&Hash> {
        self.0.get(&size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Tree, leaf_hash};

    fn tree(leaves: &[&str]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf.as_bytes())));
        tree
    }

    fn known(tree: &Tree, size: u64) -> Known {
        Known { size, root: tree.root_at(size).unwrap() }
    }

    fn line(kept: &Known, trees: &[Known], base: &Known) -> Result<Line, Rejection> {
        let mut line = Line::new(kept);
        for tree in trees {
            line.add(tree.clone(), base)?;
        }
        Ok(line)
    }

    fn proofs(tree: &Tree, sizes: &[u64]) -> Vec<Vec<Hash>> {
        sizes.windows(2).map(|pair| tree.consistency(pair[0], pair[1]).unwrap()).collect()
    }

    const LEAVES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    #[test]
    fn one_tree_that_was_proven_from_the_kept_one_needs_nothing_more() {
        let log = tree(&LEAVES);
        let kept = known(&log, 3);
        let one = line(&kept, &[known(&log, 5), known(&log, 5)], &kept).unwrap();
        assert!(one.missing().is_empty());
        one.prove(&[]).unwrap();
        assert!(line(&kept, std::slice::from_ref(&kept), &kept).unwrap().missing().is_empty());
        let nothing = Known::nothing();
        assert!(line(&nothing, &[known(&log, 5)], &kept).unwrap().missing().is_empty());
    }

    #[test]
    fn several_trees_are_linked_one_by_one_also_with_what_was_kept_meanwhile() {
        let log = tree(&LEAVES);
        let (base, kept) = (known(&log, 2), known(&log, 4));
        let trees = [known(&log, 3), known(&log, 7), known(&log, 6)];
        let behind = line(&kept, &trees, &base).unwrap();
        assert_eq!(behind.missing(), [3, 4, 6, 7], "all were proven from a tree before the kept one");
        behind.prove(&proofs(&log, &[3, 4, 6, 7])).unwrap();
        let ahead = line(&kept, &trees[1..], &kept).unwrap();
        assert_eq!(ahead.missing(), [6, 7], "the smallest comes with its link");
    }

    #[test]
    fn a_fork_between_any_two_answers_is_noticed_whatever_proofs_the_log_makes_up() {
        let log = tree(&LEAVES);
        let kept = known(&log, 2);
        for forked in 3..=7_u64 {
            // A history that diverges from the other behind the kept tree; each of its trees extends the kept one.
            let mut leaves = LEAVES;
            leaves[forked as usize - 1] = "x";
            let other = tree(&leaves);
            let sizes = [3, 4, 5, 6, 7];
            for own in sizes {
                // One answer shows the other history, all the rest show the first.
                let show = |size| known(if size == own { &other } else { &log }, size);
                // Before they diverge, the two are one, and if only the last answer shows the other history, there is
                // no fork.
                if own < forked || (own, forked) == (7, 7) {
                    continue;
                }
                let trees = sizes.map(show);
                let missing = line(&kept, &trees, &kept).unwrap().missing();
                assert_eq!(missing, sizes);
                for by in [&log, &other] {
                    let line = line(&kept, &trees, &kept).unwrap();
                    assert!(line.prove(&proofs(by, &missing)).is_err(), "{forked} {own}");
                }
            }
        }
    }

    #[test]
    fn two_roots_of_one_size_are_a_fork_and_a_link_that_is_left_out_is_missed() {
        let (log, other) = (tree(&LEAVES), tree(&["a", "b", "x"]));
        let kept = known(&log, 2);
        let forked = line(&kept, &[known(&log, 3), known(&other, 3)], &kept);
        assert_eq!(forked.unwrap_err(), Rejection::Forked { size: 3 });
        assert_eq!(line(&known(&log, 3), &[known(&other, 3)], &kept).unwrap_err(), Rejection::Forked { size: 3 });
        let short = line(&kept, &[known(&log, 3), known(&log, 5), known(&log, 8)], &kept).unwrap();
        let refused = short.prove(&proofs(&log, &[3, 5])).unwrap_err();
        assert_eq!(refused, Rejection::Unproven { old: 5, new: 8 });
    }
}
