//! A log in memory behind the real wire contract. It can lose answers, refuse, lie and hang, as a test tells it to.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, ready};
use http_body::Frame;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, body};

use crate::{
    leaf::{Body, Content, Leaf, SignedEntry},
    note::{Checkpoint, NoteKey, SigningKey},
    tree::{Hash, Tree, leaf_hash},
    wire::{audit_log_server::AuditLog, *},
};

pub(super) const ORIGIN: &str = "log.example";

/// What happens to one append.
pub(super) enum Fault {
    /// Nothing.
    Pass,
    /// Answered with a status, nothing appended.
    Fail(Status),
    /// Appended; the answer is lost.
    LoseAnswer,
    /// Refused, nothing appended.
    Refuse(refusal::Reason, u64),
    /// Never answered, nothing appended.
    Hang,
}

/// How a unary append is answered.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// After this delay.
    Late(Duration),
    /// At once, but the answer never ends.
    Unended,
}

/// Stands in the extensions of an answer whose end is never sent.
#[derive(Clone, Copy)]
struct NeverEnds;

type Tamper = Arc<dyn Fn(&mut AppendResponse) + Send + Sync>;

/// Digest and index of each sequence.
type Session = Vec<([u8; 32], u64)>;

pub(super) struct State {
    pub(super) key: SigningKey,
    pub(super) leaves: Vec<Bytes>,
    tree: Tree,
    /// The sessions, by client and epoch.
    sessions: BTreeMap<(String, u64), Session>,
    /// Taken in order, one per append.
    pub(super) faults: VecDeque<Fault>,
    /// Taken in order, one per unary append.
    pub(super) manners: VecDeque<Manner>,
    /// Changes every answer.
    pub(super) tamper: Option<Tamper>,
    /// Always refuses events with these payloads.
    pub(super) refuses: Vec<(Bytes, refusal::Reason)>,
    /// Sequences in the order in which they arrived.
    pub(super) arrived: Vec<u64>,
    /// Whether entries that come before their turn are placed in the log all the same, and answered from there later.
    pub(super) misplaces: bool,
    early: BTreeMap<(String, u64, u64), u64>,
    /// How many proofs of consistency are refused, as by a server that has just restarted.
    pub(super) proofs_refused: u32,
    /// The most proofs of consistency in one answer besides the first; 0 for a server of an earlier revision.
    pub(super) proofs_further_max: usize,
    /// How long each answer with such proofs takes.
    pub(super) proof_takes: Duration,
    /// The most leaves that one read returns.
    pub(super) reads_max: u32,
    /// The leaf that a tail skips.
    pub(super) tail_skips: Option<u64>,
    /// The number of leaves after which a tail ends.
    pub(super) tail_leaves_max: Option<usize>,
    /// The age that the log states; `None` for a server that does not know of bounds.
    pub(super) age_ms: Option<u64>,
    /// Whether the log says in its answers that it was confirmed as the leader.
    pub(super) linearizable: bool,
    /// Whether a tail gives nothing.
    pub(super) tail_hangs: bool,
    /// The statuses with which the next requests for a checkpoint are answered, in order.
    pub(super) turned_away: VecDeque<Status>,
}

/// Clones are the same log.
#[derive(Clone)]
pub(super) struct FakeLog {
    state: Arc<Mutex<State>>,
    size: watch::Sender<u64>,
}

