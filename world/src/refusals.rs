//! Reports the handshakes that a server refuses: each with its peer and reason, and of a flood only how many there
//! were.
//!
//! Anybody who reaches the port can have a handshake refused, as often as the network allows. So only a limited number
//! per reason and minute is reported one by one, and the rest is counted. Each reason has its own limit: a flood of one
//! kind hides no certificate that has just expired.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{LogEvent, World};

/// The number of refusals for one reason that are reported one by one in a [`WINDOW`].
const TOLD_MAX: u32 = 64;

/// After this time the refusals that were not reported are summed up in one report, and further ones are reported
/// again.
const WINDOW: Duration = Duration::from_secs(60);

/// Reports the refusals of one server.
#[derive(Clone)]
pub struct Refusals(Arc<Inner>);

struct Inner {
    world: World,
    /// Reasons are a fixed set of words, so this stays small.
    by_reason: Mutex<BTreeMap<&'static str, Window>>,
    /// Notified when there is something to sum up.
    untold: Notify,
}

struct Window {
    began: Instant,
    told: u32,
    untold: u64,
}

impl Refusals {
    /// Makes a reporter to which nothing was added yet.
    pub fn new(world: World) -> Refusals {
        Refusals(Arc::new(Inner { world, by_reason: Mutex::default(), untold: Notify::new() }))
    }

    /// Adds one refusal.
    pub fn add(&self, peer: String, reason: &'static str) {
        let (now, mut by_reason) = (Instant::now(), self.lock());
        let window = by_reason.entry(reason).or_insert(Window { began: now, told: 0, untold: 0 });
        if now >= window.began + WINDOW {
            self.count_aloud(reason, window);
            (window.began, window.told) = (now, 0);
        }
        if window.told < TOLD_MAX {
            window.told += 1;
            self.0.world.tell(LogEvent::HandshakeRefused { peer, reason: reason.to_owned() });
        } else {
            window.untold += 1;
            self.0.untold.notify_waiters();
        }
    }

    /// Sums up what was not reported, whenever a window has ended. It goes on for as long as it is polled. Cancel safe.
    pub async fn count(&self) -> Infallible {
        loop {
            let more = self.0.untold.notified();
            let next =
                self.lock().values().filter(|window| window.untold > 0).map(|window| window.began + WINDOW).min();
            match next {
                None => more.await,
                Some(at) => {
                    sleep_until(at).await;
                    self.count_those_until(at);
                }
            }
        }
    }

    /// Sums up what was not reported, whether or not its window has ended: nobody will do it afterwards.
    pub fn count_the_last(&self) {
        self.count_those_until(Instant::now() + WINDOW);
    }

    fn count_those_until(&self, end: Instant) {
        for (reason, window) in self.lock().iter_mut().filter(|(_, window)| window.began + WINDOW <= end) {
            self.count_aloud(reason, window);
        }
    }

    fn count_aloud(&self, reason: &str, window: &mut Window) {
        let count = std::mem::take(&mut window.untold);
        if count > 0 {
            mark!("refusals-were-counted");
            self.0.world.tell(LogEvent::RefusalsCounted { reason: reason.to_owned(), count });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Window>> {
        // Each update is complete before anything could panic.
        self.0.by_reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::{Observer, real};

    #[derive(Default)]
    struct Told(Mutex<Vec<LogEvent>>);

    impl Observer for Told {
        fn see(&self, event: LogEvent) {
            self.0.lock().unwrap().push(event);
        }
    }

    impl Told {
        /// Returns how many refusals were reported one by one since the last call, and the sums that were reported.
        fn take(&self) -> (usize, Vec<(String, u64)>) {
            let events = std::mem::take(&mut *self.0.lock().unwrap());
            let counted = events.iter().filter_map(|event| match event {
                LogEvent::RefusalsCounted { reason, count } => Some((reason.clone(), *count)),
                _ => None,
            });
            let counted: Vec<_> = counted.collect();
            (events.len() - counted.len(), counted)
        }
    }

    fn refusals() -> (Refusals, Arc<Told>, tempfile::TempDir) {
        let (folder, told) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        (Refusals::new(real::world(folder.path(), told.clone()).unwrap()), told, folder)
    }

    fn add(refusals: &Refusals, count: usize, reason: &'static str) {
        (0..count).for_each(|n| refusals.add(format!("10.0.0.66:{n}"), reason));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_flood_the_first_ones_are_told_and_the_rest_is_counted_once_a_minute() {
        let (refusals, told, _folder) = refusals();
        let counting = tokio::spawn({
            let refusals = refusals.clone();
            async move { refusals.count().await }
        });
        for minute in 0..3 {
            add(&refusals, 10_000, "timed-out");
            add(&refusals, 1, "expired");
            assert_eq!(told.take(), (65, vec![]), "minute {minute}");
            sleep(WINDOW + Duration::from_secs(1)).await;
            assert_eq!(told.take(), (0, vec![("timed-out".to_owned(), 9_936)]), "minute {minute}");
        }
        sleep(WINDOW * 5).await;
        assert_eq!(told.take(), (0, vec![]), "what was counted is not counted again");
        counting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_window_left_untold_is_counted_by_the_next_one_and_at_the_end() {
        let (refusals, told, _folder) = refusals();
        add(&refusals, 70, "other");
        told.take();
        sleep(WINDOW).await;
        add(&refusals, 66, "other");
        assert_eq!(told.take(), (64, vec![("other".to_owned(), 6)]));
        refusals.count_the_last();
        assert_eq!(told.take(), (0, vec![("other".to_owned(), 2)]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_counts_may_be_dropped_at_any_time() {
        let (refusals, told, _folder) = refusals();
        add(&refusals, 65, "other");
        let cut_off = tokio::time::timeout(WINDOW / 2, refusals.count()).await;
        assert!(cut_off.is_err());
        let cut_off = tokio::time::timeout(WINDOW, refusals.count()).await;
        assert!(cut_off.is_err());
        assert_eq!(told.take(), (64, vec![("other".to_owned(), 1)]));
    }
}
