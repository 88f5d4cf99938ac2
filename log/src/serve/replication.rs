//! What members of the cluster say to each other, over the same front door as every other call. The node decides who
//! may.
//!
//! A leader says something several times a second, so a stream on which no whole message arrives for a long time is
//! ended: half a message may not stay for ever.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::BytesMut;
use futures::{Stream, stream::try_unfold};
use prost::Message as _;
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use super::{
    answer::with_room,
    caller::{Caller, caller},
};
use crate::{
    cluster::{Node, Summed as _},
    cluster_wire::{
        AppendRequest, AppendResponse, Ballot, FetchRequest, FetchResponse, Route, VoteRequest, VoteResponse,
        replication_server::Replication as Calls,
    },
    store::FRAME_BYTES_MAX,
};

/// The members' service of a node.
#[derive(Clone)]
pub(super) struct Replication {
    pub(super) node: Node,
    /// The time after which a stream without a message ends.
    pub(super) idle: Duration,
}

#[tonic::async_trait]
impl Calls for Replication {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let (node, idle, caller) = (self.node.clone(), self.idle, caller(&request)?);
        let appends = Appends { node, idle, caller, requests: request.into_inner(), coming: None, taking: None };
        Ok(Response::new(Box::pin(try_unfold(appends, Appends::next))))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let caller = caller(&request)?;
        self.node.vote(&caller.name, request.into_inner()).await.map(|answer| Response::new(answer.summed()))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let caller = caller(&request)?;
        let (answer, room) = self.node.fetch(&caller.name, request.into_inner()).await?;
        Ok(with_room(answer, Some(room)))
    }
}

type Taking = Pin<Box<dyn Future<Output = Result<AppendResponse, Status>> + Send>>;

/// One leader's calls, answered one after the other. The first error ends them, and the leader begins a new stream.
struct Appends {
    node: Node,
    idle: Duration,
    caller: Caller,
    requests: Streaming<AppendRequest>,
    /// A request that is not yet complete: its pieces, and who sends it.
    coming: Option<Coming>,
    /// The call that is being processed. What follows it is read all the same, so that the leader is heard while a disk
    /// is slow.
    taking: Option<Taking>,
}

struct Coming {
    bytes: BytesMut,
    route: Option<Route>,
    vote: Option<Ballot>,
}

impl Appends {
    async fn next(mut self) -> Result<Option<(AppendResponse, Appends)>, Status> {
        loop {
            let request = tokio::select! {
                biased;
                () = self.caller.closed() => return Err(Status::unavailable("the server is winding up")),
                answer = taken(&mut self.taking) => {
                    self.taking = None;
                    return Ok(Some((answer?.summed(), self)));
                }
                request = self.requests.message() => request?,
                () = sleep(self.idle) => {
                    let why = "no message of the leader came for too long: begin a new stream";
                    return Err(Status::deadline_exceeded(why));
                }
            };
            let Some(request) = request else { return Ok(None) };
            self.caller.still_certified()?;
            if let Some(answer) = self.take(request)? {
                return Ok(Some((answer.summed(), self)));
            }
        }
    }

    /// Takes one message, and returns the response to it if there is one at once.
    fn take(&mut self, request: AppendRequest) -> Result<Option<AppendResponse>, Status> {
        if request.beat {
            return self.node.hear(&self.caller.name, request.route, request.vote).map(Some);
        }
        if request.piece.is_empty() {
            self.begin(request)?;
            return Ok(None);
        }
        let AppendRequest { route, vote, piece, rest, .. } = request;
        let coming = self.coming.get_or_insert_with(|| Coming { bytes: BytesMut::new(), route, vote });
        // Before anything of it is kept.
        let heard = self.node.hear(&self.caller.name, coming.route.clone(), coming.vote)?;
        if ((coming.bytes.len() + piece.len()) as u64).saturating_add(rest) > u64::from(FRAME_BYTES_MAX) {
            return Err(Status::invalid_argument("a request of too many bytes"));
        }
        coming.bytes.extend_from_slice(&piece);
        if rest > 0 {
            return Ok(Some(heard));
        }
        let whole = self.coming.take().map(|coming| coming.bytes.freeze()).unwrap_or_default();
        self.begin(AppendRequest::decode(whole).map_err(|why| Status::invalid_argument(why.to_string()))?)?;
        Ok(None)
    }

    fn begin(&mut self, request: AppendRequest) -> Result<(), Status> {
        if self.taking.is_some() {
            return Err(Status::invalid_argument("a request before the one before it was answered"));
        }
        let (node, name) = (self.node.clone(), self.caller.name.clone());
        self.taking = Some(Box::pin(async move { node.append_entries(&name, request).await }));
        Ok(())
    }
}

/// Returns the response to the call that is being processed; pends if there is none. Cancel safe.
async fn taken(taking: &mut Option<Taking>) -> Result<AppendResponse, Status> {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}
