//! What members of the cluster say to each other, over the same front door as everybody else: the node decides who may.
//!
//! A leader says something several times a second, so a stream on which nothing arrives whole for long is ended: half a
//! message may not stay for ever.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream::try_unfold};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use super::{connection::Caller, service::caller};
use crate::audit::{
    cluster::Node,
    cluster_wire::{
        AppendRequest, AppendResponse, FetchRequest, FetchResponse, VoteRequest, VoteResponse,
        replication_server::Replication as Calls,
    },
};

/// The members' service of a node.
#[derive(Clone)]
pub(super) struct Replication {
    pub(super) node: Node,
    /// A stream without a message ends after this.
    pub(super) idle: Duration,
}

#[tonic::async_trait]
impl Calls for Replication {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let (node, idle, caller) = (self.node.clone(), self.idle, caller(&request)?);
        let appends = Appends { node, idle, caller, requests: request.into_inner() };
        Ok(Response::new(Box::pin(try_unfold(appends, Appends::next))))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let caller = caller(&request)?;
        self.node.vote(&caller.name, request.into_inner()).await.map(Response::new)
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let caller = caller(&request)?;
        self.node.fetch(&caller.name, request.into_inner()).await.map(Response::new)
    }
}

/// One leader's calls, answered one after the other. The first error ends them: the leader begins a new stream.
struct Appends {
    node: Node,
    idle: Duration,
    caller: Caller,
    requests: Streaming<AppendRequest>,
}

impl Appends {
    async fn next(mut self) -> Result<Option<(AppendResponse, Appends)>, Status> {
        let request = tokio::select! {
            biased;
            () = self.caller.closed() => return Err(Status::unavailable("the server is winding up")),
            request = self.requests.message() => request?,
            () = sleep(self.idle) => {
                return Err(Status::deadline_exceeded("no message of the leader came for too long: begin a new stream"));
            }
        };
        let Some(request) = request else { return Ok(None) };
        self.caller.still_certified()?;
        let answer = self.node.append_entries(&self.caller.name, request).await?;
        Ok(Some((answer, self)))
    }
}
