//! Collects cosignatures: what the leader signed is shown to readers and clients once a quorum has cosigned it.
//!
//! One checkpoint at a time is being cosigned, a round, so that enough of the members sign the same one. Each other
//! member has a task of its own that asks it for the round's and tells it of the newest that is complete; a member that
//! is slow or away holds up nobody but itself. This node cosigns as well: its disk is one of the quorum's. A learner is
//! told, and not asked: its cosignature would not count.
//!
//! A round goes by the newest membership, also where that changes while it is under way: of the members that it began
//! with some may be gone for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    super::{cluster_wire::CosignRequest, note::cosigned_by},
    SignedCheckpoint,
    ledger::{Ledger, cosigners, is_quorum},
    network::Links,
    types::{Member, Membership},
};

/// One call. Longer than a member waits for its own log.
const CALL_MAX: Duration = Duration::from_secs(3);
/// The range from which the wait after a failure is drawn: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Answers that wait. Each member has one call under way.
const ANSWERS_MAX: usize = 16;

/// What all members are asked and told.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// To be cosigned.
    round: Option<SignedCheckpoint>,
    /// Cosigned by a quorum.
    published: Option<SignedCheckpoint>,
}

/// A member's cosignature of the checkpoint of so many leaves.
struct Cosigned {
    node: u64,
    size: u64,
    line: String,
}

/// A checkpoint on its way to a quorum.
struct Round {
    signed: SignedCheckpoint,
    membership: Membership,
    /// Signature lines, by node.
    lines: BTreeMap<u64, String>,
}

/// Collects until the node stops.
pub(super) async fn collect(ledger: Arc<Ledger>, links: Arc<Links>, mut stop: watch::Receiver<bool>) {
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    let asked = watch::Sender::new(Asked::default());
    let mut signed = ledger.signed();
    // Dropped with what they ask for: a change of the members begins them anew.
    let mut askers = JoinSet::new();
    let mut members = BTreeMap::new();
    let mut members_changed = ledger.members_changed();
    let mut round: Option<Round> = None;
    loop {
        // Whatever was shown meanwhile, perhaps by another leader, needs no cosignatures any more.
        round = round.filter(|round| round.size() > *ledger.committed().borrow());
        if round.is_none() {
            round = Round::open(&ledger, signed.borrow_and_update().clone());
            if let Some(round) = &round {
                asked.send_modify(|asked| asked.round = Some(round.signed.clone()));
            }
        }
        if let Some(round) = &round {
            let newest = others(&round.membership, ledger.settings.node);
            if newest != members {
                members = newest;
                askers.abort_all();
                for (node, (member, votes)) in &members {
                    let asker = Asker { node: *node, member: member.clone(), votes: *votes, links: links.clone() };
                    askers.spawn(asker.run(asked.subscribe(), answers.clone()));
                }
            }
        }
        if let Some(done) = round.take_if(|round| round.is_complete()) {
            let published = done.published();
            ledger.publish(published.clone());
            asked.send_modify(|asked| asked.published = Some(published));
            continue;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            Some(cosigned) = answered.recv() => {
                if let Some(round) = &mut round {
                    round.take(cosigned);
                }
            }
            Ok(()) = members_changed.changed() => {
                if let Some(round) = &mut round {
                    round.membership = ledger.membership();
                }
            }
            changed = signed.changed(), if round.is_none() => if changed.is_err() { return }, // the node is gone
        }
    }
}

/// The other members, each with whether it votes.
fn others(membership: &Membership, own: u64) -> BTreeMap<u64, (Member, bool)> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let others = membership.nodes().filter(|(node, _)| **node != own);
    others.map(|(node, member)| (*node, (member.clone(), voters.contains(node)))).collect()
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

    /// Takes a cosignature that is of this checkpoint and verifies. A wrong one would make the whole note void.
    fn take(&mut self, Cosigned { node, size, line }: Cosigned) {
        let key = cosigners(&self.membership).into_iter().find(|(id, _)| *id == node);
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

/// Asks one member.
struct Asker {
    node: u64,
    member: Member,
    votes: bool,
    links: Arc<Links>,
}

impl Asker {
    async fn run(self, mut asked: watch::Receiver<Asked>, answers: mpsc::Sender<Cosigned>) {
        let (mut cosigned, mut told) = (0, 0);
        let mut range = RETRY.0;
        loop {
            let Asked { round, published } = asked.borrow_and_update().clone();
            let published = published.filter(|published| published.checkpoint.size > told);
            let round = round.filter(|round| self.votes && round.checkpoint.size > cosigned);
            if round.is_none() && published.is_none() {
                if asked.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match self.ask(round.as_ref(), published.as_ref()).await {
                Ok(line) => {
                    range = RETRY.0;
                    told = published.map_or(told, |published| published.checkpoint.size);
                    if let Some(size) = round.map(|round| round.checkpoint.size) {
                        cosigned = size;
                        if answers.send(Cosigned { node: self.node, size, line }).await.is_err() {
                            return;
                        }
                    }
                }
                Err(why) => {
                    tracing::debug!(node = self.node, why, "a member does not cosign");
                    sleep(range.mul_f64(rand::random::<f64>())).await;
                    range = (range * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn ask(
        &self,
        round: Option<&SignedCheckpoint>,
        published: Option<&SignedCheckpoint>,
    ) -> Result<String, String> {
        let note = |signed: Option<&SignedCheckpoint>| signed.map(|signed| signed.note.clone()).unwrap_or_default();
        let request = CosignRequest {
            route: Some(self.links.route(self.node, &self.member)),
            checkpoint: note(round),
            published: note(published),
        };
        let mut member = self.links.to(self.node, &self.member).map_err(|why| why.to_string())?;
        let mut call = tonic::Request::new(request);
        call.set_timeout(CALL_MAX);
        match timeout(CALL_MAX, member.cosign(call)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().cosignature),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
