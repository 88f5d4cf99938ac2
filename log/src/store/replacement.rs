//! A replacement: a file that is written under its name with `.new` appended, and takes its own name only once it is
//! whole and durable. A crash leaves the file that was there (or none) or the whole new one, and perhaps a file with
//! `.new` appended to its name, which the next replacement begins anew.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use gapless_world::{Disk, File, OpenMode};

use super::StoreError;

/// See the module documentation.
pub(super) struct Replacement<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    new: PathBuf,
    file: Arc<dyn File>,
}

impl<'a> Replacement<'a> {
    /// Begins with an empty file.
    pub(super) async fn begin(disk: &'a dyn Disk, path: &'a Path) -> Result<Self, StoreError> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let file = disk.open(&new, OpenMode::Create).await.map_err(StoreError::io("create", &new))?;
        file.truncate(0).await.map_err(StoreError::io("empty", &new))?;
        Ok(Self { disk, path, new, file })
    }

    /// Returns the new file, with the name that it has until it is finished.
    pub(super) fn file(&self) -> (&dyn File, &Path) {
        (&*self.file, &self.new)
    }

    pub(super) async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), StoreError> {
        self.file.write_at(offset, bytes).await.map_err(StoreError::io("write", &self.new))
    }

    /// Lets the file take its own name, durably, and opens it.
    pub(super) async fn finish(self) -> Result<Arc<dyn File>, StoreError> {
        let Self { disk, path, new, file } = self;
        file.sync().await.map_err(StoreError::io("sync", &new))?;
        disk.rename(&new, path).await.map_err(StoreError::io("rename", &new))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        disk.sync_folder(folder).await.map_err(StoreError::io("sync", folder))?;
        disk.open(path, OpenMode::Existing).await.map_err(StoreError::io("open", path))
    }
}
