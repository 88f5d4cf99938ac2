//! A graceful stop and a start: what every deployment does to every process.

use std::time::Duration;

use super::{Action, End, Fault, Given, Overlap, SERVERS_AND_CLIENTS};

/// The entry of `restart`.
pub(super) static FAULT: Fault = Fault {
    name: "restart",
    summary: "a graceful stop, then a start",
    does: "\
The process of each host in `on` is asked to stop, as with SIGTERM. It refuses new work,
finishes and answers what it has accepted, and ends. It starts again on the same data folder
`for` after it has ended.",
    loses: "\
Lost: connections, and calls that arrive while nobody listens. Not lost: anything that was
accepted or acknowledged, and nothing on disk. A process that still runs 30 s later, though neither
its host stood still nor its disk was slow, is killed: that breaks `stops-when-asked`, and is no
evidence of a restart.",
    simulated: "\
The stop signal of the host is raised; the host is started anew once its process has ended. One that
still runs after 30 s in which it could have stopped is killed.",
    drilled: "\
SIGTERM, or the command that the target names; then its start command.",
    evidence: "\
The process ended by itself after it was asked to, or had ended before and waited to be started.",
    untouched: "no process of {hosts} stopped when it was asked to",
    cure: "begin it while the host is up",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::After(Duration::from_secs(1)),
    overlap: Overlap::Refused,
    counted: None,
    parameters: &[],
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "shutdown-begun",
        "shutdown-done",
    ],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::Restart { on: given.on.clone()? })
}
