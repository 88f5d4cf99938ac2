//! Bytes that change while nobody writes them: a cell that leaks, a firmware, a cable that flips what it carries.

use super::{Action, DAMAGE, End, Fault, Given, Kind, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `bit-rot`.
pub(super) static FAULT: Fault = Fault {
    name: "bit-rot",
    summary: "bits of what is durable flip",
    does: "\
When the step begins, `bits` bits of the durable bytes of files of each host in `on` flip, on the
platter and in the page cache alike: whoever reads them from then on reads something else, without
an error. Where they are overwritten they are right again. When the step ends, those that are
still wrong flip back, as if the file were restored from a good copy.",
    loses: "\
Lost: what the bits stood for, while the step lasts. What a program keeps in its own memory is
untouched, so damage may show only at the next start.",
    simulated: "\
The bits are drawn from the seed over all durable bytes of the files that `path` means, each file
by its length, never one twice.",
    drilled: "\
Files are edited while their process is down; under a running process not supported, and `check
--target` says so.",
    evidence: "\
Bits flipped. How many, and of which files, is shown. Whether anybody read them is another
matter: restart the host inside the step if they are to be read.",
    untouched: "{hosts} had no such file with durable bytes in it",
    cure: "begin it later, or look at `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Allowed,
    counted: None,
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::BitRot { on: given.on.clone()?, bits: given.count("bits")?, path: given.path("path")? })
}
