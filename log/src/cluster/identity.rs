//! Whose a data folder is: log id, node id, incarnation.
//!
//! A voter that forgot is poison: it could vote twice in a term, or call a log empty that once was not. So a folder
//! becomes a member by one explicit act, [`init`] or [`join`], never by being started, and a folder without an identity
//! does not start at all. The incarnation distinguishes two folders with one node id: the creator of a folder keeps its
//! incarnation beside the key of that member ([`incarnation`]), so that another folder under the same key is detected.
//!
//! A folder that joins begins without any entry. It is the only one that may start so, and only until it has held an
//! entry: the identity says whether it has, and changes before anybody is told that the first entry is stored here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use gapless_world::{OpenMode, World};
use openraft::{EntryPayload, LogId};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    super::{
        leaf::DecodeError,
        note::is_key_name,
        store::{Cell, FRAME_BYTES_MAX, Journal, JournalOptions, StoreError},
    },
    ClusterSettings, MemberSettings, NodeError, NodeSettings,
    types::{Fields, Member, Membership, RaftEntry, encode_frame},
};
use crate::words::hex;

/// Where the parts of a data folder are.
pub(super) const JOURNAL: &str = "journal";
const IDENTITY: &str = "identity";
/// Raft's vote.
pub(super) const VOTE: &str = "vote";
/// The newest checkpoint that this node signed and kept.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The first byte of an identity says how the folder began.
const FOUNDER: u8 = 1;
const JOINING: u8 = 2;
const JOINED: u8 = 3;
/// The longest origin with which a checkpoint fits the cell that keeps it.
const ORIGIN_BYTES_MAX: usize = 255;
/// More than a signed entry has around its payload.
const ENVELOPE_BYTES_MAX: usize = 1024;
/// Half of what a frame of the journal holds, so that lengths and headers fit beside it.
const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX as usize / 2;

/// How a data folder began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// With the log: its membership is the first entry.
    Founder,
    /// Empty, and it has never held an entry.
    Joining,
    /// Empty, and it has held entries since.
    Joined,
}

/// Who a data folder is. On disk: version u8 (1: began with the log, 2: joins, without an entry so far, 3: joined, has
/// held entries), log id, node id u64, incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) origin: Origin,
    pub(super) log_id: [u8; 16],
    pub(super) node: u64,
    pub(super) incarnation: [u8; 16],
}

/// A folder that joins and has held no entry so far.
pub(super) struct Joining {
    cell: Cell,
    identity: Identity,
}

impl Joining {
    /// Durably notes that the folder holds entries: from then on it is refused without them.
    pub(super) async fn begins(mut self) -> Result<(), StoreError> {
        self.cell.store(Identity { origin: Origin::Joined, ..self.identity }.encode()).await
    }
}

impl Identity {
    fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(match self.origin {
            Origin::Founder => FOUNDER,
            Origin::Joining => JOINING,
            Origin::Joined => JOINED,
        });
        to.put_slice(&self.log_id);
        to.put_u64(self.node);
        to.put_slice(&self.incarnation);
        to.freeze()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Fields { what: "identity", have: bytes.len(), left: bytes };
        let origin = match from.u8()? {
            FOUNDER => Origin::Founder,
            JOINING => Origin::Joining,
            JOINED => Origin::Joined,
            version => {
                let known = format!("this build reads versions {FOUNDER} to {JOINED}");
                return Err(from.invalid(format!("version {version} is unknown, {known}")));
            }
        };
        let identity = Self { origin, log_id: from.array()?, node: from.u64()?, incarnation: from.array()? };
        from.end()?;
        Ok(identity)
    }

    /// Reads the folder's identity; `None` where it has none.
    async fn load(world: &World) -> Result<(Cell, Option<Self>), NodeError> {
        let cell = Cell::open(world.disk.clone(), Path::new(IDENTITY)).await?;
        let identity = cell.load().map(Identity::decode).transpose()?;
        Ok((cell, identity))
    }

    /// Reads the folder's identity, and refuses a folder that has none or is another node's. If the folder joins and
    /// has held no entry, also returns what is to be told of its first entry.
    pub(super) async fn check(world: &World, settings: &NodeSettings) -> Result<(Self, Option<Joining>), NodeError> {
        let (cell, found) = Self::load(world).await?;
        let found = found.ok_or(NodeError::NotInitialised)?;
        if (found.log_id, found.node) != (settings.log_id, settings.node) {
            return Err(NodeError::Foreign {
                node: settings.node,
                log: hex(&settings.log_id),
                found_node: found.node,
                found_log: hex(&found.log_id),
            });
        }
        Ok((found, (found.origin == Origin::Joining).then_some(Joining { cell, identity: found })))
    }
}

