//! A clock that jumps: a virtual machine that was resumed, a leap second, a manual correction.

use super::{ClockFault, EVERYBODY, Effect, End, FARTHEST, Fault, Given, Kind, Need, Overlap, Parameter};

/// The entry of `clock-jump`.
pub(super) static FAULT: Fault = Fault {
    name: "clock-jump",
    summary: "the wall clock jumps, from whatever it shows",
    group: "clocks",
    does: "\
The wall clock of each host in `on` jumps by `by` at the start of the step, forward or back, from
whatever it shows: jumps and skews add up. At the end of the step it jumps back. Monotonic time
is not touched.",
    loses: "\
Lost: connections and handshakes, where a certificate is not valid by the wrong clock. Not lost:
order, which the log keeps by itself and without a clock.",
    simulated: "\
`clock_gettime(CLOCK_REALTIME)` on that host returns the time plus the sum of all offsets.",
    drilled: "\
Like clock-skew.",
    evidence: "\
A program on the host read the clock after it had jumped. The run shows how often.",
    untouched: "nothing read {hosts}'s clock",
    cure: "add cert-rotate or reset while the step lasts: a handshake reads the clock",
    acts_on: EVERYBODY,
    end: End::Healed,
    overlap: Overlap::Allowed,
    parameters: &[Parameter {
        name: "by",
        kind: Kind::Offset { most: FARTHEST },
        need: Need::Required,
        means: "how far the clock jumps forward (`+`) or back (`-`)",
    }],
    causes: &[
        "clock-anomaly",
        "handshake-refused",
        "connection-closed",
        "parked",
        "resumed",
        "retry",
        "duplicate-answered",
        "renewal-failed",
        "cert-renewed",
    ],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Clock(ClockFault::Jump { by: given.offset("by")? }))
}
