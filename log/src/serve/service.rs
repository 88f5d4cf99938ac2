//! The wire contract over a node: it checks names and ranges, turns outcomes into messages, and turns failures into
//! [statuses](super::status).

use std::time::Duration;

use bytes::Bytes;
use gapless_world::{LogEvent, World};
use tonic::Status;

use super::{
    bounds,
    caller::Caller,
    status::{damaged, not_answered, not_appended},
    turns::Turns,
};
use crate::{
    budget::Held,
    cluster::{Appended, Node, Refusal},
    leaf::{Body, PAYLOAD_BYTES_MAX, SignedEntry},
    tree::Hash,
    wire::{
        self, AppendRequest, AppendResponse, ConsistencyProof, GetCheckpointRequest, GetCheckpointResponse,
        GetConsistencyProofRequest, GetConsistencyProofResponse, GetInclusionProofRequest, GetInclusionProofResponse,
        ReadRequest, ReadResponse, append_response::Outcome, refusal::Reason,
    },
    words::reason_name,
};

/// Leaf bytes in one response to `Read`.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Leaves in one response to `Read`.
const READ_LEAVES_MAX: u32 = 4096;

/// Consistency proofs in one response, in addition to the first.
const FURTHER_PROOFS_MAX: usize = 256;
/// Room for one of these proofs, in bytes: 40 hashes are enough for a trillion leaves.
const PROOF_BYTES: usize = 40 * 34;

/// Room for a response in addition to its leaf, in bytes: a checkpoint and two proofs.
const ANSWER_BYTES: usize = 1536;

/// A response, and the room that it occupies until it has been taken.
pub(super) struct Answered {
    pub(super) answer: Result<AppendResponse, Status>,
    pub(super) room: Option<Held>,
}

/// The log's gRPC service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) node: Node,
    world: World,
    pub(super) stream_idle: Duration,
}

impl Service {
    pub(super) fn new(node: Node, world: World, stream_idle: Duration) -> Service {
        Service { node, world, stream_idle }
    }

    /// Submits one entry and waits for its outcome. The entry is in the node's queue once this is first polled, so that
    /// callers that poll in order submit in order. If the future is dropped after that, it takes nothing back.
    ///
    /// With `turns`, the entry is queued when it is its turn instead: unary calls are polled in any order.
    pub(super) async fn answer(self, caller: Caller, request: AppendRequest, turns: Option<Turns>) -> Answered {
        // The response brings the entry back, inside its leaf.
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

    /// Returns whether there is room for the response to another entry of this many bytes.
    pub(super) fn has_room(&self, entry_bytes: usize) -> bool {
        self.node.memory().requests.room() >= entry_bytes + ANSWER_BYTES
    }

    /// Returns whether a stream that waits for `entries` responses with this many bytes leaves enough to others: one
    /// stream may take a quarter of all room.
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
                // The node itself reports refusals that depend on the state of the log.
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

    /// Judges what can be judged without the log: the form, the size, and the client's name.
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

/// What the service returns, in the messages that all revisions share.
impl Service {
    pub(super) async fn read(&self, request: ReadRequest) -> Result<(ReadResponse, Held), Status> {
        let ReadRequest { start, limit, freshness } = request;
        // Read once, and before the leaves are read, so that the bound is never ahead of what the reader can get.
        let bound = bounds::kept(&self.node, freshness).await?;
        let size = bound.size;
        within(start, size)?;
        if start == size
            && let Some(damaged) = damaged(&self.node)
        {
            return Err(damaged);
        }
        let limit = if limit == 0 { READ_LEAVES_MAX } else { limit.min(READ_LEAVES_MAX) };
        // A quarter of the room for all responses at once, so that one reader never takes all of it.
        let requests = &self.node.memory().requests;
        let bytes = READ_BYTES_MAX.min(requests.limit_len() / 4);
        let Some(room) = requests.hold(bytes) else { return Err(not_appended(self.node.shed())) };
        let leaves = match start < size {
            true => self.node.read(start, limit, bytes).await.map_err(|why| not_answered(&why))?,
            false => Vec::new(),
        };
        Ok((ReadResponse { start, leaves, size, bound: Some(bound) }, room))
    }

    pub(super) async fn checkpoint(&self, request: GetCheckpointRequest) -> Result<GetCheckpointResponse, Status> {
        // Taken before the checkpoint, which then has at least as many leaves.
        let bound = Some(bounds::kept(&self.node, request.freshness).await?);
        let signed = self.node.checkpoint().ok_or_else(|| Status::unavailable("no checkpoint is signed yet"))?;
        Ok(GetCheckpointResponse { checkpoint: signed.note, bound })
    }

    pub(super) fn inclusion_proof(
        &self,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        let GetInclusionProofRequest { index, tree_size } = request;
        if index >= tree_size {
            return Err(Status::invalid_argument(format!("index {index} is not in a tree of {tree_size} leaves")));
        }
        within(tree_size, self.node.committed())?;
        let proof = self.node.inclusion(index, tree_size).ok_or_else(no_proof)?;
        Ok(GetInclusionProofResponse { hashes: hashes(&proof) })
    }

    /// Returns one proof after the other, each from the size before it. Those beyond a maximum are left to the next
    /// call.
    pub(super) fn consistency_proof(
        &self,
        request: GetConsistencyProofRequest,
    ) -> Result<(GetConsistencyProofResponse, Held), Status> {
        let GetConsistencyProofRequest { old_size, new_size, further_sizes } = request;
        let hashes = self.link(old_size, new_size)?;
        let wanted = &further_sizes[..further_sizes.len().min(FURTHER_PROOFS_MAX)];
        // As much as a response to this call can take, so that too many calls at once are refused and not kept.
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

fn refused(sequence: u64, refusal: Refusal) -> AppendResponse {
    let refusal =
        wire::Refusal { reason: refusal.reason.into(), detail: refusal.detail, expected_sequence: refusal.expected };
    AppendResponse { sequence, outcome: Some(Outcome::Refusal(refusal)) }
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
