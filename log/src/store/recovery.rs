//! Recovery: reads what the files of a journal say, or refuses them.
//!
//! All segments are read and judged before anything is changed. Damage where a sync had completed is corruption:
//! recovery reports it, changes nothing and gives up, because cutting there would lose what somebody was promised.
//! Damage behind the last marker is what a crash leaves of writes that nobody was promised: it is kept aside and cut
//! off, unless the caller that opens the journal knows that there was more.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use gapless_world::{Disk, File, LogEvent, Observer, OpenMode};

use super::{
    StoreError,
    frame::{Encoded, Frame, LENGTH_BYTES},
    replacement::Replacement,
    segment::{self, BLOCKS_BYTES, Point, Segment},
};

/// Bytes that are read or copied at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Where a journal is, and what observes it.
pub(super) struct JournalPlace<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) observer: &'a dyn Observer,
    /// The journal's folder.
    pub(super) folder: &'a Path,
    pub(super) id: [u8; 16],
}

impl JournalPlace<'_> {
    /// The folder of the segment files.
    pub(super) fn segments(&self) -> PathBuf {
        self.folder.join("segments")
    }

    /// Reads and repairs the journal. Returns its segments in order, at least one, the last one open and all of it
    /// durable. `accepts` is asked about the last whole frame before anything is changed.
    pub(super) async fn recover<E: From<StoreError>>(
        &self,
        first_index: u64,
        accepts: impl FnOnce(Option<&Frame>) -> Result<(), E>,
    ) -> Result<Vec<Segment>, E> {
        let folder = self.segments();
        create_folder(self.disk, &folder).await?;
        let mut names = self.disk.list(&folder).await.map_err(StoreError::io("list", &folder))?;
        names.sort();
        let scans = self.scan_all(&names).await.inspect_err(|error| self.tell_corruption(error))?;
        accepts(scans.iter().rev().find_map(|scan| scan.last.as_ref()))?;

        self.remove_unfinished(&names).await?;
        let mut segments = Vec::with_capacity(scans.len());
        let last = scans.len().saturating_sub(1);
        for (position, scan) in scans.into_iter().enumerate() {
            segments.push(if position == last { self.repair(scan).await? } else { scan.segment });
        }
        if segments.is_empty() {
            let mut segment = Segment::new(first_index, 0);
            segment.file = Some(segment::create(self.disk, &folder, self.id, &segment).await?);
            segments.push(segment);
        }
        Ok(segments)
    }

    /// Reads the journal and changes nothing. Returns the segments up to the first damage, with their frames before it,
    /// and the damage.
    pub(super) async fn sound(&self) -> Result<(Vec<Segment>, Option<StoreError>), StoreError> {
        let folder = self.segments();
        let mut names = self.disk.list(&folder).await.map_err(StoreError::io("list", &folder))?;
        names.sort();
        let (mut scans, damage) = match self.scan(&names).await {
            (scans, Ok(())) => (scans, None),
            (scans, Err(damage @ StoreError::Corrupt { .. })) => (scans, Some(damage)),
            (_, Err(error)) => return Err(error),
        };
        if let Some(last) = scans.last_mut() {
            last.segment.file =
                Some(self.disk.open(&last.path, OpenMode::Existing).await.map_err(StoreError::io("open", &last.path))?);
        }
        Ok((scans.into_iter().map(|scan| scan.segment).collect(), damage))
    }

    /// Removes what a crash left of the creation of a segment, which never held a frame.
    ///
    /// The removal is durable before another segment is created: if a crash lost the removal and the new creation but
    /// not its rename, the remains would get the name of a segment.
    async fn remove_unfinished(&self, names: &[String]) -> Result<(), StoreError> {
        let folder = self.segments();
        for name in names.iter().filter(|name| name.ends_with(".seg.new")) {
            mark!("unfinished-segment-removed");
            let path = folder.join(name);
            self.disk.remove(&path).await.map_err(StoreError::io("remove", &path))?;
            self.disk.sync_folder(&folder).await.map_err(StoreError::io("sync", &folder))?;
        }
        Ok(())
    }

    /// Reads and judges every segment; changes nothing.
    async fn scan_all(&self, names: &[String]) -> Result<Vec<Scan>, StoreError> {
        let (scans, judged) = self.scan(names).await;
        judged.map(|()| scans)
    }

    /// Returns the segments up to the first one from which reading cannot go on, and why it cannot.
    async fn scan(&self, names: &[String]) -> (Vec<Scan>, Result<(), StoreError>) {
        let mut scans: Vec<Scan> = Vec::new();
        for first in names.iter().filter_map(|name| segment::first_in_name(name)) {
            if let Err(error) = self.scan_next(&mut scans, first).await {
                return (scans, Err(error));
            }
        }
        (scans, Ok(()))
    }

    async fn scan_next(&self, scans: &mut Vec<Scan>, first: u64) -> Result<(), StoreError> {
        if let Some(before) = scans.last_mut() {
            before.check_closed()?;
            before.file = None;
        }
        let mut scan = Scan::of(self.disk, segment::path_of(&self.segments(), first), self.id, first).await?;
        if let Some(before) = scans.last_mut() {
            scan.check_follows(before)?;
            before.last = before.last.take().filter(|_| scan.last.is_none());
        }
        let corrupt = scan.corrupt.take();
        scans.push(scan);
        corrupt.map_or(Ok(()), Err)
    }

    /// Cuts off a torn tail and makes everything that is left durable.
    ///
    /// What is left was read from the page cache. If the sync of an earlier life failed, the kernel may hold it as
    /// clean although it never reached the disk, and a sync alone would do nothing. Writing it once more where it
    /// stands may cost everything in the same sector if the power fails meanwhile. So it is written into a new file,
    /// which then takes the place of the old one.
    async fn repair(&self, scan: Scan) -> Result<Segment, StoreError> {
        let Scan { path, len, mut segment, marked, file, .. } = scan;
        let file = match file {
            Some(file) => file,
            None => self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?,
        };
        let end = segment.end();
        mark!("frames-above-marker-kept", marked.offset < end.offset);
        // A crash in here leaves the tail where it is, and perhaps a copy of it: the next recovery does it again.
        let torn = match end.offset < len {
            true => Some(self.keep_aside((&*file, &path), segment.first, end.offset, len).await?),
            false => None,
        };
        segment.file = Some(match self.write_anew(&*file, &path, &mut segment).await {
            // A full disk has no room for another file, and what is there has to be read all the same.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                mark!("segment-written-in-place");
                self.write_in_place(&*file, &path, &mut segment, marked).await?;
                file
            }
            written => written?,
        });
        if let Some(kept) = torn {
            mark!("torn-tail-cut");
            self.observer.see(LogEvent::TornTailTruncated {
                file: path.display().to_string(),
                offset: end.offset,
                bytes: len - end.offset,
                kept_as: kept.display().to_string(),
            });
        }
        Ok(segment)
    }

    /// Copies a segment up to its end, with a marker there, and lets the copy take its place.
    async fn write_anew(
        &self,
        file: &dyn File,
        path: &Path,
        segment: &mut Segment,
    ) -> Result<Arc<dyn File>, StoreError> {
        let new = Replacement::begin(self.disk, path).await?;
        let end = segment.end();
        copy((file, path), 0..end.offset, new.file(), 0).await?;
        // Both slots are written: one of the two may be damaged.
        for (offset, marker) in [segment.mark_again(), segment.mark(end)] {
            new.write_at(offset, marker).await?;
        }
        let file = new.finish().await?;
        segment.marked(segment.slots.generation);
        segment.synced = end;
        Ok(file)
    }

    /// Cuts a segment at its end, and writes the marker and the frames above it once more.
    async fn write_in_place(
        &self,
        file: &dyn File,
        path: &Path,
        segment: &mut Segment,
        marked: Point,
    ) -> Result<(), StoreError> {
        let end = segment.end();
        file.truncate(end.offset).await.map_err(StoreError::io("truncate", path))?;
        file.sync().await.map_err(StoreError::io("sync", path))?;
        let (offset, marker) = segment.mark_again();
        file.write_at(offset, marker).await.map_err(StoreError::io("write", path))?;
        copy((file, path), marked.offset..end.offset, (file, path), marked.offset).await?;
        file.sync().await.map_err(StoreError::io("sync", path))?;
        let (offset, marker) = segment.mark(end);
        file.write_at(offset, marker).await.map_err(StoreError::io("write", path))?;
        file.sync().await.map_err(StoreError::io("sync", path))?;
        segment.marked(segment.slots.generation);
        segment.synced = end;
        Ok(())
    }

    /// Copies a torn tail to a file of its own, durably.
    async fn keep_aside(
        &self,
        torn: (&dyn File, &Path),
        first: u64,
        from: u64,
        len: u64,
    ) -> Result<PathBuf, StoreError> {
        let folder = self.folder.join("torn");
        create_folder(self.disk, &folder).await?;
        let taken = self.disk.list(&folder).await.map_err(StoreError::io("list", &folder))?;
        let mut name = format!("{first:020}-{from}.torn");
        let mut again = 2;
        while taken.contains(&name) {
            name = format!("{first:020}-{from}-{again}.torn");
            again += 1;
        }
        let path = folder.join(name);
        let kept = self.disk.open(&path, OpenMode::CreateNew).await.map_err(StoreError::io("create", &path))?;
        copy(torn, from..len, (&*kept, &path), 0).await?;
        kept.sync().await.map_err(StoreError::io("sync", &path))?;
        self.disk.sync_folder(&folder).await.map_err(StoreError::io("sync", &folder))?;
        Ok(path)
    }

    fn tell_corruption(&self, error: &StoreError) {
        tell_corruption(self.observer, error);
    }
}

