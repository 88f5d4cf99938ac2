//! What a member answers to the calls of the others.
//!
//! A caller is identified by its certificate, and must be the member that the call is from: by this node's own log or,
//! where that log does not name the caller's node yet, by the log's key. A call for another log or another node is
//! refused with an error: two clusters that reached each other by a wrong address must not mix. So is a call for the
//! node that was there before: an empty folder under the id of a lost voter must be sent nothing and asked for no vote,
//! because it forgot what that voter promised.

use openraft::{
    Vote,
    raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest},
};
use tonic::Status;

use super::{
    super::{
        budget::Held,
        cluster_wire::{self as wire, append_response::Outcome},
    },
    Node,
    election::{Standing, would_vote},
    ledger::{Ledger, NotCosigned},
    linearizable,
    network::entries,
    types::TypeConfig,
};
use crate::words::hex;

/// Bytes of frames in one answer to a member that repairs its log, as far as memory allows; a larger frame comes alone.
const FETCH_BYTES_MAX: usize = 1 << 20;

impl Node {
    /// Raft's AppendEntries, from the member `caller`.
    pub(crate) async fn append_entries(
        &self,
        caller: &str,
        request: wire::AppendRequest,
    ) -> Result<wire::AppendResponse, Status> {
        let wire::AppendRequest { route, vote, previous, frames, committed, checkpoint, published, fresh, .. } =
            request;
        self.admit(caller, route)?;
        let entries = entries(frames).map_err(|why| Status::invalid_argument(why.to_string()))?;
        let vote = vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into();
        // If there is a later leader, Raft's own answer tells of it.
        self.feel_pulse(vote).ok();
        let request = AppendEntriesRequest {
            vote,
            prev_log_id: previous.map(Into::into),
            entries,
            leader_commit: committed.map(Into::into),
        };
        let answer = self.take(request).await?;
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
        // Only at this point is what the call brought durable, and that may be what is to be shown and cosigned.
        let cosignature = match outcome {
            Outcome::Stored | Outcome::Partly => self.follow_and_cosign(&published, &checkpoint),
            _ => String::new(),
        };
        let (shown, stamp) = (self.committed(), Some(self.ledger().freshness.stamp()));
        let last = self.ledger().last_log_id().map(Into::into);
        Ok(wire::AppendResponse {
            outcome: outcome.into(),
            matching,
            vote,
            cosignature,
            shown,
            stamp,
            last,
            ..Default::default()
        })
    }

    /// Hands one call to Raft. Only one at a time: a caller that gave up a call which a disk holds up makes it again,
    /// and each copy would wait in Raft's queue, which has no bound. The call goes on even if its caller is gone.
    async fn take(&self, request: AppendEntriesRequest<TypeConfig>) -> Result<AppendEntriesResponse<u64>, Status> {
        let turn = self.appending().clone().lock_owned().await;
        let raft = self.raft().clone();
        let taken = tokio::spawn(async move {
            let answer = raft.append_entries(request).await;
            drop(turn);
            answer
        });
        let answer = taken.await.map_err(|why| Status::internal(why.to_string()))?;
        answer.map_err(|why| Status::unavailable(why.to_string()))
    }

    /// Takes a sign of life, which the member `caller` sends while its request is on its way or waits for this node's
    /// disk. It counts as the leader's pulse, unless this node knows a later leader. Then the answer says so to the
    /// caller, which was replaced.
    pub(crate) fn hear(
        &self,
        caller: &str,
        route: Option<wire::Route>,
        vote: Option<wire::Ballot>,
    ) -> Result<wire::AppendResponse, Status> {
        self.admit(caller, route)?;
        let vote: Vote<u64> = vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into();
        Ok(match self.feel_pulse(vote) {
            Ok(()) => wire::AppendResponse { outcome: Outcome::Received.into(), ..Default::default() },
            Err(newer) => {
                let outcome = Outcome::HigherVote.into();
                wire::AppendResponse { outcome, vote: Some(newer.into()), ..Default::default() }
            }
        })
    }

