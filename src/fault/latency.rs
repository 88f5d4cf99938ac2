//! A network that is slow: congestion, a detour, another continent.

use std::time::Duration;

use super::{ActsOn, Effect, End, Fault, Given, Kind, Need, NetworkFault, Overlap, Parameter, Value};

/// The entry of `latency`.
pub(super) static FAULT: Fault = Fault {
    name: "latency",
    summary: "bytes over the link arrive later",
    group: "slow lines",
    does: "\
Everything that is sent over the link arrives `delay` later than it otherwise would, and up to
`jitter` later still; the seed draws the jitter for each piece of data. Order is kept. With
`from` and `to`, only that direction is slow. Opening a connection is slowed as well. If several
steps slow one link, their delays add up.",
    loses: "\
Lost: nothing, and nothing overtakes anything else. Calls whose deadline is shorter than the
delay fail for their caller and may still take effect.",
    simulated: "\
The stream adapter holds each piece of data until it is due.",
    drilled: "\
The proxy does the same in real time, to about a millisecond.",
    evidence: "\
Bytes passed over the link while the step lasted and were held for `delay`. The run shows their
number and the longest hold.",
    untouched: "nothing was sent over the link",
    cure: "make `for` longer, raise `appends`, or slow a link that carries calls",
    acts_on: ActsOn::Links { one_way: true },
    end: End::Healed,
    overlap: Overlap::Allowed,
    parameters: &[
        Parameter {
            name: "delay",
            kind: Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(60) },
            need: Need::Required,
            means: "how much later data arrives, on top of the latency of the network",
        },
        Parameter {
            name: "jitter",
            kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(60) },
            need: Need::Default(Value::Duration(Duration::ZERO)),
            means: "up to this much later still, drawn anew for each piece of data",
        },
    ],
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "renewal-failed",
        "parked",
        "resumed",
    ],
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    let (delay, jitter) = (given.duration("delay")?, given.duration("jitter")?);
    Some(Effect::Network(NetworkFault::Latency { delay, jitter }))
}
