//! Carries Raft's AppendEntries to one member, one call at a time, over a stream that it keeps.

use std::{error::Error, sync::Arc};

use openraft::{
    LogId,
    error::{NetworkError, RPCError, RaftError, Unreachable},
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    super::cluster_wire::{self as wire, append_response::Outcome},
    SignedCheckpoint,
    cosign::{Along, Word},
    line::{Line, Watch},
    network::Links,
    types::{Member, RaftEntry, TypeConfig, encode_frame},
};

/// The result of one of Raft's calls.
pub(super) type Answer<T, E = openraft::error::Infallible> = Result<T, RPCError<u64, Member, RaftError<u64, E>>>;

/// See the module.
pub(super) struct Courier {
    pub(super) links: Arc<Links>,
    pub(super) node: u64,
    pub(super) member: Member,
    pub(super) word: Word,
    /// Present between two calls. Taken while one is under way, so that a call that is given up takes its stream with
    /// it.
    line: Option<Line>,
}

/// What a member made of a call, and where its log ends after it.
pub(super) struct Taken {
    pub(super) response: AppendEntriesResponse<u64>,
    pub(super) last: Option<LogId<u64>>,
}

impl Courier {
    pub(super) fn new(links: Arc<Links>, node: u64, member: Member, word: Word) -> Self {
        Self { links, node, member, word, line: None }
    }

    /// Another courier to the same member, over a stream of its own.
    pub(super) fn another(&self) -> Self {
        Self::new(self.links.clone(), self.node, self.member.clone(), self.word.clone())
    }

    /// Makes one call of Raft. `along` is what the leader has to say about checkpoints with it.
    pub(super) async fn ask(&mut self, request: &AppendEntriesRequest<TypeConfig>, along: Along) -> Answer<Taken> {
        let term = request.vote.leader_id.term;
        let note = |signed: &Option<SignedCheckpoint>| signed.as_ref().map(|it| it.note.clone()).unwrap_or_default();
        let message = wire::AppendRequest {
            route: Some(self.links.route(self.node, &self.member)),
            vote: Some(request.vote.into()),
            previous: request.prev_log_id.map(Into::into),
            frames: self.frames(&request.entries),
            committed: request.leader_commit.map(Into::into),
            checkpoint: note(&along.round),
            published: note(&along.published),
            fresh: self.links.ledger.word(self.node, term),
            ..Default::default()
        };
        let sent = Instant::now();
        let answer = self.call(message).await?;
        let wire::AppendResponse { outcome, matching, vote, cosignature, shown, stamp, last, .. } = answer;
        self.word.answered(self.node, along, cosignature, shown).await;
        if matches!(Outcome::try_from(outcome), Ok(Outcome::Stored | Outcome::Partly | Outcome::Conflict)) {
            self.links.ledger.freshness.answered(self.node, term, sent, stamp);
        }
        let response = match Outcome::try_from(outcome) {
            Ok(Outcome::Stored) => AppendEntriesResponse::Success,
            Ok(Outcome::Partly) => AppendEntriesResponse::PartialSuccess(matching.map(Into::into)),
            Ok(Outcome::Conflict) => AppendEntriesResponse::Conflict,
            Ok(Outcome::HigherVote) => {
                let seen = vote.unwrap_or_default().into();
                // openraft would send the member nothing more, and stay the leader.
                if seen <= request.vote {
                    return Err(failed(&Status::internal("a larger vote that is not larger")));
                }
                AppendEntriesResponse::HigherVote(seen)
            }
            _ => return Err(failed(&Status::internal("an answer without an outcome"))),
        };
        Ok(Taken { response, last: last.map(Into::into) })
    }

    /// Makes an AppendEntries call, over the stream of the last one if that is still there.
    async fn call(&mut self, request: wire::AppendRequest) -> Answer<wire::AppendResponse> {
        let Courier { links, node, member, line, .. } = self;
        let watch = Watch { patience: links.distances().patience(*node), heard: || links.heard(*node) };
        // A call that carries no entries is answered at once, which shows how far away the member is.
        let (begun, empty) = (Instant::now(), request.frames.is_empty());
        let answered = match line.take() {
            Some(open) => {
                let answered = open.call(request, watch).await;
                if empty && answered.is_ok() {
                    links.distances().round_trip(*node, begun.elapsed());
                }
                answered
            }
            None => Line::begin(links.to(*node, member).map_err(|why| Unreachable::new(&why))?, request, watch).await,
        };
        let (answer, open) = answered.map_err(|status| {
            links.failed(*node, &status);
            failed(&status)
        })?;
        *line = Some(open);
        Ok(answer)
    }

    /// What the leader has to say about checkpoints with this call. A call that only tells of a commit waits for the
    /// checkpoint over it, which is being signed at this moment: that saves a call.
    pub(super) async fn along(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Along {
        if let Some(committed) = request.leader_commit.filter(|_| request.entries.is_empty()) {
            self.word.wait_for(self.links.ledger.end(committed.index).unwrap_or_default()).await;
        }
        let votes = self.votes();
        self.word.along(votes)
    }

    /// Returns whether the member votes, by the newest membership.
    pub(super) fn votes(&self) -> bool {
        self.links.ledger.with_membership(|members| members.voter_ids().any(|voter| voter == self.node))
    }

    /// The entries as frames. A leader's own log never shrinks, so every entry that it sends has its place there.
    fn frames(&self, entries: &[RaftEntry]) -> Vec<wire::Frame> {
        let frame = |entry: &RaftEntry| {
            let first_leaf = self.links.ledger.begin(entry.log_id.index).unwrap_or_default();
            encode_frame(entry, first_leaf).into()
        };
        entries.iter().map(frame).collect()
    }
}

/// A member that is away is left alone for a moment; anything else is tried again.
pub(super) fn failed<E: Error>(status: &Status) -> RPCError<u64, Member, RaftError<u64, E>> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::FailedPrecondition | Code::DeadlineExceeded => {
            Unreachable::new(status).into()
        }
        _ => NetworkError::new(status).into(),
    }
}
