//! The wire contract over a node: names are checked, ranges are checked, outcomes become messages and failures become
//! statuses.
//!
//! A status never says more than is known: `RESOURCE_EXHAUSTED` means that the entry never reached the queue; after
//! any other failed append the entry may still turn up in the log, and the client sends it again.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{agreement::Doorkeeper, answer::with_room, append_stream, bounds, connection::Caller, tail, turns::Turns};
use crate::{
    audit::{
        budget::Held,
        cluster::{AppendError, Appended, Node, NodeError, Refusal},
        leaf::{Body, PAYLOAD_BYTES_MAX, SignedEntry},
        schema::DESCRIPTORS_BYTES_MAX,
        tree::Hash,
        wire::{
            self, AppendRequest, AppendResponse, ConsistencyProof, ExchangeSchemaRequest, ExchangeSchemaResponse,
            GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse,
            GetInclusionProofRequest, GetInclusionProofResponse, ReadRequest, ReadResponse, TailRequest,
            append_response::Outcome, refusal::Reason,
        },
        words::{LEADER, PUSHBACK, reason_name},
    },
    world::{LogEvent, World},
};

/// Leaf bytes in one answer to `Read`.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Leaves in one answer to `Read`.
const READ_LEAVES_MAX: u32 = 4096;

/// Proofs of consistency in one answer, besides the first.
const FURTHER_PROOFS_MAX: usize = 256;
/// Room for one of them, in bytes: 40 hashes are enough for a trillion leaves.
const PROOF_BYTES: usize = 40 * 34;

/// Room for an answer beside its leaf, in bytes: a checkpoint and two proofs.
const ANSWER_BYTES: usize = 1536;

/// Milliseconds after which whoever met no leader is to come back.
const ELECTION_MS: std::ops::Range<u64> = 50..250;

