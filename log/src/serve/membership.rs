//! What an operator asks of a cluster, over the same front door as every other call. The server's own configuration
//! says who may, by the names in certificates; the node decides what may be done.
//!
//! It must never answer a client that is no operator, not even with who the members are.

use std::{collections::BTreeSet, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    caller::{Caller, caller},
    gate::no_operator,
    status::not_appended,
};
use crate::{
    cluster::{AppendError, ChangeError, MemberSettings, MemberStatus, MembersStatus, Node},
    cluster_wire::{
        AddRequest, Member, MembersRequest, MembersResponse, NewMember, PromoteRequest, RemoveRequest,
        membership_server::Membership as Calls,
    },
    note::CosignerKey,
};

/// The operators' service of a node.
pub(super) struct Membership {
    node: Node,
    operators: Arc<BTreeSet<String>>,
}

impl Membership {
    pub(super) fn new(node: Node, operators: &[String]) -> Membership {
        Membership { node, operators: Arc::new(operators.iter().cloned().collect()) }
    }

    /// Admits an operator that means this log.
    fn admit(&self, caller: &Caller, log: &str) -> Result<(), Status> {
        if !self.operators.contains(&*caller.name) {
            return Err(no_operator(&caller.name));
        }
        let own = self.node.verifier();
        match log == own {
            true => Ok(()),
            false => {
                Err(Status::failed_precondition(format!("this is the log `{own}`, not `{log}`: check the address")))
            }
        }
    }

    fn status(&self) -> Response<MembersResponse> {
        Response::new(self.node.members().into())
    }
}

#[tonic::async_trait]
impl Calls for Membership {
    async fn members(&self, request: Request<MembersRequest>) -> Result<Response<MembersResponse>, Status> {
        self.admit(&caller(&request)?, &request.get_ref().log)?;
        Ok(self.status())
    }

    async fn add(&self, request: Request<AddRequest>) -> Result<Response<MembersResponse>, Status> {
        let caller = caller(&request)?;
        let AddRequest { log, member, replaces } = request.into_inner();
        self.admit(&caller, &log)?;
        let member = member.ok_or_else(|| Status::invalid_argument("no member"))?;
        tracing::info!(operator = %caller.name, node = member.node, name = member.name, replaces, "a learner is added");
        self.node.add_learner(new_member(member)?, some(replaces)).await.map_err(not_changed)?;
        Ok(self.status())
    }

    async fn promote(&self, request: Request<PromoteRequest>) -> Result<Response<MembersResponse>, Status> {
        let caller = caller(&request)?;
        let PromoteRequest { log, node, replaces } = request.into_inner();
        self.admit(&caller, &log)?;
        tracing::info!(operator = %caller.name, node, replaces, "a learner becomes a voter");
        self.node.promote(node, some(replaces)).await.map_err(not_changed)?;
        Ok(self.status())
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<MembersResponse>, Status> {
        let caller = caller(&request)?;
        let RemoveRequest { log, node } = request.into_inner();
        self.admit(&caller, &log)?;
        tracing::info!(operator = %caller.name, node, "a member is removed");
        self.node.remove(node).await.map_err(not_changed)?;
        Ok(self.status())
    }
}

fn some(node: u64) -> Option<u64> {
    Some(node).filter(|node| *node != 0)
}

fn new_member(NewMember { node, name, address, cosigner }: NewMember) -> Result<MemberSettings, Status> {
    let key: CosignerKey = cosigner
        .parse()
        .map_err(|why| Status::invalid_argument(format!("the cosigner's key of node {node}: {why}")))?;
    if key.name != name {
        let why = format!("the cosigner's key is that of `{}`, the member is called `{name}`", key.name);
        return Err(Status::invalid_argument(why));
    }
    Ok(MemberSettings { node, name, address, cosigner: key.key })
}

/// Returns the status of a change that was not made, or may not have been made. All of them may be requested again.
fn not_changed(error: ChangeError) -> Status {
    mark!("change-undecided", matches!(error, ChangeError::Undecided));
    let said = error.to_string();
    match error {
        ChangeError::NotLeader { leader } => not_appended(AppendError::NotLeader { leader }),
        ChangeError::Refused(_) => Status::failed_precondition(said),
        ChangeError::NotYet(_) => Status::aborted(said),
        ChangeError::Undecided | ChangeError::Failed(_) => Status::unavailable(said),
    }
}

impl From<MembersStatus> for MembersResponse {
    fn from(status: MembersStatus) -> Self {
        let MembersStatus { node, leader, term, entries, committed, changing, members } = status;
        let members = members.into_iter().map(Into::into).collect();
        Self { node, leader: leader.unwrap_or_default(), term, entries, committed, changing, members }
    }
}

impl From<MemberStatus> for Member {
    fn from(status: MemberStatus) -> Self {
        let MemberStatus { member, voter, entries, silent_for } = status;
        let MemberSettings { node, name, address, cosigner } = member;
        let cosigner = CosignerKey { name: name.clone(), key: cosigner }.to_string();
        let heard_ms = silent_for.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
        Self { node, name, address, cosigner, voter, entries, heard_ms }
    }
}
