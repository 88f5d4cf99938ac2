//! The workload on a client host: entries offered at their times, whether or not the log keeps up.
//!
//! What has been offered outlives the client's process: numbers go on after a crash, and appends that a dead client had
//! under way come back as unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{recorder::Recorder, told};
use crate::{
    history::{EntryId, Name, Outcome, What},
    scenario::Scenario,
    seam,
    system::{AnyClient, Entry, Failure},
};

/// What all clients have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Offer one entry each, again until it is acknowledged: that is t = 0.
    WarmUp,
    /// Offer entries at their times, counted from this moment.
    Offer {
        /// t = 0.
        since: Duration,
    },
    /// Offer nothing new.
    Rest,
    /// Everything has healed: offer one more entry each, to show that the log takes it, and deliver what is owed.
    Settle,
    /// Report what is still held.
    Report,
}

/// How often a settling client looks at what it still holds.
const HELD_EVERY: Duration = Duration::from_millis(500);

/// How long a client waits before it tries again to come up.
const START_AGAIN: Duration = Duration::from_millis(500);

/// The load that all clients together offer, according to the scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfferedLoad {
    /// The time from one entry to the next, over all clients.
    interval: Duration,
    size: usize,
    /// Every n-th entry of each client has this many bytes instead: (n, bytes).
    oversize: Option<(u64, usize)>,
}

impl OfferedLoad {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let len = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let workload = &scenario.workload;
        let too_large = scenario.cluster.payload_max.map(|most| len(most + most / 2));
        Self {
            interval: workload.appends.interval(),
            size: len(workload.size),
            oversize: workload.oversize_every.zip(too_large),
        }
    }
}

/// The entries that steps make all clients offer on top of the workload. Clones share their state.
#[derive(Debug, Clone)]
pub(super) struct Surges {
    active: watch::Sender<BTreeMap<usize, Surge>>,
    offered: Arc<Mutex<BTreeMap<usize, u64>>>,
}

/// One surge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Surge {
    since: Duration,
    /// The time from one entry to the next, over all clients.
    interval: Duration,
}

impl Default for Surges {
    fn default() -> Self {
        Self { active: watch::Sender::new(BTreeMap::new()), offered: Arc::default() }
    }
}

impl Surges {
    /// Makes all clients together offer one more entry every `interval`, from `since` on.
    pub(super) fn begin(&self, step: usize, since: Duration, interval: Duration) {
        self.active.send_modify(|active| _ = active.insert(step, Surge { since, interval }));
    }

    /// Ends the surge of a step.
    pub(super) fn end(&self, step: usize) {
        self.active.send_modify(|active| _ = active.remove(&step));
    }

