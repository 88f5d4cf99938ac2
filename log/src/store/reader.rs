//! Reading a journal beside its writer.
//!
//! A read returns what the journal held when it was asked, unsynced frames included: their owner needs them before they
//! are durable, and must not show them to anybody else. Each frame's checksum is verified again, since disks rot while
//! processes run.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use gapless_world::{OpenMode, Pending};

use super::{
    StoreError,
    frame::{Frame, LENGTH_BYTES},
    recovery::tell_corruption,
    segment::{self, FramePlace},
    shared::{Inner, State},
};

/// Reads a journal. Clones are cheap and see what is written later.
#[derive(Clone)]
pub struct JournalReader {
    inner: Arc<Inner>,
}

impl JournalReader {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Returns the index of the next frame to be written.
    pub fn next_index(&self) -> u64 {
        self.inner.lock().next_index()
    }

    /// Returns the index of the oldest frame kept.
    pub fn first_index(&self) -> u64 {
        self.inner.lock().first_index()
    }

    /// Reads the frames of `start..end`, as far as they are written: at least one if there is one, and as many as
    /// together take at most `bytes_max` bytes in the file (a frame takes 25 bytes more than its body).
    ///
    /// # Errors
    /// [`StoreError::Outside`] if `start` was forgotten, or was cut while it was read. [`StoreError::Corrupt`] if a
    /// frame is damaged; the observer is told. [`StoreError::Poisoned`] after a failed write or sync, because the page
    /// cache may then hold what the disk does not.
    pub fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Frame>, StoreError>> + Send>> {
        let spans = self.plan(start, end, bytes_max as u64);
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut frames = Vec::new();
            for span in spans? {
                span.fetch(&inner, &mut frames).await?;
            }
            Ok(frames)
        })
    }

    /// Determines which bytes of which files hold the frames. If a file is open, its read is submitted here, in order
    /// with the writes: frames that are cut later are still read.
    fn plan(&self, start: u64, end: u64, bytes_max: u64) -> Result<Vec<Span>, StoreError> {
        let state = self.inner.lock();
        if state.poisoned {
            return Err(StoreError::Poisoned);
        }
        let (first, next) = (state.first_index(), state.next_index());
        if start < first && start < end {
            return Err(StoreError::Outside { index: start, first, next });
        }
        let (mut index, end) = (start, end.min(next));
        let mut left = bytes_max;
        let mut spans: Vec<Span> = Vec::new();
        while index < end {
            let position = state.segments.partition_point(|segment| segment.first <= index) - 1;
            let segment = &state.segments[position];
            // Both fit into a `usize`, since the places fit into memory.
            let (from, to) = ((index - segment.first) as usize, (end.min(segment.end().next) - segment.first) as usize);
            let mut places = Vec::new();
            for place in &segment.places[from..to] {
                let first_of_all = spans.is_empty() && places.is_empty();
                if u64::from(place.bytes) > left && !first_of_all {
                    break;
                }
                left = left.saturating_sub(place.bytes.into());
                places.push(*place);
            }
            let whole = places.len() == to - from;
            let count = places.len() as u64;
            if let Some(span) = Span::new(&state, position, index, places) {
                spans.push(span);
            }
            if !whole {
                break;
            }
            index += count;
        }
        Ok(spans)
    }
}

/// Consecutive frames of one segment.
struct Span {
    /// First index of the segment.
    segment: u64,
    /// Index of the first frame.
    first: u64,
    places: Vec<FramePlace>,
    source: Source,
}

enum Source {
    /// A read that was submitted.
    Submitted(Pending<Bytes>),
    /// Frames whose file is still being created.
    Memory(Bytes),
    /// A closed file.
    Closed,
}

impl Span {
    fn new(state: &State, position: usize, first: u64, places: Vec<FramePlace>) -> Option<Self> {
        let segment = &state.segments[position];
        let (offset, bytes) = extent(&places)?;
        let source = match &segment.file {
            Some(file) => Source::Submitted(file.read_at(offset, bytes)),
            None if position + 1 == state.segments.len() => {
                let at = (offset - segment.layout.frames_at()) as usize;
                Source::Memory(Bytes::copy_from_slice(&state.queue[at..at + bytes]))
            }
            None => Source::Closed,
        };
        Some(Self { segment: segment.first, first, places, source })
    }

    async fn fetch(self, inner: &Inner, to: &mut Vec<Frame>) -> Result<(), StoreError> {
        let path = segment::path_of(&inner.folder, self.segment);
        let Some((offset, length)) = extent(&self.places) else { return Ok(()) };
        let read = match self.source {
            Source::Submitted(read) => read.await.map_err(StoreError::io("read", &path)),
            Source::Memory(bytes) => Ok(bytes),
            Source::Closed => match inner.disk.open(&path, OpenMode::Existing).await {
                Ok(file) => file.read_at(offset, length).await.map_err(StoreError::io("read", &path)),
                Err(error) => Err(StoreError::io("open", &path)(error)),
            },
        };
        let decoded = read.and_then(|bytes| {
            let mut frames = Vec::with_capacity(self.places.len());
            for (index, place) in (self.first..).zip(&self.places) {
                let at = (place.offset - offset) as usize;
                let frame = decode(&bytes, at, place, index);
                frames.push(frame.map_err(|what| StoreError::corrupt(&path, place.offset, what))?);
            }
            Ok(frames)
        });
        match decoded {
            Ok(frames) => to.extend(frames),
            Err(error) => return Err(judge(inner, self.segment, self.first, &self.places, error)),
        }
        Ok(())
    }
}

fn decode(bytes: &Bytes, at: usize, place: &FramePlace, index: u64) -> Result<Frame, String> {
    let end = at + place.bytes as usize;
    if bytes.len() < end {
        return Err(format!("the file ends before frame {index} does"));
    }
    let mut length = [0; LENGTH_BYTES];
    length.copy_from_slice(&bytes[at..at + LENGTH_BYTES]);
    if Frame::decode_length(length)? as usize + LENGTH_BYTES != place.bytes as usize {
        return Err(format!("the length of frame {index} has changed"));
    }
    let (frame, _) = Frame::decode(bytes.slice(at + LENGTH_BYTES..end), index)?;
    match frame.term == place.term {
        true => Ok(frame),
        false => Err(format!("frame {index} is of term {} and was written in term {}", frame.term, place.term)),
    }
}

/// A read of a closed file races with cutting and forgetting: if it loses, the frames are gone, not damaged.
fn judge(inner: &Inner, segment: u64, first: u64, places: &[FramePlace], error: StoreError) -> StoreError {
    let outside = {
        let state = inner.lock();
        let held = state.segments.iter().find(|held| held.first == segment).and_then(|held| {
            let from = (first - segment) as usize;
            held.places.get(from..from + places.len())
        });
        let outside = StoreError::Outside { index: first, first: state.first_index(), next: state.next_index() };
        (held != Some(places)).then_some(outside)
    };
    if let Some(outside) = outside {
        return outside;
    }
    mark!("read-found-damage", matches!(error, StoreError::Corrupt { .. }));
    tell_corruption(&*inner.observer, &error);
    error
}

/// Offset and length of consecutive frames.
fn extent(places: &[FramePlace]) -> Option<(u64, usize)> {
    let (first, last) = (places.first()?, places.last()?);
    Some((first.offset, (last.offset - first.offset) as usize + last.bytes as usize))
}
