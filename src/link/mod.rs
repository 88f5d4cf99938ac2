//! Faults on a connection, as a stream adapter. A link behaves like a middlebox between two hosts, both in the
//! simulator and in the proxy of a drill:
//!
//! * a **stall** (partition) lets nothing pass, not even FIN and RST, and everything flows once it is lifted;
//! * a **blackhole** swallows bytes; a connection that lost bytes is dead from then on, and its ends are not told;
//! * **refuse** answers new connections with an RST and leaves the open ones alone;
//! * a **delay** holds each chunk for a time and keeps the order;
//! * a **throttle** limits the bytes a second that the receiving end takes, which holds the sender back;
//! * a **reset** ends open connections with an RST at both ends.
//!
//! An attempt to connect always succeeds, as it does against a middlebox; only `refuse` stops it. The adapter works on
//! what an end *receives*, so each direction can be treated alone. Every fault counts what it did, which is its
//! evidence.

mod stream;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Waker,
    time::Duration,
};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::history::Name;
pub use stream::LinkStream;

/// Identifies a fault: the index of its step.
pub type FaultId = usize;

/// What a fault does to one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// Nothing passes until the fault is lifted; then everything does.
    Stall,
    /// What is sent is lost.
    Blackhole,
    /// New connections are refused.
    Refuse,
    /// Each chunk arrives later by `delay` and by up to `jitter` more.
    Delay {
        /// The smallest delay.
        delay: Duration,
        /// The largest addition to it.
        jitter: Duration,
    },
    /// The receiving end takes no more than `bytes` a second.
    Throttle {
        /// Bytes a second for each connection.
        bytes: u64,
    },
}

/// What a fault has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkEvidence {
    /// Bytes (and ends of streams, as one byte each) that had to wait for the link.
    pub stalled: u64,
    /// Bytes that were swallowed.
    pub swallowed: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Bytes that arrived late.
    pub delayed: u64,
    /// Bytes that had to wait for a slow reader.
    pub throttled: u64,
}

impl LinkEvidence {
    /// Returns whether there is any evidence.
    pub fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

impl fmt::Display for LinkEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.stalled, "bytes stalled"),
            (self.swallowed, "bytes swallowed"),
            (self.refused, "connections refused"),
            (self.reset, "connections reset"),
            (self.delayed, "bytes delayed"),
            (self.throttled, "bytes waited for the reader"),
        ];
        let said: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(&said.join(", "))
    }
}

/// Observes every byte that an end receives, in order. These are the packets of a run, for its hash.
pub trait Tap: Send + Sync {
    /// Called when `bytes` from `from` arrived at `to`.
    fn passed(&self, from: &Name, to: &Name, bytes: &[u8]);
}

/// All links between named hosts.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Mutex<Inner>>,
    tap: Arc<dyn Tap>,
}

struct Inner {
    /// The faults of each direction. A direction without faults has no entry.
    directions: BTreeMap<(Name, Name), Vec<(FaultId, LinkFault)>>,
    evidence: BTreeMap<FaultId, LinkEvidence>,
    connections: BTreeMap<ConnectionKey, Weak<Connection>>,
    /// Hosts without power: nothing comes from them, not even an RST.
    dark: Vec<Name>,
    jitter: ChaCha8Rng,
    /// `connections` is pruned when it has grown to this size.
    prune_at: usize,
}

/// Identifies a connection by its two addresses, that of the connecting end first.
pub type ConnectionKey = (String, String);

/// The state that both ends of a connection share.
pub(crate) struct Connection {
    ends: (Name, Name),
    fate: Mutex<Fate>,
}

#[derive(Default)]
struct Fate {
    state: State,
    wakers: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Alive,
    /// Bytes were lost: nothing will ever arrive again, and no end is told.
    Dead,
    /// One end lost its power. Its peer hears nothing until that host is back.
    Orphaned,
    /// That host is back, and answers the old connection with an RST.
    Disowned,
    /// Both ends get an RST.
    Reset,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, to: State) {
        let mut fate = self.lock();
        fate.state = to;
        fate.wakers.drain(..).for_each(Waker::wake);
    }

    fn wake(&self) {
        self.lock().wakers.drain(..).for_each(Waker::wake);
    }
}

