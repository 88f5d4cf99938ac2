//! Disks that fail, fill up, slow down and lie: which operations a step strikes, and what it has done so far.
//!
//! All luck of these faults comes from a separate stream, so that a step leaves everything else as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    SimDisk, State,
    platter::{Culprit, Inode, Lie, Place, Settled, Stray},
};
use crate::{
    fault::{DiskFault, path_matches},
    history::What,
};

/// How often another place is drawn if one does not fit.
const DRAWS_MAX: usize = 64;

/// What a step has done to a disk.
#[derive(Debug, Default)]
struct Tally {
    /// The number of syncs, writes or bits struck.
    times: u64,
    reads: u64,
    bytes: u64,
    files: BTreeSet<String>,
}

/// A step that has begun and not ended.
struct Active {
    step: usize,
    fault: DiskFault,
    path: String,
    /// The number of operations that it has counted.
    seen: u64,
    /// The number of bytes beyond which all files together may not grow.
    limit: u64,
}

/// The faults of one disk.
pub(super) struct Faults {
    sector: usize,
    active: Vec<Active>,
    /// Tallies by step, also of steps that have ended.
    tallies: BTreeMap<usize, (DiskFault, Tally)>,
    luck: ChaCha8Rng,
}

/// Returns the error EIO.
pub(super) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn no_room() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Faults {
    pub(super) fn new(sector: usize, luck: ChaCha8Rng) -> Self {
        Self { sector, active: Vec::new(), tallies: BTreeMap::new(), luck }
    }

    /// Returns the steps that have ended.
    pub(super) fn ended(&self) -> Vec<usize> {
        let is_over = |step: &&usize| self.active.iter().all(|active| active.step != **step);
        self.tallies.keys().filter(is_over).copied().collect()
    }

    /// Returns whether nothing is wrong: the usual case, which costs nothing.
    fn is_sound(&self) -> bool {
        self.active.is_empty()
    }

    fn tally(&mut self, step: usize) -> Option<&mut Tally> {
        self.tallies.get_mut(&step).map(|(_, tally)| tally)
    }

    /// Returns the step that makes the sync of this file fail, if any does.
    pub(super) fn fail_sync(&mut self, path: &str) -> Option<usize> {
        let mut by = None;
        for active in self.active.iter_mut().filter(|active| path_matches(&active.path, path)) {
            if let DiskFault::SyncError { nth, onwards } = active.fault {
                active.seen += 1;
                if active.seen == nth || (onwards && active.seen > nth) {
                    by = Some(active.step);
                }
            }
        }
        by
    }

    /// Returns by how much a sync, or a read, of this file takes longer.
    pub(super) fn slow(&mut self, path: &str, read: bool) -> Duration {
        let mut longest = Duration::ZERO;
        for at in 0..self.active.len() {
            let Active { step, fault, path: files, .. } = &self.active[at];
            let (step, fault) = (*step, *fault);
            let DiskFault::Slow { latency } = fault else { continue };
            if !path_matches(files, path) {
                continue;
            }
            longest = longest.max(latency);
            if let Some(tally) = self.tally(step) {
                if read { tally.reads += 1 } else { tally.times += 1 }
            }
        }
        longest
    }

    /// Returns the error with which a read of this file fails, if it fails.
    pub(super) fn fail_read(&mut self, path: &str) -> Option<io::Error> {
        let step = self.failing(path, |fault| matches!(fault, DiskFault::Error { reads: true, .. }))?;
        self.tally(step)?.reads += 1;
        Some(io_error())
    }

    /// Returns the error with which a change of this file fails, if it fails. The change lets the file grow by
    /// `growth`, and all files together have `used` bytes.
    pub(super) fn fail_write(&mut self, path: &str, growth: u64, used: impl Fn() -> u64) -> Option<io::Error> {
        if let Some(step) = self.failing(path, |fault| matches!(fault, DiskFault::Error { writes: true, .. })) {
            self.tally(step)?.times += 1;
            return Some(io_error());
        }
        let full = |active: &&Active| {
            matches!(active.fault, DiskFault::Full { .. }) && growth > 0 && used().saturating_add(growth) > active.limit
        };
        let step = self.active.iter().find(full)?.step;
        self.tally(step)?.times += 1;
        Some(no_room())
    }

    fn failing(&self, path: &str, of: impl Fn(DiskFault) -> bool) -> Option<usize> {
        let active = self.active.iter().find(|active| of(active.fault) && path_matches(&active.path, path))?;
        Some(active.step)
    }

    /// Returns what the disk will do to a write instead of what it says.
    pub(super) fn lie_about(&mut self, path: &str, offset: u64, len: usize) -> Option<Lie> {
        if self.is_sound() || len == 0 {
            return None;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let sector = self.sector;
        let (first, last) = (start / sector, (start + len - 1) / sector);
        let mut lie = None;
        for active in self.active.iter_mut().filter(|active| path_matches(&active.path, path)) {
            let culprit = Culprit { step: active.step, fault: active.fault.name() };
            match active.fault {
                DiskFault::TornWrite { nth } if first < last => {
                    active.seen += 1;
                    if active.seen == nth {
                        let boundary = self.luck.random_range(first + 1..=last) * sector;
                        lie = Some(Lie::Torn { culprit, kept: boundary - start });
                    }
                }
                DiskFault::MisdirectedWrite { nth } => {
                    active.seen += 1;
                    if active.seen == nth {
                        lie = Some(Lie::Astray { culprit });
                    }
                }
                DiskFault::TornWrite { .. }
                | DiskFault::SyncError { .. }
                | DiskFault::Error { .. }
                | DiskFault::Full { .. }
                | DiskFault::Slow { .. }
                | DiskFault::BitRot { .. } => {}
            }
        }
        lie
    }

    /// Records damage that has become visible.
    pub(super) fn shown(&mut self, (culprit, _, bytes): Place, path: &str) {
        if let Some(tally) = self.tally(culprit.step) {
            tally.times += 1;
            tally.bytes += bytes;
            tally.files.insert(path.to_owned());
        }
    }

    fn evidence(&self, step: usize) -> Option<String> {
        let (fault, Tally { times, reads, bytes, files }) = self.tallies.get(&step)?;
        if times + reads == 0 {
            return None;
        }
        let files = files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        Some(match fault {
            DiskFault::SyncError { .. } => {
                format!("{times} syncs failed, {bytes} bytes marked clean without having been written")
            }
            DiskFault::Error { .. } => format!("{reads} reads and {times} writes failed"),
            DiskFault::Full { .. } => format!("{times} writes refused for want of room"),
            DiskFault::Slow { latency } => format!("{times} syncs and {reads} reads held for {latency:?}"),
            DiskFault::TornWrite { .. } => format!("{bytes} synced bytes of {files} were gone after a power loss"),
            DiskFault::MisdirectedWrite { .. } => {
                format!("{bytes} synced bytes of {files} were others after a power loss")
            }
            DiskFault::BitRot { .. } => format!("{times} bits of {files} flipped"),
        })
    }
}

impl State {
    /// Returns the number of bytes of all files.
    pub(super) fn used(&self) -> u64 {
        used(&self.files, self.names.values())
    }

    /// Records what a sync has left behind, and lets strayed writes land.
    pub(super) fn absorb(&mut self, file: usize, settled: Settled) {
        for (step, bytes) in settled.failed {
            if let Some(tally) = self.faults.tally(step) {
                tally.times += 1;
                tally.bytes += bytes;
            }
        }
        for stray in settled.strays {
            self.land_astray(file, &stray);
        }
    }

    /// Lets a write land where it does not belong: at another sector of its file, or else of another file. No file
    /// grows by this; if there is nothing else on this disk, the write lands nowhere.
    fn land_astray(&mut self, file: usize, stray: &Stray) {
        let own = usize::try_from(stray.offset).unwrap_or(usize::MAX);
        let size = self.sector;
        let (own_sector, inside) = (own / size, own % size);
        let sectors = |inode: &Inode| inode.durable.bytes.len().saturating_sub(inside).div_ceil(size);
        let (victim, but) = match sectors(&self.files[file]) {
            0 | 1 => {
                let others: Vec<usize> =
                    self.names.values().copied().filter(|at| *at != file && sectors(&self.files[*at]) > 0).collect();
                if others.is_empty() {
                    return;
                }
                (others[self.faults.luck.random_range(0..others.len())], None)
            }
            _ => (file, Some(own_sector)),
        };
        let count = sectors(&self.files[victim]);
        let drawn = (0..DRAWS_MAX).map(|_| self.faults.luck.random_range(0..count)).find(|sector| Some(*sector) != but);
        let Some(sector) = drawn else { return };
        let at = sector * size + inside;
        let platter = &mut self.files[victim].durable;
        let len = stray.bytes.len().min(platter.bytes.len() - at);
        platter.damage(at, &stray.bytes[..len], stray.culprit, false);
    }

    /// Flips bits of durable bytes. Returns their places.
    fn rot(&mut self, culprit: Culprit, bits: u64, wanted: &str) -> Vec<(String, Place)> {
        let mut files: Vec<(String, usize)> = Vec::new();
        for (path, file) in &self.names {
            let path = path.display().to_string();
            let known = files.iter().any(|(_, other)| other == file);
            if !known && path_matches(wanted, &path) && !self.files[*file].durable.bytes.is_empty() {
                files.push((path, *file));
            }
        }
        let all: usize = files.iter().map(|(_, file)| self.files[*file].durable.bytes.len()).sum();
        let mut flipped: BTreeSet<(usize, usize, u8)> = BTreeSet::new();
        let mut places = Vec::new();
        for _ in 0..bits.min(all as u64 * 8) {
            let Some((path, file, at, bit)) = self.draw_bit(&files, all, &flipped) else { continue };
            flipped.insert((file, at, bit));
            let Inode { content, durable, .. } = &mut self.files[file];
            let Some(before) = durable.bytes.get(at) else { continue };
            let after = before ^ (1 << bit);
            durable.damage(at, &[after], culprit, true);
            // Where the page cache holds newer bytes, those are untouched.
            if content.bytes.get(at) == Some(before) {
                content.damage(at, &[after], culprit, true);
            }
            places.push((path, (culprit, at as u64, 1)));
        }
        places
    }

    fn draw_bit(
        &mut self,
        files: &[(String, usize)],
        all: usize,
        flipped: &BTreeSet<(usize, usize, u8)>,
    ) -> Option<(String, usize, usize, u8)> {
        let luck = &mut self.faults.luck;
        for _ in 0..DRAWS_MAX {
            let (mut at, bit) = (luck.random_range(0..all), luck.random_range(0..8_u8));
            for (path, file) in files {
                let len = self.files[*file].durable.bytes.len();
                if at >= len {
                    at -= len;
                    continue;
                }
                if flipped.contains(&(*file, at, bit)) {
                    break;
                }
                return Some((path.clone(), *file, at, bit));
            }
        }
        None
    }

    /// Returns the name of a file, if it has one.
    pub(super) fn name_of(&self, file: usize) -> Option<String> {
        self.names.iter().find(|(_, of)| **of == file).map(|(path, _)| path.display().to_string())
    }
}

/// Returns the number of bytes of the files that have a name.
pub(super) fn used<'n>(files: &[Inode], names: impl Iterator<Item = &'n usize>) -> u64 {
    let named: BTreeSet<usize> = names.copied().collect();
    named.iter().map(|file| files[*file].len()).sum()
}

