//! Membership changes: a member is added as a learner, made a voter once it has caught up, and removed for good.
//!
//! Each change is an entry of the log, made by the leader through Raft's joint consensus. A change that would do harm
//! is refused beforehand: a node id that this log has ever known (its holder may have voted and forgotten), a
//! cosigner's key that it has ever known (one disk would count twice), a voter that is far behind, a change after which
//! no majority would answer. Only one change is under way at a time.
//!
//! Every change may be asked for again: what is already done is left as it is, and what a lost leader left half-way is
//! completed first. This file must never make a voter of a node that is not known to hold the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use openraft::{
    ChangeMembers, Raft,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
    raft::ClientWriteResponse,
};
use tokio::time::sleep;

use super::{
    AppendError, MemberSettings, Node,
    leadership::Leadership,
    ledger::Ledger,
    network::Links,
    sequencer::patiently,
    types::{Member, Membership, TypeConfig},
};
use crate::note::{VerifyingKey, is_key_name};

/// A learner that is at most this many entries behind has caught up: under load there is always one on its way.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// A member that answered within this time counts as present. Raft asks about three times a second.
const SILENT_MAX: Duration = Duration::from_secs(2);
/// How long a change may take. It takes three exchanges with a quorum.
const CHANGE_SECONDS_MAX: u64 = 20;
/// How long a member that lost its vote is given to learn of it, before it is sent nothing more.
const TOLD_MAX: Duration = Duration::from_secs(1);

/// Who the members are, as one of them knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersStatus {
    /// The node that reports this.
    pub node: u64,
    /// The leader, if the node knows it.
    pub leader: Option<u64>,
    /// The term of the node.
    pub term: u64,
    /// Number of entries in its log.
    pub entries: u64,
    /// Number of leaves that it shows to readers.
    pub committed: u64,
    /// Whether a change of the voters is under way, so that both the old and the new ones count.
    pub changing: bool,
    /// All members, by node.
    pub members: Vec<MemberStatus>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// What all members know about it.
    pub member: MemberSettings,
    /// Whether it is a voter; otherwise it is a learner.
    pub voter: bool,
    /// Number of entries that are known to be on its disk; only the leader knows.
    pub entries: Option<u64>,
    /// How long it has not answered the leader; only the leader knows.
    pub silent_for: Option<Duration>,
}

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads, or none.
    #[error("this node does not lead{}", leader.as_ref().map(|name| format!(": `{name}` does")).unwrap_or_default())]
    NotLeader {
        /// The name of the node that does, if known.
        leader: Option<String>,
    },
    /// The change would do harm.
    #[error("{0}")]
    Refused(String),
    /// The change would do harm at the moment, but not for long.
    #[error("{0}")]
    NotYet(String),
    /// The change was begun, and it is not known how it ended.
    #[error("the change was not committed within {CHANGE_SECONDS_MAX} s: it may be later, ask for it again")]
    Undecided,
    /// The node must end.
    #[error("the node failed: {0}")]
    Failed(String),
}

/// What a change works with. It is separate from the node, so that the change goes on when its caller is gone.
#[derive(Clone)]
struct Changes {
    own: u64,
    raft: Raft<TypeConfig>,
    ledger: Arc<Ledger>,
    leadership: Leadership,
    links: Arc<Links>,
}

impl Node {
    /// Who the members are, as far as this node knows.
    pub fn members(&self) -> MembersStatus {
        self.changes().status()
    }

    /// Returns whether a member has this name, by the newest membership of this node's log or by the settings. There
    /// may be members of which this node has not heard yet.
    pub(crate) fn knows_member(&self, name: &str) -> bool {
        let contacts = self.ledger().settings.cluster.iter().flat_map(|cluster| &cluster.contacts);
        let in_log = |membership: &Membership| membership.nodes().any(|(_, member)| member.name == name);
        self.ledger().with_membership(in_log) || contacts.into_iter().any(|contact| contact.name == name)
    }

    /// Adds a learner, which is sent the log and does not count for any quorum. `replaces` names the member whose place
    /// it is to take, and whose name and address it may therefore have.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] where its node id or key was ever used in this log, or its name or address is in use.
    pub async fn add_learner(&self, member: MemberSettings, replaces: Option<u64>) -> Result<(), ChangeError> {
        let changes = self.changes();
        self.undisturbed(async move { changes.add(member, replaces).await }).await
    }

    /// Makes a learner a voter. In the same step the voter `replaces`, if given, becomes a learner.
    ///
    /// # Errors
    /// [`ChangeError::NotYet`] where it is behind or silent; [`ChangeError::Refused`] where too few of the voters would
    /// answer, or `replaces` is the leader.
    pub async fn promote(&self, node: u64, replaces: Option<u64>) -> Result<(), ChangeError> {
        let changes = self.changes();
        self.undisturbed(async move { changes.promote(node, replaces).await }).await
    }

