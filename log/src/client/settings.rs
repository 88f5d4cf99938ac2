//! The settings of a client: which servers it talks to and which identity it presents, what it trusts, and how long it
//! waits.
//!
//! The log's key is pinned here and never learned from a server: a client that asks the log whom to trust proves
//! nothing.

use std::time::Duration;

use gapless_world::{Server, tls::Identity};
use tokio::sync::watch;

use crate::{
    budget::{MEMORY_DEFAULT, fixed},
    leaf::ClientId,
    note::{NoteKey, Policy},
    schema::Revision,
    store::JournalOptions,
};

/// The most entries that an outbox owes before `submit` waits.
pub const OUTBOX_ENTRIES_MAX: u64 = 10_000;

/// Bytes read from a journal at once.
pub(crate) const READ_BYTES_MAX: usize = 1024 * 1024;

/// How entries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One unary call per entry, 16 to 240 in flight, depending on the distance; fewer while servers turn it away.
    Append,
    /// One bidirectional stream, 128 to 16,384 entries in flight, depending on the distance and on the memory;
    /// fewer while servers turn it away.
    AppendStream,
}

/// How long a client waits. All times are monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For connecting, TLS handshake included, to a server about which nothing is known. A server that was found to be
    /// far gets longer, and so does one that was not reached in this time, up to five seconds.
    pub connect: Duration,
    /// For the next answer while entries are in flight, for one call, and for a reader's call over all its attempts.
    pub call: Duration,
    /// Between HTTP/2 pings, which are also sent on an idle connection.
    pub keepalive_interval: Duration,
    /// For the answer to a ping from a near server. After this time the connection counts as lost.
    pub keepalive_timeout: Duration,
    /// For the next leaf of a tail. After this time the tail asks again, in case the server has forgotten it.
    pub tail_idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            tail_idle: Duration::from_secs(60),
        }
    }
}

impl Deadlines {
    /// The usual deadlines for this number of servers. If there is another server to turn to, a silent one is given up
    /// soon: a machine without power says nothing, and a new leader is there within two seconds.
    pub fn among(servers: usize) -> Deadlines {
        let usual = Deadlines::default();
        match servers {
            0 | 1 => usual,
            _ => Deadlines {
                connect: Duration::from_secs(1),
                keepalive_interval: Duration::from_secs(1),
                keepalive_timeout: Duration::from_secs(1),
                ..usual
            },
        }
    }

    /// Returns how long a stream stays open while nothing is owed on it: two keepalive intervals.
    pub fn stream_idle(&self) -> Duration {
        self.keepalive_interval * 2
    }
}

/// How failed calls are retried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySettings {
    /// The first wait is drawn between zero and this; each further one is drawn from twice the previous range.
    pub base: Duration,
    /// The range grows no further than this. Also the interval at which a parked delivery tries again.
    pub cap: Duration,
    /// Tokens of the retry budget. Each failure takes one; when none is left, waits are near the cap (cf. gRFC A6).
    pub budget_tokens: u32,
    /// Tokens that each success gives back.
    pub budget_ratio: f64,
}

impl Default for RetrySettings {
    fn default() -> RetrySettings {
        RetrySettings {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            budget_tokens: 10,
            budget_ratio: 0.1,
        }
    }
}

/// What an [`AuditClient`](super::AuditClient) needs.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The name of the client that appends, as in its certificate.
    pub name: ClientId,
    /// The servers of the log, tried one after the other.
    pub servers: Vec<Server>,
    /// The certificate that this client presents, and the authority that it trusts.
    pub identity: Identity,
    /// The log's key, pinned.
    pub log_key: NoteKey,
    /// The policy of cosignatures that a receipt has to satisfy, pinned. A log of one server has no cosignatures.
    pub policy: Policy,
    /// How entries are sent.
    pub call: Call,
    /// The revision of the contract that is spoken.
    pub revision: Revision,
    /// The most entries owed before `submit` waits; at least 1.
    pub outbox_entries_max: u64,
    /// A file of the outbox is closed once it exceeds this many bytes, and removed once the log has everything in it.
    pub segment_bytes: u64,
    /// Bytes for everything that waits in memory: payloads on their way into the outbox and entries on their way to the
    /// log. The value may change at any time.
    pub memory: watch::Receiver<u64>,
    /// How long to wait.
    pub deadlines: Deadlines,
    /// How failed calls are retried.
    pub retry: RetrySettings,
}

impl ClientSettings {
    /// The usual settings, with delivery over a stream.
    pub fn new(name: ClientId, servers: Vec<Server>, identity: Identity, log_key: NoteKey) -> ClientSettings {
        let deadlines = Deadlines::among(servers.len());
        ClientSettings {
            name,
            servers,
            identity,
            log_key,
            policy: Policy::default(),
            call: Call::AppendStream,
            revision: Revision::default(),
            outbox_entries_max: OUTBOX_ENTRIES_MAX,
            segment_bytes: JournalOptions::default().segment_bytes,
            memory: fixed(MEMORY_DEFAULT),
            deadlines,
            retry: RetrySettings::default(),
        }
    }
}

/// What a [`LogReader`](super::LogReader) and a [`Tail`](super::Tail) need.
#[derive(Debug, Clone)]
pub struct ReaderSettings {
    /// The servers of the log, tried one after the other.
    pub servers: Vec<Server>,
    /// The certificate that this reader presents, and the authority that it trusts.
    pub identity: Identity,
    /// The log's key, pinned.
    pub log_key: NoteKey,
    /// The policy of cosignatures that a checkpoint has to satisfy, pinned. A log of one server has no cosignatures.
    pub policy: Policy,
    /// The revision of the contract that is spoken.
    pub revision: Revision,
    /// How long to wait.
    pub deadlines: Deadlines,
    /// How failed calls are retried.
    pub retry: RetrySettings,
}

impl From<&ClientSettings> for ReaderSettings {
    fn from(client: &ClientSettings) -> ReaderSettings {
        ReaderSettings {
            servers: client.servers.clone(),
            identity: client.identity.clone(),
            log_key: client.log_key.clone(),
            policy: client.policy.clone(),
            revision: client.revision,
            deadlines: client.deadlines,
            retry: client.retry,
        }
    }
}
