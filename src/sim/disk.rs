//! The simulated disk: what a page cache, a sync and a power loss do to files, decided by the seed.
//!
//! A write reaches the page cache when it is submitted and survives the death of its process. It becomes durable with a
//! sync that was submitted later and whose time has come. At a power loss, of what was not yet durable the seed decides:
//! each write is kept, torn at some byte, or gone, and names that were not synced with their folder may be gone too.
//! Completion is a matter of simulated time alone; nothing here runs by itself, so a cut at any instant is exact.

mod at_once;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::recorder::Recorder;
use crate::{
    history::{DiskOp, Name, What},
    seam,
    world::{Disk, File, OpenMode, Pending},
};

/// A sync takes this long, and up to as much again.
const SYNC: Duration = Duration::from_micros(800);

/// Bytes that a sync writes in a second.
const BYTES_PER_SECOND: u64 = 400_000_000;

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// One host's disk. It outlives the host's processes.
#[derive(Clone)]
pub struct SimDisk {
    host: Name,
    recorder: Recorder,
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<Inode>,
    /// Names as a process sees them, and as they are on the platter.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    folders: Vec<PathBuf>,
    folder_syncs: Vec<(Duration, PathBuf)>,
    /// Without power: submissions have no effect and no end.
    dark: bool,
    /// Bytes that the last power loss took.
    lost: u64,
    /// Stands still: syncs complete only once this is false.
    paused: watch::Sender<bool>,
    paused_since: Option<Duration>,
    syncs_held: u64,
    locked: bool,
    /// Counts lives: a lock of a former life does not unlock this one.
    life: u64,
    luck: ChaCha8Rng,
}

#[derive(Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Changes that are in the page cache only, oldest first.
    changes: Vec<Change>,
    /// Syncs under way: when each completes, and how many changes (counted from the first one ever) it covers.
    syncs: Vec<(Duration, u64)>,
    /// Changes that have become durable, ever.
    settled: u64,
}

enum Change {
    Write { offset: u64, bytes: Bytes },
    Truncate { len: u64 },
}

impl SimDisk {
    /// An empty disk.
    pub fn new(host: Name, recorder: Recorder, luck: ChaCha8Rng) -> Self {
        let state = State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            folders: vec![PathBuf::new()],
            folder_syncs: Vec::new(),
            dark: false,
            lost: 0,
            paused: watch::Sender::new(false),
            paused_since: None,
            syncs_held: 0,
            locked: false,
            life: 0,
            luck,
        };
        Self { host, recorder, state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes now: what is not durable is kept, torn or lost, and told. Answers the bytes lost, also where it
    /// had gone before.
    pub fn lose_power(&self, now: Duration) -> u64 {
        let mut state = self.lock_state();
        if state.dark {
            return state.lost;
        }
        state.settle(now);
        state.dark = true;
        let lost = state.lose_unsynced();
        let total = lost.iter().map(|(_, bytes, _)| bytes).sum();
        state.lost = total;
        drop(state);
        for (path, bytes, torn) in lost {
            self.recorder.record_at(now, &self.host, What::Lost { path, bytes, torn });
        }
        total
    }

    /// A process begins to use the disk: power is there, and no lock is held.
    pub fn begin_life(&self) {
        let mut state = self.lock_state();
        state.dark = false;
        state.locked = false;
        state.life += 1;
    }

    /// Stands still or goes on; answers how many syncs had to wait.
    pub fn pause(&self, paused: bool, now: Duration) -> u64 {
        let mut state = self.lock_state();
        if paused {
            state.settle(now);
            state.paused_since.get_or_insert(now);
        } else if let Some(since) = state.paused_since.take() {
            state.postpone(now.saturating_sub(since), since);
        }
        let held = std::mem::take(&mut state.syncs_held);
        state.paused.send_replace(paused);
        held
    }

    /// All files as they are, for tests and for reading a disk after a run.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        state.names.iter().map(|(path, file)| (path.clone(), state.files[*file].content.clone())).collect()
    }

    /// Submits `change` to the names and answers at once.
    fn at_once<T: Send + 'static>(&self, op: impl FnOnce(&mut State) -> io::Result<T>) -> Pending<T> {
        let mut state = self.lock_state();
        if state.dark {
            return Box::pin(std::future::pending());
        }
        state.settle(seam::now());
        let result = op(&mut state);
        Box::pin(std::future::ready(result))
    }
}

impl State {
    /// Makes durable what has become so by `now`.
    fn settle(&mut self, now: Duration) {
        if self.paused_since.is_some() {
            return;
        }
        for file in &mut self.files {
            file.settle(now);
        }
        let (done, open) = std::mem::take(&mut self.folder_syncs).into_iter().partition(|(at, _)| *at <= now);
        self.folder_syncs = open;
        let done: Vec<(Duration, PathBuf)> = done;
        for (_, folder) in done {
            self.sync_names(&folder);
        }
    }

    /// Everything under way completes later, by the time that the host stood still.
    fn postpone(&mut self, by: Duration, since: Duration) {
        for file in &mut self.files {
            for (at, _) in file.syncs.iter_mut().filter(|(at, _)| *at > since) {
                *at += by;
            }
        }
        for (at, _) in self.folder_syncs.iter_mut().filter(|(at, _)| *at > since) {
            *at += by;
        }
    }

