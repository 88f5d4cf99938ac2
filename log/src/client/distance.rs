//! How far the servers are, judged by how long connecting to them took, and the timeouts that follow from that.
//!
//! A client that has another server to turn to gives up a silent one soon. How soon depends on the distance: a
//! connection with TLS takes two round trips, which around the earth are more than a second. So a server that was
//! reached before gets twice the time that this took. A server about which nothing is known gets the time in the
//! settings, and twice as much each time it was not reached in that: it may be far. A server that was near may have
//! gone far, but is more often dead, so its time grows half as fast. Each server is judged by itself: that another one
//! is near says nothing about it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::settings::Deadlines;

/// No server is waited for longer than this, unless the settings say so.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What is known of the distance of each server. Clones share it.
#[derive(Clone)]
pub(crate) struct Distance {
    connect: Duration,
    known: Arc<Mutex<BTreeMap<usize, Measured>>>,
}

/// What is known of one server.
#[derive(Clone, Copy, Default)]
struct Measured {
    /// How long the last connection took.
    took: Option<Duration>,
    /// How often since then no connection was made in time.
    late: u32,
}

impl Distance {
    pub(crate) fn new(deadlines: Deadlines) -> Distance {
        Distance { connect: deadlines.connect, known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Measured>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, server: usize) -> Measured {
        self.lock().get(&server).copied().unwrap_or_default()
    }

    /// Returns how long a connection to this server may take.
    pub(crate) fn connect_within(&self, server: usize) -> Duration {
        let Measured { took, late } = self.known(server);
        let twice = took.map(|took| took * 2);
        let doublings = if twice.is_some_and(|twice| twice <= self.connect) { late / 2 } else { late };
        let patience = self.connect.max(twice.unwrap_or_default()).saturating_mul(1 << doublings.min(16));
        patience.min(self.connect.max(CONNECT_MAX))
    }

    /// Returns how long this server may take for an answer that a near one gives within `near`: four round trips.
    pub(crate) fn answer_within(&self, server: usize, near: Duration) -> Duration {
        let twice = self.known(server).took.map_or(Duration::ZERO, |took| took * 2);
        near.max(twice.min(CONNECT_MAX))
    }

    /// Notes that a connection was made, or was not, after this long.
    pub(crate) fn note<T>(&self, server: usize, took: Duration, outcome: &io::Result<T>) {
        let mut known = self.lock();
        let known = known.entry(server).or_default();
        match outcome {
            Ok(_) => *known = Measured { took: Some(took), late: 0 },
            Err(error) if error.kind() == io::ErrorKind::TimedOut => known.late = known.late.saturating_add(1),
            Err(_) => {} // says nothing about how far it is
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn late() -> io::Result<()> {
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Returns how long each of several attempts at a silent server may take, in seconds.
    fn waits(distance: &Distance, server: usize, attempts: usize) -> Vec<f64> {
        let wait = |_| {
            let wait = distance.connect_within(server);
            distance.note(server, wait, &late());
            wait.as_secs_f64()
        };
        (0..attempts).map(wait).collect()
    }

    #[test]
    fn a_server_that_was_near_is_given_up_as_soon_as_ever() {
        let distance = Distance::new(Deadlines::among(3));
        distance.note(0, Duration::from_millis(15), &Ok(()));
        assert_eq!(distance.answer_within(0, SECOND), SECOND);
        assert_eq!(waits(&distance, 0, 8), [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 5.0, 5.0], "it may have gone far");
        distance.note(0, Duration::from_millis(15), &Ok(()));
        assert_eq!(distance.connect_within(0), SECOND);
    }

    #[test]
    fn a_far_server_is_reached_although_another_one_is_near() {
        let distance = Distance::new(Deadlines::among(3));
        distance.note(1, Duration::from_millis(15), &Ok(()));
        assert_eq!(waits(&distance, 0, 2), [1.0, 2.0]);
        distance.note(1, Duration::from_millis(15), &Ok(()));
        assert_eq!(waits(&distance, 0, 3), [4.0, 5.0, 5.0]);
        distance.note(0, Duration::from_millis(1_200), &Ok(()));
        assert_eq!(distance.answer_within(0, SECOND), Duration::from_millis(2_400));
        assert_eq!(waits(&distance, 0, 3), [2.4, 4.8, 5.0], "and is known from then on");
        distance.note(2, SECOND, &Err::<(), _>(io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(distance.connect_within(2), SECOND, "a refusal is no distance");
    }

    #[test]
    fn one_server_alone_has_the_time_that_the_settings_say() {
        let distance = Distance::new(Deadlines::among(1));
        for _ in 0..5 {
            assert_eq!(distance.connect_within(0), Deadlines::default().connect);
            distance.note(0, SECOND, &late());
        }
        let patient = Deadlines { connect: SECOND * 20, ..Deadlines::default() };
        assert_eq!(Distance::new(patient).connect_within(0), SECOND * 20);
    }
}
