//! Raft's log over the journal.
//!
//! An entry is hashed into the tree, written, synced, and only then reported as flushed: what Raft counts as stored is
//! durable. Votes and entries go through one task in order, as Raft requires. Nothing is ever purged, and nothing below
//! this node's own signed checkpoint is ever cut.
//!
//! A failed write or sync ends the node: what the disk holds is unknown then, and a retry could report as durable what
//! the kernel already dropped. So it is never retried.

use std::{
    fmt::{Debug, Display},
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use gapless_world::LogEvent;
use openraft::{
    AnyError, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};
use tokio::sync::Mutex;

use super::{
    super::{
        leaf::DecodeError,
        store::{Cell, Journal, JournalReader, StoreError},
    },
    identity::{FolderLock, Joining},
    ledger::Ledger,
    types::{Proposal, RaftEntry, TypeConfig, decode_frame, decode_vote, encode_vote},
};

/// Bytes that one read may bring, and so the bytes that one call carries to another member; a larger entry comes alone.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log, owned by Raft's core task.
pub(super) struct LogStore {
    journal: Journal,
    /// In a mutex only because Raft requires `Sync`; it is reached through `&mut`, and never locked. `None` in a life
    /// that takes no entries.
    vote: Mutex<Option<Cell>>,
    /// Present in a folder that joins, until it holds its first entry. In a mutex for the same reason.
    joining: Mutex<Option<Joining>>,
    reader: LogReader,
    _lock: FolderLock,
}

/// Reads the log beside its writer.
#[derive(Clone)]
pub(super) struct LogReader {
    journal: JournalReader,
    ledger: Arc<Ledger>,
}

impl LogStore {
    /// A log over a journal whose frames the ledger already holds.
    pub(super) fn new(
        journal: Journal,
        vote: Option<Cell>,
        ledger: Arc<Ledger>,
        joining: Option<Joining>,
        lock: FolderLock,
    ) -> Self {
        let reader = LogReader { journal: journal.reader(), ledger };
        Self { journal, vote: Mutex::new(vote), joining: Mutex::new(joining), reader, _lock: lock }
    }

    /// A reader of the entries, beside their writer.
    pub(super) fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// A reader of the frames, beside their writer.
    pub(super) fn journal_reader(&self) -> JournalReader {
        self.reader.journal.clone()
    }

    /// Writes the entries and waits until they are durable.
    async fn store(&mut self, entries: Vec<RaftEntry>) -> Result<(), StorageError<u64>> {
        let ledger = self.reader.ledger.clone();
        let mut written = Vec::new();
        for entry in entries {
            let (frame, added) = ledger.append(entry);
            let raft_index = frame.index;
            self.journal.write(&[frame]).map_err(|error| ledger.fatal(&error, StorageIOError::write_logs))?;
            let (first_leaf, leaves) = (added.first_leaf, added.leaves);
            ledger.tell(LogEvent::BatchWritten { raft_index, first_leaf, leaves });
            written.push(raft_index);
        }
        // A crash before this returns may lose the entries or keep any part of them. Nobody was told of them, and
        // recovery either finds them whole or cuts them as a torn tail.
        self.journal.sync().await.map_err(|error| ledger.fatal(&error, StorageIOError::write_logs))?;
        if let Some(joining) = self.joining.get_mut().take() {
            mark!("joined-with-its-first-entry");
            // Noted before anybody is told: a folder that comes back without what it said to hold must be refused.
            joining.begins().await.map_err(|error| ledger.fatal(&error, StorageIOError::write_logs))?;
        }
        ledger.synced();
        written.iter().for_each(|raft_index| ledger.tell(LogEvent::BatchSynced { raft_index: *raft_index }));
        Ok(())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        Ok(LogState { last_purged_log_id: None, last_log_id: self.reader.ledger.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let stored = match self.vote.get_mut() {
            Some(cell) => cell.store(encode_vote(vote)).await,
            None => Err(StoreError::Poisoned),
        };
        stored.map_err(|error| self.reader.ledger.fatal(&error, StorageIOError::write_vote))
    }

    /// Returns the vote as not yet committed, so that a restart never continues a term: this node may have lost
    /// unsynced entries of that term, and would then put other leaves at the same (term, Raft index). Forgetting that
    /// an election was won is safe; forgetting the vote itself would not be.
    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let Some(cell) = self.vote.get_mut() else {
            // This life votes for nobody, but Raft must not start from a term that is older than its log.
            let last = self.reader.ledger.last_log_id();
            return Ok(last.map(|last| Vote::new(last.leader_id.term, last.leader_id.node_id)));
        };
        let Some(bytes) = cell.load() else { return Ok(None) };
        let vote = decode_vote(bytes).map_err(|error| self.reader.ledger.fatal(&error, StorageIOError::read_vote))?;
        Ok(Some(Vote::new(vote.leader_id.term, vote.leader_id.node_id)))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // Collected first: the iterator need not be `Send` across the wait for the disk. Raft itself waits for the
        // callback before it does anything else, so waiting here costs nothing and keeps all writes in order.
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        let stored = self.store(entries).await;
        callback.log_io_completed(stored.as_ref().map(|_| ()).map_err(|error| io::Error::other(error.to_string())));
        stored
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let ledger = self.reader.ledger.clone();
        if ledger.is_signed(log_id.index) {
            let why = io::Error::other(format!("asked to cut the log from {log_id} on, below this node's checkpoint"));
            return Err(ledger.fatal(&why, StorageIOError::write_logs));
        }
        mark!("entries-gave-way");
        // The journal first: a crash in between leaves the shorter log, which the next start hashes anew.
        let cut = self.journal.truncate(log_id.index).await;
        cut.map_err(|error| ledger.fatal(&error, StorageIOError::write_logs))?;
        ledger.truncate(log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let why = io::Error::other(format!("asked to purge the log up to {log_id}: an audit log is never purged"));
        Err(self.reader.ledger.fatal(&why, StorageIOError::write_logs))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageError<u64>> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, StorageError<u64>> {
        self.reader.limited_get_log_entries(start, end).await
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageError<u64>> {
        let (start, end) = self.bounds(&range);
        let mut entries = Vec::new();
        let mut next = start;
        while next < end {
            let some = self.some(next, end).await?;
            if some.is_empty() {
                break;
            }
            next += some.len() as u64;
            entries.extend(some);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, StorageError<u64>> {
        let (start, end) = self.bounds(&(start..end));
        self.some(start, end).await
    }
}

impl LogReader {
    /// At least one entry of `start..end`, if there is one, bounded by bytes.
    async fn some(&self, start: u64, end: u64) -> Result<Vec<RaftEntry>, StorageError<u64>> {
        let (mut taken, mut bytes) = (0, 0);
        let waiting = self.ledger.unapplied(start..end, |entry| {
            (taken, bytes) = (taken + 1, bytes + weight(entry));
            taken == 1 || bytes <= READ_BYTES_MAX
        });
        if !waiting.is_empty() || start >= end {
            return Ok(waiting);
        }
        let frames = match self.journal.read(start, end, READ_BYTES_MAX).await {
            Ok(frames) => frames,
            // A leader that was replaced still reads for its members while another leader's entries take the place of
            // its own: those are gone, but nothing is damaged. Raft makes a heartbeat of an empty read.
            Err(StoreError::Outside { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(self.ledger.fatal(&error, StorageIOError::read_logs)),
        };
        let entries: Result<_, DecodeError> = frames.iter().map(|frame| Ok(decode_frame(frame)?.0)).collect();
        entries.map_err(|error| self.ledger.fatal(&error, StorageIOError::read_logs))
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let next = self.ledger.last_log_id().map_or(0, |last| last.index + 1);
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => next,
        };
        (start, end.min(next))
    }
}

/// Bytes of the entries in a batch; other kinds are small.
fn weight(entry: &RaftEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Proposal::Batch(batch)) => batch.entries.iter().map(|entry| entry.bytes().len()).sum(),
        _ => 0,
    }
}

impl Ledger {
    /// Marks the node as failed and wraps the error for Raft, which then ends itself.
    fn fatal(&self, error: &dyn Display, wrap: fn(AnyError) -> StorageIOError<u64>) -> StorageError<u64> {
        self.fail(format!("the log cannot go on: {error}"));
        wrap(AnyError::error(error)).into()
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, pin::pin};

    use futures::poll;
    use openraft::CommittedLeaderId;

    use super::{
        super::{
            super::store::JournalOptions,
            identity::{JOURNAL, VOTE, lock},
            tests::{bench::Bench, slow::Slow},
        },
        *,
    };
    use gapless_world::Disk;

    async fn log(bench: &Bench) -> LogStore {
        log_on(bench, bench.disk.clone(), 1 << 20).await
    }

    async fn log_on(bench: &Bench, disk: Arc<dyn Disk>, segment_bytes: u64) -> LogStore {
        let world = bench.world();
        let options = JournalOptions { segment_bytes, first_index: 0 };
        let observer = world.observer.clone();
        let journal = Journal::open(disk, observer.clone(), Path::new(JOURNAL), [7; 16], options).await.unwrap();
        let vote = Cell::open(world.disk.clone(), Path::new(VOTE)).await.unwrap();
        let ledger = Arc::new(Ledger::new(bench.settings.clone(), observer));
        LogStore::new(journal, Some(vote), ledger, None, lock(&world).await.unwrap())
    }

    fn id(term: u64, index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn blank(term: u64, index: u64) -> RaftEntry {
        RaftEntry { log_id: id(term, index), payload: EntryPayload::Blank }
    }

    #[tokio::test(start_paused = true)]
    async fn entries_come_back_from_memory_and_from_the_disk() {
        let mut log = log(&Bench::new()).await;
        log.store((0..5).map(|index| blank(1, index)).collect()).await.unwrap();
        // Applied entries are not kept in memory.
        (0..3).for_each(|index| drop(log.reader.ledger.apply(&blank(1, index))));
        let ids = |entries: Vec<RaftEntry>| entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
        assert_eq!(ids(log.try_get_log_entries(1..).await.unwrap()), [1, 2, 3, 4]);
        assert_eq!(ids(log.try_get_log_entries(2..=2).await.unwrap()), [2]);
        assert_eq!(ids(log.try_get_log_entries(4..9).await.unwrap()), [4]);
        assert_eq!(ids(log.limited_get_log_entries(0, 5).await.unwrap())[0], 0);
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsigned_tail_can_be_replaced() {
        let mut log = log(&Bench::new()).await;
        log.store((0..5).map(|index| blank(1, index)).collect()).await.unwrap();
        log.reader.ledger.sign(3);
        log.truncate(id(1, 3)).await.unwrap();
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 2)));
        log.store(vec![blank(2, 3)]).await.unwrap();
        let entries = log.try_get_log_entries(..).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.log_id.leader_id.term).collect::<Vec<_>>(), [1, 1, 1, 2]);
        assert_eq!(log.reader.ledger.failure(), None);
    }

    /// A leader that was replaced reads what it has not sent yet, from segments that are closed, while the tail is cut.
    #[tokio::test(start_paused = true)]
    async fn a_read_that_races_a_truncation_brings_nothing_and_ends_nobody() {
        for (wanted, cut, written_anew) in [(0, 1, 0..0), (2, 1, 1..4)] {
            let bench = Bench::new();
            let mut log = log_on(&bench, Slow::down(bench.disk.clone()).0, 1).await;
            for index in 0..4 {
                log.store(vec![blank(1, index)]).await.unwrap();
                // As after a restart: what is not committed yet is on the disk, and not in memory.
                drop(log.reader.ledger.apply(&blank(1, index)));
            }
            let mut reader = log.reader();
            let mut read = pin!(reader.limited_get_log_entries(wanted, 4));
            assert!(poll!(read.as_mut()).is_pending());
            log.truncate(id(1, cut)).await.unwrap();
            for index in written_anew {
                log.store(vec![blank(2, index)]).await.unwrap();
            }
            assert!(read.await.unwrap().is_empty(), "neither a part nor what another leader wrote in its place");
            assert_eq!(log.reader.ledger.failure(), None);
            assert_eq!(bench.count("corruption-found"), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_below_the_own_checkpoint_is_ever_cut() {
        let mut log = log(&Bench::new()).await;
        log.store((0..5).map(|index| blank(1, index)).collect()).await.unwrap();
        log.reader.ledger.sign(3);
        assert!(log.truncate(id(1, 2)).await.is_err());
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 4)));
        assert!(log.reader.ledger.failure().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn purging_is_refused_and_ends_the_node() {
        let mut log = log(&Bench::new()).await;
        log.store(vec![blank(1, 0)]).await.unwrap();
        assert!(log.purge(id(1, 0)).await.is_err());
        assert!(log.reader.ledger.failure().is_some_and(|why| why.contains("never purged")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_vote_is_durable_and_read_back_as_not_committed() {
        let bench = Bench::new();
        log(&bench).await.save_vote(&Vote::new_committed(4, 1)).await.unwrap();
        bench.disk.power_loss(false);
        assert_eq!(log(&bench).await.read_vote().await.unwrap(), Some(Vote::new(4, 1)));
    }
}
