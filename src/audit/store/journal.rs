//! The journal: the one who writes.
//!
//! A write is submitted to the disk when it is made and awaited by the sync behind it. Operations that take several
//! steps on disk (beginning a new segment, cutting, forgetting) are ordered so that a crash between any two of them
//! leaves files that recovery understands; the order is explained at each step.

use std::{
    future::ready,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, future::Shared};

use super::{
    StoreError,
    frame::Frame,
    reader::JournalReader,
    recovery::Place,
    segment::{self, Point, Segment},
};
use crate::world::{Disk, File, Observer, OpenMode, Pending};

type Outcome = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Within which [`JournalOptions::segment_bytes`] is of use: a file of less than 16 KiB is mostly header and markers
/// (12 KiB), and every sync would begin another; one larger than 64 MiB holds more than any single frame needs. A frame may be
/// larger than its segment: it is never split, the segment is closed behind it.
pub const SEGMENT_BYTES: RangeInclusive<u64> = 16 << 10..=64 << 20;

/// How a journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// A new segment is begun behind the sync in which the newest one grew past this many bytes.
    pub segment_bytes: u64,
    /// Index of the first frame of a new journal; ignored where there is one already.
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

/// What a journal and its readers share.
pub(super) struct Inner {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) observer: Arc<dyn Observer>,
    /// The folder of the segment files.
    pub(super) folder: PathBuf,
    id: [u8; 16],
    segment_bytes: u64,
    state: Mutex<State>,
}

pub(super) struct State {
    /// At least one; the last one is written.
    pub(super) segments: Vec<Segment>,
    /// Frames of a segment whose file is still being created: what its file will hold where its frames begin.
    pub(super) queue: BytesMut,
    /// A write or sync failed.
    pub(super) poisoned: bool,
    /// It was opened to be read.
    read_only: bool,
    /// A change of several steps is under way, or its future was dropped between two of them.
    changing: bool,
    /// Submitted and not yet awaited.
    writes: Vec<Pending<()>>,
    /// The newest sync: the next one awaits it first, so that a failure whose future was dropped is not forgotten.
    last_sync: Option<Shared<Outcome>>,
    /// The creation of a new segment.
    roll: Option<Shared<Outcome>>,
}

impl Journal {
    /// Opens or creates the journal in `folder`. `id` (of the log or the outbox) stands in each segment's header and
    /// must match. Runs recovery, and tells `observer` of a torn tail or of corruption. All frames that are there
    /// afterwards are durable.
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

    /// The same, once `accepts` has seen the last whole frame. What it refuses is left as it is: a torn tail that is not cut
    /// can still be restored.
    ///
    /// # Errors
    /// Also those of `accepts`.
    pub(in crate::audit) async fn open_if<E: From<StoreError>>(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        id: [u8; 16],
        options: JournalOptions,
        accepts: impl FnOnce(Option<&Frame>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let place = Place { disk: &*disk, observer: &*observer, folder, id };
        let segments = place.recover(options.first_index, accepts).await?;
        Ok(Self::over(disk.clone(), observer.clone(), place.segments(), id, options.segment_bytes, segments))
    }

    /// Opens what is sound of a journal that [`open`](Self::open) refuses: the frames before the first damage, with
    /// `durable` only those that a sync made so. Nothing is changed on disk, and nothing can be: it takes no writes. Answers
    /// the damage beside it, if there is any.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [`StoreError::Corrupt`].
    pub(in crate::audit) async fn open_sound(
        disk: Arc<dyn Disk>,
        observer: Arc<dyn Observer>,
        folder: &Path,
        id: [u8; 16],
        durable: bool,
    ) -> Result<(Self, Option<StoreError>), StoreError> {
        let place = Place { disk: &*disk, observer: &*observer, folder, id };
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

    /// Index of the oldest frame kept, or of the next one where there is none. A journal that never forgets and whose
    /// first index is not the one it was created with has lost its oldest segments.
    pub fn first_index(&self) -> u64 {
        self.inner.lock().first_index()
    }

    /// Index and term of the newest frame.
    pub fn last(&self) -> Option<(u64, u64)> {
        let state = self.inner.lock();
        let newest = state.segments.iter().rev().find_map(|segment| segment.places.last())?;
        Some((state.next_index() - 1, newest.term))
    }

    /// Index of the next frame to be written.
    pub fn next_index(&self) -> u64 {
        self.inner.lock().next_index()
    }

    /// Submits the write of consecutive frames. They can be read at once, and are durable only behind a
    /// [`sync`](Self::sync), which also tells where a write failed.
    ///
    /// # Errors
    /// [`StoreError::NotConsecutive`] and [`StoreError::Oversize`] write nothing; [`StoreError::Poisoned`].
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
    /// After an error nothing is known about what was written since the last sync. The journal is poisoned: every
    /// later call answers [`StoreError::Poisoned`]. Nothing is retried.
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

    /// Frames of `start..end`, see [`JournalReader::read`].
    pub fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Frame>, StoreError>> + Send>> {
        self.reader().read(start, end, bytes_max)
    }

    /// Reads beside the journal, and sees what is written later too.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(self.inner.clone())
    }

    /// Cuts all frames with an index of `from` or more; nothing where there are none. Durable when it returns. A crash
    /// before that leaves either the frames before `from`, or some or all of the others too.
    ///
    /// # Errors
    /// [`StoreError::Outside`] where `from` is before the first index. Any other error, or dropping the future before
    /// it resolves, poisons the journal.
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
    /// Lets go of futures that hold what holds them. What they stand for was submitted and takes effect nevertheless.
    fn drop(&mut self) {
        let (roll, last_sync) = {
            let mut state = self.inner.lock();
            (state.roll.take(), state.last_sync.take())
        };
        drop((roll, last_sync));
    }
}

impl State {
    pub(super) fn first_index(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.first)
    }

