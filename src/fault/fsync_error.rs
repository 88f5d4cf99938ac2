//! A sync that fails: a disk that drops out for a moment, a network volume that times out. What it leaves behind is the
//! trap that has cost databases their data: the next sync succeeds.

use super::{Action, End, Fault, Given, Kind, NTH, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `fsync-error`.
pub(super) static FAULT: Fault = Fault {
    name: "fsync-error",
    summary: "a sync fails, and what it covered is marked clean all the same",
    does: "\
The `nth` sync of a file of each host in `on`, counted from the step's beginning, fails with EIO;
with `onwards` every later one fails, too, while the step lasts. What a failed sync covered is
not durable, and the kernel holds it as clean: reads still show it, a later sync succeeds without
having written it, and the next power loss takes it. So a failed sync must never be retried; what
it covered has to be written anew.",
    loses: "\
Lost, at the next power loss: everything that a failed sync covered and that was not written once
more. Where it had let a file grow, zeroes stand in its place if later bytes were synced behind
it. Not lost: what earlier syncs covered; and over a crash of the process alone nothing at all.",
    simulated: "\
The sync takes the time that it would have taken and then answers EIO (errno 5). Its writes leave
the list of what is still to be written. Syncs of folders do not fail.",
    drilled: "\
Not supported, and `check --target` says so: no error can be put under a process from outside
without a device of its own. dm-error and dm-flakey under a test volume are the nearest thing.",
    evidence: "\
A sync failed. How many, and how many bytes were marked clean without having been written, is
shown.",
    untouched: "{hosts} synced fewer files than `nth` while it lasted",
    cure: "make `for` longer, lower `nth`, raise `appends`, or look at `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[
        Parameter {
            name: "nth",
            kind: NTH,
            need: Need::Default(Value::Count(1)),
            means: "which sync fails, counted from the step's beginning",
        },
        Parameter {
            name: "onwards",
            kind: Kind::Flag,
            need: Need::Default(Value::Flag(false)),
            means: "whether every later one fails, too",
        },
        PATH,
    ],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "torn-tail-truncated"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::FsyncError {
        on: given.on.clone()?,
        nth: given.count("nth")?,
        onwards: given.flag("onwards")?,
        path: given.path("path")?,
    })
}
