//! The ledger: what a running node knows about its log, shared by its tasks.
//!
//! It holds the tree over all leaves, the start of each frame's leaves, the client sessions and the newest signed
//! checkpoint. The log store appends, the state machine commits and signs, readers take proofs. Leaves are hashed when
//! they are appended, from the bytes that were received; whatever is served later is first compared with those hashes.
//!
//! Locks are held briefly and never across a wait. What is signed, cosigned and shown is decided in `checkpoints`.

mod bound;
mod checkpoints;
mod recent;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use gapless_world::{LogEvent, Observer};
use openraft::{CommittedLeaderId, EntryPayload, LogId};
use tokio::sync::watch;

use super::{
    super::{
        budget::{Account, CACHE},
        leaf::SignedEntry,
        store::Frame,
        tree::{Hash, Tree, leaf_hash},
    },
    NodeSettings, SignedCheckpoint,
    freshness::Freshness,
    sessions::{Outcome, Sessions},
    types::{Batch, Membership, Proposal, RaftEntry, encode_frame, leaves},
    vouch::is_vouched,
};
use recent::Recent;

pub(super) use checkpoints::{NotCosigned, cosigners};

/// See the module.
pub(super) struct Ledger {
    pub(super) settings: NodeSettings,
    pub(super) observer: Arc<dyn Observer>,
    /// For the leaves of recent frames: receipts of a batch are asked for right after it commits.
    pub(super) cache: Arc<Account>,
    /// How fresh the shown log is.
    pub(super) freshness: Freshness,
    inner: Mutex<Inner>,
    /// The newest checkpoint that this node signed as leader, for others to cosign.
    signed: watch::Sender<Option<SignedCheckpoint>>,
    /// Number of leaves shown to readers and clients.
    committed: watch::Sender<u64>,
    checkpoint: watch::Sender<Option<SignedCheckpoint>>,
    /// Changes whenever the newest membership does.
    members: watch::Sender<u64>,
    /// The newest term in which this node began to lead, in this life, and the size of the log then.
    led: watch::Sender<Option<Led>>,
    failure: watch::Sender<Option<String>>,
    /// Why this life takes no entries.
    read_only: OnceLock<String>,
}

#[derive(Default)]
struct Inner {
    tree: Tree,
    /// Number of leaves that are durable on this node's own disk.
    durable: u64,
    /// One per frame: frame `i` of the log is Raft index `i`, because the log is never purged.
    marks: Vec<Mark>,
    /// Entries appended and not yet applied, kept so that applying them needs no read.
    unapplied: BTreeMap<u64, RaftEntry>,
    recent: Recent,
    sessions: Sessions,
    /// Memberships of the log with their Raft indices, committed or not: Raft goes by the newest.
    memberships: Vec<(u64, Membership)>,
    /// Size of the newest checkpoint signed, cosigned or shown, in this life or kept from an earlier one.
    signed: u64,
}

/// Leadership, once the entry that begins it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Led {
    pub(super) term: u64,
    /// Number of leaves in the log when it began.
    pub(super) size: u64,
}

/// Where a frame's leaves begin, and who led.
#[derive(Debug, Clone, Copy)]
struct Mark {
    leader: CommittedLeaderId<u64>,
    first_leaf: u64,
}

/// A leaf's place: Raft index, and position in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) raft_index: u64,
    pub(super) position: usize,
}

