//! A segment: one file of a journal, with its header, its two markers and the places of its frames.
//!
//! The header says whose frames these are and at which index they begin. A marker says "a sync completed up to here":
//! damage below it is corruption, and damage above it is a torn tail. There are two slots, so that writing one can
//! never cost the other: the header and each slot have a disk sector of their own. A drive writes a sector of 4 KiB as
//! a whole, and a power loss may cost all of it. Segments of an earlier layout, which relied on sectors of 512 bytes,
//! are read and written as they are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, File};

use super::{
    StoreError,
    frame::{Encoded, chained},
    replacement::Replacement,
};

const MAGIC: &[u8; 8] = b"gapless\x01";

/// Bytes of the header that carry information.
const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 4;

/// Where things stand in a file: the header and the two marker slots have a block each, and the frames begin behind
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Format version 1: blocks of 512 bytes.
    Narrow,
    /// Format version 2, used for all new segments: blocks of 4 KiB.
    Wide,
}

impl Layout {
    const NEWEST: Layout = Layout::Wide;

    fn of_version(version: u32) -> Option<Layout> {
        [Layout::Narrow, Layout::Wide].into_iter().find(|layout| layout.version() == version)
    }

    fn version(self) -> u32 {
        match self {
            Layout::Narrow => 1,
            Layout::Wide => 2,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Layout::Narrow => 512,
            Layout::Wide => 4096,
        }
    }

    /// Returns where the frames begin: behind the header and the two marker slots.
    pub(super) fn frames_at(self) -> u64 {
        3 * self.block_bytes() as u64
    }

    /// Returns where a marker slot begins.
    pub(super) fn slot(self, slot: usize) -> u64 {
        ((1 + slot) * self.block_bytes()) as u64
    }

    /// Returns the layout of a file with these first bytes: by its header or, if that is damaged, by a marker that is
    /// whole.
    pub(super) fn of(blocks: &Bytes) -> Layout {
        let by_header = decode_header(blocks).and_then(|header| Layout::of_version(header.version));
        let by_marker = || [Layout::Wide, Layout::Narrow].into_iter().find(|of| !decode_points(blocks, *of).is_empty());
        by_header.or_else(by_marker).unwrap_or(Layout::NEWEST)
    }
}

/// Bytes at the beginning of a file that contain its header and markers in any layout.
pub(crate) const BLOCKS_BYTES: usize = 3 * 4096;

/// Where a frame is; 24 bytes for each. The index of the frame follows from the position in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FramePlace {
    pub(super) offset: u64,
    pub(super) term: u64,
    /// Length field included.
    pub(super) bytes: u32,
    /// The chain of checksums up to and including this frame.
    pub(super) chain: u32,
}

/// A point between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// Index of the frame behind it.
    pub(super) next: u64,
    /// Its offset in the file.
    pub(super) offset: u64,
    /// The chain of checksums before it.
    pub(super) chain: u32,
}

/// Which marker slots hold what.
///
/// The slot `durable` is never written: a crash while the other is being written leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    /// The generation of the newest marker submitted.
    pub(super) generation: u64,
    /// The slot of the newest marker that is known to be durable.
    pub(super) durable: usize,
    /// Whether the other slot holds a newer marker that is not known to be durable.
    pub(super) pending: bool,
}

/// One file of a journal, as it is kept in memory.
pub(super) struct Segment {
    pub(super) layout: Layout,
    /// Index of its first frame.
    pub(super) first: u64,
    /// The chain of checksums before its first frame.
    pub(super) chain_before: u32,
    /// Its frames.
    pub(super) places: Vec<FramePlace>,
    /// Its markers.
    pub(super) slots: Slots,
    /// Up to where a sync of the segment completed.
    pub(super) synced: Point,
    /// Open for the newest segment, closed for older ones.
    pub(super) file: Option<Arc<dyn File>>,
}

impl Segment {
    /// Returns a segment without frames that has yet to be created.
    pub(super) fn new(first: u64, chain_before: u32) -> Self {
        Self::of(Layout::NEWEST, first, chain_before)
    }

    /// Returns a segment without frames, in this layout.
    pub(super) fn of(layout: Layout, first: u64, chain_before: u32) -> Self {
        let synced = Point { next: first, offset: layout.frames_at(), chain: chain_before };
        let slots = Slots { generation: 1, durable: 0, pending: false };
        Self { layout, first, chain_before, places: Vec::new(), slots, synced, file: None }
    }

    /// Returns the point behind its last frame.
    pub(super) fn end(&self) -> Point {
        match self.places.last() {
            None => Point { next: self.first, offset: self.layout.frames_at(), chain: self.chain_before },
            Some(last) => Point {
                next: self.first + self.places.len() as u64,
                offset: last.offset + u64::from(last.bytes),
                chain: last.chain,
            },
        }
    }

    /// Adds a frame at the end.
    pub(super) fn push(&mut self, encoded: Encoded, term: u64) {
        let Point { offset, chain, .. } = self.end();
        self.places.push(FramePlace { offset, term, bytes: encoded.bytes, chain: chained(chain, encoded.crc) });
    }

