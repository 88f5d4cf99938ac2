//! Watches this node's wall clock. The log orders by index and never by time, so a clock that jumps harms no entry; but
//! times that people and programs wrote into entries around the jump may be wrong, and later readers of the log should
//! know. So the jump is recorded as an entry of its own.
//!
//! The wall clock is compared with the monotonic one. Both go on while a process stands still, so being stopped for an
//! hour is no anomaly. The suspension of a machine is one, because only the wall clock went on.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::sleep};

use super::queue::Queue;

/// The interval between two looks. Each leads to at most one entry.
const EVERY: Duration = Duration::from_secs(1);

/// Clocks that are corrected gradually stay within this; a larger step of time synchronisation is worth an entry.
const TOLERANCE_NS: i128 = 1_000_000_000;

/// A look that took longer was interrupted between the two clocks, and says nothing.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Since 1970, negative before.
    wall_ns: i128,
    monotonic: Instant,
}

impl Look {
    fn now() -> Option<Look> {
        let before = Instant::now();
        let wall = SystemTime::now();
        let monotonic = Instant::now();
        (monotonic.duration_since(before) <= LOOK_MAX).then(|| Look { wall_ns: since_1970(wall), monotonic })
    }

    /// By how many milliseconds the wall clock moved against the monotonic one until `later`, where that is beyond
    /// tolerance.
    fn moved(&self, later: &Look) -> Option<i64> {
        let passed = nanoseconds(later.monotonic.saturating_duration_since(self.monotonic));
        let by = later.wall_ns - self.wall_ns - passed;
        let by_ms = i64::try_from(by / 1_000_000).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX });
        (by.abs() > TOLERANCE_NS).then_some(by_ms)
    }
}

/// Looks at the clocks until the node stops, and hands what it finds to the sequencer.
pub(super) async fn watch(queue: Arc<Queue>, mut stop: watch::Receiver<bool>) {
    let mut last = Look::now();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(EVERY) => {}
        }
        let Some(look) = Look::now() else { continue };
        if let Some(by_ms) = last.and_then(|last| last.moved(&look)) {
            tracing::warn!(by_ms, "the wall clock moved against the monotonic one");
            queue.clock_moved(by_ms);
        }
        last = Some(look);
    }
}

fn since_1970(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => nanoseconds(since),
        Err(before) => -nanoseconds(before.duration()),
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look this much later, at a wall clock that went on by `wall_ms` milliseconds.
    fn after(last: Look, monotonic: Duration, wall_ms: i128) -> Look {
        Look { wall_ns: last.wall_ns + wall_ms * 1_000_000, monotonic: last.monotonic + monotonic }
    }

    #[test]
    fn only_a_move_against_the_monotonic_clock_beyond_tolerance_is_an_anomaly() {
        let last = Look { wall_ns: 1_767_225_600_000_000_000, monotonic: Instant::now() };
        let second = Duration::from_secs(1);
        let moved = |monotonic, wall_ms| last.moved(&after(last, monotonic, wall_ms));
        assert_eq!(moved(second, 1_000), None);
        assert_eq!(moved(second, 2_000), None, "at tolerance");
        assert_eq!(moved(second, 2_001), Some(1_001));
        assert_eq!(moved(second, -1), Some(-1_001));
        assert_eq!(moved(second, -89_000), Some(-90_000));
        let stopped_for_an_hour = Duration::from_secs(3_600);
        assert_eq!(moved(stopped_for_an_hour, 3_600_000), None);
        assert_eq!(moved(second, 3_600_000), Some(3_599_000), "suspended: only the wall clock went on");
    }

    #[test]
    fn a_slow_drift_is_none() {
        let mut last = Look { wall_ns: 0, monotonic: Instant::now() };
        for _ in 0..100 {
            let next = after(last, EVERY, 900); // 100,000 ppm
            assert_eq!(last.moved(&next), None);
            last = next;
        }
    }

    #[test]
    fn a_clock_before_1970_is_a_clock_all_the_same() {
        assert_eq!(since_1970(UNIX_EPOCH - Duration::from_secs(1)), -1_000_000_000);
        assert_eq!(since_1970(UNIX_EPOCH + Duration::from_secs(1)), 1_000_000_000);
    }
}