    /// Removes a member for good: first its vote, then the member itself.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] where it leads, is the last voter, was never a member, or too few of the others answer.
    pub async fn remove(&self, node: u64) -> Result<(), ChangeError> {
        let changes = self.changes();
        self.undisturbed(async move { changes.remove(node).await }).await
    }

    fn changes(&self) -> Changes {
        Changes {
            own: self.ledger().settings.node,
            raft: self.raft().clone(),
            ledger: self.shared_ledger().clone(),
            leadership: self.leadership().clone(),
            links: self.links().clone(),
        }
    }

    /// Makes one change, and goes on with it if the caller stops waiting: otherwise it could be left half-done.
    async fn undisturbed(
        &self,
        change: impl Future<Output = Result<(), ChangeError>> + Send + 'static,
    ) -> Result<(), ChangeError> {
        let Ok(only) = self.changing().clone().try_lock_owned() else {
            return Err(ChangeError::NotYet("another change of the members is under way: ask again".into()));
        };
        let changing = tokio::spawn(async move {
            let _only = only;
            patiently(CHANGE_SECONDS_MAX, change).await.unwrap_or(Err(ChangeError::Undecided))
        });
        changing.await.unwrap_or_else(|error| Err(ChangeError::Failed(error.to_string())))
    }
}

impl Changes {
    fn status(&self) -> MembersStatus {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = self.ledger.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let last = self.entries();
        let leads = self.leadership.check().is_ok();
        let held = |node: &u64| match *node == self.own {
            true => Some(last),
            false => {
                let matched = metrics.replication.as_ref().filter(|_| leads)?.get(node)?;
                Some(matched.map_or(0, |matched| matched.index + 1))
            }
        };
        let member = |(node, member): (&u64, &Member)| MemberStatus {
            member: settings_of(*node, member),
            voter: voters.contains(node),
            entries: held(node),
            silent_for: self.silent_for(*node).filter(|_| leads),
        };
        MembersStatus {
            node: self.own,
            leader: if leads { Some(self.own) } else { metrics.current_leader.filter(|leader| *leader != self.own) },
            term: metrics.current_term,
            entries: last,
            committed: *self.ledger.committed().borrow(),
            changing: membership.get_joint_config().len() > 1,
            members: membership.nodes().map(member).collect(),
        }
    }