    /// Notes that a leader with this vote was heard.
    ///
    /// # Errors
    /// The larger vote that this node knows of.
    fn feel_pulse(&self, vote: Vote<u64>) -> Result<(), Vote<u64>> {
        let newest = self.raft().metrics().borrow().vote;
        if newest > vote {
            return Err(newest);
        }
        if vote.committed {
            self.pulse().beat();
        }
        Ok(())
    }

    /// Raft's RequestVote, from the member `caller`; or the question how this node would vote.
    pub(crate) async fn vote(&self, caller: &str, request: wire::VoteRequest) -> Result<wire::VoteResponse, Status> {
        let wire::VoteRequest { route, vote, last, trial } = request;
        let node = route.as_ref().map_or(0, |route| route.from);
        self.admit(caller, route)?;
        let vote: Vote<u64> = vote.ok_or_else(|| Status::invalid_argument("no vote"))?.into();
        let last_log_id = last.map(Into::into);
        if trial {
            let candidate = Standing { last: last_log_id, node };
            let granted = would_vote(self.pulse(), self.leadership(), self.ledger(), candidate).await;
            let last = self.ledger().last_log_id().map(Into::into);
            return Ok(wire::VoteResponse {
                vote: Some(self.raft().metrics().borrow().vote.into()),
                granted,
                last,
                ..Default::default()
            });
        }
        let answer = self.raft().vote(VoteRequest { vote, last_log_id }).await;
        let answer = answer.map_err(|why| Status::unavailable(why.to_string()))?;
        let (vote, last) = (Some(answer.vote.into()), answer.last_log_id.map(Into::into));
        Ok(wire::VoteResponse { vote, granted: answer.vote_granted, last, ..Default::default() })
    }

    /// Shows one checkpoint and cosigns another, as the leader asks; either may be empty. A log that does not reach
    /// them yet does neither, and the leader asks again with its next call.
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

    /// Returns frames for a member that repairs its log, and the room that was set aside for them, which is to be held
    /// until they are sent.
    pub(crate) async fn fetch(
        &self,
        caller: &str,
        request: wire::FetchRequest,
    ) -> Result<(wire::FetchResponse, Held), Status> {
        self.admit(caller, request.route)?;
        // Asked before the checkpoint is taken, so that the checkpoint may cover it already.
        let confirmed = match request.confirm {
            // A member that asks has answered nobody since its repair began, so it is not counted in the quorum.
            true => linearizable::round(self.raft(), self.leadership()).await.ok(),
            false => None,
        };
        mark!("repair-asked-a-leader", confirmed.is_some());
        let newest = self.checkpoint().ok_or_else(|| Status::unavailable("nothing is covered by a checkpoint yet"))?;
        let requests = &self.memory().requests;
        let no_room = || Status::resource_exhausted("no room for an answer: ask again later");
        let bytes = FETCH_BYTES_MAX.min(requests.limit_len() / 4);
        let mut room = requests.hold(bytes).ok_or_else(no_room)?;
        let frames = self.covered_frames(request.from, newest.checkpoint.size, bytes).await;
        let frames =
            frames.map_err(|why| Status::unavailable(format!("this member's own log cannot be read: {why}")))?;
        // A larger frame takes the room that it needs, and at most all that there is: then it goes out alone.
        let taken: usize = frames.iter().map(|frame| frame.body.len()).sum();
        let most = requests.limit_len().max(bytes);
        room.grow(taken.clamp(bytes, most) - bytes).ok_or_else(no_room)?;
        let frames = frames.into_iter().map(Into::into).collect();
        Ok((wire::FetchResponse { frames, checkpoint: newest.note, confirmed }, room))
    }

    fn admit(&self, caller: &str, route: Option<wire::Route>) -> Result<(), Status> {
        let settings = &self.ledger().settings;
        let wire::Route { log_id, from, to, vouch, to_cosigner } =
            route.ok_or_else(|| Status::invalid_argument("no route"))?;
        if log_id[..] != settings.log_id || to != settings.node {
            let (log, node) = (hex(&settings.log_id), settings.node);
            let said = format!(
                "this is node {node} of log {log}, not node {to} of log {}",
                hex(&log_id[..log_id.len().min(16)])
            );
            return Err(Status::failed_precondition(said));
        }
        // Earlier releases do not say it.
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
