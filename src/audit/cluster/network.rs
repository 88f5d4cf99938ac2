//! The network of a cluster of one: there is nobody to talk to.
//!
//! Raft asks for a connection to each other member. A cluster of one has none, so nothing here is ever called; where a
//! membership names another node all the same, every call answers "unreachable" with the reason, and never pretends.

use openraft::{
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};

use super::types::{Member, TypeConfig};

/// Makes the connections that answer nothing.
pub(super) struct Alone;

/// A connection to a member that cannot be reached.
pub(super) struct Nobody {
    target: u64,
    name: String,
}

#[derive(Debug, thiserror::Error)]
#[error("node {target} ({name}) cannot be reached: this build of the log runs clusters of one")]
struct NoNetwork {
    target: u64,
    name: String,
}

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Nobody;

    async fn new_client(&mut self, target: u64, node: &Member) -> Nobody {
        Nobody { target, name: node.name.clone() }
    }
}

impl Nobody {
    fn unreachable<E: std::error::Error>(&self) -> RPCError<u64, Member, RaftError<u64, E>> {
        Unreachable::new(&NoNetwork { target: self.target, name: self.name.clone() }).into()
    }
}

impl RaftNetwork<TypeConfig> for Nobody {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, Member, RaftError<u64, InstallSnapshotError>>> {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        Err(self.unreachable())
    }
}
