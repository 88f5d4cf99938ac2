//! Which checkpoints a node signs, cosigns and shows.
//!
//! A node must never sign two checkpoints of one size, nor sign, cosign or show what is not committed. In a cluster of
//! several, what is shown is what a quorum cosigned.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use gapless_world::LogEvent;

use super::{
    super::{
        super::note::{Checkpoint, CosignerKey, NoteError, NoteKey, VerifyingKey, cosigned_by},
        ClusterSettings, SignedCheckpoint,
        quorum::is_quorum,
        types::{Member, Membership},
    },
    Ledger,
};
use crate::words::hex;

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::cluster) enum NotCosigned {
    /// It is not signed by the key of this log.
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteError),
    /// This node's log is not that long yet.
    #[error("{durable} leaves are durable here, the checkpoint has {size}")]
    Behind { size: u64, durable: u64 },
    /// This node's log has other leaves there.
    #[error("the root of the first {size} leaves is another one here")]
    Differs { size: u64 },
    /// Too few members cosigned what is said to be cosigned by a quorum.
    #[error("no quorum of the members cosigned the checkpoint of {size} leaves")]
    NoQuorum { size: u64 },
}

impl Ledger {
    /// Signs the first `size` leaves, all of them committed and applied. A log of one shows them to readers at once; in
    /// a cluster of several a quorum has to cosign them first.
    ///
    /// Sizes only grow, so no size is signed twice in one life. A later life could sign a size again, after a crash
    /// that lost the kept checkpoint; but it signs the same root, because committed leaves are durable and the tree is
    /// a function of them.
    pub(in crate::cluster) fn sign(&self, size: u64) {
        let root = {
            let mut inner = self.lock();
            match inner.tree.root_at(size) {
                Some(root) if size > inner.signed => {
                    inner.signed = size;
                    root
                }
                _ => return,
            }
        };
        let checkpoint = Checkpoint { origin: self.settings.origin.clone(), size, root };
        let note = checkpoint.sign(&self.settings.signing_key);
        self.tell(LogEvent::CheckpointSigned { size, root: hex(&root), note: note.clone() });
        let signed = SignedCheckpoint { checkpoint, note };
        match self.settings.cluster {
            None => self.publish(signed),
            Some(_) => _ = self.signed.send_replace(Some(signed)),
        }
    }

    /// Shows readers a checkpoint and the leaves that it covers. The leaves are durable here and have its root.
    pub(in crate::cluster) fn publish(&self, newest: SignedCheckpoint) {
        let size = newest.checkpoint.size;
        let mut inner = self.lock();
        if size <= *self.committed.borrow() {
            return;
        }
        inner.signed = inner.signed.max(size);
        // The checkpoint first: a reader that sees leaves committed must find a checkpoint that covers them.
        self.checkpoint.send_replace(Some(newest));
        self.committed.send_replace(size);
    }

    /// Cosigns a checkpoint that the log's key signed, if its leaves are durable here and have its root. From then on
    /// this node refuses to cut its log below it.
    pub(in crate::cluster) fn cosign(&self, note: &str) -> Result<String, NotCosigned> {
        let checkpoint = self.agrees(note)?;
        let line = self.cosignature(&checkpoint);
        Ok(line)
    }

