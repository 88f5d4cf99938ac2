//! A machine that loses its power: the fault that finds a missing fsync.

use super::{Action, End, Fault, Given, Overlap, SERVERS_AND_CLIENTS};

/// The entry of `power-loss`.
pub(super) static FAULT: Fault = Fault {
    name: "power-loss",
    summary: "the machine loses power; what was not synced is gone or torn",
    does: "\
The machine of each host in `on` goes dark at one instant: its process ends, its links fall
silent, and its page cache is gone. After `for` it starts again on what the disk has kept, and
recovers.",
    loses: "\
Lost: all memory, all calls in flight, and every write that no completed sync covers. Of those
the seed decides how much had reached the disk by itself: nothing, all, or a part, in whole or
cut in the middle (torn), and not always in the order in which they were written. The same holds
for files that were created or renamed in a folder that was not synced. Not lost: a single byte
that was covered by a sync which had returned. Peers get no FIN and no RST: they find out by
their own deadlines.",
    simulated: "\
The simulated disk is cut back to what syncs have covered, plus what the seed grants; disk and
links of the host stop at the same instant, also in the middle of a batch.",
    drilled: "\
Not supported, and `check --target` says so: ending a process leaves the page cache of its
kernel untouched, which would prove less than the name claims. A crash step is the nearest
thing.",
    evidence: "\
The host ran when the fault struck, and it served again afterwards. The run also records how
many bytes and files were lost and whether a write was torn; a loss of zero bytes is shown as
such.",
    untouched: "no process ran on {hosts}",
    cure: "begin it while the host is up, outside of other crashes, power losses and restarts",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Refused,
    counted: None,
    parameters: &[],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "torn-tail-truncated"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::PowerLoss { on: given.on.clone()? })
}
