//! Collects cosignatures: what the leader signed is shown to readers and clients once a quorum has cosigned it.
//!
//! One checkpoint at a time is cosigned, in a round, so that enough of the members sign the same one. Raft's own calls
//! take it along (`network`): the call that tells a member of a commit asks for its cosignature, and the next one tells
//! it that a quorum cosigned. A call that fails is repeated by Raft, at the latest as its next heartbeat, and a member
//! that is slow or away delays nobody but itself. This node cosigns as well: its disk is one of the quorum's. A learner
//! is asked for nothing, because its cosignature would not count.
//!
//! A round goes by the newest membership, even if that changes while the round is under way: some of the members with
//! which it began may be gone for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    super::note::cosigned_by,
    SignedCheckpoint,
    ledger::{Ledger, cosigners},
    quorum::is_quorum,
    types::Membership,
};

/// Answers that may wait. Each member has one call under way, or two if it is far away.
const ANSWERS_MAX: usize = 16;
/// How long a call that tells of a commit waits for the checkpoint over it. Signing takes far less.
const SIGNING_MAX: Duration = Duration::from_millis(10);

/// What all members are asked and told.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// The checkpoint to be cosigned.
    round: Option<SignedCheckpoint>,
    /// The checkpoint that a quorum cosigned.
    published: Option<SignedCheckpoint>,
}

/// A member's cosignature of the checkpoint of `size` leaves.
struct Cosigned {
    node: u64,
    size: u64,
    line: String,
}

/// Makes the two ends: the one that collects, and the one of which each connection to a member has a clone.
pub(super) fn cosigning() -> (Collector, Word) {
    let (answers, answered) = mpsc::channel(ANSWERS_MAX);
    let asked = watch::Sender::new(Asked::default());
    let word = Word { asked: asked.subscribe(), answers, requested: 0, cosigned: 0, shown: 0 };
    (Collector { asked, answered }, word)
}

/// The leader's word to one member on checkpoints.
#[derive(Clone)]
pub(super) struct Word {
    asked: watch::Receiver<Asked>,
    answers: mpsc::Sender<Cosigned>,
    /// Size of the newest checkpoint that the member was asked to cosign here.
    requested: u64,
    /// Size of the newest checkpoint that the member cosigned here.
    cosigned: u64,
    /// Number of leaves that the member said it shows.
    shown: u64,
}

/// What goes along with one call.
#[derive(Debug, Default)]
pub(super) struct Along {
    pub(super) round: Option<SignedCheckpoint>,
    pub(super) published: Option<SignedCheckpoint>,
}

impl Word {
    /// Waits briefly until there is a checkpoint over the first `size` leaves, or another one is being cosigned.
    pub(super) async fn wait_for(&mut self, size: u64) {
        let ready = |asked: &Asked| {
            let published = asked.published.as_ref().map_or(0, |published| published.checkpoint.size);
            asked.round.is_some() || published >= size
        };
        if !ready(&self.asked.borrow()) {
            timeout(SIGNING_MAX, self.asked.wait_for(ready)).await.map(drop).ok();
        }
    }

    /// Waits for a checkpoint to be cosigned that this member was not asked for yet. Pends if the node stops. Cancel
    /// safe.
    pub(super) async fn round_begun(&mut self) {
        let requested = self.requested;
        let larger = |asked: &Asked| asked.round.as_ref().is_some_and(|round| round.checkpoint.size > requested);
        if self.asked.wait_for(larger).await.is_err() {
            std::future::pending().await
        }
    }

    /// What this member has not answered yet. A member without a vote is asked for nothing.
    pub(super) fn along(&mut self, votes: bool) -> Along {
        let Asked { round, published } = self.asked.borrow().clone();
        let round = round.filter(|round| votes && round.checkpoint.size > self.cosigned);
        self.requested = round.as_ref().map_or(self.requested, |round| round.checkpoint.size);
        Along { round, published: published.filter(|published| published.checkpoint.size > self.shown) }
    }

    /// Takes a member's answer: its cosignature, empty where it gave none, and how many leaves it shows.
    pub(super) async fn answered(&mut self, node: u64, along: Along, line: String, shown: u64) {
        self.shown = shown;
        if let Some(size) = along.round.map(|round| round.checkpoint.size).filter(|_| !line.is_empty()) {
            self.cosigned = size;
            // If this fails, nobody collects any more, because the node stops.
            self.answers.send(Cosigned { node, size, line }).await.ok();
        }
    }
}

/// A checkpoint on its way to a quorum.
struct Round {
    signed: SignedCheckpoint,
    membership: Membership,
    /// Signature lines, by node.
    lines: BTreeMap<u64, String>,
}

/// Opens the rounds, and takes what the members answer.
pub(super) struct Collector {
    asked: watch::Sender<Asked>,
    answered: mpsc::Receiver<Cosigned>,
}

