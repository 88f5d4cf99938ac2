//! A survey of a damaged journal: which of its frames are whole, and up to which frame it had promised durability.
//!
//! Recovery refuses such a journal, and rightly so. Whatever builds another one from copies has to know how far others
//! may have relied on this one, and can use its sound tail, which may be newer than any copy. Nothing here changes a
//! byte, and nothing is guessed: a frame begins where the frame before it ends, or where a marker says that one begins.
//! Bytes that merely look like a frame are never searched for, because the author of an entry chose its bytes.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use gapless_world::{Disk, OpenMode};

use super::{
    StoreError,
    frame::{Frame, LENGTH_BYTES},
    segment::{self, Layout, Point},
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What a damaged journal still says.
pub(crate) struct Survey {
    disk: Arc<dyn Disk>,
    /// The folder of the segment files.
    folder: PathBuf,
    /// Whole frames, by index.
    frames: BTreeMap<u64, Spot>,
    promised: u64,
    knows_its_end: bool,
}

/// Where a whole frame is.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// First index of its segment.
    segment: u64,
    offset: u64,
    /// Length field included.
    bytes: u32,
    kind: u8,
}

impl Survey {
    /// Reads everything that is in the journal's folder.
    ///
    /// # Errors
    /// Fails if the disk does not let it be read. Damage is no error.
    pub(crate) async fn of(disk: Arc<dyn Disk>, journal: &Path) -> Result<Self, StoreError> {
        let folder = journal.join("segments");
        let names = match disk.list(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(StoreError::io("list", &folder))?,
        };
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_in_name(name)).collect();
        firsts.sort_unstable();
        let mut survey = Self { disk, folder, frames: BTreeMap::new(), promised: 0, knows_its_end: false };
        for first in firsts {
            let bytes = survey.file(first).await?;
            let walked = Walked::through(&bytes, first);
            let marked = walked.marked.unwrap_or(first);
            // The newest segment, which comes last, decides: an older one was closed before a newer one was begun.
            survey.knows_its_end = walked.to_the_end && walked.marked.is_some();
            survey.promised = survey.promised.max(marked).max(walked.next);
            survey.frames.extend(walked.frames);
        }
        Ok(survey)
    }

    /// Returns the index behind everything that this journal is known to have promised: behind the newest marker, and
    /// behind the last whole frame.
    pub(crate) fn promised(&self) -> u64 {
        self.promised
    }

    /// Returns whether, by the journal's own account, nothing can have been promised beyond
    /// [`promised`](Survey::promised): a marker of its newest segment is whole, and every byte of that file belongs to
    /// a frame before a marker or to a whole frame. That no newer segment is missing has to be known from elsewhere.
    pub(crate) fn knows_its_end(&self) -> bool {
        self.knows_its_end
    }

    /// Returns the newest whole frame of this kind.
    pub(crate) async fn newest_of(&self, kind: u8) -> Result<Option<Frame>, StoreError> {
        match self.frames.iter().rev().find(|(_, spot)| spot.kind == kind) {
            Some((index, _)) => self.frame(*index).await,
            None => Ok(None),
        }
    }

    /// Returns the newest whole frame.
    pub(crate) async fn last(&self) -> Result<Option<Frame>, StoreError> {
        match self.frames.last_key_value() {
            Some((index, _)) => self.frame(*index).await,
            None => Ok(None),
        }
    }

    /// Returns the index behind the whole frames that follow one another from `index` on.
    pub(crate) fn whole_until(&self, index: u64) -> u64 {
        let following = self.frames.range(index..).zip(index..).take_while(|((found, _), index)| *found == index);
        index + following.count() as u64
    }

    /// Returns a frame, if it is whole.
    pub(crate) async fn frame(&self, index: u64) -> Result<Option<Frame>, StoreError> {
        let Some(Spot { segment, offset, bytes, .. }) = self.frames.get(&index).copied() else { return Ok(None) };
        let path = segment::path_of(&self.folder, segment);
        let file = self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?;
        let read = file.read_at(offset, bytes as usize).await.map_err(StoreError::io("read", &path))?;
        // The frame was whole a moment ago; if it is not whole here, the disk gets worse while it is read.
        Ok(whole(&read, 0, index).map(|(frame, _)| frame))
    }

    async fn file(&self, first: u64) -> Result<Bytes, StoreError> {
        let path = segment::path_of(&self.folder, first);
        let file = self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::io("open", &path))?;
        let mut all = BytesMut::new();
        loop {
            let chunk = file.read_at(all.len() as u64, CHUNK_BYTES).await.map_err(StoreError::io("read", &path))?;
            if chunk.is_empty() {
                return Ok(all.freeze());
            }
            all.extend_from_slice(&chunk);
        }
    }
}

