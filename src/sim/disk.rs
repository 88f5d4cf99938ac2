//! The simulated disk: what a page cache, a sync and a power loss do to files, decided by the seed.
//!
//! A write reaches the page cache when it is submitted and survives the death of its process. It becomes durable with a
//! sync that was submitted later and whose time has come. At a power loss the seed decides what happens to each write
//! that was not yet durable: it is kept, torn at some byte, or gone. What was not synced with its folder may have
//! happened or not: a name of a file or of a folder may be gone, with everything that it led to, and a removed file may
//! be back. Completion is a matter of simulated time alone; nothing here runs by itself, so a cut at any instant is
//! exact.
//!
//! A disk does what it says unless a step of the scenario makes it fail, fill up, slow down or lie (`faults`).

mod at_once;
mod faults;
mod image;
mod names;
mod pieces;
mod platter;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use gapless_world::{Disk, File, OpenMode, Pending};

pub(super) use self::image::PutBack;
use self::{
    faults::{Faults, io_error},
    names::Loss,
    platter::{Change, Flush, Inode, Place},
};
use super::recorder::Recorder;
use crate::{
    history::{DiskOp, Name, What},
    seam,
};

/// A sync takes this long, and up to as much again.
const SYNC: Duration = Duration::from_micros(800);

/// The bytes that a sync writes in a second.
const BYTES_PER_SECOND: u64 = 400_000_000;

/// One host's disk. It outlives the host's processes.
#[derive(Clone)]
pub struct SimDisk {
    host: Name,
    recorder: Recorder,
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<Inode>,
    /// The names as a process sees them, and as they are on the platter.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// The folders likewise; the data folder itself is always there.
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    /// When each name was made, of a file or a folder.
    made: BTreeMap<PathBuf, Duration>,
    folder_syncs: Vec<(Duration, PathBuf)>,
    /// Whether it is without power: submissions have no effect and never complete.
    dark: bool,
    /// The unit that it writes whole or not at all, in bytes.
    sector: usize,
    /// The bytes that the last power loss took.
    lost: u64,
    /// Whether it stands still: syncs complete only once this is false.
    paused: watch::Sender<bool>,
    syncs_held: u64,
    locked: bool,
    /// Counts lives: a lock of a former life does not unlock the present one.
    life: u64,
    luck: ChaCha8Rng,
    faults: Faults,
    /// Images of earlier states, by the step that keeps them.
    images: BTreeMap<usize, image::DiskImage>,
}

impl SimDisk {
    /// Makes an empty disk that writes whole sectors of `sector` bytes. `luck` decides what a power loss takes,
    /// `mishaps` what faults of the disk do.
    pub fn new(host: Name, recorder: Recorder, sector: usize, luck: ChaCha8Rng, mishaps: ChaCha8Rng) -> Self {
        let state = State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            folders: BTreeSet::from([PathBuf::new()]),
            durable_folders: BTreeSet::from([PathBuf::new()]),
            made: BTreeMap::new(),
            folder_syncs: Vec::new(),
            dark: false,
            sector,
            lost: 0,
            paused: watch::Sender::new(false),
            syncs_held: 0,
            locked: false,
            life: 0,
            luck,
            faults: Faults::new(sector, mishaps),
            images: BTreeMap::new(),
        };
        Self { host, recorder, state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: what is not durable is kept, torn or lost, and recorded. Returns the bytes lost, also if the
    /// power had gone before.
    pub fn lose_power(&self, now: Duration) -> u64 {
        let mut state = self.lock_state();
        if state.dark {
            return state.lost;
        }
        state.settle(now);
        state.dark = true;
        let lost = state.lose_unsynced();
        let shown = state.show_platter();
        let total = lost.iter().map(Loss::bytes).sum();
        state.lost = total;
        mark!("name-was-lost", lost.iter().any(|loss| matches!(loss, Loss::Name { .. })));
        mark!("power-lost-unsynced-bytes", total > 0);
        drop(state);
        for loss in lost {
            self.recorder.record_at(now, &self.host, loss.told());
        }
        for (path, (culprit, offset, bytes)) in shown {
            self.tell_damage(now, path, culprit, offset, bytes);
        }
        total
    }

    /// Lets a process begin to use the disk: there is power, and no lock is held.
    pub fn begin_life(&self) {
        let mut state = self.lock_state();
        state.dark = false;
        state.locked = false;
        state.life += 1;
    }

    /// Makes the disk stand still or go on. Returns how many syncs had to wait.
    pub fn pause(&self, paused: bool, now: Duration) -> u64 {
        let mut state = self.lock_state();
        // What would have been done while it stood still is done when it goes on, as its caller is told then.
        if paused {
            state.settle(now);
        }
        let held = std::mem::take(&mut state.syncs_held);
        state.paused.send_replace(paused);
        held
    }

    /// Returns all files as they are, for tests and for reading a disk after a run.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.lock_state().contents()
    }

