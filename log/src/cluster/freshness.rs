//! How fresh the log is that this node shows, by its own monotonic clock.
//!
//! What is known always has this form: *the first `n` leaves contain everything that was acknowledged to anybody before
//! the moment `t`*. A leader knows this for the moment at which it sent calls that a quorum then answered in its term.
//! Until each of these members answered, it had not voted for another leader, so whatever was acknowledged before was
//! acknowledged by this leader or an earlier one; and what earlier ones acknowledged, this leader showed before it
//! acknowledged anything itself. It tells the others with Raft's calls. Nobody knows how long a call was on its way, so
//! a member trusts no time of arrival: each of its answers carries a stamp of its own clock, and the leader's next word
//! returns the newest such stamp. So the word was said after the stamp was made, however late it arrives.
//!
//! A word stays true for ever and only grows old; nobody has to ask who leads. Nothing here may ever state an age that
//! is too small. What cannot be seen is time that a monotonic clock does not count: a machine that was suspended
//! believes that its log is fresher than it is until it hears the next word.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::cluster_wire::{Fresh, Stamp},
    quorum::is_quorum,
    types::Membership,
};

/// Words that may wait until enough leaves are shown here. Beyond that, the newest word replaces the one before it.
const PENDING_MAX: usize = 64;

/// What a node can say about the log that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Number of leaves shown.
    pub size: u64,
    /// No entry that was acknowledged longer ago than this is missing among them. In whole milliseconds, rounded up;
    /// `None` where no leader's word was ever heard, and for a log of one that is damaged.
    pub age: Option<Duration>,
}

