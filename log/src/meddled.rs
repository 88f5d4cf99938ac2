//! A disk in front of another disk: a test says what differs, and all the rest is passed on.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use gapless_world::{Disk, File, OpenMode, Pending};

/// What a disk does differently from the disk behind it: by default, nothing.
pub(crate) trait Meddler: Clone + Send + Sync + 'static {
    /// Intercepts an opening, which `open` submits.
    fn opening<F>(&self, _mode: OpenMode, open: F) -> Pending<Arc<dyn File>>
    where
        F: FnOnce() -> Pending<Arc<dyn File>> + Send + 'static,
    {
        open()
    }

    /// Intercepts a read that was submitted.
    fn reading(&self, read: Pending<Bytes>) -> Pending<Bytes> {
        read
    }

    /// Intercepts the sync of a file, which `sync` submits.
    fn syncing(&self, sync: impl FnOnce() -> Pending<()>) -> Pending<()> {
        sync()
    }
}

/// A disk that a [`Meddler`] changes. See the module.
pub(crate) struct Meddled<M> {
    disk: Arc<dyn Disk>,
    meddler: M,
}

struct MeddledFile<M> {
    file: Arc<dyn File>,
    meddler: M,
}

impl<M: Meddler> Meddled<M> {
    pub(crate) fn new(disk: Arc<dyn Disk>, meddler: M) -> Self {
        Self { disk, meddler }
    }
}

impl<M: Meddler> Disk for Meddled<M> {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let (disk, path, meddler) = (self.disk.clone(), path.to_owned(), self.meddler.clone());
        let opening = meddler.opening(mode, move || disk.open(&path, mode));
        Box::pin(async move { Ok(Arc::new(MeddledFile { file: opening.await?, meddler }) as Arc<dyn File>) })
    }
    fn create_folder(&self, path: &Path) -> Pending<()> {
        self.disk.create_folder(path)
    }
    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        self.disk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Pending<()> {
        self.disk.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> Pending<()> {
        self.disk.sync_folder(path)
    }
    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        self.disk.lock()
    }
}

impl<M: Meddler> File for MeddledFile<M> {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.file.append(bytes)
    }
    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.meddler.reading(self.file.read_at(offset, len))
    }
    fn len(&self) -> Pending<u64> {
        self.file.len()
    }
    fn truncate(&self, len: u64) -> Pending<()> {
        self.file.truncate(len)
    }
    fn sync(&self) -> Pending<()> {
        self.meddler.syncing(|| self.file.sync())
    }
}
