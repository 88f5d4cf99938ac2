//! A disk without room: a neighbour's core dump, logs that nobody rotates, a quota.

use super::{Action, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `disk-full`.
pub(super) static FAULT: Fault = Fault {
    name: "disk-full",
    summary: "files cannot grow any more",
    does: "\
The disk of each host in `on` takes only `free` more bytes while the step lasts. A write that
would let a file grow beyond that fails with ENOSPC and changes nothing. What is written over
bytes that are there already succeeds, and so does every sync. Where files are removed or cut,
others can grow by as much.",
    loses: "\
Lost: nothing that the disk holds. What a program could not write it has to keep, or to refuse.",
    simulated: "\
The write answers ENOSPC (errno 28), whole: no part of it is written. Names need no room: empty
files can be created.",
    drilled: "\
A file that fills the volume of the data folder, where that has one of its own and the target
names it; else not supported, and `check --target` says so.",
    evidence: "\
A write was refused for want of room. How many is shown.",
    untouched: "no file of {hosts} grew beyond what was free",
    cure: "make `for` longer, lower `free`, or raise `appends` and `size`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[Parameter {
        name: "free",
        kind: Kind::Size { min: 0, max: 1 << 30 },
        need: Need::Default(Value::Size(0)),
        means: "bytes that still fit when the step begins",
    }],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::DiskFull { on: given.on.clone()?, free: given.size("free")? })
}
