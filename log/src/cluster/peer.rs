//! Raft's calls to one member.
//!
//! openraft does not ask a member what it holds. After each election it searches for that by halving the log, and sends
//! hundreds of entries with every step: half of the log would travel anew, a round trip for each piece of it, before
//! anything is committed. Therefore each member reports, with its vote and with each answer, where its log ends. What
//! both logs have in common follows from that, mostly without a call (Raft paper, section 5.3, "Log Matching").
//! Whatever openraft asks about the common part is answered here, and only what the member lacks is sent.
//!
//! openraft also ends the leader if a member holds less than it once acknowledged. Such a member lost what its disk had
//! promised, and that must not end any other node. It is sent again what it lost, before openraft hears of it. And if a
//! member contradicts what both logs were thought to have in common, beyond what openraft asked about, the common part
//! is searched for anew: told of a conflict where it knows that the logs agree, openraft would end the leader as well.

use std::{error::Error, sync::Arc};

use gapless_world::LogEvent;
use openraft::{
    LogId, RaftLogReader as _, Vote,
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use tonic::Status;

use super::{
    super::cluster_wire as wire,
    beside::Beside,
    cosign::{Along, Word},
    courier::{Answer, Courier, Taken, failed},
    ledger::Ledger,
    log::LogReader,
    network::{Links, PAUSE},
    types::{Member, TypeConfig},
};

/// Makes Raft's connections.
pub(super) struct Network {
    pub(super) links: Arc<Links>,
    /// What the leader has to say about checkpoints with their calls.
    pub(super) word: Word,
    /// This node's log.
    pub(super) log: LogReader,
}

/// See the module.
pub(super) struct Peer {
    links: Arc<Links>,
    node: u64,
    courier: Courier,
    log: LogReader,
    /// The last entry that the member's log has in common with this one; `None` as long as that is not known.
    common: Option<Option<LogId<u64>>>,
    /// The member was found to hold less than Raft was told, and that is not mended yet.
    lost_some: bool,
    /// Whether its loss has been reported.
    told_of_loss: bool,
    /// Tells a far member of commits beside the entries. Present once it is known what the logs have in common.
    beside: Option<Beside>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        let courier = Courier::new(self.links.clone(), target, node.clone(), self.word.clone());
        let (links, log) = (self.links.clone(), self.log.clone());
        Peer { links, node: target, courier, log, common: None, lost_some: false, told_of_loss: false, beside: None }
    }
}

