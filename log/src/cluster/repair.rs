//! Repair: a member whose log is damaged rebuilds it from the others, and only then starts.
//!
//! Until then it runs no Raft: it neither votes nor serves. The new log is built beside the damaged one, from frames
//! that any other member shows. Every leaf is hashed anew, and nothing is believed but what the log's key signed and a
//! quorum of the members cosigned. The new log must extend this node's own checkpoint, where that can be read, and it
//! must reach as far as this node had promised (`promise`): an entry may be committed only because this node once
//! acknowledged it, so coming back with less could lose it. Where no member offers as much, the repair waits for as
//! long as it takes, and says so.
//!
//! A lost identity and a lost vote are not repaired (this machine could vote a second time), and neither is a log of
//! one, which nobody else has. A disk error is not damage: the process ends, and its next start reads the disk again.

mod promise;
mod rebuilt;
mod source;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use openraft::{EntryPayload, Vote};
use tokio::time::sleep;

pub(super) use self::source::Source;
use gapless_world::{LogEvent, World, observer::Unobserved};

use self::{
    promise::Promise,
    rebuilt::{Mismatch, Rebuilt},
};
use super::{
    super::store::{Part, StoreError, Survey, Swap},
    ClusterSettings, Contact, NodeError, NodeSettings,
    identity::{CHECKPOINT, Identity, JOURNAL, lock},
    ledger::Ledger,
    network::Links,
    recovery::{open_vote, voted_for},
    types::{KIND_MEMBERSHIP, Member, decode_frame, encode_vote},
};

/// Where the new files are prepared. Beneath it they already have their final paths.
const PREPARED: &str = "repaired";
/// Where the damaged files are kept; the name gets a number.
const KEPT: &str = "damaged";
/// What is replaced. The journal consists of its segments and of torn tails, and the torn tails stay.
const PARTS: &[Part] = &[Part::Files("journal/segments"), Part::File(CHECKPOINT)];

/// Calls to one member that may fail in a row before the unverified frames that it gave are discarded.
const FAILURES_MAX: u32 = 3;
/// The pause between two such calls.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause between two rounds over all members: at first, and at most. The actual wait is drawn from its second half.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(5));

/// Returns whether [`repair`] is what a node needs that did not start because of this error.
pub fn is_repairable(error: &NodeError, settings: &NodeSettings) -> bool {
    let is_of_the_log = match error {
        NodeError::Store(StoreError::Corrupt { file, .. }) => {
            Path::new(file).starts_with(JOURNAL) || Path::new(file) == Path::new(CHECKPOINT)
        }
        NodeError::RolledBack(_) | NodeError::Corrupt(_) | NodeError::Decode(_) => true,
        _ => false,
    };
    is_of_the_log && settings.cluster.is_some()
}

/// Rebuilds the log of a damaged member from the others. The folder can be started when this returns.
///
/// It has no deadline of its own: it waits until the others offer enough. It may be dropped at any time; the next
/// repair discards what was prepared by then.
///
/// # Errors
/// Where the damage cannot be repaired, where the folder is in use, and where the disk fails.
pub async fn repair(world: &World, settings: &NodeSettings) -> Result<(), NodeError> {
    // The links learn from the ledger which node they belong to, and nothing about its log.
    let nobody = Arc::new(Ledger::new(settings.clone(), Arc::new(Unobserved)));
    repair_from(&*Links::new(world.clone(), nobody), world, settings).await
}

/// As [`repair`], with any source of frames.
pub(super) async fn repair_from(source: &impl Source, world: &World, settings: &NodeSettings) -> Result<(), NodeError> {
    let _lock = lock(world).await?;
    Identity::check(world, settings).await?;
    if finish_swap(world).await? {
        return Ok(());
    }
    mark!("repair-begun");
    let mut vote = open_vote(world).await?;
    let survey = Survey::of(world.disk.clone(), Path::new(JOURNAL)).await?;
    let voted = voted_for(&vote)?;
    let promise = Promise::of(world, settings, &survey, voted).await?;
    let rebuilt = Rebuilt::begin(world, settings).await?;
    let known = members_of(&survey, settings).await?;
    let mut repair = Repair { source, world, settings, known, survey, promise, rebuilt };
    let from = repair.until_complete().await?;
    let Repair { rebuilt, promise, .. } = repair;
    let (frames, leaves) = (rebuilt.next(), rebuilt.size());
    if let Some(last) = rebuilt.last_log_id().filter(|last| last.leader_id > voted) {
        mark!("repair-vote-followed");
        // The fetched log reaches a leader of which this node had not heard: as with any call of a leader, the vote
        // follows. It is a vote for the leader that was elected in that term, so it elects nobody else. A crash after
        // it leaves a vote that is newer than the log, which is always allowed.
        vote.store(encode_vote(&Vote::new(last.leader_id.term, last.leader_id.node_id))).await?;
    }
    rebuilt.finish(world, promise.kept()).await?;
    world.tell(LogEvent::ReplicaRebuilt { frames, leaves, from: from.clone() });
    let kept = swap(world).begin().await?;
    mark!("repair-done");
    tracing::warn!(folder = %kept.display(), "the damaged files are kept here");
    let replaced = PARTS.iter().map(|part| part.path().to_owned()).collect();
    world.tell(LogEvent::ReplicaRepaired { frames, leaves, from, replaced });
    Ok(())
}

fn swap(world: &World) -> Swap {
    Swap { disk: world.disk.clone(), prepared: PREPARED, kept: KEPT, parts: PARTS }
}

