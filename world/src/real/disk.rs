//! The real disk: one thread per data folder performs the operations, as if in the order of their submission.
//!
//! There is a queue and a thread because a change must take effect even if its caller is cancelled, and because
//! blocking calls must not hold up the tasks of a server. Reads give way to changes that do not concern them, and are
//! skipped if nobody awaits them any more (`backlog`). Only the owner has access to folders and files. Nothing here may
//! retry a failed sync: the kernel has dropped the bytes by then and would report success.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::backlog::{Backlog, Change, Next, Read};
use crate::{Disk, File, OpenMode, Pending};

/// The name of the file that is locked while a process uses the data folder. It belongs to the disk, not to the data:
/// [`list`](Disk::list) leaves it out.
const LOCK: &str = "LOCK";

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// An operation that changes the folder, or has to see all changes.
struct ChangeJob {
    run: Box<dyn FnOnce() + Send>,
    /// The file and the bytes in it that the operation changes.
    changes: Option<(Arc<Opened>, Extent)>,
}

/// A read of one file.
struct ReadJob {
    opened: Arc<Opened>,
    offset: u64,
    len: usize,
    answer: oneshot::Sender<io::Result<Bytes>>,
}

/// The bytes of a file that change.
#[derive(Debug, Clone, Copy)]
enum Extent {
    /// This many bytes from this offset on.
    Bytes(u64, u64),
    /// Everything from this offset on.
    From(u64),
    /// Everything from the end of the file on.
    End,
}

impl Read for ReadJob {
    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

impl Change<ReadJob> for ChangeJob {
    fn concerns(&self, read: &ReadJob) -> bool {
        let Some((opened, extent)) = self.changes.as_ref().filter(|(opened, _)| opened.path == read.opened.path) else {
            return false;
        };
        let read_end = read.offset.saturating_add(read.len as u64);
        match *extent {
            Extent::Bytes(offset, len) => offset < read_end && read.offset < offset.saturating_add(len),
            Extent::From(offset) => offset < read_end,
            // If the end is unknown, the order of submission is kept.
            Extent::End => opened.file.metadata().map_or(true, |metadata| metadata.len() < read_end),
        }
    }
}

impl ReadJob {
    fn run(self) {
        let ReadJob { opened, offset, len, answer } = self;
        let read = || {
            let rest = opened.file.metadata()?.len().saturating_sub(offset);
            let len = usize::try_from(rest).map_or(len, |rest| len.min(rest));
            let mut bytes = vec![0; len];
            opened.file.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        };
        _ = answer.send(read().map_err(|why| naming("read", &opened.path, why)));
    }
}

type Job = Next<ReadJob, ChangeJob>;

/// A data folder on a real file system. Its thread ends when the disk and all files opened through it are dropped.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: Arc<PathBuf>,
    worker: Worker,
}

impl RealDisk {
    /// Opens an existing folder. It does not lock the folder.
    pub fn open(folder: &Path) -> io::Result<RealDisk> {
        let root = fs::canonicalize(folder).map_err(|why| naming("open the data folder", folder, why))?;
        if !root.is_dir() {
            let why = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(naming("open the data folder", folder, why));
        }
        Ok(RealDisk { root: Arc::new(root), worker: Worker::start()? })
    }

    /// Creates the folder, durably and for its owner only, if it does not exist; then opens it.
    pub fn create(folder: &Path) -> io::Result<RealDisk> {
        create_folders(folder).map_err(|why| naming("create the data folder", folder, why))?;
        RealDisk::open(folder)
    }

