//! The disk seam: asynchronous and owned.
//!
//! Each method *submits* its operation before it returns; the future only waits for the outcome. So an operation takes
//! effect even if its future is dropped, which matters because handlers are cancelled at deadlines. Operations on one
//! file complete in the order of submission. An operation is durable only after a `sync` completes that was submitted
//! after it.

use std::{future::Future, io, path::Path, pin::Pin, sync::Arc};

use bytes::Bytes;

/// The outcome of a submitted operation.
pub type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// What `open` does, depending on whether the file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; otherwise `NotFound`.
    Existing,
    /// The file is created empty if it does not exist.
    Create,
    /// The file must not exist; otherwise `AlreadyExists`.
    CreateNew,
}

/// One data folder. All paths are relative to it.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing. A created file survives a power loss only after
    /// [`sync_folder`](Disk::sync_folder) on its folder.
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>>;
    /// Creates a folder and its parents; an existing folder is no error. Each new folder survives a power loss, with
    /// everything in it, only after [`sync_folder`](Disk::sync_folder) on the folder that contains it.
    fn create_folder(&self, path: &Path) -> Pending<()>;
    /// Returns the names in a folder, sorted; `NotFound` if there is no such folder. `""` is the data folder itself.
    fn list(&self, path: &Path) -> Pending<Vec<String>>;
    /// Renames a file atomically and replaces what was at `to`. The rename is durable after `sync_folder`.
    fn rename(&self, from: &Path, to: &Path) -> Pending<()>;
    /// Removes a file. The removal is durable after `sync_folder`.
    fn remove(&self, path: &Path) -> Pending<()>;
    /// Makes all creations, renames and removals in the folder durable.
    fn sync_folder(&self, path: &Path) -> Pending<()>;
    /// Takes the exclusive lock of the data folder until the returned guard is dropped or the process ends;
    /// `WouldBlock` if another process holds it.
    fn lock(&self) -> Pending<Box<dyn Send + Sync>>;
}

/// One open file.
#[allow(clippy::len_without_is_empty, reason = "asking costs a submission; nobody needs it twice")]
pub trait File: Send + Sync + 'static {
    /// Writes at the end and returns the offset at which the bytes begin.
    fn append(&self, bytes: Bytes) -> Pending<u64>;
    /// Writes at an offset, growing the file where needed.
    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()>;
    /// Reads up to `len` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes>;
    /// Returns the length in bytes.
    fn len(&self) -> Pending<u64>;
    /// Cuts the file, or grows it with zeroes.
    fn truncate(&self, len: u64) -> Pending<()>;
    /// Makes every operation that was submitted before it durable. After an error nothing is known about those bytes:
    /// the caller must stop, and never retry.
    fn sync(&self) -> Pending<()>;
}
