//! Raft's calls to one member.
//!
//! openraft does not ask a member what it holds. After each election it looks for that by halving the log, and sends hundreds
//! of entries with every step: half of the log would travel anew, a round trip for each piece of it, before anything is
//! committed. So each member says with its vote and with each answer where its log ends, and what both logs have in common
//! follows from that, mostly without a call (Raft paper, section 5.3, "Log Matching"). Whatever openraft asks about the
//! common part is answered here, and only what the member lacks is sent.
//!
//! openraft also ends the leader where a member holds less than it once acknowledged. Such a member lost what its disk had
//! promised; that must not end anybody else. It is sent again what it lost, before openraft hears of it.

use std::{error::Error, sync::Arc};

use openraft::{
    LogId, RaftLogReader as _, Vote,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    super::cluster_wire::{self as wire, append_response::Outcome},
    SignedCheckpoint,
    cosign::{Along, Word},
    line::{Line, Watch},
    log::LogReader,
    network::{Links, PAUSE},
    types::{Member, RaftEntry, TypeConfig, encode_frame},
};

/// Answers of Raft.
type Answer<T, E = openraft::error::Infallible> = Result<T, RPCError<u64, Member, RaftError<u64, E>>>;

/// Makes Raft's connections.
pub(super) struct Network {
    pub(super) links: Arc<Links>,
    /// What goes along with their calls.
    pub(super) word: Word,
    /// This node's log.
    pub(super) log: LogReader,
}

/// See the module.
pub(super) struct Peer {
    links: Arc<Links>,
    node: u64,
    member: Member,
    word: Word,
    log: LogReader,
    /// Between two calls; none while one is under way, so that a call which was given up takes its stream with it.
    line: Option<Line>,
    /// The last entry that the member's log has in common with this one's; `None` as long as that is not known.
    common: Option<Option<LogId<u64>>>,
    /// The member was found to hold less than Raft was told.
    lost_some: bool,
}

/// What a member made of a call, and where its log ends since.
struct Taken {
    response: AppendEntriesResponse<u64>,
    last: Option<LogId<u64>>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        let (links, word, log) = (self.links.clone(), self.word.clone(), self.log.clone());
        Peer { links, node: target, member: node.clone(), word, log, line: None, common: None, lost_some: false }
    }
}

