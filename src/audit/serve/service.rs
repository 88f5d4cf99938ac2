//! The wire contract over a node: names are checked, ranges are checked, outcomes become messages and failures become
//! statuses.
//!
//! A status never says more than is known: `RESOURCE_EXHAUSTED` means that the entry never reached the queue; after
//! any other failed append the entry may still turn up in the log, and the client sends it again.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{append_stream, connection::Caller, tail};
use crate::{
    audit::{
        cluster::{AppendError, Appended, Node, NodeError, Refusal},
        leaf::{Body, PAYLOAD_BYTES_MAX, SignedEntry},
        tree::Hash,
        wire::{
            self, AppendRequest, AppendResponse, GetCheckpointRequest, GetCheckpointResponse,
            GetConsistencyProofRequest, GetConsistencyProofResponse, GetInclusionProofRequest,
            GetInclusionProofResponse, ReadRequest, ReadResponse, TailRequest, append_response::Outcome,
            audit_log_server::AuditLog, refusal::Reason,
        },
    },
    world::{LogEvent, World},
};

/// Leaf bytes in one answer to `Read`.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Leaves in one answer to `Read`.
const READ_LEAVES_MAX: u32 = 4096;

/// Metadata by which a server says when to come back (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The log's gRPC service.
#[derive(Clone)]
pub(super) struct Service {
    node: Node,
    world: World,
    stream_idle: Duration,
}

impl Service {
    pub(super) fn new(node: Node, world: World, stream_idle: Duration) -> Service {
        Service { node, world, stream_idle }
    }

    /// Submits one entry and waits for its answer. The entry is in the node's queue when this is first polled, so
    /// that callers who poll in order submit in order; dropped after that, it takes nothing back.
    pub(super) async fn answer(self, caller: Caller, request: AppendRequest) -> Result<AppendResponse, Status> {
        let entry = match self.admit(&caller, request.entry) {
            Ok(entry) => entry,
            Err((sequence, refusal)) => {
                // Of refusals that follow from the log the node tells.
                let (client, reason) = (caller.name.to_string(), kebab(refusal.reason));
                self.world.tell(LogEvent::EntryRefused { client, sequence, reason });
                return Ok(refused(sequence, refusal));
            }
        };
        let sequence = entry.entry().sequence.0;
        let (index, repeated) = match self.node.append(entry).await.map_err(not_appended)? {
            Appended::Counted { index } => (index, false),
            Appended::Repeated { index } => (index, true),
            Appended::Refused(refusal) => return Ok(refused(sequence, refusal)),
        };
        let receipt = self.node.receipt(index, request.known_size, repeated).await.map_err(|why| not_answered(&why))?;
        Ok(AppendResponse { sequence, outcome: Some(Outcome::Receipt(receipt)) })
    }

    /// What can be judged without the log: the form, the size, and whose it is.
    fn admit(&self, caller: &Caller, bytes: Bytes) -> Result<SignedEntry, (u64, Refusal)> {
        let refused = |reason, detail| Refusal { reason, detail, expected: 0 };
        let entry = SignedEntry::decode(bytes).map_err(|why| (0, refused(Reason::Malformed, why.to_string())))?;
        let sequence = entry.entry().sequence.0;
        let named = entry.entry().client.as_str();
        if named != &*caller.name {
            let detail = format!("the entry names `{named}`, the certificate names `{}`", caller.name);
            return Err((sequence, refused(Reason::WrongClient, detail)));
        }
        if let Body::Event(payload) = &entry.entry().body
            && payload.len() > PAYLOAD_BYTES_MAX
        {
            let detail = format!("the payload has {} bytes, the log takes {PAYLOAD_BYTES_MAX}", payload.len());
            return Err((sequence, refused(Reason::Oversize, detail)));
        }
        Ok(entry)
    }
}