/// An answer, and the room that it takes until somebody has taken it.
pub(super) struct Answered {
    pub(super) answer: Result<AppendResponse, Status>,
    room: Option<Held>,
}

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
    ///
    /// With `turns` it is queued when it is its turn instead: unary calls are polled in any order.
    pub(super) async fn answer(self, caller: Caller, request: AppendRequest, turns: Option<Turns>) -> Answered {
        // The answer brings the entry back, inside its leaf.
        let room = self.node.memory().requests.hold(request.entry.len() + ANSWER_BYTES);
        let answer = match room {
            None => {
                mark!("no-room-for-a-call");
                Err(not_appended(self.node.shed()))
            }
            Some(_) => self.append_one(&caller, request, turns).await,
        };
        Answered { answer, room }
    }

    /// Whether there is room for the answer to another entry of so many bytes.
    pub(super) fn has_room(&self, entry_bytes: usize) -> bool {
        self.node.memory().requests.room() >= entry_bytes + ANSWER_BYTES
    }

    /// Whether a stream that waits for `entries` answers to so many bytes leaves enough to others: a quarter of what there
    /// is for one of them.
    pub(super) fn is_fair(&self, bytes: usize, entries: usize) -> bool {
        bytes + entries * ANSWER_BYTES < self.node.memory().requests.limit_len() / 4
    }

    async fn append_one(
        &self,
        caller: &Caller,
        request: AppendRequest,
        turns: Option<Turns>,
    ) -> Result<AppendResponse, Status> {
        let entry = match self.admit(caller, request.entry) {
            Ok(entry) => entry,
            Err((sequence, refusal)) => {
                // Of refusals that follow from the log the node tells.
                let (client, reason) = (caller.name.to_string(), reason_name(refusal.reason).to_owned());
                self.world.tell(LogEvent::EntryRefused { client, sequence, reason });
                turns.inspect(|turns| turns.pass(sequence));
                return Ok(refused(sequence, refusal));
            }
        };
        let (epoch, sequence) = (entry.entry().epoch, entry.entry().sequence.0);
        let client = entry.entry().client.clone();
        let appending = self.node.append(entry);
        let appended = match turns {
            Some(turns) => turns.take((epoch, sequence), || self.node.expects(&client, epoch), appending).await,
            None => appending.await,
        };
        let (index, repeated) = match appended.map_err(not_appended)? {
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

/// What the service answers, in the messages that all revisions share.
impl Service {
    async fn read(&self, request: ReadRequest) -> Result<(ReadResponse, Held), Status> {
        let ReadRequest { start, limit, freshness } = request;
        // Asked once, and before the leaves are read: it is never ahead of what the reader can get.
        let bound = bounds::kept(&self.node, freshness).await?;
        let size = bound.size;
        within(start, size)?;
        if start == size
            && let Some(damaged) = damaged(&self.node)
        {
            return Err(damaged);
        }
        let limit = if limit == 0 { READ_LEAVES_MAX } else { limit.min(READ_LEAVES_MAX) };
        // A quarter of what there is for all answers at once, so that one reader never takes it all.
        let requests = &self.node.memory().requests;
        let bytes = READ_BYTES_MAX.min(requests.limit_len() / 4);
        let Some(room) = requests.hold(bytes) else { return Err(not_appended(self.node.shed())) };
        let leaves = match start < size {
            true => self.node.read(start, limit, bytes).await.map_err(|why| not_answered(&why))?,
            false => Vec::new(),
        };
        Ok((ReadResponse { start, leaves, size, bound: Some(bound) }, room))
    }

    async fn checkpoint(&self, request: GetCheckpointRequest) -> Result<GetCheckpointResponse, Status> {
        // Before the checkpoint is looked at, which is then of so many leaves or more.
        let bound = Some(bounds::kept(&self.node, request.freshness).await?);
        let signed = self.node.checkpoint().ok_or_else(|| Status::unavailable("no checkpoint is signed yet"))?;
        Ok(GetCheckpointResponse { checkpoint: signed.note, bound })
    }

    fn inclusion_proof(&self, request: GetInclusionProofRequest) -> Result<GetInclusionProofResponse, Status> {
        let GetInclusionProofRequest { index, tree_size } = request;
        if index >= tree_size {
            return Err(Status::invalid_argument(format!("index {index} is not in a tree of {tree_size} leaves")));
        }
        within(tree_size, self.node.committed())?;
        let proof = self.node.inclusion(index, tree_size).ok_or_else(no_proof)?;
        Ok(GetInclusionProofResponse { hashes: hashes(&proof) })
    }

    /// One proof after the other, each from the size before. Those beyond a bound are left to the next call.
    fn consistency_proof(
        &self,
        request: GetConsistencyProofRequest,
    ) -> Result<(GetConsistencyProofResponse, Held), Status> {
        let GetConsistencyProofRequest { old_size, new_size, further_sizes } = request;
        let hashes = self.link(old_size, new_size)?;
        let wanted = &further_sizes[..further_sizes.len().min(FURTHER_PROOFS_MAX)];
        // As much as an answer of this call can take, so that many of them at once are refused and not held.
        let Some(room) = self.node.memory().requests.hold(wanted.len() * PROOF_BYTES) else {
            return Err(not_appended(self.node.shed()));
        };
        let from = std::iter::once(&new_size).chain(wanted);
        let further = from.zip(wanted).map(|(old, new)| Ok(ConsistencyProof { hashes: self.link(*old, *new)? }));
        let further = further.collect::<Result<_, Status>>()?;
        Ok((GetConsistencyProofResponse { hashes, further }, room))
    }

    fn link(&self, old_size: u64, new_size: u64) -> Result<Vec<Bytes>, Status> {
        if old_size > new_size {
            return Err(Status::invalid_argument(format!("old size {old_size} is larger than new size {new_size}")));
        }
        within(new_size, self.node.committed())?;
        Ok(hashes(&self.node.consistency(old_size, new_size).ok_or_else(no_proof)?))
    }
}

/// The service in the messages of one revision; `reads` are those about reading, where they are not `current`'s.
macro_rules! speak {
    ($revision:path, reads: $reads:path) => {
        const _: () = {
            use $reads as reads;
            use $revision as revision;

            type Answers = Pin<Box<dyn Stream<Item = Result<revision::AppendResponse, Status>> + Send>>;
            type Leaves = Pin<Box<dyn Stream<Item = Result<reads::TailResponse, Status>> + Send>>;

            #[tonic::async_trait]
            impl revision::audit_log_server::AuditLog for Service {
                type AppendStreamStream = Answers;
                type TailStream = Leaves;

                async fn append(
                    &self,
                    request: Request<revision::AppendRequest>,
                ) -> Result<Response<revision::AppendResponse>, Status> {
                    let caller = caller(&request)?;
                    let (request, turns) = (request.into_inner().into(), Some(caller.turns.clone()));
                    let Answered { answer, room } = self.clone().answer(caller, request, turns).await;
                    Ok(with_room(answer?.into(), room))
                }

                async fn append_stream(
                    &self,
                    request: Request<Streaming<revision::AppendRequest>>,
                ) -> Result<Response<Answers>, Status> {
                    let caller = caller(&request)?;
                    let entries = Box::pin(request.into_inner().map(|request| request.map(Into::into)));
                    let answers = append_stream::answers(self.clone(), caller, entries, self.stream_idle);
                    Ok(Response::new(Box::pin(answers.map(|answer| answer.map(Into::into)))))
                }

                async fn read(
                    &self,
                    request: Request<reads::ReadRequest>,
                ) -> Result<Response<reads::ReadResponse>, Status> {
                    let (answer, room) = Service::read(self, request.into_inner().into()).await?;
                    Ok(with_room(answer.into(), Some(room)))
                }

                async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Leaves>, Status> {
                    let caller = caller(&request)?;
                    let leaves = tail::leaves(self.node.clone(), caller, request.into_inner().start);
                    Ok(Response::new(Box::pin(leaves.map(|leaf| leaf.map(Into::into)))))
                }

                async fn get_checkpoint(
                    &self,
                    request: Request<reads::GetCheckpointRequest>,
                ) -> Result<Response<reads::GetCheckpointResponse>, Status> {
                    let answer = self.checkpoint(request.into_inner().into()).await?;
                    Ok(Response::new(answer.into()))
                }

                async fn get_inclusion_proof(
                    &self,
                    request: Request<GetInclusionProofRequest>,
                ) -> Result<Response<GetInclusionProofResponse>, Status> {
                    self.inclusion_proof(request.into_inner()).map(Response::new)
                }

                async fn get_consistency_proof(
                    &self,
                    request: Request<reads::GetConsistencyProofRequest>,
                ) -> Result<Response<reads::GetConsistencyProofResponse>, Status> {
                    let (answer, room) = self.consistency_proof(request.into_inner().into())?;
                    Ok(with_room(answer.into(), Some(room)))
                }

                async fn exchange_schema(
                    &self,
                    request: Request<ExchangeSchemaRequest>,
                ) -> Result<Response<ExchangeSchemaResponse>, Status> {
                    // The answer shows the descriptors of this side, as the request does those of the other.
                    let room = self.node.memory().requests.hold(DESCRIPTORS_BYTES_MAX);
                    let Some(room) = room else { return Err(not_appended(self.node.shed())) };
                    let answer = doorkeeper(&request)?.exchange(request.get_ref())?;
                    Ok(with_room(answer, Some(room)))
                }
            }
        };
    };
}

speak!(wire::previous, reads: wire::previous);
speak!(wire, reads: wire);
speak!(wire::next, reads: wire);
speak!(wire::breaking, reads: wire);

/// Who calls. Every request that came in over a connection of this room has one.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("the caller is not known"))
}

/// Who let it in. As for the caller, every request has one.
fn doorkeeper<T>(request: &Request<T>) -> Result<Doorkeeper, Status> {
    request.extensions().get::<Doorkeeper>().cloned().ok_or_else(|| Status::unauthenticated("nobody let this call in"))
}

fn refused(sequence: u64, refusal: Refusal) -> AppendResponse {
    let refusal =
        wire::Refusal { reason: refusal.reason.into(), detail: refusal.detail, expected_sequence: refusal.expected };
    AppendResponse { sequence, outcome: Some(Outcome::Refusal(refusal)) }
}

/// An append without an outcome, or a read that there is no room for.
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
            // An election is over soon. Not all callers should come back at once.
            metadata.insert(PUSHBACK, rand::random_range(ELECTION_MS).into());
            // A member's name is a certificate's DNS name, which is always a value.
            leader.map(|name| name.parse().map(|name| metadata.insert(LEADER, name)));
            Status::with_metadata(Code::Unavailable, said, metadata)
        }
        AppendError::ShuttingDown | AppendError::NoQuorum | AppendError::Damaged(_) => Status::unavailable(said),
        // The process ends now; another one, or this one after its recovery, will know.
        AppendError::Failed(_) => Status::unavailable(said),
    }
}

/// A read or a proof that the node could not give. Nothing is lost by asking again.
pub(super) fn not_answered(error: &NodeError) -> Status {
    tracing::error!(%error, "the node could not answer");
    Status::unavailable("the log cannot be read at the moment; its operator finds the reason in the server's log")
}

/// What readers are told who want more of a log than its damage left.
pub(super) fn damaged(node: &Node) -> Option<Status> {
    let shown = node.committed();
    let said = |why: &str| Status::data_loss(format!("only the first {shown} leaves of this log can be read: {why}"));
    mark!("read-of-a-damaged-log", node.read_only().is_some());
    node.read_only().map(said)
}

/// Refuses a size that the log has not reached.
fn within(size: u64, committed: u64) -> Result<(), Status> {
    if size <= committed {
        return Ok(());
    }
    mark!("read-past-the-end");
    Err(Status::out_of_range(format!("size {size} is past the end: {committed} leaves are committed")))
}

fn no_proof() -> Status {
    Status::out_of_range("the log is not that long")
}

fn hashes(proof: &[Hash]) -> Vec<Bytes> {
    proof.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}
