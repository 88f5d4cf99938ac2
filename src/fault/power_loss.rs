//! A machine that loses its power: the fault that finds a missing fsync.

use super::{Effect, End, Fault, Overlap, ProcessFault, SERVERS_AND_CLIENTS};

/// The entry of `power-loss`.
pub(super) static FAULT: Fault = Fault {
    name: "power-loss",
    summary: "the machine loses power; what was not synced is gone or torn",
    group: "power",
    does: "\
The machine of each host in `on` goes dark at one instant: its process ends, its links fall
silent, and its page cache is gone. After `for` it starts again with what the disk has kept, and
recovers.",
    loses: "\
Lost: all memory, all calls in flight, and every write that no completed sync covers. Of each
such write, the seed decides how much had reached the disk by itself: all of it, nothing, or only
a part (torn). Writes need not have reached the disk in the order in which they were made. The
same holds for files that were created or renamed in a folder that was not synced. Not lost: any
byte that is covered by a sync which had returned. Peers get no FIN and no RST: they find out by
their own deadlines.",
    simulated: "\
The simulated disk is cut back to what syncs have covered, plus what the seed grants. The disk
and the links of the host stop at the same instant, even in the middle of a batch.",
    drilled: "\
Not supported, and `check --target` says so: ending a process leaves the page cache of its kernel
untouched, which would prove less than the name claims. A crash step comes closest.",
    evidence: "\
The host was running when the fault struck, and served again afterwards. The run also records how
many bytes and files were lost and whether a write was torn; a loss of zero bytes is shown as
such.",
    untouched: "no process ran on {hosts}",
    cure: "begin the step while the host is up, and outside other crashes, power losses and restarts",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Refused,
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "torn-tail-truncated"],
    keeps_down: true,
    needs_process: true,
    build: |_| Some(Effect::Process(ProcessFault::PowerLoss)),
    ..Fault::USUAL
};
