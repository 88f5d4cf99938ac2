//! What a part of the log under test gets from the harness: its name, its peers, its disk, its network, its identity.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    audit::tls::Identity,
    history::{EntryId, Found, LeafBytes, Name, What},
    scenario::Call,
    world::World,
};

/// Another host, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    name: Name,
    port: u16,
}

impl Peer {
    /// A host that listens on `port`.
    pub fn new(name: Name, port: u16) -> Self {
        Self { name, port }
    }

    /// Its name, which is also the name in its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `name:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }
}

/// Changes a reply's bytes before they are encrypted; answers whether it did. For faults inside a server.
pub type ReplyFilter = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// One host, as the software on it sees it.
#[derive(Clone)]
pub struct Host {
    pub(crate) name: Name,
    pub(crate) servers: Arc<[Peer]>,
    pub(crate) listen: String,
    pub(crate) world: World,
    pub(crate) identity: Identity,
    pub(crate) call: Call,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) record: Arc<dyn Fn(What) + Send + Sync>,
    pub(crate) reply_filter: Option<ReplyFilter>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host {
    /// Its name, and the name in its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All servers, in order.
    pub fn servers(&self) -> &[Peer] {
        &self.servers
    }

    /// Where a server listens: `address:port`.
    pub fn listen_address(&self) -> &str {
        &self.listen
    }

    /// Its disk, its network and its observer.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The certificate that it shows and the issuers that it trusts.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How the scenario wants entries to be sent.
    pub fn call(&self) -> Call {
        self.call
    }

    /// For servers that offer it: changes replies before they are encrypted.
    pub fn reply_filter(&self) -> Option<&ReplyFilter> {
        self.reply_filter.as_ref()
    }

    /// Resolves once the host is asked to stop.
    pub fn stop_requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            // A harness that is gone will not ask any more.
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

/// Where a reader notes what it finds.
#[derive(Clone)]
pub struct Findings {
    pub(crate) record: Arc<dyn Fn(What) + Send + Sync>,
    /// Which reading; `None` while following.
    pub(crate) reading: Option<u32>,
}

impl Findings {
    /// An entry at a position, as the log counts, with exactly the bytes that the reader got. Entries of the workload
    /// are recognised by their mark.
    pub fn entry(&mut self, position: u64, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.note(Found { position, entry: EntryId::find(&bytes), counts: true, numbered: None, bytes, leaf: None });
    }

    /// The same, with all that a numbered, Merkle-hashed log can say.
    pub fn note(&mut self, found: Found) {
        match self.reading {
            Some(reading) => (self.record)(What::Found { reading, found }),
            None => (self.record)(What::Followed { found }),
        }
    }

    /// A checkpoint that the reader saw: the number of leaves and their root (RFC 6962).
    pub fn checkpoint(&mut self, size: u64, root: &[u8; 32]) {
        let root = root.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(reading) = self.reading {
            (self.record)(What::CheckpointRead { reading, size, root });
        }
    }

    /// A whole leaf, for [`Found::leaf`].
    pub fn leaf(bytes: Bytes) -> LeafBytes {
        LeafBytes(bytes)
    }
}
