//! When a member asks to be elected: once it has lost the leader, and a quorum says that it has lost it, too.
//!
//! openraft would ask for votes as soon as the member alone hears no leader. Each such call ends the term of a leader
//! that is well, so a member that was cut off, or is far away, would cost the others an election. Therefore openraft's
//! own timer is off, and this task first asks how the others would vote (Ongaro's dissertation, section 9.6,
//! "Preventing disruptions when a server rejoins the cluster"). A member that still hears a leader says no, and nothing
//! has changed anywhere.
//!
//! The trial has another use: it connects the members. However far away the others are, the votes that follow take one
//! round trip each. Where two members ask at once, the one with the longer log goes first; between equal logs, the one
//! with the larger node id. A member that consents holds back itself for a while. No time here limits how far apart
//! members may be: an election that fails makes the next wait longer.
//!
//! None of this is needed for safety: openraft alone decides who may be elected.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use openraft::{LogId, Raft, RaftMetrics, Vote};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    leadership::Leadership,
    ledger::Ledger,
    network::Links,
    quorum::is_quorum,
    types::{Member, Membership, TypeConfig},
};

/// A leader that was heard within this time is not lost.
pub(super) const LEASE: Duration = Duration::from_millis(550);
/// How much longer a member waits before it asks: at least the first, and at most the sum of both.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(350), Duration::from_millis(200));
/// The wait between a lost trial and the next: at least the first, and at most the sum of both.
const AGAIN: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(200));
/// How many times waits can grow by half, once for each failed election.
const GROWS_MAX: i32 = 6;
/// How long one trial may last. Members that have not answered by then are asked anew.
const TRIAL_MAX: Duration = Duration::from_secs(15);

/// When this member last heard its leader, and what it has promised to other candidates.
pub(super) struct Pulse {
    heard: watch::Sender<Instant>,
    /// Wakes this member's own trial when it has consented to another candidate.
    yielded: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Before this moment this member asks nobody: it consented to another candidate, or has just asked for votes
    /// itself.
    held_back: Option<Instant>,
    /// The standing of this member in its own trial, while that is under way.
    trying: Option<Standing>,
    /// Failed elections in a row.
    failed: i32,
}

/// Decides which of two candidates goes first: the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) last: Option<LogId<u64>>,
    pub(super) node: u64,
}

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { heard: watch::Sender::new(Instant::now()), yielded: Notify::new(), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update is complete in itself.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the leader was heard.
    pub(super) fn beat(&self) {
        self.heard.send_replace(Instant::now());
        let mut inner = self.lock();
        (inner.failed, inner.held_back) = (0, None);
    }

    /// Returns true once no leader was heard for [`LEASE`], and false as soon as one is heard while it waits.
    async fn is_lost(&self) -> bool {
        let mut heard = self.heard.subscribe();
        let last = *heard.borrow_and_update();
        tokio::select! {
            biased;
            () = sleep_until(last + LEASE) => true,
            // `self` holds the sender, so this never fails.
            _ = heard.changed() => false,
        }
    }

    /// Returns whether another member may be a candidate, as far as this member's own trial goes, and if so, holds
    /// back.
    fn yields_to(&self, other: Standing) -> bool {
        let mut inner = self.lock();
        if inner.trying.is_some_and(|own| own > other) {
            mark!("two-candidates");
            return false;
        }
        mark!("candidate-gave-way", inner.trying.is_some());
        inner.held_back = Some(Instant::now() + wait(inner.failed));
        drop(inner);
        self.yielded.notify_waiters();
        true
    }

    /// Runs a trial until it ends. It is lost where a leader is heard meanwhile, or where this member consents to
    /// another candidate: if it were won after that, it would end the term of the leader that this member has just
    /// helped to elect.
    async fn try_with(&self, own: Standing, trial: impl Future<Output = bool>) -> bool {
        self.lock().trying = Some(own);
        let mut heard = self.heard.subscribe();
        let won = tokio::select! {
            biased;
            _ = heard.changed() => false,
            () = self.yielded.notified() => false,
            won = trial => won,
            () = sleep(TRIAL_MAX) => false,
        };
        self.lock().trying = None;
        won
    }
}

/// How long a member waits for a leader after `failed` failed elections in a row.
fn wait(failed: i32) -> Duration {
    let once = LEASE + drawn(PATIENCE);
    once.mul_f64(1.5_f64.powi(failed.min(GROWS_MAX)))
}

fn drawn((least, more): (Duration, Duration)) -> Duration {
    least + more.mul_f64(rand::random::<f64>())
}

