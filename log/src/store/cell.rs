//! A cell: a small durable value that changes, such as the vote of a node, its own checkpoint, its identity, the
//! acknowledged sequence of an outbox, or the checkpoint that a client keeps.
//!
//! A cell has two slots, each with length, generation and CRC32C. A new value goes to the slot that is not known to be
//! durable, so that a crash leaves the old value or the new one, never none. After the sync the other slot gets the
//! same value, which becomes durable with the next store: from then on, one damaged slot costs nothing. A cell must
//! never give back a value older than one whose `store` returned.
//!
//! When a cell is opened, it cannot be told which of its slots are on the disk: a sync may have failed in an earlier
//! life, and a crash may have torn or lost a slot. Writing a slot where it stands may cost everything in its sector if
//! the power fails meanwhile. So the value is written into a new file, which then takes the place of the cell's.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, File, OpenMode, Pending};

use super::{StoreError, recovery::create_folder, replacement::Replacement};

/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 3 * 1024;

/// Each slot has a page of its own, so that a torn write of one cannot touch the other.
const SLOT_BYTES: usize = 4096;
/// Length, generation and checksum.
const HEAD_BYTES: usize = 4 + 8 + 4;
/// The generation of a cell that was just created.
const FIRST: u64 = 1;
/// The length of "no value yet".
const ABSENT: u32 = u32::MAX;

/// A small durable value in a file of its own.
pub struct Cell {
    path: PathBuf,
    file: Arc<dyn File>,
    value: Option<Bytes>,
    generation: u64,
    /// The slot that holds the newest value, durably.
    durable: usize,
    /// A write of the newest value that has not been awaited.
    copy: Option<Pending<()>>,
    /// A store failed, or its future was dropped before it resolved.
    spoilt: bool,
}

impl Cell {
    /// Opens the cell, or creates it without a value, durably.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if both slots are damaged. A file that is there was once whole, so a crash never leaves
    /// that; nothing is changed on disk.
    pub async fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let file = match disk.open(path, OpenMode::Existing).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folder(&*disk, path.parent().unwrap_or(Path::new(""))).await?;
                put(&*disk, path, FIRST, None).await?
            }
            opened => opened.map_err(StoreError::io("open", path))?,
        };
        let Self { value, generation, durable, .. } = Self::of(path, file).await?;
        // The value is given to nobody before it is durable.
        match put(&*disk, path, generation, value.as_ref()).await {
            Ok(file) => Ok(Self { path: path.into(), file, value, generation, durable, copy: None, spoilt: false }),
            // A full disk has no room for another file, and what is there has to be read all the same.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                mark!("cell-written-in-place");
                let file = disk.open(path, OpenMode::Existing).await.map_err(StoreError::io("open", path))?;
                let mut cell = Self { path: path.into(), file, value, generation, durable, copy: None, spoilt: false };
                // The other slot is written only after this one is synced: until then it may hold the only durable
                // value.
                cell.submit_copy(durable);
                cell.sync().await?;
                cell.submit_copy(1 - durable);
                cell.sync().await?;
                Ok(cell)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens an existing cell to look at it: nothing is changed on disk, and nothing can be stored.
    ///
    /// # Errors
    /// As for [`open`](Self::open). Also fails if there is no such file.
    pub(crate) async fn look(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path, OpenMode::Existing).await.map_err(StoreError::io("open", path))?;
        Self::of(path, file).await
    }

    /// Reads a cell from its file. That cell takes no new value.
    async fn of(path: &Path, file: Arc<dyn File>) -> Result<Self, StoreError> {
        let bytes = file.read_at(0, 2 * SLOT_BYTES).await.map_err(StoreError::io("read", path))?;
        let slots = (0..2).filter_map(|slot| Some((slot, decode(bytes.get(slot * SLOT_BYTES..)?)?)));
        let newest = slots.max_by_key(|(_, (generation, _))| *generation);
        let Some((durable, (generation, value))) = newest else {
            return Err(StoreError::corrupt(path, 0, "both slots of the cell are damaged"));
        };
        mark!("cell-slot-torn", (0..2).any(|slot| bytes.get(slot * SLOT_BYTES..).and_then(decode).is_none()));
        Ok(Self { path: path.into(), file, value, generation, durable, copy: None, spoilt: true })
    }

    /// The value stored last.
    pub fn load(&self) -> Option<Bytes> {
        self.value.clone()
    }

    /// Stores a value of at most 3 KiB, which is durable when this returns. A crash before that leaves the old value or
    /// the new one.
    ///
    /// # Errors
    /// [`StoreError::Oversize`] changes nothing. After any other error, or if the future was dropped, the cell returns
    /// [`StoreError::Poisoned`] until it is opened again.
    pub async fn store(&mut self, value: Bytes) -> Result<(), StoreError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::Oversize { bytes: value.len() as u64, max: VALUE_BYTES_MAX as u64 });
        }
        if self.spoilt {
            return Err(StoreError::Poisoned);
        }
        self.spoilt = true;
        self.generation += 1;
        let other = 1 - self.durable;
        let write = self.file.write_at(offset(other), encode(self.generation, Some(&value)));
        let sync = self.file.sync();
        if let Some(copy) = self.copy.take() {
            copy.await.map_err(StoreError::io("write", &self.path))?;
        }
        write.await.map_err(StoreError::io("write", &self.path))?;
        sync.await.map_err(StoreError::io("sync", &self.path))?;
        self.durable = other;
        self.value = Some(value);
        self.submit_copy(1 - other);
        self.spoilt = false;
        Ok(())
    }

    /// Submits the newest value to a slot.
    fn submit_copy(&mut self, slot: usize) {
        let bytes = encode(self.generation, self.value.as_ref());
        self.copy = Some(self.file.write_at(offset(slot), bytes));
    }

    async fn sync(&mut self) -> Result<(), StoreError> {
        let sync = self.file.sync();
        if let Some(copy) = self.copy.take() {
            copy.await.map_err(StoreError::io("write", &self.path))?;
        }
        sync.await.map_err(StoreError::io("sync", &self.path))
    }
}

