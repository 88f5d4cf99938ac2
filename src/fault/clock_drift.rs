//! A clock that runs at the wrong speed: an oscillator that got warm, a time synchronisation that died a week ago.

use super::{ClockFault, EVERYBODY, Effect, End, FARTHEST, Fault, Given, Kind, Need, Overlap, Parameter, Value};

/// The entry of `clock-drift`.
pub(super) static FAULT: Fault = Fault {
    name: "clock-drift",
    summary: "the wall clock runs too fast or too slow",
    group: "clocks",
    does: "\
While the step lasts, the wall clock of each host in `on` gains or loses `drift` parts per
million of the time that passes. It may start from an `offset`, which stands for what a week at
that rate adds up to. At the end of the step the clock is right again. Monotonic time is not
touched.",
    loses: "\
Lost: handshakes, where a certificate is not valid by the wrong clock. Not lost: order, which the
log keeps by itself and without a clock.",
    simulated: "\
`clock_gettime(CLOCK_REALTIME)` on that host returns the time with the offset and the rate
applied.",
    drilled: "\
The harness's own copy of the process applies the offset and the rate; libfaketime can apply
offsets only.",
    evidence: "\
A program on the host read a clock that was wrong by at least a millisecond. The run shows how
often, and the largest error.",
    untouched: "nothing read {hosts}'s clock once it was wrong",
    cure: "add cert-rotate or reset while the step lasts, make `for` longer, or give an `offset`",
    acts_on: EVERYBODY,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[
        Parameter {
            name: "drift",
            kind: Kind::Drift { most: 100_000 },
            need: Need::Required,
            means: "how much faster (`+`) or slower (`-`) the clock runs; 12 ppm: a second a day",
        },
        Parameter {
            name: "offset",
            kind: Kind::Offset { most: FARTHEST },
            need: Need::Default(Value::Offset(0)),
            means: "how far ahead (`+`) or behind (`-`) the clock already is at the start",
        },
    ],
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
    Some(Effect::Clock(ClockFault::Drift { drift: given.drift("drift")?, offset: given.offset("offset")? }))
}