/// Tells the observer if the error is corruption.
pub(super) fn tell_corruption(observer: &dyn Observer, error: &StoreError) {
    if let StoreError::Corrupt { file, offset, what } = error {
        observer.see(LogEvent::CorruptionFound { file: file.clone(), offset: *offset, what: what.clone() });
    }
}

/// What one segment file says.
struct Scan {
    path: PathBuf,
    len: u64,
    segment: Segment,
    /// Up to where a sync is known to have completed.
    marked: Point,
    /// Why the walk ended before the file did.
    damage: Option<String>,
    /// Why the walk ended before it came to the marker.
    corrupt: Option<StoreError>,
    /// The last whole frame, until one in a later segment is known.
    last: Option<Frame>,
    file: Option<Arc<dyn File>>,
}

impl Scan {
    /// Walks all frames up to the first damage. Damage to the header or to both markers is an error, since nothing can
    /// be told without them.
    async fn of(disk: &dyn Disk, path: PathBuf, id: [u8; 16], first: u64) -> Result<Self, StoreError> {
        let file = disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?;
        let len = file.len().await.map_err(StoreError::io("measure", &path))?;
        let blocks = file.read_at(0, BLOCKS_BYTES).await.map_err(StoreError::io("read", &path))?;
        // Header and first marker were durable before the file got its name, and of the two marker slots a crash can
        // tear only the one that is being written. So no crash leaves a segment without a header or without a marker.
        let header = segment::decode_header(&blocks);
        mark!("header-damaged", header.is_none());
        let header = header.ok_or_else(|| StoreError::corrupt(&path, 0, "the header of the segment is damaged"))?;
        let layout = header.check(&path, id)?;
        if header.first != first {
            let what = format!("its header is that of the segment that begins with frame {}", header.first);
            return Err(StoreError::corrupt(&path, 0, what));
        }
        let markers = segment::decode_markers(&blocks, layout);
        let damaged = || StoreError::corrupt(&path, layout.slot(0), "both markers are damaged");
        let (marked, slots) = markers.ok_or_else(damaged)?;
        mark!("one-marker-damaged", slots.generation > 2 && segment::decode_points(&blocks, layout).len() < 2);
        let mut segment = Segment::of(layout, first, header.chain_before);
        segment.slots = slots;
        segment.synced = marked;
        let (mut window, mut last) = (Window::new(&*file, &path, len, layout.frames_at()), None);
        let (damage, corrupt) = match walk(&mut window, &mut segment, marked, &mut last).await {
            Ok(damage) => (damage, None),
            Err(corrupt @ StoreError::Corrupt { .. }) => {
                mark!("synced-frame-damaged");
                if segment.end().offset >= marked.offset {
                    // All frames are whole, but together they are not what was synced: which one differs, nobody can
                    // tell.
                    segment.cut(first);
                }
                (None, Some(corrupt))
            }
            Err(error) => return Err(error),
        };
        Ok(Scan { path, len, segment, marked, damage, corrupt, last, file: Some(file) })
    }

