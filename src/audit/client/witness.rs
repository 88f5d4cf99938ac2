//! The kept checkpoint: the newest tree that this client has verified, durable.
//!
//! It is what makes a client a witness. It only ever grows, and it is durable before an entry leaves the outbox on a
//! receipt that depends on it: forgetting it would let a log that was rolled back start over unnoticed.

use std::{path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    audit::{note::Checkpoint, store::Cell},
    world::{Disk, LogEvent, Observer},
};

use super::{
    error::ClientError,
    receipt::{Known, VerifiedReceipt},
};

const VERSION: u8 = 1;
/// A note above this is kept without its text, so that the value fits a cell (3 KiB).
const NOTE_BYTES_MAX: usize = 2_900;

/// The kept checkpoint in its cell.
pub(crate) struct Witness {
    cell: Cell,
    kept: Known,
    observer: Arc<dyn Observer>,
}

impl Witness {
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        path: &Path,
    ) -> Result<Witness, ClientError> {
        let cell = Cell::open(disk, path).await?;
        let kept = match cell.load() {
            None => Known::nothing(),
            Some(value) => decode(value)?,
        };
        Ok(Witness { cell, kept, observer })
    }

    /// The tree that every later one must extend.
    pub(crate) fn kept(&self) -> &Known {
        &self.kept
    }

    /// Keeps the receipt's checkpoint where it is larger. Durable when it returns.
    pub(crate) async fn keep(&mut self, receipt: &VerifiedReceipt) -> Result<(), ClientError> {
        let checkpoint = &receipt.checkpoint;
        if checkpoint.size <= self.kept.size {
            return Ok(());
        }
        // A crash before the end of this leaves the older checkpoint: the entry is then still in the outbox, is sent
        // again, and its repeated receipt brings a checkpoint at least as large.
        self.cell.store(encode(checkpoint, &receipt.note)).await?;
        self.kept = Known::from(checkpoint);
        let root = hex(&checkpoint.root);
        let note = receipt.note.clone();
        self.observer.see(LogEvent::CheckpointKept { size: checkpoint.size, root, note });
        Ok(())
    }
}

/// Version, size, root, then the signed note as evidence.
fn encode(checkpoint: &Checkpoint, note: &str) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    to.put_u64(checkpoint.size);
    to.put_slice(&checkpoint.root);
    if note.len() <= NOTE_BYTES_MAX {
        to.put_slice(note.as_bytes());
    }
    to.freeze()
}

fn decode(mut from: Bytes) -> Result<Known, ClientError> {
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
    Ok(Known { size, root })
}

/// Lower-case hexadecimal, as events show hashes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
