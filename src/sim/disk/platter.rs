//! One file of the simulated disk: what its page cache shows, what its platter holds, and what lies between the two.
//!
//! Where a disk lied or rotted, a scar keeps the place and the bytes that ought to be there, so that damage can be
//! reported when it shows, forgotten when it is overwritten, and repaired when the fault ends. Software never sees a
//! scar, only bytes.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::pieces::Pieces;

/// The bytes of a file, with the places where they are not what they ought to be.
#[derive(Debug, Default, Clone)]
pub(super) struct Image {
    pub(super) bytes: Pieces,
    scars: Vec<Scar>,
}

/// The cause of damage: a step and its fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Culprit {
    pub(super) step: usize,
    pub(super) fault: &'static str,
}

/// A place where a file holds something else than it ought to.
#[derive(Debug, Clone)]
struct Scar {
    at: usize,
    truth: Vec<u8>,
    culprit: Culprit,
    /// Whether the damage shows and was reported.
    told: bool,
}

impl Scar {
    fn end(&self) -> usize {
        self.at + self.truth.len()
    }

    /// Returns the part of it between two offsets, which are inside.
    fn part(&self, from: usize, to: usize) -> Scar {
        let truth = self.truth[from - self.at..to - self.at].to_vec();
        Scar { at: from, truth, culprit: self.culprit, told: self.told }
    }
}

/// A damaged or repaired place: its culprit, its offset, its number of bytes.
pub(super) type Place = (Culprit, u64, u64);

impl Image {
    pub(super) fn write(&mut self, offset: u64, bytes: Bytes) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        self.forget(start, start + bytes.len());
        self.bytes.write(start, bytes);
    }

    fn resize(&mut self, len: usize) {
        self.forget(len, usize::MAX);
        self.bytes.resize(len);
    }

    /// Makes a place, which lies inside the file, hold something else than it ought to.
    pub(super) fn damage(&mut self, at: usize, wrong: &[u8], culprit: Culprit, told: bool) {
        let end = at + wrong.len();
        let truth = self.truth(at, end);
        self.forget(at, end);
        self.bytes.write(at, Bytes::copy_from_slice(wrong));
        if truth != wrong {
            self.scars.push(Scar { at, truth, culprit, told });
        }
    }

    /// Returns what ought to be between two offsets.
    fn truth(&self, from: usize, to: usize) -> Vec<u8> {
        let mut truth = self.bytes.read(from, to).to_vec();
        for scar in self.scars.iter().filter(|scar| scar.at < to && from < scar.end()) {
            let (start, end) = (scar.at.max(from), scar.end().min(to));
            truth[start - from..end - from].copy_from_slice(&scar.truth[start - scar.at..end - scar.at]);
        }
        truth
    }

    /// Forgets damage that is overwritten.
    fn forget(&mut self, from: usize, to: usize) {
        if self.scars.is_empty() {
            return;
        }
        for scar in std::mem::take(&mut self.scars) {
            if scar.end() <= from || scar.at >= to {
                self.scars.push(scar);
                continue;
            }
            if scar.at < from {
                self.scars.push(scar.part(scar.at, from));
            }
            if scar.end() > to {
                self.scars.push(scar.part(to, scar.end()));
            }
        }
    }

    /// Forgets that damage shows, so that it is reported again.
    fn hide(&mut self) {
        self.scars.iter_mut().for_each(|scar| scar.told = false);
    }

    /// Returns damage that shows from now on, and did not before.
    fn show(&mut self) -> Vec<Place> {
        let fresh = self.scars.iter_mut().filter(|scar| !scar.told);
        let show = |scar: &mut Scar| {
            scar.told = true;
            (scar.culprit, scar.at as u64, scar.truth.len() as u64)
        };
        fresh.map(show).collect()
    }

    /// Repairs what a step has damaged and is still wrong. Returns the places.
    pub(super) fn mend(&mut self, step: usize) -> Vec<Place> {
        let (of_step, others) = std::mem::take(&mut self.scars).into_iter().partition(|scar| scar.culprit.step == step);
        self.scars = others;
        let of_step: Vec<Scar> = of_step;
        for scar in &of_step {
            self.bytes.write(scar.at, Bytes::copy_from_slice(&scar.truth));
        }
        of_step.iter().map(|scar| (scar.culprit, scar.at as u64, scar.truth.len() as u64)).collect()
    }
}

/// One file.
#[derive(Default, Clone)]
pub(super) struct Inode {
    pub(super) content: Image,
    pub(super) durable: Image,
    /// Changes that are only in the page cache, oldest first.
    pub(super) changes: Vec<Change>,
    /// Syncs under way, in the order in which they complete.
    pub(super) syncs: Vec<Flush>,
    /// The number of changes that have ever left the page cache, for the platter or for nowhere.
    pub(super) settled: u64,
    /// Places that are clean although a failed sync did not write them, as ranges.
    pub(super) unwritten: Vec<(u64, u64)>,
    /// When the last read completes; no later read completes before it.
    pub(super) read_until: Duration,
}