    /// Applies `op` to the state and completes at once.
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
    /// Returns all files as processes see them.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let bytes = |file: &usize| self.files[*file].content.bytes.read(0, usize::MAX).to_vec();
        self.names.iter().map(|(path, file)| (path.clone(), bytes(file))).collect()
    }

    /// Makes durable what has become so by `now`.
    fn settle(&mut self, now: Duration) {
        if *self.paused.borrow() {
            return;
        }
        for file in 0..self.files.len() {
            let settled = self.files[file].settle(now);
            self.absorb(file, settled);
        }
        let (done, open) = std::mem::take(&mut self.folder_syncs).into_iter().partition(|(at, _)| *at <= now);
        self.folder_syncs = open;
        let done: Vec<(Duration, PathBuf)> = done;
        for (_, folder) in done {
            self.sync_names(&folder);
        }
    }

    /// Drops page caches. Returns the damage that becomes visible by that, with the names of files.
    fn show_platter(&mut self) -> Vec<(String, Place)> {
        let mut shown = Vec::new();
        for file in 0..self.files.len() {
            let places = self.files[file].show_platter();
            let Some(name) = self.name_of(file).filter(|_| !places.is_empty()) else { continue };
            for place in places {
                self.faults.shown(place, &name);
                shown.push((name.clone(), place));
            }
        }
        shown
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<usize> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if !self.folders.contains(parent) {
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
                self.name(path.to_owned(), self.files.len() - 1);
                Ok(self.files.len() - 1)
            }
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| not_found(path))
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
            state.make_folder(&path);
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
            state.name(to, file);
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
        let path = path.to_owned();
        let name = path.display().to_string();
        // A folder has no path that a file could have: only a fault of the whole disk strikes it.
        let done = seam::now() + SYNC + state.faults.slow("", false);
        state.folder_syncs.push((done, path));
        drop(state);
        self.complete_at(done, DiskOp::SyncFolder, name, 0, false)
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
    /// Resolves at `done`, or once the host goes on if it stands still at that time.
    fn complete_at(&self, done: Duration, op: DiskOp, path: String, bytes: u64, fails: bool) -> Pending<()> {
        let disk = self.clone();
        Box::pin(async move {
            if disk.wait_until(done).await {
                mark!("sync-held-by-a-pause");
                disk.lock_state().syncs_held += 1;
                disk.wait_until_it_goes_on().await;
            }
            disk.with_power().await;
            disk.lock_state().settle(seam::now());
            let error = fails.then(io_error);
            disk.recorder.record(What::Disk { op, path, bytes, error: error.as_ref().map(io::Error::to_string) });
            error.map_or(Ok(()), Err)
        })
    }

    /// Waits for simulated time. Returns whether the host stands still then.
    async fn wait_until(&self, done: Duration) -> bool {
        tokio::time::sleep(done.saturating_sub(seam::now())).await;
        *self.lock_state().paused.borrow()
    }

    async fn wait_until_it_goes_on(&self) {
        let mut paused = self.lock_state().paused.subscribe();
        while *paused.borrow_and_update() {
            if paused.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Never resolves on a disk without power.
    async fn with_power(&self) {
        if self.lock_state().dark {
            std::future::pending::<()>().await;
        }
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

    /// Submits a change, unless the disk refuses it. `make` is given the file, the faults of the disk, and the path.
    fn change<T: Send + 'static>(
        &self,
        op: DiskOp,
        bytes: u64,
        growth: impl FnOnce(&Inode) -> u64,
        make: impl FnOnce(&Inode, &mut Faults, &str) -> (Change, T),
    ) -> Pending<T> {
        let path = self.path.display().to_string();
        let mut refused = None;
        let pending = self.disk.at_once(|state| {
            let State { files, names, faults: wrong, .. } = state;
            let grows = growth(&files[self.file]);
            if let Some(error) = wrong.fail_write(&path, grows, || faults::used(files, names.values())) {
                refused = Some(error.to_string());
                return Err(error);
            }
            let (change, answer) = make(&files[self.file], wrong, &path);
            files[self.file].change(change);
            Ok(answer)
        });
        if refused.is_some() {
            self.disk.recorder.record(What::Disk { op, path, bytes, error: refused });
        }
        pending
    }
}

/// Returns by how much a file grows with `len` bytes at an offset.
fn growth(file: &Inode, offset: u64, len: usize) -> u64 {
    offset.saturating_add(len as u64).saturating_sub(file.len())
}

impl File for SimFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        let len = bytes.len();
        let write = |file: &Inode, faults: &mut Faults, path: &str| {
            let offset = file.len();
            (Change::write(offset, bytes, faults.lie_about(path, offset, len)), offset)
        };
        self.change(DiskOp::Append, len as u64, |_| len as u64, write)
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        let len = bytes.len();
        let write = |_: &Inode, faults: &mut Faults, path: &str| {
            (Change::write(offset, bytes, faults.lie_about(path, offset, len)), ())
        };
        self.change(DiskOp::Write, len as u64, |file| growth(file, offset, len), write)
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let mut state = self.disk.lock_state();
        if state.dark {
            return Box::pin(std::future::pending());
        }
        let now = seam::now();
        state.settle(now);
        let path = self.path.display().to_string();
        let slow = state.faults.slow(&path, true);
        let read = match state.faults.fail_read(&path) {
            Some(error) => Err(error),
            None => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(state.files[self.file].content.bytes.read(start, start.saturating_add(len)))
            }
        };
        // A later read of one file never completes before an earlier one.
        let until = &mut state.files[self.file].read_until;
        *until = (*until).max(now + slow);
        let done = *until;
        drop(state);
        if let Err(error) = &read {
            let error = Some(error.to_string());
            self.disk.recorder.record(What::Disk { op: DiskOp::Read, path, bytes: 0, error });
        }
        if done <= now {
            return Box::pin(std::future::ready(read));
        }
        let disk = self.disk.clone();
        Box::pin(async move {
            if disk.wait_until(done).await {
                disk.wait_until_it_goes_on().await;
            }
            disk.with_power().await;
            read
        })
    }

    fn len(&self) -> Pending<u64> {
        self.at_once(|file| Ok(file.len()))
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        // A hole takes no space.
        self.change(DiskOp::Truncate, 0, |_| 0, |_, _, _| (Change::Truncate { len }, ()))
    }

    fn sync(&self) -> Pending<()> {
        let mut state = self.disk.lock_state();
        if state.dark {
            return Box::pin(std::future::pending());
        }
        let now = seam::now();
        state.settle(now);
        let path = self.path.display().to_string();
        let extra = SYNC.mul_f64(state.luck.random::<f64>());
        let slow = state.faults.slow(&path, false);
        let fails = state.faults.fail_sync(&path);
        let inode = &mut state.files[self.file];
        let upto = inode.settled + inode.changes.len() as u64;
        let bytes: u64 = inode.changes.iter().map(Change::len).sum();
        let writing = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / BYTES_PER_SECOND);
        // A later sync of one file never completes before an earlier one.
        let after = inode.syncs.last().map(|sync| sync.at).unwrap_or_default();
        let done = (now + SYNC + extra + writing + slow).max(after);
        inode.syncs.push(Flush { at: done, upto, fails });
        drop(state);
        self.disk.complete_at(done, DiskOp::Sync, path, bytes, fails.is_some())
    }
}

#[cfg(test)]
#[path = "disk_fault_tests.rs"]
mod fault_tests;
#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
