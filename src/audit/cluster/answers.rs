//! What a member answers to the others.
//!
//! Whoever calls is who its certificate says, and must be the member that the call is from. A call for another log or
//! another node is refused loudly: two clusters that reached each other by a wrong address must not mix.

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
/// How long a leader waits for a quorum that confirms it: less than the caller waits for the answer.
const CONFIRM_MAX: Duration = Duration::from_secs(1);
/// Bytes of frames in one answer to a member that repairs its log, as far as memory allows; a larger frame comes alone.
const FETCH_BYTES_MAX: usize = 1 << 20;

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

    /// Frames for a member that repairs its log.
    pub(crate) async fn fetch(&self, caller: &str, request: wire::FetchRequest) -> Result<wire::FetchResponse, Status> {
        self.admit(caller, request.route)?;
        // Asked before the checkpoint is taken, so that the checkpoint may cover it already.
        let confirmed = match request.confirm {
            true => self.confirmed().await,
            false => None,
        };
        let newest = self.checkpoint().ok_or_else(|| Status::unavailable("nothing is covered by a checkpoint yet"))?;
        let requests = &self.memory().requests;
        let bytes = FETCH_BYTES_MAX.min(requests.limit_len() / 4);
        let room = requests.hold(bytes);
        let _room = room.ok_or_else(|| Status::resource_exhausted("no room for an answer: ask again later"))?;
        let frames = self.covered_frames(request.from, newest.checkpoint.size, bytes).await;
        let frames =
            frames.map_err(|why| Status::unavailable(format!("this member's own log cannot be read: {why}")))?;
        let frames = frames.into_iter().map(Into::into).collect();
        Ok(wire::FetchResponse { frames, checkpoint: newest.note, confirmed })
    }

    /// The index up to which everything is committed that was committed by now, where this node leads and a quorum says
    /// so. A member that asks has not voted since, so its own voice is not among them.
    async fn confirmed(&self) -> Option<u64> {
        let (read, _) = timeout(CONFIRM_MAX, self.raft().get_read_log_id()).await.ok()?.ok()?;
        Some(read?.index)
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
