//! The recorder: the one place where events and packets of a run are recorded, in order, and hashed.
//!
//! The hash covers every event and every packet, ciphertext included: two runs of one seed are the same run if, and
//! only if, their hashes agree.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gapless_world::{LogEvent, Observer};
use sha2::{Digest, Sha256};

use super::{
    canonical::{self, Sink},
    contents::Contents,
};
use crate::{
    history::{Event, Name, What},
    link::Tap,
    seam::{self, HostIndex},
};

/// The kind of what follows in the hashed bytes.
const EVENT: u8 = 0;
const PACKET: u8 = 1;

/// Records what happens. Clones record into the same history.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
    hosts: Arc<[Name]>,
}

struct Inner {
    events: Vec<Event>,
    contents: Contents,
    hash: Sink,
    packets: u64,
    /// How many of `events` the director has looked at.
    looked_at: usize,
    alarm: Option<Alarm>,
    /// Hosts that lost their power within this tick: what still runs on them is no longer part of the run.
    silent: Vec<Name>,
    trail: Option<Vec<String>>,
    /// Whether a history is kept. Otherwise events are dropped once the director has looked at them, and nothing is
    /// hashed: for measuring what recording costs.
    keep: bool,
}

/// Called at once with the name and the time of each event of the log under test, within the tick in which it happens:
/// for faults that must strike at that very instant.
pub(super) type Alarm = Box<dyn FnMut(&'static str, Duration) + Send>;

/// What a run left behind.
pub struct Recorded {
    /// All events, ordered by time; events of one instant are in the order in which they were recorded.
    pub events: Vec<Event>,
    /// BLAKE3 over events and packets, in hex.
    pub hash: String,
    /// The number of packets.
    pub packets: u64,
    /// One line per event and packet, if asked for.
    pub trail: Option<Vec<String>>,
}

impl Recorder {
    /// Makes a recorder. `hosts` are ordered by their index in the seam; index 0 is the harness. With `trail`, a line
    /// per event and packet is kept.
    pub fn new(hosts: Vec<Name>, trail: bool, keep: bool) -> Self {
        let inner = Inner {
            events: Vec::new(),
            contents: Contents::default(),
            hash: Sink::new(),
            packets: 0,
            looked_at: 0,
            alarm: None,
            silent: Vec::new(),
            trail: trail.then(Vec::new),
            keep,
        };
        Self { inner: Arc::new(Mutex::new(inner)), hosts: hosts.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of a host.
    pub fn name(&self, host: HostIndex) -> &Name {
        &self.hosts[host.min(self.hosts.len() - 1)]
    }

    /// Records what the speaking host does, at this time; nothing if that host is silent.
    pub fn record(&self, what: What) {
        let host = self.name(seam::speaking());
        self.record_of(host, what);
    }

    /// Records what `host` does, at this time, whichever host speaks; nothing if `host` is silent.
    pub fn record_of(&self, host: &Name, what: What) {
        let inner = self.lock();
        if !inner.silent.contains(host) {
            self.note(inner, seam::now(), host, what);
        }
    }

    /// Returns whether the speaking host has lost its power within this tick.
    pub fn is_silent(&self) -> bool {
        let inner = self.lock();
        !inner.silent.is_empty() && inner.silent.contains(self.name(seam::speaking()))
    }

    /// Silences a host that lost its power: what its software still does in this tick is not recorded.
    pub fn silence(&self, host: &Name) {
        self.lock().silent.push(host.clone());
    }

    /// Ends the silence of a host whose software is gone, or starts anew.
    pub fn unsilence(&self, host: &Name) {
        self.lock().silent.retain(|silent| silent != host);
    }

    /// Records what `host` does, at a given time.
    pub fn record_at(&self, at: Duration, host: &Name, what: What) {
        self.note(self.lock(), at, host, what);
    }

    fn note(&self, mut inner: MutexGuard<'_, Inner>, at: Duration, host: &Name, what: What) {
        let mut event = Event { at, host: host.clone(), what };
        if inner.keep {
            inner.absorb(&event);
            inner.contents.keep(&mut event.what);
        }
        let log = if let What::Log { event } = &event.what { Some(event.name()) } else { None };
        inner.events.push(event);
        let Some((name, mut alarm)) = log.and_then(|name| Some((name, inner.alarm.take()?))) else { return };
        drop(inner); // what the alarm sets off is itself recorded
        alarm(name, at);
        self.lock().alarm.get_or_insert(alarm);
    }

    /// Sets the alarm that is called at once for each event of the log under test.
    pub fn set_alarm(&self, alarm: Option<Alarm>) {
        self.lock().alarm = alarm;
    }

    /// Shows the events since the last call. `look` must not record.
    pub fn look_at_fresh(&self, look: impl FnMut(&Event)) {
        let mut inner = self.lock();
        let from = std::mem::take(&mut inner.looked_at);
        inner.events[from..].iter().for_each(look);
        if inner.keep {
            // Hosts that take turns within a tick record out of order. Sorting a few events is faster than sorting all.
            inner.events[from..].sort_by_key(|event| event.at);
            inner.looked_at = inner.events.len();
        } else {
            inner.events.clear();
        }
    }

    /// Ends the recording.
    pub fn finish(&self) -> Recorded {
        let mut inner = self.lock();
        inner.looked_at = 0;
        let mut events = std::mem::take(&mut inner.events);
        events.sort_by_key(|event| event.at);
        let hash = inner.hash.hash();
        Recorded { events, hash, packets: inner.packets, trail: inner.trail.take() }
    }

    /// Returns an observer for the software on a host, which records its events as that host's.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }
}

impl Inner {
    fn absorb(&mut self, event: &Event) {
        self.hash.push(EVENT);
        if let Err(refused) = canonical::write(event, &mut self.hash) {
            // No event of a history is refused; if one ever were, the reason would still distinguish two runs.
            self.hash.extend_from_slice(refused.to_string().as_bytes());
        }
        if let Some(trail) = &mut self.trail {
            trail.push(serde_json::to_string(event).unwrap_or_else(|error| error.to_string()));
        }
    }

    fn absorb_packet(&mut self, at: Duration, from: &Name, to: &Name, bytes: &[u8]) {
        self.packets += 1;
        self.hash.push(PACKET);
        self.hash.extend_from_slice(&at.as_nanos().to_le_bytes());
        for part in [from.as_bytes(), to.as_bytes(), bytes] {
            self.hash.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.hash.extend_from_slice(part);
        }
        if let Some(trail) = &mut self.trail {
            let digest = hex(&Sha256::digest(bytes)[..8]);
            trail.push(format!("packet at {at:?} from {from} to {to}: {} bytes, sha256 {digest}…", bytes.len()));
        }
    }
}

impl Observer for Recorder {
    fn see(&self, event: LogEvent) {
        self.record(What::Log { event });
    }
}

impl Tap for Recorder {
    fn passed(&self, from: &Name, to: &Name, bytes: &[u8]) {
        let at = seam::now();
        let mut inner = self.lock();
        if !inner.keep {
            return;
        }
        inner.absorb_packet(at, from, to, bytes);
    }
}

/// Encodes bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