    /// Forgets the frames from index `next` on.
    pub(super) fn cut(&mut self, next: u64) {
        self.places.truncate(usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }

    /// Returns the marker "synced up to `through`", about to be submitted: the offset of its slot and the new bytes.
    ///
    /// It goes to the slot that is not known to be durable, even if that slot is still being written.
    pub(super) fn mark(&mut self, through: Point) -> (u64, Bytes) {
        self.slots.generation += 1;
        self.slots.pending = true;
        (self.layout.slot(1 - self.slots.durable), encode_marker(self.layout, self.slots.generation, through))
    }

    /// Returns the newest durable marker once more, with the offset of its slot.
    pub(super) fn mark_again(&self) -> (u64, Bytes) {
        (self.layout.slot(self.slots.durable), encode_marker(self.layout, self.slots.generation, self.synced))
    }

    /// Notes that a sync that was submitted behind marker `generation` completed.
    pub(super) fn marked(&mut self, generation: u64) {
        if self.slots.pending && self.slots.generation == generation {
            self.slots.durable = 1 - self.slots.durable;
            self.slots.pending = false;
        }
    }
}

/// Returns the path of the segment that begins with this index.
pub(super) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// Returns the index in the name of a segment file, or `None` for other files.
pub(super) fn first_in_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Creates the file of an empty segment, durably, and opens it.
///
/// A crash leaves no segment or a whole, empty one. So a segment with a damaged header was damaged later, whatever its
/// length.
pub(super) async fn create(
    disk: &dyn Disk,
    folder: &Path,
    id: [u8; 16],
    segment: &Segment,
) -> Result<Arc<dyn File>, StoreError> {
    let path = path_of(folder, segment.first);
    let new = Replacement::begin(disk, &path).await?;
    new.write_at(0, encode_blocks(id, segment)).await?;
    new.finish().await
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) id: [u8; 16],
    pub(super) first: u64,
    pub(super) chain_before: u32,
}

impl Header {
    /// Checks whether this build can read what follows, and returns the layout in which it stands.
    pub(super) fn check(&self, path: &Path, id: [u8; 16]) -> Result<Layout, StoreError> {
        let file = || path.display().to_string();
        let Some(layout) = Layout::of_version(self.version) else {
            let (found, known) = (self.version, Layout::NEWEST.version());
            return Err(StoreError::UnknownVersion { file: file(), found, known });
        };
        if self.id != id {
            let hex = |id: [u8; 16]| format!("{:032x}", u128::from_be_bytes(id));
            return Err(StoreError::WrongIdentity { file: file(), expected: hex(id), found: hex(self.id) });
        }
        Ok(layout)
    }
}

/// Reads the header from the first [`BLOCKS_BYTES`], or fewer; `None` if it is damaged. Its checksum, which stands at
/// the end of its block, tells which of the two layouts it is in.
pub(super) fn decode_header(blocks: &Bytes) -> Option<Header> {
    let block = |layout: Layout| unsealed(blocks.get(..layout.block_bytes())?);
    let mut from = block(Layout::Wide).or_else(|| block(Layout::Narrow))?;
    if from.len() < HEADER_BYTES || !from.starts_with(MAGIC) {
        return None;
    }
    from.advance(MAGIC.len());
    let version = from.get_u32();
    let mut id = [0; 16];
    from.copy_to_slice(&mut id);
    Some(Header { version, id, first: from.get_u64(), chain_before: from.get_u32() })
}

/// Returns the newest marker and the state of the slots, or `None` if both are damaged.
pub(super) fn decode_markers(blocks: &Bytes, layout: Layout) -> Option<(Point, Slots)> {
    let slots = (0..2).filter_map(|slot| {
        let (generation, point) = decode_marker(block_of(blocks, layout, slot)?)?;
        Some((point, Slots { generation, durable: slot, pending: false }))
    });
    slots.max_by_key(|(_, slots)| slots.generation)
}

/// Returns every point that a whole marker names.
pub(super) fn decode_points(blocks: &Bytes, layout: Layout) -> Vec<Point> {
    let marker = |slot| decode_marker(block_of(blocks, layout, slot)?).map(|(_, point)| point);
    (0..2).filter_map(marker).collect()
}

fn block_of(blocks: &Bytes, layout: Layout, slot: usize) -> Option<&[u8]> {
    let at = usize::try_from(layout.slot(slot)).ok()?;
    blocks.get(at..at + layout.block_bytes())
}

pub(super) fn encode_blocks(id: [u8; 16], segment: &Segment) -> Bytes {
    let layout = segment.layout;
    let mut header = BytesMut::with_capacity(3 * layout.block_bytes());
    header.put_slice(MAGIC);
    header.put_u32(layout.version());
    header.put_slice(&id);
    header.put_u64(segment.first);
    header.put_u32(segment.chain_before);
    let mut blocks = sealed(header, layout);
    blocks.put_slice(&encode_marker(layout, segment.slots.generation, segment.synced));
    blocks.put_bytes(0, layout.block_bytes());
    blocks.freeze()
}

fn encode_marker(layout: Layout, generation: u64, through: Point) -> Bytes {
    let mut marker = BytesMut::with_capacity(layout.block_bytes());
    marker.put_u64(generation);
    marker.put_u64(through.next);
    marker.put_u64(through.offset);
    marker.put_u32(through.chain);
    sealed(marker, layout).freeze()
}

fn decode_marker(block: &[u8]) -> Option<(u64, Point)> {
    let mut from = unsealed(block)?;
    let generation = from.get_u64();
    let point = Point { next: from.get_u64(), offset: from.get_u64(), chain: from.get_u32() };
    (generation > 0).then_some((generation, point))
}

/// Fills a block with zeroes and closes it with a checksum over all of it.
fn sealed(mut block: BytesMut, layout: Layout) -> BytesMut {
    block.resize(layout.block_bytes() - 4, 0);
    block.put_u32(crc32c::crc32c(&block));
    block
}

/// Returns a block without its checksum, or `None` if the checksum does not hold.
fn unsealed(block: &[u8]) -> Option<&[u8]> {
    let (content, mut crc) = block.split_at_checked(block.len().checked_sub(4)?)?;
    (crc.len() == 4 && crc32c::crc32c(content) == crc.get_u32()).then_some(content)
}
