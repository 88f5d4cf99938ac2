//! The outbox: what was accepted and is not yet proven to be in the log.
//!
//! One task owns the files. Callers hand it payloads and wait; if they go away, their work goes on. An entry is
//! accepted once its frame is synced, and many entries share one sync. Entries leave in the order of their sequences,
//! and only on a verified receipt, or on proof that their place is closed. The acknowledged sequence is written down
//! lazily: if it is lost, entries are sent once more, which the log answers with their first receipts. A full outbox
//! makes callers wait and never drops anything.
//!
//! The index in the journal is the sequence in the epoch. Dead letters have a journal of their own, which tells what
//! they replace; see [`dead_letter`](super::dead_letter).

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, LogEvent, Observer};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    Delivered, Delivery, Submission,
    dead_letter::{DeadLetter, DeadLetters, read_all, reason_text},
    epoch::EpochRecord,
    error::ClientError,
    moving::{Moving, decode},
    settings::READ_BYTES_MAX,
};
use crate::{
    budget::Held,
    leaf::{Body, ClientId, Entry, Epoch, Sequence, SignedEntry},
    note::SigningKey,
    store::{Cell, Frame, Journal, JournalReader, StoreError},
};

/// The most submissions that share one sync.
const BATCH_ENTRIES_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The acknowledged sequence is written down after this many entries, or when none has been added for this long.
const LAZY_ENTRIES: u64 = 256;
const LAZY_TIME: Duration = Duration::from_secs(1);

/// Kind of a frame whose entry opens the epoch.
pub(crate) const KIND_OPENED: u8 = 1;
/// Kind of a frame whose entry is an event.
pub(crate) const KIND_EVENT: u8 = 2;
/// Kind of a frame whose entry is the first event that a life of the outbox accepted.
pub(crate) const KIND_FIRST_EVENT: u8 = 3;

/// How far the outbox has got. Everything below `acknowledged` is proven to be in the log, everything below `durable`
/// is synced here; what lies between is owed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) acknowledged: u64,
    pub(crate) durable: u64,
    pub(crate) dead_letters: u64,
    /// Why the outbox had to stop.
    pub(crate) stopped: Option<String>,
    /// Whether the owner is gone and its files are closed.
    pub(crate) ended: bool,
}

/// An entry that is owed to the log.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    pub(crate) entry: SignedEntry,
    /// Whether this is the first event that a life of the outbox accepted. If the outbox was put back to an earlier
    /// state, its sequences are taken in the log from such an entry on.
    pub(crate) first_of_life: bool,
}

/// A payload on its way into the outbox.
pub(crate) struct Submit {
    pub(crate) payload: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Submission, ClientError>>,
    /// The memory that it takes until it is durable.
    pub(crate) _room: Held,
}

/// What delivery asks of the outbox.
pub(crate) enum Command {
    /// The entries from `first` on are in the log, or their slots are closed, and they leave. In the order of their
    /// sequences.
    Leave { first: u64, delivered: Vec<Delivered> },
    /// The entry was refused for good. Answered once the dead letter is durable.
    DeadLetter { sequence: u64, reason: &'static str, detail: String, done: oneshot::Sender<()> },
    /// The log has other entries under the sequences from here on: the next start moves them to a new epoch.
    MoveFrom { sequence: u64 },
    /// Delivery cannot go on because the disk failed.
    Stop { why: ClientError },
}

/// The outbox as others see it: what is owed, read from the disk.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) epoch: Epoch,
    entries: JournalReader,
    dead: JournalReader,
    /// Entries that replace refused ones, until they leave.
    closings: Closings,
    pub(crate) progress: watch::Receiver<Progress>,
}

type Closings = Arc<Mutex<BTreeMap<u64, SignedEntry>>>;

impl View {
    /// Returns up to `limit` durable entries from `start` on as they are to be sent, of no more than `bytes_max` bytes
    /// unless the first alone is larger.
    pub(crate) async fn entries(&self, start: u64, limit: u64, bytes_max: usize) -> Result<Vec<Owed>, ClientError> {
        let end = self.progress.borrow().durable.min(start.saturating_add(limit));
        if start >= end {
            return Ok(Vec::new());
        }
        let frames = self.entries.read(start, end, bytes_max).await?;
        let closings = self.closings.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = |frame: Frame| {
            let first_of_life = frame.kind == KIND_FIRST_EVENT;
            let entry = closings.get(&frame.index).cloned().map_or_else(|| decode(frame), Ok)?;
            Ok(Owed { entry, first_of_life })
        };
        frames.into_iter().map(owed).collect()
    }

