//! A disk in memory for these tests: what was synced survives a power loss, what was not may or may not. Syncs can be
//! held, counted and made to fail. Names are durable at once; that part of the truth is tested with the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{Disk, File, OpenMode, Pending};
use tokio::{sync::watch, time::sleep};

#[derive(Debug, Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

type Shared = Arc<Mutex<Content>>;

/// The machine's disk. Outlives the lives of the node.
pub(in crate::cluster) struct TestDisk {
    files: Mutex<BTreeMap<PathBuf, Shared>>,
    folders: Mutex<BTreeSet<PathBuf>>,
    locked: Arc<AtomicBool>,
    hold: watch::Sender<bool>,
    fail: Arc<AtomicBool>,
    /// Grows with each power loss: files opened before are dead.
    life: Arc<AtomicU64>,
    /// Operations left before the power goes.
    left: Arc<AtomicU64>,
}

impl TestDisk {
    pub(in crate::cluster) fn new() -> Arc<Self> {
        Arc::new(Self {
            files: Mutex::default(),
            folders: Mutex::default(),
            locked: Arc::default(),
            hold: watch::Sender::new(false),
            fail: Arc::default(),
            life: Arc::default(),
            left: Arc::new(AtomicU64::new(u64::MAX)),
        })
    }

    /// While held, no sync of the journal completes.
    pub(in crate::cluster) fn hold_syncs(&self, hold: bool) {
        self.hold.send_replace(hold);
    }

    /// From now on syncs of the journal fail.
    pub(in crate::cluster) fn fail_syncs(&self, fail: bool) {
        self.fail.store(fail, Ordering::SeqCst);
    }

