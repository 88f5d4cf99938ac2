//! The network between members: Raft's calls over gRPC and mutual TLS.
//!
//! One connection to each other member carries everything. A member is who the certificate says that the membership
//! names for its node, at both ends; a connection ends with its certificates, like that of a client. What stands in
//! the log travels as the frames of the journal; cosigning goes along (`cosign`). Calls end by Raft's own deadlines, and are made again by Raft alone.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, future::ready, stream::once};
use hyper_util::rt::TokioIo;
use openraft::{
    CommittedLeaderId, LogId, Vote,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    super::{
        client::{Deadlines, Server, dial_as},
        cluster_wire::{self as wire, append_response::Outcome, replication_client::ReplicationClient},
        leaf::DecodeError,
        store::{FRAME_BYTES_MAX, Frame},
    },
    ClusterSettings, SignedCheckpoint,
    cosign::{Along, Word},
    ledger::Ledger,
    types::{Member, RaftEntry, TypeConfig, decode_frame, encode_frame},
    vouch::vouch,
};
use crate::world::World;

/// From one attempt to reach a member that cannot be reached to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Another member is on a network of ours: it answers soon, or it is away.
const DEADLINES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));

/// Answers of Raft.
type Answer<T, E = openraft::error::Infallible> = Result<T, RPCError<u64, Member, RaftError<u64, E>>>;

/// The connections to all other members. They are made by the first call, and again whenever they broke.
pub(super) struct Links {
    world: World,
    ledger: Arc<Ledger>,
    /// Per node, for as long as the membership says the same of it.
    channels: Mutex<BTreeMap<u64, (Member, Channel)>>,
    /// When each node last took what this one sent it as leader.
    heard: Mutex<BTreeMap<u64, Instant>>,
    /// What this node shows, and under which name.
    vouch: Mutex<Option<(String, Bytes)>>,
}

impl Links {
    pub(super) fn new(world: World, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self { world, ledger, channels: Mutex::default(), heard: Mutex::default(), vouch: Mutex::default() })
    }

    /// Calls to a member.
    pub(super) fn to(&self, node: u64, member: &Member) -> Result<ReplicationClient<Channel>, NoLink> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.get(&node).is_none_or(|(known, _)| known != member) {
            channels.insert(node, (member.clone(), self.open(node, member)?));
        }
        let channel =
            channels.get(&node).map(|(_, channel)| channel.clone()).ok_or_else(|| NoLink::new(node, member))?;
        Ok(ReplicationClient::new(channel)
            .max_decoding_message_size(FRAME_BYTES_MAX as usize)
            .max_encoding_message_size(FRAME_BYTES_MAX as usize))
    }

    fn open(&self, node: u64, member: &Member) -> Result<Channel, NoLink> {
        let no_link = || NoLink::new(node, member);
        let ClusterSettings { identity, .. } = self.ledger.settings.cluster.as_ref().ok_or_else(no_link)?;
        let endpoint = Endpoint::from_shared(format!("http://{}", member.name)).map_err(|_| no_link())?;
        let endpoint = endpoint
            .http2_keep_alive_interval(DEADLINES.0)
            .keep_alive_timeout(DEADLINES.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let deadlines = Deadlines { connect: DEADLINES.0, ..Deadlines::default() };
        let dial = dial_as(self.world.clone(), identity.clone(), deadlines);
        let server = Server { address: member.address.clone(), tls_name: member.name.clone() };
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let stream = dial(server.clone());
            async move { stream.await.map(TokioIo::new) }
        })))
    }

    /// Since when a node has not answered this one as its leader; `None` where it never has.
    pub(super) fn silent_for(&self, node: u64) -> Option<Duration> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&node).map(Instant::elapsed)
    }

    fn heard(&self, node: u64) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(node, Instant::now());
    }

    /// From this node to that one.
    pub(super) fn route(&self, to: u64, member: &Member) -> wire::Route {
        let settings = &self.ledger.settings;
        wire::Route {
            log_id: settings.log_id.to_vec().into(),
            from: settings.node,
            to,
            vouch: self.vouch(),
            to_cosigner: member.known_cosigner().map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default(),
        }
    }

    /// What this node shows to members whose log does not name it; empty as long as its own does not either, for it
    /// calls nobody then.
    fn vouch(&self) -> Bytes {
        let Some(name) = self.ledger.name_of(self.ledger.settings.node) else { return Bytes::new() };
        let mut made = self.vouch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, vouch)) if *of == name => vouch.clone(),
            _ => {
                let fresh = vouch(&self.ledger.settings, &name);
                *made = Some((name, fresh.clone()));
                fresh
            }
        }
    }
}

