//! What members of the cluster say to each other, over the same front door as everybody else: the node decides who may.

use tonic::{Request, Response, Status};

use super::service::caller;
use crate::audit::{
    cluster::Node,
    cluster_wire::{
        AppendRequest, AppendResponse, CosignRequest, CosignResponse, FetchRequest, FetchResponse, VoteRequest,
        VoteResponse, replication_server::Replication as Calls,
    },
};

/// The members' service of a node.
pub(super) struct Replication(pub(super) Node);

#[tonic::async_trait]
impl Calls for Replication {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let caller = caller(&request)?;
        self.0.append_entries(&caller.name, request.into_inner()).await.map(Response::new)
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let caller = caller(&request)?;
        self.0.vote(&caller.name, request.into_inner()).await.map(Response::new)
    }

    async fn cosign(&self, request: Request<CosignRequest>) -> Result<Response<CosignResponse>, Status> {
        let caller = caller(&request)?;
        self.0.cosign(&caller.name, request.into_inner()).await.map(Response::new)
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let caller = caller(&request)?;
        self.0.fetch(&caller.name, request.into_inner()).await.map(Response::new)
    }
}
