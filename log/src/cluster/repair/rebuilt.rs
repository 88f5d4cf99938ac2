//! The log that a damaged member rebuilds, beside the damaged one.
//!
//! Frames are taken as they come and hashed into a tree of their own. They count for nothing until a checkpoint that
//! covers all of them has been compared with that tree. Nothing here touches the files that the new log is to replace.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use gapless_world::{World, observer::Unobserved};
use openraft::LogId;

use super::{
    super::{
        super::{
            note::{Checkpoint, NoteError},
            store::{Cell, Frame, Journal, JournalOptions, Survey},
        },
        NodeError, NodeSettings, SignedCheckpoint,
        identity::{CHECKPOINT, JOURNAL},
        ledger::Ledger,
        machine::Machine,
        recovery::replay_frame,
        types::{Member, decode_frame},
    },
    PREPARED,
    promise::Promise,
    swap,
};

/// What a member gave is not what it ought to be.
#[derive(Debug)]
pub(super) struct Mismatch(pub(super) String);

impl From<NoteError> for Mismatch {
    fn from(error: NoteError) -> Self {
        Self(error.to_string())
    }
}

/// How this node's own log goes on where the fetched one ends.
enum Tail {
    /// Both logs have the same frame in the last fetched place: what follows it in this node's own log is whole up to
    /// `end`, exclusive.
    Follows { end: u64 },
    /// This node's own log has another frame there: it went astray, and that frame was never committed.
    Void,
    /// That cannot be told.
    Unknown,
}

/// See the module.
pub(super) struct Rebuilt {
    ledger: Arc<Ledger>,
    machine: Machine,
    journal: Journal,
    /// The last frame taken.
    last: Option<Frame>,
    /// Number of frames that a verified checkpoint covers.
    verified: u64,
}

impl Rebuilt {
    /// Begins an empty log. Whatever was prepared before is discarded.
    pub(super) async fn begin(world: &World, settings: &NodeSettings) -> Result<Self, NodeError> {
        swap(world).discard().await?;
        let options = JournalOptions { segment_bytes: settings.limits.segment_bytes, first_index: 0 };
        let (disk, folder) = (world.disk.clone(), Path::new(PREPARED).join(JOURNAL));
        let journal = Journal::open(disk, Arc::new(Unobserved), &folder, settings.log_id, options).await?;
        let ledger = Arc::new(Ledger::new(settings.clone(), Arc::new(Unobserved)));
        let machine = Machine::new(ledger.clone());
        Ok(Self { ledger, machine, journal, last: None, verified: 0 })
    }

    /// Index of the next frame, and so the number of frames that the log has.
    pub(super) fn next(&self) -> u64 {
        self.journal.next_index()
    }

    /// Number of leaves.
    pub(super) fn size(&self) -> u64 {
        self.ledger.size()
    }

    /// The log id of the last entry.
    pub(super) fn last_log_id(&self) -> Option<LogId<u64>> {
        self.ledger.last_log_id()
    }

    /// Number of verified frames.
    pub(super) fn verified(&self) -> u64 {
        self.verified
    }

    /// Returns whether all frames are verified.
    pub(super) fn is_verified(&self) -> bool {
        self.verified == self.next()
    }

    /// The members, as soon as a verified log names them.
    pub(super) fn members(&self) -> Option<BTreeMap<u64, Member>> {
        let membership = (self.verified > 0).then(|| self.ledger.membership())?;
        Some(membership.nodes().map(|(node, member)| (*node, member.clone())).collect())
    }

    /// Takes the next frames and makes them durable. Where one does not fit, those before it are still taken.
    pub(super) async fn take(
        &mut self,
        frames: impl Iterator<Item = Frame>,
    ) -> Result<Result<(), Mismatch>, NodeError> {
        for frame in frames {
            // As soon as the checkpoint verifies, it covers all of them, so all are applied.
            let fits = replay_frame(&frame, self.next(), &self.ledger, &mut self.machine, u64::MAX);
            if let Err(why) = fits {
                return Ok(Err(Mismatch(why.to_string())));
            }
            self.journal.write(std::slice::from_ref(&frame))?;
            self.last = Some(frame);
        }
        self.journal.sync().await?;
        self.ledger.synced();
        Ok(Ok(()))
    }

    /// Returns whether the checkpoint, which the log's key must have signed, covers more leaves than there are.
    pub(super) fn is_behind(&self, note: &str) -> Result<bool, Mismatch> {
        Ok(Checkpoint::verify(note, &self.ledger.note_key())?.size > self.size())
    }

