//! What a member answers to the others.
//!
//! Whoever calls is who its certificate says, and must be the member that the call is from: by this node's own log, and
//! by the log's key where that log does not name the caller's node yet. A call for another log or
//! another node is refused loudly: two clusters that reached each other by a wrong address must not mix. So is one for the
//! node that was there before: an empty folder under the id of a voter that was lost must be sent nothing and asked for no
//! vote, because it forgot what that one promised.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use tokio::time::timeout;
use tonic::Status;

use super::{
    super::cluster_wire::{self as wire, append_response::Outcome},
    Node,
    ledger::{NotCosigned, hex},
    network::entries,
};

/// How long a call to cosign waits until this node's own log gets there.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Node {
    /// Raft's AppendEntries, from the member `caller`.
    pub(crate) async fn append_entries(
        &self,
        caller: &str,
        request: wire::AppendRequest,
    ) -> Result<wire::AppendResponse, Status> {
        self.admit(caller, request.route)?;
        let entries = entries(request.frames).map_err(|why| Status::invalid_argument(why.to_string()))?;
        let request = AppendEntriesRequest {
            vote: request.vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into(),
            prev_log_id: request.previous.map(Into::into),
            entries,
            leader_commit: request.committed.map(Into::into),
        };
        let answer = self.raft().append_entries(request).await.map_err(|why| Status::unavailable(why.to_string()))?;
        let (outcome, matching, vote) = match answer {
            AppendEntriesResponse::Success => (Outcome::Stored, None, None),
            AppendEntriesResponse::PartialSuccess(matching) => (Outcome::Partly, matching, None),
            AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
        };
        let (matching, vote) = (matching.map(Into::into), vote.map(Into::into));
        Ok(wire::AppendResponse { outcome: outcome.into(), matching, vote })
    }

    /// Raft's RequestVote, from the member `caller`.
    pub(crate) async fn vote(&self, caller: &str, request: wire::VoteRequest) -> Result<wire::VoteResponse, Status> {
        self.admit(caller, request.route)?;
        let vote = request.vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into();
        let request = VoteRequest { vote, last_log_id: request.last.map(Into::into) };
        let answer = self.raft().vote(request).await.map_err(|why| Status::unavailable(why.to_string()))?;
        let (vote, last) = (Some(answer.vote.into()), answer.last_log_id.map(Into::into));
        Ok(wire::VoteResponse { vote, granted: answer.vote_granted, last })
    }

    /// Cosigns a checkpoint, and shows one that has a quorum, for the member `caller`.
    pub(crate) async fn cosign(
        &self,
        caller: &str,
        request: wire::CosignRequest,
    ) -> Result<wire::CosignResponse, Status> {
        self.admit(caller, request.route)?;
        let wire::CosignRequest { checkpoint, published, .. } = request;
        if !published.is_empty() {
            self.once_there(|| self.ledger().follow(&published)).await?;
        }
        let cosignature = match checkpoint.is_empty() {
            true => String::new(),
            false => self.once_there(|| self.ledger().cosign(&checkpoint)).await?,
        };
        Ok(wire::CosignResponse { cosignature })
    }

    /// Waits for a moment until this node's log has what it is asked about: the leader's call may overtake its entries.
    async fn once_there<T>(&self, attempt: impl Fn() -> Result<T, NotCosigned>) -> Result<T, Status> {
        let mut durable = self.ledger().durable();
        let patient = timeout(CATCH_UP, async {
            loop {
                durable.mark_unchanged();
                match attempt() {
                    Err(NotCosigned::Behind { .. } | NotCosigned::Differs { .. }) => {}
                    done => return done,
                }
                if durable.changed().await.is_err() {
                    return attempt();
                }
            }
        });
        match patient.await.unwrap_or_else(|_| attempt()) {
            Ok(done) => Ok(done),
            Err(why @ NotCosigned::Behind { .. }) => Err(Status::unavailable(why.to_string())),
            Err(why) => {
                tracing::error!(%why, "a checkpoint is not cosigned");
                Err(Status::failed_precondition(why.to_string()))
            }
        }
    }

    fn admit(&self, caller: &str, route: Option<wire::Route>) -> Result<(), Status> {
        let settings = &self.ledger().settings;
        let wire::Route { log_id, from, to, vouch, to_cosigner } =
            route.ok_or_else(|| Status::invalid_argument("no route"))?;
        if log_id[..] != settings.log_id || to != settings.node {
            let (log, node) = (hex(&settings.log_id), settings.node);
            let said = format!("this is node {node} of log {log}, not node {to} of log {}", hex(&log_id));
            return Err(Status::failed_precondition(said));
        }
        // Releases before this one do not say it.
        let own = settings.cluster.as_ref().map(|cluster| cluster.cosigner.verifying_key().0);
        if !to_cosigner.is_empty() && own.is_some_and(|own| own[..] != to_cosigner) {
            let said = format!("this is not the node {to} that the log knows: it has another cosigner's key");
            return Err(Status::failed_precondition(said));
        }
        match self.ledger().admits(from, caller, &vouch) {
            true => Ok(()),
            false => Err(Status::permission_denied(format!("`{caller}` is not node {from} of this log"))),
        }
    }
}
