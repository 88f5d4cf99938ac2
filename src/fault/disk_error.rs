//! A disk that returns errors: a cable, a controller, a sector that has become unreadable.

use super::{
    Access, DiskFault, Effect, End, Fault, Given, Kind, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value,
};

/// The entry of `disk-error`.
pub(super) static FAULT: Fault = Fault {
    name: "disk-error",
    summary: "reads or writes fail with an I/O error",
    group: "failing disks",
    does: "\
While the step lasts, every read or every write, or both, of the files of each host in `on` fails
with EIO. Truncating or extending a file counts as a write. A write that fails changes nothing.
Syncs do not fail (that is fsync-error), and neither do operations on names: files are opened,
renamed and removed as always.",
    loses: "\
Lost: nothing that the disk holds. A program must keep, or refuse, what it could not write.",
    simulated: "\
The operation returns EIO (errno 5) at once, even a read that a page cache could have served.",
    drilled: "\
Not supported, and `check --target` says so: nothing can inject an error under a process from
outside without a device of its own. dm-error under a test volume comes closest.",
    evidence: "\
A read or a write failed. The run shows the number of each.",
    untouched: "no file of {hosts} was read or written in that way while the step lasted",
    cure: "make `for` longer, raise `appends`, restart the host inside the step, or check `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[
        Parameter {
            name: "access",
            kind: Kind::Word(Access::WORDS),
            need: Need::Default(Value::Word("both")),
            means: "what fails",
        },
        PATH,
    ],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    let access = Access::read(given.word("access")?)?;
    let (reads, writes) = (access != Access::Writes, access != Access::Reads);
    Some(Effect::Disk { fault: DiskFault::Error { reads, writes }, path: given.path("path")? })
}
