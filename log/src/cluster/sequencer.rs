//! The sequencer: one task that owns the tail of the log.
//!
//! While one batch is on its way through Raft, the entries that queue up become the next. Batches thus grow by
//! themselves under load, an entry at rest goes alone, and no timer decides. Callers only wait for an answer: one that
//! gives up changes nothing, and its entry is appended all the same.
//!
//! Before an entry enters a batch, it is checked against the sessions, so that repeats and mistakes do not become void
//! leaves. The check is only a saving: what counts is decided when the batch is applied.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use gapless_world::LogEvent;
use openraft::{
    Raft,
    error::{ClientWriteError, RaftError},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    super::{
        leaf::{Body, Entry, SignedEntry},
        wire::refusal::Reason,
    },
    AppendError, Appended, Refusal,
    leadership::Leadership,
    ledger::Ledger,
    queue::{AppendAnswer, Job, Queue, Work},
    sessions::{Expected, Outcome, Preview},
    types::{Applied, Batch, Proposal, TypeConfig},
};

/// How long a batch may take in a log of one. A disk that is slower is as good as gone.
pub(super) const COMMIT_SECONDS_MAX: u64 = 60;
/// How long callers in a cluster of several wait for a quorum. Where none answers, others are away, not this node.
const QUORUM_SECONDS_MAX: u64 = 3;

/// See the module.
pub(super) struct Sequencer {
    pub(super) raft: Raft<TypeConfig>,
    pub(super) leadership: Leadership,
    pub(super) ledger: Arc<Ledger>,
    pub(super) queue: Arc<Queue>,
}

/// A batch in the making, and the callers that wait for its entries.
#[derive(Default)]
struct Making {
    entries: Vec<SignedEntry>,
    waiting: Vec<Waiting>,
    preview: Preview,
}

/// A caller, and the position in the batch of the entry that answers it.
struct Waiting {
    entry: Entry,
    position: usize,
    /// The entry was already in the batch: this is its second sending.
    again: bool,
    answer: oneshot::Sender<AppendAnswer>,
}

impl Sequencer {
    /// Runs until the queue is closed and empty, or the node fails.
    pub(super) async fn run(self) {
        while let Some(work) = self.queue.take().await {
            let failed = match work {
                Work::Entries(jobs) => self.append(jobs).await,
                Work::ClockMoved(by_ms) => self.note_clock(by_ms).await,
            };
            self.queue.done();
            if failed {
                return;
            }
        }
    }

    /// Takes a batch through Raft and answers its callers. Returns whether the node has failed.
    async fn append(&self, jobs: Vec<Job>) -> bool {
        let begun = Instant::now();
        let vouched = match self.leadership.check() {
            Ok(led) => led.term,
            Err(why) => {
                // A caller that is gone needs no answer.
                jobs.into_iter().for_each(|job| drop(job.answer.send(Err(why.clone()))));
                return false;
            }
        };
        let Making { entries, mut waiting, .. } = self.admit(jobs);
        if entries.is_empty() {
            return false;
        }
        let batch = Batch { vouched, entries: entries.into() };
        let committed = self.commit(Proposal::Batch(batch), &mut waiting).await;
        self.queue.paced(begun.elapsed());
        let failed = matches!(committed, Err(AppendError::Failed(_)));
        self.answer(waiting, &committed);
        failed
    }

    /// Records in the log that this node's wall clock moved; a failure to record it is only reported. Returns whether
    /// the node has failed.
    async fn note_clock(&self, by_ms: i64) -> bool {
        let noted = match self.leadership.check() {
            Ok(_) => {
                let node = self.ledger.settings.node;
                self.commit(Proposal::ClockMoved { node, by_ms }, &mut Vec::new()).await
            }
            Err(why) => Err(why),
        };
        match noted {
            Ok(_) => false,
            Err(error) => {
                mark!("clock-anomaly-not-noted");
                tracing::warn!(by_ms, %error, "the wall clock moved, and the log does not say so");
                matches!(error, AppendError::Failed(_))
            }
        }
    }

    /// Admits the entries that would count, and answers the rest at once.
    fn admit(&self, jobs: Vec<Job>) -> Making {
        let mut making = Making::default();
        for job in jobs {
            let entry = job.entry.entry();
            if !job.verified && !self.is_signed(&making.preview, &job.entry) {
                self.reply(job.answer, entry, Outcome::Unsigned.answer(entry));
                continue;
            }
            match self.ledger.with_sessions(|sessions| making.preview.judge(sessions, entry, &job.digest)) {
                Expected::Counts => self.take(&mut making, job),
                Expected::InBatch(position) => {
                    mark!("repeat-inside-a-batch");
                    making.waiting.push(Waiting { entry: entry.clone(), position, again: true, answer: job.answer });
                }
                Expected::Void(outcome) => self.reply(job.answer, entry, outcome.answer(entry)),
            }
        }
        making
    }

    fn take(&self, making: &mut Making, job: Job) {
        let Job { entry, digest, answer, .. } = job;
        let position = making.entries.len();
        self.ledger.with_sessions(|sessions| making.preview.add(sessions, entry.entry(), digest, position));
        making.waiting.push(Waiting { entry: entry.entry().clone(), position, again: false, answer });
        making.entries.push(entry);
    }

    /// Returns whether an entry's signature holds under the key of its epoch, as that will stand once the batch is
    /// applied. An epoch that is not open has no key: its entries pass here and are refused for their epoch, whoever
    /// signed them.
    ///
    /// The key is known before the entry is proposed, and is still the same at apply: the sessions hold everything that
    /// was committed before this term, nothing but this batch is in flight, and only this task proposes entries
    /// (membership changes bypass it, but do not affect keys). If an election came in between, the batch stands in
    /// another term than the one vouched for, and is verified at apply.
    fn is_signed(&self, preview: &Preview, entry: &SignedEntry) -> bool {
        let Entry { client, epoch, .. } = entry.entry();
        let key = self.ledger.with_sessions(|sessions| preview.key(sessions, client, *epoch));
        key.is_none_or(|key| entry.verify(&key).is_ok())
    }

