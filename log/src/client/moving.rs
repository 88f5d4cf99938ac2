//! Entries that move to a new epoch, because the outbox was put back to an earlier state.
//!
//! An outbox that goes back to a snapshot assigns sequences again which the log has seen. The log refuses the first of
//! them: another entry stands there. Every entry from that sequence on was accepted after the outbox had come back, and
//! as long as the first of them is not in the log, none of the others is sent. So the log has none of them, and none of
//! them may be lost. They are noted here, durably, together with the epoch in which the next start signs them anew.
//! Until that epoch is open, a crash leaves the note and the old journal, from which the same entries are taken again,
//! in the same order. If the outbox is put back a second time, to a moment at which the note was there, the same epoch
//! comes of it, with the same entries, and the log answers them with their first receipts.

use std::{io, path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, OpenMode};

use super::{dead_letter::DeadLetter, epoch::EpochRecord, error::ClientError, settings::READ_BYTES_MAX};
use crate::{
    leaf::{Body, Epoch, Sequence, SignedEntry},
    store::{Cell, Frame, Journal},
};

const VERSION: u8 = 1;
const WHAT: &str = "the note of entries that move to a new epoch";
const HEAD_BYTES: usize = 1 + 8 + 8;

/// The file of the note. It exists only if an outbox was ever put back.
const FILE: &str = "outbox/moving";

/// The entries that move: those of `epoch` from the sequence `from` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) epoch: Epoch,
    pub(crate) from: u64,
    /// The epoch to which they move.
    pub(crate) to: EpochRecord,
}

fn decode_note(mut from: Bytes) -> Result<Moving, ClientError> {
    if from.len() < HEAD_BYTES || from.get_u8() != VERSION {
        let why = format!("fewer than {HEAD_BYTES} bytes, or of an unknown version");
        return Err(ClientError::Foreign { what: WHAT, why });
    }
    let (epoch, first) = (Epoch(from.get_u64()), from.get_u64());
    Ok(Moving { epoch, from: first, to: EpochRecord::decode(from)? })
}

/// Returns the entry in a frame of an outbox's journal.
pub(crate) fn decode(frame: Frame) -> Result<SignedEntry, ClientError> {
    let foreign = |why: String| ClientError::Foreign { what: "an entry of the outbox", why };
    let entry = SignedEntry::decode(frame.body).map_err(|why| foreign(why.to_string()))?;
    match entry.entry().sequence == Sequence(frame.index) {
        true => Ok(entry),
        false => Err(foreign(format!("sequence {} in slot {}", entry.entry().sequence.0, frame.index))),
    }
}

impl Moving {
    pub(crate) async fn load(disk: Arc<dyn Disk>) -> Result<Option<Moving>, ClientError> {
        let file = Path::new(FILE);
        match disk.open(file, OpenMode::Existing).await {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => {
                opened.map_err(|why| ClientError::Disk { what: "look for the note of entries that move", why })?
            }
        };
        Cell::open(disk, file).await?.load().map(decode_note).transpose()
    }

    /// Stores the note. Version, epoch, first sequence, the record of the new epoch.
    pub(crate) async fn store(&self, disk: Arc<dyn Disk>) -> Result<(), ClientError> {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        to.put_u64(self.epoch.0);
        to.put_u64(self.from);
        to.put_slice(&self.to.encode());
        Ok(Cell::open(disk, Path::new(FILE)).await?.store(to.freeze()).await?)
    }

    /// Reads entries from the sequence `next` on, which moves behind them, from the journal of their epoch. Returns the
    /// payloads of those that move; none at the end. What is a dead letter stays one.
    pub(crate) async fn read(
        &self,
        journal: &Journal,
        letters: &[DeadLetter],
        next: &mut u64,
    ) -> Result<Vec<Bytes>, ClientError> {
        let is_dead = |sequence| letters.iter().any(|it| it.epoch == self.epoch && it.sequence.0 == sequence);
        let mut payloads = Vec::new();
        *next = (*next).max(self.from).max(journal.first_index());
        while payloads.is_empty() && *next < journal.next_index() {
            for frame in journal.read(*next, journal.next_index(), READ_BYTES_MAX).await? {
                let sequence = frame.index;
                *next = sequence + 1;
                if let (Body::Event(payload), false) = (&decode(frame)?.entry().body, is_dead(sequence)) {
                    payloads.push(payload.clone());
                }
            }
        }
        Ok(payloads)
    }
}