/// What walking through one segment file found.
struct Walked {
    frames: BTreeMap<u64, Spot>,
    /// The index behind the last whole frame.
    next: u64,
    /// The index that the newest whole marker names.
    marked: Option<u64>,
    /// Whether the last whole frame, or what the newest marker covers, ends where the file does.
    to_the_end: bool,
}

impl Walked {
    fn through(bytes: &Bytes, first: u64) -> Walked {
        let layout = Layout::of(bytes);
        let points = segment::decode_points(bytes, layout);
        let mut walked = Walked {
            frames: BTreeMap::new(),
            next: first,
            marked: points.iter().map(|point| point.next).max(),
            to_the_end: false,
        };
        let (mut at, mut index) = (layout.frames_at(), first);
        loop {
            while let Some((frame, length)) = whole(bytes, at, index) {
                let spot = Spot { segment: first, offset: at, bytes: length, kind: frame.kind };
                walked.frames.insert(index, spot);
                (at, index) = (at + u64::from(length), index + 1);
                walked.next = index;
            }
            match hop(bytes, at, index).or_else(|| marker_behind(&points, at, index)) {
                Some(further) => (at, index) = further,
                None => break,
            }
        }
        walked.to_the_end = at == bytes.len() as u64;
        walked
    }
}

/// Returns the frame at an offset, with its length in the file, or `None` if it is damaged or cut off.
fn whole(bytes: &Bytes, at: u64, index: u64) -> Option<(Frame, u32)> {
    let (body, end) = extent(bytes, at)?;
    let (frame, _) = Frame::decode(bytes.slice(body..end), index).ok()?;
    Some((frame, u32::try_from(end as u64 - at).ok()?))
}

/// Returns where the bytes that follow a length field begin and end, if the length can be true.
fn extent(bytes: &Bytes, at: u64) -> Option<(usize, usize)> {
    let at = usize::try_from(at).ok()?;
    let body = at.checked_add(LENGTH_BYTES)?;
    let length = Frame::decode_length(bytes.get(at..body)?.try_into().ok()?).ok()?;
    let end = body.checked_add(length as usize)?;
    (end <= bytes.len()).then_some((body, end))
}

/// Passes over damaged frames whose lengths still hold, to the next whole one.
fn hop(bytes: &Bytes, mut at: u64, mut index: u64) -> Option<(u64, u64)> {
    loop {
        let (_, end) = extent(bytes, at)?;
        (at, index) = (end as u64, index + 1);
        if whole(bytes, at, index).is_some() {
            mark!("survey-hopped");
            return Some((at, index));
        }
    }
}

