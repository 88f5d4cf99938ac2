//! Connections that end at once: a load balancer that recycles, a firewall that forgets.

use super::{Action, ActsOn, End, Fault, Given, Overlap};

/// The entry of `reset`.
pub(super) static FAULT: Fault = Fault {
    name: "reset",
    summary: "open connections over the link are reset",
    does: "\
Every connection that is open between the two ends at this instant is reset at both ends. New
connections are possible at once. It is how a fault that only strikes at a handshake, or at a
connect, is made to bite.",
    loses: "\
Lost: bytes on their way, and the answers of calls in flight: whether these took effect is
unknown to the caller. Not lost: anything that an end has read, and anything at rest.",
    simulated: "\
The stream adapter fails both ends with connection reset and discards what was under way.",
    drilled: "\
The proxy closes both sides with SO_LINGER 0, so that a RST is sent.",
    evidence: "\
At least one open connection was reset. The number is shown.",
    untouched: "no connection was open over the link",
    cure: "begin it while the two ends are connected",
    acts_on: ActsOn::Links { one_way: false },
    end: End::Instant,
    overlap: Overlap::Allowed,
    counted: None,
    parameters: &[],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::Reset { link: given.link.clone()? })
}
