//! Reads: leaves, receipts and proofs, only of what is committed.
//!
//! Leaves are read back from the journal, encoded anew, and compared with the hashes that were taken when they were
//! appended. A leaf that differs is never served: it is corruption, and the reader gets an error. A member of a cluster
//! of several then ends, and its next start repairs it. A log of one goes on serving what verifies, and takes no more
//! entries; for damage that its start finds, see `damaged`.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{
    super::{
        leaf::Index,
        store::{Frame, JournalReader},
        tree::Hash,
        wire,
    },
    NodeError, SignedCheckpoint,
    ledger::Ledger,
    recovery::tell_corruption,
    types::{decode_frame, leaves},
};

/// The most leaves in one answer.
const READ_LEAVES_MAX: usize = 1024;
/// Bytes of frames that one read of the disk brings; a larger frame comes alone.
const DISK_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub(super) struct Reads {
    ledger: Arc<Ledger>,
    journal: JournalReader,
    /// For a log of one: the Raft index of a frame that was found damaged, and what was found.
    damaged: Mutex<Option<(u64, String)>>,
}

impl Reads {
    pub(super) fn new(ledger: Arc<Ledger>, journal: JournalReader) -> Self {
        Self { ledger, journal, damaged: Mutex::default() }
    }

    /// Committed leaves from `start` on: at least one unless `start` is the size, at most `limit` (0 = as many as one
    /// answer may hold), and no more than `bytes_max` bytes unless the first leaf alone is larger.
    pub(super) async fn read(&self, start: u64, limit: u32, bytes_max: usize) -> Result<Vec<Bytes>, NodeError> {
        let size = *self.ledger.committed().borrow();
        if start > size {
            return Err(NodeError::PastEnd { index: start, size });
        }
        let limit = match limit as usize {
            0 => READ_LEAVES_MAX,
            limit => limit.min(READ_LEAVES_MAX),
        };
        let mut read = Vec::new();
        let mut bytes = 0;
        while read.len() < limit && start + (read.len() as u64) < size {
            for leaf in self.rest_of_frame(start + read.len() as u64).await? {
                bytes += leaf.len();
                if read.len() >= limit || (bytes > bytes_max && !read.is_empty()) {
                    return Ok(read);
                }
                read.push(leaf);
            }
        }
        Ok(read)
    }

    /// Proof that leaf `index` is in the log for good, under the newest checkpoint.
    pub(super) async fn receipt(
        &self,
        index: Index,
        known_size: u64,
        repeated: bool,
    ) -> Result<wire::Receipt, NodeError> {
        let Index(index) = index;
        let newest = self.ledger.checkpoint().borrow().clone();
        let size = newest.as_ref().map_or(0, |newest| newest.checkpoint.size);
        let Some(SignedCheckpoint { note, .. }) = newest.filter(|_| index < size) else {
            return Err(NodeError::PastEnd { index, size });
        };
        let leaf = self.rest_of_frame(index).await?.next();
        let leaf = leaf.ok_or_else(|| NodeError::Corrupt(format!("leaf {index} is in no frame")))?;
        let inclusion = self.ledger.inclusion(index, size).map(bytes_of).ok_or(NodeError::PastEnd { index, size })?;
        // From size 0 nothing needs proof. A client that knows a larger size saw a longer log than this one: it gets no
        // proof, and notices that the log went back.
        let consistency = match known_size {
            0 => None,
            known => self.ledger.consistency(known, size),
        };
        let consistency = consistency.map(bytes_of).unwrap_or_default();
        Ok(wire::Receipt { index, leaf, checkpoint: note, inclusion, consistency, repeated })
    }

    /// The leaves from `index` to the end of its frame.
    async fn rest_of_frame(&self, index: u64) -> Result<impl Iterator<Item = Bytes> + use<>, NodeError> {
        let place = self.ledger.place(index).ok_or(NodeError::PastEnd { index, size: self.ledger.size() })?;
        let leaves = match self.ledger.recent(place.raft_index) {
            Some(leaves) => leaves,
            None => self.load(place.raft_index).await?,
        };
        let rest: Range<usize> = place.position..leaves.len();
        Ok(rest.map(move |at| leaves[at].clone()))
    }

