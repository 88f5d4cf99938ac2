//! How far a damaged member's log must reach before the member may come back.
//!
//! The member may have acknowledged every entry that its disk held durably, and the acknowledgement may have been
//! counted. So the new log must include everything that the old one is known to have held, up to its newest marker, its
//! last whole frame and its own checkpoint.
//!
//! That is not enough where the old log cannot tell where it ended: its markers are gone, its last bytes are no frame,
//! or its own checkpoint covers more than its frames or cannot be read. Then, after this repair began, a leader has to
//! say how far the log is committed, and have a quorum confirm that it leads. This node has not voted or acknowledged
//! anything since, so whatever was ever committed with its help is also on another member of every quorum that a leader
//! can find from then on: no leader can have less of it.

use gapless_world::World;
use openraft::CommittedLeaderId;

use super::super::{
    super::{
        note::Checkpoint,
        store::{StoreError, Survey},
    },
    NodeError, NodeSettings, SignedCheckpoint,
    identity::CHECKPOINT,
    recovery::{load_checkpoint, not_older, open_cell},
    types::{decode_frame, leaves},
};

/// See the module.
pub(super) struct Promise {
    /// Number of frames that the log must have.
    frames: u64,
    /// This node's own checkpoint, which the log must extend.
    kept: Option<SignedCheckpoint>,
    /// Whether nothing beyond that can have been promised.
    is_certain: bool,
    /// The index up to which a leader said that the log is committed.
    confirmed: Option<u64>,
}

impl Promise {
    /// Reads what the folder says. `voted` is the leader that this node voted for last.
    ///
    /// # Errors
    /// [`NodeError::VoteLost`] where the vote is older than a frame of the log; [`NodeError::OwnCheckpoint`] where the
    /// checkpoint is not this log's: then the settings are wrong, and nothing that the others give could be verified
    /// either.
    pub(super) async fn of(
        world: &World,
        settings: &NodeSettings,
        survey: &Survey,
        voted: CommittedLeaderId<u64>,
    ) -> Result<Self, NodeError> {
        let last = survey.last().await?;
        if let Some((entry, _)) = last.as_ref().and_then(|last| decode_frame(last).ok()) {
            not_older(voted, entry.log_id.leader_id)?;
        }
        // A cell has two slots: where both are damaged, or the file is gone, its value is unknown.
        let kept = match open_cell(world, CHECKPOINT).await {
            Ok(cell) => Some(load_checkpoint(&cell, settings)?),
            Err(NodeError::RolledBack(_) | NodeError::Store(StoreError::Corrupt { .. })) => {
                mark!("repair-without-own-checkpoint");
                None
            }
            Err(error) => return Err(error),
        };
        let held = last.and_then(|last| decode_frame(&last).ok());
        let held = held.map_or(0, |(entry, first_leaf)| first_leaf + leaves(&entry).len() as u64);
        let is_certain = survey.knows_its_end()
            && kept.as_ref().is_some_and(|kept| kept.as_ref().is_none_or(|kept| kept.checkpoint.size <= held));
        Ok(Self { frames: survey.promised(), kept: kept.flatten(), is_certain, confirmed: None })
    }

    /// This node's own checkpoint with its note.
    pub(super) fn kept(&self) -> Option<&SignedCheckpoint> {
        self.kept.as_ref()
    }

    /// This node's own checkpoint.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.kept.as_ref().map(|kept| &kept.checkpoint)
    }

    /// Returns whether a leader still has to say how far the log is committed.
    pub(super) fn needs_a_leader(&self) -> bool {
        !self.is_certain && self.confirmed.is_none()
    }

    /// Notes that nothing beyond this index was committed when a leader was asked, which a quorum confirmed. The leader
    /// was asked during this repair, so this holds for as long as the repair lasts.
    pub(super) fn confirm(&mut self, index: u64) {
        self.confirmed.get_or_insert(index);
    }

    /// Returns whether the frames of this node's own log that follow the fetched ones may count: only where it is
    /// certain that no others followed them.
    pub(super) fn trusts_its_tail(&self) -> bool {
        self.is_certain
    }

    /// Tells what a log of `frames` frames still lacks, the first of which were fetched and verified. `is_void` says
    /// that this node's own log is known to have held something else in the place of the last fetched frame: that was
    /// never committed, and neither was anything after it.
    pub(super) fn missing(&self, frames: u64, is_void: bool) -> Result<(), String> {
        if !self.is_certain {
            match self.confirmed {
                None => {
                    return Err(
                        "what this node had promised is damaged as well, and no leader says how far the log is \
                                committed"
                            .to_owned(),
                    );
                }
                Some(confirmed) if frames <= confirmed => {
                    return Err(format!("it shows {frames} entries, and the log is committed up to entry {confirmed}"));
                }
                Some(_) => {}
            }
        }
        match is_void || frames >= self.frames {
            true => Ok(()),
            false => Err(format!("it shows {frames} entries, and this node had promised {}", self.frames)),
        }
    }
}
