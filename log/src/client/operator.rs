//! An operator's end of a cluster: asks who its members are, and has the server that leads change them.
//!
//! The servers are those of the configuration and those that any of them names as a member: a member that was added
//! after the configuration was written may lead. Each call has a deadline, and so has each operation of several calls;
//! all of them may be interrupted at any point and begun again.

use std::{collections::BTreeMap, fmt, time::Duration};

use gapless_world::{Server, World, tls::Identity};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use super::{Deadlines, distance::Distance};
use crate::{
    cluster::MemberSettings,
    cluster_wire::{
        AddRequest, MembersRequest, NewMember, PromoteRequest, RemoveRequest, membership_client::MembershipClient,
    },
    dial::dial_as,
    note::{CosignerKey, NoteKey},
    words::LEADER,
};

pub use crate::cluster_wire::{Member, MembersResponse};

/// The deadline of one call: a change takes three exchanges with a quorum, and the server gives it up after 20 s.
const CALL_MAX: Duration = Duration::from_secs(25);
/// The deadline for connecting to a server about which nothing is known, and for its answer to a ping. A server that
/// was found to be far gets longer.
const NEAR: Duration = Duration::from_secs(2);
/// The pause between two attempts, and between two looks at a learner.
const PAUSE: Duration = Duration::from_millis(250);

/// Why the members are not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The servers do not admit this operator, or the change would do harm.
    #[error("{server}: {why}")]
    Refused {
        /// The server that refused.
        server: String,
        /// Why it refused.
        why: String,
    },
    /// No server that could do it answered in time.
    #[error("no server did it within {} s; last answer: {last}; the request may be repeated", .within.as_secs())]
    Late {
        /// The time for which it was tried.
        within: Duration,
        /// The last thing that went wrong.
        last: String,
    },
}

/// A change of the members; `Display` puts it into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A learner is added, perhaps under the name and address of the member that it replaces.
    Add {
        /// The new member.
        member: MemberSettings,
        /// The node that it replaces.
        replaces: Option<u64>,
    },
    /// A learner becomes a voter, perhaps in the place of another one, in the same step.
    Promote {
        /// The node to promote.
        node: u64,
        /// The node that it replaces.
        replaces: Option<u64>,
    },
    /// A member is removed for good.
    Remove {
        /// The node to remove.
        node: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add { member, .. } => write!(f, "add node {} as a learner", member.node),
            Change::Promote { node, replaces: None } => write!(f, "make node {node} a voter"),
            Change::Promote { node, replaces: Some(old) } => {
                write!(f, "make node {node} a voter instead of node {old}")
            }
            Change::Remove { node } => write!(f, "remove node {node}"),
        }
    }
}

/// See the module.
pub struct Operator {
    world: World,
    identity: watch::Receiver<Identity>,
    /// The log's verifier key, as text.
    log: String,
    /// Every server that is known, by name.
    servers: BTreeMap<String, Server>,
    channels: BTreeMap<String, Channel>,
    /// How far each server is, by name.
    distances: BTreeMap<String, Distance>,
    /// The server to turn to first.
    leader: Option<String>,
}

impl Operator {
    /// Returns an operator that presents `identity` to the servers of the log with this key. Connects to none of them
    /// yet.
    pub fn new(world: World, identity: watch::Receiver<Identity>, log: &NoteKey, servers: Vec<Server>) -> Operator {
        let servers = servers.into_iter().map(|server| (server.tls_name.clone(), server)).collect();
        let (channels, distances) = (BTreeMap::new(), BTreeMap::new());
        Operator { world, identity, log: log.to_string(), servers, channels, distances, leader: None }
    }

    /// Returns the members as the leader knows them if it answers in time, else as any other server does.
    ///
    /// # Errors
    /// Fails if no server answers, or if one does not admit this operator.
    pub async fn members(&mut self, within: Duration) -> Result<MembersResponse, OperatorError> {
        let by = Instant::now() + within;
        let (mut newest, mut last) = (None, "no server was asked".to_owned());
        loop {
            for server in self.in_turn() {
                match self.ask(&server).await {
                    Ok(status) if status.leader == status.node => return Ok(status),
                    Ok(status) => newest = Some(status),
                    Err(refused) if is_final(&refused) => return Err(refuse(&server, &refused)),
                    Err(why) => last = format!("{}: {}", server.tls_name, why.message()),
                }
                if Instant::now() >= by {
                    break;
                }
            }
            if Instant::now() >= by {
                return newest.ok_or(OperatorError::Late { within, last });
            }
            sleep(PAUSE).await;
        }
    }

