//! What a client cannot do, and what to do about it.

use gapless_world::tls::TlsError;

use super::rejection::Rejection;
use crate::{note::NoteError, schema::SchemaError, store::StoreError};

/// Why the client could not do what it was asked. A failed *call* never shows here for an append: delivery goes on
/// until the log has the entry.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Refused before it was accepted: nothing was written.
    #[error("a payload of {bytes} bytes is larger than the {limit} that the log takes; split it or refer to it")]
    Oversize {
        /// Size of the payload.
        bytes: usize,
        /// What the log takes.
        limit: usize,
    },
    /// Settings that cannot work.
    #[error("settings: {0}")]
    Settings(String),
    /// An identity that cannot be used.
    #[error("identity: {0}")]
    Tls(#[from] TlsError),
    /// The build's own contract.
    #[error("this build's own contract: {0}")]
    Schema(#[from] SchemaError),
    /// The folder of the outbox.
    #[error("outbox: {0}")]
    Store(#[from] StoreError),
    /// A disk operation outside journals and cells.
    #[error("outbox: {what}: {why}")]
    Disk {
        /// What was done.
        what: &'static str,
        /// What the disk said.
        why: std::io::Error,
    },
    /// Another process holds the folder.
    #[error("the data folder is in use by another process; end it, or give this client a folder of its own")]
    InUse,
    /// A stored value that is not what it should be, although its checksum holds.
    #[error("{what} is not readable: {why}; it was written by another version or for another purpose")]
    Foreign {
        /// Which value.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The kept checkpoint is gone.
    #[error(
        "`{file}` is missing although this outbox had one: without it nobody would notice that the log was rolled back \
         to before it; put it back from where it went, or, where it is lost for good, create an empty file `{consent}`, \
         and this client trusts the log anew from what it shows next"
    )]
    CheckpointLost {
        /// What is missing.
        file: String,
        /// By which an operator says to go on without it.
        consent: String,
    },
    /// Another client's folder.
    #[error("this outbox belongs to `{found}`, not to `{expected}`; give each client a folder of its own")]
    OtherClient {
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// The disk failed while the client ran. Everything accepted before is still on it.
    #[error("the outbox stopped: {0}; start again from the same folder, everything accepted is in it")]
    Stopped(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// Closed in time, but with entries that the log does not have yet.
    #[error("{entries} accepted and still owed: they stay in the outbox and are delivered after the next start")]
    StillOwed {
        /// How many.
        entries: u64,
    },
    /// A reader's call failed, after every attempt that its deadline allowed.
    #[error("{what}: {why}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// Status and detail of the last attempt.
        why: String,
    },
    /// What the log answered is not signed by its key.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// What the log answered is not proven.
    #[error("proof: {0}")]
    Unproven(#[from] Rejection),
    /// The leaves that the log serves are not those that it signed.
    #[error("the {size} leaves as read do not have the signed root; somebody changed leaves or the root")]
    WrongRoot {
        /// Leaves of the signed tree.
        size: u64,
    },
    /// Asked for something new, and answered by somebody who does not know of that.
    #[error(
        "the server does not say how new its answer is: it runs a release of before there were bounds; upgrade it, or \
         read without asking for one"
    )]
    NoBound,
    /// An answer that is not as new as it was to be, or shows less than it says.
    #[error(
        "the server did not keep what was asked for: it shows {shown} leaves of unknown or larger age{}, and answered \
         with {size}; it is faulty, ask another",
        age.map(|age| format!(" ({} ms)", age.as_millis())).unwrap_or_default()
    )]
    BoundNotKept {
        /// Leaves that the answer has or proves.
        size: u64,
        /// Leaves that the server says it shows.
        shown: u64,
        /// How old it says that its answer was when it was made.
        age: Option<std::time::Duration>,
    },
    /// A read or a tail that skips, repeats or goes back.
    #[error("the server answered with leaf {found} where leaf {expected} was next; asking again from there")]
    OutOfOrder {
        /// The leaf that was next.
        expected: u64,
        /// The leaf that came.
        found: u64,
    },
}
