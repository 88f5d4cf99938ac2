//! The journal as its one writer sees it.
//!
//! A write is submitted to the disk when it is made, and awaited by the next sync. Operations that take several steps
//! on disk (beginning a new segment, cutting, forgetting) are ordered so that a crash between any two of them leaves
//! files that recovery understands; the order is explained at each step.

use std::{
    future::ready,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use gapless_world::{Disk, Observer};

use super::{
    StoreError,
    frame::Frame,
    reader::JournalReader,
    recovery::JournalPlace,
    segment::Segment,
    shared::{Inner, State},
};

/// The useful range of [`JournalOptions::segment_bytes`]: a file of less than 16 KiB is mostly header and markers (12
/// KiB), and every sync would begin another file; one larger than 64 MiB holds more than any single frame needs. A
/// frame may be larger than its segment: it is never split, and the segment is closed behind it.
pub const SEGMENT_BYTES: RangeInclusive<u64> = 16 << 10..=64 << 20;

/// How a journal is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// A new segment is begun after the sync in which the newest one exceeds this many bytes.
    pub segment_bytes: u64,
    /// Index of the first frame of a new journal; ignored if there is a journal already.
    pub first_index: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 * 1024 * 1024, first_index: 0 }
    }
}

/// Frames in segment files. Owned by one task; [`JournalReader`]s read beside it.
pub struct Journal {
    inner: Arc<Inner>,
}

impl Journal {
    /// Opens or creates the journal in `folder`. `id` (of the log or the outbox) stands in each segment's header and
    /// must match. Runs recovery, and tells `observer` of a torn tail or of corruption. All frames that are left are
    /// durable.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::WrongIdentity`] and [`StoreError::UnknownVersion`] leave the files as
    /// they are. After [`StoreError::Io`] recovery may be tried again.
    pub async fn open(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        id: [u8; 16],
        options: JournalOptions,
    ) -> Result<Self, StoreError> {
        Self::open_if(disk, observer, folder, id, options, |_| Ok(())).await
    }

