//! A disk that takes a moment to open a file that is there, and for a read that was submitted: time for something else to
//! happen to what is read.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use crate::world::{Disk, File, OpenMode, Pending};

const MOMENT: Duration = Duration::from_millis(5);

/// See the module.
pub(in crate::audit::cluster) struct Slow(pub(in crate::audit::cluster) Arc<dyn Disk>);

struct SlowFile(Arc<dyn File>);

impl Disk for Slow {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let (disk, path) = (self.0.clone(), path.to_owned());
        Box::pin(async move {
            if mode == OpenMode::Existing {
                sleep(MOMENT).await;
            }
            Ok(Arc::new(SlowFile(disk.open(&path, mode).await?)) as Arc<dyn File>)
        })
    }
    fn create_folder(&self, path: &Path) -> Pending<()> {
        self.0.create_folder(path)
    }
    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        self.0.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Pending<()> {
        self.0.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> Pending<()> {
        self.0.sync_folder(path)
    }
    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        self.0.lock()
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
