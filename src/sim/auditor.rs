//! The auditor: a host that reads the log through its public interface, during the run and once more at the end.
//!
//! It reads every server now and then, at moments that the seed draws, and one server shortly before and after each
//! step of the scenario begins and ends: only a reading just before a loss catches what is shown and not yet safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{operator::Operator, recorder::Recorder, told};
use crate::{
    history::{Name, What},
    seam,
    system::{AnySystem, Findings, Host, Peer},
};

/// What the auditor has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Read now and then.
    Sometimes,
    /// Make the last readings: read every server whole.
    Last {
        /// The simulated time until which a server that was behind may catch up.
        catch_up_by: Duration,
    },
}

impl Reading {
    fn catch_up_by(self) -> Option<Duration> {
        match self {
            Reading::Sometimes => None,
            Reading::Last { catch_up_by } => Some(catch_up_by),
        }
    }
}

/// A reading ends, whole or not, once nothing was found for this long. A long log far away takes longer than this in
/// all.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
/// The time after which a reading ends, however much is found.
const READING_MAX: Duration = Duration::from_secs(600);

/// The pause between two attempts at the last readings.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How often a server that shows less than another is read again at least, with a pause that doubles; and the longest
/// pause.
const CATCH_UP: (u32, Duration) = (4, Duration::from_secs(16));

/// Readings that are wanted at a time of the run, each of one server. The agenda only grows.
pub(super) type Agenda = BTreeSet<(Duration, Name)>;

