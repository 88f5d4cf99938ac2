//! A machine that is rebuilt: its disk died, or it was set up anew, and it comes back under its old name with nothing.

use super::{ActsOn, Effect, End, Fault, Overlap, ProcessFault, Synced};

/// The entry of `wipe`.
pub(super) static FAULT: Fault = Fault {
    name: "wipe",
    summary: "the machine goes dark and comes back with an empty disk",
    group: "lost machines",
    does: "\
The machine of each host in `on` goes dark as at a power loss: its process ends and its links
fall silent. After `for` it starts again with an empty data folder, under its old name, at its
old address and with its certificate. Neither the host nor any other is told that its disk is
gone.",
    loses: "\
Lost: everything that the host held, in memory and on disk, synced or not. Not lost: what other
hosts have. Peers get no FIN and no RST: they find out by their own deadlines.",
    simulated: "\
The disk and the links stop at the same instant; then the disk is emptied of its files, names and
folders.",
    drilled: "\
The process gets SIGKILL, its data folder is moved aside (and put back afterwards), and its start
command is run.",
    evidence: "\
The host was running when the fault struck, its disk held something, and it served again
afterwards. The run shows how many bytes of how many files were gone.",
    untouched: "no process ran on {hosts}",
    cure: "begin the step while the host is up, and outside crashes, power losses and restarts",
    acts_on: ActsOn::Hosts { servers: true, clients: false, auditor: false, issuer: false },
    end: End::Healed,
    overlap: Overlap::Refused,
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "receipt-rejected", "parked"],
    may_end_process: true,
    keeps_down: true,
    needs_process: true,
    synced: Synced::Forgotten,
    build: |_| Some(Effect::Process(ProcessFault::Wipe)),
    ..Fault::USUAL
};