    /// Returns the payloads that are owed, oldest first, read from the disk.
    pub(crate) async fn outstanding(&self) -> Result<Vec<Bytes>, ClientError> {
        let (mut payloads, mut next) = (Vec::new(), 0);
        loop {
            next = next.max(self.progress.borrow().acknowledged);
            let entries = match self.entries(next, u64::MAX, READ_BYTES_MAX).await {
                // The log received them meanwhile, and their segments were given up.
                Err(ClientError::Store(StoreError::Outside { .. })) => {
                    continue;
                }
                entries => entries?,
            };
            let Some(last) = entries.last() else { return Ok(payloads) };
            next = last.entry.entry().sequence.0 + 1;
            payloads.extend(entries.iter().filter_map(|owed| match &owed.entry.entry().body {
                Body::Event(payload) => Some(payload.clone()),
                _ => None,
            }));
        }
    }

    pub(crate) async fn dead_letters(&self) -> Result<Vec<DeadLetter>, ClientError> {
        let end = self.progress.borrow().dead_letters;
        read_all(&self.dead, 0, end).await
    }
}

/// What the owner starts from; recovered by [`recovery`](super::recovery).
pub(crate) struct Recovered {
    pub(crate) client: ClientId,
    pub(crate) epoch: Epoch,
    pub(crate) key: SigningKey,
    pub(crate) journal: Journal,
    pub(crate) dead: DeadLetters,
    pub(crate) closings: BTreeMap<u64, SignedEntry>,
    pub(crate) acknowledged: u64,
    pub(crate) pointer: Cell,
    pub(crate) disk: Arc<dyn Disk>,
    /// The lock on the data folder, held until the owner ends.
    pub(crate) _lock: Box<dyn Send + Sync>,
}

/// The task that owns the files.
pub(crate) struct Owner {
    recovered: Recovered,
    entries_max: u64,
    observer: Arc<dyn Observer>,
    closings: Closings,
    progress: watch::Sender<Progress>,
    waiting: BTreeMap<u64, oneshot::Sender<Delivered>>,
    /// The next submission, while the outbox has no room for it.
    held: Option<Submit>,
    /// The sequence of the first event that this life accepts.
    first_of_life: u64,
    /// `acknowledged` as last written down.
    written: u64,
    write_by: Option<Instant>,
}

impl Owner {
    pub(crate) fn new(recovered: Recovered, entries_max: u64, observer: Arc<dyn Observer>) -> (Owner, View) {
        let closings: Closings = Arc::new(Mutex::new(recovered.closings.clone()));
        let progress = watch::Sender::new(Progress {
            acknowledged: recovered.acknowledged,
            durable: recovered.journal.next_index(),
            dead_letters: recovered.dead.next_index(),
            ..Progress::default()
        });
        let view = View {
            epoch: recovered.epoch,
            entries: recovered.journal.reader(),
            dead: recovered.dead.reader(),
            closings: closings.clone(),
            progress: progress.subscribe(),
        };
        let owner = Owner {
            entries_max: entries_max.max(1),
            observer,
            closings,
            progress,
            waiting: BTreeMap::new(),
            held: None,
            first_of_life: recovered.journal.next_index(),
            written: recovered.acknowledged,
            write_by: None,
            recovered,
        };
        (owner, view)
    }

    /// Works until nobody is left to submit, or `stop` says so, and delivery has ended (it drops its `commands`).
    pub(crate) async fn run(
        mut self,
        mut submits: mpsc::Receiver<Submit>,
        mut commands: mpsc::Receiver<Command>,
        stop: watch::Sender<bool>,
    ) {
        let mut outcome = self.work(&mut submits, &mut commands, &stop).await;
        stop.send_replace(true);
        submits.close();
        while let (Ok(()), Some(command)) = (&outcome, commands.recv().await) {
            outcome = self.obey(command).await;
        }
        if outcome.is_ok() {
            outcome = self.write_pointer().await;
        }
        let stopped = outcome.err().map(|why| why.to_string());
        let Owner { recovered, progress, waiting, held, .. } = self;
        // Files and lock go first: a caller that waits for the end may open the folder at once.
        drop(recovered);
        progress.send_modify(|progress| {
            progress.stopped = stopped;
            progress.ended = true;
        });
        drop((waiting, held));
    }

