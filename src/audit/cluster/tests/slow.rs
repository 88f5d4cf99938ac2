//! A disk that takes a moment to open a file that is there, and for a read that was submitted: time for something else to
//! happen to what is read.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::sleep;

use crate::world::{Disk, File, OpenMode, Pending};

const MOMENT: Duration = Duration::from_millis(5);

/// See the module.
pub(in crate::audit::cluster) struct Slow {
    disk: Arc<dyn Disk>,
    reads: Arc<AtomicUsize>,
}

struct SlowFile(Arc<dyn File>, Arc<AtomicUsize>);

impl Slow {
    pub(in crate::audit::cluster) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, reads: Arc::default() }
    }

    /// Where its reads are counted.
    pub(in crate::audit::cluster) fn reads(&self) -> Arc<AtomicUsize> {
        self.reads.clone()
    }
}

impl Disk for Slow {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let (disk, reads, path) = (self.disk.clone(), self.reads(), path.to_owned());
        Box::pin(async move {
            if mode == OpenMode::Existing {
                sleep(MOMENT).await;
            }
            Ok(Arc::new(SlowFile(disk.open(&path, mode).await?, reads)) as Arc<dyn File>)
        })
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

impl File for SlowFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.0.append(bytes)
    }
    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.0.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let read = self.0.read_at(offset, len);
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(MOMENT).await;
            read.await
        })
    }
    fn len(&self) -> Pending<u64> {
        self.0.len()
    }
    fn truncate(&self, len: u64) -> Pending<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> Pending<()> {
        self.0.sync()
    }
}
