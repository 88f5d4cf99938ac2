//! The invariants, one per file, each with its statement, its source, what it looks at and what leaves it idle. All of
//! them share one pass over the events (`index`) and nothing else; none consults another.

mod accounted_for;
mod acked_durable;
mod append_only;
mod at_most_once;
mod authentic;
mod bounded_memory;
mod deadlines_kept;
mod faithful_reads;
mod no_fork;
mod no_gaps;
mod no_phantoms;
mod no_silent_corruption;
mod real_time_order;
mod recovers;
mod stays_up;
mod stops_when_asked;
mod trusted_peers;

use super::{index::Index, verdict::Finding};
use crate::history::Invariant;

/// How one invariant is checked.
pub(super) struct Check {
    pub(super) invariant: Invariant,
    pub(super) run: fn(&Index<'_>) -> Finding,
    /// The source file, whose opening comment explains the invariant.
    pub(super) source: &'static str,
}

macro_rules! check {
    ($invariant:ident, $module:ident) => {
        Check {
            invariant: Invariant::$invariant,
            run: $module::check,
            source: include_str!(concat!(stringify!($module), ".rs")),
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    check!(AppendOnly, append_only),
    check!(NoFork, no_fork),
    check!(NoGaps, no_gaps),
    check!(AtMostOnce, at_most_once),
    check!(AckedDurable, acked_durable),
    check!(NoPhantoms, no_phantoms),
    check!(AccountedFor, accounted_for),
    check!(Authentic, authentic),
    check!(TrustedPeers, trusted_peers),
    check!(FaithfulReads, faithful_reads),
    check!(RealTimeOrder, real_time_order),
    check!(NoSilentCorruption, no_silent_corruption),
    check!(StaysUp, stays_up),
    check!(StopsWhenAsked, stops_when_asked),
    check!(DeadlinesKept, deadlines_kept),
    check!(Recovers, recovers),
    check!(BoundedMemory, bounded_memory),
];