    /// Returns the absolute path of something in the folder. It refuses a path that could lie outside of the folder.
    fn path(&self, relative: &Path) -> io::Result<PathBuf> {
        if relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Ok(self.root.join(relative));
        }
        let why = format!("`{}` is not a path inside the data folder {}", relative.display(), self.root.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Submits an operation on a path; its errors name the path.
    fn submit<T: Send + 'static>(
        &self,
        what: &'static str,
        relative: &Path,
        operation: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Pending<T> {
        match self.path(relative) {
            Ok(path) => self.worker.submit(None, move || operation(&path).map_err(|why| naming(what, &path, why))),
            Err(why) => Box::pin(std::future::ready(Err(why))),
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Arc<dyn File>> {
        let worker = self.worker.clone();
        self.submit("open", path, move |path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(FILE_MODE);
            match mode {
                OpenMode::Existing => {}
                OpenMode::Create => _ = options.create(true),
                OpenMode::CreateNew => _ = options.create_new(true),
            }
            let opened = Opened { file: options.open(path)?, path: path.to_owned() };
            Ok(Arc::new(RealFile { opened: Arc::new(opened), worker }) as Arc<dyn File>)
        })
    }

    fn create_folder(&self, path: &Path) -> Pending<()> {
        self.submit("create the folder", path, |path| {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
        })
    }

    fn list(&self, path: &Path) -> Pending<Vec<String>> {
        let is_root = path.components().all(|part| part == Component::CurDir);
        self.submit("list the folder", path, move |path| {
            let mut names = fs::read_dir(path)?.map(|entry| name_of(&entry?)).collect::<io::Result<Vec<_>>>()?;
            names.retain(|name| !(is_root && name == LOCK));
            names.sort();
            Ok(names)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<()> {
        match self.path(to) {
            Ok(to) => self.submit("rename", from, move |from| fs::rename(from, to)),
            Err(why) => Box::pin(std::future::ready(Err(why))),
        }
    }

    fn remove(&self, path: &Path) -> Pending<()> {
        self.submit("remove", path, |path| fs::remove_file(path))
    }

    fn sync_folder(&self, path: &Path) -> Pending<()> {
        self.submit("sync the folder", path, |path| fs::File::open(path)?.sync_all())
    }

    fn lock(&self) -> Pending<Box<dyn Send + Sync>> {
        self.submit("lock the data folder by", Path::new(LOCK), |path| {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
            match file.try_lock() {
                // The lock lives as long as the open file, and the kernel releases it when the process ends.
                Ok(()) => Ok(Box::new(file) as Box<dyn Send + Sync>),
                Err(TryLockError::WouldBlock) => Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process uses this data folder; stop it first, or give this one a folder of its own",
                )),
                Err(TryLockError::Error(why)) => Err(why),
            }
        })
    }
}

/// An open file, as the worker sees it.
#[derive(Debug)]
struct Opened {
    file: fs::File,
    path: PathBuf,
}

struct RealFile {
    opened: Arc<Opened>,
    worker: Worker,
}

impl RealFile {
    fn submit<T: Send + 'static>(
        &self,
        what: &'static str,
        changes: Option<Extent>,
        operation: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let opened = self.opened.clone();
        let changes = changes.map(|extent| (opened.clone(), extent));
        self.worker.submit(changes, move || operation(&opened.file).map_err(|why| naming(what, &opened.path, why)))
    }
}

impl File for RealFile {
    fn append(&self, bytes: Bytes) -> Pending<u64> {
        // The worker itself determines the end of the file: no other operation of this process can move it in between.
        // `O_APPEND` would do the same, but makes `write_at` ignore its offset (pwrite(2), BUGS).
        self.submit("append to", Some(Extent::End), move |file| {
            let end = file.metadata()?.len();
            file.write_all_at(&bytes, end)?;
            Ok(end)
        })
    }

    fn write_at(&self, offset: u64, bytes: Bytes) -> Pending<()> {
        let extent = Extent::Bytes(offset, bytes.len() as u64);
        self.submit("write", Some(extent), move |file| file.write_all_at(&bytes, offset))
    }

    fn read_at(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let (answer, answered) = oneshot::channel();
        let read = ReadJob { opened: self.opened.clone(), offset, len, answer };
        self.worker.send(Next::Read(read), answered)
    }

    fn len(&self) -> Pending<u64> {
        self.submit("measure", None, |file| Ok(file.metadata()?.len()))
    }

    fn truncate(&self, len: u64) -> Pending<()> {
        self.submit("truncate", Some(Extent::From(len)), move |file| file.set_len(len))
    }

    fn sync(&self) -> Pending<()> {
        self.submit("sync", None, fs::File::sync_data)
    }
}

/// The way to the thread of a data folder. Only its callers bound what is submitted to it: each waits for its answer,
/// and a read that nobody waits for is skipped.
#[derive(Debug, Clone)]
struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    fn start() -> io::Result<Worker> {
        let (jobs, submitted) = mpsc::channel::<Job>();
        thread::Builder::new().name("disk".to_owned()).spawn(move || work(&submitted))?;
        Ok(Worker { jobs })
    }

    fn submit<T: Send + 'static>(
        &self,
        changes: Option<(Arc<Opened>, Extent)>,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        // The caller that waited for the answer may be gone; the operation has taken effect all the same.
        let run = Box::new(move || _ = answer.send(operation()));
        self.send(Next::Change(ChangeJob { run, changes }), answered)
    }

    fn send<T: Send + 'static>(&self, job: Job, answered: oneshot::Receiver<io::Result<T>>) -> Pending<T> {
        let submitted = self.jobs.send(job).is_ok();
        Box::pin(async move {
            if !submitted {
                return Err(io::Error::other("the thread of the data folder has ended"));
            }
            answered.await.unwrap_or_else(|_| Err(io::Error::other("the thread of the data folder has ended")))
        })
    }
}

/// Does what is submitted until nobody is left who could submit anything.
fn work(submitted: &mpsc::Receiver<Job>) {
    let mut backlog = Backlog::new();
    loop {
        submitted.try_iter().for_each(|job| backlog.push(job));
        match backlog.next() {
            Some(Next::Read(read)) => read.run(),
            Some(Next::Change(change)) => (change.run)(),
            None => match submitted.recv() {
                Ok(job) => backlog.push(job),
                Err(mpsc::RecvError) => return,
            },
        }
    }
}

/// Creates a folder and its parents, each made durable in its own parent.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    create_folders(parent)?;
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(why) => Err(why),
        Ok(()) => fs::File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?.sync_all(),
    }
}

