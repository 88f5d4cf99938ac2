//! A disk in memory that can die between any two operations and lose what was not synced.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use gapless_world::{Disk, File, OpenMode, Pending};

/// What a crash leaves of everything that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    /// The process died; the page cache lives on.
    Kept,
    /// The power failed.
    Lost,
}

#[derive(Default)]
struct Platter {
    operations: u64,
    dies_at: Option<u64>,
    fails_syncs: bool,
    locked: bool,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<Contents>,
}

#[derive(Default, Clone)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<Platter>>);

impl MemoryDisk {
    /// From this operation on, counted from 0, nothing has an effect and nothing completes.
    pub(super) fn die_at(&self, operation: u64) {
        self.0.lock().unwrap().dies_at = Some(operation);
    }

    pub(super) fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    pub(super) fn fail_syncs(&self) {
        self.0.lock().unwrap().fails_syncs = true;
    }

    /// Removes a folder with everything in it, durably.
    pub(super) fn remove_folder(&self, path: &str) {
        let mut platter = self.0.lock().unwrap();
        platter.names.retain(|name, _| !name.starts_with(path));
        platter.durable_names.retain(|name, _| !name.starts_with(path));
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().map(|name| name.display().to_string()).collect()
    }

    /// The disk that the next life finds.
    pub(super) fn crash(&self, unsynced: Unsynced) -> MemoryDisk {
        let platter = self.0.lock().unwrap();
        let (names, pick): (_, fn(&Contents) -> &Vec<u8>) = match unsynced {
            Unsynced::Kept => (&platter.names, |file| &file.live),
            Unsynced::Lost => (&platter.durable_names, |file| &file.durable),
        };
        let files = platter.files.iter().map(|file| (pick(file).clone(), file.durable.clone()));
        let next = Platter {
            names: names.clone(),
            durable_names: platter.durable_names.clone(),
            files: files.map(|(live, durable)| Contents { live, durable }).collect(),
            ..Platter::default()
        };
        MemoryDisk(Arc::new(Mutex::new(next)))
    }

    fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Platter) -> io::Result<T>) -> Pending<T> {
        let mut platter = self.0.lock().unwrap();
        let operation = platter.operations;
        platter.operations += 1;
        if platter.dies_at.is_some_and(|at| operation >= at) {
            return Box::pin(pending());
        }
        Box::pin(ready(act(&mut platter)))
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let (disk, path) = (self.clone(), path.to_owned());
        self.act(move |platter| {
            let at = match (platter.names.get(&path), mode) {
                (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Some(at), _) => *at,
                (None, OpenMode::Existing) => return Err(not_found()),
                (None, _) => {
                    platter.files.push(Contents::default());
                    let at = platter.files.len() - 1;
                    platter.names.insert(path, at);
                    at
                }
            };
            Ok(Arc::new(MemoryFile { disk, at }) as Arc<dyn File>)
        })
    }

    fn create_folder(&self, _path: &Path) -> Pending<()> {
        self.act(|_| Ok(()))
    }

    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        let path = path.to_owned();
        self.act(move |platter| {
            let mut names: Vec<String> = platter
                .names
                .keys()
                .filter_map(|name| name.strip_prefix(&path).ok()?.iter().next())
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            names.dedup();
            Ok(names)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.act(move |platter| {
            let at = platter.names.remove(&from).ok_or_else(not_found)?;
            platter.names.insert(to, at);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Pending<()> {
        let path = path.to_owned();
        self.act(move |platter| platter.names.remove(&path).map(|_| ()).ok_or_else(not_found))
    }

    fn sync_folder(&self, path: &Path) -> Pending<()> {
        let path = path.to_owned();
        self.act(move |platter| {
            let inside = |name: &PathBuf| name.parent() == Some(&path);
            platter.durable_names.retain(|name, _| !inside(name));
            let now: Vec<_> = platter.names.iter().filter(|(name, _)| inside(name)).collect();
            platter.durable_names.extend(now.into_iter().map(|(name, at)| (name.clone(), *at)));
            Ok(())
        })
    }

    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        let guard = Guard(self.clone());
        self.act(move |platter| {
            if std::mem::replace(&mut platter.locked, true) {
                std::mem::forget(guard);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(Box::new(guard) as Box<dyn Send + Sync>)
        })
    }
}

struct Guard(MemoryDisk);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(mut platter) = self.0.0.try_lock() {
            platter.locked = false;
        }
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    at: usize,
}

impl MemoryFile {
    fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Contents) -> T) -> Pending<T> {
        let at = self.at;
        self.disk.act(move |platter| Ok(act(&mut platter.files[at])))
    }
}

impl File for MemoryFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.act(move |file| {
            let offset = file.live.len() as u64;
            file.live.extend_from_slice(&bytes);
            offset
        })
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.act(move |file| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            file.live.resize(file.live.len().max(end), 0);
            file.live[start..end].copy_from_slice(&bytes);
        })
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.act(move |file| {
            let start = (offset as usize).min(file.live.len());
            let end = (start + len).min(file.live.len());
            Bytes::copy_from_slice(&file.live[start..end])
        })
    }

    fn len(&self) -> Pending<u64> {
        self.act(|file| file.live.len() as u64)
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        self.act(move |file| file.live.resize(len as usize, 0))
    }

    fn sync(&self) -> Pending<()> {
        let at = self.at;
        self.disk.act(move |platter| {
            if platter.fails_syncs {
                return Err(io::Error::other("no such luck"));
            }
            let file = &mut platter.files[at];
            file.durable = file.live.clone();
            Ok(())
        })
    }
}
