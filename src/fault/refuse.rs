//! A port on which nothing listens: the friendliest of network faults, since it is noticed at once.

use super::{ActsOn, Effect, End, Fault, NetworkFault, Overlap};

/// The entry of `refuse`.
pub(super) static FAULT: Fault = Fault {
    name: "refuse",
    summary: "new connections over the link are refused at once",
    group: "cut lines",
    does: "\
Each attempt to connect over the link is refused, as by a machine that is up while nothing
listens. With `from` and `to`, `from` is the end that connects. Connections that are already open
stay untouched: add a reset step if they should have to be opened again.",
    loses: "\
Lost: nothing but attempts to connect. Not lost: open connections and everything that passes over
them.",
    simulated: "\
An attempt to connect over the link fails with connection refused.",
    drilled: "\
The proxy closes its listening socket for this link and leaves open connections alone.",
    evidence: "\
At least one attempt to connect was refused while the step lasted. A client with a healthy
connection makes no such attempt; if no client makes one, the step has not bitten.",
    untouched: "nobody tried to connect over the link",
    cure: "add reset on the same link while the step lasts, so that its ends reconnect",
    acts_on: ActsOn::Links { one_way: true },
    end: End::Healed,
    overlap: Overlap::Allowed,
    causes: &["retry", "duplicate-answered"],
    build: |_| Some(Effect::Network(NetworkFault::Refuse)),
    ..Fault::USUAL
};
