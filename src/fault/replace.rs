//! A machine that is lost for good, and what an operator does about it: an empty machine joins in its place.

use super::{ActsOn, Effect, End, Fault, Overlap, ProcessFault, Synced};

/// The entry of `replace`.
pub(super) static FAULT: Fault = Fault {
    name: "replace",
    summary: "the machine is lost, and an operator puts an empty one in its place",
    group: "lost machines",
    does: "\
The machine of each host in `on` goes dark as at a power loss, and is gone with everything that
it held. After `for`, another machine with an empty disk starts under its name, at its address
and with its certificate, as a new member of the log. An operator, on the auditor's host, tells
the log by the log's own means to take in the new member and to let the old one go, and retries
until that is done. The step ends when the new machine starts; `STEP:bites` is the moment at
which the operator is done.",
    loses: "\
Lost: everything that the host held, in memory and on disk, synced or not. Not lost: what other
hosts have; the new machine has to get its data from them.",
    simulated: "\
Like wipe; in addition, the restarted host is told that it is another machine, and the auditor's
host makes the calls that an operator would make, over the network.",
    drilled: "\
The process gets SIGKILL, its data folder is moved aside, and the target's commands for a member
that joins are run.",
    evidence: "\
The operator's calls succeeded: the log said that the new member counts and that the old one is
gone. The servers report each step of this with their own `member-changed` events.",
    untouched: "the operator did not bring in a new machine for {hosts}",
    cure: "begin the step while the host is up, leave a majority of the servers alone, and allow time",
    acts_on: ActsOn::Hosts { servers: true, clients: false, auditor: false, issuer: false },
    end: End::Healed,
    overlap: Overlap::Refused,
    causes: &[
        "member-changed",
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "receipt-rejected",
        "parked",
    ],
    may_end_process: true,
    keeps_down: true,
    needs_process: true,
    synced: Synced::Forgotten,
    servers_min: 3,
    build: |_| Some(Effect::Process(ProcessFault::Replace)),
    ..Fault::USUAL
};