/// The auditor over all its lives.
#[derive(Clone)]
pub(super) struct Auditor {
    recorder: Recorder,
    order: watch::Receiver<Reading>,
    agenda: watch::Receiver<Agenda>,
    every: Duration,
    luck: Arc<Mutex<ChaCha8Rng>>,
    operator: Operator,
    readings: Arc<AtomicU32>,
    /// The number of entries that were found, in all readings.
    found: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Auditor {
    /// Makes an auditor that reads about once per `every`, when `luck` decides, and also at the times of its agenda.
    pub(super) fn new(
        recorder: Recorder,
        (order, agenda): (watch::Receiver<Reading>, watch::Receiver<Agenda>),
        (every, luck): (Duration, ChaCha8Rng),
        operator: Operator,
    ) -> Self {
        let luck = Arc::new(Mutex::new(luck));
        let (readings, found, done) = (Arc::default(), Arc::default(), Arc::default());
        Self { recorder, order, agenda, every, luck, operator, readings, found, done }
    }

    /// Returns the number of entries that were found so far, in all readings.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Returns whether the last reading of every server is complete.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Runs one life.
    pub(super) async fn run(&self, system: Arc<dyn AnySystem>, host: Host) {
        let follower = tokio::spawn({
            let (system, host) = (system.clone(), host.clone());
            let found = self.findings(None);
            async move { system.follow(host, found).await }
        });
        let asker = tokio::spawn({
            let (system, host) = (system.clone(), host.clone());
            async move { system.ask_how_new(host).await }
        });
        tokio::spawn(self.operator.clone().run(system.clone(), host.clone()));
        self.read_now_and_then(&system, &host).await;
        // What the follower was given so far is judged; the follower never ends, so nothing waits for it.
        asker.abort();
        self.say_the_last_word(&*system, &host).await;
        follower.abort();
        self.done.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// Reads until the last readings are due. Readings run beside each other: one that waits for a dead server holds up
    /// none.
    async fn read_now_and_then(&self, system: &Arc<dyn AnySystem>, host: &Host) {
        let (mut order, mut agenda) = (self.order.clone(), self.agenda.clone());
        let mut readings = JoinSet::new();
        let mut done: (Duration, Name) = (seam::now(), "".into());
        let mut next = Instant::now() + self.pause();
        while order.borrow_and_update().catch_up_by().is_none() {
            let wanted = agenda.borrow_and_update().range((Bound::Excluded(&done), Bound::Unbounded)).next().cloned();
            let at = wanted.as_ref().map_or(next, |(at, _)| Instant::now() + at.saturating_sub(seam::now()));
            tokio::select! {
                biased;
                changed = order.changed() => if changed.is_err() { return },
                changed = agenda.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(at.min(next)) => {
                    let servers: Vec<Peer> = match wanted.filter(|_| at <= next) {
                        Some(wanted) => {
                            let server = host.servers().iter().filter(|server| server.name() == &*wanted.1);
                            done = wanted.clone();
                            server.cloned().collect()
                        }
                        None => {
                            next = Instant::now() + self.pause();
                            host.servers().to_vec()
                        }
                    };
                    let (this, system, host) = (self.clone(), system.clone(), host.clone());
                    readings.spawn(async move {
                        for server in servers {
                            let _ = this.read(&*system, &host, &server, false).await;
                        }
                    });
                }
            }
            while readings.try_join_next().is_some() {}
        }
        readings.abort_all();
    }

    /// Returns the time between two readings of everything: about `every`, never in step with anything.
    fn pause(&self) -> Duration {
        let mut luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
        self.every.mul_f64(luck.random_range(0.5..1.5))
    }

    /// Reads every server whole, whatever the others do: a server that cannot be read is tried again and again, and one
    /// that shows less than another until the log's time to recover is over.
    async fn say_the_last_word(&self, system: &dyn AnySystem, host: &Host) {
        let mut read: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut pause, mut times_behind) = (TRY_AGAIN, 0);
        loop {
            let longest = read.values().max().copied().unwrap_or(0);
            for server in host.servers() {
                if read.get(server.name()).is_none_or(|found| *found < longest)
                    && let Ok(found) = self.read(system, host, server, true).await
                {
                    read.insert(server.name(), found);
                }
            }
            let unread = read.len() < host.servers().len();
            let longest = read.values().max().copied().unwrap_or(0);
            let behind = read.values().any(|found| *found < longest);
            let late = times_behind >= CATCH_UP.0 && self.order.borrow().catch_up_by() <= Some(seam::now());
            if !unread && (!behind || late) {
                return;
            }
            mark!("read-again-at-the-end", behind);
            mark!("server-unread-at-the-end", unread);
            times_behind += u32::from(behind);
            tokio::time::sleep(pause).await;
            if !unread {
                pause = (pause * 2).min(CATCH_UP.1);
            }
        }
    }

    /// Reads one server. Returns how much was found.
    async fn read(&self, system: &dyn AnySystem, host: &Host, server: &Peer, last: bool) -> Result<u64, ()> {
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        self.recorder.record(What::ReadingBegan { reading, server: server.name().into(), last });
        let (mut found, count) = self.counted(Some(reading));
        let read = system.read_back(host.clone(), server, &mut found);
        let error = tokio::select! {
            biased;
            read = read => read.err().map(|error| told(&*error)),
            () = stuck(&count) => Some(format!("not read to its end, and nothing was found for {FOUND_WITHIN:?}")),
            () = tokio::time::sleep(READING_MAX) => Some(format!("not read to its end within {READING_MAX:?}")),
        };
        let result = if error.is_none() { Ok(count.load(Ordering::Relaxed)) } else { Err(()) };
        self.recorder.record(What::ReadingEnded { reading, error });
        result
    }

    fn findings(&self, reading: Option<u32>) -> Findings {
        self.counted(reading).0
    }

    /// Returns findings, and a counter of them.
    fn counted(&self, reading: Option<u32>) -> (Findings, Arc<AtomicU64>) {
        let (recorder, count) = (self.recorder.clone(), Arc::new(AtomicU64::new(0)));
        let (found, in_all) = (count.clone(), self.found.clone());
        let record = Arc::new(move |what: What| {
            let one = u64::from(matches!(what, What::Found { .. }));
            found.fetch_add(one, Ordering::Relaxed);
            in_all.fetch_add(one, Ordering::Relaxed);
            recorder.record(what);
        });
        (Findings { record, reading }, count)
    }
}

/// Resolves once nothing was found for a while.
async fn stuck(found: &AtomicU64) {
    let mut before = None;
    loop {
        let now = found.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(FOUND_WITHIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader far away finds something now and then, for as long as it takes.
    #[tokio::test(start_paused = true)]
    async fn a_reading_ends_when_nothing_is_found_for_a_while_however_long_it_took_before() {
        let found = AtomicU64::new(0);
        let begun = Instant::now();
        let reads = async {
            for _ in 0..20 {
                tokio::time::sleep(FOUND_WITHIN - Duration::from_secs(1)).await;
                found.fetch_add(1, Ordering::Relaxed);
            }
            Instant::now()
        };
        let (ended, last) = tokio::join!(
            async {
                stuck(&found).await;
                Instant::now()
            },
            reads
        );
        assert!(ended > last, "{:?} after its beginning", ended - begun);
        assert!(ended <= last + FOUND_WITHIN * 2, "{:?} after the last find", ended - last);
    }
}
