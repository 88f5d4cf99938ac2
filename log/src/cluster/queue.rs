//! The queue in front of the sequencer. It is bounded by entries and by bytes, and refuses when it is full.
//!
//! What is in the queue belongs to the sequencer: a caller that goes away takes nothing with it. The queue must never
//! drop a job without an answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gapless_world::Observer;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    super::{
        budget::{Account, BATCH, QUEUE},
        leaf::SignedEntry,
    },
    AppendError, Appended, Limits,
    sessions::Digest,
};

/// The shortest and the longest time after which a caller is told to retry.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// A batch whose bytes make it take this much longer than the quickest one is too large for the line to a quorum.
const TRANSFER_MAX: Duration = Duration::from_secs(1);
/// Batches do not get smaller than this for that reason; a single larger entry still goes.
const BATCH_BYTES_MIN: usize = 64 << 10;

/// An answer to a caller.
pub(super) type AppendAnswer = Result<Appended, AppendError>;

/// One entry that waits, and the caller that waits for it.
pub(super) struct Job {
    pub(super) entry: SignedEntry,
    pub(super) digest: Digest,
    /// Whether its signature was verified before it was queued.
    pub(super) verified: bool,
    pub(super) answer: oneshot::Sender<AppendAnswer>,
}

/// What the sequencer is to do next.
pub(super) enum Work {
    /// One batch, at least one entry.
    Entries(Vec<Job>),
    /// This node's wall clock moved by this many milliseconds.
    ClockMoved(i64),
}

/// See the module. Many tasks put jobs in, one takes them out.
pub(super) struct Queue {
    limits: Limits,
    /// The accounts for what waits, and for what the sequencer has taken and not yet answered.
    waiting: Arc<Account>,
    batch: Arc<Account>,
    inner: Mutex<Inner>,
    ready: Notify,
}

struct Inner {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Why nothing more is accepted.
    closed: Option<AppendError>,
    /// How long the last batch took.
    pace: Duration,
    /// How long the quickest one took lately: what the distance alone takes.
    quickest: Option<Duration>,
    /// Bytes of the next batch, by what the line to a quorum has been seen to carry.
    carried: usize,
    /// By how many milliseconds the wall clock moved since this was last taken.
    clock_moved: Option<i64>,
}

