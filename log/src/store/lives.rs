//! Random lives of journals: whatever is done, and wherever power is lost, what was synced is there afterwards.

use proptest::prelude::*;

use super::{
    crash_disk::{CrashDisk, choices, now},
    tests::{frame, open_small, read_all},
    *,
};

/// What the journal must hold.
#[derive(Default)]
struct Expected {
    /// Everything written and not cut, from index 0.
    frames: Vec<Frame>,
    /// How many of them are durable.
    durable: usize,
    /// The index up to which forgetting was asked for.
    forgotten: u64,
}

impl Expected {
    /// Takes one step of a random life. Returns false once the disk is dead.
    fn step(&mut self, journal: &mut Journal, choose: &mut impl FnMut(usize) -> usize) -> bool {
        match choose(12) {
            0..=4 => {
                let from = self.frames.len() as u64;
                let term = 1 + choose(50) as u64;
                let more: Vec<Frame> = (from..from + 1 + choose(3) as u64)
                    .map(|index| Frame { term, ..frame(index, choose(180)) })
                    .collect();
                let written = journal.write(&more).is_ok();
                if written {
                    self.frames.extend(more);
                }
                written
            }
            5 => {
                drop(journal.sync());
                true
            }
            6..=9 => {
                let synced = now(journal.sync()).is_ok();
                if synced {
                    self.durable = self.frames.len();
                }
                synced
            }
            10 => {
                let first = journal.first_index() as usize;
                let from = first + choose(self.frames.len() - first + 1);
                self.durable = self.durable.min(from);
                let cut = now(journal.truncate(from as u64)).is_ok();
                if cut {
                    self.frames.truncate(from);
                    self.durable = from;
                }
                cut
            }
            _ => {
                let before = choose(self.frames.len() + 1) as u64;
                self.forgotten = self.forgotten.max(before);
                now(journal.forget_before(before)).is_ok()
            }
        }
    }

    fn check(&self, journal: &Journal) {
        let (first, next) = (journal.first_index(), journal.next_index());
        assert!(first == 0 || first <= self.forgotten, "{first} was forgotten, {} was asked for", self.forgotten);
        assert!(next >= self.durable as u64, "{next} frames are left of {} synced ones", self.durable);
        assert!(next <= self.frames.len() as u64, "{next} frames, {} were written", self.frames.len());
        // A disk that is about to die may not answer.
        if let Ok(read) = now(journal.read(first, u64::MAX, usize::MAX)) {
            assert_eq!(read, self.frames[first as usize..next as usize]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_crash_at_any_step_loses_what_was_synced_or_shows_what_was_not_written(
        seed: u64, dies_after in 0u64..120, lives in 1usize..4,
    ) {
        let mut choose = choices(seed);
        let mut disk = CrashDisk::default();
        let mut expected = Expected::default();
        for _ in 0..lives {
            disk.die_at(dies_after);
            if let Ok(mut journal) = open_small(&disk) {
                expected.check(&journal);
                expected.frames.truncate(journal.next_index() as usize);
                expected.durable = expected.frames.len();
                for _ in 0..40 {
                    if !expected.step(&mut journal, &mut choose) {
                        break;
                    }
                    if choose(4) == 0 {
                        expected.check(&journal);
                    }
                }
            }
            disk = disk.crash(&mut choose);
        }
        let journal = open_small(&disk).unwrap();
        expected.check(&journal);
        let left = journal.first_index() as usize..journal.next_index() as usize;
        prop_assert_eq!(read_all(&journal), &expected.frames[left]);
    }
}
