//! The names that scenario files and reports use for events and invariants.

use std::fmt;

use super::{Invariant, What};

impl What {
    /// Returns the name of the event in scenario files: for an event of the log, the log's own name.
    pub fn name(&self) -> &'static str {
        match self {
            What::Began {} => "began",
            What::WorkloadEnded {} => "workload-ended",
            What::Healed {} => "healed",
            What::Settled { .. } => "settled",
            What::Step { .. } => "step",
            What::Up { .. } => "up",
            What::Runs { .. } => "runs",
            What::StopRequested {} => "stop-requested",
            What::Down { .. } => "down",
            What::Wiped {} => "wiped",
            What::Rewound { .. } => "rewound",
            What::Failed { .. } => "failed",
            What::Paused { .. } => "paused",
            What::Clock { .. } => "clock",
            What::Memory { .. } => "memory",
            What::Disk { .. } => "disk",
            What::Lost { .. } => "lost",
            What::LostName { .. } => "lost-name",
            What::Damaged { .. } => "damaged",
            What::Mended { .. } => "mended",
            What::Certificate { .. } => "certificate",
            What::Took { .. } => "took",
            What::Connected { .. } => "connected",
            What::Disconnected { .. } => "disconnected",
            What::Submitted { .. } => "submitted",
            What::Returned { .. } => "returned",
            What::Holds { .. } => "holds",
            What::ReadingBegan { .. } => "reading-began",
            What::Found { .. } => "found",
            What::Followed { .. } => "followed",
            What::CheckpointRead { .. } => "checkpoint-read",
            What::ReadingEnded { .. } => "reading-ended",
            What::Marked { .. } => "marked",
            What::Log { event } => event.name(),
        }
    }

    /// Returns what a scenario file's `reason` is compared with: the event's `reason`, `why`, `status` or `error`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            What::Returned { outcome, .. } => match outcome {
                super::Outcome::Acked { .. } => None,
                super::Outcome::Refused { why } | super::Outcome::Unknown { why } => Some(why),
            },
            What::Step { event: super::StepEvent::NotRun { why }, .. } => Some(why),
            What::Failed { error } => Some(error),
            What::Disk { error, .. } | What::ReadingEnded { error, .. } => error.as_deref(),
            What::Log { event } => event.reason(),
            _ => None,
        }
    }
}

impl Invariant {
    /// Every invariant, in the order in which verdicts list them.
    pub const ALL: &'static [Invariant] = &[
        Invariant::AppendOnly,
        Invariant::NoFork,
        Invariant::NoGaps,
        Invariant::AtMostOnce,
        Invariant::AckedDurable,
        Invariant::NoPhantoms,
        Invariant::AccountedFor,
        Invariant::Authentic,
        Invariant::TrustedPeers,
        Invariant::FaithfulReads,
        Invariant::RealTimeOrder,
        Invariant::NoSilentCorruption,
        Invariant::StaysUp,
        Invariant::StopsWhenAsked,
        Invariant::DeadlinesKept,
        Invariant::Recovers,
        Invariant::BoundedMemory,
    ];

    /// Returns the invariant of this name.
    pub fn named(name: &str) -> Option<Invariant> {
        Invariant::ALL.iter().copied().find(|invariant| invariant.name() == name)
    }

    /// Returns its name in `gapless explain`, in verdicts and in files.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::AppendOnly => "append-only",
            Invariant::NoFork => "no-fork",
            Invariant::NoGaps => "no-gaps",
            Invariant::AtMostOnce => "at-most-once",
            Invariant::AckedDurable => "acked-durable",
            Invariant::NoPhantoms => "no-phantoms",
            Invariant::AccountedFor => "accounted-for",
            Invariant::Authentic => "authentic",
            Invariant::TrustedPeers => "trusted-peers",
            Invariant::FaithfulReads => "faithful-reads",
            Invariant::RealTimeOrder => "real-time-order",
            Invariant::NoSilentCorruption => "no-silent-corruption",
            Invariant::StaysUp => "stays-up",
            Invariant::StopsWhenAsked => "stops-when-asked",
            Invariant::DeadlinesKept => "deadlines-kept",
            Invariant::Recovers => "recovers",
            Invariant::BoundedMemory => "bounded-memory",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file_format() {
        for invariant in Invariant::ALL {
            assert_eq!(serde_json::to_value(invariant).unwrap(), invariant.name());
        }
        let wiped = serde_json::to_value(What::Wiped {}).unwrap();
        assert_eq!(wiped["what"], What::Wiped {}.name());
    }
}