/// See the module.
pub(super) struct Elections {
    pub(super) raft: Raft<TypeConfig>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) links: Arc<Links>,
    pub(super) pulse: Arc<Pulse>,
}

impl Elections {
    /// Runs until the node stops.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.keep_a_leader() => {}
        }
    }

    async fn keep_a_leader(&self) {
        // This member may have been the leader before it started, so it does not wait for long: a question disturbs
        // nobody.
        let mut heard = *self.pulse.heard.borrow();
        let mut due = Instant::now() + drawn(AGAIN);
        loop {
            self.leader_lost(&mut heard, due).await;
            if !self.would_be_elected().await {
                mark!("would-not-be-elected");
                due = Instant::now() + drawn(AGAIN).mul_f64(1.5_f64.powi(self.pulse.lock().failed));
                continue;
            }
            if self.raft.trigger().elect().await.is_err() {
                return; // Raft has ended, and with it the node.
            }
            let mut inner = self.pulse.lock();
            inner.held_back = Some(Instant::now() + wait(inner.failed));
            inner.failed = (inner.failed + 1).min(GROWS_MAX);
            mark!("elections-in-vain", inner.failed > 1);
            drop(inner);
            due = Instant::now() + wait(0);
        }
    }

    /// Resolves at `due` if this member may vote, does not lead, and has heard no leader since `heard`. If that changes
    /// meanwhile, resolves once it has heard none for as long as members usually wait.
    async fn leader_lost(&self, heard: &mut Instant, mut due: Instant) {
        loop {
            let votes = self.ledger.with_membership(|members| members.voter_ids().any(|id| id == self.own()));
            // A leader that nobody answers stays one until it hears of another: openraft elects nobody in its place.
            let leads = self.raft.metrics().borrow().state.is_leader();
            let newest = *self.pulse.heard.borrow();
            if newest != *heard {
                (*heard, due) = (newest, newest + wait(0));
            }
            if !votes || leads {
                due = Instant::now() + wait(0);
            }
            let due = due.max(self.pulse.lock().held_back.unwrap_or(due));
            if due <= Instant::now() {
                return;
            }
            sleep_until(due.min(Instant::now() + LEASE)).await;
        }
    }

    /// Asks the other voters. Returns true once a quorum would vote for this member, which is then connected to them.
    async fn would_be_elected(&self) -> bool {
        let own = Standing { last: self.ledger.last_log_id(), node: self.own() };
        let term = || self.raft.metrics().borrow().current_term;
        let begun = term();
        // A changed term means that another candidate asked this member for its vote meanwhile.
        self.pulse.try_with(own, self.trial(own)).await && term() == begun
    }

    async fn trial(&self, own: Standing) -> bool {
        let membership = self.ledger.membership();
        let RaftMetrics { current_term, .. } = *self.raft.metrics().borrow();
        let vote = Vote::new(current_term.saturating_add(1), own.node);
        let ask = |node, member: Member| async move {
            self.links.ask_for_vote(node, &member, vote, own.last, true).await.is_ok_and(|answer| answer.granted)
        };
        wins(&membership, own.node, &ask).await
    }

    fn own(&self) -> u64 {
        self.ledger.settings.node
    }
}

/// Returns whether a quorum of the voters says yes to `own`. A voter that says no, or cannot be asked, is asked again
/// for as long as the others may still make a quorum without it: its next answer may be different, and one of the
/// others may never give any.
async fn wins<F: Future<Output = bool>>(membership: &Membership, own: u64, ask: &impl Fn(u64, Member) -> F) -> bool {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let others = membership.nodes().filter(|(node, _)| **node != own && voters.contains(node));
    let ask_after = |wait: Option<Duration>, node: u64, member: Member| async move {
        if let Some(wait) = wait {
            sleep(wait).await;
        }
        (node, ask(node, member.clone()).await, member)
    };
    let (mut yes, mut no) = (BTreeSet::from([own]), BTreeSet::new());
    let mut asked: FuturesUnordered<_> = others.map(|(node, member)| ask_after(None, *node, member.clone())).collect();
    while !is_quorum(membership, &yes) {
        if !is_quorum(membership, &voters.difference(&no).copied().collect()) {
            return false;
        }
        let Some((node, granted, member)) = asked.next().await else { return false };
        if granted {
            no.remove(&node);
            yes.insert(node);
        } else {
            mark!("voter-asked-again");
            no.insert(node);
            asked.push(ask_after(Some(drawn(AGAIN)), node, member));
        }
    }
    true
}

