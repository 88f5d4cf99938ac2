//! Dead letters: entries that the log refused for good, as durable as the outbox they came from.
//!
//! A dead letter leaves no gap: its slot in the log is closed by another signed entry of the same sequence, which says
//! what was refused and why. Here, the refused bytes and the entry that takes their place stand in one frame. So there
//! is no moment at which a crash could keep one without the other:
//!
//! * before the frame is durable, the outbox still holds the refused entry: it is sent, refused and kept again;
//! * from then on this frame overrides the outbox's slot, at recovery as in memory.
//!
//! Frames are never removed: what was refused stays readable until a person has dealt with it.

use std::{path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, Observer};

use super::{epoch::journal_id, error::ClientError, settings::READ_BYTES_MAX};
use crate::{
    leaf::{Body, ClientId, Epoch, Sequence, SignedEntry},
    store::{Frame, Journal, JournalOptions, JournalReader},
};

const VERSION: u8 = 1;
const KIND: u8 = 1;
/// A reason is cut to this many bytes, so that the entry that carries it is always small enough for the log.
const REASON_BYTES_MAX: usize = 400;
const WHAT: &str = "a dead letter";

/// An entry that the log refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The entry's epoch.
    pub epoch: Epoch,
    /// The entry's position in that epoch.
    pub sequence: Sequence,
    /// The log's reason, then its detail.
    pub reason: String,
    /// The entry as it was signed and refused.
    pub entry: SignedEntry,
    /// The entry that takes its place in the log.
    pub closing: SignedEntry,
}

impl DeadLetter {
    /// The payload that was refused.
    pub fn payload(&self) -> Bytes {
        match &self.entry.entry().body {
            Body::Event(payload) => payload.clone(),
            _ => Bytes::new(),
        }
    }

    /// Version, epoch, sequence; reason, entry and closing entry, each after its length in four bytes.
    fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        to.put_u64(self.epoch.0);
        to.put_u64(self.sequence.0);
        for part in [self.reason.as_bytes(), self.entry.bytes(), self.closing.bytes()] {
            // Each part is far below 4 GiB: an entry is at most 64 KiB.
            to.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            to.put_slice(part);
        }
        to.freeze()
    }
}

fn decode(mut from: Bytes) -> Result<DeadLetter, ClientError> {
    let foreign = |why: String| ClientError::Foreign { what: WHAT, why };
    if from.len() < 1 + 8 + 8 || from.get_u8() != VERSION {
        return Err(foreign("too short, or of an unknown version".to_owned()));
    }
    let (epoch, sequence) = (Epoch(from.get_u64()), Sequence(from.get_u64()));
    let mut part = || {
        let length = from.try_get_u32().map_or(usize::MAX, |length| length as usize);
        if length > from.len() { Err(foreign("a part is missing".to_owned())) } else { Ok(from.split_to(length)) }
    };
    let reason = String::from_utf8_lossy(&part()?).into_owned();
    let entry = SignedEntry::decode(part()?).map_err(|why| foreign(why.to_string()))?;
    let closing = SignedEntry::decode(part()?).map_err(|why| foreign(why.to_string()))?;
    Ok(DeadLetter { epoch, sequence, reason, entry, closing })
}

/// Returns the reason as it is kept and logged, cut at a character boundary if it is too long.
pub(crate) fn reason_text(reason: &str, detail: &str) -> String {
    let mut text = if detail.is_empty() { reason.to_owned() } else { format!("{reason}: {detail}") };
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The journal of the dead letters of all epochs.
pub(crate) struct DeadLetters {
    journal: Journal,
}

impl DeadLetters {
    /// Opens the journal and reads all of it: dead letters are few.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        client: &ClientId,
    ) -> Result<(DeadLetters, Vec<DeadLetter>), ClientError> {
        let id = journal_id(client, b"dead-letters", 0);
        let mut journal = Journal::open(disk, observer, folder, id, JournalOptions::default()).await?;
        // A frame that survived a process crash only in the page cache becomes durable here, before anything relies on
        // it.
        journal.sync().await?;
        let letters = read_all(&journal.reader(), journal.first_index(), journal.next_index()).await?;
        Ok((DeadLetters { journal }, letters))
    }

    /// Keeps a dead letter, which is durable when this returns.
    pub(crate) async fn keep(&mut self, letter: &DeadLetter) -> Result<(), ClientError> {
        let index = self.journal.next_index();
        self.journal.write(&[Frame { index, term: letter.epoch.0, kind: KIND, body: letter.encode() }])?;
        Ok(self.journal.sync().await?)
    }

    pub(crate) fn reader(&self) -> JournalReader {
        self.journal.reader()
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.journal.next_index()
    }
}

/// Reads the dead letters of `start..end` from the disk.
pub(crate) async fn read_all(reader: &JournalReader, start: u64, end: u64) -> Result<Vec<DeadLetter>, ClientError> {
    let (mut letters, mut next) = (Vec::new(), start);
    while next < end {
        let frames = reader.read(next, end, READ_BYTES_MAX).await?;
        let Some(last) = frames.last() else { break };
        next = last.index + 1;
        for frame in frames {
            letters.push(decode(frame.body)?);
        }
    }
    Ok(letters)
}
