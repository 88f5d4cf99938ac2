//! The simulated disk without waiting, behind the files of [`crate::system::File`].
//!
//! It shares the page cache, the platter and the luck at a power loss. A sync takes no simulated time: what it covers
//! is durable when it returns, even on a host that stands still, because nobody sees what such a host does before it
//! goes on.

use std::{io, path::Path, sync::Arc};

use gapless_world::OpenMode;

use super::{Change, SimDisk, SimFile, io_error};
use crate::{
    history::{DiskOp, What},
    seam,
    system::{DiskAtOnce, FileAtOnce, without_power},
};

impl DiskAtOnce for SimDisk {
    fn open_at_once(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileAtOnce>> {
        let mut state = self.lock_state();
        if state.dark {
            return Err(without_power());
        }
        let file = state.open(path, mode)?;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn sync_folder_at_once(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if state.dark {
            return Err(without_power());
        }
        state.settle(seam::now());
        state.sync_names(path);
        drop(state);
        let path = path.display().to_string();
        self.recorder.record(What::Disk { op: DiskOp::SyncFolder, path, bytes: 0, error: None });
        Ok(())
    }
}

impl FileAtOnce for SimFile {
    fn sync_at_once(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        if state.dark {
            return Err(without_power());
        }
        let now = seam::now();
        state.settle(now);
        let path = self.path.display().to_string();
        let fails = state.faults.fail_sync(&path);
        let inode = &mut state.files[self.file];
        let bytes = inode.changes.iter().map(Change::len).sum();
        let settled = inode.sync_at_once(now, fails);
        state.absorb(self.file, settled);
        drop(state);
        let error = fails.map(|_| io_error());
        let told = error.as_ref().map(io::Error::to_string);
        self.disk.recorder.record(What::Disk { op: DiskOp::Sync, path, bytes, error: told });
        error.map_or(Ok(()), Err)
    }
}