/// Finishes a swap of the old files for the new ones that a crash interrupted, and returns whether there was one.
/// Nothing that takes part in the swap may be opened before this returns.
pub(super) async fn finish_swap(world: &World) -> Result<bool, NodeError> {
    let kept = swap(world).finish().await?;
    if let Some(kept) = &kept {
        tracing::warn!(folder = %kept.display(), "an interrupted repair is finished, the damaged files are kept");
    }
    Ok(kept.is_some())
}

/// The members that may be asked: those that the newest readable membership of this node's log names, which may be an
/// old one, and those that the settings name beside them. Nothing about them has to be believed but an address: what is
/// fetched proves itself.
async fn members_of(survey: &Survey, settings: &NodeSettings) -> Result<BTreeMap<u64, Member>, NodeError> {
    let membership = match survey.newest_of(KIND_MEMBERSHIP).await? {
        Some(frame) => decode_frame(&frame).ok().map(|(entry, _)| entry.payload),
        None => None,
    };
    let mut members = BTreeMap::new();
    if let Some(EntryPayload::Membership(membership)) = membership {
        members.extend(membership.nodes().map(|(node, member)| (*node, member.clone())));
    }
    let contacts = settings.cluster.iter().flat_map(|ClusterSettings { contacts, .. }| contacts);
    let member = |Contact { node, name, address }: &Contact| {
        (*node, Member { name: name.clone(), address: address.clone(), ..Member::default() })
    };
    for (node, member) in contacts.map(member) {
        members.entry(node).or_insert(member);
    }
    Ok(members)
}

/// One repair under way.
struct Repair<'a, S> {
    source: &'a S,
    world: &'a World,
    settings: &'a NodeSettings,
    /// The members, according to this node's folder and settings.
    known: BTreeMap<u64, Member>,
    survey: Survey,
    promise: Promise,
    rebuilt: Rebuilt,
}

/// Why fetching from one member did not complete the repair.
enum Setback {
    /// The member gave too little, nothing, or something that does not hold.
    Member(String),
    /// This node cannot go on.
    Own(NodeError),
}

impl<E: Into<NodeError>> From<E> for Setback {
    fn from(error: E) -> Self {
        Setback::Own(error.into())
    }
}

impl<S: Source> Repair<'_, S> {
    /// Asks one member after the other, round after round. Returns the name of the member that gave what was still
    /// missing.
    async fn until_complete(&mut self) -> Result<String, NodeError> {
        let mut told = String::new();
        let mut wait = ROUNDS.0;
        loop {
            let (mut setbacks, before) = (Vec::new(), self.rebuilt.verified());
            for (node, member) in self.others() {
                match self.from(node, &member).await {
                    Ok(()) => {
                        mark!("repair-went-to-another-member", !setbacks.is_empty());
                        return Ok(member.name);
                    }
                    Err(Setback::Own(error)) => return Err(error),
                    Err(Setback::Member(why)) => setbacks.push(format!("{}: {why}", member.name)),
                }
                if !self.rebuilt.is_verified() {
                    // Which of its frames are wrong cannot be told before the root is compared, so all of them go.
                    self.rebuilt = Rebuilt::begin(self.world, self.settings).await?;
                }
            }
            let why = match setbacks.is_empty() {
                true => "no other member is known: name them in the settings".to_owned(),
                false => setbacks.join("; "),
            };
            mark!("repair-stalled");
            if told != why {
                self.world.tell(LogEvent::RepairStalled { why: why.clone() });
                told = why;
            }
            if self.rebuilt.verified() > before {
                wait = ROUNDS.0;
            }
            sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            wait = (wait * 2).min(ROUNDS.1);
        }
    }

    /// All members but this one; those of the fetched log as soon as it is verified.
    fn others(&self) -> BTreeMap<u64, Member> {
        let mut members = self.rebuilt.members().unwrap_or_else(|| self.known.clone());
        members.remove(&self.settings.node);
        members
    }

    /// Fetches from one member all that it shows, and completes the repair if that is enough.
    async fn from(&mut self, node: u64, member: &Member) -> Result<(), Setback> {
        let mut failures = 0;
        loop {
            let asked = self.source.fetch(node, member, self.rebuilt.next(), self.promise.needs_a_leader());
            let answer = match asked.await {
                Ok(answer) => answer,
                Err(why) => {
                    mark!("repair-answer-missing");
                    failures += 1;
                    // No other member can go on from the middle of what this one gave, so an unverified part is worth a
                    // retry.
                    if self.rebuilt.is_verified() || failures >= FAILURES_MAX {
                        return Err(Setback::Member(why));
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            };
            mark!("repair-needs-a-leader", self.promise.needs_a_leader());
            failures = 0;
            if let Some(confirmed) = answer.confirmed {
                self.promise.confirm(confirmed);
            }
            let is_last = answer.frames.is_empty();
            self.rebuilt.take(answer.frames.into_iter().map(Into::into)).await?.map_err(lies)?;
            if self.rebuilt.is_behind(&answer.checkpoint).map_err(lies)? {
                if is_last {
                    return Err(Setback::Member("its checkpoint covers more than it gives".to_owned()));
                }
                continue;
            }
            if !self.rebuilt.is_verified() {
                self.rebuilt.verify(&answer.checkpoint, self.promise.checkpoint()).map_err(lies)?;
            }
            let missing = self.rebuilt.complete(&self.promise, &self.survey).await?;
            return missing.map_err(Setback::Member);
        }
    }
}

/// What a member gave does not hold. This is logged as an error, because honest members do not do that.
fn lies(Mismatch(why): Mismatch) -> Setback {
    tracing::error!(%why, "what a member gave for the repair does not hold");
    Setback::Member(format!("what it gave does not hold: {why}"))
}