    /// Does the same, once `accepts` has seen the last whole frame. A journal that it refuses is left as it is: a torn
    /// tail that is not cut can still be restored.
    ///
    /// # Errors
    /// Also those of `accepts`.
    pub(crate) async fn open_if<E: From<StoreError>>(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        id: [u8; 16],
        options: JournalOptions,
        accepts: impl FnOnce(Option<&Frame>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let place = JournalPlace { disk: &*disk, observer: &*observer, folder, id };
        let segments = place.recover(options.first_index, accepts).await?;
        Ok(Self::over(disk.clone(), observer.clone(), place.segments(), id, options.segment_bytes, segments))
    }

    /// Opens the sound part of a journal that [`open`](Self::open) refuses: the frames before the first damage or, with
    /// `durable`, only those of them that a sync made durable. Nothing is changed on disk, and nothing can be: the
    /// journal takes no writes. Also returns the damage, if there is any.
    ///
    /// # Errors
    /// As for [`open`](Self::open), except [`StoreError::Corrupt`].
    pub(crate) async fn open_sound(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        id: [u8; 16],
        durable: bool,
    ) -> Result<(Self, Option<StoreError>), StoreError> {
        let place = JournalPlace { disk: &*disk, observer: &*observer, folder, id };
        let (mut segments, damage) = place.sound().await?;
        if durable {
            segments.iter_mut().for_each(|segment| segment.cut(segment.synced.next));
        }
        if segments.is_empty() {
            segments.push(Segment::new(0, 0));
        }
        let journal = Self::over(disk.clone(), observer.clone(), place.segments(), id, u64::MAX, segments);
        journal.inner.lock().read_only = true;
        Ok((journal, damage))
    }

    fn over(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: PathBuf,
        id: [u8; 16],
        segment_bytes: u64,
        segments: Vec<Segment>,
    ) -> Self {
        let state = State {
            segments,
            queue: BytesMut::new(),
            poisoned: false,
            read_only: false,
            changing: false,
            writes: Vec::new(),
            last_sync: None,
            roll: None,
        };
        Self { inner: Arc::new(Inner { disk, observer, folder, id, segment_bytes, state: Mutex::new(state) }) }
    }

    /// Returns the index of the oldest frame kept, or of the next frame if there is none. A journal that never forgets
    /// and whose first index is not the one it was created with has lost its oldest segments.
    pub fn first_index(&self) -> u64 {
        self.inner.lock().first_index()
    }

    /// Returns the index and the term of the newest frame.
    pub fn last(&self) -> Option<(u64, u64)> {
        let state = self.inner.lock();
        let newest = state.segments.iter().rev().find_map(|segment| segment.places.last())?;
        Some((state.next_index() - 1, newest.term))
    }

    /// Returns the index of the next frame to be written.
    pub fn next_index(&self) -> u64 {
        self.inner.lock().next_index()
    }

    /// Submits the write of consecutive frames. They can be read at once, but are durable only after a
    /// [`sync`](Self::sync), which also reports a write that failed.
    ///
    /// # Errors
    /// [`StoreError::NotConsecutive`] and [`StoreError::Oversize`], after which nothing was written;
    /// [`StoreError::Poisoned`].
    pub fn write(&mut self, frames: &[Frame]) -> Result<(), StoreError> {
        let mut state = self.inner.usable()?;
        for (expected, frame) in (state.next_index()..).zip(frames) {
            if frame.index != expected {
                return Err(StoreError::NotConsecutive { expected, found: frame.index });
            }
            frame.check_size()?;
        }
        let mut bytes = BytesMut::with_capacity(frames.iter().map(Frame::encoded_bytes).sum());
        let segment = state.newest();
        let offset = segment.end().offset;
        for frame in frames {
            let encoded = frame.encode(&mut bytes);
            segment.push(encoded, frame.term);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        match segment.file.clone() {
            Some(file) => state.writes.push(file.write_at(offset, bytes.freeze())),
            None => state.queue.extend_from_slice(&bytes),
        }
        Ok(())
    }

    /// Submits the sync of everything written so far; the future resolves once all of it is durable. The sync takes
    /// place even if the future is dropped, except behind a segment that is still being created.
    ///
    /// After an error nothing is known about what was written since the last sync. The journal is poisoned: every later
    /// call returns [`StoreError::Poisoned`]. Nothing is retried.
    pub fn sync(&mut self) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> {
        let mut state = match self.inner.usable() {
            Ok(state) => state,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        match state.roll.clone() {
            None => Box::pin(self.inner.submit_sync(&mut state)),
            Some(roll) => {
                drop(state);
                mark!("sync-behind-a-new-segment");
                let inner = self.inner.clone();
                Box::pin(async move {
                    roll.await?;
                    inner.sync_behind_roll()?.await
                })
            }
        }
    }

    /// Reads the frames of `start..end`, see [`JournalReader::read`].
    pub fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Frame>, StoreError>> + Send>> {
        self.reader().read(start, end, bytes_max)
    }

    /// Returns a reader that works beside the journal, and also sees what is written later.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(self.inner.clone())
    }

    /// Cuts all frames with an index of `from` or more, if there are any. The cut is durable when this returns. A crash
    /// before that leaves the frames before `from`, and perhaps some or all of the others.
    ///
    /// # Errors
    /// [`StoreError::Outside`] if `from` is before the first index. Any other error, or dropping the future before it
    /// resolves, poisons the journal.
    pub async fn truncate(&mut self, from: u64) -> Result<(), StoreError> {
        self.settle().await?;
        let (doomed, next) = {
            let mut state = self.inner.usable()?;
            let (first, next) = (state.first_index(), state.next_index());
            if from < first {
                return Err(StoreError::Outside { index: from, first, next });
            }
            state.changing = from < next;
            (state.segments.iter().skip(1).filter(|segment| segment.first >= from).count(), next)
        };
        if from >= next {
            return Ok(());
        }
        mark!("journal-cut");
        for _ in 0..doomed {
            mark!("segment-cut-whole");
            // Newest first, each durably: a crash in between leaves a shorter journal, never one with a hole.
            let removed = self.inner.lock().segments.pop();
            if let Some(segment) = removed {
                self.inner.remove(segment.first).await?;
            }
        }
        self.inner.cut_newest(from).await?;
        self.inner.lock().changing = false;
        Ok(())
    }

    /// Removes whole segments whose frames all have an index smaller than `index`; the newest segment always stays.
    /// For outboxes: a log never forgets. A crash leaves some of the removed segments, never a hole.
    ///
    /// # Errors
    /// Any error, or dropping the future before it resolves, poisons the journal.
    pub async fn forget_before(&mut self, index: u64) -> Result<(), StoreError> {
        if !self.inner.usable()?.oldest_is_before(index) {
            return Ok(());
        }
        self.settle().await?;
        self.inner.usable()?.changing = true;
        loop {
            let forgotten = self.inner.lock().forget_oldest(index);
            let Some(first) = forgotten else { break };
            mark!("segment-forgotten");
            // Oldest first, each durably, for the same reason as in `truncate`.
            self.inner.remove(first).await?;
        }
        self.inner.lock().changing = false;
        Ok(())
    }

    /// Waits until everything written is durable and no segment is being created.
    async fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            self.sync().await?;
            let roll = self.inner.lock().roll.clone();
            match roll {
                Some(roll) => roll.await?,
                None => return Ok(()),
            }
        }
    }
}

impl Drop for Journal {
    /// Lets go of futures that hold what holds them. Operations that they submitted take effect nevertheless.
    fn drop(&mut self) {
        let (roll, last_sync) = {
            let mut state = self.inner.lock();
            (state.roll.take(), state.last_sync.take())
        };
        drop((roll, last_sync));
    }
}
