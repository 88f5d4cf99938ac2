//! Hosts that are cut off from all others: a rack, a zone, a machine with a dead switch port.

use super::{ActsOn, Effect, End, Fault, NetworkFault, Overlap};

/// The entry of `isolate`.
pub(super) static FAULT: Fault = Fault {
    name: "isolate",
    summary: "the hosts are cut off from all others",
    group: "cut lines",
    does: "\
A partition between the hosts in `on` and every host that is not in `on`: servers, clients and
auditor alike. The hosts in `on` can still talk among themselves. At the heal, everything that
waited flows on.",
    loses: "\
Lost: nothing, as with a partition: bytes wait.",
    simulated: "\
Like partition, on each link between a host in `on` and a host outside.",
    drilled: "\
Like partition, on each proxied link between a host in `on` and a host outside. If any of these
links does not pass a proxy, they are listed and the step is not performed.",
    evidence: "\
Bytes, an attempt to connect or a close were held on one of the links while the step lasted.",
    untouched: "nothing was sent between {hosts} and the other hosts",
    cure: "make `for` longer, raise `appends`, or isolate hosts that others talk to",
    acts_on: ActsOn::Hosts { servers: true, clients: true, auditor: true, issuer: true },
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
    build: |_| Some(Effect::Network(NetworkFault::Isolate)),
    ..Fault::USUAL
};