impl SimDisk {
    /// Begins to strike files whose path begins with `path` or whose name it is; empty for all files.
    pub fn begin_fault(&self, step: usize, fault: DiskFault, path: &str, now: Duration) {
        let mut state = self.lock_state();
        state.settle(now);
        let limit = match fault {
            DiskFault::Full { free } => state.used().saturating_add(free),
            _ => u64::MAX,
        };
        state.faults.tallies.insert(step, (fault, Tally::default()));
        state.faults.active.push(Active { step, fault, path: path.to_owned(), seen: 0, limit });
        let DiskFault::BitRot { bits } = fault else { return };
        let rotten = state.rot(Culprit { step, fault: fault.name() }, bits, path);
        rotten.iter().for_each(|(path, place)| state.faults.shown(*place, path));
        drop(state);
        for (path, (culprit, offset, bytes)) in rotten {
            self.tell_damage(now, path, culprit, offset, bytes);
        }
    }

    /// Ends a step: what it has damaged and nobody has overwritten is repaired.
    pub fn end_fault(&self, step: usize, now: Duration) {
        let mut state = self.lock_state();
        state.settle(now);
        state.faults.active.retain(|active| active.step != step);
        let mut mended = Vec::new();
        for file in 0..state.files.len() {
            let name = state.name_of(file);
            // What does not show on the platter yet does not show in the page cache either.
            let shown = state.files[file].content.mend(step);
            state.files[file].durable.mend(step);
            mended.extend(name.into_iter().flat_map(|name| shown.iter().map(move |place| (name.clone(), *place))));
        }
        drop(state);
        for (path, (_, offset, bytes)) in mended {
            self.recorder.record_at(now, &self.host, What::Mended { path, offset, bytes });
        }
    }

