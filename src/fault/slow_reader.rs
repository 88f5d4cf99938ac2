//! A reader that cannot keep up: a small machine, a busy machine, a program that parses as it reads.

use super::{ActsOn, Effect, End, Fault, Given, Kind, Need, NetworkFault, Overlap, Parameter};

/// The entry of `slow-reader`.
pub(super) static FAULT: Fault = Fault {
    name: "slow-reader",
    summary: "hosts are slow to read what they are sent",
    group: "slow lines",
    does: "\
Each host in `on` takes at most `bytes` a second from each connection. What it has not taken
waits in buffers: first its own, then those of the network, then those of the sender.",
    loses: "\
Lost: nothing. A sender that does not bound what it keeps for a slow reader runs out of memory;
that is what this fault is for.",
    simulated: "\
The stream adapter gives each end of the host's connections its bytes at that rate, and takes no
more from the network than a socket buffer holds.",
    drilled: "\
The proxy reads from its peer no faster than it may write to the host.",
    evidence: "\
Bytes had to wait for the reader. The run shows their number.",
    untouched: "nothing had to wait for {hosts} to read it",
    cure: "lower `bytes`, or raise `appends` and `size`",
    acts_on: ActsOn::Hosts { servers: true, clients: true, auditor: true, issuer: true },
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "bytes",
        kind: Kind::Size { min: 1, max: 1 << 30 },
        need: Need::Required,
        means: "bytes a second that the host takes from each of its connections",
    }],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "outbox-full", "load-shed"],
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Network(NetworkFault::SlowReader { bytes: given.size("bytes")? }))
}
