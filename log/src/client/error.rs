//! What a client cannot do, and what to do about it.

use gapless_world::tls::TlsError;

use super::rejection::Rejection;
use crate::{note::NoteError, schema::SchemaError, store::StoreError};

/// Why the client could not do what it was asked. A failed *call* of an append never appears here: delivery goes on
/// until the log has the entry.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The payload was refused before it was accepted: nothing was written.
    #[error("a payload of {bytes} bytes is larger than the {limit} that the log takes; split it or refer to it")]
    Oversize {
        /// Size of the payload.
        bytes: usize,
        /// The largest size that the log takes.
        limit: usize,
    },
    /// The settings cannot work.
    #[error("settings: {0}")]
    Settings(String),
    /// The identity cannot be used.
    #[error("identity: {0}")]
    Tls(#[from] TlsError),
    /// The contract that is compiled into this build cannot be used.
    #[error("this build's own contract: {0}")]
    Schema(#[from] SchemaError),
    /// A journal or a cell in the folder of the outbox failed.
    #[error("outbox: {0}")]
    Store(#[from] StoreError),
    /// A disk operation outside journals and cells failed.
    #[error("outbox: {what}: {why}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The error of the disk.
        why: std::io::Error,
    },
    /// Another process holds the folder.
    #[error("the data folder is in use by another process; end it, or give this client a folder of its own")]
    InUse,
    /// A stored value is not what it should be, although its checksum holds.
    #[error("{what} is not readable: {why}; it was written by another version or for another purpose")]
    Foreign {
        /// Which value.
        what: &'static str,
        /// Why it is not readable.
        why: String,
    },
    /// The kept checkpoint is gone.
    #[error(
        "`{file}` is missing although this outbox had one: without it, nobody would notice if the log were rolled back \
         to an earlier state; put the file back, or, if it is lost for good, create an empty file `{consent}`, and \
         this client trusts the log anew from what the log shows next"
    )]
    CheckpointLost {
        /// The missing file.
        file: String,
        /// The file by which an operator consents to go on without it.
        consent: String,
    },
    /// The folder belongs to another client.
    #[error("this outbox belongs to `{found}`, not to `{expected}`; give each client a folder of its own")]
    OtherClient {
        /// The client that the folder belongs to.
        found: String,
        /// The client that opened it.
        expected: String,
    },
    /// The log has other entries under the sequences that this outbox assigned.
    #[error(
        "the log has another entry under sequence {sequence} of epoch {epoch}, which this outbox has just assigned: \
         its data folder was put back to an earlier state, from a snapshot or a backup; what it had delivered is in the \
         log, and what it had accepted since that state and not delivered is lost"
    )]
    RolledBack {
        /// The epoch of the outbox.
        epoch: u64,
        /// The first sequence that was assigned twice.
        sequence: u64,
    },
    /// The outbox had to stop, most often because the disk failed. Everything accepted before is still on the disk.
    #[error("the outbox stopped: {0}; start again from the same folder, everything accepted is in it")]
    Stopped(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The client closed in time, but with entries that the log does not have yet.
    #[error("{entries} accepted and still owed: they stay in the outbox and are delivered after the next start")]
    StillOwed {
        /// The number of these entries.
        entries: u64,
    },
    /// A reader's call failed: after every attempt that its deadline allowed, or at once if another attempt cannot
    /// help.
    #[error("{what}: {why}")]
    Call {
        /// What was asked for.
        what: &'static str,
        /// Status and detail of the last attempt.
        why: String,
    },
    /// The answer of the log is not signed by its key.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The answer of the log is not proven.
    #[error("proof: {0}")]
    Unproven(#[from] Rejection),
    /// The leaves that the log serves are not those that it signed.
    #[error("the {size} leaves as read do not have the signed root; somebody changed leaves or the root")]
    WrongRoot {
        /// Leaves of the signed tree.
        size: u64,
    },
    /// The reader demanded a freshness, and the server does not know of that.
    #[error(
        "the server does not say how fresh its answer is: it runs a release from before there were bounds; upgrade \
         it, or read without asking for a bound"
    )]
    NoBound,
    /// The answer is not as fresh as demanded, or contains less than the server says it shows.
    #[error(
        "the server did not keep what was asked for: it claims to show {shown} leaves of unknown or larger age{}, and \
         its answer has {size}; it is faulty, ask another",
        age.map(|age| format!(" ({} ms)", age.as_millis())).unwrap_or_default()
    )]
    BoundNotKept {
        /// Leaves that the answer has or proves.
        size: u64,
        /// Leaves that the server says it shows.
        shown: u64,
        /// The age that the server states for its answer at the time when it was made.
        age: Option<std::time::Duration>,
    },
    /// A read or a tail skipped or repeated leaves, or went back.
    #[error("the server answered with leaf {found} where leaf {expected} was next; asking again from there")]
    OutOfOrder {
        /// The leaf that was next.
        expected: u64,
        /// The leaf that came.
        found: u64,
    },
}
