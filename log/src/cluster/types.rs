//! The Raft types, and their form on disk: one Raft entry is one frame.
//!
//! Body of a frame, version 1, integers big-endian:
//!
//! ```text
//! version u8 = 1 | leader's node id u64 | index of its first leaf u64 | payload
//! payload of a blank       nothing
//! payload of a batch       vouched term u64, count u32, then per entry: length u32, the bytes as received
//! payload of a membership  configs u32, per config: voters u32, each u64;
//!                          members u32, each: id u64, name (u32 length), address (u32 length), cosigner's key [32]
//! payload of a clock       node u64, by milliseconds i64
//! ```
//!
//! Index and term stand in the frame itself. Encoding must be a function of the entry alone, because leaves are
//! hashed from it; decoding must never panic, whatever the bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::{CommittedLeaderId, EntryPayload, LogId, Vote};

use super::{
    super::{
        leaf::{Content, DecodeError, Leaf, SignedEntry},
        store::Frame,
    },
    sessions::Outcome,
};

openraft::declare_raft_types!(
    /// What openraft is instantiated with.
    pub(super) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = super::runtime::Untimed,
);

/// One Raft entry.
pub(super) type RaftEntry = openraft::Entry<TypeConfig>;
/// The voters and learners.
pub(super) type Membership = openraft::Membership<u64, Member>;

/// A member of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// The name in its certificate and in its cosignatures.
    pub(super) name: String,
    /// Where it listens; empty in a log of one.
    pub(super) address: String,
    /// Verifies its cosignatures; all zeros in a log of one, which has none, and where a member is known by its address
    /// alone.
    pub(super) cosigner: [u8; 32],
}

impl Member {
    /// The cosigner's key by which the log knows it, if there is one.
    pub(super) fn known_cosigner(&self) -> Option<[u8; 32]> {
        (self.cosigner != Self::default().cosigner).then_some(self.cosigner)
    }
}

/// What the sequencer takes through Raft. Cheap to clone: Raft copies it on its way to the state machine.
#[derive(Debug, Clone)]
pub(super) enum Proposal {
    /// Entries of clients.
    Batch(Batch),
    /// A node's wall clock moved against its monotonic one.
    ClockMoved {
        /// The node.
        node: u64,
        /// By how many milliseconds; back if negative.
        by_ms: i64,
    },
}

/// The entries of one Raft entry, in their order.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The term in which the leader verified the signatures of all of them against the sessions. If the Raft entry then
    /// stands in another term, the entries before it may differ from what they were verified against, so they are
    /// verified anew.
    pub(super) vouched: u64,
    pub(super) entries: Arc<[SignedEntry]>,
}

/// What applying one Raft entry decided: one outcome per entry of a batch, none for the other kinds.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied(pub(super) Vec<Outcome>);

const VERSION: u8 = 1;
const KIND_BLANK: u8 = 1;
const KIND_BATCH: u8 = 2;
pub(super) const KIND_MEMBERSHIP: u8 = 3;
const KIND_CLOCK: u8 = 4;

/// The leaves of a Raft entry. Their bytes are what is hashed, served and proven.
pub(super) fn leaves(entry: &RaftEntry) -> Vec<Bytes> {
    let LogId { leader_id, index } = entry.log_id;
    let leaf = |position, content| Leaf { term: leader_id.term, raft_index: index, position, content }.encode();
    match &entry.payload {
        EntryPayload::Blank => vec![leaf(0, Content::LeaderStarted { node: leader_id.node_id })],
        EntryPayload::Membership(membership) => vec![leaf(0, Content::Membership(encode_membership(membership)))],
        EntryPayload::Normal(Proposal::ClockMoved { node, by_ms }) => {
            vec![leaf(0, Content::ClockAnomaly { node: *node, by_ms: *by_ms })]
        }
        EntryPayload::Normal(Proposal::Batch(Batch { entries, .. })) => {
            (0u32..).zip(entries.iter()).map(|(at, entry)| leaf(at, Content::Entry(entry.clone()))).collect()
        }
    }
}

/// The frame of a Raft entry whose first leaf stands at `first_leaf`.
pub(super) fn encode_frame(entry: &RaftEntry, first_leaf: u64) -> Frame {
    let LogId { leader_id, index } = entry.log_id;
    let mut body = BytesMut::new();
    body.put_u8(VERSION);
    body.put_u64(leader_id.node_id);
    body.put_u64(first_leaf);
    let kind = match &entry.payload {
        EntryPayload::Blank => KIND_BLANK,
        EntryPayload::Normal(Proposal::ClockMoved { node, by_ms }) => {
            body.put_u64(*node);
            body.put_i64(*by_ms);
            KIND_CLOCK
        }
        EntryPayload::Normal(Proposal::Batch(Batch { vouched, entries })) => {
            body.put_u64(*vouched);
            put_count(&mut body, entries.len());
            entries.iter().for_each(|entry| put_bytes(&mut body, entry.bytes()));
            KIND_BATCH
        }
        EntryPayload::Membership(membership) => {
            body.put_slice(&encode_membership(membership));
            KIND_MEMBERSHIP
        }
    };
    Frame { index, term: leader_id.term, kind, body: body.freeze() }
}

