//! A clock that is wrong: a machine that never synchronised.

use super::{Action, EVERYBODY, End, FARTHEST, Fault, Given, Kind, Need, Overlap, Parameter};

/// The entry of `clock-skew`.
pub(super) static FAULT: Fault = Fault {
    name: "clock-skew",
    summary: "the wall clock is wrong by a constant",
    does: "\
The wall clock of each host in `on` is `offset` away from the true time while the step lasts.
Certificates, tokens and timestamps are judged by it, in every library. Monotonic time is not
touched: deadlines and timers stay right.",
    loses: "\
Lost: handshakes, where a certificate is not valid by the wrong clock. Not lost: order, which is
the log's own and no clock's.",
    simulated: "\
`clock_gettime(CLOCK_REALTIME)` answers with the offset on that host.",
    drilled: "\
The harness's own copy of the process reads an offset; libfaketime for programs that are linked
dynamically.",
    evidence: "\
Somebody on the host read the wrong clock. How often is shown.",
    untouched: "nothing read {hosts}'s clock",
    cure: "add cert-rotate or reset while it lasts: a handshake reads the clock",
    acts_on: EVERYBODY,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[Parameter {
        name: "offset",
        kind: Kind::Offset { most: FARTHEST },
        need: Need::Required,
        means: "how far ahead (`+`) or behind (`-`) it is",
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::ClockSkew { on: given.on.clone()?, offset: given.offset("offset")? })
}
