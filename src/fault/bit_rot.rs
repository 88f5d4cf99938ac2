//! Bytes that change although nothing writes them: a cell that leaks, a bug in firmware, a cable that flips what it
//! carries.

use super::{
    DAMAGE, DiskFault, Effect, End, Fault, Given, Kind, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Synced,
    Value,
};

/// The entry of `bit-rot`.
pub(super) static FAULT: Fault = Fault {
    name: "bit-rot",
    summary: "bits of durable bytes flip",
    group: "lying disks",
    does: "\
When the step begins, `bits` bits flip among the durable bytes of the files of each host in `on`,
on the platter and in the page cache alike. From then on, reads of these bytes return the wrong
content without an error. A byte that is overwritten is right again. When the step ends, the bits
that are still wrong flip back, as if the file were restored from a good copy.",
    loses: "\
Lost: what the bits stood for, while the step lasts. What a program keeps in its own memory is
untouched, so the damage may show only at the next start.",
    simulated: "\
The seed draws the bits from all durable bytes of the files that `path` selects: each file in
proportion to its length, and no bit twice.",
    drilled: "\
The harness edits the files while their process is down. Under a running process this is not
supported, and `check --target` says so.",
    evidence: "\
Bits flipped. The run shows how many, and in which files. That does not prove that anything read
them: restart the host inside the step if they are to be read.",
    untouched: "{hosts} had no such file with durable bytes in it",
    cure: "begin the step later, or check `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Allowed,
    parameters: &[
        Parameter {
            name: "bits",
            kind: Kind::Count { min: 1, max: 10_000 },
            need: Need::Default(Value::Count(1)),
            means: "how many bits flip",
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
    Some(Effect::Disk { fault: DiskFault::BitRot { bits: given.count("bits")? }, path: given.path("path")? })
}