    async fn add(&self, new: MemberSettings, replaces: Option<u64>) -> Result<(), ChangeError> {
        self.leads()?;
        let MemberSettings { node, name, address, cosigner } = new;
        let member = Member { name, address, cosigner: cosigner.0 };
        let membership = self.ledger.membership();
        if membership.get_node(&node) == Some(&member) {
            return Ok(());
        }
        self.ledger.with_memberships(|all| is_new(all, node, &member, replaces)).map_err(ChangeError::Refused)?;
        self.settle().await?;
        mark!("learner-added");
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(node, member)]))).await
    }

    async fn promote(&self, node: u64, replaces: Option<u64>) -> Result<(), ChangeError> {
        self.leads()?;
        if replaces == Some(self.own) {
            return Err(self.leads_itself());
        }
        self.settle().await?;
        let membership = self.ledger.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut after = voters.clone();
        after.insert(node);
        replaces.map(|replaced| after.remove(&replaced));
        if after == voters {
            return Ok(());
        }
        if membership.get_node(&node).is_none() {
            return Err(ChangeError::Refused(format!("node {node} is no member: add it first")));
        }
        if !voters.contains(&node) {
            self.has_caught_up(node)?;
            mark!("learner-promoted");
        }
        self.would_answer(&after)?;
        self.change(ChangeMembers::ReplaceAllVoters(after)).await
    }

    async fn remove(&self, node: u64) -> Result<(), ChangeError> {
        self.leads()?;
        if node == self.own {
            return Err(self.leads_itself());
        }
        self.settle().await?;
        let membership = self.ledger.membership();
        if membership.get_node(&node).is_none() {
            let ever =
                |all: &[(u64, Membership)]| all.iter().any(|(_, membership)| membership.get_node(&node).is_some());
            return match self.ledger.with_memberships(ever) {
                true => Ok(()),
                false => {
                    Err(ChangeError::Refused(format!("node {node} was never a member of this log: check its number")))
                }
            };
        }
        let mut after: BTreeSet<u64> = membership.voter_ids().collect();
        if after.remove(&node) {
            if after.is_empty() {
                return Err(ChangeError::Refused(format!("node {node} is the last voter: add another one first")));
            }
            self.would_answer(&after)?;
            self.change(ChangeMembers::ReplaceAllVoters(after)).await?;
            self.let_it_know(node).await;
        }
        mark!("member-removed");
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await
    }

    fn leads(&self) -> Result<(), ChangeError> {
        match self.leadership.check() {
            Ok(_) => Ok(()),
            Err(AppendError::NotLeader { leader }) => {
                mark!("change-asked-of-a-follower");
                Err(ChangeError::NotLeader { leader })
            }
            Err(other) => Err(ChangeError::Failed(other.to_string())),
        }
    }

    /// Refuses a change because the member that it concerns is the leader. This version of openraft lets a leader
    /// remove itself, and then leaves everybody without a leader until an election, and the caller without an outcome.
    fn leads_itself(&self) -> ChangeError {
        let own = self.own;
        ChangeError::Refused(format!(
            "node {own} leads: stop its process, or start it again, so that another one leads, and ask that one"
        ))
    }

    /// Completes a change of the voters that a lost leader left half-way.
    async fn settle(&self) -> Result<(), ChangeError> {
        let membership = self.ledger.membership();
        match membership.get_joint_config().as_slice() {
            [_, .., goal] if !goal.contains(&self.own) => Err(self.leads_itself()),
            [_, .., goal] => {
                mark!("joint-change-completed");
                self.change(ChangeMembers::ReplaceAllVoters(goal.clone())).await
            }
            _ => Ok(()),
        }
    }

    fn silent_for(&self, node: u64) -> Option<Duration> {
        if node == self.own { Some(Duration::ZERO) } else { self.links.silent_for(node) }
    }

    fn is_there(&self, node: u64) -> bool {
        self.silent_for(node).is_some_and(|silent| silent <= SILENT_MAX)
    }

    fn entries(&self) -> u64 {
        self.ledger.last_log_id().map_or(0, |last| last.index + 1)
    }

    /// Number of entries that the leader has and `node` is not known to have.
    fn behind(&self, node: u64) -> u64 {
        let last = self.entries();
        let metrics = self.raft.metrics();
        let held =
            metrics.borrow().replication.as_ref().and_then(|all| *all.get(&node)?).map_or(0, |held| held.index + 1);
        last.saturating_sub(held)
    }

    fn has_caught_up(&self, node: u64) -> Result<(), ChangeError> {
        if !self.is_there(node) {
            return Err(ChangeError::NotYet(format!("node {node} does not answer: start its process, or look at it")));
        }
        match self.behind(node) {
            // In a short log, even a node that holds nothing at all would be near.
            behind if behind > CAUGHT_UP_ENTRIES || behind == self.entries() => {
                Err(ChangeError::NotYet(format!("node {node} is {behind} entries behind: wait until it has caught up")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a majority of these voters answers at present: without one nothing could be committed any more, not
    /// even the change that brings them back.
    fn would_answer(&self, voters: &BTreeSet<u64>) -> Result<(), ChangeError> {
        let there = voters.iter().filter(|node| self.is_there(**node)).count();
        if there > voters.len() / 2 {
            return Ok(());
        }
        let silent: Vec<String> =
            voters.iter().filter(|node| !self.is_there(**node)).map(|node| node.to_string()).collect();
        Err(ChangeError::Refused(format!(
            "of the {} voters that would be left only {there} answer (not node {}): bring them back first",
            voters.len(),
            silent.join(", "),
        )))
    }

    /// Gives a member that lost its vote a moment to learn of it. A member that is not told goes on asking for votes,
    /// and is turned away.
    async fn let_it_know(&self, node: u64) {
        let step = TOLD_MAX / 20;
        for _ in 0..20 {
            if !self.is_there(node) || self.behind(node) == 0 {
                return;
            }
            sleep(step).await;
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), ChangeError> {
        decided(self.raft.change_membership(change, true).await)
    }
}

/// Checks that a member is new to this log: in its whole past no member had this node id or key, and no present member
/// has this name or address, except for the one that is replaced.
fn is_new(all: &[(u64, Membership)], node: u64, new: &Member, replaces: Option<u64>) -> Result<(), String> {
    if node == 0 {
        return Err("nodes are counted from 1".into());
    }
    if !is_key_name(&new.name) || new.address.is_empty() {
        return Err(format!(
            "a member has the name in its certificate and an address, not `{}` at `{}`",
            new.name, new.address
        ));
    }
    let past = || all.iter().flat_map(|(_, membership)| membership.nodes());
    if past().any(|(id, _)| *id == node) {
        // One above the largest; if that does not exist, the smallest that was never used.
        let largest = past().map(|(id, _)| *id).max().unwrap_or(0);
        let free = |id: &u64| !past().any(|(used, _)| used == id);
        let next = largest.checked_add(1).or_else(|| (1..).find(free)).unwrap_or_default();
        return Err(format!(
            "node {node} was a member of this log already, and no id is used twice: whoever had it may have voted and \
             forgotten; take {next}"
        ));
    }
    if let Some((id, _)) = past().find(|(_, member)| member.cosigner == new.cosigner) {
        return Err(format!(
            "node {id} cosigned by the same key: each disk has its own, `gapless-log cosigner` makes one"
        ));
    }
    let here = all.last().into_iter().flat_map(|(_, membership)| membership.nodes());
    for (id, member) in here.filter(|(id, _)| Some(**id) != replaces) {
        if member.name == new.name {
            return Err(format!(
                "node {id} is called `{}`: give the new one another name, or replace node {id}",
                new.name
            ));
        }
        if member.address == new.address {
            return Err(format!(
                "node {id} is at {}: give the new one another address, or replace node {id}",
                new.address
            ));
        }
    }
    Ok(())
}

fn settings_of(node: u64, member: &Member) -> MemberSettings {
    let Member { name, address, cosigner } = member.clone();
    MemberSettings { node, name, address, cosigner: VerifyingKey(cosigner) }
}

type Written = Result<ClientWriteResponse<TypeConfig>, RaftError<u64, ClientWriteError<u64, Member>>>;

fn decided(written: Written) -> Result<(), ChangeError> {
    match written {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
            Err(ChangeError::NotLeader { leader: to.leader_node.map(|member| member.name) })
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)))) => {
            Err(ChangeError::NotYet("a change of the members is not committed yet: ask again".into()))
        }
        Err(RaftError::APIError(error)) => Err(ChangeError::Refused(error.to_string())),
        Err(RaftError::Fatal(fatal)) => Err(ChangeError::Failed(fatal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u8) -> Member {
        Member { name: format!("server-{node}"), address: format!("server-{node}:1"), cosigner: [node; 32] }
    }

    /// A log of 1, 2 and 3, in which 3 was replaced by 4 and 5 was only ever a learner, for a while.
    fn past() -> Vec<(u64, Membership)> {
        let of = |voters: &[u64], learners: &[u64]| {
            let nodes = voters.iter().chain(learners).map(|node| (*node, member(*node as u8)));
            Membership::new(vec![voters.iter().copied().collect()], nodes.collect::<BTreeMap<_, _>>())
        };
        vec![(0, of(&[1, 2, 3], &[])), (9, of(&[1, 2, 3], &[4, 5])), (20, of(&[1, 2, 4], &[]))]
    }

    #[test]
    fn no_node_id_is_used_twice_not_even_that_of_a_learner() {
        assert_eq!(is_new(&past(), 6, &member(6), None), Ok(()));
        for node in 1..=5 {
            let why = is_new(&past(), node, &member(9), Some(3)).unwrap_err();
            assert!(why.contains(&format!("node {node} was a member")) && why.contains("take 6"), "{why}");
        }
        assert!(is_new(&past(), 0, &member(9), None).is_err());
    }

    #[test]
    fn the_id_that_is_suggested_is_free_even_where_the_largest_one_is_used() {
        let mut past = past();
        let all = [(u64::MAX, member(7)), (1, member(1)), (2, member(2))];
        past.push((30, Membership::new(vec![[1, 2].into()], BTreeMap::from(all))));
        let why = is_new(&past, u64::MAX, &member(9), None).unwrap_err();
        assert!(why.contains("take 6"), "{why}");
        assert_eq!(is_new(&past, 6, &member(9), None), Ok(()));
    }

    #[test]
    fn no_key_is_used_twice_and_name_and_address_only_by_who_replaces_their_owner() {
        let with = |change: fn(&mut Member)| {
            let mut new = member(6);
            change(&mut new);
            new
        };
        let by_key = is_new(&past(), 6, &with(|new| new.cosigner = [3; 32]), Some(3)).unwrap_err();
        assert!(by_key.contains("node 3 cosigned by the same key"), "{by_key}");
        for (new, word) in [
            (with(|new| new.name = "server-4".into()), "called `server-4`"),
            (with(|new| new.address = "server-4:1".into()), "at server-4:1"),
        ] {
            assert!(is_new(&past(), 6, &new, None).unwrap_err().contains(word));
            assert!(is_new(&past(), 6, &new, Some(2)).unwrap_err().contains(word));
            assert_eq!(is_new(&past(), 6, &new, Some(4)), Ok(()));
        }
        let gone = with(|new| (new.name, new.address) = ("server-3".into(), "server-3:1".into()));
        assert_eq!(is_new(&past(), 6, &gone, None), Ok(()), "its owner is no member any more");
    }
}
