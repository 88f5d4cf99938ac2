//! What a client is told before it starts: whom it speaks to, as whom, whom it believes, and how long it waits.
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

/// Entries that an outbox owes at most before `submit` waits.
pub const OUTBOX_ENTRIES_MAX: u64 = 10_000;

/// Bytes read from a journal at once.
pub(crate) const READ_BYTES_MAX: usize = 1024 * 1024;

/// How entries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One unary call per entry, 16 to 240 in flight, by the distance.
    Append,
    /// One bidirectional stream, 128 to 16,384 entries in flight, by the distance and as the memory allows.
    AppendStream,
}

/// How long a client waits. All on monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For connect and TLS handshake together, to a server of which nothing is known. One that was found to be far gets
    /// longer, and so does one that was not reached in this time, up to five seconds.
    pub connect: Duration,
    /// For the next answer while entries are in flight, for one call, and for a reader's call over all its attempts.
    pub call: Duration,
    /// Between HTTP/2 pings, also while nothing else is said.
    pub keepalive_interval: Duration,
    /// For the answer to a ping, from a server that is near; after it the connection counts as lost.
    pub keepalive_timeout: Duration,
    /// For the next leaf of a tail; after it the tail asks again, in case that the server forgot it.
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
    /// The usual ones for so many servers. With another one to turn to, a silent one is given up soon: a machine without
    /// power says nothing, and a new leader is there within two seconds.
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

    /// A stream on which nothing is owed is closed after two keepalives.
    pub fn stream_idle(&self) -> Duration {
        self.keepalive_interval * 2
    }
}

/// How failed calls are made again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySettings {
    /// The first wait is drawn from zero to this; each further one from twice the range.
    pub base: Duration,
    /// The range grows no further. Also the pace of a delivery that is parked.
    pub cap: Duration,
    /// Tokens of the retry budget. Each failure takes one; without any, waits are near the cap (cf. gRFC A6).
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
    /// Who appends; the name in the certificate.
    pub name: ClientId,
    /// The servers of the log, tried one after the other.
    pub servers: Vec<Server>,
    /// What this client shows, and whom it trusts.
    pub identity: Identity,
    /// The log's key, pinned.
    pub log_key: NoteKey,
    /// Whose cosignatures a receipt needs, pinned. A log of one has none.
    pub policy: Policy,
    /// How entries are sent.
    pub call: Call,
    /// The contract that it speaks.
    pub revision: Revision,
    /// Entries owed at most before `submit` waits; at least 1.
    pub outbox_entries_max: u64,
    /// A file of the outbox is closed past this many bytes, and removed once the log has all that it holds.
    pub segment_bytes: u64,
    /// Bytes for all that waits in memory: payloads on their way into the outbox, entries on their way to the log. May
    /// change at any time.
    pub memory: watch::Receiver<u64>,
    /// How long it waits.
    pub deadlines: Deadlines,
    /// How failed calls are made again.
    pub retry: RetrySettings,
}

impl ClientSettings {
    /// The usual bounds, over a stream.
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
    /// What this reader shows, and whom it trusts.
    pub identity: Identity,
    /// The log's key, pinned.
    pub log_key: NoteKey,
    /// Whose cosignatures a checkpoint needs, pinned. A log of one has none.
    pub policy: Policy,
    /// The contract that it speaks.
    pub revision: Revision,
    /// How long it waits.
    pub deadlines: Deadlines,
    /// How failed calls are made again.
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