    /// Returns whether a step slows it down.
    pub fn is_slow(&self) -> bool {
        self.lock_state().faults.active.iter().any(|active| matches!(active.fault, DiskFault::Slow { .. }))
    }

    /// Returns what a step has done so far, in words.
    pub fn evidence(&self, step: usize, now: Duration) -> Option<String> {
        let mut state = self.lock_state();
        if !state.faults.tallies.contains_key(&step) {
            return None;
        }
        state.settle(now);
        state.faults.evidence(step)
    }

    /// Removes everything on the disk: files, names, folders. Returns how many bytes of how many files. The host is
    /// down.
    pub fn wipe(&self) -> (u64, usize) {
        let mut state = self.lock_state();
        let gone = (state.used(), state.names.len());
        state.files.iter_mut().for_each(|file| *file = Inode::default());
        state.names.clear();
        state.durable_names.clear();
        state.folders = [std::path::PathBuf::new()].into();
        state.durable_folders = [std::path::PathBuf::new()].into();
        state.made.clear();
        state.folder_syncs.clear();
        gone
    }

    pub(super) fn tell_damage(&self, now: Duration, path: String, culprit: Culprit, offset: u64, bytes: u64) {
        let fault = culprit.fault.to_owned();
        self.recorder.record_at(now, &self.host, What::Damaged { path, offset, bytes, fault });
    }
}