fn name_of(entry: &fs::DirEntry) -> io::Result<String> {
    entry.file_name().into_string().map_err(|name| {
        let why = format!("`{}` is not UTF-8 and not a file of ours; move it elsewhere", name.to_string_lossy());
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

fn naming(what: &str, path: &Path, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("cannot {what} {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(&folder.path().join("data")).unwrap();
        (folder, disk)
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let (_folder, disk) = disk();
        let file = disk.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
        assert_eq!(file.append(Bytes::from_static(b"hello ")).await.unwrap(), 0);
        assert_eq!(file.append(Bytes::from_static(b"world")).await.unwrap(), 6);
        file.write_at(0, Bytes::from_static(b"J")).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap(), "Jello world");
        assert_eq!(file.read_at(6, 3).await.unwrap(), "wor");
        assert_eq!(file.read_at(100, 3).await.unwrap(), "");
        file.truncate(5).await.unwrap();
        assert_eq!(file.append(Bytes::from_static(b"!")).await.unwrap(), 5);
        assert_eq!(file.len().await.unwrap(), 6);
        disk.sync_folder(Path::new("")).await.unwrap();
    }

    #[tokio::test]
    async fn operations_take_effect_in_order_even_if_nobody_waits() {
        let (_folder, disk) = disk();
        let file = disk.open(Path::new("log"), OpenMode::Create).await.unwrap();
        (0..100u8).for_each(|n| drop(file.append(Bytes::copy_from_slice(&[n]))));
        assert_eq!(file.read_at(0, 1000).await.unwrap(), (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_read_finds_what_was_there_when_it_was_submitted() {
        let (_folder, disk) = disk();
        let file = disk.open(Path::new("log"), OpenMode::Create).await.unwrap();
        drop(file.append(Bytes::from_static(b"first")));
        let mut reads = Vec::new();
        for round in 0..50u8 {
            reads.extend((0..20).map(|_| (round, file.read_at(0, 5))));
            drop(file.write_at(0, Bytes::from(vec![b'a' + round % 26; 5])));
            drop(file.append(Bytes::from_static(b"more")));
            drop(file.sync());
        }
        let cut = file.read_at(5, 4);
        drop(file.truncate(5));
        assert_eq!(cut.await.unwrap(), "more");
        for (round, read) in reads {
            let expected = if round == 0 { b"first".to_vec() } else { vec![b'a' + (round - 1) % 26; 5] };
            assert_eq!(read.await.unwrap(), expected, "round {round}");
        }
    }

    #[tokio::test]
    async fn modes_of_opening_do_what_they_say() {
        let (_folder, disk) = disk();
        let path = Path::new("file");
        let missing = disk.open(path, OpenMode::Existing).await.err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("data/file"), "{missing}");
        disk.open(path, OpenMode::Create).await.unwrap().append(Bytes::from_static(b"x")).await.unwrap();
        let standing = disk.open(path, OpenMode::CreateNew).await.err().unwrap();
        assert_eq!(standing.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open(path, OpenMode::Create).await.unwrap().len().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn names_are_sorted_and_the_lock_is_not_among_them() {
        let (_folder, disk) = disk();
        let _held = disk.lock().await.unwrap();
        disk.create_folder(Path::new("b/c")).await.unwrap();
        disk.open(Path::new("z"), OpenMode::Create).await.unwrap();
        disk.open(Path::new("a"), OpenMode::Create).await.unwrap();
        disk.rename(Path::new("z"), Path::new("b/z")).await.unwrap();
        assert_eq!(disk.list(Path::new("")).await.unwrap(), ["a", "b"]);
        assert_eq!(disk.list(Path::new("b")).await.unwrap(), ["c", "z"]);
        disk.remove(Path::new("b/z")).await.unwrap();
        assert_eq!(disk.list(Path::new("b")).await.unwrap(), ["c"]);
        assert_eq!(disk.list(Path::new("nowhere")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_can_be_named() {
        let (_folder, disk) = disk();
        for path in ["/etc/passwd", "../x", "a/../../x"] {
            let error = disk.open(Path::new(path), OpenMode::Create).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(disk.rename(Path::new("a"), Path::new(path)).await.unwrap_err().kind(), error.kind());
        }
    }

    #[tokio::test]
    async fn the_lock_has_one_holder() {
        let (folder, disk) = disk();
        let held = disk.lock().await.unwrap();
        let other = RealDisk::open(&folder.path().join("data")).unwrap();
        let refused = other.lock().await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(held);
        other.lock().await.unwrap();
    }

    #[tokio::test]
    async fn files_and_folders_are_their_owners_alone() {
        let (folder, disk) = disk();
        disk.open(Path::new("log"), OpenMode::Create).await.unwrap();
        disk.create_folder(Path::new("segments")).await.unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("data"), mode("data/segments"), mode("data/log")), (0o700, 0o700, 0o600));
    }

    #[test]
    fn a_missing_folder_is_named_and_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere");
        let error = RealDisk::open(&path).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(!path.exists());
    }
}
