//! The queue before the sequencer: bounded by entries and by bytes, and it says no when it is full.
//!
//! What is in the queue belongs to the sequencer: a caller that goes away takes nothing with it. It must never drop a
//! job without an answer.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{super::leaf::SignedEntry, AppendError, Appended, Limits, sessions::Digest};

/// The shortest and the longest time for which a caller is sent away.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// An answer to a caller.
pub(super) type Answer = Result<Appended, AppendError>;

/// One entry that waits, and who waits for it.
pub(super) struct Job {
    pub(super) entry: SignedEntry,
    pub(super) digest: Digest,
    /// Whether its signature was verified before it was queued.
    pub(super) verified: bool,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// See the module. Many put in, one takes out.
pub(super) struct Queue {
    limits: Limits,
    inner: Mutex<Inner>,
    ready: Notify,
}

struct Inner {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Why nothing more is taken in.
    closed: Option<AppendError>,
    /// How long the last batch took.
    pace: Duration,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let inner = Inner { jobs: VecDeque::new(), bytes: 0, closed: None, pace: Duration::ZERO };
        Self { limits, inner: Mutex::new(inner), ready: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update under the lock is complete before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// Where there is no room, with the number of jobs that wait; where the queue is closed.
    pub(super) fn push(&self, job: Job) -> Result<(), (AppendError, Option<u64>)> {
        let mut inner = self.lock();
        if let Some(why) = &inner.closed {
            return Err((why.clone(), None));
        }
        let bytes = inner.bytes + job.entry.bytes().len();
        if inner.jobs.len() >= self.limits.queue_entries || bytes > self.limits.queue_bytes {
            let queued = inner.jobs.len();
            let batches = queued / self.limits.batch_entries.max(1) + 1;
            let wait = inner.pace.saturating_mul(batches.try_into().unwrap_or(u32::MAX));
            let retry_after_ms = wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1).as_millis() as u64;
            return Err((AppendError::Busy { retry_after_ms }, Some(queued as u64)));
        }
        inner.bytes = bytes;
        inner.jobs.push_back(job);
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes what fits into one batch, at least one; `None` once the queue is closed and empty.
    /// Cancel safe.
    pub(super) async fn take(&self) -> Option<Vec<Job>> {
        loop {
            {
                let mut inner = self.lock();
                if !inner.jobs.is_empty() {
                    return Some(self.drain(&mut inner));
                }
                if inner.closed.is_some() {
                    return None;
                }
            }
            // A permit is kept where a job came since the look above, so none is missed.
            self.ready.notified().await;
        }
    }

    fn drain(&self, inner: &mut Inner) -> Vec<Job> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = inner.jobs.front() {
            let more = bytes + next.entry.bytes().len();
            let full = taken.len() >= self.limits.batch_entries || more > self.limits.batch_bytes;
            if full && !taken.is_empty() {
                break;
            }
            bytes = more;
            taken.extend(inner.jobs.pop_front());
        }
        inner.bytes -= bytes;
        taken
    }

    /// Notes how long a batch took, from which callers are told when to come back.
    pub(super) fn paced(&self, pace: Duration) {
        self.lock().pace = pace;
    }

    /// Takes nothing more in; what waits is still served. The first reason stays.
    pub(super) fn close(&self, why: AppendError) {
        self.lock().closed.get_or_insert(why);
        self.ready.notify_one();
    }

    /// Closes, and answers everything that waits with the reason.
    pub(super) fn abandon(&self, why: AppendError) {
        let jobs = {
            let mut inner = self.lock();
            inner.closed = Some(why.clone());
            inner.bytes = 0;
            std::mem::take(&mut inner.jobs)
        };
        // A caller that is gone needs no answer.
        jobs.into_iter().for_each(|job| drop(job.answer.send(Err(why.clone()))));
        self.ready.notify_one();
    }
}