    /// Frames from `from` on whose leaves are all among the first `size`: at least one if there is one, and beyond that
    /// no more than `bytes_max` bytes.
    pub(super) async fn covered(&self, from: u64, size: u64, bytes_max: usize) -> Result<Vec<Frame>, NodeError> {
        let last = size.checked_sub(1).and_then(|leaf| self.ledger.place(leaf));
        let Some(last) = last.filter(|last| from <= last.raft_index) else { return Ok(Vec::new()) };
        let frames = self.journal.read(from, last.raft_index + 1, bytes_max).await;
        frames.map_err(NodeError::from).inspect_err(|error| self.notice(from, error))
    }

    /// Reports the error that a read found. Where it is damage, the node must not go on as if nothing had happened.
    fn notice(&self, raft_index: u64, error: &NodeError) {
        tell_corruption(&*self.ledger.observer, error);
        if !error.is_damage() {
            return;
        }
        if self.ledger.settings.cluster.is_some() {
            mark!("damage-ends-a-member");
            return self.ledger.fail(format!("a read found damage, which the next start repairs: {error}"));
        }
        *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) = Some((raft_index, error.to_string()));
    }

    /// What is wrong with this log of one, if a read found damage that is still there.
    pub(super) async fn damage(&self) -> Option<String> {
        let (raft_index, why) = self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        if self.load_along(raft_index).await.is_err() {
            return Some(why);
        }
        mark!("damage-was-mended");
        *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) = None;
        None
    }

    /// Reads and verifies a frame from the disk, and the frames after it that come along. Where one of these is
    /// damaged, the frame is read alone: it may be sound.
    async fn load(&self, raft_index: u64) -> Result<Arc<[Bytes]>, NodeError> {
        match self.load_along(raft_index).await {
            Err(error) if error.is_damage() => {
                mark!("damage-beside-what-was-read");
                self.notice(raft_index, &error);
                self.load_some(raft_index, raft_index + 1, 0).await
            }
            loaded => loaded,
        }
    }

    async fn load_along(&self, raft_index: u64) -> Result<Arc<[Bytes]>, NodeError> {
        // Only shown frames come along. What follows them may be cut, and other leaves written in its place, while the
        // read is under way; a healthy log would then look damaged.
        let last_shown = self.shown().checked_sub(1).and_then(|leaf| self.ledger.place(leaf));
        let end = last_shown.map_or(raft_index, |place| place.raft_index.max(raft_index)) + 1;
        // Frames that come along are only useful if they are kept until they are read. Their leaves take more room in
        // memory than on the disk, and if they filled the cache, the last ones would evict the first ones, which are
        // read next.
        let bytes = DISK_BYTES_MAX.min(self.ledger.cache.limit_len() / 4);
        self.load_some(raft_index, end, bytes).await
    }

    /// Reads frames, at least one, and verifies all of them. Returns the leaves of the first.
    async fn load_some(&self, raft_index: u64, end: u64, bytes_max: usize) -> Result<Arc<[Bytes]>, NodeError> {
        mark!("leaves-read-from-disk");
        let frames = self.journal.read(raft_index, end, bytes_max).await?;
        let mut wanted = None;
        for frame in &frames {
            let (entry, _) = decode_frame(frame)?;
            let read: Arc<[Bytes]> = leaves(&entry).into();
            if let Err(index) = self.ledger.verify(entry.log_id.index, read.clone()) {
                let what = format!("leaf {index} in entry {} is not what was hashed", entry.log_id.index);
                return Err(NodeError::Corrupt(what));
            }
            if entry.log_id.index == raft_index {
                wanted = Some(read);
            }
        }
        wanted.ok_or_else(|| NodeError::Corrupt(format!("entry {raft_index} of the log cannot be read")))
    }

    /// Audit path, if the tree of `size` leaves is committed.
    pub(super) fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        self.ledger.inclusion(index, size).filter(|_| size <= self.shown())
    }

    /// Consistency proof, if the tree of `new` leaves is committed.
    pub(super) fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        self.ledger.consistency(old, new).filter(|_| new <= self.shown())
    }

    /// Size of the newest checkpoint: a client that was given it can ask for proofs of it before anybody is told of its
    /// leaves.
    fn shown(&self) -> u64 {
        self.ledger.checkpoint().borrow().as_ref().map_or(0, |newest| newest.checkpoint.size)
    }
}