    pub(super) fn next_index(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end().next)
    }

    /// Whether all frames of the oldest segment, which is not the newest, have a smaller index.
    fn oldest_is_before(&self, index: u64) -> bool {
        self.segments.get(1).is_some_and(|second| second.first <= index)
    }

    fn forget_oldest(&mut self, index: u64) -> Option<u64> {
        self.oldest_is_before(index).then(|| self.segments.remove(0).first)
    }

    fn newest(&mut self) -> &mut Segment {
        // Recovery gives at least one segment, and `truncate` and `forget_before` leave one.
        self.segments.last_mut().expect("a journal has a segment")
    }
}

/// What a sync will have made durable.
#[derive(Clone, Copy)]
struct Target {
    /// First index of the segment.
    segment: u64,
    through: Point,
    /// The newest marker that was submitted before the sync.
    generation: u64,
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed only by code that cannot panic half way, so a poisoned mutex still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless an earlier failure spoilt it.
    fn usable(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.poisoned || state.read_only || state.changing { Err(StoreError::Poisoned) } else { Ok(state) }
    }

    /// The sync that had to wait for a segment to be created.
    fn sync_behind_roll(self: &Arc<Self>) -> Result<Shared<Outcome>, StoreError> {
        let mut state = self.lock();
        if state.poisoned {
            return Err(StoreError::Poisoned);
        }
        if state.changing {
            // A change of several steps begins with a sync of all that was written.
            return Ok((Box::pin(ready(Ok(()))) as Outcome).shared());
        }
        Ok(self.submit_sync(&mut state))
    }

    /// Submits a sync of the newest segment, and behind it, where that is full, the creation of the next.
    fn submit_sync(self: &Arc<Self>, state: &mut State) -> Shared<Outcome> {
        let position = state.segments.len() - 1;
        let sync = self.submit_sync_of(state, position);
        let end = state.newest().end();
        if end.offset > self.segment_bytes && end.next > state.newest().first {
            let roll: Outcome = Box::pin(self.clone().roll(sync.clone(), end));
            state.roll = Some(roll.shared());
            // Frames that are written from now on belong to the new segment and wait in the queue for its file.
            state.segments.push(Segment::new(end.next, end.chain));
        }
        sync
    }

    fn submit_sync_of(self: &Arc<Self>, state: &mut State, position: usize) -> Shared<Outcome> {
        let before = state.last_sync.take();
        let writes = std::mem::take(&mut state.writes);
        let segment = &state.segments[position];
        let target = Target { segment: segment.first, through: segment.end(), generation: segment.slots.generation };
        let path = segment::path_of(&self.folder, segment.first);
        let Some(file) = segment.file.clone() else {
            // Only the newest segment is synced, and only when it has its file.
            state.poisoned = true;
            return (Box::pin(ready(Err(StoreError::Poisoned))) as Outcome).shared();
        };
        let sync = file.sync();
        let inner = self.clone();
        let outcome: Outcome = Box::pin(async move {
            if let Some(before) = before {
                before.await?;
            }
            let done = async {
                for write in writes {
                    write.await.map_err(StoreError::io("write", &path))?;
                }
                sync.await.map_err(StoreError::io("sync", &path))
            };
            inner.synced(done.await, target)
        });
        let outcome = outcome.shared();
        state.last_sync = Some(outcome.clone());
        outcome
    }

