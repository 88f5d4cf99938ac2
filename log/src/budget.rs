//! How much memory a process may use for its queues and caches: one budget, divided into shares.
//!
//! Each queue and each cache has an account. Its owner keeps to the account's limit and reports what it holds. The
//! limit follows the budget at once, so a process under pressure shrinks while it runs. What was accepted stays until
//! it is done with, and nothing new is added to it.
//!
//! The queue itself reports what it holds, and not the bound that should keep it small: if a queue forgets its bound,
//! this has to show.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gapless_world::{LogEvent, Observer};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// The budget in bytes, unless the configuration says otherwise.
pub const MEMORY_DEFAULT: u64 = 64 << 20;

/// The smallest budget that a configuration may name, in bytes: each share then has room for the largest entry.
pub const MEMORY_MIN: u64 = 1 << 20;

/// The number of equal parts that the budget is divided into. A share is some of them.
const PARTS: u64 = 32;

/// New peaks of one account are reported at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A part of the budget: its name in events, how many 32nds it gets, and the most that it ever needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    what: &'static str,
    parts: u64,
    most: u64,
}

/// Entries that wait for the batch in flight.
pub(crate) const QUEUE: Share = Share { what: "queue", parts: 4, most: u64::MAX };
/// Entries of the batch in flight.
pub(crate) const BATCH: Share = Share { what: "batch", parts: 2, most: u64::MAX };
/// The leaves that were appended or read last. There is room for two of the largest batches, so that receipts need no
/// disk.
pub(crate) const CACHE: Share = Share { what: "cache", parts: 8, most: 8 << 20 };
/// Leaves that tails have read ahead for their readers.
pub(crate) const TAILS: Share = Share { what: "tails", parts: 4, most: u64::MAX };
/// Responses to requests that were read: room for each is set aside before its request is accepted.
pub(crate) const REQUESTS: Share = Share { what: "requests", parts: 12, most: u64::MAX };
/// The shares into which a server divides its budget.
/// Calls `changed` whenever the budget changes, until `stop` says so or nobody can change the budget any more.
pub(crate) async fn follow(mut budget: watch::Receiver<u64>, mut stop: watch::Receiver<bool>, changed: impl Fn()) {
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            alive = budget.changed() => if alive.is_err() { return },
        }
        changed();
    }
}

#[cfg(test)]
const OF_A_SERVER: [Share; 5] = [QUEUE, BATCH, CACHE, TAILS, REQUESTS];

/// A client's payloads that are not yet durable.
pub(crate) const SUBMITS: Share = Share { what: "submits", parts: 16, most: u64::MAX };
/// A client's entries in flight, and those that were read from its outbox to be sent next.
pub(crate) const FLIGHT: Share = Share { what: "flight", parts: 16, most: u64::MAX };
/// The shares into which a client divides its budget.
#[cfg(test)]
const OF_A_CLIENT: [Share; 2] = [SUBMITS, FLIGHT];

/// A budget that never changes.
pub fn fixed(bytes: u64) -> watch::Receiver<u64> {
    // The sender is gone, and the value stays.
    watch::channel(bytes).1
}

/// The account of one share.
pub(crate) struct Account {
    share: Share,
    budget: watch::Receiver<u64>,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
    /// `turn` lets those who wait for room pass one by one; `freed` says that there may be some.
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    /// The most that was held since the budget changed last.
    peak: u64,
    /// `peak` is higher than the value that was reported last.
    untold: bool,
    told_at: Option<Instant>,
}

