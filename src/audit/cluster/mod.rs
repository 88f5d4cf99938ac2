//! The replicated log: a Raft cluster over the journal, in which the Raft log *is* the audit log.
//!
//! One Raft entry is one frame of the journal and one batch of leaves; leadership and membership changes are leaves
//! too. What a leaf counts for is decided when it is applied, from the log alone (`sessions`), and a checkpoint is
//! signed only over what is committed and applied, so nothing is ever signed that a failover could take back.
//!
//! Today's cluster has one member. The Raft underneath is the whole one, so that more members only add a network.
//!
//! The room must never drop, reorder or rewrite a committed leaf, acknowledge one that is not durable, or sign two
//! roots for one size. Any failure of the disk ends the node ([`Node::failed`]); nothing is retried or repaired here.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    leaf::{Index, PAYLOAD_BYTES_MAX},
    note::{Checkpoint, SigningKey},
    wire::refusal::Reason,
};

mod clock;
mod error;
mod identity;
mod keeper;
mod ledger;
mod log;
mod machine;
mod network;
mod node;
mod queue;
mod reads;
mod recovery;
mod sequencer;
mod sessions;
#[cfg(test)]
mod tests;
mod types;

pub use error::{AppendError, NodeError};
pub use identity::init;
pub use node::Node;

/// Who a node is and what it may use.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Name of the log in its checkpoints: a C2SP signed-note key name, at most 255 bytes.
    pub origin: String,
    /// Which log; stands in the data folder and in every segment.
    pub log_id: [u8; 16],
    /// Which node of its cluster.
    pub node: u64,
    /// Signs the checkpoints.
    pub signing_key: Arc<SigningKey>,
    /// Bounds.
    pub limits: Limits,
    /// Bytes for all queues and caches together. May change at any time: they follow. See
    /// [`fixed`](super::budget::fixed) where it never does.
    pub memory: watch::Receiver<u64>,
}

/// The bounds of a node. Entries and bytes are those of signed entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries that may wait for the batch in flight; past it callers are sent away.
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

/// What became of an entry. All three are final: they follow from the log itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log and counts.
    Counted {
        /// Where.
        index: Index,
    },
    /// It was in the log already.
    Repeated {
        /// Where it stands since its first sending.
        index: Index,
    },
    /// It does not count.
    Refused(Refusal),
}

/// Why an entry does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of the wire contract.
    pub reason: Reason,
    /// For people: what was found, and what would cure it.
    pub detail: String,
    /// With [`Reason::SequenceGap`]: the sequence that the log expects next; else 0.
    pub expected: u64,
}

/// A checkpoint with the note that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}
