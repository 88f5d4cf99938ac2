//! What can go wrong in a node, in words that name the cure.
//!
//! A refused entry is not an error: it is an [`Appended`](super::Appended) outcome.

use std::io;

use super::super::{leaf::DecodeError, note::NoteError, store::StoreError};

/// Why a node does not start, read or stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// `init` on a folder that is a member already.
    #[error("the data folder is already node {node} of log {log_id}: start it, or choose an empty folder")]
    AlreadyInitialised {
        /// The node that it is.
        node: u64,
        /// The log, in hexadecimal.
        log_id: String,
    },
    /// `start` on a folder without an identity.
    #[error(
        "the data folder is not initialised: `init` makes it a member, once; a lost folder must not be replaced \
         by an empty one under the same node id"
    )]
    NotInitialised,
    /// `start` on another node's folder.
    #[error(
        "the data folder belongs to node {found_node} of log {found_log}, not to node {node} of log {log}: \
         check the path and the settings"
    )]
    Foreign {
        /// Asked for.
        node: u64,
        /// Asked for, in hexadecimal.
        log: String,
        /// Found.
        found_node: u64,
        /// Found, in hexadecimal.
        found_log: String,
    },
    /// Frames without an identity.
    #[error(
        "the data folder holds {frames} frames of a log but no identity: choose an empty folder; or, if it was that of a \
         log of one, restore all of it from a copy. A member of several that lost its identity is replaced \
         (`gapless-log member replace`) and never restored"
    )]
    Anonymous {
        /// Number of frames.
        frames: u64,
    },
    /// Another process has the folder.
    #[error("another process holds the lock of the data folder: stop it first")]
    Locked,
    /// The settings cannot be used.
    #[error("settings: {0}")]
    Settings(String),
    /// The log is shorter than its own checkpoint says, or differs from it.
    #[error(
        "rolled back or corrupt: {0}; a log of one is restored from a full copy of its folder, never from a part of it; a \
         member of several takes the log anew from the others, and is never restored from a copy, which has forgotten \
         what this node acknowledged since"
    )]
    RolledBack(String),
    /// The vote cannot be read, or is older than the log.
    #[error(
        "the vote is lost: {0}; this machine could vote a second time, so it must not come back as this node, and a copy \
         of its folder would have forgotten what it acknowledged since: replace the member (`gapless-log join` under a \
         node of its own, then `gapless-log member replace`). Only a log of one is restored from a full copy"
    )]
    VoteLost(String),
    /// Stored bytes are not what was hashed.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// Stored bytes are not in a form of this version.
    #[error("stored by another version or damaged: {0}")]
    Decode(#[from] DecodeError),
    /// The kept checkpoint is not this node's.
    #[error("the kept checkpoint does not verify under this node's key and origin: {0}")]
    OwnCheckpoint(#[from] NoteError),
    /// The journal or a cell failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder cannot be locked.
    #[error("cannot lock the data folder: {0}")]
    Lock(#[source] io::Error),
    /// The node ended or cannot begin.
    #[error("the node failed: {0}")]
    Failed(String),
    /// Something took longer than it may.
    #[error("{what} took longer than {seconds} s")]
    Deadline {
        /// What took too long.
        what: &'static str,
        /// How long it may take.
        seconds: u64,
    },
    /// A read past the end.
    #[error("index {index} is past the end: {size} leaves are committed")]
    PastEnd {
        /// Asked for.
        index: u64,
        /// Leaves committed.
        size: u64,
    },
}

impl NodeError {
    /// Returns whether stored bytes are not what they were. A disk that does not answer is another matter.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            NodeError::Store(StoreError::Corrupt { .. })
                | NodeError::RolledBack(_)
                | NodeError::VoteLost(_)
                | NodeError::Corrupt(_)
                | NodeError::Decode(_)
                | NodeError::OwnCheckpoint(_)
        )
    }
}

/// Why an entry got no outcome. Except after [`Busy`](AppendError::Busy), where it never reached the queue, the entry
/// may still turn up in the log: the caller sends it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The queue is full.
    #[error("the queue is full: try again in {retry_after_ms} ms")]
    Busy {
        /// When room is likely.
        retry_after_ms: u64,
    },
    /// The node accepts nothing more.
    #[error("the node is shutting down: send it to another, or again later")]
    ShuttingDown,
    /// Another node leads.
    #[error("this node does not lead{}", leader.as_ref().map(|name| format!(": `{name}` does")).unwrap_or_default())]
    NotLeader {
        /// The name of the node that does, if known.
        leader: Option<String>,
    },
    /// Too few members of the cluster answer.
    #[error("no quorum of the members answers: the entry may be committed later, send it again")]
    NoQuorum,
    /// This log of one is damaged, and nobody else has it.
    #[error("the log is damaged and takes nothing more: {0}; restore its folder from a copy")]
    Damaged(String),
    /// The node must end.
    #[error("the node failed: {0}")]
    Failed(String),
}