impl Account {
    pub(crate) fn new(share: Share, budget: &watch::Receiver<u64>, observer: &Arc<dyn Observer>) -> Arc<Account> {
        Arc::new(Account {
            share,
            budget: budget.clone(),
            observer: observer.clone(),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update under the lock is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of bytes that may be held at the moment.
    pub(crate) fn limit(&self) -> u64 {
        (*self.budget.borrow() / PARTS * self.share.parts).min(self.share.most)
    }

    /// Like [`limit`](Self::limit), but as a length in memory.
    pub(crate) fn limit_len(&self) -> usize {
        usize::try_from(self.limit()).unwrap_or(usize::MAX)
    }

    /// Returns the number of bytes that may be held in addition to what is held already.
    pub(crate) fn room(&self) -> usize {
        usize::try_from(self.limit().saturating_sub(self.lock().held)).unwrap_or(usize::MAX)
    }

    /// Reports what is held at the moment.
    pub(crate) fn holds(&self, bytes: usize) {
        self.note(&mut self.lock(), bytes as u64);
    }

    /// Holds this much more, if that keeps within the limit.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let mut state = self.lock();
        let all = state.held + bytes as u64;
        if all > self.limit() {
            return None;
        }
        self.note(&mut state, all);
        drop(state);
        Some(Held { account: self.clone(), bytes: bytes as u64 })
    }

    /// Like [`hold`](Self::hold), but waits until there is room, in the order in which callers came. Cancel safe.
    pub(crate) async fn hold_in_turn(self: &Arc<Self>, bytes: usize) -> Held {
        let _turn = self.turn.lock().await;
        let mut budget = self.budget.clone();
        loop {
            // Only one caller waits at a time, and `freed` keeps a permit, so nothing that is given back meanwhile is
            // missed.
            if let Some(held) = self.hold(bytes) {
                return held;
            }
            tokio::select! {
                biased;
                () = self.freed.notified() => {}
                Ok(()) = budget.changed() => {}
            }
        }
    }

    /// Reports what is held under the new limit, after the budget has changed.
    pub(crate) fn budget_changed(&self) {
        let mut state = self.lock();
        // What is held was admitted under another limit. A new peak is made of what is admitted from here on.
        state.peak = 0;
        state.untold = false;
        let held = state.held;
        self.tell(&mut state, held);
    }

    fn note(&self, state: &mut State, bytes: u64) {
        let grows = bytes > state.held;
        state.held = bytes;
        if grows && bytes > state.peak {
            state.peak = bytes;
            state.untold = true;
        }
        if state.untold && state.told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            state.untold = false;
            let peak = state.peak;
            self.tell(state, peak);
        }
    }

    fn tell(&self, state: &mut State, bytes: u64) {
        state.told_at = Some(Instant::now());
        let (what, limit) = (self.share.what.to_owned(), self.limit());
        self.observer.see(LogEvent::MemoryUsed { what, bytes, limit });
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({}: {} of {} bytes)", self.share.what, self.lock().held, self.limit())
    }
}

/// A part of what an account holds, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Held {
    /// Holds this much more, if that keeps within the limit.
    pub(crate) fn grow(&mut self, bytes: usize) -> Option<()> {
        let mut more = self.account.hold(bytes)?;
        self.bytes += std::mem::take(&mut more.bytes);
        Some(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.account.lock();
        let left = state.held.saturating_sub(self.bytes);
        self.account.note(&mut state, left);
        drop(state);
        self.account.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, u64)>>);

    impl Observer for Told {
        fn see(&self, event: LogEvent) {
            if let LogEvent::MemoryUsed { bytes, limit, .. } = event {
                self.0.lock().unwrap().push((bytes, limit));
            }
        }
    }

    impl Told {
        fn taken(&self) -> Vec<(u64, u64)> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    fn account(share: Share, bytes: u64) -> (Arc<Account>, watch::Sender<u64>, Arc<Told>) {
        let told = Arc::new(Told::default());
        let (sender, budget) = watch::channel(bytes);
        let observer: Arc<dyn Observer> = told.clone();
        (Account::new(share, &budget, &observer), sender, told)
    }

