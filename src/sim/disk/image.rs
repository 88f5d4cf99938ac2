//! Images of a disk: an earlier state that is kept, and to which the disk is put back.
//!
//! An image is what a snapshot of a machine would hold: what is durable at that instant, and what has been written by
//! then and is not. When the disk is put back, the seed decides what is left of the latter, as at a power loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{SimDisk, State, platter::Inode};

/// The state of a disk at some time. Files share their bytes with the disk, so an image costs little.
pub(super) struct DiskImage {
    at: Duration,
    files: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    made: BTreeMap<PathBuf, Duration>,
}

/// What was forgotten when a disk was put back.
#[derive(Debug, Clone, Copy)]
pub struct PutBack {
    /// The time of the image.
    pub to: Duration,
    /// The number of files that are there no more, are there again, or hold something else than before.
    pub files: usize,
}

impl SimDisk {
    /// Keeps an image for a step.
    pub fn keep_image(&self, step: usize, now: Duration) {
        let mut state = self.lock_state();
        state.settle(now);
        let image = state.image(now);
        state.images.insert(step, image);
    }

    /// Returns whether an image is kept for a step.
    pub fn has_image(&self, step: usize) -> bool {
        self.lock_state().images.contains_key(&step)
    }

    /// Gives up all images: the disk is that of another machine from now on.
    pub fn forget_images(&self) {
        self.lock_state().images.clear();
    }

    /// Puts the disk back to the image of a step, which is used up. Returns `None` if there is none. The host is down.
    pub fn put_back(&self, step: usize, now: Duration) -> Option<PutBack> {
        let mut state = self.lock_state();
        let image = state.images.remove(&step)?;
        let before = state.contents();
        let to = image.at;
        state.become_like(image);
        state.lose_unsynced();
        // Damage that the image holds shows again, also where it has been overwritten since, except for that of steps that
        // have ended since then: the end of a step puts right what is left of its damage.
        state.mend_ended();
        state.files.iter_mut().for_each(Inode::hide_damage);
        let shown = state.show_platter();
        let after = state.contents();
        drop(state);
        for (path, (culprit, offset, bytes)) in shown {
            self.tell_damage(now, path, culprit, offset, bytes);
        }
        let names: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let files = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).count();
        mark!("disk-put-back", files > 0);
        Some(PutBack { to, files })
    }
}

impl State {
    fn image(&self, at: Duration) -> DiskImage {
        let Self { files, names, durable_names, folders, durable_folders, made, .. } = self;
        DiskImage {
            at,
            files: files.clone(),
            names: names.clone(),
            durable_names: durable_names.clone(),
            folders: folders.clone(),
            durable_folders: durable_folders.clone(),
            made: made.clone(),
        }
    }

    fn become_like(&mut self, image: DiskImage) {
        let DiskImage { at: _, files, names, durable_names, folders, durable_folders, made } = image;
        (self.files, self.names, self.durable_names) = (files, names, durable_names);
        (self.folders, self.durable_folders, self.made) = (folders, durable_folders, made);
        self.folder_syncs.clear();
    }

    fn mend_ended(&mut self) {
        for step in self.faults.ended() {
            for file in &mut self.files {
                file.content.mend(step);
                file.durable.mend(step);
            }
        }
    }
}