impl Peer {
    /// Makes one call of Raft. Where commits are told beside, the leader's word on checkpoints goes with them instead.
    async fn ask(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Answer<Taken> {
        let along = match self.beside {
            Some(_) => Along::default(),
            None => self.courier.along(request).await,
        };
        let answered = self.courier.ask(request, along).await;
        // By the time the member is reached again, it may hold something else.
        answered.inspect_err(|_| self.forget())
    }

    /// Forgets what the member holds: it has to be found again.
    fn forget(&mut self) {
        (self.common, self.beside) = (None, None);
    }

    /// Finds the last entry that the member's log has in common with this one. Asks the member only where that cannot
    /// be told otherwise.
    ///
    /// # Errors
    /// The outer error: there is no answer. The inner one: what Raft has to be told instead.
    async fn find_common(&mut self, vote: Vote<u64>) -> Answer<Result<Option<LogId<u64>>, AppendEntriesResponse<u64>>> {
        if let Some(common) = self.common {
            return Ok(Ok(common));
        }
        let probe = |at| AppendEntriesRequest { vote, prev_log_id: at, entries: Vec::new(), leader_commit: None };
        let last = match self.links.take_log_of_voter(self.node, &vote) {
            Some(last) => last,
            None => match self.ask(&probe(None)).await? {
                Taken { response: AppendEntriesResponse::Success, last } => last,
                Taken { response, .. } => return Ok(Err(response)),
            },
        };
        let ledger = self.links.ledger.clone();
        let mut part = CommonPart::of(&ledger, last);
        while let Some(at) = part.to_ask() {
            match self.ask(&probe(Some(at))).await?.response {
                AppendEntriesResponse::Success => break,
                AppendEntriesResponse::Conflict => part.parted_at(at),
                response => return Ok(Err(response)),
            }
        }
        let common = part.guess;
        self.common = Some(common);
        Ok(Ok(common))
    }

    /// Sends the member again what it had acknowledged and has lost, up to `upto`.
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
                mark!("member-got-it-again");
                (self.lost_some, self.told_of_loss) = (false, false);
                return Ok(Ok(()));
            }
            if !std::mem::replace(&mut self.told_of_loss, true) {
                self.tell_of_loss(common, upto);
            }
            let start = common.map_or(0, |common| common.index + 1);
            let entries = self.log.limited_get_log_entries(start, upto.index + 1).await;
            // The log store has noted the failure, which ends the node.
            let entries = entries.map_err(|why| failed(&Status::internal(why.to_string())))?;
            let Some(newest) = entries.last().map(|entry| entry.log_id) else {
                return Err(failed(&Status::internal("an entry of this node's own log is missing")));
            };
            let request = AppendEntriesRequest { vote, prev_log_id: common, entries, leader_commit: None };
            match self.ask(&request).await?.response {
                AppendEntriesResponse::Success => self.common = Some(Some(newest)),
                AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict => self.forget(),
                response => return Ok(Err(response)),
            }
        }
    }

    /// Reports that the member had acknowledged everything up to `upto`, and holds no more than `common`.
    fn tell_of_loss(&self, common: Option<LogId<u64>>, upto: LogId<u64>) {
        let ledger = &self.links.ledger;
        let holds = common.and_then(|common| ledger.end(common.index)).unwrap_or_default();
        let acknowledged = ledger.end(upto.index).unwrap_or(holds);
        let member = self.courier.member.name.clone();
        ledger.tell(LogEvent::MemberLostTail { node: self.node, member, holds, acknowledged });
    }

    /// Returns what Raft is to be told without a call. `None` where the call has to be made: the request then holds
    /// only what the member lacks.
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

    /// Makes a call that carries no entries, if it can go beside those that do; `None` if it cannot.
    fn tell(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Option<Answer<AppendEntriesResponse<u64>>> {
        if let Some(ended) = self.beside.as_mut().and_then(Beside::ended) {
            mark!("telling-beside-ended");
            self.beside = None;
            return Some(ended.inspect_err(|_| self.forget()));
        }
        // A peer that was made for a single question does not know the common part yet: each member of a quorum has to
        // answer such a question itself.
        if !request.entries.is_empty() || self.common.is_none() || self.lost_some {
            return None;
        }
        match &self.beside {
            Some(beside) => beside.tell(request.clone()),
            None if !self.links.distances().is_far(self.node) => return None,
            None => {
                mark!("commits-told-beside");
                self.beside = Some(Beside::start(self.courier.another(), request.clone()))
            }
        }
        Some(Ok(AppendEntriesResponse::Success))
    }

    /// The member holds less than Raft was told. Raft repeats its call, and before that the member is sent what it
    /// lost.
    fn lost<E: Error>(&mut self) -> RPCError<u64, Member, RaftError<u64, E>> {
        mark!("member-lost-what-it-acknowledged", !self.lost_some);
        self.lost_some = true;
        self.forget();
        failed(&Status::unavailable("the member holds less than it had acknowledged"))
    }
}

/// The search for the newest entry that a member's log has in common with this one.
struct CommonPart<'a> {
    ledger: &'a Ledger,
    /// The last entry of the member's log, as it reported it.
    last: Option<LogId<u64>>,
    /// The newest entry that both may have: once there is nothing left to ask, both have it.
    guess: Option<LogId<u64>>,
}

impl<'a> CommonPart<'a> {
    fn of(ledger: &'a Ledger, last: Option<LogId<u64>>) -> Self {
        // The entries of one leader stand in the same order in all logs, so a log that has its newest one has all
        // before it.
        let guess = last.and_then(|last| ledger.newest_by(last.leader_id, last.index));
        Self { ledger, last, guess }
    }

    /// The entry that the member has to be asked about, if there is one.
    fn to_ask(&self) -> Option<LogId<u64>> {
        self.guess.filter(|guess| Some(*guess) != self.last)
    }

