//! A disk that lies about a flush: it reports that a write is on the platter, and a part of the write is not.

use super::{
    DAMAGE, DiskFault, Effect, End, Fault, Given, NTH, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Synced,
    Value,
};

/// The entry of `torn-write`.
pub(super) static FAULT: Fault = Fault {
    name: "torn-write",
    summary: "only the beginning of one write reaches the platter, although a sync reports success",
    group: "lying disks",
    does: "\
The `nth` write of more than one sector of each host in `on`, counted from the step's beginning,
is torn: only some of its first sectors reach the platter. The rest keeps its old content, or
zeroes where the file grew. Shorter writes do not count, since a disk writes a sector (512 B by
default) whole or not at all. The sync that covers the write succeeds. Nobody can tell while the
power is on, because the page cache shows the whole write: the loss shows only after the next
power loss. Bytes that are written and synced once more before that are whole. When the step
ends, what is still missing is put back, as if the file were restored from a good copy.",
    loses: "\
Lost, between the power loss and the end of the step: bytes that a sync had reported durable. A
crash or a restart of the process alone loses nothing.",
    simulated: "\
The seed draws where the write is cut, at a boundary between two of its sectors. A write that no
sync covered before the power loss may be torn by any power loss, and does not count as this
fault.",
    drilled: "\
Not supported while a process runs, and `check --target` says so. A torn tail can be made by
truncating a file while its process is down.",
    evidence: "\
After a power loss, bytes were missing that a sync had reported durable. The run shows how many,
and in which file. Without a power loss inside the step there is no evidence.",
    untouched: "no power loss showed a torn write on {hosts}",
    cure: "add a power-loss after the step begins and inside its `for`, lower `nth`, or raise `size`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Allowed,
    parameters: &[
        Parameter {
            name: "nth",
            kind: NTH,
            need: Need::Default(Value::Count(1)),
            means: "which write of more than one sector, counted from the step's beginning",
        },
        PATH,
    ],
    causes: DAMAGE,
    may_end_process: true,
    synced: Synced::Damaged,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Disk { fault: DiskFault::TornWrite { nth: given.count("nth")? }, path: given.path("path")? })
}
