//! A disk that answers with errors: a cable, a controller, a sector that cannot be read any more.

use super::{Access, Action, End, Fault, Given, Kind, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `disk-error`.
pub(super) static FAULT: Fault = Fault {
    name: "disk-error",
    summary: "reads or writes fail with an I/O error",
    does: "\
Every read, or every write, or both, of the files of each host in `on` fails with EIO while the
step lasts. A write is also one that cuts a file or lets it grow. A write that fails changes
nothing. Syncs do not fail (that is fsync-error), nor do names: files are opened, renamed and
removed as always.",
    loses: "\
Lost: nothing that the disk holds. What a program could not write it has to keep, or to refuse.",
    simulated: "\
The operation answers EIO (errno 5) at once, also a read that a page cache could have answered.",
    drilled: "\
Not supported, and `check --target` says so: no error can be put under a process from outside
without a device of its own. dm-error under a test volume is the nearest thing.",
    evidence: "\
A read or a write failed. How many of each is shown.",
    untouched: "no file of {hosts} was read or written in that way while it lasted",
    cure: "make `for` longer, raise `appends`, restart the host inside it, or look at `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    let access = Access::read(given.word("access")?)?;
    Some(Action::DiskError { on: given.on.clone()?, access, path: given.path("path")? })
}