    async fn work(
        &mut self,
        submits: &mut mpsc::Receiver<Submit>,
        commands: &mut mpsc::Receiver<Command>,
        stop: &watch::Sender<bool>,
    ) -> Result<(), ClientError> {
        let mut stopping = stop.subscribe();
        while !*stopping.borrow_and_update() {
            if self.held.is_some() && self.room() > 0 {
                self.accept(submits).await?;
            }
            let write_by = self.write_by.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                // An error would say that the sender is gone, which cannot happen while it is borrowed here.
                _ = stopping.changed() => {}
                Some(command) = commands.recv() => self.obey(command).await?,
                submit = submits.recv(), if self.held.is_none() => match submit {
                    Some(submit) => self.hold(submit),
                    None => return Ok(()),
                },
                () = sleep_until(write_by), if self.write_by.is_some() => self.write_pointer().await?,
            }
        }
        Ok(())
    }

    fn room(&self) -> u64 {
        self.entries_max.saturating_sub(self.owed())
    }

    fn owed(&self) -> u64 {
        self.recovered.journal.next_index() - self.recovered.acknowledged
    }

    fn hold(&mut self, submit: Submit) {
        self.held = Some(submit);
        if self.room() == 0 {
            mark!("outbox-full");
            self.observer.see(LogEvent::OutboxFull { pending: self.owed() });
        }
    }

    /// Accepts the submissions that wait, as one batch under one sync.
    async fn accept(&mut self, submits: &mut mpsc::Receiver<Submit>) -> Result<(), ClientError> {
        let batch = self.collect(submits);
        let first = self.recovered.journal.next_index();
        let frames: Vec<Frame> = (first..).zip(&batch).map(|(index, submit)| self.frame(index, submit)).collect();
        self.recovered.journal.write(&frames)?;
        // A crash before the end of this sync leaves entries that no caller was told of. If their frames survive, they
        // are delivered: their callers know nothing, so either outcome is correct.
        self.recovered.journal.sync().await?;
        let epoch = self.recovered.epoch;
        for (sequence, submit) in (first..).zip(batch) {
            let entry = submit.payload;
            self.observer.see(LogEvent::EntryAccepted { epoch: epoch.0, sequence, entry });
            let (tell, delivered) = oneshot::channel();
            self.waiting.insert(sequence, tell);
            let delivered = Delivery::new(delivered);
            // The caller may be gone; the entry is accepted all the same.
            let _ = submit.reply.send(Ok(Submission { epoch, sequence: Sequence(sequence), delivered }));
        }
        let durable = self.recovered.journal.next_index();
        self.progress.send_modify(|progress| progress.durable = durable);
        Ok(())
    }

    fn collect(&mut self, submits: &mut mpsc::Receiver<Submit>) -> Vec<Submit> {
        let most = BATCH_ENTRIES_MAX.min(usize::try_from(self.room()).unwrap_or(usize::MAX));
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most && bytes < BATCH_BYTES_MAX {
            let Some(submit) = self.held.take().or_else(|| submits.try_recv().ok()) else { break };
            bytes += submit.payload.len();
            batch.push(submit);
        }
        batch
    }

    fn frame(&self, index: u64, submit: &Submit) -> Frame {
        let entry = self.sign(index, Body::Event(submit.payload.clone()));
        let kind = if index == self.first_of_life { KIND_FIRST_EVENT } else { KIND_EVENT };
        Frame { index, term: self.recovered.epoch.0, kind, body: entry.bytes().clone() }
    }

    fn sign(&self, sequence: u64, body: Body) -> SignedEntry {
        let Recovered { client, epoch, key, .. } = &self.recovered;
        Entry { client: client.clone(), epoch: *epoch, sequence: Sequence(sequence), body }.sign(key)
    }

    async fn obey(&mut self, command: Command) -> Result<(), ClientError> {
        match command {
            Command::Leave { first, delivered } => self.leave(first, delivered).await,
            Command::DeadLetter { sequence, reason, detail, done } => {
                self.dead_letter(sequence, reason_text(reason, &detail)).await?;
                let _ = done.send(());
                Ok(())
            }
            Command::MoveFrom { sequence } => Err(self.give_up_epoch(sequence).await?),
            Command::Stop { why } => Err(why),
        }
    }

    /// Lets entries leave. Any sequence but the next one is a repeat and changes nothing.
    async fn leave(&mut self, first: u64, delivered: Vec<Delivered>) -> Result<(), ClientError> {
        for (sequence, delivered) in (first..).zip(delivered) {
            if sequence != self.recovered.acknowledged {
                continue;
            }
            self.recovered.acknowledged += 1;
            self.closings.lock().unwrap_or_else(PoisonError::into_inner).remove(&sequence);
            if let Some(tell) = self.waiting.remove(&sequence) {
                let _ = tell.send(delivered);
            }
        }
        let acknowledged = self.recovered.acknowledged;
        self.progress.send_modify(|progress| progress.acknowledged = acknowledged);
        self.write_by = Some(Instant::now() + LAZY_TIME);
        if acknowledged - self.written >= LAZY_ENTRIES { self.write_pointer().await } else { Ok(()) }
    }

    async fn dead_letter(&mut self, sequence: u64, reason: String) -> Result<(), ClientError> {
        let (epoch, sequence_id) = (self.recovered.epoch, Sequence(sequence));
        let frames = self.recovered.journal.read(sequence, sequence + 1, READ_BYTES_MAX).await?;
        let Some(entry) = frames.into_iter().next().map(decode).transpose()? else { return Ok(()) };
        let Body::Event(payload) = &entry.entry().body else { return Ok(()) };
        let digest = Sha256::digest(payload).into();
        let closing = self.sign(sequence, Body::DeadLettered { digest, reason: reason.clone() });
        let letter =
            DeadLetter { epoch, sequence: sequence_id, reason: reason.clone(), entry, closing: closing.clone() };
        // One frame keeps the refused bytes and the entry that takes their place: a crash before or after this leaves
        // neither or both, and with neither, the outbox still owes the entry.
        mark!("dead-letter-kept");
        self.recovered.dead.keep(&letter).await?;
        self.closings.lock().unwrap_or_else(PoisonError::into_inner).insert(sequence, closing);
        let dead_letters = self.recovered.dead.next_index();
        self.progress.send_modify(|progress| progress.dead_letters = dead_letters);
        self.observer.see(LogEvent::DeadLettered { epoch: epoch.0, sequence, reason: reason.clone() });
        if let Some(tell) = self.waiting.remove(&sequence) {
            let _ = tell.send(Delivered::DeadLetter { reason });
        }
        Ok(())
    }

    /// Notes durably that the entries from this sequence on belong to a new epoch. Returns why the outbox stops.
    async fn give_up_epoch(&mut self, sequence: u64) -> Result<ClientError, ClientError> {
        let epoch = self.recovered.epoch;
        mark!("outbox-was-rolled-back");
        let Recovered { disk, client, .. } = &self.recovered;
        let moving = Moving { epoch, from: sequence, to: EpochRecord::new(client.clone(), Some(epoch)) };
        moving.store(disk.clone()).await?;
        self.observer.see(LogEvent::OutboxRolledBack { epoch: epoch.0, sequence });
        Ok(ClientError::RolledBack { epoch: epoch.0, sequence })
    }

    /// Writes down the acknowledged sequence, and gives up the segments below it.
    async fn write_pointer(&mut self) -> Result<(), ClientError> {
        self.write_by = None;
        let acknowledged = self.recovered.acknowledged;
        if acknowledged == self.written {
            return Ok(());
        }
        self.recovered.pointer.store(Pointer { epoch: self.recovered.epoch, acknowledged }.encode()).await?;
        self.written = acknowledged;
        // The last frame stays: it tells a restart which sequence comes next. A crash in here leaves segments that the
        // next call removes.
        Ok(self.recovered.journal.forget_before(acknowledged.saturating_sub(1)).await?)
    }
}

/// The acknowledged sequence as written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) epoch: Epoch,
    /// The first sequence that is not acknowledged.
    pub(crate) acknowledged: u64,
}

impl Pointer {
    fn encode(self) -> Bytes {
        let mut to = BytesMut::with_capacity(16);
        to.put_u64(self.epoch.0);
        to.put_u64(self.acknowledged);
        to.freeze()
    }

    pub(crate) async fn load(
        world: &gapless_world::World,
        path: &Path,
    ) -> Result<(Cell, Option<Pointer>), ClientError> {
        let cell = Cell::open(world.disk.clone(), path).await?;
        let Some(mut value) = cell.load() else { return Ok((cell, None)) };
        if value.len() != 16 {
            let why = format!("{} bytes instead of 16", value.len());
            return Err(ClientError::Foreign { what: "the acknowledged sequence", why });
        }
        Ok((cell, Some(Pointer { epoch: Epoch(value.get_u64()), acknowledged: value.get_u64() })))
    }
}
