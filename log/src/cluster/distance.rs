//! How far away the other members are, and how long each may be silent before it is given up.
//!
//! The distances are not configured, but measured. A member that was reached before is given up some round trips after
//! it fell silent. About a member that was never reached nothing is known, so each silence makes the next wait longer,
//! until the member is reached or the wait hits a bound: a machine that has lost its power answers nothing at all, and
//! is to be reached soon once it is back.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long any member may be silent.
const SILENT_MIN: Duration = Duration::from_secs(2);
/// How many times further silences double that.
const DOUBLED_MAX: u32 = 2;
/// The time in which half of what a round trip took beyond the shortest is forgotten: a member that stood still for a
/// while, or was busy, does not count as far for long.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// Connecting takes one round trip, a handshake another, and a packet may be lost.
const ROUND_TRIPS: u32 = 4;
/// A member with a longer round trip is far: waiting for one costs more than making another call.
const FAR: Duration = Duration::from_millis(20);
/// How long fetching a mebibyte may take over any line. The time doubles, up to the second, where it did not suffice: a
/// server allows no call to take longer.
const FETCH: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// See the module. By node.
#[derive(Debug, Default)]
pub(super) struct Distances(Mutex<BTreeMap<u64, Distance>>);

#[derive(Debug, Clone, Copy, Default)]
struct Distance {
    /// Follows what is measured: up at once, down gradually.
    round_trip: Duration,
    /// When that was measured.
    measured: Option<Instant>,
    /// The shortest one lately, forgotten gradually: what the distance takes, without what a busy member adds to it.
    shortest: Option<Duration>,
    /// Silences in a row.
    silences: u32,
    /// Number of fetches that came too late.
    slow_fetches: u32,
}

impl Distance {
    /// The round trip, as far as it is still remembered.
    fn round_trip(&self) -> Duration {
        let shortest = self.shortest.unwrap_or_default().min(self.round_trip);
        let passed = self.measured.map_or(Duration::ZERO, |measured| measured.elapsed());
        let halves = u32::try_from(passed.as_nanos() / HALF_LIFE.as_nanos()).unwrap_or(u32::MAX).min(31);
        shortest + (self.round_trip - shortest) / (1 << halves)
    }
}

impl Distances {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Distance>> {
        // Every update is complete in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how long an answer of this node took, apart from connecting and computing.
    pub(super) fn round_trip(&self, node: u64, took: Duration) {
        let mut distances = self.lock();
        let distance = distances.entry(node).or_default();
        distance.silences = 0;
        distance.round_trip = took.max((distance.round_trip() * 7 + took) / 8);
        distance.measured = Some(Instant::now());
        distance.shortest = Some(distance.shortest.map_or(took, |shortest| took.min(shortest + shortest / 16)));
    }

    /// Returns whether a round trip to this node takes so long that calls are to be made side by side.
    pub(super) fn is_far(&self, node: u64) -> bool {
        self.lock().get(&node).and_then(|distance| distance.shortest).is_some_and(|shortest| shortest > FAR)
    }

    /// Notes that this node was given up.
    pub(super) fn silent(&self, node: u64) {
        let mut distances = self.lock();
        let distance = distances.entry(node).or_default();
        distance.silences = distance.silences.saturating_add(1);
    }

    /// How long this node may be silent.
    pub(super) fn patience(&self, node: u64) -> Duration {
        let distance = self.lock().get(&node).copied().unwrap_or_default();
        SILENT_MIN * (1 << distance.silences.min(DOUBLED_MAX)) + distance.round_trip() * ROUND_TRIPS
    }

    /// How long this node may take to answer a fetch.
    pub(super) fn fetch_patience(&self, node: u64) -> Duration {
        let slow = self.lock().get(&node).map_or(0, |distance| distance.slow_fetches);
        (FETCH.0 * (1 << slow.min(8))).min(FETCH.1)
    }

    /// Notes whether a fetch came in time.
    pub(super) fn fetched(&self, node: u64, in_time: bool) {
        let mut distances = self.lock();
        let distance = distances.entry(node).or_default();
        distance.slow_fetches = distance.slow_fetches.saturating_add(u32::from(!in_time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn who_is_far_may_be_silent_for_longer() {
        let distances = Distances::default();
        assert_eq!(distances.patience(2), SILENT_MIN);
        distances.round_trip(2, ms(600));
        assert_eq!(distances.patience(2), SILENT_MIN + ms(2_400));
        for _ in 0..200 {
            distances.round_trip(2, ms(10));
        }
        assert!(distances.patience(2) < SILENT_MIN + ms(60), "it came nearer");
        assert_eq!(distances.patience(3), SILENT_MIN, "of another nothing is known");
    }

    /// Otherwise a member that stood still and then lost its power would be waited for several times as long as it had
    /// stood still.
    #[tokio::test(start_paused = true)]
    async fn who_stood_still_once_is_not_far_for_long_and_who_is_far_stays_so() {
        let distances = Distances::default();
        [10, 7_500].into_iter().for_each(|took| distances.round_trip(2, ms(took)));
        [600, 600].into_iter().for_each(|took| distances.round_trip(3, ms(took)));
        assert_eq!(distances.patience(2), SILENT_MIN + ms(30_000));
        tokio::time::advance(HALF_LIFE * 6).await;
        assert!(distances.patience(2) < SILENT_MIN + ms(600), "{:?}", distances.patience(2));
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(distances.patience(2) < SILENT_MIN + ms(50));
        assert_eq!(distances.patience(3), SILENT_MIN + ms(2_400));
    }

    #[test]
    fn a_member_is_far_by_its_distance_and_not_because_it_is_busy() {
        let distances = Distances::default();
        assert!(!distances.is_far(2), "nothing is known of it");
        [3, 400, 90, 1_000].into_iter().for_each(|took| distances.round_trip(2, ms(took)));
        assert!(!distances.is_far(2));
        (0..40).for_each(|_| distances.round_trip(2, ms(100)));
        assert!(distances.is_far(2), "it went away");
        distances.round_trip(2, ms(10));
        assert!(!distances.is_far(2));
    }

    #[test]
    fn each_silence_makes_the_next_wait_longer_up_to_a_bound_until_the_node_is_met() {
        let distances = Distances::default();
        let waits = [(); 4].map(|()| {
            distances.silent(2);
            distances.patience(2)
        });
        assert_eq!(waits, [2, 4, 4, 4].map(|times| SILENT_MIN * times));
        distances.round_trip(2, ms(10));
        assert_eq!(distances.patience(2), SILENT_MIN + ms(40));
    }

    #[test]
    fn a_fetch_over_a_thin_line_gets_the_time_that_it_takes() {
        let distances = Distances::default();
        assert_eq!(distances.fetch_patience(2), FETCH.0);
        (0..9).for_each(|_| distances.fetched(2, false));
        assert_eq!(distances.fetch_patience(2), FETCH.1);
        distances.fetched(2, true);
        assert_eq!(distances.fetch_patience(2), FETCH.1, "what sufficed is kept");
    }
}
