//! A reader that asks each server how new its data is, so that every claim of a server is in the history and can be
//! judged. Such claims come from a leader that was replaced and does not know it, or from a follower that believes
//! itself newer than it is.
//!
//! It asks each server separately, and never follows a redirection to another server. Like many readers, it keeps
//! asking while answers are outstanding: a server that was frozen wakes up to questions that were asked while others
//! already led. It asks at the pace of the log: while nothing is appended, there is little to claim.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use gapless_log::client::{Deadlines, Level, LogReader, ReaderSettings, RetrySettings};
use gapless_world::tls::Identity;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::system::Host;

/// The time from one question to the next to the same server: while the log grows, and at most.
const PACE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(5));
/// How far apart the first questions to the servers are.
const APART: Duration = Duration::from_millis(270);
/// If no server has answered as the leader for the first of these times, the next leader is looked for. A server that
/// begins to lead is thus asked at once, while it has yet to show what the previous leader had promised. After the
/// second time the search ends, because a log without a leader may stay without one.
const UNLED: (Duration, Duration) = (Duration::from_millis(1_700), Duration::from_secs(8));
/// The time from one question to the next while the leader is looked for: as long as a server takes to say that it does
/// not lead, within these bounds. A new leader owes its readers what it has not yet shown for little more than a round
/// trip.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));
/// How many questions to one server may be without an answer.
const ASKED_MAX: usize = 6;
/// The deadline of a question. It is long enough that a former leader that was frozen can still answer when it wakes
/// up.
const CALL_MAX: Duration = Duration::from_secs(4);
/// The wait before a failed call is retried. It is longer than a call may take, so that there is no retry: the next
/// question is due soon enough.
const NO_RETRY: Duration = Duration::from_secs(3_600);

/// Asks for ever. `settings` holds, for each server, those of a reader of that server alone.
pub(super) async fn ask(reader: Host, identities: watch::Receiver<Identity>, settings: Vec<ReaderSettings>) {
    let (newest, led) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Instant::now())));
    let asking = (0..).zip(settings).filter_map(|(n, mut settings)| {
        settings.deadlines = Deadlines { call: CALL_MAX, ..Deadlines::among(1) };
        settings.retry = RetrySettings { base: NO_RETRY, cap: NO_RETRY, ..RetrySettings::default() };
        let log = LogReader::connect(reader.world().clone(), settings).ok()?;
        let log = Arc::new(log);
        let asker =
            Asker { log, newest: newest.clone(), shown: Arc::default(), led: led.clone(), refused: Arc::default() };
        Some(asker.run(APART * n, identities.clone()))
    });
    join_all(asking).await;
}

#[derive(Clone)]
struct Asker {
    log: Arc<LogReader>,
    /// The largest size that any of the servers showed.
    newest: Arc<AtomicU64>,
    /// The largest size that this server showed.
    shown: Arc<AtomicU64>,
    /// When any of the servers last answered as the leader.
    led: Arc<Mutex<Instant>>,
    /// How long the last call took that this server refused or did not answer, in milliseconds.
    refused: Arc<AtomicU64>,
}

impl Asker {
    async fn run(self, first: Duration, mut identities: watch::Receiver<Identity>) {
        sleep(first).await;
        let (mut pace, mut known) = (PACE.0, 0);
        let mut asked = JoinSet::new();
        for turn in 0_u64.. {
            if identities.has_changed().unwrap_or(false) {
                // An identity that cannot be used is ignored: the old one stays in use.
                let _ = self.log.replace_identity(&identities.borrow_and_update());
            }
            while asked.try_join_next().is_some() {}
            let looks = self.looks_for_the_leader();
            if asked.len() < ASKED_MAX {
                asked.spawn(self.clone().turn(if looks { 0 } else { turn }));
            }
            if looks {
                let round_trip = Duration::from_millis(self.refused.load(Ordering::Relaxed));
                sleep(round_trip.clamp(LOOK_EVERY.0, LOOK_EVERY.1)).await;
                continue;
            }
            let newest = self.newest.load(Ordering::Relaxed);
            pace = if newest > known { PACE.0 } else { (pace * 2).min(PACE.1) };
            known = newest;
            let (next, unled) = (Instant::now() + pace, self.led() + UNLED.0);
            // While the log grows, the leader is looked for at once.
            let looks_first = pace < PACE.1 && unled > Instant::now();
            sleep_until(if looks_first { next.min(unled) } else { next }).await;
        }
    }

    fn led(&self) -> Instant {
        *self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks_for_the_leader(&self) -> bool {
        (UNLED.0..UNLED.1).contains(&self.led().elapsed())
    }

    /// Asks by turns for a linearizable answer and for any answer, as a checkpoint and as leaves. A server that does
    /// not answer has claimed nothing.
    async fn turn(self, turn: u64) {
        let level = if turn.is_multiple_of(2) { Level::Linearizable } else { Level::Any };
        let last = self.shown.load(Ordering::Relaxed).saturating_sub(1);
        let asked = Instant::now();
        let size = match turn % 4 {
            0 | 1 => self.log.signed_checkpoint_at(level).await.map(|(checkpoint, ..)| checkpoint.size),
            _ => self.log.read_at(last, 1, level).await.map(|read| read.bound.size),
        };
        let Ok(size) = size else {
            let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.refused.store(took, Ordering::Relaxed);
            return;
        };
        if level == Level::Linearizable {
            *self.led.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        self.shown.fetch_max(size, Ordering::Relaxed);
        self.newest.fetch_max(size, Ordering::Relaxed);
    }
}
