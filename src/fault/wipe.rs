//! A machine that is replaced: its disk died, or somebody rebuilt it, and it comes back under its old name with
//! nothing.

use super::{Action, ActsOn, End, Fault, Given, Overlap};

/// The entry of `wipe`.
pub(super) static FAULT: Fault = Fault {
    name: "wipe",
    summary: "the machine goes dark and comes back with an empty disk",
    does: "\
The machine of each host in `on` goes dark as at a power loss: its process ends, its links fall
silent. After `for` it starts again over an empty data folder, under its old name, at its old
address and with its certificate. Nobody tells it, or anybody else, that its disk is gone.",
    loses: "\
Lost: everything that the host held, in memory and on disk, synced or not. Not lost: what other
hosts have. Peers get no FIN and no RST: they find out by their own deadlines.",
    simulated: "\
Disk and links stop at the same instant; then the disk is emptied, files, names and folders.",
    drilled: "\
SIGKILL to the process, its data folder is moved aside (and put back afterwards), and its start
command.",
    evidence: "\
The host ran when the fault struck, and its disk held something; it served again afterwards. How
many bytes of how many files were gone is shown.",
    untouched: "no process ran on {hosts}",
    cure: "begin it while the host is up, outside of crashes, power losses and restarts",
    acts_on: ActsOn::Hosts { servers: true, clients: false, auditor: false, issuer: false },
    end: End::Healed,
    overlap: Overlap::Refused,
    counted: None,
    parameters: &[],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "receipt-rejected", "parked"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::Wipe { on: given.on.clone()? })
}