/// A Raft entry and the index of its first leaf.
pub(super) fn decode_frame(frame: &Frame) -> Result<(RaftEntry, u64), DecodeError> {
    let mut from = Fields { what: "frame of the log", have: frame.body.len(), left: frame.body.clone() };
    let version = from.u8()?;
    if version != VERSION {
        return Err(from.invalid(format!("version {version} is unknown, this build reads version {VERSION}")));
    }
    let leader = CommittedLeaderId::new(frame.term, from.u64()?);
    let first_leaf = from.u64()?;
    let payload = match frame.kind {
        KIND_BLANK => EntryPayload::Blank,
        KIND_BATCH => EntryPayload::Normal(Proposal::Batch(decode_batch(&mut from)?)),
        KIND_CLOCK => {
            let (node, by_ms) = (from.u64()?, i64::from_be_bytes(from.array()?));
            EntryPayload::Normal(Proposal::ClockMoved { node, by_ms })
        }
        KIND_MEMBERSHIP => EntryPayload::Membership(decode_membership(&mut from)?),
        kind => return Err(from.invalid(format!("kind {kind} is unknown in version {VERSION}"))),
    };
    from.end()?;
    Ok((RaftEntry { log_id: LogId::new(leader, frame.index), payload }, first_leaf))
}

fn decode_batch(from: &mut Fields) -> Result<Batch, DecodeError> {
    let (vouched, count) = (from.u64()?, from.u32()?);
    // Grown as entries are found and not sized by the count, so that a damaged count cannot ask for the whole memory.
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(SignedEntry::decode(from.bytes()?)?);
    }
    Ok(Batch { vouched, entries: entries.into() })
}

/// The voters and learners, as they stand in frames and in `Membership` leaves.
pub(super) fn encode_membership(membership: &Membership) -> Bytes {
    let mut to = BytesMut::new();
    let configs = membership.get_joint_config();
    put_count(&mut to, configs.len());
    for voters in configs {
        put_count(&mut to, voters.len());
        voters.iter().for_each(|voter| to.put_u64(*voter));
    }
    put_count(&mut to, membership.nodes().count());
    for (id, member) in membership.nodes() {
        to.put_u64(*id);
        put_bytes(&mut to, member.name.as_bytes());
        put_bytes(&mut to, member.address.as_bytes());
        to.put_slice(&member.cosigner);
    }
    to.freeze()
}

fn decode_membership(from: &mut Fields) -> Result<Membership, DecodeError> {
    let mut configs = Vec::new();
    for _ in 0..from.u32()? {
        let mut voters = BTreeSet::new();
        for _ in 0..from.u32()? {
            voters.insert(from.u64()?);
        }
        configs.push(voters);
    }
    let mut members = BTreeMap::new();
    for _ in 0..from.u32()? {
        let id = from.u64()?;
        members.insert(id, Member { name: from.text()?, address: from.text()?, cosigner: from.array()? });
    }
    if let Some(stranger) = configs.iter().flatten().find(|voter| !members.contains_key(voter)) {
        return Err(from.invalid(format!("voter {stranger} is not among its members")));
    }
    Ok(Membership::new(configs, members))
}

/// A vote: version u8 = 1, term u64, node id u64, committed u8.
pub(super) fn encode_vote(vote: &Vote<u64>) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    to.put_u64(vote.leader_id.term);
    to.put_u64(vote.leader_id.node_id);
    to.put_u8(vote.committed.into());
    to.freeze()
}

/// Reads [`encode_vote`].
pub(super) fn decode_vote(bytes: Bytes) -> Result<Vote<u64>, DecodeError> {
    let mut from = Fields { what: "vote", have: bytes.len(), left: bytes };
    let (version, term, node, committed) = (from.u8()?, from.u64()?, from.u64()?, from.u8()?);
    from.end()?;
    match (version, committed) {
        (VERSION, 0) => Ok(Vote::new(term, node)),
        (VERSION, 1) => Ok(Vote::new_committed(term, node)),
        _ => Err(from.invalid(format!("version {version} with flag {committed} is unknown"))),
    }
}

/// Batches and memberships are bounded far below 2³² by their limits; a larger count would be cut here, and the
/// frame refused when it is read.
fn put_count(to: &mut BytesMut, count: usize) {
    to.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    put_count(to, bytes.len());
    to.put_slice(bytes);
}