    /// A sync ended: the marker says so, or the journal is poisoned.
    fn synced(&self, outcome: Result<(), StoreError>, target: Target) -> Result<(), StoreError> {
        let mut state = self.lock();
        let state = &mut *state;
        if outcome.is_err() {
            mark!("journal-poisoned");
            state.poisoned = true;
        }
        outcome?;
        let Some(segment) = state.segments.iter_mut().rev().find(|segment| segment.first == target.segment) else {
            return Ok(());
        };
        segment.marked(target.generation);
        if target.through.next <= segment.synced.next {
            return Ok(());
        }
        segment.synced = target.through;
        if let Some(file) = segment.file.clone() {
            // Becomes durable with the next sync. A crash before that leaves the marker before it: then these frames
            // are read as whole frames above the marker, and kept.
            let (offset, marker) = segment.mark(target.through);
            state.writes.push(file.write_at(offset, marker));
        }
        Ok(())
    }

    /// Begins a new segment behind the newest one, which ends at `end`.
    async fn roll(self: Arc<Self>, synced: Shared<Outcome>, end: Point) -> Result<(), StoreError> {
        synced.await?;
        // The final marker must be durable before the next segment exists: recovery takes a segment that is not the
        // last as closed, and everything in it as promised.
        let closed = {
            let mut state = self.lock();
            let position = state.segments.len() - 2;
            self.submit_sync_of(&mut state, position)
        };
        closed.await?;
        let segment = Segment::new(end.next, end.chain);
        mark!("segment-begun");
        let created = segment::create(&*self.disk, &self.folder, self.id, &segment).await;
        let mut state = self.lock();
        state.poisoned |= created.is_err();
        self.begin(&mut state, created?);
        Ok(())
    }

    /// The new segment has its file: what waited for it is submitted.
    fn begin(&self, state: &mut State, file: Arc<dyn File>) {
        let queue = std::mem::take(&mut state.queue).freeze();
        if !queue.is_empty() {
            let frames_at = state.newest().layout.frames_at();
            state.writes.push(file.write_at(frames_at, queue));
        }
        state.segments.iter_mut().for_each(|segment| segment.file = None);
        state.newest().file = Some(file);
        state.roll = None;
    }

    async fn remove(&self, first: u64) -> Result<(), StoreError> {
        let path = segment::path_of(&self.folder, first);
        self.disk.remove(&path).await.map_err(StoreError::io("remove", &path))?;
        self.disk.sync_folder(&self.folder).await.map_err(StoreError::io("sync", &self.folder))
    }

    /// Cuts the newest segment before frame `from`; everything in it is synced.
    async fn cut_newest(&self, from: u64) -> Result<(), StoreError> {
        let (path, file) = {
            let mut state = self.lock();
            let segment = state.newest();
            (segment::path_of(&self.folder, segment.first), segment.file.clone())
        };
        let file = match file {
            Some(file) => file,
            None => self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?,
        };
        // The marker goes down first: a crash behind it leaves whole frames above the marker, which are kept. The other
        // way round would leave a file that is shorter than its marker, which is corruption.
        let (marker, writes) = self.lower_marker(&file, from);
        for write in writes {
            write.await.map_err(StoreError::io("write", &path))?;
        }
        file.write_at(marker.0, marker.1).await.map_err(StoreError::io("write", &path))?;
        file.sync().await.map_err(StoreError::io("sync", &path))?;
        let end = {
            let mut state = self.lock();
            let segment = state.newest();
            segment.marked(segment.slots.generation);
            segment.end()
        };
        file.truncate(end.offset).await.map_err(StoreError::io("truncate", &path))?;
        file.sync().await.map_err(StoreError::io("sync", &path))
    }

    /// Forgets the places from `from` on; answers the marker that says so, and what was submitted before it.
    fn lower_marker(&self, file: &Arc<dyn File>, from: u64) -> ((u64, Bytes), Vec<Pending<()>>) {
        let mut state = self.lock();
        let writes = std::mem::take(&mut state.writes);
        state.last_sync = None;
        let segment = state.newest();
        let keep = usize::try_from(from - segment.first).unwrap_or(usize::MAX);
        segment.places.truncate(keep);
        segment.synced = segment.end();
        segment.file = Some(file.clone());
        (segment.mark(segment.end()), writes)
    }
}
