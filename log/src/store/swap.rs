//! A swap: prepared files take the place of others, all of them or none, and the others are kept.
//!
//! No file system renames several files at once. So a cell records the swap that is under way, and the process that
//! opens the folder next finishes it: first the old files are moved aside, then the prepared ones are moved in, each
//! step as often as it takes. The prepared files must be complete and durable before the swap begins. A swap removes
//! nothing but the cell.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::{Disk, OpenMode};

use super::{Cell, StoreError, recovery::create_folder};

/// The cell that records the swap that is under way. It exists only during the swap.
const CELL: &str = "swap";
const VERSION: u8 = 1;

/// What takes part in a swap, by its path in the data folder. Beneath the folder of prepared files it has the same
/// path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// One file.
    File(&'static str),
    /// All files directly in a folder.
    Files(&'static str),
}

impl Part {
    /// Returns the path of the file or of the folder.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Part::File(path) | Part::Files(path) => path,
        }
    }
}

/// How far a swap has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The old files are being moved aside: none of the prepared ones is in its place.
    Clearing,
    /// The prepared files are being moved in: none of the old ones is left.
    Filling,
}

/// A swap of certain parts.
pub(crate) struct Swap {
    pub(crate) disk: Arc<dyn Disk>,
    /// The folder of prepared files.
    pub(crate) prepared: &'static str,
    /// Where old files are kept: in the first folder with this name and a number, from 1, that holds none yet.
    pub(crate) kept: &'static str,
    pub(crate) parts: &'static [Part],
}

impl Swap {
    /// Lets the prepared files take their places. Returns the folder of the old files.
    pub(crate) async fn begin(&self) -> Result<PathBuf, StoreError> {
        let number = self.free_number().await?;
        let mut cell = Cell::open(self.disk.clone(), Path::new(CELL)).await?;
        // A crash before this is durable leaves everything in its place, and an empty cell at most.
        cell.store(encode(Phase::Clearing, number)).await?;
        self.go_on(cell, Phase::Clearing, number).await
    }

    /// Finishes a swap that a crash interrupted. Returns the folder of the old files, or `None` if no swap was under
    /// way.
    pub(crate) async fn finish(&self) -> Result<Option<PathBuf>, StoreError> {
        let path = Path::new(CELL);
        match self.disk.open(path, OpenMode::Existing).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => drop(opened.map_err(StoreError::io("open", path))?),
        }
        let cell = Cell::open(self.disk.clone(), path).await?;
        mark!("swap-never-begun", cell.load().is_none());
        match cell.load() {
            None => self.remove_cell().await.map(|()| None),
            Some(value) => {
                let (phase, number) = decode(value).ok_or_else(|| {
                    StoreError::corrupt(path, 0, "it is whole, but not in a format that this version knows")
                })?;
                mark!("swap-finished-by-the-next-start");
                mark!("swap-finished-half-way", phase == Phase::Filling);
                self.go_on(cell, phase, number).await.map(Some)
            }
        }
    }

    /// Removes prepared files for which no swap has begun.
    pub(crate) async fn discard(&self) -> Result<(), StoreError> {
        for part in self.parts {
            let (folder, names) = self.files(Path::new(self.prepared), *part).await?;
            for name in &names {
                let path = folder.join(name);
                self.disk.remove(&path).await.map_err(StoreError::io("remove", &path))?;
            }
            if !names.is_empty() {
                mark!("prepared-files-discarded");
                self.disk.sync_folder(&folder).await.map_err(StoreError::io("sync", &folder))?;
            }
        }
        Ok(())
    }

    async fn go_on(&self, mut cell: Cell, phase: Phase, number: u64) -> Result<PathBuf, StoreError> {
        let kept = self.kept_in(number);
        if phase == Phase::Clearing {
            self.move_all(Path::new(""), &kept).await?;
            // After a crash before this is durable, the next start moves aside what is still in its place: only old
            // files are.
            cell.store(encode(Phase::Filling, number)).await?;
        }
        self.move_all(Path::new(self.prepared), Path::new("")).await?;
        drop(cell);
        // After a crash before this is durable, the next start finds nothing left to be moved.
        self.remove_cell().await?;
        Ok(kept)
    }

    /// Moves every file of every part from beneath one folder to beneath another, durably.
    async fn move_all(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        for part in self.parts {
            let (source, names) = self.files(from, *part).await?;
            let (target, _) = split(to, *part);
            if names.is_empty() {
                continue;
            }
            create_folder(&*self.disk, &target).await?;
            for name in &names {
                let path = source.join(name);
                self.disk.rename(&path, &target.join(name)).await.map_err(StoreError::io("rename", &path))?;
            }
            // The new names are synced first: a crash in between may leave a file under both names, never under none.
            self.disk.sync_folder(&target).await.map_err(StoreError::io("sync", &target))?;
            self.disk.sync_folder(&source).await.map_err(StoreError::io("sync", &source))?;
        }
        Ok(())
    }

    /// Returns the folder of a part beneath another folder, and which of the part's files are there.
    async fn files(&self, beneath: &Path, part: Part) -> Result<(PathBuf, Vec<String>), StoreError> {
        let (folder, only) = split(beneath, part);
        let mut names = match self.disk.list(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(StoreError::io("list", &folder))?,
        };
        if let Some(only) = only {
            names.retain(|name| name == only);
        }
        Ok((folder, names))
    }

    fn kept_in(&self, number: u64) -> PathBuf {
        PathBuf::from(format!("{}-{number}", self.kept))
    }

    async fn free_number(&self) -> Result<u64, StoreError> {
        let mut number = 1;
        'taken: loop {
            for part in self.parts {
                if !self.files(&self.kept_in(number), *part).await?.1.is_empty() {
                    number += 1;
                    continue 'taken;
                }
            }
            return Ok(number);
        }
    }

    async fn remove_cell(&self) -> Result<(), StoreError> {
        let path = Path::new(CELL);
        self.disk.remove(path).await.map_err(StoreError::io("remove", path))?;
        self.disk.sync_folder(Path::new("")).await.map_err(StoreError::io("sync", Path::new("")))
    }
}

