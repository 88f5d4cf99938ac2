//! What a member answers to the others.
//!
//! Whoever calls is who its certificate says, and must be the member that the call is from. A call for another log or
//! another node is refused loudly: two clusters that reached each other by a wrong address must not mix.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use tonic::Status;

use super::{
    super::cluster_wire::{self as wire, append_response::Outcome},
    Node,
    ledger::{Ledger, NotCosigned, hex},
    network::entries,
};

impl Node {
    /// Raft's AppendEntries, from the member `caller`.
    pub(crate) async fn append_entries(
        &self,
        caller: &str,
        request: wire::AppendRequest,
    ) -> Result<wire::AppendResponse, Status> {
        let wire::AppendRequest { route, vote, previous, frames, committed, checkpoint, published, fresh } = request;
        self.admit(caller, route)?;
        let entries = entries(frames).map_err(|why| Status::invalid_argument(why.to_string()))?;
        let request = AppendEntriesRequest {
            vote: vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into(),
            prev_log_id: previous.map(Into::into),
            entries,
            leader_commit: committed.map(Into::into),
        };
        let answer = self.raft().append_entries(request).await.map_err(|why| Status::unavailable(why.to_string()))?;
        if let Some(word) = fresh {
            self.ledger().freshness.hear(word);
        }
        let (outcome, matching, vote) = match answer {
            AppendEntriesResponse::Success => (Outcome::Stored, None, None),
            AppendEntriesResponse::PartialSuccess(matching) => (Outcome::Partly, matching, None),
            AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
        };
        let (matching, vote) = (matching.map(Into::into), vote.map(Into::into));
        // Only now: what the call brought is durable, and may be what is to be shown and cosigned.
        let cosignature = match outcome {
            Outcome::Stored | Outcome::Partly => self.follow_and_cosign(&published, &checkpoint),
            _ => String::new(),
        };
        let (shown, stamp) = (self.committed(), Some(self.ledger().freshness.stamp()));
        Ok(wire::AppendResponse { outcome: outcome.into(), matching, vote, cosignature, shown, stamp })
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

    /// Shows one checkpoint and cosigns another, as the leader's word says; either may be empty. A log that does not reach
    /// them yet does neither, and the leader says it again with its next call.
    fn follow_and_cosign(&self, published: &str, checkpoint: &str) -> String {
        let heed = |note: &str, does: fn(&Ledger, &str) -> Result<String, NotCosigned>| {
            if note.is_empty() {
                return String::new();
            }
            does(self.ledger(), note).unwrap_or_else(|why| {
                if !matches!(why, NotCosigned::Behind { .. }) {
                    tracing::error!(%why, "a checkpoint is neither shown nor cosigned");
                }
                String::new()
            })
        };
        heed(published, |ledger, note| ledger.follow(note).map(|()| String::new()));
        heed(checkpoint, Ledger::cosign)
    }

    fn admit(&self, caller: &str, route: Option<wire::Route>) -> Result<(), Status> {
        let settings = &self.ledger().settings;
        let wire::Route { log_id, from, to } = route.ok_or_else(|| Status::invalid_argument("no route"))?;
        if log_id[..] != settings.log_id || to != settings.node {
            let (log, node) = (hex(&settings.log_id), settings.node);
            let said = format!("this is node {node} of log {log}, not node {to} of log {}", hex(&log_id));
            return Err(Status::failed_precondition(said));
        }
        match self.ledger().name_of(from) {
            Some(name) if name == caller => Ok(()),
            _ => Err(Status::permission_denied(format!("`{caller}` is not node {from} of this log"))),
        }
    }
}