/// Makes the data folder a member of a new log: the membership becomes the first entry, then the folder gets its
/// identity. A log of one names nobody in `members`; in a cluster of several each folder is initialised once, with the
/// same members.
///
/// The identity is written last. A crash before that leaves a folder without an identity, and `init` may be called
/// again; after that the folder is a member, and `init` refuses it for good.
///
/// # Errors
/// [`NodeError::AlreadyInitialised`], [`NodeError::Anonymous`] where the folder holds a log without an identity,
/// [`NodeError::Locked`], [`NodeError::Settings`], or a failing disk.
pub async fn init(world: &World, settings: &NodeSettings, members: &[MemberSettings]) -> Result<(), NodeError> {
    check_settings(settings)?;
    let membership = first_membership(settings, members)?;
    let _guard = lock(world).await?;
    let cell = nobodys(world).await?;
    write_membership(world, settings, membership).await?;
    make_member(world, settings, cell, Origin::Founder).await
}

/// Prepares an empty data folder for a future member of an existing log. Once started, the node waits until the leader
/// sends it the log, which the leader does once an operator adds the node. The node id must be one that the log has
/// never known; the leader refuses any other.
///
/// As for [`init`], the identity is written last, and a folder that has one is refused.
///
/// # Errors
/// As [`init`]; [`NodeError::Anonymous`] where the folder holds entries.
pub async fn join(world: &World, settings: &NodeSettings) -> Result<(), NodeError> {
    check_settings(settings)?;
    if settings.cluster.is_none() {
        return Err(NodeError::Settings("a node that joins cosigns: give it its part of the cluster".into()));
    }
    let _guard = lock(world).await?;
    let cell = nobodys(world).await?;
    let journal = open_journal(world, settings).await?;
    if journal.next_index() != 0 {
        return Err(NodeError::Anonymous { frames: journal.next_index() });
    }
    make_member(world, settings, cell, Origin::Joining).await
}

/// Returns what distinguishes this folder from every other, of the same node or not; `None` where it has no identity.
/// It never changes, and a copy of the folder has the same.
///
/// # Errors
/// [`NodeError::Locked`], or a failing or damaged disk.
pub async fn incarnation(world: &World) -> Result<Option<[u8; 16]>, NodeError> {
    let _guard = lock(world).await?;
    // Opening the cell would create it.
    match world.disk.open(Path::new(IDENTITY), OpenMode::Existing).await {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => Ok(Identity::load(world).await?.1.map(|identity| identity.incarnation)),
    }
}

/// The cell for the identity of a folder that has none.
async fn nobodys(world: &World) -> Result<Cell, NodeError> {
    match Identity::load(world).await? {
        (cell, None) => Ok(cell),
        (_, Some(Identity { node, log_id, .. })) => Err(NodeError::AlreadyInitialised { node, log_id: hex(&log_id) }),
    }
}

/// The last steps by which a folder becomes a member: its cells, then its identity.
async fn make_member(world: &World, settings: &NodeSettings, mut cell: Cell, origin: Origin) -> Result<(), NodeError> {
    // Created here and only here: a start that misses one of them knows that something was lost.
    for name in [VOTE, CHECKPOINT] {
        Cell::open(world.disk.clone(), Path::new(name)).await?;
    }
    let mut incarnation = [0; 16];
    let drawn = SystemRandom::new().fill(&mut incarnation);
    drawn.map_err(|_| NodeError::Failed("the system gives no random bytes for an incarnation".into()))?;
    let (log_id, node) = (settings.log_id, settings.node);
    cell.store(Identity { origin, log_id, node, incarnation }.encode()).await?;
    Ok(())
}

async fn open_journal(world: &World, settings: &NodeSettings) -> Result<Journal, NodeError> {
    let options = JournalOptions { segment_bytes: settings.limits.segment_bytes, first_index: 0 };
    let (disk, observer) = (world.disk.clone(), world.observer.clone());
    Ok(Journal::open(disk, observer, Path::new(JOURNAL), settings.log_id, options).await?)
}