    /// Notes that the member has another entry there, or none. What is before that leader's entries has to be asked
    /// about anew, because the logs may have parted more than once.
    fn parted_at(&mut self, asked: LogId<u64>) {
        mark!("logs-had-parted");
        self.guess = self.ledger.newest_before(asked.leader_id);
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
        let (asked_at, last) = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
        let response = match self.tell(&request) {
            Some(told) => told?,
            None => match self.prepare(&mut request).await? {
                Some(known) => known,
                None => self.ask(&request).await?.response,
            },
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
                // Raft asked about an earlier entry. If it were told of a conflict there, where it knows that the logs
                // agree, it would end.
                if request.prev_log_id != asked_at {
                    self.forget();
                    return Err(failed(&Status::unavailable(
                        "the member contradicts what the logs were thought to have in common",
                    )));
                }
            }
            AppendEntriesResponse::HigherVote(_) => {
                mark!("leader-met-a-newer-one");
            }
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
        let answer = self.links.ask_for_vote(self.node, &self.courier.member, asked, last_log_id, false).await;
        let wire::VoteResponse { vote, granted, last, .. } = answer.map_err(|status| failed(&status))?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use openraft::CommittedLeaderId;

    use super::{
        super::ledger::tests::{entry, ledger},
        *,
    };

    /// A log whose entries have these terms.
    fn log(terms: &[u64]) -> Vec<LogId<u64>> {
        (0..).zip(terms).map(|(index, term)| LogId::new(CommittedLeaderId::new(*term, 1), index)).collect()
    }

    /// What a leader with the log `own` takes for the common part of both logs, and how often it asked.
    fn common(own: &[u64], members: &[u64]) -> (Option<LogId<u64>>, usize) {
        let (ledger, holds, mut asked) = (ledger(), log(members), 0);
        own.iter().zip(0..).for_each(|(term, index)| drop(ledger.append(entry(*term, index, &["a"]))));
        let mut part = CommonPart::of(&ledger, holds.last().copied());
        while let Some(at) = part.to_ask() {
            asked += 1;
            if holds.contains(&at) {
                break;
            }
            part.parted_at(at);
        }
        (part.guess, asked)
    }

    #[test]
    fn what_two_logs_have_in_common_is_asked_after_every_parting_anew() {
        let at = |term, index| Some(LogId::new(CommittedLeaderId::new(term, 1), index));
        assert_eq!(common(&[1, 1, 2], &[1, 1, 2]), (at(2, 2), 0), "the same log");
        assert_eq!(common(&[1, 1, 2, 4], &[1, 1, 2]), (at(2, 2), 0), "a shorter one");
        assert_eq!(common(&[1, 1, 4], &[1, 1, 3]), (at(1, 1), 1), "parted once");
        assert_eq!(common(&[1, 2, 4, 6], &[1, 3, 5, 5]), (at(1, 0), 3), "parted twice");
        assert_eq!(common(&[2, 4, 6, 8], &[1, 3, 5, 7]), (None, 3), "nothing");
        assert_eq!(common(&[1], &[]), (None, 0), "an empty one");
    }

    /// Every pair of logs of five entries that four leaders can leave.
    #[test]
    fn whatever_two_logs_are_what_is_taken_for_their_common_part_is_in_both() {
        let logs: BTreeSet<Vec<u64>> = (0..4_u64.pow(5))
            .map(|code| (0..5).map(|place| code / 4_u64.pow(place) % 4 + 1).collect::<Vec<u64>>())
            .filter(|terms| terms.is_sorted())
            .collect();
        for own in &logs {
            for members in &logs {
                let both: Vec<_> = log(own).into_iter().filter(|at| log(members).contains(at)).collect();
                // In Raft, two logs that have an entry in common agree before it.
                if both.len() as u64 != both.last().map_or(0, |last| last.index + 1) {
                    continue;
                }
                let (found, asked) = common(own, members);
                assert!(found.is_none_or(|found| both.contains(&found)), "{own:?} {members:?}: {found:?}");
                // And nothing of it is missing except entries of one leader.
                let sure = both.iter().rev().find(|at| at.leader_id < both[both.len() - 1].leader_id).copied();
                assert!(found >= sure, "{own:?} {members:?}: {found:?}");
                assert!(asked <= own.iter().collect::<BTreeSet<_>>().len(), "{own:?} {members:?}: asked {asked} times");
            }
        }
    }
}
