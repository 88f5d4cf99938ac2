//! Faults of deployments: hosts that stop at one schema revision and start at another.

use std::time::Duration;

/// What a step deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseFault {
    /// A graceful stop, then a start at another schema revision.
    Upgrade {
        /// Which revision.
        to: RevisionRole,
    },
    /// The same, one host after the other, in the order in which they are named. The next host follows only once the
    /// previous one serves.
    RollingUpgrade {
        /// Which revision.
        to: RevisionRole,
        /// The time from the moment at which one host serves again to the stop of the next.
        pause: Duration,
    },
    /// A host returns to the revision that it ran before its present one.
    Rollback,
}

impl ReleaseFault {
    /// Returns the revision that is asked for. A rollback leads to one that was asked for before.
    pub fn revision(self) -> Option<RevisionRole> {
        match self {
            ReleaseFault::Upgrade { to } | ReleaseFault::RollingUpgrade { to, .. } => Some(to),
            ReleaseFault::Rollback => None,
        }
    }
}

words! {
    /// A schema revision, by its role in a rollout.
    RevisionRole {
        Previous = "previous": "the revision before the current one",
        Current = "current": "the revision that every host runs when a run begins",
        Next = "next": "a compatible successor: new fields, new enum values",
        Breaking = "breaking": "a successor that is not compatible: a changed type, a re-used number",
    }
}