/// Returns the folder of a part beneath another folder, and the file name if the part is one file.
fn split(beneath: &Path, part: Part) -> (PathBuf, Option<&'static str>) {
    match part {
        Part::Files(folder) => (beneath.join(folder), None),
        Part::File(path) => match path.rsplit_once('/') {
            Some((folder, name)) => (beneath.join(folder), Some(name)),
            None => (beneath.to_owned(), Some(path)),
        },
    }
}

fn encode(phase: Phase, number: u64) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    to.put_u8(match phase {
        Phase::Clearing => 1,
        Phase::Filling => 2,
    });
    to.put_u64(number);
    to.freeze()
}

fn decode(mut value: Bytes) -> Option<(Phase, u64)> {
    if value.len() != 10 || value.get_u8() != VERSION {
        return None;
    }
    let phase = match value.get_u8() {
        1 => Phase::Clearing,
        2 => Phase::Filling,
        _ => return None,
    };
    Some((phase, value.get_u64()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::crash_disk::{CrashDisk, choices, now},
        *,
    };

    const PARTS: &[Part] = &[Part::Files("log/segments"), Part::File("checkpoint")];

    fn swap(disk: &CrashDisk) -> Swap {
        Swap { disk: Arc::new(disk.clone()), prepared: "new", kept: "old", parts: PARTS }
    }

    /// Two old segments and one old checkpoint; three new segments and a new checkpoint, prepared.
    fn prepared() -> CrashDisk {
        let disk = CrashDisk::default();
        for (path, bytes) in [("log/segments/0", "old 0"), ("log/segments/7", "old 7"), ("checkpoint", "old")] {
            disk.put(path, bytes.into());
        }
        for (path, bytes) in [("0", "new 0"), ("3", "new 3"), ("9", "new 9")] {
            disk.put(&format!("new/log/segments/{path}"), bytes.into());
        }
        disk.put("new/checkpoint", "new".into());
        disk.put("vote", "vote".into());
        disk
    }

    fn files(disk: &CrashDisk) -> Vec<(String, String)> {
        let text = |name: String| (name.clone(), String::from_utf8_lossy(&disk.get(&name)).into_owned());
        disk.names().into_iter().map(text).collect()
    }

    fn swapped() -> Vec<(String, String)> {
        let disk = CrashDisk::default();
        for (path, bytes) in [
            ("checkpoint", "new"),
            ("log/segments/0", "new 0"),
            ("log/segments/3", "new 3"),
            ("log/segments/9", "new 9"),
            ("old-1/checkpoint", "old"),
            ("old-1/log/segments/0", "old 0"),
            ("old-1/log/segments/7", "old 7"),
            ("vote", "vote"),
        ] {
            disk.put(path, bytes.into());
        }
        files(&disk)
    }

    #[test]
    fn prepared_files_take_the_place_of_others_which_are_kept() {
        let disk = prepared();
        assert_eq!(now(swap(&disk).begin()).unwrap(), Path::new("old-1"));
        assert_eq!(files(&disk), swapped());
        assert_eq!(files(&disk.crash(|_| 0)), swapped(), "durably");
        assert_eq!(now(swap(&disk).finish()).unwrap(), None);
    }

    #[test]
    fn wherever_the_power_goes_the_next_start_finds_all_old_files_or_finishes() {
        let before = files(&prepared());
        let (mut untouched, mut finished) = (0, 0);
        for dies_at in 0.. {
            let disk = prepared();
            let operations = disk.operations();
            disk.die_at(operations + dies_at);
            let done = now(swap(&disk).begin()).is_ok();
            for seed in 0..40 {
                let mut choose = choices(seed);
                // The power may fail once more while the swap is being finished.
                let mut left = disk.crash(&mut choose);
                for more in 0..choose(3) {
                    left.die_at(left.operations() + (seed + more as u64) % 17);
                    drop(now(swap(&left).finish()));
                    left = left.crash(&mut choose);
                }
                now(swap(&left).finish()).unwrap();
                let mut found = files(&left);
                found.retain(|(name, _)| name != "swap.new"); // a cell that was never one
                match found == before {
                    true => untouched += 1,
                    false => {
                        assert_eq!(found, swapped(), "died at {dies_at}, seed {seed}");
                        finished += 1;
                    }
                }
                assert!(!done || found == swapped(), "what was done is done");
            }
            if done {
                break;
            }
        }
        assert!(untouched > 40 && finished > 40, "{untouched} untouched, {finished} finished");
    }

    #[test]
    fn a_second_swap_keeps_its_files_apart_and_prepared_ones_can_be_discarded() {
        let disk = prepared();
        now(swap(&disk).begin()).unwrap();
        disk.put("new/log/segments/0", "newer 0".into());
        now(swap(&disk).discard()).unwrap();
        assert_eq!(files(&disk), swapped());
        disk.put("new/log/segments/0", "newer 0".into());
        assert_eq!(now(swap(&disk).begin()).unwrap(), Path::new("old-2"));
        assert_eq!(disk.get("old-2/log/segments/9"), b"new 9");
        assert_eq!(disk.get("log/segments/0"), b"newer 0");
    }
}