/// See the module.
pub(super) struct Freshness {
    /// Distinguishes the stamps of this life from those of any other.
    life: u64,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// For each other member, the newest call of this node that it answered without knowing a newer term: the term, and
    /// when the call was sent.
    answered: BTreeMap<u64, (u64, Instant)>,
    /// For each other member, its newest stamp, and when it came.
    stamps: BTreeMap<u64, (Stamp, Instant)>,
    /// `(n, t)`: the first `n` leaves contain everything that was acknowledged before `t`. Only words whose leaves are
    /// not all shown here yet; oldest first.
    pending: VecDeque<(u64, Instant)>,
    /// The newest moment before which everything acknowledged is among the leaves shown here, by leaders' words.
    covered: Option<Instant>,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self { life: rand::random(), began: Instant::now(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update is complete in itself.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stamp of this moment, for the leader to send back.
    pub(super) fn stamp(&self) -> Stamp {
        // Rounded down, and so never later than now.
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Stamp { life: self.life, at_ms }
    }

    /// Notes that a member answered, in this term, a call that was sent at `sent`.
    pub(super) fn answered(&self, node: u64, term: u64, sent: Instant, stamp: Option<Stamp>) {
        let mut inner = self.lock();
        let newest = inner.answered.entry(node).or_insert((term, sent));
        *newest = (*newest).max((term, sent));
        if let Some(stamp) = stamp {
            // Answers may overtake each other; each is no older than its stamp.
            inner.stamps.insert(node, (stamp, Instant::now()));
        }
    }

    /// The newest moment at which this node, as the leader of `term`, sent calls that a quorum answered.
    pub(super) fn confirmed(&self, own: u64, term: u64, membership: &Membership) -> Option<Instant> {
        let mut sent: Vec<(Instant, u64)> = {
            let inner = self.lock();
            let of_term = inner.answered.iter().filter(|(_, (of, _))| *of == term);
            of_term.map(|(node, (_, sent))| (*sent, *node)).collect()
        };
        // The leader itself counts as having answered, at whatever moment the others' answers prove.
        sent.push((Instant::now(), own));
        sent.sort_unstable_by(|one, other| other.cmp(one));
        let mut nodes = BTreeSet::new();
        sent.into_iter().find_map(|(sent, node)| {
            nodes.insert(node);
            is_quorum(membership, &nodes).then_some(sent)
        })
    }

    /// The word for a member: the first `size` leaves contain everything that was acknowledged before `confirmed`.
    pub(super) fn word(&self, to: u64, confirmed: Instant, size: u64) -> Option<Fresh> {
        let (stamp, came) = *self.lock().stamps.get(&to)?;
        // The stamp was made before it came. If it came before `confirmed`, nothing has to be subtracted.
        let behind_ms = whole_ms(came.saturating_duration_since(confirmed));
        Some(Fresh { stamp: Some(stamp), behind_ms, size })
    }

    /// Takes a leader's word. One that returns no stamp of this life says nothing.
    pub(super) fn hear(&self, word: Fresh) {
        mark!("word-of-another-life", word.stamp.as_ref().is_some_and(|stamp| stamp.life != self.life));
        let Some(as_of) = self.as_of(&word) else { return };
        let mut inner = self.lock();
        if inner.pending.len() >= PENDING_MAX {
            mark!("words-waited-in-plenty");
            inner.pending.pop_back();
        }
        inner.pending.push_back((word.size, as_of));
    }

    fn as_of(&self, Fresh { stamp, behind_ms, .. }: &Fresh) -> Option<Instant> {
        let stamp = stamp.as_ref().filter(|stamp| stamp.life == self.life)?;
        let made = self.began.checked_add(Duration::from_millis(stamp.at_ms))?;
        made.checked_sub(Duration::from_millis(*behind_ms)).filter(|_| made <= Instant::now())
    }

    /// The newest moment before which everything acknowledged is among the first `shown` leaves, as far as leaders
    /// said.
    pub(super) fn covered(&self, shown: u64) -> Option<Instant> {
        let mut inner = self.lock();
        let Inner { pending, covered, .. } = &mut *inner;
        // The words need not be in order of size: a word of an older leader may come late.
        pending.retain(|(size, as_of)| {
            let reached = *size <= shown;
            if reached {
                *covered = (*covered).max(Some(*as_of));
            }
            !reached
        });
        *covered
    }
}

/// Rounded up: an age may be stated too large, never too small.
pub(super) fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::advance;

    use super::{super::types::Member, *};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn voters(configs: &[&[u64]]) -> Membership {
        let member = |node: u64| Member { name: format!("server-{node}"), address: String::new(), cosigner: [0; 32] };
        let nodes: BTreeMap<u64, Member> = (1..=5).map(|node| (node, member(node))).collect();
        Membership::new(configs.iter().map(|nodes| nodes.iter().copied().collect()).collect(), nodes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_confirmed_once_a_quorum_answered_what_was_sent_then() {
        let freshness = Freshness::new();
        let five = voters(&[&[1, 2, 3, 4, 5]]);
        let began = Instant::now();
        let confirmed = |term| freshness.confirmed(1, term, &five).map(|at| at - began);
        advance(ms(100)).await;
        freshness.answered(2, 7, began + ms(10), None);
        assert_eq!(confirmed(7), None, "two of five are no quorum");
        freshness.answered(3, 7, began + ms(30), None);
        assert_eq!(confirmed(7), Some(ms(10)), "the older one of the two");
        freshness.answered(4, 7, began + ms(50), None);
        assert_eq!(confirmed(7), Some(ms(30)));
        freshness.answered(4, 7, began + ms(20), None);
        assert_eq!(confirmed(7), Some(ms(30)), "an answer that was overtaken takes nothing back");
        assert_eq!(confirmed(8), None, "answers of an older term confirm nothing");
        freshness.answered(3, 8, began + ms(60), None);
        assert_eq!(confirmed(7), Some(ms(10)), "whoever knows a newer term confirms the older no more");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_members_change_both_sets_have_to_answer_and_nobody_else_counts() {
        let freshness = Freshness::new();
        let (began, joint) = (Instant::now(), voters(&[&[1, 2, 3], &[1, 4, 5]]));
        freshness.answered(2, 1, began, None);
        assert_eq!(freshness.confirmed(1, 1, &joint), None);
        freshness.answered(4, 1, began, None);
        assert_eq!(freshness.confirmed(1, 1, &joint), Some(began));
        let without_them = voters(&[&[1, 3, 5]]);
        assert_eq!(freshness.confirmed(1, 1, &without_them), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_is_as_old_as_the_stamp_that_it_answers_however_late_it_comes() {
        let (leader, member) = (Freshness::new(), Freshness::new());
        let began = Instant::now();
        let stamp = member.stamp();
        advance(ms(40)).await; // on its way to the leader
        leader.answered(2, 1, began, Some(stamp));
        let word = leader.word(2, began + ms(25), 9).unwrap();
        assert_eq!((word.behind_ms, word.size), (15, 9));
        let newer = leader.word(2, began + ms(90), 9).unwrap();
        assert_eq!(newer.behind_ms, 0, "what is confirmed after the stamp came is newer than the stamp");
        advance(ms(30_000)).await; // held up on its way back
        member.hear(newer);
        assert_eq!(member.covered(8), None, "nothing is known of what is not shown yet");
        assert_eq!(member.covered(9), Some(began));
        member.hear(word);
        assert_eq!(member.covered(9), Some(began), "an older word takes nothing back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_for_another_life_says_nothing() {
        let (before, now) = (Freshness::new(), Freshness::new());
        now.hear(Fresh { stamp: Some(before.stamp()), behind_ms: 0, size: 1 });
        now.hear(Fresh { stamp: None, behind_ms: 0, size: 1 });
        let future = Stamp { at_ms: now.stamp().at_ms + 1, ..now.stamp() };
        now.hear(Fresh { stamp: Some(future), behind_ms: 0, size: 1 });
        assert_eq!(now.covered(1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn words_that_wait_are_bounded_and_the_newest_stays() {
        let member = Freshness::new();
        let began = Instant::now();
        for size in 1..=1_000 {
            advance(ms(1)).await;
            member.hear(Fresh { stamp: Some(member.stamp()), behind_ms: 0, size });
        }
        assert_eq!(member.lock().pending.len(), PENDING_MAX);
        assert_eq!(member.covered(1), Some(began + ms(1)));
        assert_eq!(member.covered(1_000), Some(began + ms(1_000)));
    }

    #[test]
    fn ages_are_rounded_up() {
        assert_eq!(whole_ms(Duration::ZERO), 0);
        assert_eq!(whole_ms(Duration::from_nanos(1)), 1);
        assert_eq!(whole_ms(ms(7)), 7);
        assert_eq!(whole_ms(ms(7) + Duration::from_nanos(1)), 8);
    }
}