impl Ledger {
    pub(super) fn new(settings: NodeSettings, observer: Arc<dyn Observer>) -> Self {
        let cache = Account::new(CACHE, &settings.memory, &observer);
        Self {
            settings,
            observer,
            cache,
            freshness: Freshness::new(),
            inner: Mutex::default(),
            signed: watch::Sender::new(None),
            committed: watch::Sender::new(0),
            checkpoint: watch::Sender::new(None),
            members: watch::Sender::new(0),
            led: watch::Sender::new(None),
            read_only: OnceLock::new(),
            failure: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // In production a panic under the lock ends the process. Elsewhere every update is complete, or the comparison
        // of the tree with the stored bytes notices.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: LogEvent) {
        self.observer.see(event);
    }

    /// Appends a Raft entry: hashes its leaves and returns its frame, ready to be written.
    pub(super) fn append(&self, entry: RaftEntry) -> (Frame, Added) {
        let mut inner = self.lock();
        let first_leaf = inner.tree.size();
        let frame = encode_frame(&entry, first_leaf);
        let leaves: Arc<[Bytes]> = leaves(&entry).into();
        leaves.iter().for_each(|leaf| inner.tree.push(leaf_hash(leaf)));
        inner.marks.push(Mark { leader: entry.log_id.leader_id, first_leaf });
        inner.recent.insert(entry.log_id.index, leaves.clone(), &self.cache);
        if let EntryPayload::Membership(membership) = &entry.payload {
            inner.memberships.push((entry.log_id.index, membership.clone()));
            self.members.send_modify(|changes| *changes += 1);
        }
        inner.unapplied.insert(entry.log_id.index, entry);
        (frame, Added { first_leaf, leaves: leaves.len() as u64 })
    }

    /// Forgets every frame from `raft_index` on.
    pub(super) fn truncate(&self, raft_index: u64) {
        let mut inner = self.lock();
        let Some(first_leaf) = inner.begin(raft_index) else { return };
        inner.tree.truncate(first_leaf);
        inner.marks.truncate(raft_index as usize);
        inner.memberships.retain(|(index, _)| *index < raft_index);
        self.members.send_modify(|changes| *changes += 1);
        inner.unapplied.split_off(&raft_index);
        inner.recent.forget_from(raft_index);
        self.cache.holds(inner.recent.bytes);
        inner.durable = inner.durable.min(first_leaf);
    }

    /// Notes that everything appended so far is synced.
    pub(super) fn synced(&self) {
        let mut inner = self.lock();
        inner.durable = inner.tree.size();
    }

    /// The newest membership.
    pub(super) fn membership(&self) -> Membership {
        self.lock().memberships.last().map(|(_, membership)| membership.clone()).unwrap_or_default()
    }

    /// Calls `look` with the newest membership.
    pub(super) fn with_membership<T>(&self, look: impl FnOnce(&Membership) -> T) -> T {
        match self.lock().memberships.last() {
            Some((_, membership)) => look(membership),
            None => look(&Membership::default()),
        }
    }

    /// Calls `look` with all memberships of the log, oldest first, committed or not.
    pub(super) fn with_memberships<T>(&self, look: impl FnOnce(&[(u64, Membership)]) -> T) -> T {
        look(&self.lock().memberships)
    }

    /// Observes each change of the newest membership.
    pub(super) fn members_changed(&self) -> watch::Receiver<u64> {
        self.members.subscribe()
    }

    /// Returns whether a caller named `name` may speak as `node`. For a node that the log has named, the newest
    /// membership decides: a removed one is not admitted again. For one that the log has never named, a vouch by the
    /// log's key decides: no id is used twice, so such a node can only be named in a part of the log that is missing
    /// here.
    pub(super) fn admits(&self, node: u64, name: &str, vouch: &[u8]) -> bool {
        let inner = self.lock();
        let named = |(_, membership): &(u64, Membership)| membership.get_node(&node).map(|member| member.name == name);
        match inner.memberships.last().and_then(named) {
            Some(is_its_name) => is_its_name,
            None if inner.memberships.iter().any(|membership| named(membership).is_some()) => false,
            None => {
                let is_vouched = is_vouched(&self.settings, node, name, vouch);
                mark!("member-vouched-for", is_vouched);
                is_vouched
            }
        }
    }

    /// Follows a change of the budget: keeps no more leaves in memory than it allows.
    pub(super) fn shrink(&self) {
        let mut inner = self.lock();
        inner.recent.evict(self.cache.limit_len());
        self.cache.holds(inner.recent.bytes);
        self.cache.budget_changed();
    }

    /// Applies a committed entry: decides which of its leaves count.
    pub(super) fn apply(&self, entry: &RaftEntry) -> Vec<Outcome> {
        let mut inner = self.lock();
        let Inner { sessions, marks, unapplied, .. } = &mut *inner;
        unapplied.remove(&entry.log_id.index);
        let EntryPayload::Normal(Proposal::Batch(Batch { vouched, entries })) = &entry.payload else {
            return Vec::new();
        };
        let first_leaf = marks.get(entry.log_id.index as usize).map_or(0, |mark| mark.first_leaf);
        let vouched = *vouched == entry.log_id.leader_id.term;
        let apply = |(at, it): (u64, &SignedEntry)| match vouched || sessions.is_signed(it) {
            true => sessions.apply(it.entry(), it.digest(), at),
            false => Outcome::Unsigned,
        };
        (first_leaf..).zip(entries.iter()).map(apply).collect()
    }

    /// The name of a member.
    pub(super) fn name_of(&self, node: u64) -> Option<String> {
        let inner = self.lock();
        let (_, membership) = inner.memberships.last()?;
        membership.get_node(&node).map(|member| member.name.clone())
    }

    /// Number of leaves, committed or not.
    pub(super) fn size(&self) -> u64 {
        self.lock().tree.size()
    }

    /// The index of the first leaf of a frame.
    pub(super) fn begin(&self, raft_index: u64) -> Option<u64> {
        self.lock().begin(raft_index)
    }

    /// The index after the last leaf of a frame.
    pub(super) fn end(&self, raft_index: u64) -> Option<u64> {
        self.lock().end(raft_index)
    }

    /// Where leaf `index` stands.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        let inner = self.lock();
        if index >= inner.tree.size() {
            return None;
        }
        let frame = inner.marks.partition_point(|mark| mark.first_leaf <= index).checked_sub(1)?;
        let position = usize::try_from(index - inner.marks[frame].first_leaf).ok()?;
        Some(Place { raft_index: frame as u64, position })
    }