impl Queue {
    pub(super) fn new(limits: Limits, memory: &watch::Receiver<u64>, observer: &Arc<dyn Observer>) -> Self {
        let inner = Inner {
            jobs: VecDeque::new(),
            bytes: 0,
            closed: None,
            pace: Duration::ZERO,
            quickest: None,
            carried: limits.batch_bytes,
            clock_moved: None,
        };
        let (waiting, batch) = (Account::new(QUEUE, memory, observer), Account::new(BATCH, memory, observer));
        Self { limits, waiting, batch, inner: Mutex::new(inner), ready: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update under the lock is complete before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a job.
    ///
    /// # Errors
    /// Where there is no room, with the number of jobs that wait; where the queue is closed.
    pub(super) fn push(&self, job: Job) -> Result<(), (AppendError, Option<u64>)> {
        let mut inner = self.lock();
        if let Some(why) = &inner.closed {
            return Err((why.clone(), None));
        }
        let size = job.entry.bytes().len();
        let bytes = inner.bytes + size;
        let room = self.limits.queue_bytes.min(self.waiting.limit_len());
        // An entry that fits into no batch under this budget has to wait outside until the budget is larger.
        let fits = size <= self.batch.limit_len();
        mark!("entry-larger-than-a-batch", !fits);
        if inner.jobs.len() >= self.limits.queue_entries || bytes > room || !fits {
            mark!("queue-was-full");
            let (busy, queued) = self.busy(&inner);
            return Err((busy, Some(queued)));
        }
        inner.bytes = bytes;
        inner.jobs.push_back(job);
        self.waiting.holds(bytes);
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// The error for a caller that has to be turned away, and the number of jobs that wait.
    pub(super) fn shed(&self) -> (AppendError, u64) {
        self.busy(&self.lock())
    }

    fn busy(&self, inner: &Inner) -> (AppendError, u64) {
        let queued = inner.jobs.len();
        let batches = queued / self.limits.batch_entries.max(1) + 1;
        let wait = inner.pace.saturating_mul(batches.try_into().unwrap_or(u32::MAX));
        let retry_after_ms = wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1).as_millis() as u64;
        (AppendError::Busy { retry_after_ms }, queued as u64)
    }

    /// Notes that the wall clock moved. What was noted and not yet taken adds up: at most one note waits.
    pub(super) fn clock_moved(&self, by_ms: i64) {
        let mut inner = self.lock();
        if inner.closed.is_none() {
            inner.clock_moved = Some(inner.clock_moved.unwrap_or_default().saturating_add(by_ms));
            drop(inner);
            self.ready.notify_one();
        }
    }

    /// Waits for something to do: a note about the clock, or what fits into one batch. `None` once the queue is closed
    /// and empty. Cancel safe.
    pub(super) async fn take(&self) -> Option<Work> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(by_ms) = inner.clock_moved.take() {
                    return Some(Work::ClockMoved(by_ms));
                }
                if !inner.jobs.is_empty() {
                    return Some(Work::Entries(self.drain(&mut inner)));
                }
                if inner.closed.is_some() {
                    return None;
                }
            }
            // If a job came since the look above, a permit is kept, so that none is missed.
            self.ready.notified().await;
        }
    }

    fn drain(&self, inner: &mut Inner) -> Vec<Job> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let bytes_max = inner.carried.min(self.batch.limit_len());
        while let Some(next) = inner.jobs.front() {
            let more = bytes + next.entry.bytes().len();
            let full = taken.len() >= self.limits.batch_entries || more > bytes_max;
            if full && !taken.is_empty() {
                break;
            }
            bytes = more;
            taken.extend(inner.jobs.pop_front());
        }
        inner.bytes -= bytes;
        self.waiting.holds(inner.bytes);
        self.batch.holds(bytes);
        taken
    }

    /// Notes that what was taken last is answered.
    pub(super) fn done(&self) {
        self.batch.holds(0);
    }

    /// Follows a change of the budget. What waits stays; nothing new is accepted above the limit.
    pub(super) fn shrink(&self) {
        self.waiting.budget_changed();
        self.batch.budget_changed();
    }

    /// Notes how long a batch took, from which callers are told when to come back. If its bytes took long, the next one
    /// is half as large: a quorum behind a thin line then answers every second, and not only once everything is
    /// through.
    pub(super) fn paced(&self, pace: Duration) {
        let mut inner = self.lock();
        inner.pace = pace;
        // Forgotten gradually, because members may be replaced by others farther away.
        let quickest = inner.quickest.map_or(pace, |quickest| pace.min(quickest + quickest / 16));
        inner.quickest = Some(quickest);
        mark!("batches-grew-smaller", pace.saturating_sub(quickest) > TRANSFER_MAX && inner.carried > BATCH_BYTES_MIN);
        inner.carried = match pace.saturating_sub(quickest) {
            transfer if transfer > TRANSFER_MAX => {
                (inner.carried / 2).max(BATCH_BYTES_MIN.min(self.limits.batch_bytes))
            }
            transfer if transfer < TRANSFER_MAX / 2 => (inner.carried * 2).min(self.limits.batch_bytes),
            _ => inner.carried,
        };
    }

    /// Accepts nothing more; what waits is still served. The first reason stays.
    pub(super) fn close(&self, why: AppendError) {
        self.lock().closed.get_or_insert(why);
        self.ready.notify_one();
    }

    /// Returns whether nothing more is accepted.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Closes the queue, and answers everything that waits with the reason.
    pub(super) fn abandon(&self, why: AppendError) {
        self.lock().closed = Some(why.clone());
        self.turn_away(&why);
        self.ready.notify_one();
    }

    /// Answers everything that waits with the reason.
    pub(super) fn turn_away(&self, why: &AppendError) {
        let jobs = {
            let mut inner = self.lock();
            inner.bytes = 0;
            std::mem::take(&mut inner.jobs)
        };
        self.waiting.holds(0);
        // A caller that is gone needs no answer.
        jobs.into_iter().for_each(|job| drop(job.answer.send(Err(why.clone()))));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::budget::{MEMORY_DEFAULT, fixed},
        *,
    };
    use gapless_world::observer::Unobserved;

    #[test]
    fn batches_shrink_where_their_bytes_take_long_and_not_where_the_distance_does() {
        let observer: Arc<dyn Observer> = Arc::new(Unobserved);
        let queue = Queue::new(Limits::default(), &fixed(MEMORY_DEFAULT), &observer);
        let most = Limits::default().batch_bytes;
        let after = |paces: &[u64]| {
            paces.iter().for_each(|ms| queue.paced(Duration::from_millis(*ms)));
            queue.lock().carried
        };
        assert_eq!(after(&[3_000; 20]), most, "far away, and nothing else");
        assert_eq!(after(&[600, 2_000]), most / 2, "a second and more for the bytes alone");
        assert_eq!(after(&[1_300]), most / 2, "that will do");
        assert_eq!(after(&[60_000; 20]), BATCH_BYTES_MIN);
        assert_eq!(after(&[600; 20]), most, "the line is as good as before");
    }
}
