//! A process that ends without warning, as after SIGKILL or a panic. The machine under it keeps running.

use super::{Effect, End, Fault, Overlap, ProcessFault, SERVERS_AND_CLIENTS};

/// The entry of `crash`.
pub(super) static FAULT: Fault = Fault {
    name: "crash",
    summary: "the process ends at once; its machine keeps running",
    group: "processes",
    does: "\
The process of each host in `on` ends in the middle of whatever it is doing, as with SIGKILL.
There is no graceful stop, no last sync and no goodbye frame. After `for` it is started again on
the same data folder and recovers.",
    loses: "\
Lost: everything in the memory of the process, every call in flight, every connection (its peers
see the connections end). Not lost: everything that the process handed to the operating system
before it ended. The page cache survives a crash, so bytes that were written but never synced are
still there afterwards; use power-loss to lose them.",
    simulated: "\
The host stops between two ticks, and its connections end with FIN or RST. Its simulated disk
keeps everything that was submitted, synced or not.",
    drilled: "\
The process gets SIGKILL, or the command that the target names for this; then the start command
of the target is run. The kernel keeps the page cache, as described above.",
    evidence: "\
The host was running when the fault struck, was gone afterwards, and served again after `for`. A
host that was already down is no evidence.",
    untouched: "no process ran on {hosts}",
    cure: "begin the step while the host is up, and outside other crashes, power losses and restarts",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Refused,
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    keeps_down: true,
    needs_process: true,
    build: |_| Some(Effect::Process(ProcessFault::Crash)),
    ..Fault::USUAL
};