    /// The last entry's log id.
    pub(super) fn last_log_id(&self) -> Option<LogId<u64>> {
        let inner = self.lock();
        let index = inner.marks.len().checked_sub(1)?;
        Some(LogId::new(inner.marks[index].leader, index as u64))
    }

    /// The newest entry, up to `index`, by `leader` or an earlier leader.
    pub(super) fn newest_by(&self, leader: CommittedLeaderId<u64>, index: u64) -> Option<LogId<u64>> {
        let inner = self.lock();
        // Along a log, leaders never go back.
        let by = inner.marks.partition_point(|mark| mark.leader <= leader) as u64;
        let newest = by.min(index.saturating_add(1)).checked_sub(1)?;
        Some(LogId::new(inner.marks.get(usize::try_from(newest).ok()?)?.leader, newest))
    }

    /// The newest entry by an earlier leader.
    pub(super) fn newest_before(&self, leader: CommittedLeaderId<u64>) -> Option<LogId<u64>> {
        let inner = self.lock();
        let newest = inner.marks.partition_point(|mark| mark.leader < leader).checked_sub(1)?;
        Some(LogId::new(inner.marks[newest].leader, newest as u64))
    }

    /// The entries of a range that wait to be applied, from its start on, as far as they are contiguous and `fits`
    /// accepts them. They are of one moment: a tail that is cut and written anew shows either all old or all new.
    pub(super) fn unapplied(&self, range: Range<u64>, mut fits: impl FnMut(&RaftEntry) -> bool) -> Vec<RaftEntry> {
        let inner = self.lock();
        let next = |index| inner.unapplied.get(&index).filter(|entry| fits(entry)).cloned();
        range.map_while(next).collect()
    }

    /// The leaves of a frame, if they are in memory.
    pub(super) fn recent(&self, raft_index: u64) -> Option<Arc<[Bytes]>> {
        self.lock().recent.get(raft_index)
    }

    /// Compares the leaves of a frame, read back from the disk, with the hashes taken when they were appended.
    ///
    /// # Errors
    /// The index of the first leaf that differs.
    pub(super) fn verify(&self, raft_index: u64, leaves: Arc<[Bytes]>) -> Result<(), u64> {
        let mut inner = self.lock();
        let (Some(begin), Some(end)) = (inner.begin(raft_index), inner.end(raft_index)) else { return Err(0) };
        if end - begin != leaves.len() as u64 {
            return Err(begin);
        }
        let differs = |(index, leaf): &(u64, &Bytes)| inner.tree.leaf(*index) != Some(leaf_hash(leaf));
        if let Some((index, _)) = (begin..).zip(leaves.iter()).find(differs) {
            return Err(index);
        }
        inner.recent.insert(raft_index, leaves, &self.cache);
        Ok(())
    }

    /// Root of the first `size` leaves.
    pub(super) fn root_at(&self, size: u64) -> Option<Hash> {
        self.lock().tree.root_at(size)
    }

