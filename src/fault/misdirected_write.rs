//! A write that lands somewhere else: firmware that mixes up addresses, a controller that remaps a sector wrongly.

use super::{
    DAMAGE, DiskFault, Effect, End, Fault, Given, NTH, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Synced,
    Value,
};

/// The entry of `misdirected-write`.
pub(super) static FAULT: Fault = Fault {
    name: "misdirected-write",
    summary: "one write lands in the wrong place, and the right place keeps its old content",
    group: "lying disks",
    does: "\
The `nth` write of each host in `on`, counted from the step's beginning, lands elsewhere on the
platter: in another sector of the same file, or of another file if that file has no other sector.
There it replaces what was durable, up to the end of that file. The right place keeps its old
content, or zeroes where the file grew. The sync that covers the write succeeds, and the page
cache shows what was meant: both damages show only after the next power loss. Bytes that are
written and synced once more before that are right. When the step ends, what is still wrong is
put right, as if the files were restored from good copies.",
    loses: "\
Lost, between the power loss and the end of the step: bytes that a sync had reported durable, in
two places. A crash or a restart of the process alone loses nothing.",
    simulated: "\
When the sync completes, the seed draws the other place among the sectors of the file, at the
same offset inside its sector. No file grows or shrinks.",
    drilled: "\
Not supported, and `check --target` says so: nothing outside a device can do this to a process.",
    evidence: "\
After a power loss, bytes differed from those that had been synced. The run shows how many, and
in which files. Without a power loss inside the step there is no evidence.",
    untouched: "no power loss showed a misdirected write on {hosts}",
    cure: "add a power-loss after the step begins and inside its `for`, or lower `nth`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Allowed,
    parameters: &[
        Parameter {
            name: "nth",
            kind: NTH,
            need: Need::Default(Value::Count(1)),
            means: "which write, counted from the step's beginning",
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
    Some(Effect::Disk { fault: DiskFault::MisdirectedWrite { nth: given.count("nth")? }, path: given.path("path")? })
}
