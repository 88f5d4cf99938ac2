//! Whose a data folder is: log id, node id, incarnation.
//!
//! A voter that forgot is poison: it could vote twice in a term, or call a log empty that once was not. So a folder
//! becomes a member by one explicit act, [`init`], never by being started, and a folder without an identity is not
//! started at all. The incarnation tells two folders of one node id apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, LogId};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    super::{
        leaf::DecodeError,
        note::is_key_name,
        store::{Cell, FRAME_BYTES_MAX, Journal, JournalOptions},
    },
    ClusterSettings, MemberSettings, NodeError, NodeSettings,
    ledger::hex,
    types::{Fields, Member, Membership, RaftEntry, encode_frame},
};
use crate::world::World;

/// Where the parts of a data folder are.
pub(super) const JOURNAL: &str = "journal";
const IDENTITY: &str = "identity";
/// Raft's vote.
pub(super) const VOTE: &str = "vote";
/// The newest checkpoint that this node signed and kept.
pub(super) const CHECKPOINT: &str = "checkpoint";

const VERSION: u8 = 1;
/// Longest origin: its checkpoint then fits the cell that keeps it.
const ORIGIN_BYTES_MAX: usize = 255;
/// More than a signed entry has around its payload.
const ENVELOPE_BYTES_MAX: usize = 1024;
/// Half of what a frame of the journal holds, so that lengths and heads fit beside it.
const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX as usize / 2;

/// Who a data folder is. On disk: version u8 = 1, log id, node id u64, incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) log_id: [u8; 16],
    pub(super) node: u64,
    pub(super) incarnation: [u8; 16],
}

impl Identity {
    fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        to.put_slice(&self.log_id);
        to.put_u64(self.node);
        to.put_slice(&self.incarnation);
        to.freeze()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Fields { what: "identity", have: bytes.len(), left: bytes };
        let version = from.u8()?;
        if version != VERSION {
            return Err(from.invalid(format!("version {version} is unknown, this build reads version {VERSION}")));
        }
        let identity = Self { log_id: from.array()?, node: from.u64()?, incarnation: from.array()? };
        from.end()?;
        Ok(identity)
    }

    /// Reads the folder's identity; `None` where it has none.
    async fn load(world: &World) -> Result<(Cell, Option<Self>), NodeError> {
        let cell = Cell::open(world.disk.clone(), Path::new(IDENTITY)).await?;
        let identity = cell.load().map(Identity::decode).transpose()?;
        Ok((cell, identity))
    }

    /// Reads the folder's identity and refuses a folder that is nobody's or somebody else's.
    pub(super) async fn check(world: &World, settings: &NodeSettings) -> Result<Self, NodeError> {
        let (_, found) = Self::load(world).await?;
        let found = found.ok_or(NodeError::NotInitialised)?;
        if (found.log_id, found.node) != (settings.log_id, settings.node) {
            return Err(NodeError::Foreign {
                node: settings.node,
                log: hex(&settings.log_id),
                found_node: found.node,
                found_log: hex(&found.log_id),
            });
        }
        Ok(found)
    }
}

/// Makes the data folder a member of a new log: the membership becomes the first entry, then the folder gets its
/// identity. A log of one names nobody in `members`; in a cluster of several each folder is initialised once, with the
/// same members.
///
/// The identity is written last. A crash before it leaves a folder that is nobody's, and `init` may be called again;
/// after it the folder is a member, and `init` refuses it for good.
///
/// # Errors
/// [`NodeError::AlreadyInitialised`], [`NodeError::Anonymous`] where the folder holds a log without an identity,
/// [`NodeError::Locked`], [`NodeError::Settings`], or a failing disk.
pub async fn init(world: &World, settings: &NodeSettings, members: &[MemberSettings]) -> Result<(), NodeError> {
    check_settings(settings)?;
    let membership = first_membership(settings, members)?;
    let _guard = lock(world).await?;
    let (mut cell, found) = Identity::load(world).await?;
    if let Some(Identity { node, log_id, .. }) = found {
        return Err(NodeError::AlreadyInitialised { node, log_id: hex(&log_id) });
    }
    write_membership(world, settings, membership).await?;
    // Made here and only here: a start that misses one of them knows that something was lost.
    for name in [VOTE, CHECKPOINT] {
        Cell::open(world.disk.clone(), Path::new(name)).await?;
    }
    let mut incarnation = [0; 16];
    let drawn = SystemRandom::new().fill(&mut incarnation);
    drawn.map_err(|_| NodeError::Failed("the system gives no random bytes for an incarnation".into()))?;
    cell.store(Identity { log_id: settings.log_id, node: settings.node, incarnation }.encode()).await?;
    Ok(())
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

/// Writes the first entry as Raft's own `initialize` does: term 0, index 0. Members that begin with the same one agree.
async fn write_membership(world: &World, settings: &NodeSettings, membership: Membership) -> Result<(), NodeError> {
    let options = JournalOptions { segment_bytes: settings.limits.segment_bytes, first_index: 0 };
    let (disk, observer) = (world.disk.clone(), world.observer.clone());
    let mut journal = Journal::open(disk, observer, Path::new(JOURNAL), settings.log_id, options).await?;
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

/// Takes the folder for this process.
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