    /// Audit path of a leaf.
    pub(super) fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        self.lock().tree.inclusion(index, size)
    }

    /// Consistency proof.
    pub(super) fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        self.lock().tree.consistency(old, new)
    }

    /// Calls `look` with the sessions as applied so far.
    pub(super) fn with_sessions<T>(&self, look: impl FnOnce(&Sessions) -> T) -> T {
        look(&self.lock().sessions)
    }

    /// Notes that this node leads in a term of this life. The first entry of a term decides since when.
    pub(super) fn lead(&self, led: Led) {
        self.led.send_if_modified(|newest| {
            let new = newest.is_none_or(|newest| newest.term < led.term);
            if new {
                *newest = Some(led);
            }
            new
        });
    }

    /// Records why the node must end. The first reason stays.
    pub(super) fn fail(&self, why: String) {
        self.failure.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert(why);
            new
        });
    }

    /// From now on this life takes no entries. The first reason stays.
    pub(super) fn close(&self, why: String) {
        self.read_only.get_or_init(|| why);
    }

    /// Why this life takes no entries, if it takes none.
    pub(super) fn read_only(&self) -> Option<&str> {
        self.read_only.get().map(String::as_str)
    }

    /// Why the node must end, if it must.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Number of committed leaves, to read or to wait for more.
    pub(super) fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// The newest signed checkpoint, to read or to wait for the next.
    pub(super) fn checkpoint(&self) -> watch::Receiver<Option<SignedCheckpoint>> {
        self.checkpoint.subscribe()
    }

    /// The newest term in which this node led.
    pub(super) fn led(&self) -> watch::Receiver<Option<Led>> {
        self.led.subscribe()
    }

    /// The newest checkpoint that this node signed as leader of several, to read or to wait for the next.
    pub(super) fn signed(&self) -> watch::Receiver<Option<SignedCheckpoint>> {
        self.signed.subscribe()
    }

    /// Why the node must end, to read or to wait for.
    pub(super) fn failures(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }
}

/// What an append added.
pub(super) struct Added {
    pub(super) first_leaf: u64,
    pub(super) leaves: u64,
}

impl Inner {
    fn begin(&self, raft_index: u64) -> Option<u64> {
        Some(self.marks.get(usize::try_from(raft_index).ok()?)?.first_leaf)
    }