/// Returns the nearest point behind the damage at which a frame is known to begin.
fn marker_behind(points: &[Point], at: u64, index: u64) -> Option<(u64, u64)> {
    mark!("survey-went-on-at-a-marker", points.iter().any(|point| point.offset > at && point.next > index));
    let behind = points.iter().filter(|point| point.offset > at && point.next > index);
    behind.min_by_key(|point| point.offset).map(|point| (point.offset, point.next))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            crash_disk::{CrashDisk, now},
            tests::{frame, open},
        },
        *,
    };

    const FRAMES_AT: u64 = 3 * 4096;
    const SEGMENT: &str = "log/segments/00000000000000000000.seg";

    /// Six frames of 100 bytes, length fields included, each synced on its own.
    fn six() -> CrashDisk {
        let disk = CrashDisk::default();
        let mut journal = open(&disk).unwrap();
        for index in 0..6 {
            journal.write(&[frame(index, 75)]).unwrap();
            now(journal.sync()).unwrap();
        }
        disk
    }

    fn survey(disk: &CrashDisk) -> Survey {
        now(Survey::of(Arc::new(disk.clone()), Path::new("log"))).unwrap()
    }

    fn whole_ones(survey: &Survey) -> Vec<u64> {
        survey.frames.keys().copied().collect()
    }

    fn damaged(at: usize) -> Survey {
        let disk = six();
        let mut bytes = disk.get(SEGMENT);
        bytes[at] ^= 0x40;
        disk.put(SEGMENT, bytes);
        survey(&disk)
    }

    #[test]
    fn a_sound_journal_is_whole_to_its_end() {
        let survey = survey(&six());
        assert_eq!(whole_ones(&survey), [0, 1, 2, 3, 4, 5]);
        assert_eq!((survey.promised(), survey.knows_its_end()), (6, true));
        assert_eq!(now(survey.frame(3)).unwrap(), Some(frame(3, 75)));
        assert_eq!(now(survey.last()).unwrap(), Some(frame(5, 75)));
        assert_eq!(now(survey.frame(6)).unwrap(), None);
    }

    #[test]
    fn behind_a_damaged_body_the_walk_goes_on_by_its_length() {
        let survey = damaged(FRAMES_AT as usize + 2 * 100 + 50);
        assert_eq!(whole_ones(&survey), [0, 1, 3, 4, 5]);
        assert_eq!((survey.promised(), survey.knows_its_end()), (6, true));
        assert_eq!(now(survey.frame(2)).unwrap(), None);
    }

    #[test]
    fn behind_a_damaged_length_the_walk_goes_on_at_a_marker() {
        let survey = damaged(FRAMES_AT as usize + 2 * 100);
        // Two markers are kept, of the last sync and of the one before.
        assert_eq!(whole_ones(&survey), [0, 1, 5]);
        assert_eq!((survey.promised(), survey.knows_its_end()), (6, true));
    }

    #[test]
    fn a_damaged_last_frame_was_promised_where_a_marker_says_so() {
        let survey = damaged(FRAMES_AT as usize + 5 * 100 + 50);
        assert_eq!(whole_ones(&survey), [0, 1, 2, 3, 4]);
        assert_eq!((survey.promised(), survey.knows_its_end()), (6, true));
    }

    #[test]
    fn a_damaged_last_frame_behind_the_last_whole_marker_leaves_the_end_unknown() {
        let disk = six();
        let mut bytes = disk.get(SEGMENT);
        bytes[FRAMES_AT as usize + 5 * 100 + 50] ^= 1;
        let of = |slot: usize| {
            segment::decode_points(&Bytes::copy_from_slice(&bytes), Layout::Wide).get(slot).map(|at| at.next)
        };
        let newest = if of(0) > of(1) { 4096 } else { 8192 };
        bytes[newest] ^= 1;
        disk.put(SEGMENT, bytes);
        let survey = survey(&disk);
        assert_eq!((survey.promised(), survey.knows_its_end()), (5, false));
    }

    #[test]
    fn without_a_whole_marker_or_without_files_the_end_is_not_known() {
        let disk = six();
        let mut bytes = disk.get(SEGMENT);
        bytes[4096] ^= 1;
        bytes[8192] ^= 1;
        disk.put(SEGMENT, bytes);
        let found = survey(&disk);
        assert_eq!((found.promised(), found.knows_its_end()), (6, false));
        disk.take(SEGMENT);
        let found = survey(&disk);
        assert_eq!((found.promised(), found.knows_its_end()), (0, false));
    }

    #[test]
    fn bytes_of_an_entry_that_look_like_a_frame_are_no_frame() {
        let disk = CrashDisk::default();
        let mut journal = open(&disk).unwrap();
        let mut inside = BytesMut::new();
        Frame { body: Bytes::from_static(b"forged"), ..frame(1, 0) }.encode(&mut inside);
        journal.write(&[Frame { body: inside.freeze(), ..frame(0, 0) }, frame(1, 10)]).unwrap();
        now(journal.sync()).unwrap();
        let mut bytes = disk.get(SEGMENT);
        bytes[FRAMES_AT as usize] ^= 1; // the length of the first
        disk.put(SEGMENT, bytes);
        assert_eq!(whole_ones(&survey(&disk)), [] as [u64; 0]);
    }
}