impl Peer {
    /// AppendEntries, over the stream of the last one where that is still there.
    async fn call(&mut self, request: wire::AppendRequest) -> Answer<wire::AppendResponse> {
        let Peer { links, node, member, line, .. } = self;
        let watch = Watch { patience: links.distances().patience(*node), heard: || links.heard(*node) };
        // What carries nothing is answered at once: that shows how far the member is.
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
            if status.code() == Code::DeadlineExceeded {
                links.gave_up(*node);
            }
            failed(&status)
        })?;
        *line = Some(open);
        Ok(answer)
    }

    /// One call of Raft, with the leader's word on checkpoints.
    async fn ask(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Answer<Taken> {
        let term = request.vote.leader_id.term;
        let along = self.along(request).await;
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
        let answered = self.call(message).await;
        // What the member holds may be another thing by the time that it is met again.
        let answer = answered.inspect_err(|_| self.common = None)?;
        let wire::AppendResponse { outcome, matching, vote, cosignature, shown, stamp, last } = answer;
        self.word.answered(self.node, along, cosignature, shown).await;
        if matches!(Outcome::try_from(outcome), Ok(Outcome::Stored | Outcome::Partly | Outcome::Conflict)) {
            self.links.ledger.freshness.answered(self.node, term, sent, stamp);
        }
        let response = match Outcome::try_from(outcome) {
            Ok(Outcome::Stored) => AppendEntriesResponse::Success,
            Ok(Outcome::Partly) => AppendEntriesResponse::PartialSuccess(matching.map(Into::into)),
            Ok(Outcome::Conflict) => AppendEntriesResponse::Conflict,
            Ok(Outcome::HigherVote) => AppendEntriesResponse::HigherVote(vote.unwrap_or_default().into()),
            _ => return Err(failed(&Status::internal("an answer without an outcome"))),
        };
        Ok(Taken { response, last: last.map(Into::into) })
    }

    /// The leader's word that goes along with a call. One that only tells of a commit waits for the checkpoint over it,
    /// which is signed at this moment: it saves a call.
    async fn along(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Along {
        if let Some(committed) = request.leader_commit.filter(|_| request.entries.is_empty()) {
            self.word.wait_for(self.links.ledger.end(committed.index).unwrap_or_default()).await;
        }
        let votes = self.links.ledger.with_membership(|members| members.voter_ids().any(|voter| voter == self.node));
        self.word.along(votes)
    }

    /// The entries as frames. A leader's own log never shrinks, so every entry that it sends has its place there.
    fn frames(&self, entries: &[RaftEntry]) -> Vec<wire::Frame> {
        let frame = |entry: &RaftEntry| {
            let first_leaf = self.links.ledger.begin(entry.log_id.index).unwrap_or_default();
            encode_frame(entry, first_leaf).into()
        };
        entries.iter().map(frame).collect()
    }

    /// What the member's log has in common with this one's. It asks the member where that cannot be told otherwise.
    ///
    /// # Errors
    /// In the first place that there is no answer; in the second what Raft has to be told instead.
    async fn find_common(&mut self, vote: Vote<u64>) -> Answer<Result<Option<LogId<u64>>, AppendEntriesResponse<u64>>> {
        if let Some(common) = self.common {
            return Ok(Ok(common));
        }
        let probe = |at| AppendEntriesRequest { vote, prev_log_id: at, entries: Vec::new(), leader_commit: None };
        let mut last = match self.links.take_log_of_voter(self.node, &vote) {
            Some(last) => last,
            None => match self.ask(&probe(None)).await? {
                Taken { response: AppendEntriesResponse::Success, last } => last,
                Taken { response, .. } => return Ok(Err(response)),
            },
        };
        let common = loop {
            // Entries of one leader stand in one order in all logs, so that whoever has its newest has all before it.
            let newest = last.and_then(|last| self.links.ledger.newest_by(last.leader_id, last.index));
            let Some(guess) = newest.filter(|_| newest != last) else { break newest };
            match self.ask(&probe(newest)).await?.response {
                AppendEntriesResponse::Success => break newest,
                AppendEntriesResponse::Conflict => last = self.links.ledger.newest_before(guess.leader_id),
                response => return Ok(Err(response)),
            }
        };
        self.common = Some(common);
        Ok(Ok(common))
    }

    /// Sends the member what it had acknowledged and holds no more, up to `upto`.
    async fn send_again(
        &mut self,
        vote: Vote<u64>,
        upto: LogId<u64>,
    ) -> Answer<Result<(), AppendEntriesResponse<u64>>> {
        loop {
            let common = match self.find_common(vote).await? {
                Ok(common) => common,
                Err(response) => return Ok(Err(response)),
            };
            if common >= Some(upto) {
                self.lost_some = false;
                return Ok(Ok(()));
            }
            let start = common.map_or(0, |common| common.index + 1);
            let entries = self.log.limited_get_log_entries(start, upto.index + 1).await;
            // The log store has noted the failure: the node ends for it.
            let entries = entries.map_err(|why| failed(&Status::internal(why.to_string())))?;
            let Some(newest) = entries.last().map(|entry| entry.log_id) else {
                return Err(failed(&Status::internal("an entry of this node's own log is missing")));
            };
            let request = AppendEntriesRequest { vote, prev_log_id: common, entries, leader_commit: None };
            match self.ask(&request).await?.response {
                AppendEntriesResponse::Success => self.common = Some(Some(newest)),
                AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict => self.common = None,
                response => return Ok(Err(response)),
            }
        }
    }

    /// What Raft is to be told without a call; else the request holds only what the member lacks.
    async fn prepare(
        &mut self,
        request: &mut AppendEntriesRequest<TypeConfig>,
    ) -> Answer<Option<AppendEntriesResponse<u64>>> {
        let vote = request.vote;
        let told = self.links.told(self.node, vote.leader_id.term);
        if let Some(told) = told.filter(|_| self.lost_some)
            && let Err(response) = self.send_again(vote, told).await?
        {
            return Ok(Some(response));
        }
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else { return Ok(None) };
        let common = match self.find_common(vote).await? {
            Ok(common) => common,
            Err(response) => return Ok(Some(response)),
        };
        if request.prev_log_id > common {
            if request.prev_log_id <= told {
                return Err(self.lost());
            }
            return Ok(Some(AppendEntriesResponse::Conflict));
        }
        if Some(last) <= common {
            return Ok(Some(AppendEntriesResponse::Success));
        }
        request.entries.retain(|entry| Some(entry.log_id) > common);
        request.prev_log_id = common;
        Ok(None)
    }

    /// The member holds less than Raft was told. Raft makes its call again, and the member is looked after first.
    fn lost<E: Error>(&mut self) -> RPCError<u64, Member, RaftError<u64, E>> {
        if !self.lost_some {
            tracing::error!(node = self.node, "a member holds less than it had acknowledged: it is sent that again");
        }
        (self.lost_some, self.common) = (true, None);
        failed(&Status::unavailable("the member holds less than it had acknowledged"))
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        let mut request = request;
        let term = request.vote.leader_id.term;
        let last = request.entries.last().map(|entry| entry.log_id);
        let response = match self.prepare(&mut request).await? {
            Some(known) => known,
            None => self.ask(&request).await?.response,
        };
        match &response {
            AppendEntriesResponse::Success => {
                if let Some(last) = last {
                    self.common = self.common.map(|common| common.max(Some(last)));
                    self.links.tell_matching(self.node, term, last);
                }
            }
            AppendEntriesResponse::PartialSuccess(matching) => {
                self.common = Some(*matching);
                matching.iter().for_each(|matching| self.links.tell_matching(self.node, term, *matching));
            }
            AppendEntriesResponse::Conflict => {
                let told = self.links.told(self.node, term);
                if request.prev_log_id.is_some() && request.prev_log_id <= told {
                    return Err(self.lost());
                }
            }
            AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(response)
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        let why = Status::unimplemented("an audit log has no snapshots: it keeps every entry");
        Err(Unreachable::new(&why).into())
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _option: RPCOption) -> Answer<VoteResponse<u64>> {
        let VoteRequest { vote: asked, last_log_id } = request;
        let answer = self.links.ask_for_vote(self.node, &self.member, asked, last_log_id, false).await;
        let wire::VoteResponse { vote, granted, last } = answer.map_err(|status| failed(&status))?;
        let (vote, last) = (Vote::from(vote.unwrap_or_default()), last.map(Into::into));
        if granted && vote == asked {
            self.links.voted(self.node, asked, last);
        }
        Ok(VoteResponse::new(vote, last, granted))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

/// A member that is away is left alone for a moment; anything else is tried again.
fn failed<E: Error>(status: &Status) -> RPCError<u64, Member, RaftError<u64, E>> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::FailedPrecondition | Code::DeadlineExceeded => {
            Unreachable::new(status).into()
        }
        _ => NetworkError::new(status).into(),
    }
}