    /// This node's own signature line for a checkpoint that it agrees with; empty in a log of one.
    pub(in crate::cluster) fn cosignature(&self, checkpoint: &Checkpoint) -> String {
        let Some(ClusterSettings { cosigner, .. }) = &self.settings.cluster else { return String::new() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let name = self.name_of(self.settings.node).unwrap_or_default();
        checkpoint.cosign(&name, cosigner, now)
    }

    /// Shows a checkpoint that a quorum of the members cosigned and that this node agrees with.
    pub(in crate::cluster) fn follow(&self, note: &str) -> Result<(), NotCosigned> {
        let checkpoint = self.agrees(note)?;
        let membership = self.membership();
        let (ids, keys): (Vec<u64>, Vec<CosignerKey>) = cosigners(&membership).into_iter().unzip();
        let signers = cosigned_by(note, &keys)?;
        let signed = ids.iter().zip(&keys).filter(|(_, key)| signers.contains(key)).map(|(id, _)| *id).collect();
        if !is_quorum(&membership, &signed) {
            mark!("quorum-of-other-members");
            return Err(NotCosigned::NoQuorum { size: checkpoint.size });
        }
        self.publish(SignedCheckpoint { checkpoint, note: note.to_owned() });
        Ok(())
    }

    /// Verifies a checkpoint and compares it with this node's own, durable log.
    fn agrees(&self, note: &str) -> Result<Checkpoint, NotCosigned> {
        let checkpoint = Checkpoint::verify(note, &self.note_key())?;
        let mut inner = self.lock();
        let (size, durable) = (checkpoint.size, inner.durable);
        mark!("checkpoint-not-durable-here", size > durable);
        match inner.tree.root_at(size) {
            _ if size > durable => Err(NotCosigned::Behind { size, durable }),
            Some(root) if root == checkpoint.root => {
                inner.signed = inner.signed.max(size);
                Ok(checkpoint)
            }
            _ => Err(NotCosigned::Differs { size }),
        }
    }

    /// The key that verifies the log's own signature.
    pub(in crate::cluster) fn note_key(&self) -> NoteKey {
        NoteKey { name: self.settings.origin.clone(), key: self.settings.signing_key.verifying_key() }
    }

    /// Takes over the checkpoint that an earlier life kept, once the log was found to agree with it.
    pub(in crate::cluster) fn resume(&self, kept: SignedCheckpoint) {
        let size = kept.checkpoint.size;
        self.lock().signed = size;
        self.checkpoint.send_replace(Some(kept));
        self.committed.send_replace(size);
    }

    /// Returns whether cutting the log from `raft_index` on would take back what was signed.
    pub(in crate::cluster) fn is_signed(&self, raft_index: u64) -> bool {
        let inner = self.lock();
        inner.begin(raft_index).is_some_and(|first_leaf| first_leaf < inner.signed)
    }
}

/// The members whose cosignatures count: the voters. A learner may be far behind, or gone for good.
pub(in crate::cluster) fn cosigners(membership: &Membership) -> Vec<(u64, CosignerKey)> {
    let key = |(id, member): (&u64, &Member)| {
        (*id, CosignerKey { name: member.name.clone(), key: VerifyingKey(member.cosigner) })
    };
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership.nodes().filter(|(id, _)| voters.contains(id)).map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use openraft::{EntryPayload, LogId};

    use super::{
        super::{
            super::{super::note::SigningKey, NodeSettings, types::RaftEntry, vouch::vouch},
            tests::{entry, ledger},
        },
        *,
    };
    use gapless_world::{observer::Unobserved, tls};

    #[test]
    fn no_size_is_signed_twice_and_none_beyond_the_log() {
        let ledger = ledger();
        ledger.append(entry(1, 0, &["a", "b"]));
        ledger.sign(3);
        assert_eq!(*ledger.checkpoint().borrow(), None);
        ledger.sign(2);
        let signed = ledger.checkpoint().borrow().clone();
        assert!(ledger.is_signed(0));
        ledger.append(entry(1, 1, &["c"]));
        assert!(!ledger.is_signed(1));
        let mut changes = ledger.checkpoint();
        ledger.sign(2);
        ledger.sign(1);
        assert!(!changes.has_changed().unwrap());
        assert_eq!(*changes.borrow_and_update(), signed);
    }

    /// Three members of one cluster, each with the same log of two leaves, synced, and the first entry of its
    /// membership.
    fn members() -> [Ledger; 3] {
        let key = |node: u64| Arc::new(SigningKey::from_seed(&[node as u8; 32]));
        let member = |node: u64| {
            let cosigner = key(node).verifying_key().0;
            (node, Member { name: format!("server-{node}"), address: format!("server-{node}:1"), cosigner })
        };
        let membership =
            Membership::new(vec![BTreeSet::from([1, 2, 3])], (1..=3).map(member).collect::<BTreeMap<_, _>>());
        let identity =
            || tls::Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() }.fixed();
        [1, 2, 3].map(|node| {
            let cluster = Some(ClusterSettings { identity: identity(), cosigner: key(node), contacts: Vec::new() });
            let ledger = Ledger::new(NodeSettings { node, cluster, ..ledger().settings }, Arc::new(Unobserved));
            let payload = EntryPayload::Membership(membership.clone());
            ledger.append(RaftEntry { log_id: LogId::default(), payload });
            ledger.append(entry(1, 1, &["a"]));
            ledger.synced();
            ledger
        })
    }

    #[test]
    fn what_was_signed_is_shown_once_a_quorum_cosigned_it() {
        let [leader, follower, behind] = members();
        leader.sign(2);
        assert_eq!(*leader.committed().borrow(), 0);
        let SignedCheckpoint { checkpoint, note } = leader.signed().borrow().clone().unwrap();
        let own = leader.cosignature(&checkpoint);
        assert_eq!(follower.follow(&format!("{note}{own}")), Err(NotCosigned::NoQuorum { size: 2 }));
        let complete = format!("{note}{own}{}", follower.cosign(&note).unwrap());
        follower.follow(&complete).unwrap();
        behind.follow(&complete).unwrap();
        assert_eq!((*follower.committed().borrow(), *behind.committed().borrow()), (2, 2));
        assert!(follower.is_signed(1) && behind.is_signed(1), "from now on it is never cut");
    }

