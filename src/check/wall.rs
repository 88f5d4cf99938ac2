//! The time that each host's wall clock showed at any moment of a run: the header's epoch, the time since the run
//! began, and whatever the harness did to that clock. Certificates and tokens are judged by it, so a check that needs
//! to know whether a certificate was valid *there* and *then* uses this module.

use std::{collections::BTreeMap, time::Duration};

use crate::history::{History, What};

/// The wall clocks of all hosts of a run. A host whose clock was never set shows the true time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WallClocks<'h> {
    /// Nanoseconds since 1970 at time zero.
    epoch: i128,
    /// The settings of each host, in the order of time.
    settings: BTreeMap<&'h str, Vec<Setting>>,
}

/// From `at` on, the clock is ahead by `offset` nanoseconds plus `rate` millionths of the time since `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    at: i128,
    offset: i128,
    rate: i128,
}

impl<'h> WallClocks<'h> {
    /// Reads the clocks of a history, in one pass over its events.
    pub fn of(history: &'h History) -> Self {
        let mut clocks =
            WallClocks { epoch: i128::from(history.header.epoch) * i128::from(NANOSECONDS), settings: BTreeMap::new() };
        for event in &history.events {
            if let What::Clock { offset, rate_ppm } = event.what {
                let at = nanoseconds(event.at);
                let setting = Setting { at, offset: offset.into(), rate: rate_ppm.into() };
                clocks.settings.entry(&event.host).or_default().push(setting);
            }
        }
        // An event file may hold events of one instant in any order; a stable sort keeps the last one last.
        clocks.settings.values_mut().for_each(|settings| settings.sort_by_key(|setting| setting.at));
        clocks
    }

    /// Returns what the clock of `host` shows at a time of the run, in nanoseconds since 1970. At the instant of a
    /// setting it shows the new setting.
    pub fn nanoseconds(&self, host: &str, at: Duration) -> i128 {
        let now = nanoseconds(at);
        let settings = self.settings.get(host).map_or(&[][..], Vec::as_slice);
        let before = settings.partition_point(|setting| setting.at <= now);
        let wrong = before.checked_sub(1).map_or(0, |last| {
            let Setting { at, offset, rate } = settings[last];
            offset + rate * (now - at) / 1_000_000
        });
        self.epoch + now + wrong
    }

    /// Returns the same in whole seconds, rounded down, as certificates count them.
    pub fn seconds(&self, host: &str, at: Duration) -> i64 {
        let seconds = self.nanoseconds(host, at).div_euclid(NANOSECONDS.into());
        i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The nanoseconds in a second.
const NANOSECONDS: i64 = 1_000_000_000;

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Story;

    const EPOCH: i64 = 1_767_225_600;

    fn clock(offset_ms: i64, rate_ppm: i64) -> What {
        What::Clock { offset: offset_ms * 1_000_000, rate_ppm }
    }

    #[test]
    fn a_clock_that_nobody_touched_shows_the_true_time() {
        let mut story = Story::new();
        story.at(10).says("server-1", clock(-90_000, 0));
        let clocks = WallClocks::of(&story.history);
        assert_eq!(clocks.seconds("client-1", Duration::from_secs(7)), EPOCH + 7);
        assert_eq!(clocks.nanoseconds("nobody", Duration::ZERO), i128::from(EPOCH) * 1_000_000_000);
    }

    #[test]
    fn each_setting_holds_from_its_instant_until_the_next() {
        let mut story = Story::new();
        story.at(10_000).says("server-1", clock(75_000, 0));
        story.at(20_000).says("server-1", clock(-5_000, 0)).at(30_000).says("server-1", clock(0, 0));
        let clocks = WallClocks::of(&story.history);
        let shows = |ms| clocks.seconds("server-1", Duration::from_millis(ms)) - EPOCH;
        assert_eq!([shows(9_999), shows(10_000), shows(19_999)], [9, 85, 94]);
        assert_eq!([shows(20_000), shows(29_999), shows(30_000)], [15, 24, 30]);
    }

    #[test]
    fn a_drift_counts_from_its_setting_and_rounds_down() {
        let mut story = Story::new();
        story.at(100_000).says("client-2", clock(-500, -100_000));
        let clocks = WallClocks::of(&story.history);
        let shows =
            |ms| clocks.nanoseconds("client-2", Duration::from_millis(ms)) / 1_000_000 - i128::from(EPOCH) * 1_000;
        assert_eq!([shows(100_000), shows(110_000), shows(200_000)], [99_500, 108_500, 189_500]);
        assert_eq!(clocks.seconds("client-2", Duration::from_secs(110)), EPOCH + 108);
    }
}
