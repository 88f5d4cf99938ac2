//! A machine that is put back to an earlier state: a snapshot, a backup, a copy of its data folder.

use std::time::Duration;

use super::{Effect, End, Fault, Kind, Need, Overlap, Parameter, ProcessFault, SERVERS_AND_CLIENTS, Synced, Value};

/// The entry of `rewind`.
pub(super) static FAULT: Fault = Fault {
    name: "rewind",
    summary: "the machine goes dark and comes back with its disk as it was at an earlier time",
    group: "lost machines",
    does: "\
As the step begins, an image of the disk of each host in `on` is kept, and nothing else happens.
As the step ends, after `for`, the machine goes dark as at a power loss, and its disk is put back
to that image, as if somebody had gone back to a snapshot of the machine or had restored a backup.
After `down` it starts again, under its old name and at its old address. Neither the host nor any
other is told that it has forgotten what happened since.",
    loses: "\
Lost: everything that was written to the disk since the step began, synced or not, and what was in
memory. Of what had been written when the step began and was not synced then, the seed decides
what is left, as at a power loss. Not lost: what was durable when the step began, what other hosts
have, and the certificate, which is not kept in the data folder. Peers get no FIN and no RST: they
find out by their own deadlines.",
    simulated: "\
The disk and the links stop at the same instant; then the files, names and folders of the disk are
those of the image.",
    drilled: "\
As the step begins, the process is stopped (SIGSTOP) while its data folder is copied, and goes on.
As the step ends, the process gets SIGKILL, the copy takes the place of the data folder (which is
kept, and put back afterwards), and the start command is run.",
    evidence: "\
The disk held something else than the image when it was put back, and the host serves again. The
run shows how many files changed by it.",
    untouched: "nothing had changed on the disks of {hosts} since the step began",
    cure: "let something be written between the beginning and the end of the step",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::After(Duration::from_secs(10)),
    overlap: Overlap::Refused,
    parameters: &[Parameter {
        name: "down",
        kind: Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(3600) },
        need: Need::Default(Value::Duration(Duration::from_secs(1))),
        means: "how long the machine stays dark after the step has ended",
    }],
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "receipt-rejected",
        "parked",
        "member-lost-tail",
        "outbox-rolled-back",
    ],
    may_end_process: true,
    synced: Synced::Forgotten,
    build: |given| Some(Effect::Process(ProcessFault::Rewind { down: given.duration("down")? })),
    ..Fault::USUAL
};
