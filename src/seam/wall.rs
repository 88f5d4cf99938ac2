//! The wall clock of a host. It is right by itself, and wrong by what faults do to it. Faults add up, and each is
//! lifted alone.
//!
//! ```text
//! wall = epoch + t + Σ offset + Σ rate · (t − since)
//! ```
//!
//! All values are whole nanoseconds and parts per million, so that a reading is the same on every machine. Monotonic
//! time is not affected.

use std::time::Duration;

/// Identifies a fault: the index of its step.
pub type FaultId = usize;

/// How wrong a clock is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WallClock {
    /// How far the clock is ahead when it is set, in nanoseconds.
    pub offset: i64,
    /// How much faster than true time it runs from then on, in parts per million.
    pub rate_ppm: i64,
}

/// The readings of a clock that a fault had set wrong by at least a millisecond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WrongReads {
    /// How many readings there were.
    pub times: u64,
    /// The largest error of a reading, ahead or behind, in nanoseconds.
    pub most: i64,
}

/// A smaller error does not count as evidence.
const NOTICEABLE: i128 = 1_000_000;

const MILLION: i128 = 1_000_000;

/// The effects of all faults on one clock.
#[derive(Debug, Default)]
pub(super) struct Bends(Vec<Bend>);

#[derive(Debug)]
struct Bend {
    by: FaultId,
    since: i128,
    clock: WallClock,
    reads: WrongReads,
}

impl Bend {
    /// Returns how wrong the clock is at a time, in millionths of a nanosecond. The value is exact, so that sums are
    /// exact too.
    fn error(&self, now: i128) -> i128 {
        i128::from(self.clock.offset) * MILLION + i128::from(self.clock.rate_ppm) * (now - self.since)
    }
}

impl Bends {
    /// Sets what a fault does to the clock from `now` on.
    pub(super) fn set(&mut self, by: FaultId, clock: WallClock, now: Duration) {
        self.lift(by);
        self.0.push(Bend { by, since: nanoseconds(now), clock, reads: WrongReads::default() });
    }

    /// Undoes what a fault did, and returns the wrong readings while it lasted.
    pub(super) fn lift(&mut self, by: FaultId) -> WrongReads {
        let Some(at) = self.0.iter().position(|bend| bend.by == by) else { return WrongReads::default() };
        self.0.remove(at).reads
    }

    /// Returns how wrong the clock is in total.
    pub(super) fn sum(&self, now: Duration) -> WallClock {
        let rate_ppm = self.0.iter().fold(0_i64, |sum, bend| sum.saturating_add(bend.clock.rate_ppm));
        WallClock { offset: clamped(self.error(nanoseconds(now))), rate_ppm }
    }

    /// Returns what the clock shows, given what a right clock would show. Notes the reading.
    pub(super) fn read(&mut self, right: Duration, now: Duration) -> Duration {
        if self.0.is_empty() {
            return right; // the usual case
        }
        let now = nanoseconds(now);
        for bend in &mut self.0 {
            let error = bend.error(now) / MILLION;
            if error.abs() >= NOTICEABLE {
                bend.reads.times += 1;
                if error.abs() > i128::from(bend.reads.most).abs() {
                    bend.reads.most = clamped(error);
                }
            }
        }
        let shows = nanoseconds(right) + self.error(now);
        // The clock cannot show a time before 1970.
        Duration::from_nanos(u64::try_from(shows.max(0)).unwrap_or(u64::MAX))
    }

    /// Returns the wrong readings due to this fault.
    pub(super) fn reads(&self, by: FaultId) -> WrongReads {
        self.0.iter().find(|bend| bend.by == by).map_or_else(WrongReads::default, |bend| bend.reads)
    }

    fn error(&self, now: i128) -> i128 {
        self.0.iter().map(|bend| bend.error(now)).sum::<i128>() / MILLION
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn clamped(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Duration = Duration::from_secs(1_767_225_600);

    /// What the clock shows at a time, minus what it should show.
    fn wrong_by(bends: &mut Bends, now: Duration) -> i128 {
        nanoseconds(bends.read(EPOCH + now, now)) - nanoseconds(EPOCH + now)
    }

    fn seconds(seconds: i64, rate_ppm: i64) -> WallClock {
        WallClock { offset: seconds * 1_000_000_000, rate_ppm }
    }

    #[test]
    fn faults_add_up_and_each_is_lifted_alone() {
        let mut bends = Bends::default();
        let at = Duration::from_secs;
        assert_eq!(wrong_by(&mut bends, at(1)), 0);
        bends.set(1, seconds(-90, 0), at(1));
        bends.set(2, seconds(10, 0), at(1));
        bends.set(3, seconds(0, 200), at(1));
        assert_eq!(wrong_by(&mut bends, at(11)), -80_000_000_000 + 2_000_000);
        assert_eq!(bends.sum(at(11)), WallClock { offset: -79_998_000_000, rate_ppm: 200 });
        bends.lift(1);
        assert_eq!(wrong_by(&mut bends, at(11)), 10_002_000_000);
        bends.lift(3);
        bends.lift(2);
        assert_eq!(wrong_by(&mut bends, at(11)), 0);
        assert_eq!(bends.sum(at(11)), WallClock::default());
    }

    #[test]
    fn a_drift_is_exact_to_the_nanosecond_over_a_day() {
        let mut bends = Bends::default();
        bends.set(1, WallClock { offset: 0, rate_ppm: -150 }, Duration::from_nanos(7));
        let day = Duration::from_secs(86_400) + Duration::from_nanos(7);
        assert_eq!(wrong_by(&mut bends, day), -12_960_000_000);
        // Two half rates add up to a whole one, because they are not rounded one by one.
        let mut halves = Bends::default();
        halves.set(1, WallClock { offset: 0, rate_ppm: 1 }, Duration::ZERO);
        halves.set(2, WallClock { offset: 0, rate_ppm: 1 }, Duration::ZERO);
        assert_eq!(wrong_by(&mut halves, Duration::from_micros(500)), 1);
    }

    #[test]
    fn only_readings_that_are_wrong_by_a_millisecond_count_as_evidence() {
        let mut bends = Bends::default();
        bends.set(4, WallClock { offset: 0, rate_ppm: -100 }, Duration::ZERO);
        wrong_by(&mut bends, Duration::from_secs(9));
        assert_eq!(bends.reads(4), WrongReads::default());
        wrong_by(&mut bends, Duration::from_secs(10));
        wrong_by(&mut bends, Duration::from_secs(20));
        assert_eq!(bends.reads(4), WrongReads { times: 2, most: -2_000_000 });
        assert_eq!(bends.reads(5), WrongReads::default());
        assert_eq!(bends.lift(4).times, 2);
        assert_eq!(bends.reads(4), WrongReads::default());
    }

    #[test]
    fn no_clock_goes_below_1970_and_no_sum_overflows() {
        let mut bends = Bends::default();
        bends.set(1, WallClock { offset: i64::MIN, rate_ppm: i64::MIN }, Duration::ZERO);
        bends.set(2, WallClock { offset: i64::MIN, rate_ppm: i64::MIN }, Duration::ZERO);
        assert_eq!(bends.read(EPOCH, Duration::from_secs(86_400)), Duration::ZERO);
        assert_eq!(bends.sum(Duration::from_secs(1)), WallClock { offset: i64::MIN, rate_ppm: i64::MIN });
    }
}