    fn sync_names(&mut self, folder: &Path) {
        self.durable_names.retain(|path, _| path.parent() != Some(folder));
        let here = self.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        self.durable_names.extend(here.map(|(path, file)| (path.clone(), *file)));
    }

    /// The platter's view becomes everybody's. Answers, per file, bytes lost and bytes of torn writes.
    fn lose_unsynced(&mut self) -> Vec<(String, u64, u64)> {
        let mut lost = Vec::new();
        // A removed file whose removal was not synced comes back, and so does only what was synced of it.
        let removed = self.durable_names.iter().filter(|(_, file)| !self.names.values().any(|known| known == *file));
        for (path, file) in self.names.iter().chain(removed) {
            let (gone, torn) = self.files[*file].lose_unsynced(&mut self.luck);
            if gone + torn > 0 {
                lost.push((path.display().to_string(), gone, torn));
            }
        }
        // A folder entry that was never synced may have reached the platter by luck.
        let unsynced: Vec<(PathBuf, usize)> = self
            .names
            .iter()
            .filter(|(path, file)| self.durable_names.get(*path) != Some(file))
            .map(|(path, file)| (path.clone(), *file))
            .collect();
        for (path, file) in unsynced {
            if self.luck.random_bool(0.5) {
                // A rename is one step: with the new name the old one is gone.
                self.durable_names.retain(|old, of| *of != file || self.names.contains_key(old));
                self.durable_names.insert(path, file);
            } else {
                lost.push((path.display().to_string(), self.files[file].content.len() as u64, 0));
            }
        }
        self.folder_syncs.clear();
        self.names = self.durable_names.clone();
        lost
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<usize> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if !self.folders.iter().any(|folder| folder == parent) {
            return Err(not_found(parent));
        }
        match (self.names.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: exists", path.display())))
            }
            (None, OpenMode::Existing) => Err(not_found(path)),
            (Some(file), _) => Ok(*file),
            (None, _) => {
                self.files.push(Inode::default());
                self.names.insert(path.to_owned(), self.files.len() - 1);
                Ok(self.files.len() - 1)
            }
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| not_found(path))
    }
}

impl Inode {
    fn settle(&mut self, now: Duration) {
        let covered = self.syncs.iter().filter(|(at, _)| *at <= now).map(|(_, upto)| *upto).max();
        self.syncs.retain(|(at, _)| *at > now);
        let Some(covered) = covered else { return };
        let n = usize::try_from(covered.saturating_sub(self.settled)).unwrap_or(usize::MAX).min(self.changes.len());
        for change in self.changes.drain(..n) {
            change.apply(&mut self.durable);
        }
        self.settled += n as u64;
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.changes.push(change);
    }

    /// What the platter holds after the cut. Most often a prefix of the changes survives, the last of it torn; now and
    /// then a disk had reordered them, and each survives by itself.
    fn lose_unsynced(&mut self, luck: &mut ChaCha8Rng) -> (u64, u64) {
        let changes = std::mem::take(&mut self.changes);
        self.settled += changes.len() as u64;
        self.syncs.clear();
        let reordered = luck.random_bool(0.2);
        let prefix = luck.random_range(0..=changes.len());
        let (mut lost, mut torn) = (0, 0);
        for (n, change) in changes.iter().enumerate() {
            let keep = if reordered { luck.random_bool(0.5) } else { n < prefix };
            let torn_apart = if reordered { luck.random_bool(0.3) } else { n == prefix && luck.random_bool(0.7) };
            if keep {
                change.apply(&mut self.durable);
            } else if torn_apart && let Change::Write { offset, bytes } = change {
                torn += bytes.len() as u64;
                lost += tear(*offset, bytes, luck, &mut self.durable);
            } else {
                lost += change.len();
            }
        }
        self.content.clone_from(&self.durable);
        (lost, torn)
    }
}

