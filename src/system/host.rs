//! What a part of the log under test gets from the harness: its name, its peers, its disk, its network, its identity.

use std::{fmt, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use gapless_world::{World, tls::Identity};
use http::Uri;
use tokio::sync::watch;

use super::{Certificates, Connector, DataFolder, Incoming};
use crate::{
    fault::RevisionRole,
    history::{EntryId, Found, LeafBytes, Name, What},
    scenario::Call,
};

/// Another host, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    name: Name,
    port: u16,
}

impl Peer {
    /// Creates a peer that listens on `port`.
    pub fn new(name: Name, port: u16) -> Self {
        Self { name, port }
    }

    /// Returns its name, which is also the name in its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns `name:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }

    /// Returns `https://name:port`, for tonic's `Endpoint`. A log without TLS puts `http://` before the
    /// [`address`](Peer::address).
    pub fn uri(&self) -> Uri {
        let uri = Uri::builder().scheme("https").authority(self.address()).path_and_query("/");
        // Names of hosts such as `server-2` are always a valid authority.
        uri.build().unwrap_or_default()
    }
}

/// Changes the bytes of a reply before they are encrypted, and returns whether it did. This serves faults inside a
/// server.
pub type ReplyFilter = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// How the scenario wants certificates to be renewed: over the network, from a host that issues them.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Where the issuer listens. Its certificate has this name.
    pub issuer: Peer,
    /// The authority of the issuer's own certificate, in PEM. It signs for no other host, and is never rotated.
    pub issuer_ca_pem: String,
    /// How long before the end of the old certificate a new one is to be requested.
    pub before: Duration,
    /// Changes whenever the host is told to renew at once.
    pub now: watch::Receiver<u64>,
}

