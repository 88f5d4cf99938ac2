//! A graceful stop and a start: what every deployment does to every process.

use std::time::Duration;

use super::{Effect, End, Fault, Overlap, ProcessFault, SERVERS_AND_CLIENTS};

/// The entry of `restart`.
pub(super) static FAULT: Fault = Fault {
    name: "restart",
    summary: "a graceful stop, then a start",
    group: "processes",
    does: "\
The process of each host in `on` is asked to stop, as with SIGTERM. It refuses new work, finishes
and answers what it has accepted, and ends. It is started again on the same data folder, `for`
after it has ended.",
    loses: "\
Lost: connections, and calls that arrive while nothing listens. Not lost: anything that was
accepted or acknowledged, and nothing on disk. A process that still runs 30 s later, although its
host did not stand still and its disk was not slow, is killed: that breaks `stops-when-asked`,
and is no evidence of a restart.",
    simulated: "\
The stop signal of the host is raised; the host is started again once its process has ended. A
process that still runs after 30 s in which it could have stopped is killed.",
    drilled: "\
The process gets SIGTERM, or the command that the target names for this; then the start command
of the target is run.",
    evidence: "\
The process ended by itself after it was asked to, or it had ended before and was waiting to be
started.",
    untouched: "no process of {hosts} stopped when it was asked to",
    cure: "begin the step while the host is up",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::After(Duration::from_secs(1)),
    overlap: Overlap::Refused,
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "shutdown-begun",
        "shutdown-done",
    ],
    needs_process: true,
    build: |_| Some(Effect::Process(ProcessFault::Restart)),
    ..Fault::USUAL
};