/// The members that a new log begins with, all of them voters.
fn first_membership(settings: &NodeSettings, members: &[MemberSettings]) -> Result<Membership, NodeError> {
    let refuse = |why: String| Err(NodeError::Settings(why));
    let Some(ClusterSettings { cosigner, .. }) = &settings.cluster else {
        if !members.is_empty() {
            return refuse("members are named for a log of one: give this node its part of the cluster".into());
        }
        let alone = Member { name: format!("node-{}", settings.node), ..Member::default() };
        let voters = vec![BTreeSet::from([settings.node])];
        return Ok(Membership::new(voters, BTreeMap::from([(settings.node, alone)])));
    };
    let (mut known, mut names) = (BTreeMap::new(), BTreeSet::new());
    for MemberSettings { node, name, address, cosigner } in members {
        if !is_key_name(name) || address.is_empty() {
            return refuse(format!(
                "member {node} is `{name}` at `{address}`: it needs a name without space or `+`, and an address"
            ));
        }
        let member = Member { name: name.clone(), address: address.clone(), cosigner: cosigner.0 };
        if known.insert(*node, member).is_some() || !names.insert(name) {
            return refuse(format!("member {node}, `{name}`, is named twice: nodes and names differ"));
        }
    }
    match known.get(&settings.node) {
        None => refuse(format!("node {} is not among the members: name it as well", settings.node)),
        Some(own) if own.cosigner != cosigner.verifying_key().0 => {
            refuse(format!("member {} has another cosigner's key than this node: check both", settings.node))
        }
        Some(_) => Ok(Membership::new(vec![known.keys().copied().collect()], known)),
    }
}

/// Writes the first entry as Raft's own `initialize` does: term 0, index 0. Members that begin with the same entry
/// agree.
async fn write_membership(world: &World, settings: &NodeSettings, membership: Membership) -> Result<(), NodeError> {
    let mut journal = open_journal(world, settings).await?;
    let entry = RaftEntry { log_id: LogId::default(), payload: EntryPayload::Membership(membership) };
    let frame = encode_frame(&entry, 0);
    if journal.next_index() == 0 {
        journal.write(std::slice::from_ref(&frame))?;
        journal.sync().await?;
        return Ok(());
    }
    // An `init` that crashed before the identity left exactly this frame.
    let found = journal.read(0, 1, usize::MAX).await?;
    let left_over = found.first().is_some_and(|first| first.body == frame.body && first.kind == frame.kind);
    if journal.next_index() == 1 && left_over {
        return Ok(());
    }
    Err(NodeError::Anonymous { frames: journal.next_index() })
}

/// The lock of a data folder. Everything that writes to the folder holds a clone, so that the folder is free only once
/// nobody is left who could write.
#[derive(Clone)]
pub(super) struct FolderLock {
    _guard: Arc<dyn Send + Sync>,
}

/// Locks the folder for this process.
pub(super) async fn lock(world: &World) -> Result<FolderLock, NodeError> {
    world.disk.lock().await.map(|guard| FolderLock { _guard: guard.into() }).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => NodeError::Locked,
        _ => NodeError::Lock(error),
    })
}

/// Refuses settings under which the log could not work.
pub(super) fn check_settings(settings: &NodeSettings) -> Result<(), NodeError> {
    let NodeSettings { origin, limits, .. } = settings;
    if !is_key_name(origin) || origin.len() > ORIGIN_BYTES_MAX {
        let why =
            format!("origin `{origin}` is not a key name of at most {ORIGIN_BYTES_MAX} bytes without `+` or space");
        return Err(NodeError::Settings(why));
    }
    let largest = super::super::leaf::PAYLOAD_BYTES_MAX;
    if limits.payload_bytes > largest {
        let why = format!("payload-bytes is {}, and a leaf holds at most {largest}", limits.payload_bytes);
        return Err(NodeError::Settings(why));
    }
    if limits.batch_bytes > BATCH_BYTES_MAX {
        let why = format!("batch-bytes is {}, and a frame holds at most {BATCH_BYTES_MAX}", limits.batch_bytes);
        return Err(NodeError::Settings(why));
    }
    if limits.queue_bytes < limits.payload_bytes + ENVELOPE_BYTES_MAX {
        let why =
            format!("queue-bytes is {}, less than one entry of {} bytes", limits.queue_bytes, limits.payload_bytes);
        return Err(NodeError::Settings(why));
    }
    if limits.queue_entries == 0 || limits.batch_entries == 0 {
        return Err(NodeError::Settings("queue-entries and batch-entries must be at least 1".into()));
    }
    Ok(())
}
