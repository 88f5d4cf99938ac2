//! How new the leaves have to be, as an argument of the verbs that read, and how new they were, in the words of these
//! verbs.

use std::time::Duration;

use crate::client::{Bound, Level};

#[derive(Debug, clap::Args)]
pub(super) struct LevelArgs {
    /// Reads from the leader, once a quorum has confirmed that it leads: nothing that was acknowledged before the read
    /// is missing.
    #[arg(long, conflicts_with = "max_age")]
    pub(super) linearizable: bool,
    /// Reads only from servers that miss nothing that was acknowledged longer ago than this, for example `2s`. In
    /// normal operation, followers are at most about half a second behind; for less than that, the leader is asked.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) max_age: Option<Duration>,
}

impl LevelArgs {
    pub(super) fn level(&self) -> Level {
        match self.max_age {
            _ if self.linearizable => Level::Linearizable,
            Some(age) => Level::AgeAtMost(age),
            None => Level::Any,
        }
    }
}

/// Returns milliseconds, rounded up.
pub(super) fn whole_ms(age: Duration) -> u64 {
    u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns the bound in words.
pub(super) fn bound(bound: &Bound) -> String {
    match bound.age {
        Some(age) if bound.linearizable => {
            format!("everything acknowledged before it was asked, {} ms ago (linearizable)", whole_ms(age))
        }
        Some(age) => format!("everything acknowledged longer than {} ms ago", whole_ms(age)),
        None => "unknown: the server has not heard of a leader yet, its log is damaged, or it is of an older release"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_said_too_small() {
        let age = Some(Duration::from_micros(1_001));
        assert_eq!(bound(&Bound { size: 1, age, linearizable: false }), "everything acknowledged longer than 2 ms ago");
    }
}