/// A sync under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flush {
    pub(super) at: Duration,
    /// How many changes it covers, counted from the first one ever.
    pub(super) upto: u64,
    /// The step that makes it fail.
    pub(super) fails: Option<usize>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Bytes, lie: Option<Lie> },
    Truncate { len: u64 },
}

/// What a disk does to a write instead of what it says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lie {
    /// Only the first `kept` bytes reach the platter.
    Torn { culprit: Culprit, kept: usize },
    /// The write lands somewhere else.
    Astray { culprit: Culprit },
}

/// A write that did not land where it belongs.
pub(super) struct Stray {
    pub(super) culprit: Culprit,
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// What completed syncs have left behind.
#[derive(Default)]
pub(super) struct Settled {
    /// The syncs that failed: the step that caused it, and the bytes that are clean although they were not written.
    pub(super) failed: Vec<(usize, u64)>,
    pub(super) strays: Vec<Stray>,
}

impl Inode {
    /// Applies the syncs that are complete by `now`.
    pub(super) fn settle(&mut self, now: Duration) -> Settled {
        let mut settled = Settled::default();
        while self.syncs.first().is_some_and(|sync| sync.at <= now) {
            let sync = self.syncs.remove(0);
            self.complete(sync, &mut settled);
        }
        settled
    }

    /// Syncs everything that is in the page cache at once.
    pub(super) fn sync_at_once(&mut self, now: Duration, fails: Option<usize>) -> Settled {
        let mut settled = Settled::default();
        let upto = self.settled + self.changes.len() as u64;
        self.complete(Flush { at: now, upto, fails }, &mut settled);
        settled
    }

    fn complete(&mut self, sync: Flush, settled: &mut Settled) {
        let covered = usize::try_from(sync.upto.saturating_sub(self.settled)).unwrap_or(usize::MAX);
        let covered: Vec<Change> = self.changes.drain(..covered.min(self.changes.len())).collect();
        self.settled += covered.len() as u64;
        match sync.fails {
            // As on Linux, the bytes are clean and not written. Nothing will write them any more.
            Some(step) => {
                mark!("clean-and-unwritten", !covered.is_empty());
                settled.failed.push((step, covered.iter().map(Change::len).sum()));
                self.unwritten.extend(covered.iter().filter_map(Change::place));
            }
            None => {
                for change in covered {
                    settled.strays.extend(change.land(&mut self.durable));
                }
            }
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.changes.push(change);
    }

    /// Returns its length as a process sees it.
    pub(super) fn len(&self) -> u64 {
        self.content.bytes.len() as u64
    }

    /// Returns how many bytes are only in the page cache although it considers them clean.
    fn clean_and_unwritten(&mut self) -> u64 {
        let places = std::mem::take(&mut self.unwritten).into_iter().flat_map(|(from, to)| from..to);
        let open: Vec<(u64, u64)> = self.changes.iter().filter_map(Change::place).collect();
        let byte = |image: &Image, at: u64| usize::try_from(at).ok().and_then(|at| image.bytes.get(at));
        let lost = |at: &u64| {
            byte(&self.content, *at) != byte(&self.durable, *at)
                && !open.iter().any(|(from, to)| (from..to).contains(&at))
        };
        places.filter(lost).collect::<BTreeSet<u64>>().len() as u64
    }

    /// Decides what the platter holds after the cut. Most often a prefix of the changes survives, the last of it torn;
    /// now and then a disk had reordered them, and each survives independently.
    pub(super) fn lose_unsynced(&mut self, sector: usize, luck: &mut ChaCha8Rng) -> (u64, u64) {
        let clean = self.clean_and_unwritten();
        let changes = std::mem::take(&mut self.changes);
        self.settled += changes.len() as u64;
        self.syncs.clear();
        let reordered = luck.random_bool(0.2);
        let prefix = luck.random_range(0..=changes.len());
        mark!("writes-reordered", reordered && changes.len() > 1);
        let (mut lost, mut torn) = (clean, 0);
        for (n, change) in changes.iter().enumerate() {
            let keep = if reordered { luck.random_bool(0.5) } else { n < prefix };
            let torn_apart = if reordered { luck.random_bool(0.3) } else { n == prefix && luck.random_bool(0.7) };
            if keep {
                change.apply(&mut self.durable);
            } else if torn_apart && let Change::Write { offset, bytes, .. } = change {
                mark!("power-tore-a-write");
                torn += bytes.len() as u64;
                lost += tear(*offset, bytes, sector, luck, &mut self.durable);
            } else {
                lost += change.len();
            }
        }
        (lost, torn)
    }

    /// Lets the damage on the platter be reported again.
    pub(super) fn hide_damage(&mut self) {
        self.durable.hide();
    }

    /// Drops the page cache, so that what the platter holds is all there is. Returns the damage that shows by that.
    pub(super) fn show_platter(&mut self) -> Vec<Place> {
        let shown = self.durable.show();
        self.content.clone_from(&self.durable);
        shown
    }
}

impl Change {
    pub(super) fn write(offset: u64, bytes: Bytes, lie: Option<Lie>) -> Self {
        Change::Write { offset, bytes, lie }
    }

