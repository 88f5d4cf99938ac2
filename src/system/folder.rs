//! The disk of a host in the style of `std::fs`, for logs whose store is synchronous.
//!
//! It is the same simulated disk that [`Host::world`](super::Host::world) offers with futures, and it fails in the same
//! ways: at a power loss, what was written and not synced may be lost, torn or kept. Only time is missing. A
//! synchronous call cannot wait for simulated time without blocking all hosts, so each call, a sync included, is
//! complete when it returns.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::FutureExt;
use gapless_world::{Disk, OpenMode, Pending};

/// A disk that can also be used without waiting. All operations except a sync are complete at their submission anyway.
pub(crate) trait DiskAtOnce: Disk {
    /// Like [`Disk::open`], complete when it returns.
    fn open_at_once(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileAtOnce>>;
    /// Like [`Disk::sync_folder`], complete when it returns.
    fn sync_folder_at_once(&self, path: &Path) -> io::Result<()>;
}

/// A file of such a disk.
pub(crate) trait FileAtOnce: gapless_world::File {
    /// Like [`gapless_world::File::sync`], complete when it returns.
    fn sync_at_once(&self) -> io::Result<()>;
}

/// The error of a disk without power. A thread that waited for such a disk would wait for ever.
pub(crate) fn without_power() -> io::Error {
    io::Error::other("the disk does not answer: its host has lost its power")
}

fn at_once<T>(pending: Pending<T>) -> io::Result<T> {
    pending.now_or_never().unwrap_or_else(|| Err(without_power()))
}

/// The data folder of a host. It outlives the processes of the host. Names are relative to it.
#[derive(Clone)]
pub struct DataFolder(pub(crate) Arc<dyn DiskAtOnce>);

impl fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataFolder")
    }
}

impl DataFolder {
    /// Opens a file for appending. Every write is appended, and reads start at the beginning. If the file does not
    /// exist, it is created, and its name is at once made durable in its folder.
    ///
    /// # Errors
    /// `NotFound` if its folder does not exist.
    pub fn append_to(&self, name: impl AsRef<Path>) -> io::Result<File> {
        let name = name.as_ref();
        let file = match self.0.open_at_once(name, OpenMode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.0.open_at_once(name, OpenMode::CreateNew)?;
                self.sync_folder(name.parent().unwrap_or(Path::new("")))?;
                file
            }
            opened => opened?,
        };
        Ok(File::new(file, true))
    }

    /// Opens a file for reading and writing from its beginning.
    ///
    /// # Errors
    /// `NotFound` if it does not exist.
    pub fn open(&self, name: impl AsRef<Path>) -> io::Result<File> {
        Ok(File::new(self.0.open_at_once(name.as_ref(), OpenMode::Existing)?, false))
    }

    /// Opens an empty file: it is created if it does not exist, and truncated if it does. Its name survives a power
    /// loss after [`sync_folder`](DataFolder::sync_folder).
    ///
    /// # Errors
    /// `NotFound` if its folder does not exist.
    pub fn create(&self, name: impl AsRef<Path>) -> io::Result<File> {
        let file = File::new(self.0.open_at_once(name.as_ref(), OpenMode::Create)?, false);
        file.set_len(0)?;
        Ok(file)
    }

    /// Creates a folder and its parents. It is no error if the folder exists. Each folder survives a power loss, with
    /// everything in it, after [`sync_folder`](DataFolder::sync_folder) of its parent folder.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn create_folder(&self, name: impl AsRef<Path>) -> io::Result<()> {
        at_once(self.0.create_folder(name.as_ref()))
    }

    /// Returns the names in a folder, sorted. `""` is the data folder itself.
    ///
    /// # Errors
    /// `NotFound` if it does not exist.
    pub fn list(&self, folder: impl AsRef<Path>) -> io::Result<Vec<String>> {
        at_once(self.0.list(folder.as_ref()))
    }

    /// Renames a file in one step, replacing what was at `to`. Durable after [`sync_folder`](DataFolder::sync_folder).
    ///
    /// # Errors
    /// `NotFound` if `from` does not exist.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        at_once(self.0.rename(from.as_ref(), to.as_ref()))
    }

    /// Removes a file. Durable after [`sync_folder`](DataFolder::sync_folder).
    ///
    /// # Errors
    /// `NotFound` if it does not exist.
    pub fn remove(&self, name: impl AsRef<Path>) -> io::Result<()> {
        at_once(self.0.remove(name.as_ref()))
    }

    /// Makes everything durable that was created, renamed or removed in a folder.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync_folder(&self, folder: impl AsRef<Path>) -> io::Result<()> {
        self.0.sync_folder_at_once(folder.as_ref())
    }
}

/// An open file on a simulated disk, used like `std::fs::File`.
///
/// As with that type, a shared reference can read, write and seek too, and clones by [`try_clone`](File::try_clone)
/// share one position.
pub struct File {
    file: Arc<dyn FileAtOnce>,
    /// Where the next read or write begins.
    position: Arc<Mutex<u64>>,
    append: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("append", &self.append).finish_non_exhaustive()
    }
}

impl File {
    fn new(file: Arc<dyn FileAtOnce>, append: bool) -> Self {
        Self { file, position: Arc::default(), append }
    }

    fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable that was written so far. After an error, nothing is known about those bytes: a second
    /// try that succeeds proves nothing.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_at_once()
    }

    /// Does the same as [`sync_data`](File::sync_data), because the length of a simulated file is as durable as its
    /// bytes.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// Truncates the file, or extends it with zeroes. The position stays where it is.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        at_once(self.file.truncate(len))
    }

    /// Returns the length in bytes. (`std::fs::File` has it in its `metadata()`.)
    ///
    /// # Errors
    /// If the disk fails.
    #[allow(clippy::len_without_is_empty, reason = "an emptiness that can fail reads worse than `len()? == 0`")]
    pub fn len(&self) -> io::Result<u64> {
        at_once(self.file.len())
    }

    /// Reads at an offset and leaves the position alone. Returns fewer bytes than asked for only at the end of the
    /// file.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = at_once(self.file.read_at(offset, to.len()))?;
        to[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    /// Writes at an offset and leaves the position alone.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        at_once(self.file.write_at(offset, Bytes::copy_from_slice(bytes)))
    }

    /// Returns another handle to the same file, with the same position.
    ///
    /// # Errors
    /// Never fails. The signature is that of `std::fs::File`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.clone(), position: self.position.clone(), append: self.append })
    }
}

impl Read for &File {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut position = self.position();
        let read = self.read_at(to, *position)?;
        *position += read as u64;
        Ok(read)
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut position = self.position();
        let begin = if self.append {
            at_once(self.file.append(Bytes::copy_from_slice(bytes)))?
        } else {
            self.write_all_at(bytes, *position)?;
            *position
        };
        *position = begin + bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // into the page cache, where it is already
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut position = self.position();
        let sought = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => position.checked_add_signed(by),
            SeekFrom::End(by) => self.len()?.checked_add_signed(by),
        };
        *position =
            sought.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no offset at {to:?}")))?;
        Ok(*position)
    }
}

impl Read for File {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        (&*self).read(to)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