    /// Takes a proposal through Raft. Where no quorum answers, the callers in `waiting` are turned away; but until the
    /// proposal is decided nothing else is proposed, because it may still be committed.
    async fn commit(&self, proposal: Proposal, waiting: &mut Vec<Waiting>) -> Result<Applied, AppendError> {
        let mut writing = pin!(self.raft.client_write(proposal));
        let alone = self.ledger.settings.cluster.is_none();
        let seconds = if alone { COMMIT_SECONDS_MAX } else { QUORUM_SECONDS_MAX };
        let written = match patiently(seconds, writing.as_mut()).await {
            Some(written) => written,
            None if alone => return Err(self.fail(format!("a batch was not committed within {seconds} s"))),
            None => {
                mark!("batch-without-a-quorum");
                self.answer(std::mem::take(waiting), &Err(AppendError::NoQuorum));
                loop {
                    self.queue.turn_away(&AppendError::NoQuorum);
                    match patiently(1, writing.as_mut()).await {
                        Some(written) => {
                            mark!("batch-decided-after-all");
                            break written;
                        }
                        None if self.queue.is_closed() => return Err(AppendError::ShuttingDown),
                        None => {}
                    }
                }
            }
        };
        match written {
            Ok(written) => Ok(written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                mark!("leader-change-inside-a-batch");
                Err(AppendError::NotLeader { leader: to.leader_node.map(|member| member.name) })
            }
            Err(RaftError::APIError(error)) => Err(self.fail(format!("Raft refused a batch: {error}"))),
            Err(RaftError::Fatal(fatal)) => Err(self.fail(format!("Raft ended: {fatal}"))),
        }
    }

    /// Ends the node for the first reason found, which the log store may already have noted.
    fn fail(&self, why: String) -> AppendError {
        self.ledger.fail(why.clone());
        AppendError::Failed(self.ledger.failure().unwrap_or(why))
    }

    fn answer(&self, waiting: Vec<Waiting>, committed: &Result<Applied, AppendError>) {
        for Waiting { entry, position, again, answer } in waiting {
            let outcome = committed.as_ref().map(|Applied(outcomes)| outcomes.get(position).cloned());
            match outcome {
                Ok(Some(Outcome::Counted(index))) if again => {
                    self.reply(answer, &entry, Outcome::Repeated(index).answer(&entry));
                }
                Ok(Some(outcome)) => self.reply(answer, &entry, outcome.answer(&entry)),
                Ok(None) => drop(answer.send(Err(self.fail("a batch came back without all its outcomes".into())))),
                Err(error) => drop(answer.send(Err(error.clone()))),
            }
        }
    }

    /// Answers a caller, which may be gone, and reports what is worth noticing.
    fn reply(&self, answer: oneshot::Sender<AppendAnswer>, entry: &Entry, appended: Appended) {
        notice(&self.ledger, entry, &appended);
        drop(answer.send(Ok(appended)));
    }
}

impl Drop for Sequencer {
    /// However this task ends, no caller is left waiting.
    fn drop(&mut self) {
        self.queue.abandon(self.ledger.failure().map_or(AppendError::ShuttingDown, AppendError::Failed));
    }
}

/// Reports repeats and refusals to the observer.
pub(super) fn notice(ledger: &Ledger, entry: &Entry, appended: &Appended) {
    let (client, sequence) = (entry.client.to_string(), entry.sequence.0);
    mark!("duplicate-answered", matches!(appended, Appended::Repeated { .. }));
    match appended {
        Appended::Counted { .. } => {}
        Appended::Repeated { index } => ledger.tell(LogEvent::DuplicateAnswered { client, sequence, index: index.0 }),
        Appended::Refused(Refusal { reason, .. }) => {
            let reason = reason.as_str_name().to_ascii_lowercase().replace('_', "-");
            ledger.tell(LogEvent::EntryRefused { client, sequence, reason });
        }
    }
}

/// Checks what can be checked before an entry is queued: that it is not too large, and that it is signed by the key
/// that it carries itself or that its open epoch has. `Ok` says whether its signature was verified.
pub(super) fn inspect(ledger: &Ledger, entry: &SignedEntry, payload_bytes_max: usize) -> Result<bool, Appended> {
    let payload = match &entry.entry().body {
        Body::Event(payload) => payload.len(),
        Body::DeadLettered { reason, .. } => reason.len(),
        Body::EpochOpened { .. } => 0,
    };
    if payload > payload_bytes_max {
        let why = format!("its payload of {payload} bytes is over the limit of {payload_bytes_max}: split it");
        mark!("entry-too-large-for-the-log");
        return Err(misfit(Reason::Oversize, why));
    }
    let key = ledger.with_sessions(|sessions| sessions.signer(entry.entry()).cloned());
    match key.map(|key| entry.verify(&key)) {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(error)) => Err(misfit(Reason::Malformed, error.to_string())),
    }
}

fn misfit(reason: Reason, detail: String) -> Appended {
    Appended::Refused(Refusal { reason, detail, expected: 0 })
}

/// Waits for `seconds` in steps of one second, so that a process that was stopped for an hour has not waited an hour
/// when it goes on: only the step in which it was stopped has passed.
pub(super) async fn patiently<T>(seconds: u64, wait: impl Future<Output = T>) -> Option<T> {
    let mut wait = pin!(wait);
    for _ in 0..seconds {
        tokio::select! {
            biased;
            done = &mut wait => return Some(done),
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
    None
}
