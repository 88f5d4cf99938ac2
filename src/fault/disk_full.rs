//! A disk without free space: a neighbour's core dump, logs that are never rotated, a quota.

use super::{DiskFault, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `disk-full`.
pub(super) static FAULT: Fault = Fault {
    name: "disk-full",
    summary: "files can no longer grow",
    group: "failing disks",
    does: "\
While the step lasts, the disk of each host in `on` takes only `free` more bytes. A write that
would make a file grow beyond that fails with ENOSPC and changes nothing. Writes over existing
bytes still succeed, and so does every sync. When files are removed or truncated, others can grow
by as much.",
    loses: "\
Lost: nothing that the disk holds. A program must keep, or refuse, what it could not write.",
    simulated: "\
The whole write returns ENOSPC (errno 28): no part of it is written. Names need no space: empty
files can be created.",
    drilled: "\
A file fills the volume of the data folder, if the folder has a volume of its own and the target
names it. Otherwise not supported, and `check --target` says so.",
    evidence: "\
A write was refused for lack of space. The run shows how many were.",
    untouched: "no file of {hosts} grew beyond what was free",
    cure: "make `for` longer, lower `free`, or raise `appends` and `size`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "free",
        kind: Kind::Size { min: 0, max: 1 << 30 },
        need: Need::Default(Value::Size(0)),
        means: "bytes that still fit when the step begins",
    }],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Disk { fault: DiskFault::Full { free: given.size("free")? }, path: String::new() })
}