/// Leaves a part of a write on the platter; answers the bytes lost. Either a prefix survives; or the file has grown
/// already, as a journal of metadata makes it, and of the data only some sectors came: the others are zeroes.
fn tear(offset: u64, bytes: &Bytes, luck: &mut ChaCha8Rng, platter: &mut Vec<u8>) -> u64 {
    if luck.random_bool(0.6) {
        let kept = torn_at(offset, bytes.len(), luck);
        Change::Write { offset, bytes: bytes.slice(..kept) }.apply(platter);
        return (bytes.len() - kept) as u64;
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    platter.resize(platter.len().max(start + bytes.len()), 0);
    let (mut lost, mut from) = (0, 0);
    while from < bytes.len() {
        let to = (from + SECTOR_BYTES - (start + from) % SECTOR_BYTES).min(bytes.len());
        if luck.random_bool(0.5) {
            platter[start + from..start + to].copy_from_slice(&bytes[from..to]);
        } else {
            lost += (to - from) as u64;
        }
        from = to;
    }
    lost
}

/// How much of a write survives: a boundary of a sector, or, as some file systems leave it, any byte.
fn torn_at(offset: u64, len: usize, luck: &mut ChaCha8Rng) -> usize {
    let cut = luck.random_range(0..=len);
    if luck.random_bool(0.5) {
        return cut;
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX) % SECTOR_BYTES;
    (cut + start).div_euclid(SECTOR_BYTES).saturating_mul(SECTOR_BYTES).saturating_sub(start).min(len)
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Truncate { len } => to.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0),
            Change::Write { offset, bytes } => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let end = start + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[start..end].copy_from_slice(bytes);
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.len() as u64,
            Change::Truncate { .. } => 0,
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let disk = self.clone();
        let path = path.to_owned();
        self.at_once(move |state| {
            let file = state.open(&path, mode)?;
            Ok(Arc::new(SimFile { disk, path, file }) as Arc<dyn File>)
        })
    }

    fn create_folder(&self, path: &Path) -> Pending<()> {
        let path = path.to_owned();
        self.at_once(move |state| {
            for folder in path.ancestors() {
                if !state.folders.iter().any(|known| known == folder) {
                    state.folders.push(folder.to_owned());
                }
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        let path = path.to_owned();
        self.at_once(move |state| {
            if !state.folders.contains(&path) {
                return Err(not_found(&path));
            }
            let inside = state.names.keys().chain(&state.folders).filter(|name| name.parent() == Some(&path));
            let mut names: Vec<String> =
                inside.filter_map(|name| name.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(names)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.at_once(move |state| {
            let file = state.file(&from)?;
            state.names.remove(&from);
            state.names.insert(to, file);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Pending<()> {
        let path = path.to_owned();
        self.at_once(move |state| state.names.remove(&path).map(drop).ok_or_else(|| not_found(&path)))
    }

    fn sync_folder(&self, path: &Path) -> Pending<()> {
        let mut state = self.lock_state();
        if state.dark {
            return Box::pin(std::future::pending());
        }
        let done = seam::now() + SYNC;
        state.folder_syncs.push((done, path.to_owned()));
        drop(state);
        self.complete_at(done, DiskOp::SyncFolder, path.display().to_string(), 0)
    }

    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        let disk = self.clone();
        self.at_once(move |state| {
            if std::mem::replace(&mut state.locked, true) {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "the data folder is in use by another process"));
            }
            let life = state.life;
            Ok(Box::new(Unlock { disk, life }) as Box<dyn Send + Sync>)
        })
    }
}

impl SimDisk {
    /// Resolves at `done`, or, where the host stands still then, once it goes on.
    fn complete_at(&self, done: Duration, op: DiskOp, path: String, bytes: u64) -> Pending<()> {
        let disk = self.clone();
        Box::pin(async move {
            let wait = done.saturating_sub(seam::now());
            tokio::time::sleep(wait).await;
            let mut paused = disk.lock_state().paused.subscribe();
            if *paused.borrow_and_update() {
                disk.lock_state().syncs_held += 1;
                while *paused.borrow_and_update() {
                    if paused.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
            if disk.lock_state().dark {
                return std::future::pending().await;
            }
            disk.lock_state().settle(seam::now());
            disk.recorder.record(What::Disk { op, path, bytes, error: None });
            Ok(())
        })
    }
}

struct Unlock {
    disk: SimDisk,
    life: u64,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    file: usize,
}

impl SimFile {
    fn at_once<T: Send + 'static>(&self, op: impl FnOnce(&mut Inode) -> io::Result<T>) -> Pending<T> {
        let file = self.file;
        self.disk.at_once(|state| op(&mut state.files[file]))
    }
}

impl File for SimFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.at_once(|file| {
            let offset = file.content.len() as u64;
            file.change(Change::Write { offset, bytes });
            Ok(offset)
        })
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.at_once(|file| {
            file.change(Change::Write { offset, bytes });
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.at_once(|file| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.content.len());
            let end = start.saturating_add(len).min(file.content.len());
            Ok(Bytes::copy_from_slice(&file.content[start..end]))
        })
    }

    fn len(&self) -> Pending<u64> {
        self.at_once(|file| Ok(file.content.len() as u64))
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        self.at_once(|file| {
            file.change(Change::Truncate { len });
            Ok(())
        })
    }

    fn sync(&self) -> Pending<()> {
        let mut state = self.disk.lock_state();
        if state.dark {
            return Box::pin(std::future::pending());
        }
        let now = seam::now();
        state.settle(now);
        let extra = SYNC.mul_f64(state.luck.random::<f64>());
        let inode = &mut state.files[self.file];
        let upto = inode.settled + inode.changes.len() as u64;
        let bytes: u64 = inode.changes.iter().map(Change::len).sum();
        let writing = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / BYTES_PER_SECOND);
        // A later sync of one file never completes before an earlier one.
        let after = inode.syncs.iter().map(|(at, _)| *at).max().unwrap_or_default();
        let done = (now + SYNC + extra + writing).max(after);
        inode.syncs.push((done, upto));
        drop(state);
        self.disk.complete_at(done, DiskOp::Sync, self.path.display().to_string(), bytes)
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
