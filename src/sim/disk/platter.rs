//! One file of the simulated disk: what its page cache shows, what its platter holds, and what lies between the two.
//!
//! Where a disk lied or rotted, the place and what ought to stand there are kept as a scar: so damage can be told when
//! it shows, forgotten where it is written over, and mended when the fault ends. Software never sees a scar, only
//! bytes.

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

/// Whose doing damage is: a step and its fault.
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
    /// It shows, and that was told.
    told: bool,
}

impl Scar {
    fn end(&self) -> usize {
        self.at + self.truth.len()
    }

    /// The part of it between two offsets, which are inside.
    fn part(&self, from: usize, to: usize) -> Scar {
        let truth = self.truth[from - self.at..to - self.at].to_vec();
        Scar { at: from, truth, culprit: self.culprit, told: self.told }
    }
}

/// A damaged or mended place: whose doing, where, how many bytes.
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

    /// Lets a place hold something else than it ought to. It is inside of the file.
    pub(super) fn damage(&mut self, at: usize, wrong: &[u8], culprit: Culprit, told: bool) {
        let end = at + wrong.len();
        let truth = self.truth(at, end);
        self.forget(at, end);
        self.bytes.write(at, Bytes::copy_from_slice(wrong));
        if truth != wrong {
            self.scars.push(Scar { at, truth, culprit, told });
        }
    }

    /// What ought to stand between two offsets.
    fn truth(&self, from: usize, to: usize) -> Vec<u8> {
        let mut truth = self.bytes.read(from, to).to_vec();
        for scar in self.scars.iter().filter(|scar| scar.at < to && from < scar.end()) {
            let (start, end) = (scar.at.max(from), scar.end().min(to));
            truth[start - from..end - from].copy_from_slice(&scar.truth[start - scar.at..end - scar.at]);
        }
        truth
    }

    /// What is written over is no damage any more.
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

    /// Damage that shows from now on, and did not before.
    fn show(&mut self) -> Vec<Place> {
        let fresh = self.scars.iter_mut().filter(|scar| !scar.told);
        let show = |scar: &mut Scar| {
            scar.told = true;
            (scar.culprit, scar.at as u64, scar.truth.len() as u64)
        };
        fresh.map(show).collect()
    }

    /// Puts right what is still wrong of a step's doing; answers where.
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
#[derive(Default)]
pub(super) struct Inode {
    pub(super) content: Image,
    pub(super) durable: Image,
    /// Changes that are in the page cache only, oldest first.
    pub(super) changes: Vec<Change>,
    /// Syncs under way, in the order in which they complete.
    pub(super) syncs: Vec<Flush>,
    /// Changes that have left the page cache for the platter, or for nowhere, ever.
    pub(super) settled: u64,
    /// Places that are clean although a failed sync did not write them: from where to where.
    pub(super) unwritten: Vec<(u64, u64)>,
    /// The last read completes then, and no later one before it.
    pub(super) read_until: Duration,
}

/// A sync under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flush {
    pub(super) at: Duration,
    /// How many changes (counted from the first one ever) it covers.
    pub(super) upto: u64,
    /// The step that lets it fail.
    pub(super) fails: Option<usize>,
}

pub(super) enum Change {
    Write { offset: u64, bytes: Bytes, lie: Option<Lie> },
    Truncate { len: u64 },
}

/// What a disk does to a write instead of what it says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lie {
    /// Only so many first bytes reach the platter.
    Torn { culprit: Culprit, kept: usize },
    /// It lands somewhere else.
    Astray { culprit: Culprit },
}

/// A write that did not land where it belongs.
pub(super) struct Stray {
    pub(super) culprit: Culprit,
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// What syncs that completed have left behind.
#[derive(Default)]
pub(super) struct Settled {
    /// Syncs that failed: whose doing, and the bytes that are clean now without having been written.
    pub(super) failed: Vec<(usize, u64)>,
    pub(super) strays: Vec<Stray>,
}

impl Inode {
    /// Does what the syncs that are complete by `now` do.
    pub(super) fn settle(&mut self, now: Duration) -> Settled {
        let mut settled = Settled::default();
        while self.syncs.first().is_some_and(|sync| sync.at <= now) {
            let sync = self.syncs.remove(0);
            self.complete(sync, &mut settled);
        }
        settled
    }

    /// Everything that is in the page cache now is synced at once.
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
            // As Linux does: clean, and not written. Nobody will write them any more.
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

    /// How long it is as a process sees it.
    pub(super) fn len(&self) -> u64 {
        self.content.bytes.len() as u64
    }

    /// How many bytes the page cache alone has although it holds them for clean.
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

    /// What the platter holds after the cut. Most often a prefix of the changes survives, the last of it torn; now and
    /// then a disk had reordered them, and each survives by itself.
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

    /// The page cache is gone, and what the platter holds is all there is. Answers the damage that shows by that.
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

    /// Reaches the platter, as far as the disk does what it says.
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

    /// From where to where it writes.
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

/// A disk with larger sectors reads, changes and writes a whole one for each part of it.
const SMALL_SECTOR_BYTES: usize = 512;

/// Leaves a part of a write on the platter; returns the bytes lost. Either a prefix survives; or the file has grown
/// already, as a journal of metadata makes it, and of the data only some sectors came: the others are zeroes. Where
/// sectors are large and the write changes what was there before, it takes the sector in which it was cut off with it,
/// and whatever else stands there, although that was synced long ago.
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

/// How much of a write survives: a boundary of a sector, or, as some file systems leave it, any byte.
fn torn_at(offset: u64, len: usize, sector: usize, luck: &mut ChaCha8Rng) -> usize {
    let cut = luck.random_range(0..=len);
    if luck.random_bool(0.5) {
        return cut;
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX) % sector;
    (cut + start).div_euclid(sector).saturating_mul(sector).saturating_sub(start).min(len)
}