/// A member that cannot be called.
#[derive(Debug, thiserror::Error)]
#[error("node {node} (`{name}`) has no address that can be called")]
pub(super) struct NoLink {
    node: u64,
    name: String,
}

impl NoLink {
    fn new(node: u64, member: &Member) -> Self {
        Self { node, name: member.name.clone() }
    }
}

/// Makes Raft's connections.
pub(super) struct Network {
    pub(super) links: Arc<Links>,
    /// What goes along with their calls.
    pub(super) word: Word,
}

/// Raft's calls to one member.
pub(super) struct Peer {
    links: Arc<Links>,
    node: u64,
    member: Member,
    word: Word,
    /// Between two calls; none while one is under way, so that a call which was given up takes its stream with it.
    appends: Option<Appends>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        let (links, word) = (self.links.clone(), self.word.clone());
        Peer { links, node: target, member: node.clone(), word, appends: None }
    }
}

impl Peer {
    fn client(&self) -> Result<ReplicationClient<Channel>, Unreachable> {
        self.links.to(self.node, &self.member).map_err(|why| Unreachable::new(&why))
    }

    /// AppendEntries, over the stream of the last one where that is still there.
    async fn append(&mut self, request: wire::AppendRequest) -> Answer<wire::AppendResponse> {
        let answered = match self.appends.take() {
            Some(mut appends) => appends.call(request).await.map(|answer| (answer, appends)),
            None => Appends::begin(self.client()?, request).await,
        };
        let (answer, appends) = answered.map_err(|status| failed(&status))?;
        self.appends = Some(appends);
        Ok(answer)
    }