#[tonic::async_trait]
impl AuditLog for Service {
    type AppendStreamStream = append_stream::Answers;
    type TailStream = tail::Leaves;

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let caller = caller(&request)?;
        self.clone().answer(caller, request.into_inner()).await.map(Response::new)
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<append_stream::Answers>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(append_stream::answers(self.clone(), caller, request.into_inner(), self.stream_idle)))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let ReadRequest { start, limit } = request.into_inner();
        // Asked once, and before the leaves are read: it is never ahead of what the reader can get.
        let size = self.node.committed();
        within(start, size)?;
        let limit = if limit == 0 { READ_LEAVES_MAX } else { limit.min(READ_LEAVES_MAX) };
        let leaves = match start < size {
            true => self.node.read(start, limit, READ_BYTES_MAX).await.map_err(|why| not_answered(&why))?,
            false => Vec::new(),
        };
        Ok(Response::new(ReadResponse { start, leaves, size }))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<tail::Leaves>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(tail::leaves(self.node.clone(), caller, request.into_inner().start)))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let signed = self.node.checkpoint().ok_or_else(|| Status::unavailable("no checkpoint is signed yet"))?;
        Ok(Response::new(GetCheckpointResponse { checkpoint: signed.note }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let GetInclusionProofRequest { index, tree_size } = request.into_inner();
        if index >= tree_size {
            return Err(Status::invalid_argument(format!("index {index} is not in a tree of {tree_size} leaves")));
        }
        within(tree_size, self.node.committed())?;
        let proof = self.node.inclusion(index, tree_size).ok_or_else(no_proof)?;
        Ok(Response::new(GetInclusionProofResponse { hashes: hashes(&proof) }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let GetConsistencyProofRequest { old_size, new_size } = request.into_inner();
        if old_size > new_size {
            return Err(Status::invalid_argument(format!("old size {old_size} is larger than new size {new_size}")));
        }
        within(new_size, self.node.committed())?;
        let proof = self.node.consistency(old_size, new_size).ok_or_else(no_proof)?;
        Ok(Response::new(GetConsistencyProofResponse { hashes: hashes(&proof) }))
    }
}

/// Who calls. Every request that came in over a connection of this room has one.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("the caller is not known"))
}

fn refused(sequence: u64, refusal: Refusal) -> AppendResponse {
    let refusal =
        wire::Refusal { reason: refusal.reason.into(), detail: refusal.detail, expected_sequence: refusal.expected };
    AppendResponse { sequence, outcome: Some(Outcome::Refusal(refusal)) }
}

/// The reason as events name it.
fn kebab(reason: Reason) -> String {
    reason.as_str_name().to_ascii_lowercase().replace('_', "-")
}

/// An append without an outcome.
fn not_appended(error: AppendError) -> Status {
    let said = error.to_string();
    match error {
        AppendError::Busy { retry_after_ms } => {
            let mut metadata = MetadataMap::new();
            metadata.insert(PUSHBACK, retry_after_ms.into());
            Status::with_metadata(Code::ResourceExhausted, said, metadata)
        }
        AppendError::ShuttingDown | AppendError::NotLeader { .. } => Status::unavailable(said),
        // The process ends now; another one, or this one after its recovery, will know.
        AppendError::Failed(_) => Status::unavailable(said),
    }
}

/// A read or a proof that the node could not give. Nothing is lost by asking again.
pub(super) fn not_answered(error: &NodeError) -> Status {
    tracing::error!(%error, "the node could not answer");
    Status::unavailable("the log cannot be read at the moment; its operator finds the reason in the server's log")
}

/// Refuses a size that the log has not reached.
fn within(size: u64, committed: u64) -> Result<(), Status> {
    if size <= committed {
        return Ok(());
    }
    Err(Status::out_of_range(format!("size {size} is past the end: {committed} leaves are committed")))
}

fn no_proof() -> Status {
    Status::out_of_range("the log is not that long")
}

fn hashes(proof: &[Hash]) -> Vec<Bytes> {
    proof.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}