    fn end(&self, raft_index: u64) -> Option<u64> {
        self.begin(raft_index)?;
        Some(self.begin(raft_index + 1).unwrap_or(self.tree.size()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::super::{
            budget::{MEMORY_DEFAULT, fixed},
            leaf::{Body, ClientId, Entry, Epoch, Sequence},
            note::SigningKey,
        },
        *,
    };
    use gapless_world::observer::Unobserved;

    pub(in super::super) fn ledger() -> Ledger {
        let settings = NodeSettings {
            origin: "log.example".into(),
            log_id: [7; 16],
            node: 1,
            cluster: None,
            signing_key: Arc::new(SigningKey::from_seed(&[1; 32])),
            limits: Default::default(),
            memory: fixed(MEMORY_DEFAULT),
        };
        Ledger::new(settings, Arc::new(Unobserved))
    }

    pub(in super::super) fn entry(term: u64, index: u64, payloads: &[&str]) -> RaftEntry {
        let sign = |(sequence, payload): (u64, &&str)| {
            let body = Body::Event(Bytes::copy_from_slice(payload.as_bytes()));
            let client = ClientId::new("billing").unwrap();
            Entry { client, epoch: Epoch(1), sequence: Sequence(sequence), body }.sign(&SigningKey::from_seed(&[2; 32]))
        };
        let batch = Proposal::Batch(Batch { vouched: term, entries: (1..).zip(payloads).map(sign).collect() });
        RaftEntry { log_id: LogId::new(CommittedLeaderId::new(term, 1), index), payload: EntryPayload::Normal(batch) }
    }

    #[test]
    fn the_newest_entry_of_a_leader_or_of_one_before_it_is_found() {
        let ledger = ledger();
        [1, 1, 3, 3, 4].iter().zip(0..).for_each(|(term, index)| drop(ledger.append(entry(*term, index, &["a"]))));
        let leader = |term| CommittedLeaderId::new(term, 1);
        let id = |term, index| Some(LogId::new(leader(term), index));
        assert_eq!(ledger.newest_by(leader(3), 3), id(3, 3), "the very entry");
        assert_eq!(ledger.newest_by(leader(3), 2), id(3, 2));
        assert_eq!(ledger.newest_by(leader(3), 99), id(3, 3), "a longer log of that leader");
        assert_eq!(ledger.newest_by(leader(2), 99), id(1, 1), "a leader of which this log has nothing");
        assert_eq!(ledger.newest_by(leader(0), 99), None);
        assert_eq!(ledger.newest_by(leader(9), u64::MAX), id(4, 4));
        assert_eq!(
            [1, 2, 3, 4, 5].map(|term| ledger.newest_before(leader(term))),
            [None, id(1, 1), id(1, 1), id(3, 3), id(4, 4)]
        );
        assert_eq!(self::ledger().newest_by(leader(1), 0), None);
    }

    #[test]
    fn a_leaf_is_found_by_its_index() {
        let ledger = ledger();
        ledger.append(entry(1, 0, &["a", "b"]));
        ledger.append(entry(1, 1, &["c"]));
        let place = |index| ledger.place(index).map(|place| (place.raft_index, place.position));
        assert_eq!([place(0), place(1), place(2), place(3)], [Some((0, 0)), Some((0, 1)), Some((1, 0)), None]);
        assert_eq!((ledger.end(0), ledger.end(1), ledger.end(2)), (Some(2), Some(3), None));
    }

    #[test]
    fn what_was_cut_off_leaves_no_trace_in_the_tree() {
        let (ledger, other) = (ledger(), ledger());
        ledger.append(entry(1, 0, &["a", "b"]));
        ledger.append(entry(1, 1, &["lost"]));
        ledger.truncate(1);
        for ledger in [&ledger, &other] {
            if ledger.size() == 0 {
                ledger.append(entry(1, 0, &["a", "b"]));
            }
            ledger.append(entry(2, 1, &["c"]));
        }
        assert_eq!(ledger.root_at(3), other.root_at(3));
        assert_eq!(ledger.recent(1), other.recent(1));
        assert_eq!(ledger.last_log_id(), other.last_log_id());
    }

    #[test]
    fn what_was_not_vouched_for_in_its_own_term_is_verified_at_apply() {
        let ledger = ledger();
        let key = SigningKey::from_seed(&[2; 32]);
        let sign = |sequence, body, key: &SigningKey| {
            Entry { client: ClientId::new("billing").unwrap(), epoch: Epoch(1), sequence: Sequence(sequence), body }
                .sign(key)
        };
        let opened = Body::EpochOpened { key: key.verifying_key(), previous: None };
        let forged = sign(1, Body::Event("a".into()), &SigningKey::from_seed(&[3; 32]));
        let entries = vec![sign(0, opened, &key), forged, sign(1, Body::Event("b".into()), &key)];
        let batch = Proposal::Batch(Batch { vouched: 1, entries: entries.into() });
        let entry = |payload| RaftEntry { log_id: LogId::new(CommittedLeaderId::new(2, 1), 0), payload };
        let entry = entry(EntryPayload::Normal(batch));
        ledger.append(entry.clone());
        assert_eq!(ledger.apply(&entry), [Outcome::Counted(0), Outcome::Unsigned, Outcome::Counted(2)]);
    }

    #[test]
    fn the_first_entry_of_a_term_says_since_when_it_is_led() {
        let ledger = ledger();
        for (term, size) in [(1, 5), (1, 9), (4, 12), (4, 13), (1, 20)] {
            ledger.lead(Led { term, size });
        }
        assert_eq!(*ledger.led().borrow(), Some(Led { term: 4, size: 12 }));
    }

    #[test]
    fn leaves_are_compared_with_the_hashes_taken_at_append() {
        let ledger = ledger();
        ledger.append(entry(1, 0, &["a", "b"]));
        let verify = |payloads: &[&str]| ledger.verify(0, leaves(&entry(1, 0, payloads)).into());
        assert_eq!(verify(&["a", "b"]), Ok(()));
        assert_eq!(verify(&["a", "B"]), Err(1));
        assert_eq!(verify(&["a"]), Err(0));
    }

    #[test]
    fn only_the_first_failure_counts() {
        let ledger = ledger();
        ledger.fail("first".into());
        ledger.fail("second".into());
        assert_eq!(ledger.failure(), Some("first".into()));
    }
}