    /// The leader's word that goes along with a call. One that only tells of a commit waits for the checkpoint over it,
    /// which is signed at this moment: it saves a call.
    async fn along(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Along {
        if let Some(committed) = request.leader_commit.filter(|_| request.entries.is_empty()) {
            self.word.wait_for(self.links.ledger.end(committed.index).unwrap_or_default()).await;
        }
        let votes = self.links.ledger.with_membership(|members| members.voter_ids().any(|voter| voter == self.node));
        self.word.along(votes)
    }

    /// The entries as frames. A leader's own log never shrinks, so every entry that it sends has its place there.
    fn frames(&self, entries: &[RaftEntry]) -> Vec<wire::Frame> {
        let frame = |entry: &RaftEntry| {
            let first_leaf = self.links.ledger.begin(entry.log_id.index).unwrap_or_default();
            encode_frame(entry, first_leaf).into()
        };
        entries.iter().map(frame).collect()
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        let term = request.vote.leader_id.term;
        let along = self.along(&request).await;
        let note = |signed: &Option<SignedCheckpoint>| signed.as_ref().map(|it| it.note.clone()).unwrap_or_default();
        let message = wire::AppendRequest {
            route: Some(self.links.route(self.node, &self.member)),
            vote: Some(request.vote.into()),
            previous: request.prev_log_id.map(Into::into),
            frames: self.frames(&request.entries),
            committed: request.leader_commit.map(Into::into),
            checkpoint: note(&along.round),
            published: note(&along.published),
            fresh: self.links.ledger.word(self.node, term),
        };
        let sent = Instant::now();
        let late = || failed(&Status::deadline_exceeded("no answer in time"));
        let answer = timeout(option.hard_ttl(), self.append(message)).await.map_err(|_| late())??;
        self.links.heard(self.node);
        let wire::AppendResponse { outcome, matching, vote, cosignature, shown, stamp } = answer;
        self.word.answered(self.node, along, cosignature, shown).await;
        if matches!(Outcome::try_from(outcome), Ok(Outcome::Stored | Outcome::Partly | Outcome::Conflict)) {
            self.links.ledger.freshness.answered(self.node, term, sent, stamp);
        }
        Ok(match Outcome::try_from(outcome) {
            Ok(Outcome::Stored) => AppendEntriesResponse::Success,
            Ok(Outcome::Partly) => AppendEntriesResponse::PartialSuccess(matching.map(Into::into)),
            Ok(Outcome::Conflict) => AppendEntriesResponse::Conflict,
            Ok(Outcome::HigherVote) => AppendEntriesResponse::HigherVote(vote.unwrap_or_default().into()),
            _ => return Err(failed(&Status::internal("an answer without an outcome"))),
        })
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        let why = Status::unimplemented("an audit log has no snapshots: it keeps every entry");
        Err(Unreachable::new(&why).into())
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Answer<VoteResponse<u64>> {
        let message = wire::VoteRequest {
            route: Some(self.links.route(self.node, &self.member)),
            vote: Some(request.vote.into()),
            last: request.last_log_id.map(Into::into),
        };
        let answer = self.client()?.vote(within(message, option)).await.map_err(|status| failed(&status))?;
        let wire::VoteResponse { vote, granted, last } = answer.into_inner();
        Ok(VoteResponse::new(Vote::from(vote.unwrap_or_default()), last.map(Into::into), granted))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

/// A stream of AppendEntries to one member. Each request has its answer before the next one goes.
struct Appends {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: Streaming<wire::AppendResponse>,
}

impl Appends {
    /// The first request goes with the call itself, so beginning costs no way of its own.
    async fn begin(
        mut client: ReplicationClient<Channel>,
        first: wire::AppendRequest,
    ) -> Result<(wire::AppendResponse, Appends), Status> {
        let (requests, sent) = mpsc::channel(1);
        let answers = client.append(once(ready(first)).chain(ReceiverStream::new(sent))).await?.into_inner();
        let mut appends = Appends { requests, answers };
        Ok((appends.answer().await?, appends))
    }

    async fn call(&mut self, request: wire::AppendRequest) -> Result<wire::AppendResponse, Status> {
        // Where nobody takes it the stream has ended, and its end says why.
        self.requests.send(request).await.ok();
        self.answer().await
    }

    async fn answer(&mut self) -> Result<wire::AppendResponse, Status> {
        self.answers.message().await?.ok_or_else(|| Status::unavailable("the member ended the stream"))
    }
}

/// A call with Raft's deadline.
fn within<T>(message: T, option: RPCOption) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(option.hard_ttl());
    request
}

/// A member that is away is left alone for a moment; anything else is tried again.
fn failed<E: Error>(status: &Status) -> RPCError<u64, Member, RaftError<u64, E>> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::FailedPrecondition => Unreachable::new(status).into(),
        _ => NetworkError::new(status).into(),
    }
}

/// The entries of a call, from the frames in which they came.
pub(super) fn entries(frames: Vec<wire::Frame>) -> Result<Vec<RaftEntry>, DecodeError> {
    frames.into_iter().map(|frame| decode_frame(&frame.into()).map(|(entry, _)| entry)).collect()
}

impl From<wire::Frame> for Frame {
    fn from(frame: wire::Frame) -> Self {
        let wire::Frame { index, term, kind, body } = frame;
        // A kind beyond a byte is as unknown as the largest one.
        Self { index, term, kind: u8::try_from(kind).unwrap_or(u8::MAX), body }
    }
}

impl From<Frame> for wire::Frame {
    fn from(frame: Frame) -> Self {
        let Frame { index, term, kind, body } = frame;
        Self { index, term, kind: kind.into(), body }
    }
}

impl From<Vote<u64>> for wire::Ballot {
    fn from(vote: Vote<u64>) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<wire::Ballot> for Vote<u64> {
    fn from(ballot: wire::Ballot) -> Self {
        match ballot.committed {
            true => Vote::new_committed(ballot.term, ballot.node),
            false => Vote::new(ballot.term, ballot.node),
        }
    }
}

impl From<LogId<u64>> for wire::LogId {
    fn from(id: LogId<u64>) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<wire::LogId> for LogId<u64> {
    fn from(id: wire::LogId) -> Self {
        LogId::new(CommittedLeaderId::new(id.term, id.node), id.index)
    }
}