    fn apply(&self, to: &mut Image) {
        match self {
            Change::Truncate { len } => to.resize(usize::try_from(*len).unwrap_or(usize::MAX)),
            Change::Write { offset, bytes, .. } => to.write(*offset, bytes.clone()),
        }
    }

    /// Writes the change to the platter, as far as the disk does what it says.
    fn land(self, platter: &mut Image) -> Option<Stray> {
        let Change::Write { offset, bytes, lie: Some(lie) } = self else {
            self.apply(platter);
            return None;
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut before = platter.bytes.read(start, start.saturating_add(bytes.len())).to_vec();
        before.resize(bytes.len(), 0); // zeroes where the file grows
        platter.write(offset, bytes.clone());
        match lie {
            Lie::Torn { culprit, kept } => {
                mark!("sync-lied-torn");
                platter.damage(start + kept, &before[kept..], culprit, false);
                None
            }
            Lie::Astray { culprit } => {
                mark!("write-went-astray");
                platter.damage(start, &before, culprit, false);
                Some(Stray { culprit, offset, bytes })
            }
        }
    }

    /// Returns the range that it writes.
    fn place(&self) -> Option<(u64, u64)> {
        match self {
            Change::Write { offset, bytes, .. } => Some((*offset, offset.saturating_add(bytes.len() as u64))),
            Change::Truncate { .. } => None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.len() as u64,
            Change::Truncate { .. } => 0,
        }
    }
}

/// A disk with larger sectors reads, changes and writes a whole sector for each part of it.
const SMALL_SECTOR_BYTES: usize = 512;

/// Leaves a part of a write on the platter; returns the bytes lost. Either a prefix survives; or the file has already
/// grown, as a journal of metadata makes it, and only some sectors of the data came: the others are zeroes. Where
/// sectors are large and the write changes existing bytes, the sector in which it was cut off is lost as a whole, with
/// everything else in it, although that was synced long ago.
fn tear(offset: u64, bytes: &Bytes, sector: usize, luck: &mut ChaCha8Rng, platter: &mut Image) -> u64 {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if sector > SMALL_SECTOR_BYTES && !bytes.is_empty() && start + bytes.len() <= platter.bytes.len() {
        return tear_in_place(start, bytes, sector, luck, platter);
    }
    if luck.random_bool(0.6) {
        let kept = torn_at(offset, bytes.len(), sector, luck);
        platter.write(offset, bytes.slice(..kept));
        return (bytes.len() - kept) as u64;
    }
    let grown = platter.bytes.len().max(start + bytes.len());
    platter.resize(grown);
    let (mut lost, mut from) = (0, 0);
    while from < bytes.len() {
        let to = (from + sector - (start + from) % sector).min(bytes.len());
        if luck.random_bool(0.5) {
            platter.write((start + from) as u64, bytes.slice(from..to));
        } else {
            lost += (to - from) as u64;
        }
        from = to;
    }
    lost
}

fn tear_in_place(start: usize, bytes: &Bytes, sector: usize, luck: &mut ChaCha8Rng, platter: &mut Image) -> u64 {
    let cut = start + luck.random_range(0..bytes.len());
    let (from, to) = (cut / sector * sector, ((cut / sector + 1) * sector).min(platter.bytes.len()));
    let kept = from.saturating_sub(start);
    platter.write(start as u64, bytes.slice(..kept));
    platter.write(from as u64, vec![0; to - from].into());
    let around = (from..to).filter(|at| !(start..start + bytes.len()).contains(at)).count();
    (bytes.len() - kept + around) as u64
}

/// Returns how much of a write survives: up to a boundary of a sector, or, as some file systems leave it, any byte.
fn torn_at(offset: u64, len: usize, sector: usize, luck: &mut ChaCha8Rng) -> usize {
    let cut = luck.random_range(0..=len);
    if luck.random_bool(0.5) {
        return cut;
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX) % sector;
    (cut + start).div_euclid(sector).saturating_mul(sector).saturating_sub(start).min(len)
}