    #[test]
    fn the_shares_of_a_process_are_never_more_than_its_budget() {
        for shares in [&OF_A_SERVER[..], &OF_A_CLIENT[..]] {
            assert!(shares.iter().map(|share| share.parts).sum::<u64>() <= PARTS);
        }
        let (cache, budget, _) = account(CACHE, MEMORY_DEFAULT);
        assert_eq!(cache.limit(), 8 << 20, "no more than it needs");
        budget.send_replace(1 << 20);
        assert_eq!(cache.limit(), 256 << 10, "at once");
        drop(budget);
        assert_eq!(cache.limit(), 256 << 10);
    }

    #[test]
    fn the_smallest_budget_has_room_for_the_largest_entry_everywhere() {
        let entry = crate::leaf::PAYLOAD_BYTES_MAX as u64 + 1024;
        for share in OF_A_SERVER.iter().chain(&OF_A_CLIENT) {
            assert!(MEMORY_MIN / PARTS * share.parts >= entry, "{}", share.what);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_peaks_are_told_once_a_second_at_most_and_none_is_forgotten() {
        let (queue, _budget, told) = account(QUEUE, MEMORY_DEFAULT);
        let limit = queue.limit();
        for bytes in [10, 30, 20, 25, 0] {
            queue.holds(bytes);
        }
        assert_eq!(told.taken(), [(10, limit)]);
        tokio::time::advance(TOLD_EVERY).await;
        queue.holds(5);
        assert_eq!(told.taken(), [(30, limit)], "the peak of the second that has passed");
        tokio::time::advance(TOLD_EVERY * 5).await;
        queue.holds(30);
        assert_eq!(told.taken(), [], "no new peak");
        queue.holds(31);
        assert_eq!(told.taken(), [(31, limit)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_budget_is_told_and_peaks_count_anew() {
        let (queue, budget, told) = account(QUEUE, 1 << 20);
        queue.holds(100_000);
        budget.send_replace(64 << 10);
        queue.budget_changed();
        assert_eq!(told.taken(), [(100_000, 128 << 10), (100_000, 8 << 10)]);
        tokio::time::advance(TOLD_EVERY).await;
        queue.holds(90_000);
        queue.holds(1_000);
        assert_eq!(told.taken(), [], "what was let in before is no peak of the new budget");
        queue.holds(2_000);
        assert_eq!(told.taken(), [(2_000, 8 << 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_keeps_within_the_limit_and_is_given_back() {
        let (tails, budget, _) = account(TAILS, 64 << 10);
        let first = tails.hold(8_000).unwrap();
        assert!(tails.hold(193).is_none());
        assert_eq!(tails.room(), 192);
        let second = tails.hold(192).unwrap();
        drop(first);
        assert!(tails.hold(8_000).is_some());
        budget.send_replace(0);
        drop(second);
        assert!(tails.hold(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_grows_within_the_limit_and_is_given_back_as_a_whole() {
        let (requests, _budget, _) = account(REQUESTS, 64 << 10);
        let all = requests.limit_len();
        let mut held = requests.hold(all / 2).unwrap();
        assert!(held.grow(all / 2 + 1).is_none());
        assert_eq!(requests.room(), all / 2, "what does not fit changes nothing");
        assert!(held.grow(all / 2).is_some());
        assert_eq!(requests.room(), 0);
        drop(held);
        assert_eq!(requests.room(), all);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_room_is_served_in_turn() {
        let (submits, budget, _) = account(SUBMITS, 3_200);
        let first = submits.hold(1_600).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |name: &'static str, bytes| {
            let (submits, order) = (submits.clone(), order.clone());
            tokio::spawn(async move {
                let held = submits.hold_in_turn(bytes).await;
                order.lock().unwrap().push(name);
                held
            })
        };
        let (large, small) = (wait("large", 2_000), wait("small", 10));
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(order.lock().unwrap().is_empty(), "the large one does not fit, and the small one waits its turn");
        budget.send_replace(6_400);
        let _held = (large.await.unwrap(), small.await.unwrap());
        assert_eq!(*order.lock().unwrap(), ["large", "small"]);
    }
}
