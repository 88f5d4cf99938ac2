//! The kept checkpoint: the newest tree that this client has verified, durable.
//!
//! The kept checkpoint makes a client a witness. It only ever grows, and it is durable before an entry leaves the
//! outbox on a receipt that depends on it: forgetting it would let a log that was rolled back start over unnoticed.
//! Stored with it is where the log placed the last entry that left, so that no later entry may be placed before that
//! one.

use std::{path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, LogEvent, Observer};

use super::{error::ClientError, known::Known, receipt::VerifiedReceipt, rejection::Rejection};
use crate::words::hex;
use crate::{
    leaf::{Epoch, Index, Sequence},
    note::Checkpoint,
    store::Cell,
};

const VERSION: u8 = 1;
/// A checkpoint whose note is larger than this is kept without the note, so that the value fits a cell (3 KiB).
const NOTE_BYTES_MAX: usize = 2_900;

/// The byte before the place of an entry. Values of earlier releases have the note here instead, and no note begins
/// with this byte.
const PLACED: u8 = 0;

/// Where the log placed an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) index: Index,
}

impl From<&VerifiedReceipt> for Placed {
    fn from(receipt: &VerifiedReceipt) -> Placed {
        Placed { epoch: receipt.epoch, sequence: receipt.sequence, index: receipt.index }
    }
}

impl Placed {
    /// Returns whether this is a later entry of the same epoch.
    pub(crate) fn is_behind(&self, other: &Placed) -> bool {
        self.epoch == other.epoch && self.sequence > other.sequence
    }

    /// Verifies that another entry of the same epoch stands on the same side of this one in the log as in the epoch. An
    /// entry that does not is void there, however genuine its receipt.
    pub(crate) fn agrees(&self, other: &Placed) -> Result<(), Rejection> {
        if self.epoch != other.epoch || self.sequence.cmp(&other.sequence) == self.index.cmp(&other.index) {
            return Ok(());
        }
        let (sequence, index) = (other.sequence.0, other.index.0);
        Err(Rejection::OutOfOrder { sequence, index, other: self.sequence.0, other_index: self.index.0 })
    }
}

/// The kept checkpoint in its cell.
pub(crate) struct Witness {
    cell: Cell,
    kept: Known,
    placed: Option<Placed>,
    observer: Arc<dyn Observer>,
}

impl Witness {
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        path: &Path,
    ) -> Result<Witness, ClientError> {
        let cell = Cell::open(disk, path).await?;
        let (kept, placed) = match cell.load() {
            None => (Known::nothing(), None),
            Some(value) => decode(value)?,
        };
        Ok(Witness { cell, kept, placed, observer })
    }

    /// Returns the tree that every later one must extend.
    pub(crate) fn kept(&self) -> &Known {
        &self.kept
    }

    /// Returns where the log placed the last entry that left, if that is known.
    pub(crate) fn placed(&self) -> Option<Placed> {
        self.placed
    }

    /// Keeps the checkpoint of `newest` if it is larger than the kept one, and the place of the last entry that leaves
    /// with it. With a larger checkpoint, both are durable when this returns; otherwise the place changes only in
    /// memory.
    pub(crate) async fn keep(&mut self, newest: &VerifiedReceipt, last: Placed) -> Result<(), ClientError> {
        let checkpoint = &newest.checkpoint;
        if checkpoint.size > self.kept.size {
            // A crash before the end of this store leaves the older checkpoint: the entries are then still in the
            // outbox, are sent again, and their repeated receipts bring a checkpoint at least as large.
            self.cell.store(encode(checkpoint, &last, &newest.note)).await?;
            self.kept = Known::from(checkpoint);
            let root = hex(&checkpoint.root);
            let note = newest.note.clone();
            self.observer.see(LogEvent::CheckpointKept { size: checkpoint.size, root, note });
        }
        self.placed = Some(last);
        Ok(())
    }
}

/// Version, size, root, where the last entry was placed, then the signed note as evidence.
fn encode(checkpoint: &Checkpoint, last: &Placed, note: &str) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    to.put_u64(checkpoint.size);
    to.put_slice(&checkpoint.root);
    to.put_u8(PLACED);
    to.put_u64(last.epoch.0);
    to.put_u64(last.sequence.0);
    to.put_u64(last.index.0);
    if note.len() <= NOTE_BYTES_MAX {
        to.put_slice(note.as_bytes());
    }
    to.freeze()
}

fn decode(mut from: Bytes) -> Result<(Known, Option<Placed>), ClientError> {
    let foreign = |why: &str| ClientError::Foreign { what: "the kept checkpoint", why: why.to_owned() };
    if from.first() != Some(&VERSION) {
        return Err(foreign("unknown version"));
    }
    if from.len() < 1 + 8 + 32 {
        return Err(foreign("too short"));
    }
    from.advance(1);
    let size = from.get_u64();
    let mut root = [0; 32];
    from.copy_to_slice(&mut root);
    let placed = (from.first() == Some(&PLACED) && from.len() > 3 * 8).then(|| {
        from.advance(1);
        Placed { epoch: Epoch(from.get_u64()), sequence: Sequence(from.get_u64()), index: Index(from.get_u64()) }
    });
    Ok((Known { size, root }, placed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(epoch: u64, sequence: u64, index: u64) -> Placed {
        Placed { epoch: Epoch(epoch), sequence: Sequence(sequence), index: Index(index) }
    }

    #[test]
    fn what_is_kept_survives_its_encoding_and_so_does_what_an_earlier_release_kept() {
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size: 7, root: [9; 32] };
        let (known, last) = (Known { size: 7, root: [9; 32] }, placed(1, 2, 3));
        for note in ["", "log.example\n7\n"] {
            let kept = encode(&checkpoint, &last, note);
            assert_eq!(decode(kept.clone()).unwrap(), (known.clone(), Some(last)));
            let mut before = kept[..1 + 8 + 32].to_vec();
            before.extend_from_slice(note.as_bytes());
            assert_eq!(decode(before.into()).unwrap(), (known.clone(), None));
        }
    }

    #[test]
    fn entries_of_one_epoch_stand_in_the_order_of_their_sequences() {
        let last = placed(1, 5, 50);
        for sound in [placed(1, 6, 51), placed(1, 4, 49), placed(1, 5, 50), placed(2, 0, 10), placed(2, 9, 60)] {
            last.agrees(&sound).unwrap();
        }
        for void in [placed(1, 6, 50), placed(1, 6, 49), placed(1, 4, 51), placed(1, 5, 51)] {
            assert!(last.agrees(&void).unwrap_err().needs_a_cure(), "{void:?}");
        }
    }
}
