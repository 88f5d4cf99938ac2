//! A disk whose syncs can be made to fail, over a real one.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use crate::world::{Disk, File, OpenMode, Pending, real::RealDisk};

/// Breaks a disk, for good.
#[derive(Clone, Default)]
pub(super) struct Switch(Arc<AtomicBool>);

impl Switch {
    /// From now on no file can be synced.
    pub(super) fn break_syncs(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The disk.
pub(super) struct Breakable {
    disk: RealDisk,
    switch: Switch,
}

impl Breakable {
    pub(super) fn new(disk: RealDisk) -> Breakable {
        Breakable { disk, switch: Switch::default() }
    }

    pub(super) fn switch(&self) -> Switch {
        self.switch.clone()
    }
}

impl Disk for Breakable {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let (opening, switch) = (self.disk.open(path, mode), self.switch.clone());
        Box::pin(async move { Ok(Arc::new(BreakableFile { file: opening.await?, switch }) as Arc<dyn File>) })
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

struct BreakableFile {
    file: Arc<dyn File>,
    switch: Switch,
}

impl File for BreakableFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        self.file.append(bytes)
    }
    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.file.read_at(offset, len)
    }
    fn len(&self) -> Pending<u64> {
        self.file.len()
    }
    fn truncate(&self, len: u64) -> Pending<()> {
        self.file.truncate(len)
    }
    fn sync(&self) -> Pending<()> {
        match self.switch.0.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(io::Error::other("the disk is broken")))),
            false => self.file.sync(),
        }
    }
}
