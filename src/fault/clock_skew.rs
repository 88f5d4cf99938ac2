//! A clock that is wrong: a machine that never synchronised.

use super::{ClockFault, EVERYBODY, Effect, End, FARTHEST, Fault, Given, Kind, Need, Overlap, Parameter};

/// The entry of `clock-skew`.
pub(super) static FAULT: Fault = Fault {
    name: "clock-skew",
    summary: "the wall clock is wrong by a constant",
    group: "clocks",
    does: "\
While the step lasts, the wall clock of each host in `on` differs from the true time by `offset`.
Every library judges certificates, tokens and timestamps by this clock. Monotonic time is not
touched: deadlines and timers stay right.",
    loses: "\
Lost: handshakes, where a certificate is not valid by the wrong clock. Not lost: order, which the
log keeps by itself and without a clock.",
    simulated: "\
`clock_gettime(CLOCK_REALTIME)` on that host returns the time plus the offset.",
    drilled: "\
The harness's own copy of the process applies an offset; libfaketime does so for programs that
are linked dynamically.",
    evidence: "\
A program on the host read the wrong clock. The run shows how often.",
    untouched: "nothing read {hosts}'s clock",
    cure: "add cert-rotate or reset while the step lasts: a handshake reads the clock",
    acts_on: EVERYBODY,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "offset",
        kind: Kind::Offset { most: FARTHEST },
        need: Need::Required,
        means: "how far ahead (`+`) or behind (`-`) the clock is",
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
    Some(Effect::Clock(ClockFault::Skew { offset: given.offset("offset")? }))
}
