//! A clock that runs at the wrong speed: an oscillator that got warm, time sync that died a week ago.

use super::{Action, EVERYBODY, End, FARTHEST, Fault, Given, Kind, Need, Overlap, Parameter, Value};

/// The entry of `clock-drift`.
pub(super) static FAULT: Fault = Fault {
    name: "clock-drift",
    summary: "the wall clock runs too fast or too slow",
    does: "\
The wall clock of each host in `on` gains or loses `drift` parts per million of the time that
passes while the step lasts, from an `offset` on that it may have at the start: what a week at
that rate adds up to. At the end of the step it is right again. Monotonic time is not touched.",
    loses: "\
Lost: handshakes, where a certificate is not valid by the wrong clock. Not lost: order, which is
the log's own and no clock's.",
    simulated: "\
`clock_gettime(CLOCK_REALTIME)` answers with the offset and the rate on that host.",
    drilled: "\
The harness's own copy of the process reads offset and rate; libfaketime can give offsets only.",
    evidence: "\
Somebody on the host read a clock that had gone wrong by a millisecond at least. How often, and
by how much at most, is shown.",
    untouched: "nothing read {hosts}'s clock once it was wrong",
    cure: "add cert-rotate or reset while it lasts, make `for` longer, or give an `offset`",
    acts_on: EVERYBODY,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[
        Parameter {
            name: "drift",
            kind: Kind::Drift { most: 100_000 },
            need: Need::Required,
            means: "how much faster (`+`) or slower (`-`) it runs; 12 ppm: a second a day",
        },
        Parameter {
            name: "offset",
            kind: Kind::Offset { most: FARTHEST },
            need: Need::Default(Value::Offset(0)),
            means: "how far ahead (`+`) or behind (`-`) it is already at the start",
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::ClockDrift { on: given.on.clone()?, drift: given.drift("drift")?, offset: given.offset("offset")? })
}
