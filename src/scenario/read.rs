//! Finds scenario files on disk and reads them. This is the only place in this module that touches the disk.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{
    model::{Scenario, Sizes},
    parse::{FILE_BYTES_MAX, parse_for},
    problem::Problem,
};

/// Why a scenario could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist or cannot be accessed.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The path is a folder or something else that is not a file.
    #[error("{path} is not a regular file: name a scenario file", path = .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{path} has {bytes} bytes; at most {FILE_BYTES_MAX} (1 MiB) are read: split it", path = .path.display())]
    TooLarge {
        /// The path of the file.
        path: PathBuf,
        /// The size of the file.
        bytes: u64,
    },
    /// The file has some other encoding.
    #[error("{path} is not UTF-8 from byte {at} on: save it as UTF-8", path = .path.display())]
    NotUtf8 {
        /// The path of the file.
        path: PathBuf,
        /// The first wrong byte, from 0.
        at: usize,
    },
    /// The file was read and has mistakes.
    #[error("{path} has {} problems: run `gapless check` on it", .problems.len(), path = .path.display())]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// The whole text of the file, for rendering.
        text: String,
        /// The problems, at least one.
        problems: Vec<Problem>,
    },
}

/// Why no files could be found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// A path does not exist or cannot be accessed.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A folder has no scenario at all, or no path was given.
    #[error("nothing selected: no .toml file in {}", list(.paths))]
    NothingSelected {
        /// The paths that were searched.
        paths: Vec<PathBuf>,
    },
    /// Folders are nested deeper than is useful, as a loop of links makes them.
    #[error("{path} is more than {DEPTH_MAX} folders deep: name the files", path = .path.display())]
    TooDeep {
        /// The folder that was not entered.
        path: PathBuf,
    },
}

/// How deep folders are searched.
const DEPTH_MAX: usize = 16;

/// Reads and parses one file, for a log that accepts these sizes. The size of the file is checked before a byte is
/// read.
///
/// # Errors
///
/// See [`ReadError`]; problems of the text itself come with the text.
pub fn read(path: &Path, sizes: &Sizes) -> Result<Scenario, ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > FILE_BYTES_MAX as u64 {
        return Err(ReadError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
    }
    // The file may have grown since then: reading one byte more than allowed is enough to notice.
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| ReadError::NotUtf8 { path: path.to_owned(), at: error.utf8_error().valid_up_to() })?;
    parse_for(path, &text, sizes).map_err(|problems| ReadError::Invalid { path: path.to_owned(), text, problems })
}

/// Returns the files given, and every `*.toml` below the folders given: those of each folder in the order of their
/// names, each file once. Files and folders whose name begins with a dot are ignored.
///
/// # Errors
///
/// See [`DiscoverError`]; a folder without a scenario is one.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DiscoverError> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|source| DiscoverError::Unreadable { path: path.clone(), source })?;
        let mut below = Vec::new();
        if metadata.is_dir() {
            search(path, 0, &mut below)?;
        } else {
            below.push(path.clone());
        }
        if below.is_empty() {
            return Err(DiscoverError::NothingSelected { paths: vec![path.clone()] });
        }
        found.extend(below);
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|path| seen.insert(path.clone()));
    if found.is_empty() {
        return Err(DiscoverError::NothingSelected { paths: paths.to_vec() });
    }
    Ok(found)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DiscoverError> {
    if depth > DEPTH_MAX {
        return Err(DiscoverError::TooDeep { path: folder.to_owned() });
    }
    let unreadable = |source| DiscoverError::Unreadable { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            search(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
    Ok(())
}

fn list(paths: &[PathBuf]) -> String {
    match paths {
        [] => "no path at all".to_owned(),
        paths => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_any(path: &Path) -> Result<Scenario, ReadError> {
        read(path, &Sizes::default())
    }

    #[test]
    fn every_way_in_which_a_file_cannot_be_read_has_its_own_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).expect("written");
            path
        };
        assert!(matches!(read_any(&folder.path().join("none.toml")), Err(ReadError::Unreadable { .. })));
        assert!(matches!(read_any(folder.path()), Err(ReadError::NotAFile { .. })));
        let large = file("large.toml", &vec![b'#'; FILE_BYTES_MAX + 1]);
        assert!(matches!(read_any(&large), Err(ReadError::TooLarge { bytes: 1_048_577, .. })));
        assert!(matches!(read_any(&file("latin.toml", b"a = \"\xe9\"")), Err(ReadError::NotUtf8 { at: 5, .. })));
        assert!(matches!(read_any(&file("empty.toml", b"")), Err(ReadError::Invalid { .. })));
    }

    #[test]
    fn folders_are_searched_in_order_and_an_empty_one_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        assert!(matches!(discover(&[root.to_owned()]), Err(DiscoverError::NothingSelected { .. })));
        assert!(matches!(discover(&[]), Err(DiscoverError::NothingSelected { .. })));
        fs::create_dir_all(root.join("b/deep")).expect("made");
        for name in ["c.toml", "a.toml", "b/deep/x.toml", "notes.md", ".hidden.toml"] {
            fs::write(root.join(name), "").expect("written");
        }
        let found = discover(&[root.to_owned(), root.join("a.toml")]).expect("some");
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(root).expect("below").to_owned()).collect();
        assert_eq!(names, ["a.toml", "b/deep/x.toml", "c.toml"].map(PathBuf::from));
        assert!(matches!(discover(&[root.join("none")]), Err(DiscoverError::Unreadable { .. })));
    }
}