    /// Returns how many entries were offered for a step.
    pub(super) fn offered(&self, step: usize) -> u64 {
        self.lock().get(&step).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, u64>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workload of one client, over all its lives.
#[derive(Clone)]
pub(super) struct ClientWorkload {
    client: Name,
    /// The time from one entry to the next, and how long after t = 0 the first one comes.
    every: Duration,
    offset: Duration,
    /// The number of this client, and the number of clients.
    share: (u32, u32),
    size: usize,
    oversize: Option<(u64, usize)>,
    recorder: Recorder,
    phase: watch::Receiver<Phase>,
    surges: Surges,
    /// Whether the host stands still, and its application with it.
    still: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The turn at which an entry was last offered.
    turn: Option<u128>,
    /// The turns of each surge that are over.
    surged: BTreeMap<usize, u128>,
    /// Whether it was down or stood still: turns of surges that passed meanwhile are not made up for.
    missed: bool,
    outstanding: BTreeSet<u64>,
    acknowledged: u64,
    /// The entry that shows that the log has recovered; `None` before it is offered, and after its client gave it up.
    probe: Option<u64>,
    /// The entries in the outbox by the client's last count; `None` before the first count.
    held: Option<usize>,
    reported: bool,
}

impl ClientWorkload {
    /// Makes the workload of `client`, the `n`-th of `clients`, which share the load.
    pub(super) fn new(
        client: Name,
        (n, clients): (u32, u32),
        OfferedLoad { interval, size, oversize }: OfferedLoad,
        recorder: Recorder,
        (phase, surges): (watch::Receiver<Phase>, Surges),
        still: Arc<AtomicBool>,
    ) -> Self {
        Self {
            client,
            every: interval * clients,
            offset: interval * n,
            share: (n, clients),
            size,
            oversize,
            recorder,
            phase,
            surges,
            still,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the client.
    pub(super) fn client(&self) -> &Name {
        &self.client
    }

    /// Returns whether at least one append was acknowledged.
    pub(super) fn is_warm(&self) -> bool {
        self.lock().acknowledged > 0
    }

    /// Returns whether nothing is under way and nothing is owed.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.probe.is_some() && state.outstanding.is_empty() && state.held == Some(0)
    }

    /// Returns whether the client has said what it holds.
    pub(super) fn has_reported(&self) -> bool {
        self.lock().reported
    }

    /// Handles the death of the client: appends under way will get no answer.
    pub(super) fn died(&self, at: Duration) {
        let outstanding = {
            let mut state = self.lock();
            state.held = None;
            state.probe = None;
            std::mem::take(&mut state.outstanding)
        };
        for number in outstanding {
            mark!("client-died-with-calls");
            let entry = EntryId { client: self.client.clone(), number };
            let outcome = Outcome::Unknown { why: "the client died".to_owned() };
            self.recorder.record_at(at, &self.client, What::Returned { entry, outcome });
        }
    }

    /// Runs one life of the client. It ends with the life, or if the client reports that it cannot go on.
    pub(super) async fn run(&self, start: impl AsyncFn() -> Result<Arc<dyn AnyClient>, Failure>) {
        let client = loop {
            match start().await {
                Ok(client) => break client,
                Err(error) => {
                    self.recorder.record(What::Failed { error: told(&*error) });
                    tokio::time::sleep(START_AGAIN).await;
                }
            }
        };
        let mut phase = self.phase.clone();
        let mut surges = self.surges.active.subscribe();
        self.lock().missed = true;
        loop {
            let now = *phase.borrow_and_update();
            surges.mark_unchanged();
            let due = self.act(now, &client).await;
            tokio::select! {
                biased;
                changed = phase.changed() => if changed.is_err() { return },
                changed = surges.changed() => if changed.is_err() { return },
                error = client.failed() => {
                    self.recorder.record(What::Failed { error: told(&*error) });
                    return;
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Does what the phase asks for. Returns when to look again.
    async fn act(&self, phase: Phase, client: &Arc<dyn AnyClient>) -> Instant {
        let again = Instant::now() + HELD_EVERY;
        if self.still.load(Ordering::Relaxed) {
            self.lock().missed = true;
            return Instant::now() + Duration::from_millis(1);
        }
        match phase {
            Phase::WarmUp => {
                let idle = {
                    let state = self.lock();
                    state.acknowledged == 0 && state.outstanding.is_empty()
                };
                if idle {
                    self.offer(client, self.size);
                }
                Instant::now() + Duration::from_millis(20)
            }
            Phase::Offer { since } => self.offer_when_due(since, client).min(self.surge_when_due(client)),
            Phase::Rest => again,
            Phase::Settle => {
                // A client that gives up (others retry for ever) has shown nothing, so it offers again until this phase
                // is over.
                if self.lock().probe.is_none() {
                    let number = self.offer(client, self.size);
                    self.lock().probe = Some(number);
                }
                if let Ok(held) = client.held().await {
                    self.lock().held = Some(held.outbox.len());
                }
                again
            }
            Phase::Report => {
                if !self.has_reported()
                    && let Ok(held) = client.held().await
                {
                    let ids = |payloads: &[bytes::Bytes]| payloads.iter().filter_map(|p| EntryId::find(p)).collect();
                    let (outbox, dead_letters) = (ids(&held.outbox), ids(&held.dead_letters));
                    self.recorder.record(What::Holds { outbox, dead_letters });
                    self.lock().reported = true;
                }
                again
            }
        }
    }

    /// Offers the entries whose time has come; a client that was down or stood still skips what it missed.
    fn offer_when_due(&self, since: Duration, client: &Arc<dyn AnyClient>) -> Instant {
        let now = seam::now();
        let Some(into) = now.checked_sub(since + self.offset) else {
            return Instant::now() + (since + self.offset).saturating_sub(now);
        };
        let every = self.every.as_nanos().max(1);
        let (turn, late) = (into.as_nanos() / every, Duration::from_nanos((into.as_nanos() % every) as u64));
        let (before, missed) = {
            let mut state = self.lock();
            (state.turn.replace(turn), state.missed)
        };
        let due = match before.filter(|_| !missed) {
            Some(before) => turn - before,
            // Timers have a resolution of a millisecond: an entry that is late by up to that much is on time.
            None => u128::from(before != Some(turn) && late < Duration::from_millis(2)),
        };
        for _ in 0..due {
            self.offer(client, self.next_size());
        }
        Instant::now() + self.every.saturating_sub(late)
    }

    /// Offers the entries that surges demand by now. Returns when they demand more.
    fn surge_when_due(&self, client: &Arc<dyn AnyClient>) -> Instant {
        let now = seam::now();
        let active = self.surges.active.borrow().clone();
        let missed = std::mem::take(&mut self.lock().missed);
        let mut next = Instant::now() + HELD_EVERY;
        for (step, Surge { since, interval }) in active {
            let (n, clients) = self.share;
            let (every, first) = ((interval * clients).as_nanos().max(1), since + interval * n);
            // The turns that have come; the first one comes at `first`.
            let due = now.checked_sub(first).map_or(0, |into| into.as_nanos() / every + 1);
            let over = self.lock().surged.insert(step, due).unwrap_or(0);
            let fresh = if missed { 0 } else { due.saturating_sub(over) };
            for _ in 0..fresh {
                self.offer(client, self.next_size());
                *self.surges.lock().entry(step).or_default() += 1;
            }
            let wait = first + Duration::from_nanos(u64::try_from(due * every).unwrap_or(u64::MAX));
            next = next.min(Instant::now() + wait.saturating_sub(now));
        }
        next
    }

    /// Returns the size of the next entry.
    fn next_size(&self) -> usize {
        let number = self.lock().next;
        self.oversize.filter(|(every, _)| (number + 1).is_multiple_of(*every)).map_or(self.size, |(_, size)| size)
    }

    /// Hands the next entry to the client, without waiting for it. Returns its number.
    fn offer(&self, client: &Arc<dyn AnyClient>, size: usize) -> u64 {
        let number = {
            let mut state = self.lock();
            let number = state.next;
            state.next += 1;
            state.outstanding.insert(number);
            number
        };
        let entry = Entry::new(EntryId { client: self.client.clone(), number }, size);
        self.recorder.record(What::Submitted { entry: entry.id().clone(), bytes: entry.bytes().clone() });
        let (this, client) = (self.clone(), client.clone());
        tokio::spawn(async move {
            let outcome = client.append(&entry).await;
            if this.recorder.is_silent() {
                return; // nobody hears it: the client died before
            }
            let mut state = this.lock();
            state.outstanding.remove(&number);
            state.acknowledged += u64::from(matches!(outcome, Outcome::Acked { .. }));
            if matches!(outcome, Outcome::Unknown { .. }) {
                state.probe = state.probe.filter(|probe| *probe != number);
            }
            drop(state);
            this.recorder.record(What::Returned { entry: entry.id().clone(), outcome });
        });
        number
    }
}
