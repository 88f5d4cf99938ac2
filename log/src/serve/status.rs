//! Failures as statuses, which never say more than is known: `RESOURCE_EXHAUSTED` means that an entry never reached the
//! queue; after any other failed append, the entry may still turn up in the log, and the client sends it again.

use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    cluster::{AppendError, Node, NodeError},
    words::{LEADER, PUSHBACK},
};

/// After how many milliseconds a caller that met no leader is to come back.
const ELECTION_MS: std::ops::Range<u64> = 50..250;

/// Returns the status of an append without an outcome, or of a read for which there is no room.
pub(super) fn not_appended(error: AppendError) -> Status {
    let said = error.to_string();
    match error {
        AppendError::Busy { retry_after_ms } => {
            let mut metadata = MetadataMap::new();
            metadata.insert(PUSHBACK, retry_after_ms.into());
            Status::with_metadata(Code::ResourceExhausted, said, metadata)
        }
        AppendError::NotLeader { leader } => {
            let mut metadata = MetadataMap::new();
            // An election is over soon, and not all callers should come back at once.
            metadata.insert(PUSHBACK, rand::random_range(ELECTION_MS).into());
            // A member's name is the DNS name in a certificate, which is always a valid value.
            leader.map(|name| name.parse().map(|name| metadata.insert(LEADER, name)));
            Status::with_metadata(Code::Unavailable, said, metadata)
        }
        AppendError::ShuttingDown | AppendError::NoQuorum | AppendError::Damaged(_) => Status::unavailable(said),
        // The process is about to end; another server, or this one after its recovery, will know.
        AppendError::Failed(_) => Status::unavailable(said),
    }
}

/// Returns the status of a read or a proof that the node could not provide. Nothing is lost by asking again.
pub(super) fn not_answered(error: &NodeError) -> Status {
    tracing::error!(%error, "the node could not answer");
    Status::unavailable("the log cannot be read at the moment; its operator finds the reason in the server's log")
}

/// Returns the status for readers that want more of a log than its damage has left; `None` if the log is sound.
pub(super) fn damaged(node: &Node) -> Option<Status> {
    let shown = node.committed();
    let said = |why: &str| Status::data_loss(format!("only the first {shown} leaves of this log can be read: {why}"));
    mark!("read-of-a-damaged-log", node.read_only().is_some());
    node.read_only().map(said)
}
