//! Files that are written once: keys, certificates, and small facts that must survive.
//!
//! A key must never be readable by others, not even for a moment, so its file is created with its final permissions.
//! Nothing here overwrites a file unless it was told to replace that file.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Its owner only.
    Secret,
    /// Everybody.
    Public,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Access::Secret => 0o600,
            Access::Public => 0o644,
        }
    }
}

/// Writes a file that must not exist yet, durably.
pub(super) fn create(path: &Path, text: &str, access: Access) -> io::Result<()> {
    write_new(path, text, access).map_err(|why| naming("create", path, &why))?;
    sync_parent(path)
}

/// Writes a file whether or not it exists, in one step: a reader finds the old text or the new one. If several do this
/// at once, the text of the last one stays.
pub(super) fn replace(path: &Path, text: &str, access: Access) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A name that no other process uses, and no other thread of this process.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".new-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let aside = Path::new(&aside);
    // A file that an interrupted run with the same number left behind contains nothing that is needed.
    match fs::remove_file(aside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(naming("remove", aside, &why)),
        _ => {}
    }
    let replaced = write_new(aside, text, access)
        .map_err(|why| naming("create", aside, &why))
        .and_then(|()| fs::rename(aside, path).map_err(|why| naming("replace", path, &why)));
    if replaced.is_err() {
        // What is left of the file is of no use, and if it cannot be removed, this changes nothing.
        _ = fs::remove_file(aside);
    }
    replaced?;
    sync_parent(path)
}

/// Reads a text file. Errors name the file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|why| naming("read", path, &why))
}

/// A secret, or the reason why it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// The text, which only its owner may read.
    Kept(String),
    /// Others may read it. Contains its mode.
    Exposed(u32),
}

/// Reads a text file that only its owner should be able to read. Errors name the file.
pub(super) fn read_secret(path: &Path) -> io::Result<Secret> {
    let read = || {
        let mut file = fs::File::open(path)?;
        // The mode of the file that was opened, even if another file takes its name meanwhile.
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Ok(Secret::Exposed(mode));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Secret::Kept(text))
    };
    read().map_err(|why| naming("read", path, &why))
}

fn write_new(path: &Path, text: &str, access: Access) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|why| naming("sync", folder, &why))
        }
        _ => Ok(()),
    }
}

fn naming(what: &str, path: &Path, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("cannot {what} {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_replaced_by_many_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    (0..50).for_each(|_| replace(path, &format!("{writer}").repeat(3_000), Access::Public).unwrap());
                });
            }
        });
        let text = read(&path).unwrap();
        assert!(text.len() == 3_000 && text.bytes().all(|byte| byte == text.as_bytes()[0]), "one of them, whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "and nothing beside it");
    }

    #[test]
    fn secrets_are_their_owners_alone_and_nothing_is_overwritten_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/key");
        create(&path, "first", Access::Secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = create(&path, "second", Access::Secret).unwrap_err();
        assert!(refused.to_string().contains("deep/key"), "{refused}");
        assert_eq!(read(&path).unwrap(), "first");
        replace(&path, "third", Access::Secret).unwrap();
        assert_eq!(read(&path).unwrap(), "third");
    }

    #[test]
    fn a_secret_that_anybody_else_may_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, "secret", Access::Secret).unwrap();
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path).unwrap(), Secret::Kept("secret".to_owned()));
        }
        for mode in [0o640, 0o604, 0o620, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path).unwrap(), Secret::Exposed(mode));
        }
        let missing = read_secret(&folder.path().join("none")).unwrap_err();
        assert!(missing.kind() == io::ErrorKind::NotFound && missing.to_string().contains("none"), "{missing}");
    }
}
