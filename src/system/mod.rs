//! What a log must offer to be tested: how to start its parts, how to append, how to read back, and what it promises.
//!
//! [`AuditLog`] is the log of this repository, offered in the same way as anybody else's.

#[cfg(any(test, feature = "audit-log"))]
mod audit_log;
mod certificates;
mod explored;
mod folder;
mod host;
mod network;
mod promises;

use std::{borrow::Cow, future::Future};

use bytes::Bytes;

pub use crate::{
    history::{EntryId, Name, Outcome, Promise, Promises},
    scenario::Sizes,
};
#[cfg(any(test, feature = "audit-log"))]
pub use audit_log::AuditLog;
pub(crate) use certificates::Certificates;
pub use explored::{Explored, Rule};
pub use folder::{DataFolder, File};
pub(crate) use folder::{DiskAtOnce, FileAtOnce, without_power};
pub use host::{Findings, Host, Peer, Renewal, ReplyFilter};
pub use network::{Caller, Connection, Connector, Incoming};

/// Anything that went wrong in a system under test, with its causes. Every `std::error::Error`, and every text, becomes
/// one by `?` or `into()`.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The log under test: how to start its parts and what it promises. One value serves a whole run.
pub trait System: Send + Sync + 'static {
    /// Its client.
    type Client: Client;

    /// What a run may hold this log to. Nothing else is judged, and every verdict names what was left out.
    fn promises(&self) -> Promises;

    /// Whether a fault of the catalogue can be performed on this log; the reason where it cannot.
    fn can_suffer(&self, fault: &str) -> Result<(), Cow<'static, str>> {
        match fault {
            "bit-flip" => Err("replies are flipped inside the server, which only gapless's own log offers".into()),
            "replace" => Err("nobody told how this log takes a machine in and lets one go: implement \
                              `System::replace`, and say here that it can"
                .into()),
            _ => Ok(()),
        }
    }

    /// Schema revisions that can be run, oldest first: some of `previous`, `current`, `next` and `breaking`. A scenario
    /// that asks for another one is refused. [`Host::revision`] says which one a host is to run.
    fn revisions(&self) -> &[&str] {
        &["current"]
    }

    /// The largest entry, the payloads and the segments that this log takes. A scenario that asks for others is refused where
    /// it does. By default whatever a file can say.
    fn sizes(&self) -> Sizes {
        Sizes::default()
    }

    /// How many servers this log can run as one cluster.
    fn servers_max(&self) -> u32 {
        9
    }

    /// What `gapless explore` may draw for this log: how large a cluster, which words, and rules of what it may be asked to
    /// survive. By default one server, every fault that it [`can_suffer`](System::can_suffer), and the rules for any log.
    fn explored(&self) -> Explored {
        Explored::default()
    }

    /// Prepares a run: called once, before any host starts, with everybody's names. Draw keys here.
    fn prepare(&mut self, _servers: &[Name], _clients: &[Name]) -> Result<(), Failure> {
        Ok(())
    }

    /// The C2SP verifier key of a log that signs checkpoints, so that checks can verify them by themselves.
    fn log_key(&self) -> Option<String> {
        None
    }

    /// Runs one server until `host.stop_requested()`. Dropped at a crash, called again over the same disk.
    fn serve(&self, host: Host) -> impl Future<Output = Result<(), Failure>> + Send;

    /// One workload client; called again after each crash of that client, and once it has [`failed`](Client::failed). Where
    /// it cannot come up it is tried again.
    fn client(&self, host: Host) -> impl Future<Output = Result<Self::Client, Failure>> + Send;

    /// Everything that `server` would tell a reader, in its order. Called during the run and after everything has healed.
    fn read_back(
        &self,
        auditor: Host,
        server: &Peer,
        found: &mut Findings,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Follows the log from its first entry, through every interruption, and never returns. A log without such a reader
    /// keeps the default.
    fn follow(&self, _reader: Host, _found: Findings) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Asks every server, again and again, how new what it shows is, and never returns. Called during the run, beside
    /// [`follow`](System::follow); what it learns it tells its observer. A log whose reads state no bounds keeps the
    /// default.
    fn ask_how_new(&self, _reader: Host) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// What an operator does once a machine is lost for good: has the log take in the one that stands under the name of
    /// `server` now, the `machine`-th since the first, and let go of the one before. `Ok` says that the new one counts and
    /// the old one is gone. Called on the auditor's host, again after each failure; what was done before is then left as
    /// it is. [`Host::machine`] tells the new life of that server which it is.
    fn replace(
        &self,
        _operator: Host,
        _server: &Peer,
        _machine: u32,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err("this log does not say how a member is replaced".into()) }
    }

    /// Who leads, if anybody. Without it, scenarios that say `leader` are unsupported, not guessed.
    fn leader(&self, _auditor: Host) -> impl Future<Output = Option<Peer>> + Send {
        async { None }
    }
}

/// A client of the log under test.
pub trait Client: Send + Sync + 'static {
    /// One append, with the client's own retries and deadline.
    fn append(&self, entry: &Entry) -> impl Future<Output = Outcome> + Send;

    /// Resolves once this client cannot go on by itself, with the reason: its disk failed, say. It is then started again as
    /// any supervisor would, by [`System::client`] over the same disk and after a second, until it comes up; entries
    /// that had no answer count as unknown. A client that goes on through everything keeps the default.
    fn failed(&self) -> impl Future<Output = Failure> + Send {
        std::future::pending()
    }

    /// What the client still holds: entries to be delivered, and entries rejected for good. Read from where they are
    /// kept, not from memory.
    fn held(&self) -> impl Future<Output = Result<Held, Failure>> + Send {
        async { Ok(Held::default()) }
    }
}

/// What a client holds at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Still to be delivered.
    pub outbox: Vec<Bytes>,
    /// Rejected for good and kept.
    pub dead_letters: Vec<Bytes>,
}

/// One entry of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    id: EntryId,
    bytes: Bytes,
}

impl Entry {
    /// An entry of `size` bytes, or as many as its mark needs. Its id can be found in its bytes.
    pub fn new(id: EntryId, size: usize) -> Self {
        let mut bytes = id.mark().into_bytes();
        // Filler that differs from entry to entry, so that a mixed-up tail is noticed.
        let mut filler = id.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ bytes.len() as u64;
        while bytes.len() < size {
            filler = filler.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push(b'a' + (filler >> 33) as u8 % 26);
        }
        Self { id, bytes: bytes.into() }
    }

    /// Which entry this is.
    pub fn id(&self) -> &EntryId {
        &self.id
    }

    /// The client that submits it.
    pub fn client(&self) -> &str {
        &self.id.client
    }

    /// Its bytes, to be found again unchanged.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
