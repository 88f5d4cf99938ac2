//! The connections between members: gRPC and mutual TLS.
//!
//! One connection to each other member carries everything. At both ends, a member is identified by its certificate,
//! which must hold the name that the membership has for its node; a connection ends with its certificates, like that of
//! a client. Log entries travel as frames of the journal, and cosigning goes along with them (`cosign`). A call ends
//! when the member has been silent for too long for its distance (`distance`), and only Raft repeats it (`peer`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{Server, World};
use hyper_util::rt::TokioIo;
use openraft::{CommittedLeaderId, LogId, Vote};
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    super::{
        cluster_wire::{self as wire, replication_client::ReplicationClient},
        dial::dial_as,
        leaf::DecodeError,
        store::{FRAME_BYTES_MAX, Frame},
    },
    ClusterSettings,
    distance::Distances,
    ledger::Ledger,
    quorum::is_quorum,
    sum::Summed as _,
    types::{Member, Membership, RaftEntry, decode_frame},
    vouch::vouch,
};

/// The pause between two attempts to reach a member that cannot be reached.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// A connection from which nothing came for the first time span is asked for a sign of life, and is given up if none
/// comes within the second. On a connection that carries data something comes all the time, however thin the line.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// A vote for this node, and where the voter's log ended.
type Granted = (Vote<u64>, Option<LogId<u64>>);

/// The connections to all other members. Each is made by the first call, and again whenever it broke.
pub(super) struct Links {
    world: World,
    pub(super) ledger: Arc<Ledger>,
    /// Per node. A channel is kept for as long as the membership says the same about its node.
    channels: Mutex<BTreeMap<u64, (Member, Channel)>>,
    /// When each node last answered what this one sent it as leader.
    heard: Mutex<BTreeMap<u64, Instant>>,
    /// How far away each node is.
    distances: Arc<Distances>,
    /// Where each node's log ended when it last gave this one its vote. Since then it has taken nothing but what the
    /// winner sent.
    voted: Mutex<BTreeMap<u64, Granted>>,
    /// How far Raft was last told that each node holds the leader's log, and in which term.
    told: Mutex<BTreeMap<u64, (u64, LogId<u64>)>>,
    /// The vouch that this node presents, and the name for which it was made.
    vouch: Mutex<Option<(String, Bytes)>>,
}

impl Links {
    pub(super) fn new(world: World, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            world,
            ledger,
            channels: Mutex::default(),
            heard: Mutex::default(),
            distances: Arc::default(),
            voted: Mutex::default(),
            told: Mutex::default(),
            vouch: Mutex::default(),
        })
    }

    /// A client for calls to a member.
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
            let stream = dial_as(world.clone(), identity.clone())(server.clone(), distances.patience(node));
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

    /// Notes that a call to a node has failed. The next one makes another connection if this one may be the cause: it
    /// may be dead without knowing it, or it may still present a certificate that this node has replaced meanwhile.
    pub(super) fn failed(&self, node: u64, why: &Status) {
        match why.code() {
            Code::DeadlineExceeded => self.distances.silent(node),
            Code::PermissionDenied | Code::Unauthenticated => {}
            _ => return,
        }
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// Asks a node for its vote, or with `trial` how it would vote.
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
        // Connecting may take the full patience, and so may the answer, which waits for a disk.
        let patience = self.distances.patience(node) * 2;
        let mut request = Request::new(request);
        request.set_timeout(patience);
        let begun = Instant::now();
        let answer = timeout(patience, peer.vote(request)).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("no answer within {} ms", begun.elapsed().as_millis())))
        });
        answer.and_then(|answer| answer.into_inner().checked()).inspect_err(|why| self.failed(node, why))
    }

    /// Returns whether a quorum of these members, counting this node, has answered it as its leader within this time.
    pub(super) fn is_heard(&self, membership: &Membership, within: Duration) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = heard.iter().filter(|(_, at)| at.elapsed() <= within).map(|(node, _)| *node);
        is_quorum(membership, &lately.chain([self.ledger.settings.node]).collect::<BTreeSet<u64>>())
    }

    /// How long a node has not answered this one as its leader; `None` where it never has.
    pub(super) fn silent_for(&self, node: u64) -> Option<Duration> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&node).map(Instant::elapsed)
    }

    /// Notes that a node gave this one its vote, and where its log ended.
    pub(super) fn voted(&self, node: u64, vote: Vote<u64>, last: Option<LogId<u64>>) {
        self.voted.lock().unwrap_or_else(PoisonError::into_inner).insert(node, (vote, last));
    }

    /// Where a node's log ended when it voted for the leader of this vote; `None` where it did not. Returned only once:
    /// a caller that asks again has reached that node since. The same goes where Raft was already told about the node
    /// in this term: a vote that comes after that says nothing about the present.
    pub(super) fn take_log_of_voter(&self, node: u64, vote: &Vote<u64>) -> Option<Option<LogId<u64>>> {
        let (of, last) = self.voted.lock().unwrap_or_else(PoisonError::into_inner).remove(&node)?;
        let is_met = self.told(node, vote.leader_id.term).is_some();
        (of.leader_id == vote.leader_id && !is_met).then_some(last)
    }

    /// Notes that Raft is told that a node holds the leader's log up to here.
    pub(super) fn tell_matching(&self, node: u64, term: u64, matching: LogId<u64>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = told.entry(node).or_insert((term, matching));
        *newest = if newest.0 == term { (*newest).max((term, matching)) } else { (term, matching) };
    }

    /// What Raft was last told about a node in this term.
    pub(super) fn told(&self, node: u64, term: u64) -> Option<LogId<u64>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&node).filter(|(of, _)| *of == term).map(|(_, matching)| *matching)
    }

    pub(super) fn heard(&self, node: u64) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(node, Instant::now());
    }

    /// The route from this node to that one.
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

    /// What this node presents to members whose log does not name it; empty as long as its own log does not name it
    /// either, because it calls nobody then.
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