    /// Compares everything that was taken with a checkpoint over exactly these leaves, which the log's key must have
    /// signed and a quorum of the members that this very log names must have cosigned; and with the checkpoint that
    /// this node kept of its own log.
    pub(super) fn verify(&mut self, note: &str, kept: Option<&Checkpoint>) -> Result<(), Mismatch> {
        let checkpoint = Checkpoint::verify(note, &self.ledger.note_key())?;
        if checkpoint.size != self.size() {
            let (gave, covers) = (self.size(), checkpoint.size);
            return Err(Mismatch(format!("{gave} leaves under a checkpoint that covers {covers}")));
        }
        self.ledger.follow(note).map_err(|why| Mismatch(why.to_string()))?;
        match kept {
            Some(kept) if kept.size <= self.size() && !self.extends(kept) => Err(Mismatch(format!(
                "its log is not the one of which this node kept a checkpoint of {} leaves",
                kept.size
            ))),
            _ => {
                self.verified = self.next();
                Ok(())
            }
        }
    }

    fn extends(&self, kept: &Checkpoint) -> bool {
        self.ledger.root_at(kept.size) == Some(kept.root)
    }

    /// Adds what this node's own log holds after the fetched frames, and returns whether that is enough, or what is
    /// missing. No member has shown what is added: as after any start, Raft commits it or not.
    pub(super) async fn complete(
        &mut self,
        promise: &Promise,
        survey: &Survey,
    ) -> Result<Result<(), String>, NodeError> {
        let fetched = self.next();
        let (end, is_void) = match self.own_tail(survey).await? {
            Tail::Follows { end } if promise.trusts_its_tail() => (end, false),
            Tail::Void => (fetched, true),
            Tail::Follows { .. } | Tail::Unknown => (fetched, false),
        };
        mark!("repair-dropped-a-void-tail", is_void);
        let mut enough = promise.missing(end, is_void);
        if enough.is_ok() {
            mark!("repair-kept-its-own-tail", end > fetched);
            enough = self.add(survey, end).await?.and_then(|()| self.reaches(promise.checkpoint()));
        }
        if enough.is_err() {
            mark!("repair-found-too-little");
            self.journal.truncate(fetched).await?;
            self.ledger.truncate(fetched);
        }
        Ok(enough)
    }

    /// Adds the frames of this node's own log up to `end` and makes them durable. They are not applied.
    async fn add(&mut self, survey: &Survey, end: u64) -> Result<Result<(), String>, NodeError> {
        while self.next() < end {
            let index = self.next();
            let Some(frame) = survey.frame(index).await? else {
                return Ok(Err(format!("entry {index} of this node's log was whole a moment ago")));
            };
            if let Err(why) = replay_frame(&frame, index, &self.ledger, &mut self.machine, 0) {
                return Ok(Err(format!("the tail of this node's log does not fit: {why}")));
            }
            self.journal.write(&[frame])?;
        }
        self.journal.sync().await?;
        self.ledger.synced();
        Ok(Ok(()))
    }

    /// Checks that the log reaches this node's own checkpoint and has its root.
    fn reaches(&self, kept: Option<&Checkpoint>) -> Result<(), String> {
        match kept {
            Some(kept) if kept.size > self.size() => {
                let (shown, size) = (self.size(), kept.size);
                Err(format!("it shows {shown} leaves, and this node's own checkpoint covers {size}"))
            }
            Some(kept) if !self.extends(kept) => {
                Err("the tail of this node's log is not what its own checkpoint covers".to_owned())
            }
            _ => Ok(()),
        }
    }

    async fn own_tail(&self, survey: &Survey) -> Result<Tail, NodeError> {
        let Some(last) = &self.last else { return Ok(Tail::Unknown) };
        let follows = Tail::Follows { end: survey.whole_until(self.next()) };
        if let Some(own) = survey.frame(last.index).await? {
            return Ok(if own == *last { follows } else { Tail::Void });
        }
        // That place is damaged, so the leader of the frame after it has to tell. A leader writes its entries in order.
        // If the frame after it is by the leader of the last fetched frame, the damaged place held that same frame. If
        // it is by an older leader, the damaged place held something older, too, which is void. A term may have had two
        // leaders, so the term alone does not tell.
        let leader = |frame: &Frame| decode_frame(frame).ok().map(|(entry, _)| entry.log_id.leader_id);
        let behind = survey.frame(self.next()).await?;
        Ok(match (behind.as_ref().and_then(leader), leader(last)) {
            (Some(behind), Some(last)) if behind == last => follows,
            (Some(behind), Some(last)) if behind < last => Tail::Void,
            _ => Tail::Unknown,
        })
    }

    /// Finishes the journal durably and stores the newest checkpoint beside it: the fetched one or the one that this
    /// node had kept, whichever covers more. From then on the new files can replace the old ones.
    pub(super) async fn finish(mut self, world: &World, kept: Option<&SignedCheckpoint>) -> Result<(), NodeError> {
        // There is nothing to cut: the call waits until no segment is being begun and everything is synced.
        self.journal.truncate(self.next()).await?;
        let fetched = self.ledger.checkpoint().borrow().clone();
        let newest = fetched.iter().chain(kept).max_by_key(|signed| signed.checkpoint.size);
        let mut cell = Cell::open(world.disk.clone(), &Path::new(PREPARED).join(CHECKPOINT)).await?;
        if let Some(newest) = newest {
            cell.store(newest.note.clone().into_bytes().into()).await?;
        }
        Ok(())
    }
}
