//! What a member asks the others after its start, before it votes.
//!
//! A disk that was put back to an earlier state, from a snapshot or a backup, looks sound: nothing on it says that the
//! member has acknowledged more since, or has voted. Until it knows, such a member could vote twice in one term, follow
//! a leader that it helped to replace, or elect a member that lacks what it acknowledged. The others know where their
//! own logs end, and of which terms they have heard. So after each start a member asks them, and
//!
//! * gives no vote, and asks for none, before they have answered, or do not answer while a quorum does;
//! * never votes in a term of which it was told, and follows no leader that is older than one of which it was told;
//! * votes for nobody whose log is shorter than the longest of which it was told, until it has heard a leader, or for as
//!   long as the member with that log needs to be elected.
//!
//! To refuse a vote is always safe in Raft. None of this is a proof: if all members are lost that know more, nobody can
//! tell that the disk was put back. That is why a member is repaired or replaced, and never restored from a copy.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use openraft::{LogId, Vote};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{ledger::Ledger, network::Links, quorum::is_quorum, types::Member};

/// How long the others have to answer once a quorum has.
const GRACE: Duration = Duration::from_secs(1);
/// How long a shorter log is refused. The member with the longest one stands within a second, unless it is gone.
const SHORTER_REFUSED: Duration = Duration::from_secs(3);
/// The wait before a member that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What this member was told by the others.
#[derive(Debug, Default)]
struct Told {
    /// Whether all have answered that will.
    over: bool,
    /// The newest vote that any of them knows.
    newest: Option<Vote<u64>>,
    /// The newest vote among those that made a leader.
    leader: Option<Vote<u64>>,
    /// Where the longest of their logs ends.
    longest: Option<LogId<u64>>,
    /// Until when shorter logs are refused.
    refuses_until: Option<Instant>,
}

/// See the module.
pub(super) struct Lookout(watch::Sender<Told>);

impl Lookout {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Told::default())))
    }

    /// Asks the other voters. Returns once they have answered.
    pub(super) async fn look(&self, ledger: &Ledger, links: &Links) {
        let membership = ledger.membership();
        let (own, voters) = (ledger.settings.node, membership.voter_ids().collect::<BTreeSet<u64>>());
        let others = membership.nodes().filter(|(node, _)| **node != own && voters.contains(node));
        // No log of a member is empty, so a candidate without any entry gets no vote, and its question changes nothing.
        let ask = |node: u64, member: Member| async move {
            loop {
                match links.ask_for_vote(node, &member, Vote::new(0, own), None, true).await {
                    Ok(answer) => return (node, answer),
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        let mut asked: FuturesUnordered<_> = others.map(|(node, member)| ask(*node, member.clone())).collect();
        let (mut answered, mut end) = (BTreeSet::from([own]), None);
        loop {
            if end.is_none() && is_quorum(&membership, &answered) {
                end = Some(Instant::now() + GRACE);
            }
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some((node, answer)) => {
                        answered.insert(node);
                        self.hear(answer.vote.map(Into::into), answer.last.map(Into::into));
                    }
                    None => break,
                },
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            }
        }
        mark!("others-did-not-answer-a-start", answered.len() < voters.len());
        mark!("others-knew-a-longer-log", self.0.borrow().longest > ledger.last_log_id());
        self.0.send_modify(|told| {
            told.over = true;
            told.refuses_until = Some(Instant::now() + SHORTER_REFUSED);
        });
    }

    fn hear(&self, vote: Option<Vote<u64>>, last: Option<LogId<u64>>) {
        self.0.send_modify(|told| {
            // Votes of one term are not ordered, and the term is what counts.
            if vote.map(|vote| vote.leader_id.term) > told.newest.map(|newest| newest.leader_id.term) {
                told.newest = vote;
            }
            let leader = vote.filter(|vote| vote.committed);
            if leader.map(|vote| vote.leader_id.term) > told.leader.map(|known| known.leader_id.term) {
                told.leader = leader;
            }
            told.longest = told.longest.max(last);
        });
    }

    /// Notes that a leader was heard: it has, or will have, whatever counts.
    pub(super) fn led(&self) {
        if self.0.borrow().refuses_until.is_some() {
            self.0.send_modify(|told| told.refuses_until = None);
        }
    }

    /// Returns whether this member may consent to a candidate whose log ends here.
    pub(super) fn permits(&self, last: Option<LogId<u64>>) -> bool {
        let told = self.0.borrow();
        let short = last < told.longest && told.refuses_until.is_some_and(|until| Instant::now() < until);
        mark!("vote-refused-before-the-others-answered", !told.over);
        mark!("vote-refused-for-a-longer-log", told.over && short);
        told.over && !short
    }

    /// Returns whether this member may vote in the term of a vote.
    pub(super) fn permits_term(&self, vote: Vote<u64>) -> bool {
        let told = self.0.borrow();
        let fresh = told.newest.is_none_or(|newest| vote.leader_id.term > newest.leader_id.term);
        mark!("vote-refused-in-a-term-of-others", !fresh);
        fresh
    }

    /// Returns the vote of a leader of which this member was told and that is later than this one.
    pub(super) fn later_than(&self, vote: Vote<u64>) -> Option<Vote<u64>> {
        let later = self.0.borrow().leader.filter(|leader| leader.leader_id.term > vote.leader_id.term);
        mark!("older-leader-refused", later.is_some());
        later
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;
    use tokio::time::advance;

    use super::*;

    fn log(index: u64) -> Option<LogId<u64>> {
        Some(LogId::new(CommittedLeaderId::new(1, 1), index))
    }

    fn over(lookout: &Lookout) {
        lookout.0.send_modify(|told| {
            told.over = true;
            told.refuses_until = Some(Instant::now() + SHORTER_REFUSED);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_a_vote_before_the_others_have_answered() {
        let lookout = Lookout::new();
        assert!(!lookout.permits(log(9)));
        over(&lookout);
        assert!(lookout.permits(log(9)) && lookout.permits(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_shorter_than_one_that_was_told_of_is_refused_for_a_while_or_until_a_leader_is_heard() {
        for hears_a_leader in [true, false] {
            let lookout = Lookout::new();
            lookout.hear(None, log(7));
            lookout.hear(None, log(5));
            over(&lookout);
            assert!(!lookout.permits(log(6)) && lookout.permits(log(7)));
            match hears_a_leader {
                true => lookout.led(),
                false => advance(SHORTER_REFUSED).await,
            }
            assert!(lookout.permits(log(6)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_told_of_gets_no_vote_and_no_older_leader_is_followed() {
        let lookout = Lookout::new();
        lookout.hear(Some(Vote::new_committed(4, 2)), None);
        lookout.hear(Some(Vote::new(6, 3)), None);
        lookout.hear(Some(Vote::new(5, 1)), None);
        assert!(!lookout.permits_term(Vote::new(6, 1)) && lookout.permits_term(Vote::new(7, 1)));
        assert_eq!(lookout.later_than(Vote::new_committed(3, 1)), Some(Vote::new_committed(4, 2)));
        assert_eq!(lookout.later_than(Vote::new_committed(4, 2)), None, "a candidate is no leader");
    }
}