impl Links {
    /// Creates links without any fault. `jitter` is the source of the jitter of delays.
    pub fn new(jitter: ChaCha8Rng, tap: Arc<dyn Tap>) -> Self {
        let inner = Inner {
            directions: BTreeMap::new(),
            evidence: BTreeMap::new(),
            connections: BTreeMap::new(),
            dark: Vec::new(),
            jitter,
            prune_at: 64,
        };
        Self { inner: Arc::new(Mutex::new(inner)), tap }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a fault to what `from` sends to `to`. Faults add up; each is lifted alone.
    pub fn apply(&self, id: FaultId, from: &Name, to: &Name, fault: LinkFault) {
        let mut inner = self.lock();
        inner.directions.entry((from.clone(), to.clone())).or_default().push((id, fault));
        inner.wake_between(from, to);
    }

    /// Lifts everything that `id` applied.
    pub fn lift(&self, id: FaultId) {
        let mut inner = self.lock();
        for faults in inner.directions.values_mut() {
            faults.retain(|(of, _)| *of != id);
        }
        inner.directions.retain(|_, faults| !faults.is_empty());
        for connection in inner.live() {
            connection.wake();
        }
    }

    /// Resets the open connections between `a` and `b`, and returns their number.
    pub fn reset(&self, id: FaultId, a: &Name, b: &Name) -> u64 {
        let mut inner = self.lock();
        let mut count = 0;
        for connection in inner.live() {
            let between = connection.ends == (a.clone(), b.clone()) || connection.ends == (b.clone(), a.clone());
            if between && connection.lock().state == State::Alive {
                connection.change(State::Reset);
                count += 1;
            }
        }
        inner.evidence.entry(id).or_default().reset += count;
        count
    }

    /// Cuts every connection of a host without telling its peers, because its power is gone.
    pub fn darken(&self, host: &Name) {
        let mut inner = self.lock();
        inner.dark.push(host.clone());
        for connection in inner.live() {
            if connection.ends.0 == *host || connection.ends.1 == *host {
                connection.change(State::Orphaned);
            }
        }
    }

    /// Notes that the host is back. Its kernel knows nothing of the old connections.
    pub fn lighten(&self, host: &Name) {
        let mut inner = self.lock();
        inner.dark.retain(|dark| dark != host);
        for connection in inner.live() {
            let of_host = connection.ends.0 == *host || connection.ends.1 == *host;
            if of_host && connection.lock().state == State::Orphaned {
                connection.change(State::Disowned);
            }
        }
    }

    /// Returns whether the host is without power.
    pub fn is_dark(&self, host: &Name) -> bool {
        self.lock().dark.contains(host)
    }

    /// Returns what a fault has done so far.
    pub fn evidence(&self, id: FaultId) -> LinkEvidence {
        self.lock().evidence.get(&id).copied().unwrap_or_default()
    }

    /// Checks whether `from` may connect to `to`.
    ///
    /// # Errors
    /// `ConnectionRefused` while a fault refuses connections in that direction.
    pub fn may_connect(&self, from: &Name, to: &Name) -> io::Result<()> {
        let mut inner = self.lock();
        let refusing: Vec<FaultId> =
            inner.faults(from, to).iter().filter(|(_, fault)| *fault == LinkFault::Refuse).map(|(id, _)| *id).collect();
        for id in &refusing {
            inner.evidence.entry(*id).or_default().refused += 1;
        }
        if refusing.is_empty() { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    /// Wraps one end of a connection. `key` must be the same at both ends.
    pub fn adopt<S>(&self, key: ConnectionKey, me: &Name, peer: &Name, stream: S) -> LinkStream<S> {
        let mut inner = self.lock();
        let known = inner.connections.get(&key).and_then(Weak::upgrade);
        let connection = known.unwrap_or_else(|| {
            let fresh = Arc::new(Connection { ends: (me.clone(), peer.clone()), fate: Mutex::default() });
            inner.connections.insert(key, Arc::downgrade(&fresh));
            fresh
        });
        if inner.connections.len() >= inner.prune_at {
            inner.connections.retain(|_, connection| connection.strong_count() > 0);
            inner.prune_at = inner.connections.len() * 2 + 64;
        }
        LinkStream::new(self.clone(), connection, me.clone(), peer.clone(), stream)
    }
}

impl Inner {
    fn faults(&self, from: &Name, to: &Name) -> &[(FaultId, LinkFault)] {
        if self.directions.is_empty() {
            return &[]; // the usual case, without making a key
        }
        self.directions.get(&(from.clone(), to.clone())).map_or(&[], Vec::as_slice)
    }

    fn live(&mut self) -> Vec<Arc<Connection>> {
        self.connections.values().filter_map(Weak::upgrade).collect()
    }

    fn wake_between(&mut self, a: &Name, b: &Name) {
        for connection in self.live() {
            let (x, y) = &connection.ends;
            if (x, y) == (a, b) || (x, y) == (b, a) {
                connection.wake();
            }
        }
    }

    /// Returns the delay of one chunk, and the faults that cause it.
    fn delay(&mut self, from: &Name, to: &Name) -> (Duration, Vec<FaultId>) {
        let delays: Vec<(FaultId, Duration, Duration)> = self
            .faults(from, to)
            .iter()
            .filter_map(|(id, fault)| match fault {
                LinkFault::Delay { delay, jitter } => Some((*id, *delay, *jitter)),
                _ => None,
            })
            .collect();
        let mut total = Duration::ZERO;
        for (_, delay, jitter) in &delays {
            total += *delay + jitter.mul_f64(self.jitter.random::<f64>());
        }
        (total, delays.into_iter().map(|(id, ..)| id).collect())
    }
}

#[cfg(test)]
mod tests;
