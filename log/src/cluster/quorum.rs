//! What a quorum is.

use std::collections::BTreeSet;

use super::types::Membership;

/// Returns whether these nodes are more than half of the voters; while the membership changes, of both sets of voters.
pub(super) fn is_quorum(membership: &Membership, nodes: &BTreeSet<u64>) -> bool {
    let configs = membership.get_joint_config();
    !configs.is_empty() && configs.iter().all(|voters| voters.intersection(nodes).count() > voters.len() / 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::types::Member, *};

    #[test]
    fn learners_do_not_count_and_a_change_of_the_voters_needs_both_majorities() {
        let member = |node: u64| (node, Member { name: format!("server-{node}"), ..Member::default() });
        let nodes = || (1..=6).map(member).collect::<BTreeMap<_, _>>();
        let steady = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes());
        for (signed, is) in [(&[1, 4, 5, 6][..], false), (&[1], false), (&[1, 3], true), (&[2, 3, 4], true)] {
            assert_eq!(is_quorum(&steady, &signed.iter().copied().collect()), is, "{signed:?}");
        }
        let joint = Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])], nodes());
        for (signed, is) in [(&[2, 3][..], false), (&[4, 5], false), (&[1, 2, 6], false), (&[1, 2, 4], true)] {
            assert_eq!(is_quorum(&joint, &signed.iter().copied().collect()), is, "{signed:?}");
        }
        assert!(!is_quorum(&Membership::default(), &BTreeSet::from([1])), "nobody is no quorum");
    }
}