impl Collector {
    /// Collects until the node stops.
    pub(super) async fn run(mut self, ledger: Arc<Ledger>, mut stop: watch::Receiver<bool>) {
        let mut signed = ledger.signed();
        let mut members_changed = ledger.members_changed();
        let mut round: Option<Round> = None;
        loop {
            // Whatever was shown meanwhile, perhaps by another leader, needs no cosignatures any more.
            mark!("round-overtaken", round.as_ref().is_some_and(|round| round.size() <= *ledger.committed().borrow()));
            round = round.filter(|round| round.size() > *ledger.committed().borrow());
            if round.is_none() {
                round = Round::open(&ledger, signed.borrow_and_update().clone());
                self.ask(round.as_ref());
            }
            if let Some(done) = round.take_if(|round| round.is_complete()) {
                let published = done.published();
                ledger.publish(published.clone());
                self.asked.send_modify(|asked| *asked = Asked { round: None, published: Some(published) });
                continue;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(cosigned) = self.answered.recv() => {
                    if let Some(round) = &mut round {
                        round.take(cosigned);
                    }
                }
                Ok(()) = members_changed.changed() => {
                    if let Some(round) = &mut round {
                        mark!("members-changed-in-a-round");
                        round.membership = ledger.membership();
                    }
                }
                changed = signed.changed(), if round.is_none() => if changed.is_err() { return }, // the node is gone
            }
        }
    }

    /// Has the members asked for this round's cosignatures, and for no other's.
    fn ask(&self, round: Option<&Round>) {
        let round = round.map(|round| round.signed.clone());
        self.asked.send_if_modified(|asked| {
            let changed = asked.round != round;
            asked.round = round;
            changed
        });
    }
}

impl Round {
    fn open(ledger: &Ledger, newest: Option<SignedCheckpoint>) -> Option<Round> {
        let signed = newest.filter(|newest| newest.checkpoint.size > *ledger.committed().borrow())?;
        let own = ledger.cosignature(&signed.checkpoint);
        let lines = BTreeMap::from([(ledger.settings.node, own)]);
        Some(Round { membership: ledger.membership(), signed, lines })
    }

    fn size(&self) -> u64 {
        self.signed.checkpoint.size
    }

    /// Takes a cosignature if it is of this checkpoint and verifies. A wrong one would make the whole note invalid.
    fn take(&mut self, Cosigned { node, size, line }: Cosigned) {
        let key = cosigners(&self.membership).into_iter().find(|(id, _)| *id == node);
        mark!("cosignature-came-late", key.is_none() || size != self.size());
        let Some((_, key)) = key.filter(|_| size == self.size()) else { return };
        let note = format!("{}{line}", self.signed.note);
        match cosigned_by(&note, &[key]) {
            Ok(signers) if signers.len() == 1 => _ = self.lines.insert(node, line),
            wrong => tracing::error!(node, ?wrong, "a cosignature does not verify"),
        }
    }

    fn is_complete(&self) -> bool {
        is_quorum(&self.membership, &self.lines.keys().copied().collect::<BTreeSet<u64>>())
    }

    fn published(self) -> SignedCheckpoint {
        let SignedCheckpoint { checkpoint, note } = self.signed;
        SignedCheckpoint { checkpoint, note: self.lines.into_values().fold(note, |note, line| note + &line) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::{super::super::note::Checkpoint, *};

    fn signed(size: u64) -> Option<SignedCheckpoint> {
        let checkpoint = Checkpoint { origin: "log.example".into(), size, root: [1; 32] };
        Some(SignedCheckpoint { note: checkpoint.text(), checkpoint })
    }

    fn sizes(along: &Along) -> [Option<u64>; 2] {
        [&along.round, &along.published].map(|signed| signed.as_ref().map(|signed| signed.checkpoint.size))
    }

    #[tokio::test]
    async fn what_a_member_did_not_answer_goes_along_again() {
        let (mut collector, word) = cosigning();
        collector.asked.send_replace(Asked { round: signed(7), published: signed(5) });
        let (mut behind, mut prompt) = (word.clone(), word);
        let along = behind.along(true);
        behind.answered(2, along, String::new(), 3).await;
        assert_eq!(sizes(&behind.along(true)), [Some(7), Some(5)]);
        let along = prompt.along(true);
        prompt.answered(3, along, "its signature".into(), 5).await;
        assert_eq!(sizes(&prompt.along(true)), [None, None]);
        assert_eq!(sizes(&behind.along(false)), [None, Some(5)], "a learner is told, and asked for nothing");
        let Cosigned { node, size, line } = collector.answered.try_recv().unwrap();
        assert_eq!((node, size, &*line), (3, 7, "its signature"));
        assert!(collector.answered.try_recv().is_err(), "who is behind cosigned nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_is_heard_of_once_by_whoever_was_not_asked_for_it() {
        let (collector, mut word) = cosigning();
        let begun = async |word: &mut Word| timeout(SIGNING_MAX, word.round_begun()).await.is_ok();
        assert!(!begun(&mut word).await, "there is none");
        collector.asked.send_replace(Asked { round: signed(7), published: None });
        assert!(begun(&mut word).await);
        word.along(false);
        assert!(begun(&mut word).await, "a learner is not asked");
        word.along(true);
        assert!(!begun(&mut word).await, "asked, and not answered: the next call asks again");
        collector.asked.send_replace(Asked { round: signed(8), published: signed(7) });
        assert!(begun(&mut word).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_checkpoint_over_its_commit_but_never_for_long() {
        let (collector, mut word) = cosigning();
        collector.asked.send_replace(Asked { round: None, published: signed(5) });
        let begun = Instant::now();
        word.wait_for(5).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        word.wait_for(6).await;
        assert!(begun.elapsed() >= SIGNING_MAX && begun.elapsed() < 2 * SIGNING_MAX);
        let late = tokio::spawn(async move {
            word.wait_for(6).await;
            sizes(&word.along(true))
        });
        sleep(SIGNING_MAX / 2).await;
        collector.asked.send_replace(Asked { round: signed(6), published: signed(5) });
        assert_eq!(late.await.unwrap(), [Some(6), Some(5)]);
    }
}
