//! A disk that lies about a flush: it says that a write is on the platter, and a part of it is not.

use super::{Action, DAMAGE, End, Fault, Given, NTH, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `torn-write`.
pub(super) static FAULT: Fault = Fault {
    name: "torn-write",
    summary: "of one write only the beginning reaches the platter, although a sync says otherwise",
    does: "\
Of one write of each host in `on` only some first sectors reach the platter; the rest keeps what
stood there, or zeroes where the file grew. The sync that covers it succeeds. Nobody can tell
while the power is there, because the page cache shows the whole write: what is missing shows
after the next power loss. Struck is the `nth` write of more than one sector (512 bytes are
written whole or not at all), counted from the step's beginning. Bytes that are written and
synced once more before that are whole. When the step ends, what is still missing is put back, as
if the file were restored from a good copy.",
    loses: "\
Lost, between the power loss and the end of the step: bytes that a sync had claimed. Not lost: by
a crash or a restart of the process alone, a single byte.",
    simulated: "\
Where the write is cut is drawn from the seed, at a boundary between two of its sectors. A write
that no sync covered before the power loss is one that a power loss may tear anyway, and is not
counted as this fault.",
    drilled: "\
Not supported while a process runs, and `check --target` says so. A torn tail can be made by
cutting a file while its process is down.",
    evidence: "\
After a power loss bytes were missing that a sync had claimed. How many, and of which file, is
shown. Without a power loss inside the step there is none.",
    untouched: "no power loss showed a torn write on {hosts}",
    cure: "add a power-loss behind it and inside its `for`, lower `nth`, or raise `size`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Allowed,
    counted: None,
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::TornWrite { on: given.on.clone()?, nth: given.count("nth")?, path: given.path("path")? })
}