fn bytes_of(hashes: Vec<Hash>) -> Vec<Bytes> {
    hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::poll;
    use openraft::{CommittedLeaderId, EntryPayload, LogId};
    use tokio::sync::watch;

    use super::{
        super::{
            super::{budget::MEMORY_DEFAULT, note::SigningKey, store::Journal},
            ClusterSettings, NodeSettings,
            identity::JOURNAL,
            tests::{bench::Bench, slow::Slow},
            types::RaftEntry,
        },
        *,
    };
    use crate::store::JournalOptions;
    use gapless_world::tls::Identity;

    /// A member's journal and the ledger over it.
    struct Log {
        journal: Journal,
        ledger: Arc<Ledger>,
        bench: Bench,
    }

    impl Log {
        async fn write(&mut self, term: u64, indexes: std::ops::Range<u64>) {
            for index in indexes {
                let log_id = LogId::new(CommittedLeaderId::new(term, term), index);
                let (frame, _) = self.ledger.append(RaftEntry { log_id, payload: EntryPayload::Blank });
                self.journal.write(&[frame]).unwrap();
            }
            self.journal.sync().await.unwrap();
            self.ledger.synced();
        }

        async fn cut(&mut self, from: u64) {
            self.journal.truncate(from).await.unwrap();
            self.ledger.truncate(from);
        }
    }

    /// A log on a slow disk, whose reads are counted. It may keep nothing in memory until the budget says so.
    async fn log() -> (Log, Reads, watch::Sender<u64>, Arc<AtomicUsize>) {
        let bench = Bench::new();
        let ((disk, counted), observer) = (Slow::down(bench.disk.clone()), bench.world().observer);
        let nothing = Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() };
        let cosigner = Arc::new(SigningKey::from_seed(&[11; 32]));
        let cluster = Some(ClusterSettings { identity: nothing.fixed(), cosigner, contacts: Vec::new() });
        let (budget, memory) = watch::channel(0);
        let ledger =
            Arc::new(Ledger::new(NodeSettings { cluster, memory, ..bench.settings.clone() }, observer.clone()));
        let journal =
            Journal::open(disk, observer, Path::new(JOURNAL), [7; 16], JournalOptions::default()).await.unwrap();
        let reads = Reads::new(ledger.clone(), journal.reader());
        (Log { journal, ledger, bench }, reads, budget, counted)
    }

    fn show(ledger: &Ledger, raft_index: u64) {
        ledger.sign(raft_index);
        let signed = ledger.signed().borrow().clone().unwrap();
        ledger.publish(signed);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_in_order_has_each_part_of_the_disk_read_once_whatever_the_cache_holds() {
        for budget in [32 << 10, 64 << 10, 256 << 10, MEMORY_DEFAULT] {
            let (mut log, reads, memory, counted) = log().await;
            log.write(1, 0..2_000).await;
            show(&log.ledger, 2_000);
            memory.send_replace(budget);
            log.ledger.cache.budget_changed();
            counted.store(0, Ordering::Relaxed);
            let mut start = 0;
            while start < 2_000 {
                start += reads.read(start, 16, 1 << 20).await.unwrap().len() as u64;
            }
            let (frames, counted) = (2_000, counted.load(Ordering::Relaxed));
            assert!(counted < frames / 8, "{counted} reads of the disk for {frames} frames with a memory of {budget}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_races_a_truncation_finds_no_damage() {
        let (mut log, reads, budget, _) = log().await;
        let ledger = log.ledger.clone();
        log.write(1, 0..4).await;
        budget.send_replace(MEMORY_DEFAULT);

        // Two of the four are shown. A new leader replaces the others while a reader waits for the disk.
        show(&ledger, 2);
        let mut read = pin!(reads.read(0, 0, 1 << 20));
        assert!(poll!(read.as_mut()).is_pending());
        log.cut(2).await;
        log.write(2, 2..3).await;

        assert_eq!(read.await.unwrap().len(), 2);
        assert_eq!(ledger.failure(), None);
        assert_eq!(log.bench.count("corruption-found"), 0);
    }
}