    #[test]
    fn learners_do_not_cosign() {
        let member = |node: u64| (node, Member { name: format!("server-{node}"), ..Member::default() });
        let nodes = || (1..=6).map(member).collect::<BTreeMap<_, _>>();
        let steady = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes());
        let counted: Vec<u64> = cosigners(&steady).into_iter().map(|(node, _)| node).collect();
        assert_eq!(counted, [1, 2, 3]);
    }

    #[test]
    fn a_checkpoint_that_a_learner_cosigned_is_not_shown() {
        let [leader, follower, _] = members();
        let both = [&leader, &follower];
        let learns = Membership::new(
            vec![BTreeSet::from([1, 3])],
            leader.membership().nodes().map(|(node, member)| (*node, member.clone())).collect::<BTreeMap<_, _>>(),
        );
        for ledger in both {
            let log_id = LogId::new(openraft::CommittedLeaderId::new(1, 1), 2);
            ledger.append(RaftEntry { log_id, payload: EntryPayload::Membership(learns.clone()) });
            ledger.synced();
        }
        leader.sign(3);
        let SignedCheckpoint { checkpoint, note } = leader.signed().borrow().clone().unwrap();
        let complete = format!("{note}{}{}", leader.cosignature(&checkpoint), follower.cosign(&note).unwrap());
        assert_eq!(follower.follow(&complete), Err(NotCosigned::NoQuorum { size: 3 }));
    }

    #[test]
    fn whoever_was_removed_is_let_in_no_more_and_whom_the_log_does_not_name_only_with_its_key() {
        let [ledger, ..] = members();
        let shown = |node: u64, name: &str| vouch(&NodeSettings { node, ..ledger.settings.clone() }, name);
        assert!(ledger.admits(3, "server-3", &[]), "the log names it");
        assert!(!ledger.admits(3, "server-4", &shown(3, "server-4")), "the log names it otherwise");
        assert!(ledger.admits(4, "server-4", &shown(4, "server-4")));
        for (node, name, vouch) in [
            (4, "server-4", shown(5, "server-4")),
            (4, "server-4", shown(4, "client-1")),
            (4, "client-1", shown(4, "server-4")),
            (4, "server-4", Vec::new().into()),
        ] {
            assert!(!ledger.admits(node, name, &vouch), "{name} as node {node}");
        }
        let left = (1..=2).map(|node| (node, ledger.membership().get_node(&node).unwrap().clone()));
        let left = Membership::new(vec![BTreeSet::from([1, 2])], left.collect::<BTreeMap<_, _>>());
        let log_id = LogId::new(openraft::CommittedLeaderId::new(1, 1), 2);
        ledger.append(RaftEntry { log_id, payload: EntryPayload::Membership(left) });
        assert!(!ledger.admits(3, "server-3", &shown(3, "server-3")), "it still has the key");
        assert!(ledger.admits(2, "server-2", &[]));
        ledger.truncate(2);
        assert!(ledger.admits(3, "server-3", &[]), "it was not removed after all");
    }

    #[test]
    fn nobody_cosigns_what_is_not_durable_here_or_not_the_same_or_not_the_logs() {
        let [leader, follower, _] = members();
        leader.append(entry(1, 2, &["b"]));
        leader.sign(3);
        let note = leader.signed().borrow().clone().unwrap().note;
        assert_eq!(follower.cosign(&note), Err(NotCosigned::Behind { size: 3, durable: 2 }));
        follower.append(entry(1, 2, &["b"]));
        assert_eq!(follower.cosign(&note), Err(NotCosigned::Behind { size: 3, durable: 2 }), "written, not synced");
        follower.truncate(2);
        follower.append(entry(1, 2, &["B"]));
        follower.synced();
        assert_eq!(follower.cosign(&note), Err(NotCosigned::Differs { size: 3 }));
        let stranger = Checkpoint { origin: "log.example".into(), size: 2, root: follower.root_at(2).unwrap() };
        let forged = stranger.sign(&SigningKey::from_seed(&[9; 32]));
        assert!(matches!(follower.cosign(&forged), Err(NotCosigned::Note(_))));
        assert!(!follower.is_signed(0));
    }
}
