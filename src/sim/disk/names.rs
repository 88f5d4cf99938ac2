//! Names on the simulated disk: of files and of folders, as processes see them and as they are on the platter.
//!
//! A name is made durable by a sync of the folder that contains it. What was made, renamed or removed since then may,
//! at a power loss, have happened or not: the seed decides for each change separately. A rename is one step. With the
//! name of a folder everything in it is gone, however often it was synced.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::Rng;

use super::State;
use crate::{history::What, seam};

/// What a power loss took.
pub(super) enum Loss {
    /// Bytes of a file that were not synced, and bytes of writes that survived in part.
    Bytes { path: String, bytes: u64, torn: u64 },
    /// A name, with the bytes that it led to.
    Name { path: String, made: Duration, bytes: u64 },
}

impl Loss {
    /// Returns the number of bytes lost.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Loss::Bytes { bytes, .. } | Loss::Name { bytes, .. } => *bytes,
        }
    }

    /// Returns the loss as an event.
    pub(super) fn told(self) -> What {
        match self {
            Loss::Bytes { path, bytes, torn } => What::Lost { path, bytes, torn },
            Loss::Name { path, made, bytes } => What::LostName { path, made, bytes },
        }
    }
}

impl State {
    /// Gives a file a name, in place of whatever had it.
    pub(super) fn name(&mut self, path: PathBuf, file: usize) {
        self.made.insert(path.clone(), seam::now());
        self.names.insert(path, file);
    }

    /// Makes a folder and its parents, as far as they do not exist.
    pub(super) fn make_folder(&mut self, path: &Path) {
        for folder in path.ancestors() {
            if self.folders.insert(folder.to_owned()) {
                self.made.insert(folder.to_owned(), seam::now());
            }
        }
    }

    /// Makes the names in a folder durable, as processes see them.
    pub(super) fn sync_names(&mut self, folder: &Path) {
        let here = |path: &PathBuf| path.parent() == Some(folder);
        self.durable_names.retain(|path, _| !here(path));
        let names = self.names.iter().filter(|(path, _)| here(path));
        self.durable_names.extend(names.map(|(path, file)| (path.clone(), *file)));
        self.durable_folders.extend(self.folders.iter().filter(|path| here(path)).cloned());
    }

    /// Replaces what processes see with what is on the platter. Returns what is lost.
    pub(super) fn lose_unsynced(&mut self) -> Vec<Loss> {
        let mut lost = self.lose_folders();
        self.decide_removals();
        lost.extend(self.lose_bytes());
        lost.extend(self.lose_names());
        self.folder_syncs.clear();
        self.names.clone_from(&self.durable_names);
        self.folders.clone_from(&self.durable_folders);
        self.made.clear();
        lost
    }

    /// Loses some of the folders that were not synced with their parent, with everything in them.
    fn lose_folders(&mut self) -> Vec<Loss> {
        let unsynced: Vec<PathBuf> = self.folders.difference(&self.durable_folders).cloned().collect();
        let mut lost = Vec::new();
        for folder in unsynced {
            if !self.folders.contains(&folder) {
                continue; // gone with its parent
            }
            if self.luck.random_bool(0.5) {
                self.durable_folders.insert(folder);
                continue;
            }
            let inside = |path: &PathBuf| path.starts_with(&folder);
            let files: BTreeSet<usize> =
                self.names.iter().filter(|(path, _)| inside(path)).map(|(_, file)| *file).collect();
            let bytes = files.iter().map(|file| self.files[*file].len()).sum();
            lost.push(self.lost_name(&folder, bytes));
            self.names.retain(|path, _| !inside(path));
            self.durable_names.retain(|path, _| !inside(path));
            self.folders.retain(|path| !inside(path));
            self.durable_folders.retain(|path| !inside(path));
        }
        lost
    }

    /// Decides which removals that were not synced had happened on the platter; the other files are back.
    fn decide_removals(&mut self) {
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        let removed = self.durable_names.iter();
        let removed = removed.filter(|(path, file)| !self.names.contains_key(*path) && !named.contains(file));
        let removed: Vec<PathBuf> = removed.map(|(path, _)| path.clone()).collect();
        for path in removed {
            if self.luck.random_bool(0.5) {
                self.durable_names.remove(&path);
            }
        }
    }

    fn lose_bytes(&mut self) -> Vec<Loss> {
        let mut lost = Vec::new();
        // A removed file that comes back has only what was synced of it.
        let removed = self.durable_names.iter().filter(|(_, file)| !self.names.values().any(|known| known == *file));
        for (path, file) in self.names.iter().chain(removed) {
            let (bytes, torn) = self.files[*file].lose_unsynced(self.sector, &mut self.luck);
            if bytes + torn > 0 {
                lost.push(Loss::Bytes { path: path.display().to_string(), bytes, torn });
            }
        }
        lost
    }

    /// Decides which names that were never synced have reached the platter by luck.
    fn lose_names(&mut self) -> Vec<Loss> {
        let unsynced = self.names.iter().filter(|(path, file)| self.durable_names.get(*path) != Some(file));
        let unsynced: Vec<(PathBuf, usize)> = unsynced.map(|(path, file)| (path.clone(), *file)).collect();
        let mut lost = Vec::new();
        for (path, file) in unsynced {
            if self.luck.random_bool(0.5) {
                // A rename is one step: when the new name survives, the old one is gone.
                self.durable_names.retain(|old, of| *of != file || self.names.contains_key(old));
                self.durable_names.insert(path, file);
            } else {
                // If a rename was lost, the file still has its old name.
                let gone = !self.durable_names.values().any(|known| *known == file);
                lost.push(self.lost_name(&path, if gone { self.files[file].len() } else { 0 }));
            }
        }
        lost
    }

    fn lost_name(&self, path: &Path, bytes: u64) -> Loss {
        let made = self.made.get(path).copied().unwrap_or_default();
        Loss::Name { path: path.display().to_string(), made, bytes }
    }
}
