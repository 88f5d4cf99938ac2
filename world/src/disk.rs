//! The disk seam: asynchronous and owned.
//!
//! Each method *submits* its operation before it returns; the future only waits for the outcome. So an operation takes
//! effect even if its future is dropped, which matters because handlers are cancelled at deadlines. Operations on one
//! file complete in the order of submission. Nothing is durable before a `sync` that was submitted after it completed.

use std::{future::Future, io, path::Path, pin::Pin, sync::Arc};

use bytes::Bytes;

/// The outcome of a submitted operation.
pub type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// What `open` does where the file does or does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist, else `NotFound`.
    Existing,
    /// Created empty where it does not exist.
    Create,
    /// Must not exist, else `AlreadyExists`.
    CreateNew,
}

/// One data folder. All paths are relative to it.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing. A created file survives a power loss only after
    /// [`sync_folder`](Disk::sync_folder) on its folder.
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>>;
    /// Creates a folder and its parents; no error where it exists. Each survives a power loss, with all that is in it, only
    /// after [`sync_folder`](Disk::sync_folder) on the folder that it stands in.
    fn create_folder(&self, path: &Path) -> Pending<()>;
    /// The names in a folder, sorted; `NotFound` where there is none. `""` is the data folder itself.
    fn list(&self, path: &Path) -> Pending<Vec<String>>;
    /// Renames atomically, replacing what stood at `to`. Durable after `sync_folder`.
    fn rename(&self, from: &Path, to: &Path) -> Pending<()>;
    /// Removes a file. Durable after `sync_folder`.
    fn remove(&self, path: &Path) -> Pending<()>;
    /// Makes creations, renames and removals in the folder durable.
    fn sync_folder(&self, path: &Path) -> Pending<()>;
    /// Takes the exclusive lock of the data folder until the returned guard is dropped or the process ends;
    /// `WouldBlock` where another process holds it.
    fn lock(&self) -> Pending<Box<dyn Send + Sync>>;
}

/// One open file.
#[allow(clippy::len_without_is_empty, reason = "asking costs a submission; nobody needs it twice")]
pub trait File: Send + Sync + 'static {
    /// Writes at the end; answers the offset at which the bytes begin.
    fn append(&self, bytes: Bytes) -> Pending<u64>;
    /// Writes at an offset, growing the file where needed.
    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()>;
    /// Reads up to `len` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes>;
    /// Length in bytes.
    fn len(&self) -> Pending<u64>;
    /// Cuts the file, or grows it with zeroes.
    fn truncate(&self, len: u64) -> Pending<()>;
    /// Makes everything submitted before durable. After an error nothing is known about those bytes: the caller must
    /// stop, never retry.
    fn sync(&self) -> Pending<()>;
}
