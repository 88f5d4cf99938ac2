//! The network between members: Raft's calls over gRPC and mutual TLS.
//!
//! One connection to each other member carries everything. A member is who the certificate says that the membership
//! names for its node, at both ends; a connection ends with its certificates, like that of a client. What stands in
//! the log travels as the frames of the journal; cosigning goes along (`cosign`). Calls end by Raft's own deadlines, and are made again by Raft alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
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
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Request, Status,
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
    distance::Distances,
    ledger::{Ledger, is_quorum},
    line::{Line, Watch},
    types::{Member, Membership, RaftEntry, TypeConfig, decode_frame, encode_frame},
    vouch::vouch,
};
use crate::world::World;

/// From one attempt to reach a member that cannot be reached to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection from which nothing came for so long is asked for a sign of life, and is given up where none comes. On one
/// that carries data something comes all the time, however thin the line.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// Answers of Raft.
type Answer<T, E = openraft::error::Infallible> = Result<T, RPCError<u64, Member, RaftError<u64, E>>>;

/// The connections to all other members. They are made by the first call, and again whenever they broke.
pub(super) struct Links {
    world: World,
    ledger: Arc<Ledger>,
    /// Per node, for as long as the membership says the same of it.
    channels: Mutex<BTreeMap<u64, (Member, Channel)>>,
    /// When each node last answered what this one sent it as leader.
    heard: Mutex<BTreeMap<u64, Instant>>,
    /// How far away each node is.
    distances: Arc<Distances>,
    /// What this node shows, and under which name.
    vouch: Mutex<Option<(String, Bytes)>>,
}

impl Links {
    pub(super) fn new(world: World, ledger: Arc<Ledger>) -> Arc<Self> {
        let (channels, heard, vouch) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { world, ledger, channels, heard, distances: Arc::default(), vouch })
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
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let server = Server { address: member.address.clone(), tls_name: member.name.clone() };
        let (world, identity, distances) = (self.world.clone(), identity.clone(), self.distances.clone());
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let deadlines = Deadlines { connect: distances.patience(node), ..Deadlines::default() };
            let stream = dial_as(world.clone(), identity.clone(), deadlines)(server.clone());
            let (begun, distances) = (Instant::now(), distances.clone());
            async move {
                let stream = stream.await;
                match &stream {
                    // The connect takes one round trip, the handshake another.
                    Ok(_) => distances.round_trip(node, begun.elapsed() / 2),
                    Err(why) if why.kind() == io::ErrorKind::TimedOut => distances.silent(node),
                    Err(_) => {}
                }
                stream.map(TokioIo::new)
            }
        })))
    }

    pub(super) fn distances(&self) -> &Distances {
        &self.distances
    }

    /// How long a node may say nothing before a call to it is given up.
    fn patience(&self, node: u64) -> Duration {
        self.distances.patience(node)
    }

    /// A node has said nothing in time. Its connection may be dead without knowing it: the next call makes another one.
    fn gave_up(&self, node: u64) {
        self.distances.silent(node);
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// Asks a node for its vote, or how it would vote.
    pub(super) async fn ask_for_vote(
        &self,
        node: u64,
        member: &Member,
        vote: Vote<u64>,
        last: Option<LogId<u64>>,
        trial: bool,
    ) -> Result<wire::VoteResponse, Status> {
        let route = Some(self.route(node, member));
        let request = wire::VoteRequest { route, vote: Some(vote.into()), last: last.map(Into::into), trial };
        let mut peer = self.to(node, member).map_err(|why| Status::unavailable(why.to_string()))?;
        // Connecting takes as long as it may, and so does the answer, which waits for a disk.
        let patience = self.patience(node) * 2;
        let mut request = Request::new(request);
        request.set_timeout(patience);
        let begun = Instant::now();
        match timeout(patience, peer.vote(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                self.gave_up(node);
                Err(Status::deadline_exceeded(format!("no answer within {} ms", begun.elapsed().as_millis())))
            }
        }
    }

    /// Whether a quorum of these members, this node among them, has answered it as its leader within this time.
    pub(super) fn is_heard(&self, membership: &Membership, within: Duration) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = heard.iter().filter(|(_, at)| at.elapsed() <= within).map(|(node, _)| *node);
        is_quorum(membership, &lately.chain([self.ledger.settings.node]).collect::<BTreeSet<u64>>())
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
    line: Option<Line>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        let (links, word) = (self.links.clone(), self.word.clone());
        Peer { links, node: target, member: node.clone(), word, line: None }
    }
}

impl Peer {
    /// AppendEntries, over the stream of the last one where that is still there.
    async fn append(&mut self, request: wire::AppendRequest) -> Answer<wire::AppendResponse> {
        let Peer { links, node, member, line, .. } = self;
        let watch = Watch { patience: links.patience(*node), heard: || links.heard(*node) };
        // What carries nothing is answered at once: that shows how far the member is.
        let (begun, empty) = (Instant::now(), request.frames.is_empty());
        let answered = match line.take() {
            Some(open) => {
                let answered = open.call(request, watch).await;
                if empty && answered.is_ok() {
                    links.distances.round_trip(*node, begun.elapsed());
                }
                answered
            }
            None => Line::begin(links.to(*node, member).map_err(|why| Unreachable::new(&why))?, request, watch).await,
        };
        let (answer, open) = answered.map_err(|status| {
            if status.code() == Code::DeadlineExceeded {
                links.gave_up(*node);
            }
            failed(&status)
        })?;
        *line = Some(open);
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
        _option: RPCOption,
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
            ..Default::default()
        };
        let sent = Instant::now();
        let answer = self.append(message).await?;
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

    async fn vote(&mut self, request: VoteRequest<u64>, _option: RPCOption) -> Answer<VoteResponse<u64>> {
        let VoteRequest { vote, last_log_id } = request;
        let answer = self.links.ask_for_vote(self.node, &self.member, vote, last_log_id, false).await;
        let wire::VoteResponse { vote, granted, last } = answer.map_err(|status| failed(&status))?;
        Ok(VoteResponse::new(Vote::from(vote.unwrap_or_default()), last.map(Into::into), granted))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

/// A member that is away is left alone for a moment; anything else is tried again.
fn failed<E: Error>(status: &Status) -> RPCError<u64, Member, RaftError<u64, E>> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::FailedPrecondition | Code::DeadlineExceeded => {
            Unreachable::new(status).into()
        }
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
