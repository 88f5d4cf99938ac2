//! How fresh an answer has to be, and how fresh it is by this reader's own clock.
//!
//! A server says how old its answer was when it was made. Nobody knows how long the answer was on its way, so the
//! reader counts from when it asked: an age here is never too small, whatever the network did.

use std::time::Duration;

use gapless_world::LogEvent;
use tokio::time::Instant;

use super::error::ClientError;
use crate::wire::{self, freshness::Demand};

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// As fresh as the server that is asked has it. It may be old; the answer says how old.
    #[default]
    Any,
    /// Not older than this when the answer is made. Followers keep within about half a second while all is well; for a
    /// smaller age, the leader is asked.
    AgeAtMost(Duration),
    /// Contains everything that was acknowledged to anybody before the answer was asked for. Only the leader answers,
    /// once a quorum has confirmed that it leads.
    Linearizable,
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The log has at least this many leaves.
    pub size: u64,
    /// None of the entries that were acknowledged longer than this before the answer came is missing among these
    /// leaves. `None` if the server does not know, or runs a release from before there were bounds.
    pub age: Option<Duration>,
    /// Whether the server was confirmed as the leader after it was asked: if so, no entry acknowledged before is
    /// missing.
    pub linearizable: bool,
}

impl Bound {
    /// Returns what the observer is told, if there is anything to tell.
    pub(crate) fn told(&self, server: &str) -> Option<LogEvent> {
        let Bound { size, age, linearizable } = *self;
        // Rounded up, as everywhere.
        let age_ms = u64::try_from(age?.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let server = server.to_owned();
        Some(match linearizable {
            true => LogEvent::LinearizableRead { server, size, age_ms },
            false => LogEvent::BoundedRead { server, size, age_ms },
        })
    }
}

impl Level {
    /// Returns the level as it stands in a request.
    pub(crate) fn demand(self) -> Option<wire::Freshness> {
        let demand = match self {
            Level::Any => return None,
            // Rounded down: an answer that keeps this is at least as fresh as what was asked for.
            Level::AgeAtMost(age) => Demand::AgeMsMax(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            Level::Linearizable => Demand::Linearizable(true),
        };
        Some(wire::Freshness { demand: Some(demand) })
    }

    /// Returns what an answer says of its freshness. The question was sent at `sent`, and the answer by itself proves
    /// `size` leaves.
    ///
    /// # Errors
    /// Fails if the answer does not keep what was asked for. A server that does not know of bounds says nothing, which
    /// must not pass for keeping one.
    pub(crate) fn kept_by(self, stated: Option<wire::Bound>, size: u64, sent: Instant) -> Result<Bound, ClientError> {
        let Some(wire::Bound { size: shown, age_ms, linearizable }) = stated else {
            return match self {
                Level::Any => Ok(Bound { size, age: None, linearizable: false }),
                Level::AgeAtMost(_) | Level::Linearizable => Err(ClientError::NoBound),
            };
        };
        let age = age_ms.map(Duration::from_millis);
        let keeps = match self {
            Level::Any => true,
            Level::AgeAtMost(most) => age.is_some_and(|age| age <= most),
            Level::Linearizable => linearizable,
        };
        if !keeps || shown > size {
            return Err(ClientError::BoundNotKept { size, shown, age });
        }
        let passed = sent.elapsed();
        let age = if linearizable { Some(passed) } else { age.map(|age| age + passed) };
        Ok(Bound { size, age, linearizable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(size: u64, age_ms: Option<u64>, linearizable: bool) -> Option<wire::Bound> {
        Some(wire::Bound { size, age_ms, linearizable })
    }

    #[tokio::test(start_paused = true)]
    async fn an_age_counts_from_when_the_reader_asked() {
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(40)).await;
        let bound = |stated| Level::Any.kept_by(stated, 9, sent).unwrap();
        assert_eq!(bound(stated(9, Some(100), false)).age, Some(Duration::from_millis(140)));
        assert_eq!(bound(stated(9, Some(100), true)).age, Some(Duration::from_millis(40)), "confirmed since it asked");
        assert_eq!(bound(stated(9, None, false)).age, None);
        assert_eq!(bound(None), Bound { size: 9, age: None, linearizable: false });
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_for_something_is_not_put_off_with_less() {
        let sent = Instant::now();
        let second = Level::AgeAtMost(Duration::from_secs(1));
        assert!(second.kept_by(stated(9, Some(1_000), false), 9, sent).is_ok());
        assert!(Level::Linearizable.kept_by(stated(9, Some(0), true), 9, sent).is_ok());
        for (level, stated) in [
            (second, stated(9, Some(1_001), false)),
            (second, stated(9, None, false)),
            (Level::Linearizable, stated(9, Some(0), false)),
            (Level::Any, stated(10, Some(0), true)),
        ] {
            let error = level.kept_by(stated, 9, sent).unwrap_err();
            assert!(matches!(error, ClientError::BoundNotKept { .. }), "{level:?} {stated:?}");
        }
        for level in [second, Level::Linearizable] {
            assert!(matches!(level.kept_by(None, 9, sent), Err(ClientError::NoBound)));
        }
    }
}