    /// Checks a segment that is not the last. It was closed: its final marker was durable before the next one was
    /// created.
    fn check_closed(&self) -> Result<(), StoreError> {
        let end = self.segment.end();
        let corrupt = |what| Err(StoreError::corrupt(&self.path, end.offset, what));
        match &self.damage {
            Some(damage) => corrupt(damage.clone()),
            None if end != self.marked => corrupt("frames follow its final marker".into()),
            None => Ok(()),
        }
    }

    fn check_follows(&self, before: &Scan) -> Result<(), StoreError> {
        let end = before.segment.end();
        if self.segment.first != end.next {
            let what = format!("it begins with frame {} where frame {} is next", self.segment.first, end.next);
            return Err(StoreError::corrupt(&self.path, 0, what));
        }
        if self.segment.chain_before != end.chain {
            return Err(StoreError::corrupt(
                &self.path,
                0,
                "the segment before it is not the one behind which it was begun",
            ));
        }
        Ok(())
    }
}

/// Adds the frames of a file to its segment, sets `last` to the newest of them, and returns the damage behind it.
/// Damage at or below the marker is an error.
async fn walk(
    window: &mut Window<'_>,
    segment: &mut Segment,
    marked: Point,
    last: &mut Option<Frame>,
) -> Result<Option<String>, StoreError> {
    let path = window.path;
    let corrupt = |offset, what: String| Err(StoreError::corrupt(path, offset, what));
    loop {
        let end = segment.end();
        if end.offset == marked.offset && end != marked {
            return corrupt(
                end.offset,
                format!("the frames before frame {} are not those that were synced", marked.next),
            );
        }
        let (frame, encoded) = match window.frame(end).await? {
            Next::Frame(frame, encoded) => (frame, encoded),
            Next::End if end.offset < marked.offset => {
                return corrupt(
                    end.offset,
                    format!("the file ends here, but frames up to {} were synced", marked.next),
                );
            }
            Next::End => return Ok(None),
            Next::Damage(what) if end.offset < marked.offset => return corrupt(end.offset, what),
            Next::Damage(what) => return Ok(Some(what)),
        };
        segment.push(encoded, frame.term);
        *last = Some(frame);
        if end.offset < marked.offset && segment.end().offset > marked.offset {
            return corrupt(end.offset, format!("the marker at byte {} points into a frame", marked.offset));
        }
    }
}