/// One host, as the software on it sees it.
#[derive(Clone)]
pub struct Host {
    pub(crate) name: Name,
    pub(crate) servers: Arc<[Peer]>,
    pub(crate) listen: String,
    pub(crate) world: World,
    pub(crate) disk: DataFolder,
    pub(crate) certificates: Arc<Certificates>,
    /// The issuer, its authority and the time before the end of a certificate, if there is an issuer.
    pub(crate) issuer: Option<(Peer, Arc<str>, Duration)>,
    pub(crate) call: Call,
    pub(crate) memory: watch::Sender<u64>,
    pub(crate) payload_max: Option<usize>,
    pub(crate) segment: Option<u64>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) record: Arc<dyn Fn(What) + Send + Sync>,
    pub(crate) reply_filter: Option<ReplyFilter>,
    pub(crate) revision: RevisionRole,
    pub(crate) machine: u32,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host {
    /// Returns its name, which is also the name in its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns all servers, in order.
    pub fn servers(&self) -> &[Peer] {
        &self.servers
    }

    /// Returns where a server listens: `address:port`.
    pub fn listen_address(&self) -> &str {
        &self.listen
    }

    /// Binds [`listen_address`](Host::listen_address). Returns a stream of connections without TLS, for tonic's
    /// `serve_with_incoming_shutdown`.
    ///
    /// # Errors
    /// `AddrInUse` if this life of the host already listens.
    pub fn listen(&self) -> io::Result<Incoming> {
        let bound = self.world.net.listen(&self.listen).now_or_never();
        let waits = || Err(io::Error::other("this network takes its time to bind: await `world().net.listen`"));
        bound.unwrap_or_else(waits).map(Incoming::new)
    }

    /// Returns a connector to other hosts, without TLS, for tonic's `connect_with_connector_lazy`.
    pub fn connector(&self) -> Connector {
        Connector(self.world.net.clone())
    }

    /// Returns its disk in the style of `std::fs`, for a synchronous store. The same disk with futures is in
    /// [`world`](Host::world).
    pub fn disk(&self) -> DataFolder {
        self.disk.clone()
    }

    /// Returns its disk, its network and its observer.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns the certificate that it presents and the issuers that it trusts, as installed now. Software that reads
    /// this only once presents the same certificate for ever.
    pub fn identity(&self) -> Identity {
        self.certificates.read(&*self.record)
    }

    /// Returns the same as [`identity`](Host::identity), as a value that changes whenever something else is installed.
    /// What it shows counts as picked up at once.
    pub fn identities(&self) -> watch::Receiver<Identity> {
        self.certificates.follow(&*self.record)
    }

    /// Installs an identity in place of the present one. Like certificate files that are written, it outlives the
    /// process.
    pub fn install(&self, identity: Identity) {
        self.certificates.install(identity, "installed by the host's own software", &*self.record);
    }

    /// Returns how certificates are renewed, if the scenario has an issuer. Software that calls this has to renew its
    /// certificates.
    pub fn renewal(&self) -> Option<Renewal> {
        let (issuer, issuer_ca_pem, before) = self.issuer.clone()?;
        let now = self.certificates.renewals();
        Some(Renewal { issuer, issuer_ca_pem: issuer_ca_pem.to_string(), before, now })
    }

    /// Returns how the scenario wants entries to be sent.
    pub fn call(&self) -> Call {
        self.call
    }

    /// Returns the bytes that its queues and caches may use together, as a value that may change. A program that keeps
    /// to this budget shrinks while it runs, and sheds what does not fit.
    pub fn memory_budget(&self) -> watch::Receiver<u64> {
        self.memory.subscribe()
    }

    /// Returns the largest payload that servers are to take in this scenario, in bytes, if it gives one. A larger
    /// payload is refused, and its client keeps it as a dead letter.
    pub fn payload_max(&self) -> Option<usize> {
        self.payload_max
    }

    /// Returns the size, in bytes, past which a log that keeps its entries in several files is to begin the next file
    /// in this scenario, if it gives one.
    pub fn segment(&self) -> Option<u64> {
        self.segment
    }

    /// Returns the schema revision that this life is to run, one of [`System::revisions`](super::System::revisions).
    pub fn revision(&self) -> &'static str {
        self.revision.word()
    }

    /// Returns which machine stands under this name: 0 for the first, and one more each time that it was lost for good
    /// and replaced by an empty machine. What the previous machine held is gone; see
    /// [`System::replace`](super::System::replace).
    pub fn machine(&self) -> u32 {
        self.machine
    }

    /// Returns a filter that changes replies before they are encrypted, for servers that support it.
    pub fn reply_filter(&self) -> Option<&ReplyFilter> {
        self.reply_filter.as_ref()
    }

    /// Resolves once the host is asked to stop.
    pub fn stop_requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            // A harness that is gone will never ask.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Notes that something rare happened, so that a scenario can wait for it or demand it.
    pub fn mark(&self, mark: &str) {
        (self.record)(What::Marked { mark: mark.to_owned() });
    }
}

/// Where a reader notes what it finds. At the crate root it is called [`Found`](crate::Found).
#[derive(Clone)]
pub struct Findings {
    pub(crate) record: Arc<dyn Fn(What) + Send + Sync>,
    /// The number of the reading; `None` while following.
    pub(crate) reading: Option<u32>,
}

impl Findings {
    /// Notes an entry at a position, as the log counts positions, with exactly the bytes that the reader got. Entries
    /// of the workload are recognised by their mark.
    pub fn entry(&mut self, position: u64, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.note(Found { position, entry: EntryId::find(&bytes), counts: true, numbered: None, bytes, leaf: None });
    }

    /// Notes an entry with everything that a numbered, Merkle-hashed log can say about it.
    pub fn note(&mut self, found: Found) {
        match self.reading {
            Some(reading) => (self.record)(What::Found { reading, found }),
            None => (self.record)(What::Followed { found }),
        }
    }

    /// Notes a checkpoint that the reader saw: the number of leaves and their root (RFC 6962).
    pub fn checkpoint(&mut self, size: u64, root: &[u8; 32]) {
        let root = root.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(reading) = self.reading {
            (self.record)(What::CheckpointRead { reading, size, root });
        }
    }

    /// Wraps a whole leaf, for [`Found::leaf`].
    pub fn leaf(bytes: Bytes) -> LeafBytes {
        LeafBytes(bytes)
    }
}
