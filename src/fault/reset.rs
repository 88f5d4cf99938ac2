//! Connections that end at once: a load balancer that recycles connections, a firewall that forgets them.

use super::{ActsOn, Effect, End, Fault, NetworkFault, Overlap};

/// The entry of `reset`.
pub(super) static FAULT: Fault = Fault {
    name: "reset",
    summary: "open connections over the link are reset",
    group: "cut lines",
    does: "\
Every connection that is open between the two ends at this instant is reset at both ends. New
connections are possible at once. A reset makes faults bite that strike only at a handshake or at
an attempt to connect.",
    loses: "\
Lost: bytes in transit, and the answers of calls in flight: the caller cannot know whether these
calls took effect. Not lost: anything that an end has read, and anything at rest.",
    simulated: "\
The stream adapter fails both ends with connection reset and discards what was in transit.",
    drilled: "\
The proxy closes both sides with SO_LINGER 0, so that an RST is sent.",
    evidence: "\
At least one open connection was reset. The run shows the number.",
    untouched: "no connection was open over the link",
    cure: "begin the step while the two ends are connected",
    acts_on: ActsOn::Links { one_way: false },
    end: End::Instant,
    overlap: Overlap::Allowed,
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    build: |_| Some(Effect::Network(NetworkFault::Reset)),
    ..Fault::USUAL
};