/// Gives a cell a new file, with this value in both slots.
async fn put(
    disk: &dyn Disk,
    path: &Path,
    generation: u64,
    value: Option<&Bytes>,
) -> Result<Arc<dyn File>, StoreError> {
    let mut slots = BytesMut::from(&encode(generation, value)[..]);
    slots.put_slice(&encode(generation, value));
    let new = Replacement::begin(disk, path).await?;
    new.write_at(0, slots.freeze()).await?;
    new.finish().await
}

fn offset(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

/// A whole slot: length, generation, checksum over all the rest of the slot, value, zeroes.
fn encode(generation: u64, value: Option<&Bytes>) -> Bytes {
    let mut slot = BytesMut::with_capacity(SLOT_BYTES);
    slot.put_u32(value.map_or(ABSENT, |value| value.len() as u32));
    slot.put_u64(generation);
    slot.put_u32(0);
    slot.put_slice(value.map_or(&[], |value| value));
    slot.resize(SLOT_BYTES, 0);
    let crc = checksum(&slot);
    slot[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    slot.freeze()
}

fn decode(slot: &[u8]) -> Option<(u64, Option<Bytes>)> {
    let slot = slot.get(..SLOT_BYTES)?;
    let mut head = slot;
    let (length, generation, crc) = (head.get_u32(), head.get_u64(), head.get_u32());
    if crc != checksum(slot) || generation == 0 {
        return None;
    }
    if length == ABSENT {
        return Some((generation, None));
    }
    let value = slot.get(HEAD_BYTES..HEAD_BYTES + length as usize)?;
    Some((generation, Some(Bytes::copy_from_slice(value))))
}

fn checksum(slot: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&slot[..HEAD_BYTES - 4]), &slot[HEAD_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::{
        super::crash_disk::{CrashDisk, choices, now},
        *,
    };

    const CELL: &str = "votes/vote";

    fn open_cell(disk: &CrashDisk) -> Result<Cell, StoreError> {
        now(Cell::open(Arc::new(disk.clone()), Path::new(CELL)))
    }

    fn value(number: u8) -> Bytes {
        vec![number; 100 * usize::from(number)].into()
    }

    #[test]
    fn a_cell_gives_back_what_was_stored_last() {
        let disk = CrashDisk::default();
        let mut cell = open_cell(&disk).unwrap();
        assert_eq!(cell.load(), None);
        for number in 0..5 {
            now(cell.store(value(number))).unwrap();
            assert_eq!(cell.load(), Some(value(number)));
            assert_eq!(open_cell(&disk.crash(|_| 0)).unwrap().load(), Some(value(number)));
        }
        assert!(matches!(now(cell.store(vec![0; VALUE_BYTES_MAX + 1].into())), Err(StoreError::Oversize { .. })));
        now(cell.store(vec![0; VALUE_BYTES_MAX].into())).unwrap();
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_value_of_a_cell_or_the_new_one() {
        for dies_at in 0..40 {
            for seed in 0..60 {
                let mut disk = CrashDisk::default();
                disk.die_at(dies_at);
                let (mut stored, mut tried) = (None, None);
                if let Ok(mut cell) = open_cell(&disk) {
                    for number in 0..6 {
                        tried = Some(value(number));
                        if now(cell.store(value(number))).is_err() {
                            break;
                        }
                        stored = Some(value(number));
                    }
                }
                disk = disk.crash(choices(seed));
                let found = open_cell(&disk).unwrap().load();
                assert!(found == stored || found == tried, "step {dies_at}, seed {seed}");
                assert_eq!(open_cell(&disk.crash(choices(seed))).unwrap().load(), found);
            }
        }
    }

    /// The first power failure takes the other slot with it, and the next one strikes while the cell is opened.
    #[test]
    fn power_that_fails_again_and_again_leaves_what_was_stored() {
        for seed in 0..400 {
            let mut disk = CrashDisk::default();
            now(open_cell(&disk).unwrap().store(value(3))).unwrap();
            for again in 0..6 {
                disk = disk.crash(choices(seed * 10 + again));
                disk.die_at((seed + again * 7) % 11);
                drop(open_cell(&disk));
            }
            let left = open_cell(&disk.crash(choices(seed))).map(|cell| cell.load());
            assert_eq!(left.unwrap(), Some(value(3)), "seed {seed}");
        }
    }

    #[test]
    fn one_damaged_slot_costs_a_cell_nothing_and_two_are_corruption() {
        let disk = CrashDisk::default();
        now(open_cell(&disk).unwrap().store(value(3))).unwrap();
        drop(open_cell(&disk).unwrap());
        let whole = disk.get(CELL);
        for at in 0..whole.len() {
            let mut image = whole.clone();
            image[at] ^= 1;
            disk.put(CELL, image.clone());
            assert_eq!(open_cell(&disk).unwrap().load(), Some(value(3)), "{at}");
            image[(at + 4096) % 8192] ^= 1;
            disk.put(CELL, image);
            assert!(matches!(open_cell(&disk), Err(StoreError::Corrupt { .. })), "{at}");
        }
        disk.put(CELL, Vec::new());
        assert!(matches!(open_cell(&disk), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_failed_store_spoils_the_cell() {
        let disk = CrashDisk::default();
        let mut cell = open_cell(&disk).unwrap();
        disk.fail_next_sync();
        assert!(matches!(now(cell.store(value(1))), Err(StoreError::Io { .. })));
        assert!(matches!(now(cell.store(value(2))), Err(StoreError::Poisoned)));
        assert_eq!(cell.load(), None);
    }

    #[test]
    fn a_value_that_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_is_believed() {
        let disk = CrashDisk::default();
        let mut cell = open_cell(&disk).unwrap();
        now(cell.store(value(1))).unwrap();
        disk.fail_next_sync();
        assert!(now(cell.store(value(2))).is_err());
        let before = disk.operations();
        for dies_at in 0..20 {
            let disk = disk.image();
            disk.die_at(before + dies_at);
            let found = open_cell(&disk).map(|cell| cell.load());
            for seed in 0..20 {
                let left = open_cell(&disk.crash(choices(seed))).unwrap().load();
                match &found {
                    Ok(found) => assert_eq!(left, *found),
                    Err(_) => assert!(left == Some(value(1)) || left == Some(value(2)), "step {dies_at}, seed {seed}"),
                }
            }
        }
    }
}
