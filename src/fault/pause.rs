//! A process that stands still: a stopped virtual machine, a long garbage collection, a debugger.

use super::{Effect, End, Fault, Overlap, ProcessFault, SERVERS_AND_CLIENTS};

/// The entry of `pause`.
pub(super) static FAULT: Fault = Fault {
    name: "pause",
    summary: "the process stands still; its connections stay open",
    group: "processes",
    does: "\
The process of each host in `on` stands still for `for`, as with SIGSTOP. Its sockets stay open
and its kernel still takes bytes until the buffers are full. Afterwards the process goes on where
it was, and finds that its deadlines have passed and its leases have expired.",
    loses: "\
Lost: nothing. No byte in memory, on disk or in transit is lost, and that is the danger: the
process goes on with an outdated view of the world. Calls to it may run into their deadlines.",
    simulated: "\
Nothing comes in or goes out: links stall in both directions, syncs do not complete, and the
workload of a client offers nothing. The clocks of the host go on. Unlike under SIGSTOP, timers
inside the process still fire while it stands still; nothing that they cause leaves the host or
becomes durable before the process goes on.",
    drilled: "\
SIGSTOP and SIGCONT. Both clocks of the process go on, as on a real machine.",
    evidence: "\
Something waited for the paused host: bytes were stalled on its links, or its own syncs were
held, while it stood still.",
    untouched: "nothing waited for {hosts}",
    cure: "make `for` longer, raise `appends`, or pause a host that has work to do",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Refused,
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    build: |_| Some(Effect::Process(ProcessFault::Pause)),
    ..Fault::USUAL
};