    /// Has the leader of the moment make a change, and returns the members after it. A final refusal ends this at once;
    /// a failure that may pass is retried until the time is over.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn change(&mut self, change: &Change, within: Duration) -> Result<MembersResponse, OperatorError> {
        let by = Instant::now() + within;
        let mut last = "no server was asked".to_owned();
        loop {
            for server in self.in_turn() {
                match self.call(&server, change).await {
                    Ok(status) => {
                        self.learn(&server, &status);
                        return Ok(status);
                    }
                    Err(refused) if is_final(&refused) => return Err(refuse(&server, &refused)),
                    Err(why) => {
                        last = format!("{}: {}", server.tls_name, why.message());
                        if let Some(leader) = why.metadata().get(LEADER).and_then(|name| name.to_str().ok()) {
                            self.leader = Some(leader.to_owned());
                            // The server knows the leader, but this operator may not: any server tells where the leader
                            // listens.
                            if !self.servers.contains_key(leader) {
                                _ = self.ask(&server).await;
                            }
                            break;
                        }
                        if why.code() == Code::Aborted {
                            break; // the leader itself says: not yet
                        }
                    }
                }
            }
            if Instant::now() >= by {
                return Err(OperatorError::Late { within, last });
            }
            sleep(PAUSE).await;
        }
    }

    /// Does everything that makes a machine a voter: adds it, waits until it has caught up, and gives it its vote, in
    /// the place of the member that it replaces, which is then removed. `tell` is called with each step. If this is
    /// interrupted and begun again, it goes on where it stood.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn bring_in(
        &mut self,
        member: MemberSettings,
        replaces: Option<u64>,
        within: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<MembersResponse, OperatorError> {
        let by = Instant::now() + within;
        let left = || by.saturating_duration_since(Instant::now());
        let node = member.node;
        let add = Change::Add { member, replaces };
        tell(&add.to_string());
        self.change(&add, left()).await?;
        self.wait_for(node, by, &mut tell).await?;
        let promote = Change::Promote { node, replaces };
        tell(&promote.to_string());
        let mut status = self.change(&promote, left()).await?;
        if let Some(old) = replaces {
            let remove = Change::Remove { node: old };
            tell(&remove.to_string());
            status = self.change(&remove, left()).await?;
        }
        Ok(status)
    }

    /// Waits until a member holds nearly everything that the leader has; the leader judges for itself before it
    /// promotes.
    async fn wait_for(&mut self, node: u64, by: Instant, tell: &mut impl FnMut(&str)) -> Result<(), OperatorError> {
        let begun = Instant::now();
        let mut told = None;
        loop {
            let status = self.members(by.saturating_duration_since(Instant::now())).await?;
            let member = status.members.iter().find(|member| member.node == node);
            let answers = member.and_then(|member| member.heard_ms).is_some_and(|heard| heard <= SILENT_MS);
            let held = member.filter(|_| answers).and_then(|member| member.entries).filter(|held| *held > 0);
            let behind = held.map(|held| status.entries.saturating_sub(held));
            if behind.is_some_and(|behind| behind <= BEHIND_MAX) {
                return Ok(());
            }
            // One line comes at the beginning, and one whenever the member is another tenth nearer.
            let tenth = behind.map(|behind| behind * 10 / status.entries.max(1));
            if told != Some(tenth) {
                told = Some(tenth);
                tell(&match behind {
                    Some(behind) => format!("node {node} is {behind} of {} entries behind", status.entries),
                    None => format!("node {node} has not answered the leader yet"),
                });
            }
            if Instant::now() >= by {
                let last = format!("node {node} has not caught up; is its process running?");
                return Err(OperatorError::Late { within: begun.elapsed(), last });
            }
            sleep(PAUSE).await;
        }
    }

    /// The servers, the presumed leader first.
    fn in_turn(&self) -> Vec<Server> {
        let first = self.leader.as_ref().and_then(|name| self.servers.get(name));
        let others = self.servers.values().filter(|server| Some(*server) != first);
        first.into_iter().chain(others).cloned().collect()
    }

    /// Asks one server who the members are.
    async fn ask(&mut self, server: &Server) -> Result<MembersResponse, Status> {
        let request = Request::new(MembersRequest { log: self.log.clone() });
        let mut client = self.client(server)?;
        let answer = in_time(Deadlines::default().call, client.members(request)).await;
        let status = self.noted(server, answer)?;
        self.learn(server, &status);
        Ok(status)
    }

    async fn call(&mut self, server: &Server, change: &Change) -> Result<MembersResponse, Status> {
        let (log, mut client) = (self.log.clone(), self.client(server)?);
        let answer = match change.clone() {
            Change::Add { member, replaces } => {
                let MemberSettings { node, name, address, cosigner } = member;
                let cosigner = CosignerKey { name: name.clone(), key: cosigner }.to_string();
                let member = Some(NewMember { node, name, address, cosigner });
                let request = AddRequest { log, member, replaces: replaces.unwrap_or_default() };
                in_time(CALL_MAX, client.add(request)).await
            }
            Change::Promote { node, replaces } => {
                let request = PromoteRequest { log, node, replaces: replaces.unwrap_or_default() };
                in_time(CALL_MAX, client.promote(request)).await
            }
            Change::Remove { node } => in_time(CALL_MAX, client.remove(RemoveRequest { log, node })).await,
        };
        self.noted(server, answer)
    }

    /// Drops a connection that did not serve. The next one is made with what is known of the distance by then.
    fn noted<T>(&mut self, server: &Server, answer: Result<T, Status>) -> Result<T, Status> {
        if answer.as_ref().is_err_and(|why| matches!(why.code(), Code::Unavailable | Code::DeadlineExceeded)) {
            self.channels.remove(&server.tls_name);
        }
        answer
    }

    /// Remembers who leads, and every member that was not known.
    fn learn(&mut self, answered: &Server, status: &MembersResponse) {
        for Member { node, name, address, .. } in &status.members {
            if *node == status.leader {
                self.leader = Some(name.clone());
            }
            let server = || Server { address: address.clone(), tls_name: name.clone() };
            self.servers.entry(name.clone()).or_insert_with(server);
        }
        if status.leader == status.node {
            self.leader = Some(answered.tls_name.clone());
        }
    }

    fn client(&mut self, server: &Server) -> Result<MembershipClient<Channel>, Status> {
        let name = &server.tls_name;
        if let Some(channel) = self.channels.get(name) {
            return Ok(MembershipClient::new(channel.clone()));
        }
        let endpoint = Endpoint::from_shared(format!("http://{name}"))
            .map_err(|_| Status::invalid_argument(format!("`{name}` cannot be the name of a server")))?;
        let unknown = || Distance::new(Deadlines { connect: NEAR, ..Deadlines::default() });
        let distance = self.distances.entry(name.clone()).or_insert_with(unknown).clone();
        let endpoint = endpoint
            .http2_keep_alive_interval(NEAR)
            .keep_alive_timeout(distance.answer_within(THE_SERVER, NEAR))
            .keep_alive_while_idle(true);
        let dial = dial_as(self.world.clone(), self.identity.clone());
        let target = server.clone();
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let (begun, distance) = (Instant::now(), distance.clone());
            let stream = dial(target.clone(), distance.connect_within(THE_SERVER));
            async move {
                let stream = stream.await;
                distance.note(THE_SERVER, begun.elapsed(), &stream);
                stream.map(TokioIo::new)
            }
        }));
        self.channels.insert(name.clone(), channel.clone());
        Ok(MembershipClient::new(channel))
    }
}

/// Each server has its own record of distances, with only this server in it: servers come and go while an operator
/// works.
const THE_SERVER: usize = 0;
/// A learner that is at most this many entries behind is worth promoting: the leader judges for itself.
const BEHIND_MAX: u64 = 32;
/// A member that the leader has not heard for this long is silent: the leader asks each member about three times a
/// second.
const SILENT_MS: u64 = 2_000;

async fn in_time(
    within: Duration,
    call: impl Future<Output = Result<Response<MembersResponse>, Status>>,
) -> Result<MembersResponse, Status> {
    match timeout(within, call).await {
        Ok(answered) => answered.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// Returns whether it would not help to ask again, or to ask another server.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented
    )
}

fn refuse(server: &Server, status: &Status) -> OperatorError {
    let why = match status.code() {
        Code::Unimplemented => "it holds a log of one, which has no members to change".to_owned(),
        _ => status.message().to_owned(),
    };
    OperatorError::Refused { server: server.tls_name.clone(), why }
}
