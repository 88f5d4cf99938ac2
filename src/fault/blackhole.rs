//! A network that swallows what is sent: a firewall that drops packets, a route that leads nowhere.

use super::{ActsOn, Effect, End, Fault, NetworkFault, Overlap};

/// The entry of `blackhole`.
pub(super) static FAULT: Fault = Fault {
    name: "blackhole",
    summary: "what is sent over the link vanishes without an error",
    group: "cut lines",
    does: "\
Everything that is sent over the link is swallowed, and the sender is told nothing. New
connections get no answer. With `from` and `to`, only that direction swallows: a server may read
and store a request while its answer vanishes, which is how acknowledgements get lost.",
    loses: "\
Lost: all bytes that are sent over the link during the step, for good. A connection that has lost
a byte carries nothing more and stays dead after the heal; its ends must notice by their
deadlines and connect anew. Not lost: bytes that had arrived before, connections that sent
nothing during the step, anything at rest.",
    simulated: "\
The stream adapter on the link reads and discards. A connection that lost a byte carries nothing
more in either direction, even after the heal, and neither end is told.",
    drilled: "\
The proxy on the link reads and discards, and keeps discarding on each connection that lost a
byte.",
    evidence: "\
Bytes were swallowed, or an attempt to connect got no answer, while the step lasted. The run
shows the number of bytes.",
    untouched: "nothing was sent over the link",
    cure: "make `for` longer, raise `appends`, or strike a link that carries calls",
    acts_on: ActsOn::Links { one_way: true },
    end: End::Healed,
    overlap: Overlap::Allowed,
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "renewal-failed",
        "parked",
        "resumed",
    ],
    build: |_| Some(Effect::Network(NetworkFault::Blackhole)),
    ..Fault::USUAL
};
