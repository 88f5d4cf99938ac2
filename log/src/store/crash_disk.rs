//! A disk in memory for the store's own tests: it can lose what was not synced, tear it, fail and die.
//!
//! It is harsher than most real disks: each of the writes since the last sync may be kept, lost or torn on its own, and
//! a failed sync forgets what it should have written while reads go on showing it. A sync is complete, and what was
//! submitted before it durable, only when its future is awaited: a sync that is not awaited was still under way at the
//! crash.

use std::{
    collections::BTreeMap,
    future::ready,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::FutureExt as _;
use gapless_world::{Disk, File, OpenMode, Pending};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::segment::BLOCKS_BYTES;

/// Bytes that a drive writes as a whole.
const SECTOR_BYTES: usize = 4096;

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct CrashDisk(Arc<Mutex<Platter>>);

#[derive(Clone, Default)]
struct Platter {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Name changes that no folder sync has covered.
    renames: Vec<Renaming>,
    files: Vec<Contents>,
    /// Operations so far; those from `dies_at` on fail without effect.
    operations: u64,
    dies_at: Option<u64>,
    fail_next_sync: bool,
    fail_next_write: bool,
}

impl Platter {
    fn check_alive(&self) -> io::Result<()> {
        match self.dies_at {
            Some(dies_at) if self.operations > dies_at => Err(io::Error::other("the disk is dead")),
            _ => Ok(()),
        }
    }
}

#[derive(Clone)]
enum Renaming {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Renaming {
    fn folder(&self) -> &Path {
        let (Renaming::Create(path, _) | Renaming::Rename(path, _) | Renaming::Remove(path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Renaming::Create(path, file) => drop(names.insert(path.clone(), *file)),
            Renaming::Remove(path) => drop(names.remove(path)),
            Renaming::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

#[derive(Clone, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Changes that no sync has covered, each with the number of its operation.
    pending: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Bytes),
    Truncate(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(offset, bytes) => {
                let (from, end) = (*offset as usize, *offset as usize + bytes.len());
                to.resize(to.len().max(end), 0);
                to[from..end].copy_from_slice(bytes);
            }
            Change::Truncate(len) => to.resize(*len as usize, 0),
        }
    }
}

impl CrashDisk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// The next sync fails, and what it should have made durable never will be.
    pub(super) fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// The next write fails, without effect.
    pub(super) fn fail_next_write(&self) {
        self.lock().fail_next_write = true;
    }

    /// The operation with this number, from 0, and all behind it fail without effect.
    pub(super) fn die_at(&self, operation: u64) {
        self.lock().dies_at = Some(operation);
    }

    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Returns what is left after a power loss. `choose(n)` picks a number below `n`: for each change that was not
    /// synced, whether it is lost, kept or torn, and where. A write that is torn in the header or the markers of a file
    /// may cost all of the sector that was being written.
    pub(super) fn crash(&self, mut choose: impl FnMut(usize) -> usize) -> CrashDisk {
        let platter = self.lock();
        let mut names = platter.durable_names.clone();
        platter.renames.iter().filter(|_| choose(2) == 1).for_each(|change| change.apply(&mut names));
        let mut files = platter.files.clone();
        for file in &mut files {
            for (_, change) in std::mem::take(&mut file.pending) {
                match (choose(3), change) {
                    (0, _) => {}
                    (1, Change::Write(offset, bytes)) => {
                        let torn = bytes.slice(..choose(bytes.len() + 1));
                        let (at, is_torn) = (offset as usize + torn.len(), torn.len() < bytes.len());
                        Change::Write(offset, torn).apply(&mut file.durable);
                        if is_torn && at < BLOCKS_BYTES && choose(2) == 1 {
                            let sector = at / SECTOR_BYTES * SECTOR_BYTES;
                            let end = file.durable.len().min(sector + SECTOR_BYTES);
                            file.durable[sector.min(end)..end].fill(0xff);
                        }
                    }
                    (_, change) => change.apply(&mut file.durable),
                }
            }
            file.live = file.durable.clone();
        }
        let platter = Platter { durable_names: names.clone(), names, files, ..Platter::default() };
        CrashDisk(Arc::new(Mutex::new(platter)))
    }

    /// Returns an independent copy of the disk, with everything that is not synced.
    pub(super) fn image(&self) -> CrashDisk {
        CrashDisk(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Returns a disk with the same files, all of them durable.
    pub(super) fn copy(&self) -> CrashDisk {
        let copy = CrashDisk::default();
        for name in self.names() {
            copy.put(&name, self.get(&name));
        }
        copy
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().map(|path| path.display().to_string()).collect()
    }

    /// Returns the bytes of a file as a reader sees them.
    pub(super) fn get(&self, path: &str) -> Vec<u8> {
        let platter = self.lock();
        platter.files[platter.names[Path::new(path)]].live.clone()
    }

    /// Replaces a file, durably.
    pub(super) fn put(&self, path: &str, bytes: Vec<u8>) {
        let mut platter = self.lock();
        let file = platter.files.len();
        platter.files.push(Contents { live: bytes.clone(), durable: bytes, pending: Vec::new() });
        platter.names.insert(path.into(), file);
        platter.durable_names.insert(path.into(), file);
    }

    /// Removes a file, durably.
    pub(super) fn take(&self, path: &str) {
        let mut platter = self.lock();
        platter.names.remove(Path::new(path));
        platter.durable_names.remove(Path::new(path));
    }

    fn operate<T: Send + 'static>(&self, operation: impl FnOnce(&mut Platter) -> io::Result<T>) -> Pending<T> {
        let mut platter = self.lock();
        platter.operations += 1;
        let outcome = platter.check_alive().and_then(|()| operation(&mut platter));
        Box::pin(ready(outcome))
    }

    fn rename_as(&self, change: impl FnOnce(&Platter) -> io::Result<Renaming>) -> Pending<()> {
        self.operate(|platter| {
            let change = change(platter)?;
            change.apply(&mut platter.names);
            platter.renames.push(change);
            Ok(())
        })
    }
}

fn existing(platter: &Platter, path: &Path) -> io::Result<usize> {
    platter.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Disk for CrashDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let disk = self.clone();
        self.operate(|platter| {
            let file = match (existing(platter, path), mode) {
                (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(file), _) => file,
                (Err(error), OpenMode::Existing) => return Err(error),
                (Err(_), _) => {
                    let file = platter.files.len();
                    platter.files.push(Contents::default());
                    let change = Renaming::Create(path.into(), file);
                    change.apply(&mut platter.names);
                    platter.renames.push(change);
                    file
                }
            };
            Ok(Arc::new(CrashFile { disk, file }) as Arc<dyn File>)
        })
    }

    fn create_folder(&self, _path: &Path) -> Pending<()> {
        self.operate(|_| Ok(()))
    }

    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        self.operate(|platter| {
            let inside = platter.names.keys().filter(|name| name.parent() == Some(path));
            Ok(inside.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        self.rename_as(|platter| existing(platter, from).map(|_| Renaming::Rename(from.into(), to.into())))
    }

    fn remove(&self, path: &Path) -> Pending<()> {
        self.rename_as(|platter| existing(platter, path).map(|_| Renaming::Remove(path.into())))
    }

    fn sync_folder(&self, path: &Path) -> Pending<()> {
        self.operate(|platter| {
            let Platter { renames, durable_names, .. } = platter;
            renames.retain(|change| {
                let covered = change.folder() == path;
                if covered {
                    change.apply(durable_names);
                }
                !covered
            });
            Ok(())
        })
    }

    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        self.operate(|_| Ok(Box::new(()) as Box<dyn Send + Sync>))
    }
}

struct CrashFile {
    disk: CrashDisk,
    file: usize,
}

impl CrashFile {
    fn change(&self, change: Change) -> Pending<()> {
        self.disk.operate(|platter| {
            if std::mem::take(&mut platter.fail_next_write) {
                return Err(io::Error::other("the write failed"));
            }
            let contents = &mut platter.files[self.file];
            change.apply(&mut contents.live);
            contents.pending.push((platter.operations, change));
            Ok(())
        })
    }
}

impl File for CrashFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        let offset = self.disk.lock().files[self.file].live.len() as u64;
        let written = self.change(Change::Write(offset, bytes));
        Box::pin(async move { written.await.map(|()| offset) })
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.change(Change::Write(offset, bytes))
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.disk.operate(|platter| {
            let live = &platter.files[self.file].live;
            let from = live.len().min(offset as usize);
            Ok(Bytes::copy_from_slice(&live[from..live.len().min(from + len)]))
        })
    }

    fn len(&self) -> Pending<u64> {
        self.disk.operate(|platter| Ok(platter.files[self.file].live.len() as u64))
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        self.change(Change::Truncate(len))
    }

    fn sync(&self) -> Pending<()> {
        let submitted = self.disk.operate(|platter| {
            if std::mem::take(&mut platter.fail_next_sync) {
                platter.files[self.file].pending.clear();
                return Err(io::Error::other("the sync failed"));
            }
            Ok(platter.operations)
        });
        let (disk, file) = (self.disk.clone(), self.file);
        Box::pin(async move {
            let submitted = submitted.await?;
            let mut platter = disk.lock();
            platter.check_alive()?;
            let Contents { durable, pending, .. } = &mut platter.files[file];
            pending.retain(|(operation, change)| {
                let covered = *operation <= submitted;
                if covered {
                    change.apply(durable);
                }
                !covered
            });
            Ok(())
        })
    }
}

/// The disk never waits.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the disk answers at once")
}

/// Choices from a seed, so that a failing case shrinks to it.
pub(super) fn choices(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    move |below| random.random_range(0..below.max(1))
}