enum Next {
    Frame(Frame, Encoded),
    End,
    Damage(String),
}

/// Reads a file from front to back, a chunk at a time.
struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    len: u64,
    /// Bytes that were read and not yet taken.
    buffer: BytesMut,
    /// Where the buffer ends in the file.
    offset: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, path: &'a Path, len: u64, offset: u64) -> Self {
        Self { file, path, len, buffer: BytesMut::new(), offset }
    }

    /// Returns the frame at `at`, which is where the one before ended.
    async fn frame(&mut self, at: Point) -> Result<Next, StoreError> {
        let left = self.len.saturating_sub(at.offset);
        if left == 0 {
            return Ok(Next::End);
        }
        if left < LENGTH_BYTES as u64 {
            return Ok(Next::Damage(format!("frame {} is cut off", at.next)));
        }
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(&self.take(LENGTH_BYTES).await?);
        let length = match Frame::decode_length(length) {
            Ok(length) if u64::from(length) > left - LENGTH_BYTES as u64 => {
                return Ok(Next::Damage(format!("frame {} is cut off", at.next)));
            }
            Ok(length) => length,
            Err(what) => return Ok(Next::Damage(what)),
        };
        match Frame::decode(self.take(length as usize).await?, at.next) {
            Ok((frame, crc)) => Ok(Next::Frame(frame, Encoded { bytes: LENGTH_BYTES as u32 + length, crc })),
            Err(what) => Ok(Next::Damage(what)),
        }
    }

    /// Takes the next bytes, which the file is known to have.
    async fn take(&mut self, bytes: usize) -> Result<Bytes, StoreError> {
        while self.buffer.len() < bytes {
            let chunk = chunk_at(self.file, self.path, self.offset, self.len).await?;
            self.offset += chunk.len() as u64;
            self.buffer.extend_from_slice(&chunk);
        }
        Ok(self.buffer.split_to(bytes).freeze())
    }
}

/// Copies bytes of one file to another, or over themselves, from `at` on.
async fn copy(
    (source, path): (&dyn File, &Path),
    range: Range<u64>,
    (target, name): (&dyn File, &Path),
    at: u64,
) -> Result<(), StoreError> {
    let mut done = 0;
    while range.start + done < range.end {
        let chunk = chunk_at(source, path, range.start + done, range.end).await?;
        let bytes = chunk.len() as u64;
        target.write_at(at + done, chunk).await.map_err(StoreError::io("write", name))?;
        done += bytes;
    }
    Ok(())
}

/// Reads the next bytes of `from..to`, at least one.
async fn chunk_at(file: &dyn File, path: &Path, from: u64, to: u64) -> Result<Bytes, StoreError> {
    let bytes = usize::try_from(to - from).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let chunk = file.read_at(from, bytes).await.map_err(StoreError::io("read", path))?;
    if chunk.is_empty() {
        return Err(StoreError::io("read", path)(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(chunk)
}

/// Creates a folder and its parents, durably.
pub(super) async fn create_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    disk.create_folder(folder).await.map_err(StoreError::io("create", folder))?;
    for parent in folder.ancestors().skip(1) {
        disk.sync_folder(parent).await.map_err(StoreError::io("sync", parent))?;
    }
    Ok(())
}
