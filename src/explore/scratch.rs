//! Files without a name, for the data that passes between the process of a run and its parent.
//!
//! A name would have to be removed again, which a parent that is killed cannot do. These files vanish with the last
//! process that holds them open, however that process ends.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    process::{self, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

/// How many names are tried before the temporary folder is given up.
const TRIES: usize = 100;

/// A file of this process that no other process can find by name.
#[derive(Debug)]
pub struct Scratch(File);

impl Scratch {
    /// Creates an empty file in the temporary folder (`TMPDIR`).
    ///
    /// # Errors
    /// If that folder is missing, full or not writable. The text names the folder.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = env::temp_dir();
        let failed = |error: io::Error| {
            let text = format!("no file can be made in {}: {error}; set TMPDIR to a folder that can", folder.display());
            io::Error::new(error.kind(), text)
        };
        for _ in 0..TRIES {
            let name = format!("gapless-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = folder.join(name);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // If the process is killed between these two calls, an empty file stays behind. This cannot be
                    // avoided.
                    fs::remove_file(&path).map_err(failed)?;
                    return Ok(Self(file));
                }
                // A process with the same number left this file behind.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Returns a path by which a child can open the file, as long as this process holds it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()))
    }

    /// Replaces the content and seeks to the beginning, where a child that gets the file starts to read.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(bytes)?;
        self.0.rewind()
    }

    /// Returns the content, or only its last `most` bytes if it is longer.
    pub(super) fn tail(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let len = self.0.seek(SeekFrom::End(0))?;
        self.0.seek(SeekFrom::Start(len.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        (&self.0).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns a handle to the same file for a child.
    pub(super) fn hand_over(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }
}

/// Returns the file that the parent handed over as standard input.
#[cfg(unix)]
pub(super) fn handed_over() -> io::Result<Scratch> {
    use std::os::fd::AsFd;
    Ok(Scratch(io::stdin().as_fd().try_clone_to_owned()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_file_has_no_name_and_keeps_its_content() {
        let mut scratch = Scratch::new().expect("a file");
        scratch.fill(b"something long").expect("written");
        scratch.fill(b"hello").expect("written");
        assert_eq!(scratch.tail(100).expect("read"), b"hello");
        assert_eq!(scratch.tail(3).expect("read"), b"llo");
        fs::write(scratch.path(), b"from outside").expect("found by number");
        assert_eq!(scratch.tail(100).expect("read"), b"from outside");
        let name = fs::read_link(scratch.path()).expect("a link");
        assert!(name.to_string_lossy().ends_with(" (deleted)"), "{name:?}");
    }
}
