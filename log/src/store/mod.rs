//! The journal: frames in segment files, with recovery that tells torn from corrupt. The log's Raft entries, the
//! client's outbox and its dead letters all live in journals; small values that change live in a [`Cell`].
//!
//! What was synced is never lost silently: a [`Journal`] either gives it back, byte for byte, or refuses to open. What
//! was not synced may be gone after a crash, but only from the end, and it never comes back as garbage. A failed sync
//! is final: the journal is poisoned, nothing is retried and nothing is read back to see "whether it worked after all",
//! because the page cache would say yes.
//!
//! ```text
//! segments/00000000000000000000.seg      name = index of the first frame
//!      0  header  magic, format version, id, first index, chain so far, CRC32C
//!   4096  marker  generation, index, offset and chain up to which a sync completed, CRC32C
//!   8192  marker  the one before, or the one after
//!  12288  frames  length u32, CRC32C u32, index u64, term u64, kind u8, body
//! torn/…                                 what recovery cut off, kept aside
//! ```
//!
//! A damaged journal is never repaired in place: `survey` says which of its frames can still be read and up to which
//! frame it had promised durability, and `swap` lets another one take its place as a whole.
//!
//! Not covered: a disk that loses synced bytes *and* both kinds of evidence; damage to the frames of the very last sync
//! before a crash, whose marker was not yet durable (it reads as a torn tail); a folder replaced by an older copy of
//! itself, which only a checkpoint kept elsewhere can reveal.

mod cell;
mod frame;
mod journal;
mod reader;
mod recovery;
mod replacement;
mod segment;
mod shared;
mod survey;
mod swap;

#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;

use std::{io, path::Path, sync::Arc};

pub use cell::{Cell, VALUE_BYTES_MAX};
pub use frame::{FRAME_BYTES_MAX, Frame};
pub use journal::{Journal, JournalOptions, SEGMENT_BYTES};
pub use reader::JournalReader;
#[cfg(test)]
pub(crate) use segment::BLOCKS_BYTES;
pub(crate) use survey::Survey;
pub(crate) use swap::{Part, Swap};

/// Why the store cannot do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk returned an error. If that was for a write or a sync, the journal is poisoned.
    #[error("could not {doing} `{file}`: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: String,
        /// The error of the disk.
        source: Arc<io::Error>,
    },
    /// Damage where a sync had completed. Nothing was changed on disk.
    #[error("`{file}` is damaged at byte {offset}: {what}; restore this folder from a copy, do not edit it")]
    Corrupt {
        /// The file.
        file: String,
        /// The offset of the damage.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// An earlier write, sync or change failed or was interrupted. Only opening the journal again helps.
    #[error("an earlier write or sync failed; the process must end and recover from disk")]
    Poisoned,
    /// The files belong to another log or outbox.
    #[error("`{file}` belongs to {found}, not to {expected}; point to the right data folder")]
    WrongIdentity {
        /// The file.
        file: String,
        /// The id asked for, in hexadecimal.
        expected: String,
        /// The id found, in hexadecimal.
        found: String,
    },
    /// The files were written in a format that this build does not know.
    #[error(
        "`{file}` has format version {found}, this build knows {known}; use the build that wrote it or a newer one"
    )]
    UnknownVersion {
        /// The file.
        file: String,
        /// The version of the file.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// The index is before the first or after the last frame kept.
    #[error("index {index} is outside what is kept: {first} up to, but not including, {next}")]
    Outside {
        /// The index asked for.
        index: u64,
        /// The index of the oldest frame kept.
        first: u64,
        /// The index of the next frame to be written.
        next: u64,
    },
    /// Frames must be written in order.
    #[error("frame {found} was written where {expected} is next")]
    NotConsecutive {
        /// The next index.
        expected: u64,
        /// The index given.
        found: u64,
    },
    /// A frame or value is too large to be stored.
    #[error("{bytes} bytes are more than the {max} that fit")]
    Oversize {
        /// The size of the frame or value.
        bytes: u64,
        /// The limit.
        max: u64,
    },
}

impl StoreError {
    /// For `map_err`: adds what was tried, and the file.
    fn io(doing: &'static str, file: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { doing, file: file.display().to_string(), source: Arc::new(source) }
    }

    fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { file: file.display().to_string(), offset, what: what.into() }
    }
}