impl FakeLog {
    pub(super) fn new() -> FakeLog {
        let state = State {
            key: SigningKey::from_seed(&[7; 32]),
            leaves: Vec::new(),
            tree: Tree::default(),
            sessions: BTreeMap::new(),
            faults: VecDeque::new(),
            manners: VecDeque::new(),
            tamper: None,
            refuses: Vec::new(),
            arrived: Vec::new(),
            misplaces: false,
            early: BTreeMap::new(),
            proofs_refused: 0,
            proofs_further_max: usize::MAX,
            proof_takes: Duration::ZERO,
            reads_max: 3,
            tail_skips: None,
            tail_leaves_max: None,
            age_ms: None,
            linearizable: false,
            tail_hangs: false,
            turned_away: VecDeque::new(),
        };
        FakeLog { state: Arc::new(Mutex::new(state)), size: watch::Sender::new(0) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn note_key(&self) -> NoteKey {
        NoteKey { name: ORIGIN.to_owned(), key: self.state().key.verifying_key() }
    }

    pub(super) fn tamper(&self, tamper: impl Fn(&mut AppendResponse) + Send + Sync + 'static) {
        self.state().tamper = Some(Arc::new(tamper));
    }

    /// Returns all entries, in the order of the log.
    pub(super) fn entries(&self) -> Vec<SignedEntry> {
        let entry = |leaf: &Bytes| match Leaf::decode(leaf.clone()).unwrap().content {
            Content::Entry(entry) => Some(entry),
            _ => None,
        };
        self.state().leaves.iter().filter_map(entry).collect()
    }

    /// Returns the payloads of all events, in the order of the log.
    pub(super) fn payloads(&self) -> Vec<Bytes> {
        let payload = |entry: &SignedEntry| match &entry.entry().body {
            Body::Event(payload) => Some(payload.clone()),
            _ => None,
        };
        self.entries().iter().filter_map(payload).collect()
    }

    /// Forgets everything, like a log that was wiped or rolled back.
    pub(super) fn wipe(&self) {
        let mut state = self.state();
        state.leaves.clear();
        state.tree = Tree::default();
        state.sessions.clear();
    }

    /// Forgets its newest leaves but not its clients, like a log that was restored from an older copy.
    pub(super) fn roll_back(&self, leaves: u64) {
        let mut state = self.state();
        state.leaves.truncate(leaves as usize);
        state.tree.truncate(leaves);
    }

    /// Adds a leaf that no client wrote.
    pub(super) fn lead(&self, node: u64) {
        self.state().push(Content::LeaderStarted { node });
        self.size.send_modify(|size| *size += 1);
    }

    /// Handles one append. Returns `None` if it is never answered.
    fn take(&self, request: &AppendRequest) -> Option<Result<AppendResponse, Status>> {
        let mut state = self.state();
        let entry = match SignedEntry::decode(request.entry.clone()) {
            Ok(entry) => entry,
            Err(why) => return Some(Err(Status::invalid_argument(why.to_string()))),
        };
        let sequence = entry.entry().sequence.0;
        state.arrived.push(sequence);
        let fault = state.faults.pop_front().unwrap_or(Fault::Pass);
        let outcome = match fault {
            Fault::Fail(status) => return Some(Err(status)),
            Fault::Hang => return None,
            Fault::Refuse(reason, expected) => refused(reason, expected),
            Fault::Pass | Fault::LoseAnswer => state.append(&entry, request.known_size),
        };
        self.size.send_replace(state.leaves.len() as u64);
        if matches!(fault, Fault::LoseAnswer) {
            return Some(Err(Status::unavailable("the answer was lost")));
        }
        let mut answer = AppendResponse { sequence, outcome: Some(outcome) };
        if let Some(tamper) = state.tamper.clone() {
            tamper(&mut answer);
        }
        Some(Ok(answer))
    }
}

fn refused(reason: refusal::Reason, expected_sequence: u64) -> append_response::Outcome {
    let detail = "as the test says".to_owned();
    append_response::Outcome::Refusal(Refusal { reason: reason.into(), detail, expected_sequence })
}

impl State {
    fn push(&mut self, content: Content) -> u64 {
        let raft_index = self.leaves.len() as u64;
        let leaf = Leaf { term: 1, raft_index, position: 0, content }.encode();
        self.tree.push(leaf_hash(&leaf));
        self.leaves.push(leaf);
        raft_index
    }

    fn append(&mut self, entry: &SignedEntry, known_size: u64) -> append_response::Outcome {
        let said = entry.entry();
        if let Body::Event(payload) = &said.body
            && let Some((_, reason)) = self.refuses.iter().find(|(refused, _)| refused == payload)
        {
            return refused(*reason, 0);
        }
        let key = (said.client.as_str().to_owned(), said.epoch.0);
        let session = self.sessions.entry(key.clone()).or_default();
        let (expected, sequence) = (session.len() as u64, said.sequence.0);
        if sequence > expected {
            let early = (key.0, key.1, sequence);
            if self.misplaces && !self.early.contains_key(&early) {
                let index = self.push(Content::Entry(entry.clone()));
                self.early.insert(early, index);
            }
            return refused(refusal::Reason::SequenceGap, expected);
        }
        let (index, repeated) = match session.get(sequence as usize) {
            Some((digest, index)) if *digest == entry.digest() => (*index, true),
            Some(_) => return refused(refusal::Reason::SequenceReused, expected),
            None => {
                let early = self.early.get(&(key.0.clone(), key.1, sequence)).copied();
                let index = early.unwrap_or_else(|| self.push(Content::Entry(entry.clone())));
                self.sessions.entry(key).or_default().push((entry.digest(), index));
                (index, false)
            }
        };
        append_response::Outcome::Receipt(self.receipt(index, known_size, repeated))
    }

    fn bound(&self, size: u64) -> Option<Bound> {
        let linearizable = self.linearizable;
        self.age_ms.map(|age_ms| Bound { size, age_ms: Some(age_ms), linearizable })
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let size = self.tree.size();
        Checkpoint { origin: ORIGIN.to_owned(), size, root: self.tree.root_at(size).unwrap() }
    }

    fn receipt(&self, index: u64, known_size: u64, repeated: bool) -> Receipt {
        let size = self.tree.size();
        Receipt {
            index,
            leaf: self.leaves[index as usize].clone(),
            checkpoint: self.checkpoint().sign(&self.key),
            inclusion: on_wire(self.tree.inclusion(index, size)),
            consistency: on_wire(self.tree.consistency(known_size, size)),
            repeated,
        }
    }
}

fn on_wire(proof: Option<Vec<Hash>>) -> Vec<Bytes> {
    proof.unwrap_or_default().iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AuditLog for FakeLog {
    type AppendStreamStream = Answers<AppendResponse>;
    type TailStream = Answers<TailResponse>;

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let manner = self.state().manners.pop_front();
        let Some(answer) = self.take(request.get_ref()) else { return std::future::pending().await };
        let mut answer = Response::new(answer?);
        match manner {
            Some(Manner::Late(by)) => tokio::time::sleep(by).await,
            Some(Manner::Unended) => _ = answer.extensions_mut().insert(NeverEnds),
            None => {}
        }
        Ok(answer)
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (log, mut entries) = (self.clone(), request.into_inner());
        let (answers, stream) = mpsc::channel(256);
        tokio::spawn(async move {
            while let Some(Ok(request)) = entries.next().await {
                let Some(answer) = log.take(&request) else { return std::future::pending().await };
                let failed = answer.is_err();
                if answers.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let ReadRequest { start, limit, .. } = request.into_inner();
        let state = self.state();
        let most = if limit == 0 { state.reads_max } else { limit.min(state.reads_max) } as usize;
        let leaves = state.leaves.iter().skip(start as usize).take(most).cloned().collect();
        let size = state.leaves.len() as u64;
        Ok(Response::new(ReadResponse { start, leaves, size, bound: state.bound(size) }))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let mut next = request.into_inner().start;
        let (log, mut sizes) = (self.clone(), self.size.subscribe());
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut left = log.state().tail_leaves_max.unwrap_or(usize::MAX);
            loop {
                let found = {
                    let state = log.state();
                    state.leaves.get(next as usize).cloned().filter(|_| !state.tail_hangs)
                };
                let Some(leaf) = found else {
                    let _ = sizes.changed().await;
                    continue;
                };
                let skipped = log.state().tail_skips == Some(next);
                log.state().tail_skips.take_if(|_| skipped);
                if !skipped && answers.send(Ok(TailResponse { index: next, leaf, bound: None })).await.is_err() {
                    return;
                }
                next += 1;
                left -= 1;
                if left == 0 {
                    let _ = answers.send(Err(Status::unavailable("restarting"))).await;
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    /// This log is from before there was an exchange of schemas.
    async fn exchange_schema(
        &self,
        _: Request<ExchangeSchemaRequest>,
    ) -> Result<Response<ExchangeSchemaResponse>, Status> {
        Err(Status::unimplemented("no such method"))
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let mut state = self.state();
        if let Some(status) = state.turned_away.pop_front() {
            return Err(status);
        }
        let checkpoint = state.checkpoint();
        let bound = state.bound(checkpoint.size);
        Ok(Response::new(GetCheckpointResponse { checkpoint: checkpoint.sign(&state.key), bound }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let GetInclusionProofRequest { index, tree_size } = request.into_inner();
        let proof = self.state().tree.inclusion(index, tree_size);
        Ok(Response::new(GetInclusionProofResponse { hashes: on_wire(proof) }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let GetConsistencyProofRequest { old_size, new_size, further_sizes } = request.into_inner();
        let takes = self.state().proof_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.state();
        if state.proofs_refused > 0 {
            state.proofs_refused -= 1;
            return Err(Status::out_of_range("not that far yet"));
        }
        let hashes = on_wire(state.tree.consistency(old_size, new_size));
        let steps = std::iter::once(&new_size).chain(&further_sizes).zip(&further_sizes).take(state.proofs_further_max);
        let proof = |(old, new): (&u64, &u64)| ConsistencyProof { hashes: on_wire(state.tree.consistency(*old, *new)) };
        Ok(Response::new(GetConsistencyProofResponse { hashes, further: steps.map(proof).collect() }))
    }
}

/// Withholds the end of an answer that is to have none.
pub(super) fn withhold_end(response: http::Response<body::Body>) -> http::Response<body::Body> {
    match response.extensions().get() {
        Some(NeverEnds) => response.map(|body| body::Body::new(Endless(body))),
        None => response,
    }
}

struct Endless(body::Body);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
            _ => Poll::Pending,
        }
    }
}
