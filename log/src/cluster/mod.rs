//! The replicated log: a Raft cluster over the journal, in which the Raft log *is* the audit log.
//!
//! One Raft entry is one frame of the journal and one batch of leaves; leadership and membership changes are leaves
//! too. Whether a leaf counts is decided when it is applied, from the log alone (`sessions`). A checkpoint is signed
//! only over what is committed and applied, so nothing that a failover could take back is ever signed.
//!
//! A log of one and a cluster of several run the same code. A cluster of several adds a network (`network`), which
//! carries Raft's calls and the cosigning of checkpoints (`cosign`): everything that a reader or a client is shown is
//! then covered by the signatures of a quorum, each member of which has it on its disk.
//!
//! This module must never drop, reorder or rewrite a committed leaf, acknowledge a leaf that is not durable, or sign
//! two roots for one size. Any failure of the disk ends the node ([`Node::failed`]) and is never retried. A member
//! whose log is damaged does not start; it is first repaired from the others (`repair`). A log of one has no others: it
//! shows what is sound and takes no entries (`damaged`).

use std::sync::Arc;

use gapless_world::tls::Identity;
use tokio::sync::watch;

use super::{
    leaf::{Index, PAYLOAD_BYTES_MAX},
    note::{Checkpoint, SigningKey, VerifyingKey},
    wire::refusal::Reason,
};

mod answers;
mod beside;
mod clock;
mod cosign;
mod courier;
mod damaged;
mod distance;
mod election;
mod error;
mod freshness;
mod identity;
mod keeper;
mod leadership;
mod ledger;
mod line;
mod linearizable;
mod log;
mod machine;
mod members;
mod network;
mod node;
mod peer;
mod queue;
mod quorum;
mod reads;
mod recovery;
mod repair;
mod runtime;
mod sequencer;
mod sessions;
mod sum;
#[cfg(test)]
mod tests;
mod types;
mod vouch;

pub use error::{AppendError, NodeError};
pub use freshness::Bound;
pub use identity::{incarnation, init, join};
pub use members::{ChangeError, MemberStatus, MembersStatus};
pub use node::Node;
pub use repair::{is_repairable, repair};
pub(super) use sum::Summed;

/// Who a node is and what it may use.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Name of the log in its checkpoints: a C2SP signed-note key name, at most 255 bytes.
    pub origin: String,
    /// Identifies the log; stored in the data folder and in every segment.
    pub log_id: [u8; 16],
    /// The id of the node in its cluster.
    pub node: u64,
    /// Signs the checkpoints. All members of a cluster share this key: the leader signs.
    pub signing_key: Arc<SigningKey>,
    /// The settings of a member of a cluster of several; `None` for a log of one.
    pub cluster: Option<ClusterSettings>,
    /// The bounds of the node.
    pub limits: Limits,
    /// Bytes for all queues and caches together. The value may change at any time, and they follow it. See
    /// [`fixed`](super::budget::fixed) for one that never changes.
    pub memory: watch::Receiver<u64>,
}

/// What a member of a cluster of several has besides the log.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// What it presents to the other members, and whom it trusts. A new value takes effect with the next connection.
    pub identity: watch::Receiver<Identity>,
    /// Cosigns the checkpoints. Each member has its own.
    pub cosigner: Arc<SigningKey>,
    /// Where the members are found. The log itself says so; these contacts are asked where damage took that from this
    /// node's log.
    pub contacts: Vec<Contact>,
}

/// Where a member is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Which node.
    pub node: u64,
    /// The name that its certificate holds.
    pub name: String,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// One member of a cluster, as all members know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSettings {
    /// Which node.
    pub node: u64,
    /// The name that its certificate holds; also the name of its cosignatures.
    pub name: String,
    /// Where it listens, `host:port`.
    pub address: String,
    /// Verifies its cosignatures.
    pub cosigner: VerifyingKey,
}

/// The bounds of a node. Entries and bytes are those of signed entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries that may wait for the batch in flight; beyond that, callers are turned away.
    pub queue_entries: usize,
    /// Bytes that may wait, as far as memory allows.
    pub queue_bytes: usize,
    /// Entries in one batch, at least 1.
    pub batch_entries: usize,
    /// Bytes in one batch, as far as memory allows; a single larger entry is a batch of its own.
    pub batch_bytes: usize,
    /// Bytes of one payload, at most [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes: usize,
    /// A segment of the journal is closed past this many bytes.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_entries: 4096,
            queue_bytes: 16 << 20,
            batch_entries: 1024,
            batch_bytes: 1 << 20,
            payload_bytes: PAYLOAD_BYTES_MAX,
            segment_bytes: 16 << 20,
        }
    }
}

/// What became of an entry. An entry that counts, or that was already there, is in the log for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log and counts.
    Counted {
        /// Its leaf index.
        index: Index,
    },
    /// It was already in the log.
    Repeated {
        /// The leaf index that it has had since it was first sent.
        index: Index,
    },
    /// It does not count.
    Refused(Refusal),
}

/// Why an entry does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as in the wire contract.
    pub reason: Reason,
    /// For people: what was found, and what would cure it.
    pub detail: String,
    /// With [`Reason::SequenceGap`]: the sequence that the log expects next; otherwise 0.
    pub expected: u64,
}

/// A checkpoint with the note that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The checkpoint itself.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}