/// Takes fields from the front, never more than there are.
pub(super) struct Fields {
    /// What is decoded, for the error.
    pub(super) what: &'static str,
    /// Length of the whole, for the error.
    pub(super) have: usize,
    /// What is left.
    pub(super) left: Bytes,
}

impl Fields {
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.left.try_get_u8().map_err(|_| self.short())
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.left.try_get_u32().map_err(|_| self.short())
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.left.try_get_u64().map_err(|_| self.short())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        self.left.try_copy_to_slice(&mut array).map_err(|_| self.short())?;
        Ok(array)
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if self.left.len() < length {
            return Err(self.short());
        }
        Ok(self.left.split_to(length))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|error| self.invalid(format!("a name is not UTF-8: {error}")))
    }

    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(self.invalid(format!("{left} bytes follow its end"))),
        }
    }

    fn short(&self) -> DecodeError {
        DecodeError::Short { what: self.what, have: self.have }
    }

    pub(super) fn invalid(&self, why: String) -> DecodeError {
        DecodeError::Invalid { what: self.what, why }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::super::{
            leaf::{Body, ClientId, Entry, Epoch, Sequence},
            note::SigningKey,
        },
        *,
    };

    fn batch(payloads: &[Vec<u8>]) -> EntryPayload<TypeConfig> {
        let client = ClientId::new("billing").unwrap();
        let sign = |(sequence, payload): (u64, &Vec<u8>)| {
            let body = Body::Event(payload.clone().into());
            Entry { client: client.clone(), epoch: Epoch(1), sequence: Sequence(sequence), body }
                .sign(&SigningKey::from_seed(&[3; 32]))
        };
        EntryPayload::Normal(Proposal::Batch(Batch { vouched: 5, entries: (1..).zip(payloads).map(sign).collect() }))
    }

    fn raft_entry(payload: EntryPayload<TypeConfig>) -> RaftEntry {
        RaftEntry { log_id: LogId::new(CommittedLeaderId::new(5, 2), 9), payload }
    }

    fn membership() -> EntryPayload<TypeConfig> {
        let member = |name: &str| Member { name: name.into(), address: format!("{name}:50051"), cosigner: [9; 32] };
        let members = BTreeMap::from([(1, member("a")), (2, member("b")), (3, member("learner"))]);
        let configs = vec![BTreeSet::from([1]), BTreeSet::from([1, 2])];
        EntryPayload::Membership(Membership::new(configs, members))
    }

    #[test]
    fn every_kind_of_entry_comes_back_from_its_frame() {
        let clock = EntryPayload::Normal(Proposal::ClockMoved { node: 2, by_ms: -90_000 });
        for payload in [EntryPayload::Blank, membership(), batch(&[vec![], vec![1; 100]]), clock] {
            let entry = raft_entry(payload);
            let (back, first_leaf) = decode_frame(&encode_frame(&entry, 77)).unwrap();
            assert_eq!((back.log_id, first_leaf), (entry.log_id, 77));
            assert_eq!(encode_frame(&back, 77), encode_frame(&entry, 77));
            assert_eq!(leaves(&back), leaves(&entry));
        }
    }

    #[test]
    fn a_batch_has_one_leaf_per_entry_that_names_its_place() {
        let leaves = leaves(&raft_entry(batch(&[vec![1], vec![2]])));
        let places = leaves.into_iter().map(|leaf| {
            let leaf = Leaf::decode(leaf).unwrap();
            (leaf.term, leaf.raft_index, leaf.position)
        });
        assert_eq!(places.collect::<Vec<_>>(), [(5, 9, 0), (5, 9, 1)]);
    }

    #[test]
    fn a_vote_comes_back() {
        for vote in [Vote::new(3, 1), Vote::new_committed(u64::MAX, 7)] {
            assert_eq!(decode_vote(encode_vote(&vote)), Ok(vote));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(kind in 0u8..6, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode_frame(&Frame { index: 1, term: 1, kind, body: body.clone().into() }));
            drop(decode_vote(body.into()));
        }

        #[test]
        fn a_frame_that_was_cut_or_changed_is_an_error_or_another_entry(at in 0usize..200, flip in 1u8..) {
            let frame = encode_frame(&raft_entry(membership()), 77);
            let cut = Frame { body: frame.body.slice(..at.min(frame.body.len() - 1)), ..frame.clone() };
            prop_assert!(decode_frame(&cut).is_err());
            let mut changed = frame.body.to_vec();
            let at = at % changed.len();
            changed[at] ^= flip;
            if let Ok((entry, first_leaf)) = decode_frame(&Frame { body: changed.into(), ..frame.clone() }) {
                prop_assert_ne!(encode_frame(&entry, first_leaf).body, frame.body);
            }
        }
    }
}