    /// After this many more changes and syncs the power goes.
    pub(in crate::cluster) fn dies_after(&self, operations: u64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    /// Cuts the power: open files die, the lock is free, and what was not synced is kept or lost. Then the power comes
    /// back.
    pub(in crate::cluster) fn power_loss(&self, keep_unsynced: bool) {
        self.left.store(u64::MAX, Ordering::SeqCst);
        self.life.fetch_add(1, Ordering::SeqCst);
        self.locked.store(false, Ordering::SeqCst);
        for content in self.files.lock().unwrap().values_mut() {
            let mut now = content.lock().unwrap().clone();
            match keep_unsynced {
                true => now.durable = now.cached.clone(),
                false => now.cached = now.durable.clone(),
            }
            *content = Arc::new(Mutex::new(now));
        }
        self.hold.send_replace(false);
    }

    /// A copy of all files under a folder, or of one file.
    pub(in crate::cluster) fn copy(&self, under: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.files.lock().unwrap();
        let chosen = files.iter().filter(|(path, _)| path.starts_with(under));
        chosen.map(|(path, content)| (path.clone(), content.lock().unwrap().cached.clone())).collect()
    }

    /// Puts back what was copied, in place of everything under that folder.
    pub(in crate::cluster) fn restore(&self, under: &str, copy: &BTreeMap<PathBuf, Vec<u8>>) {
        let mut files = self.files.lock().unwrap();
        files.retain(|path, _| !path.starts_with(under) || copy.contains_key(path));
        for (path, bytes) in copy {
            let mut content = files.entry(path.clone()).or_default().lock().unwrap();
            *content = Content { cached: bytes.clone(), durable: bytes.clone() };
        }
    }
}

fn now<T: Send + 'static>(outcome: io::Result<T>) -> Pending<T> {
    Box::pin(std::future::ready(outcome))
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let mut files = self.files.lock().unwrap();
        let content = match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return now(Err(io::ErrorKind::AlreadyExists.into())),
            (None, OpenMode::Existing) => return now(Err(io::ErrorKind::NotFound.into())),
            (Some(content), _) => content.clone(),
            (None, _) => files.entry(path.into()).or_default().clone(),
        };
        now(Ok(Arc::new(TestFile {
            content,
            journal: path.starts_with(super::super::identity::JOURNAL),
            hold: self.hold.subscribe(),
            fail: self.fail.clone(),
            born: self.life.load(Ordering::SeqCst),
            life: self.life.clone(),
            left: self.left.clone(),
        }) as Arc<dyn File>))
    }

    fn create_folder(&self, path: &Path) -> Pending<()> {
        let mut folders = self.folders.lock().unwrap();
        folders.extend(path.ancestors().map(Path::to_path_buf));
        now(Ok(()))
    }

    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        let (files, folders) = (self.files.lock().unwrap(), self.folders.lock().unwrap());
        if !folders.contains(path) && !path.as_os_str().is_empty() {
            return now(Err(io::ErrorKind::NotFound.into()));
        }
        let names: BTreeSet<String> = files
            .keys()
            .chain(folders.iter())
            .filter(|entry| entry.parent() == Some(path))
            .filter_map(|entry| Some(entry.file_name()?.to_str()?.to_owned()))
            .collect();
        now(Ok(names.into_iter().collect()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        let mut files = self.files.lock().unwrap();
        let Some(content) = files.remove(from) else { return now(Err(io::ErrorKind::NotFound.into())) };
        files.insert(to.into(), content);
        now(Ok(()))
    }

    fn remove(&self, path: &Path) -> Pending<()> {
        now(self.files.lock().unwrap().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn sync_folder(&self, _path: &Path) -> Pending<()> {
        now(Ok(()))
    }

    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        struct Guard(Arc<AtomicBool>, Arc<AtomicU64>, u64);
        impl Drop for Guard {
            fn drop(&mut self) {
                // A guard from before a power loss guards nothing.
                if self.1.load(Ordering::SeqCst) == self.2 {
                    self.0.store(false, Ordering::SeqCst);
                }
            }
        }
        match self.locked.swap(true, Ordering::SeqCst) {
            true => now(Err(io::ErrorKind::WouldBlock.into())),
            false => {
                let guard = Guard(self.locked.clone(), self.life.clone(), self.life.load(Ordering::SeqCst));
                now(Ok(Box::new(guard) as _))
            }
        }
    }
}

struct TestFile {
    content: Shared,
    journal: bool,
    hold: watch::Receiver<bool>,
    fail: Arc<AtomicBool>,
    born: u64,
    life: Arc<AtomicU64>,
    left: Arc<AtomicU64>,
}

impl TestFile {
    /// Spends one operation. Returns whether the power is still there.
    fn spend(&self) -> bool {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        spent.is_ok() && self.life.load(Ordering::SeqCst) == self.born
    }

    fn change<T: Send + 'static>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> Pending<T> {
        match self.spend() {
            true => now(Ok(change(&mut self.content.lock().unwrap().cached))),
            false => now(Err(io::Error::other("the power is gone"))),
        }
    }
}

impl File for TestFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.change(|cached| {
            let offset = cached.len() as u64;
            cached.extend_from_slice(&bytes);
            offset
        })
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.change(|cached| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            if cached.len() < end {
                cached.resize(end, 0);
            }
            cached[start..end].copy_from_slice(&bytes);
        })
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.change(|cached| {
            let start = cached.len().min(offset as usize);
            Bytes::copy_from_slice(&cached[start..cached.len().min(start.saturating_add(len))])
        })
    }

    fn len(&self) -> Pending<u64> {
        self.change(|cached| cached.len() as u64)
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        self.change(|cached| cached.resize(len as usize, 0))
    }

    fn sync(&self) -> Pending<()> {
        let (content, mut hold) = (self.content.clone(), self.hold.clone());
        let (journal, fail, born, life) = (self.journal, self.fail.clone(), self.born, self.life.clone());
        let (alive, left) = (self.spend(), self.left.clone());
        let synced = content.lock().unwrap().cached.clone();
        Box::pin(async move {
            sleep(Duration::from_micros(100)).await;
            if journal {
                hold.wait_for(|hold| !hold).await.ok();
            }
            if !alive || left.load(Ordering::SeqCst) == 0 || life.load(Ordering::SeqCst) != born {
                return Err(io::Error::other("the power is gone"));
            }
            if journal && fail.load(Ordering::SeqCst) {
                return Err(io::Error::other("the sync failed"));
            }
            content.lock().unwrap().durable = synced;
            Ok(())
        })
    }
}
