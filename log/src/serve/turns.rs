//! Unary appends reach the node in the order of their sequences, although HTTP/2 delivers them in any order.
//!
//! A client that has several unary calls under way sends them in order, but their bodies share one connection: small
//! ones overtake a large one, and tasks on several threads overtake each other as well. To the log, an entry that comes
//! before its predecessor is a gap, which costs the client another round trip. So such an entry waits for a moment
//! until its predecessor has come over the same connection. If the predecessor was lost, the wait is in vain, and the
//! log decides.
//!
//! If the node has no room for an entry, the entry comes again, and so do those behind it. From there on they are put
//! in order again: if the later entries of the next round went ahead, they would fill the queue for nothing but gaps,
//! and the first one would again find no room, round after round.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::leaf::Epoch;

/// How long an entry waits for its predecessor. Requests that one client sent together arrive within less than this,
/// unless their bytes take longer on the line.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The order of one connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Turns(watch::Sender<Turn>);

/// The epoch of the entry that was handed to the node last, and the sequence after it; `None` if there was no entry.
type Turn = Option<(Epoch, u64)>;

impl Default for Turns {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Turns {
    /// Submits an entry of this epoch and sequence when it is its turn: the first poll of `submitting` hands it to the
    /// node. If that fails at once, the node has not accepted the entry, and it stays this entry's turn. `next` returns
    /// the sequence that the node accepts next in this epoch, whatever this connection has carried.
    pub(super) async fn take<T, E>(
        &self,
        (epoch, sequence): (Epoch, u64),
        next: impl Fn() -> u64,
        submitting: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let follows = |turn: &Turn| turn.is_some_and(|(of, next)| of == epoch && sequence <= next);
        let has_come = |turn: &Turn| follows(turn) || sequence <= next();
        let mut turns = self.0.subscribe();
        // Fails if the predecessor did not come in time: the node then says which entry is missing.
        mark!("call-overtook-another", !has_come(&turns.borrow()));
        timeout(WAIT_MAX, turns.wait_for(has_come)).await.map(drop).ok();
        drop(turns);
        let mut submitting = pin!(submitting);
        let first = futures::poll!(submitting.as_mut());
        let is_taken = !matches!(first, Poll::Ready(Err(_)));
        self.0.send_replace(Some((epoch, if is_taken { sequence.saturating_add(1) } else { sequence })));
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => submitting.await,
        }
    }

    /// Notes that an entry with this sequence was turned away before its turn, and does not come again over this
    /// connection.
    pub(super) fn pass(&self, sequence: u64) {
        self.0.send_if_modified(|turn| match turn {
            Some((_, next)) if *next == sequence => {
                *next = sequence.saturating_add(1);
                true
            }
            _ => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    /// Submits these sequences of epoch 7 in this order; the node expects `expected` first. Returns the order in which
    /// the node got them, and how long it took.
    async fn order(turns: &Turns, sequences: &[u64], expected: u64) -> (Vec<u64>, Duration) {
        let (submitted, begun) = (Mutex::new(Vec::new()), Instant::now());
        let submit = |sequence: u64| {
            let submitted = &submitted;
            turns.take((Epoch(7), sequence), move || expected, async move {
                submitted.lock().unwrap().push(sequence);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, ()>(())
            })
        };
        join_all(sequences.iter().map(|sequence| submit(*sequence))).await.into_iter().for_each(Result::unwrap);
        (submitted.into_inner().unwrap(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_before_its_turn_waits_for_it() {
        let (submitted, took) = order(&Turns::default(), &[5, 3, 4, 2, 6], 2).await;
        assert_eq!(submitted, [2, 3, 4, 5, 6]);
        assert!(took < Duration::from_millis(60), "{took:?}: only the order is waited for, not the answers");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_in_vain_goes_on_in_order_after_a_while() {
        let turns = Turns::default();
        let (submitted, took) = order(&turns, &[3, 4, 5], 2).await;
        assert_eq!(submitted, [3, 4, 5]);
        assert!(took >= WAIT_MAX && took < WAIT_MAX * 2, "{took:?}");
        let (submitted, took) = order(&turns, &[2, 3, 4], 2).await;
        assert_eq!((submitted, took < WAIT_MAX), (vec![2, 3, 4], true), "repeats do not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_sequence_there_is_has_a_turn_like_any_other() {
        let turns = Turns::default();
        let (submitted, took) = order(&turns, &[u64::MAX, u64::MAX], 2).await;
        assert_eq!((submitted, took >= WAIT_MAX), (vec![u64::MAX; 2], true));
        turns.pass(u64::MAX);
    }

    /// A node without room for the first entry turns it away, and those behind it are given up. In the next round,
    /// their bodies arrive in another order.
    #[tokio::test(start_paused = true)]
    async fn behind_one_for_which_there_is_no_room_nobody_goes_ahead() {
        let turns = Turns::default();
        order(&turns, &[2, 3, 4, 5, 6], 2).await;
        let full = turns.take((Epoch(7), 3), || 3, async { Err::<(), _>("no room") });
        assert_eq!(full.await, Err("no room"));
        let (submitted, took) = order(&turns, &[5, 6, 4, 3], 3).await;
        assert_eq!((submitted, took < WAIT_MAX), (vec![3, 4, 5, 6], true));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_one_that_was_turned_away() {
        let turns = Turns::default();
        order(&turns, &[2], 2).await;
        turns.pass(3);
        let (submitted, took) = order(&turns, &[4, 5], 2).await;
        assert_eq!((submitted, took < WAIT_MAX), (vec![4, 5], true));
    }
}
