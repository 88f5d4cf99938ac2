//! Short ways for a log to declare what it promises, and what the caller of its `append` knows afterwards.

use gapless_world::error_chain;

use super::{Failure, Invariant, Outcome, Promises};

/// The invariants by which any append-only log can be judged from what goes into it and what comes out again.
const OF_ANY_LOG: [Invariant; 12] = [
    Invariant::AppendOnly,
    Invariant::NoGaps,
    Invariant::AtMostOnce,
    Invariant::AckedDurable,
    Invariant::NoPhantoms,
    Invariant::AccountedFor,
    Invariant::Authentic,
    Invariant::FaithfulReads,
    Invariant::RealTimeOrder,
    Invariant::StaysUp,
    Invariant::StopsWhenAsked,
    Invariant::Recovers,
];

/// The invariants that can be judged only if the log reports more about itself: by checkpoints that readers see, and by
/// events for its observer.
const OF_A_TALKATIVE_LOG: [Invariant; 5] = [
    Invariant::NoFork,
    Invariant::TrustedPeers,
    Invariant::NoSilentCorruption,
    Invariant::DeadlinesKept,
    Invariant::BoundedMemory,
];

impl Promises {
    /// Promises all invariants that can be judged from what clients appended and what readers found: a good start for
    /// any log.
    ///
    /// Invariants that need reports of the log itself (a checkpoint, a call with its deadline) are declined with that
    /// reason. [`and`](Promises::and) adds them.
    pub fn of_an_append_only_log() -> Self {
        let silent = "the log says nothing of it by itself";
        let declined = OF_A_TALKATIVE_LOG.map(|invariant| (invariant, silent.to_owned())).to_vec();
        Self { kept: OF_ANY_LOG.to_vec(), declined, may_repeat: None }
    }

    /// Declines an invariant. Every verdict prints the reason. Declining [`AtMostOnce`](Invariant::AtMostOnce) is the
    /// same as [`may_repeat`](Promises::may_repeat).
    pub fn without(mut self, invariant: Invariant, reason: impl Into<String>) -> Self {
        if invariant == Invariant::AtMostOnce {
            return self.may_repeat(reason);
        }
        self.kept.retain(|kept| *kept != invariant);
        self.declined.retain(|(declined, _)| *declined != invariant);
        self.declined.push((invariant, reason.into()));
        self
    }

    /// Promises one more invariant. If nothing in a run could have broken it, that run is inconclusive.
    pub fn and(mut self, invariant: Invariant) -> Self {
        if invariant == Invariant::AtMostOnce {
            self.may_repeat = None;
        }
        self.declined.retain(|(declined, _)| *declined != invariant);
        if !self.kept.contains(&invariant) {
            self.kept.push(invariant);
        }
        self
    }

    /// Declares that an entry may be in the log more than once, for this reason, which every verdict prints. By default
    /// an entry may be there at most once, in whatever order entries come; only this method declines
    /// [`AtMostOnce`](Invariant::AtMostOnce).
    pub fn may_repeat(mut self, reason: impl Into<String>) -> Self {
        self.may_repeat = Some(reason.into());
        self
    }
}

impl Outcome {
    /// The entry was acknowledged, at a position if one was told.
    pub fn acked(at: impl Into<Option<u64>>) -> Self {
        Outcome::Acked { at: at.into() }
    }

    /// The entry was definitely not written, and never will be. The contract of the log must say so.
    pub fn refused(why: impl Into<String>) -> Self {
        Outcome::Refused { why: why.into() }
    }

    /// It is not known whether the entry was written.
    pub fn unknown(why: impl Into<String>) -> Self {
        Outcome::Unknown { why: why.into() }
    }
}

/// Every status becomes unknown, because no gRPC code proves that nothing was written. Use [`Outcome::refused`] if your
/// contract gives that guarantee.
impl From<tonic::Status> for Outcome {
    fn from(status: tonic::Status) -> Self {
        Outcome::unknown(error_chain(&status))
    }
}

/// Whatever went wrong, it is not known whether the entry was written.
impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Outcome::unknown(error_chain(&*failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_is_promised_or_declined_with_a_reason() {
        let promises = Promises::of_an_append_only_log();
        for invariant in Invariant::ALL {
            let declined = promises.declined.iter().filter(|(it, why)| it == invariant && !why.is_empty()).count();
            let kept = promises.kept.iter().filter(|it| *it == invariant).count();
            assert_eq!(kept + declined, 1, "{invariant}");
        }
    }

    #[test]
    fn the_last_word_about_an_invariant_counts() {
        let promises = Promises::of_an_append_only_log()
            .without(Invariant::Authentic, "not signed")
            .without(Invariant::Authentic, "not signed yet")
            .and(Invariant::NoFork);
        assert!(!promises.kept.contains(&Invariant::Authentic) && promises.kept.contains(&Invariant::NoFork));
        let authentic: Vec<&str> = promises
            .declined
            .iter()
            .filter(|(it, _)| *it == Invariant::Authentic || *it == Invariant::NoFork)
            .map(|(_, why)| why.as_str())
            .collect();
        assert_eq!(authentic, ["not signed yet"]);
    }

    #[test]
    fn no_other_invariant_takes_at_most_once_along_and_declining_it_means_that_entries_may_repeat() {
        let promises = Promises::of_an_append_only_log().without(Invariant::NoGaps, "no numbers");
        assert!(promises.kept.contains(&Invariant::AtMostOnce) && promises.may_repeat.is_none());
        let promises = promises.without(Invariant::AtMostOnce, "a retry may be recorded twice");
        assert_eq!(promises.may_repeat.as_deref(), Some("a retry may be recorded twice"));
        assert!(promises.and(Invariant::AtMostOnce).may_repeat.is_none());
    }

    #[test]
    fn a_status_or_an_error_leaves_the_caller_without_knowledge() {
        let Outcome::Unknown { why } = tonic::Status::already_exists("twice").into() else { panic!("known") };
        assert!(why.contains("twice"), "{why}");
        let failure: Failure = std::io::Error::other("gone").into();
        assert_eq!(Outcome::from(failure), Outcome::unknown("gone"));
    }
}