/// Returns whether this member would vote for another. Waits until its own leader is lost or is heard again.
pub(super) async fn would_vote(pulse: &Pulse, leadership: &Leadership, ledger: &Ledger, candidate: Standing) -> bool {
    mark!("longer-log-was-known", candidate.last < ledger.last_log_id());
    leadership.check().is_err()
        && candidate.last >= ledger.last_log_id()
        && pulse.is_lost().await
        && pulse.yields_to(candidate)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        future::pending,
        sync::atomic::{AtomicU32, Ordering},
    };

    use openraft::CommittedLeaderId;
    use tokio::time::{advance, timeout};

    use super::*;

    fn members(count: u64) -> Membership {
        let member = |node| (node, Member { name: format!("server-{node}"), ..Member::default() });
        Membership::new(vec![(1..=count).collect()], (1..=count).map(member).collect::<BTreeMap<_, _>>())
    }

    #[tokio::test(start_paused = true)]
    async fn who_said_no_is_asked_again_while_another_one_says_nothing() {
        for count in [3, 5] {
            let asked = AtomicU32::new(0);
            let ask = |node: u64, _: Member| {
                let before = if node == 2 { asked.fetch_add(1, Ordering::Relaxed) } else { 0 };
                async move {
                    match node {
                        2 => before == 2, // a connection that broke long ago, then one that holds
                        4 => true,
                        _ => pending().await,
                    }
                }
            };
            assert!(timeout(TRIAL_MAX, wins(&members(count), 1, &ask)).await.unwrap(), "{count} members");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_ends_once_too_many_have_said_no() {
        for count in [3, 5] {
            let ask = |node: u64, _: Member| async move { if node == 2 { pending().await } else { false } };
            let won = timeout(TRIAL_MAX, wins(&members(count), 1, &ask)).await;
            // Of three, the one that says nothing might still say yes.
            assert_eq!(won.ok(), (count == 5).then_some(false), "{count} members");
        }
    }

    fn standing(index: u64, node: u64) -> Standing {
        Standing { last: Some(LogId::new(CommittedLeaderId::new(1, 1), index)), node }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_lost_once_it_was_silent_for_the_lease_and_not_where_it_is_heard_meanwhile() {
        let pulse = Pulse::new();
        let begun = Instant::now();
        assert!(pulse.is_lost().await);
        assert!(begun.elapsed() >= LEASE && begun.elapsed() < LEASE * 2);
        pulse.beat();
        let asking = {
            let pulse = pulse.clone();
            tokio::spawn(async move { pulse.is_lost().await })
        };
        sleep(LEASE / 2).await;
        pulse.beat();
        assert!(!asking.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_candidates_the_one_with_the_longer_log_goes_first_then_the_one_with_the_larger_id() {
        let pulse = Pulse::new();
        let trying = |own| pulse.lock().trying = own;
        trying(Some(standing(7, 2)));
        assert!(!pulse.yields_to(standing(6, 3)));
        assert!(!pulse.yields_to(standing(7, 1)));
        assert_eq!(pulse.lock().held_back, None, "who is refused holds back nobody");
        assert!(pulse.yields_to(standing(7, 3)));
        assert!(pulse.yields_to(standing(8, 1)));
        assert!(pulse.lock().held_back.is_some_and(|until| until > Instant::now()));
        trying(None);
        assert!(pulse.yields_to(standing(6, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_consents_to_another_candidate_gives_its_own_trial_up() {
        let pulse = Pulse::new();
        let won = |other: Standing| {
            let pulse = pulse.clone();
            async move {
                let trial = async {
                    sleep(LEASE).await;
                    true
                };
                let (won, _) = tokio::join!(pulse.try_with(standing(7, 2), trial), async {
                    sleep(LEASE / 2).await;
                    pulse.yields_to(other)
                });
                won
            }
        };
        assert!(!won(standing(7, 3)).await);
        assert!(won(standing(7, 1)).await, "who is refused ends nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn elections_that_come_to_nothing_make_the_next_wait_longer_until_a_leader_is_heard() {
        assert!((0..50).all(|_| wait(0) <= LEASE + PATIENCE.0 + PATIENCE.1));
        assert!((0..50).all(|_| wait(GROWS_MAX) >= (LEASE + PATIENCE.0) * 11));
        assert!(wait(i32::MAX) < Duration::from_secs(20));
        let pulse = Pulse::new();
        pulse.lock().failed = 4;
        assert!(pulse.yields_to(standing(1, 1)));
        advance(LEASE).await;
        pulse.beat();
        let inner = pulse.lock();
        assert_eq!((inner.failed, inner.held_back), (0, None));
    }
}
