//! What a log must offer in order to be tested: how to start its parts, how to append, how to read back, and what it
//! promises.
//!
//! [`AuditLog`] is the log of this repository, offered in the same way as any other log.

#[cfg(any(test, feature = "audit-log"))]
mod audit_log;
mod certificates;
mod erased;
mod explored;
mod folder;
mod host;
mod network;
mod promises;

use std::{borrow::Cow, future::Future};

use bytes::Bytes;

pub use crate::{
    history::{EntryId, Invariant, Name, Outcome, Promises},
    scenario::Sizes,
};
#[cfg(any(test, feature = "audit-log"))]
pub use audit_log::AuditLog;
pub(crate) use certificates::Certificates;
pub(crate) use erased::{AnyClient, AnySystem};
pub use explored::{Explored, Rule};
pub use folder::{DataFolder, File};
pub(crate) use folder::{DiskAtOnce, FileAtOnce, without_power};
pub use host::{Findings, Host, Peer, Renewal, ReplyFilter};
pub use network::{Caller, Connection, Connector, Incoming};

/// Anything that went wrong in a system under test, with its causes. Every `std::error::Error` and every text can be
/// converted into one by `?` or `into()`.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The log under test: how to start its parts and what it promises. One value serves a whole run.
pub trait System: Send + Sync + 'static {
    /// Its client.
    type Client: Client;

    /// Returns the invariants by which a run may judge this log. Nothing else is judged, and every verdict names what
    /// was left out.
    fn promises(&self) -> Promises;

    /// Returns whether a fault of the catalogue can be performed on this log, and the reason if it cannot.
    fn can_suffer(&self, fault: &str) -> Result<(), Cow<'static, str>> {
        match fault {
            "bit-flip" => Err("replies are flipped inside the server, which only gapless's own log offers".into()),
            "replace" => Err("this log does not say how it takes a machine in and lets one go: implement \
                              `System::replace`, and return `Ok` here"
                .into()),
            _ => Ok(()),
        }
    }

    /// Returns the schema revisions that can be run, oldest first: some of `previous`, `current`, `next` and
    /// `breaking`. A scenario that asks for another revision is refused. [`Host::revision`] returns the revision that a
    /// host is to run.
    fn revisions(&self) -> &[&str] {
        &["current"]
    }

    /// Returns the largest entry, the payloads and the segments that this log takes. In a scenario, a value beyond
    /// these is an error at its place in the file. By default everything that a file can express is allowed.
    fn sizes(&self) -> Sizes {
        Sizes::default()
    }

    /// Returns how many servers this log can run as one cluster.
    fn servers_max(&self) -> u32 {
        9
    }

    /// Returns what `gapless explore` may draw for this log: the sizes of the cluster, the words, and rules for what it
    /// may be asked to survive. By default this is one server, every fault that it [`can_suffer`](System::can_suffer),
    /// and the rules for any log.
    fn explored(&self) -> Explored {
        Explored::default()
    }

    /// Prepares a run. Called once, before any host starts, with the names of all servers and clients. Generate keys
    /// here.
    fn prepare(&mut self, _servers: &[Name], _clients: &[Name]) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns the C2SP verifier key of a log that signs checkpoints, so that checks can verify these independently.
    fn log_key(&self) -> Option<String> {
        None
    }

    /// Runs one server until `host.stop_requested()`. The future is dropped at a crash, and the method is called again
    /// with the same disk.
    fn serve(&self, host: Host) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Starts one workload client. Called again after each crash of that client, and once it has
    /// [`failed`](Client::failed). If the client cannot come up, this is tried again.
    fn client(&self, host: Host) -> impl Future<Output = Result<Self::Client, Failure>> + Send;

    /// Reads everything that `server` tells a reader, in the order of the log. Called during the run and after
    /// everything has healed.
    fn read_back(
        &self,
        auditor: Host,
        server: &Peer,
        found: &mut Findings,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Follows the log from its first entry through every interruption, and never returns. A log without such a reader
    /// keeps the default.
    fn follow(&self, _reader: Host, _found: Findings) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Asks every server again and again how new its data is, and never returns. Called during the run, beside
    /// [`follow`](System::follow). It reports what it learns to its observer. A log whose reads state no bounds keeps
    /// the default.
    fn ask_how_new(&self, _reader: Host) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Does what an operator does once a machine is lost for good: makes the log take in the machine that now stands
    /// under the name of `server`, the `machine`-th since the first, and let the previous one go. `Ok` means that the
    /// new machine counts and the old one is gone. Called on the auditor's host, and again after each failure; what
    /// earlier calls have done is then left as it is. [`Host::machine`] tells the new life of that server which machine
    /// it is.
    fn replace(
        &self,
        _operator: Host,
        _server: &Peer,
        _machine: u32,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err("this log does not say how a member is replaced".into()) }
    }
}

/// A client of the log under test.
pub trait Client: Send + Sync + 'static {
    /// Appends one entry, with the client's own retries and deadline.
    fn append(&self, entry: &Entry) -> impl Future<Output = Outcome> + Send;

    /// Resolves once this client cannot go on by itself, for example because its disk failed, and returns the reason.
    /// As under any supervisor, the client is then started again with the same disk, by [`System::client`] and after a
    /// second, until it comes up. Entries without an answer count as unknown. A client that goes on through everything
    /// keeps the default.
    fn failed(&self) -> impl Future<Output = Failure> + Send {
        std::future::pending()
    }

    /// Returns what the client still holds: entries to be delivered, and entries rejected for good. They are read from
    /// where they are stored, not from memory.
    fn held(&self) -> impl Future<Output = Result<Held, Failure>> + Send {
        async { Ok(Held::default()) }
    }
}

/// What a client holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries that are still to be delivered.
    pub outbox: Vec<Bytes>,
    /// Entries that were rejected for good and are kept.
    pub dead_letters: Vec<Bytes>,
}

/// One entry of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    id: EntryId,
    bytes: Bytes,
}

impl Entry {
    /// Creates an entry of `size` bytes, or of as many as its mark needs. Its id can be found in its bytes.
    pub fn new(id: EntryId, size: usize) -> Self {
        let mut bytes = id.mark().into_bytes();
        // The filler differs from entry to entry, so that a mixed-up tail is noticed.
        let mut filler = id.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ bytes.len() as u64;
        while bytes.len() < size {
            filler = filler.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push(b'a' + (filler >> 33) as u8 % 26);
        }
        Self { id, bytes: bytes.into() }
    }

    /// Returns the id of this entry.
    pub fn id(&self) -> &EntryId {
        &self.id
    }

    /// Returns the client that submits it.
    pub fn client(&self) -> &str {
        &self.id.client
    }

    /// Returns its bytes, which a reader has to find again unchanged.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
