//! A network that is cut and heals: bytes wait, nothing is lost.

use super::{ActsOn, Effect, End, Fault, NetworkFault, Overlap};

/// The entry of `partition`.
pub(super) static FAULT: Fault = Fault {
    name: "partition",
    summary: "nothing passes over the link; everything flows on at the heal",
    group: "cut lines",
    does: "\
Nothing passes between the two ends: no data, no FIN and no RST. An attempt to connect succeeds,
as it does against a middlebox, but nothing follows. Senders do not notice until a buffer is full
or a deadline passes. At the heal, everything that waited flows on in order, as TCP does after
its retransmissions. With `from` and `to`, only that direction is cut: requests arrive and
answers do not, or the reverse.",
    loses: "\
Lost: nothing, not even a connection, unless one of its ends gives up on it. What was sent before
the heal arrives after it, however late, and even if nobody wants it any more.",
    simulated: "\
The stream adapter on the link holds every byte and every close until the heal.",
    drilled: "\
The proxy on the link accepts connections and stops reading; back-pressure does the rest.",
    evidence: "\
Bytes or a close were held on the link while the step lasted. The run shows the number of bytes.",
    untouched: "nothing was sent over the link",
    cure: "make `for` longer, raise `appends`, or cut a link that carries calls",
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
    build: |_| Some(Effect::Network(NetworkFault::Partition)),
    ..Fault::USUAL
};
