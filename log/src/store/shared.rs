//! What a journal and its readers share: the segments, and what is under way on the disk.
//!
//! Writes and syncs are submitted in order; a sync awaits the one before it, so that no failure is forgotten. The order
//! in which a segment is closed and the next one begun is explained at each step.

use std::{
    future::ready,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, future::Shared};
use gapless_world::{Disk, File, Observer, OpenMode, Pending};

use super::{
    StoreError,
    segment::{self, Point, Segment},
};

pub(super) type Outcome = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A journal without its one writer.
pub(super) struct Inner {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) observer: Arc<dyn Observer>,
    /// The folder of the segment files.
    pub(super) folder: PathBuf,
    pub(super) id: [u8; 16],
    pub(super) segment_bytes: u64,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    /// At least one; writes go to the last one.
    pub(super) segments: Vec<Segment>,
    /// The frames of a segment whose file is still being created, as they will stand at the beginning of the frames
    /// there.
    pub(super) queue: BytesMut,
    /// A write or sync failed.
    pub(super) poisoned: bool,
    /// Whether it was opened only to be read.
    pub(super) read_only: bool,
    /// A change of several steps is under way, or its future was dropped between two of them.
    pub(super) changing: bool,
    /// Writes that were submitted and not yet awaited.
    pub(super) writes: Vec<Pending<()>>,
    /// The newest sync: the next one awaits it first, so that a failure whose future was dropped is not forgotten.
    pub(super) last_sync: Option<Shared<Outcome>>,
    /// The creation of a new segment.
    pub(super) roll: Option<Shared<Outcome>>,
}

impl State {
    pub(super) fn first_index(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.first)
    }

    pub(super) fn next_index(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end().next)
    }

    /// Returns whether the oldest segment is not the newest, and all of its frames have a smaller index.
    pub(super) fn oldest_is_before(&self, index: u64) -> bool {
        self.segments.get(1).is_some_and(|second| second.first <= index)
    }

    pub(super) fn forget_oldest(&mut self, index: u64) -> Option<u64> {
        self.oldest_is_before(index).then(|| self.segments.remove(0).first)
    }

    pub(super) fn newest(&mut self) -> &mut Segment {
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
        // The state is changed only by code that cannot panic halfway, so a poisoned mutex still guards a consistent
        // state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state, unless an earlier failure spoilt it.
    pub(super) fn usable(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.poisoned || state.read_only || state.changing { Err(StoreError::Poisoned) } else { Ok(state) }
    }

    /// Submits the sync that had to wait for a segment to be created.
    pub(super) fn sync_behind_roll(self: &Arc<Self>) -> Result<Shared<Outcome>, StoreError> {
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

    /// Submits a sync of the newest segment and, if that segment is full, the creation of the next one behind it.
    pub(super) fn submit_sync(self: &Arc<Self>, state: &mut State) -> Shared<Outcome> {
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

    /// Notes that a sync ended: the marker says so, or the journal is poisoned.
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
            // This marker becomes durable with the next sync. A crash before that leaves the one before: these frames
            // are then read as whole frames above that marker, and kept.
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

    /// Gives the new segment its file, and submits the frames that waited for it.
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

    pub(super) async fn remove(&self, first: u64) -> Result<(), StoreError> {
        let path = segment::path_of(&self.folder, first);
        self.disk.remove(&path).await.map_err(StoreError::io("remove", &path))?;
        self.disk.sync_folder(&self.folder).await.map_err(StoreError::io("sync", &self.folder))
    }

    /// Cuts the newest segment before frame `from`; everything in it is synced.
    pub(super) async fn cut_newest(&self, from: u64) -> Result<(), StoreError> {
        let (path, file) = {
            let mut state = self.lock();
            let segment = state.newest();
            (segment::path_of(&self.folder, segment.first), segment.file.clone())
        };
        let file = match file {
            Some(file) => file,
            None => self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?,
        };
        // The marker goes down first: a crash after that leaves whole frames above the marker, which are kept. The
        // other order would leave a file that is shorter than its marker says, which is corruption.
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

    /// Forgets the places from `from` on. Returns the marker that says so, and the writes that were submitted before
    /// it.
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
