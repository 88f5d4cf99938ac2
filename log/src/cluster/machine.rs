//! Raft's state machine, in memory: the client sessions, the membership, and the signature at the end.
//!
//! It is rebuilt at each start by replaying the log, so it needs no snapshot and offers none: a snapshot that
//! replaced the log would hide a loss. Applying is the only place that decides what counts, and the checkpoint is
//! signed after it, over leaves that are committed for good.

use std::{collections::BTreeSet, io::Cursor, sync::Arc};

use gapless_world::LogEvent;
use openraft::{
    AnyError, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership, storage::RaftStateMachine,
};

use super::{
    ledger::{Led, Ledger},
    types::{Applied, Member, Membership, Proposal, RaftEntry, TypeConfig},
};

/// See the module.
pub(super) struct Machine {
    ledger: Arc<Ledger>,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, Member>,
    /// Terms up to this one were led in earlier lives.
    past_terms: u64,
}

/// Refuses to build what is never needed.
pub(super) struct NoSnapshots;

impl Machine {
    /// A machine before the first entry.
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, applied: None, membership: StoredMembership::default(), past_terms: u64::MAX }
    }

    /// Applies one entry again at a start: no events, no signature.
    pub(super) fn replay(&mut self, entry: &RaftEntry) -> Applied {
        self.applied = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
        }
        Applied(self.ledger.apply(entry))
    }

    /// Ends the replay: from then on entries of terms above `past_terms` belong to this life.
    pub(super) fn live(&mut self, past_terms: u64) {
        self.past_terms = past_terms;
    }

    /// Returns whether this node proposed the entry, in this life.
    fn is_own(&self, entry: &RaftEntry) -> bool {
        let leader = entry.log_id.leader_id;
        leader.node_id == self.ledger.settings.node && leader.term > self.past_terms
    }

    fn apply_one(&mut self, entry: &RaftEntry) -> Applied {
        let applied = self.replay(entry);
        let LogId { leader_id, index: raft_index } = entry.log_id;
        let mine = self.is_own(entry);
        let size = self.ledger.end(raft_index).unwrap_or_default();
        self.ledger.tell(LogEvent::BatchCommitted { raft_index, size });
        if mine && matches!(entry.payload, EntryPayload::Blank) {
            self.ledger.tell(LogEvent::LeaderChange { node: leader_id.node_id, term: leader_id.term });
        }
        // The members with whom the log began are no change.
        if let EntryPayload::Membership(membership) = &entry.payload
            && raft_index > 0
        {
            self.ledger.tell(member_changed(membership));
        }
        if let EntryPayload::Normal(Proposal::ClockMoved { node, by_ms }) = entry.payload
            && node == self.ledger.settings.node
        {
            mark!("clock-anomaly-noted");
            self.ledger.tell(LogEvent::ClockAnomaly { node, by_ms });
        }
        applied
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError<u64>>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut applied, mut leads) = (Vec::new(), Vec::new());
        // A log of one signs whatever it finds committed; in a cluster of several, only the leader does.
        let mut signs = self.ledger.settings.cluster.is_none();
        for entry in entries {
            applied.push(self.apply_one(&entry));
            if self.is_own(&entry) {
                signs = true;
                let size = self.ledger.end(entry.log_id.index).unwrap_or_default();
                leads.push(Led { term: entry.log_id.leader_id.term, size });
            }
        }
        // Signed last: every leaf below is committed and decided. Answers leave only after this returns, so each
        // finds a checkpoint that covers it, or waits for the cosignatures of one.
        if let Some(size) = self.applied.and_then(|last| self.ledger.end(last.index)).filter(|_| signs) {
            self.ledger.sign(size);
        }
        leads.into_iter().for_each(|led| self.ledger.lead(led));
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Err(refuse())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, Member>,
        _snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        Err(refuse())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        Err(refuse())
    }
}

fn member_changed(membership: &Membership) -> LogEvent {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let learners = membership.nodes().map(|(node, _)| *node).filter(|node| !voters.contains(node)).collect();
    let changing = membership.get_joint_config().len() > 1;
    LogEvent::MemberChanged { voters: voters.into_iter().collect(), learners, changing }
}

fn refuse() -> StorageError<u64> {
    StorageIOError::write_snapshot(None, AnyError::error("an audit log has no snapshots: it keeps every entry")).into()
}
