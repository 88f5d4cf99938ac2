//! A sync that fails: a disk that drops out for a moment, a network volume that times out. The state that it leaves
//! behind is the trap that has cost databases their data: the next sync succeeds.

use super::{
    DiskFault, Effect, End, Fault, Given, Kind, NTH, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS, Value,
};

/// The entry of `fsync-error`.
pub(super) static FAULT: Fault = Fault {
    name: "fsync-error",
    summary: "a sync fails, and what it covered is marked clean all the same",
    group: "failing disks",
    does: "\
The `nth` sync of a file of each host in `on`, counted from the step's beginning, fails with EIO.
With `onwards`, every later sync fails too while the step lasts. What a failed sync covered is
not durable, although the kernel marks it clean: reads still show it, a later sync succeeds
without writing it, and the next power loss takes it. A failed sync must therefore never be
retried; what it covered has to be written anew.",
    loses: "\
Lost, at the next power loss: everything that a failed sync covered and that was not written once
more. Where a lost write had made a file grow, zeroes stand in its place if later bytes were
synced behind it. Not lost: what earlier syncs covered. A crash of the process alone loses
nothing at all.",
    simulated: "\
The sync takes the time that it would have taken and then returns EIO (errno 5). Its writes are
removed from the list of pending writes. Syncs of folders do not fail.",
    drilled: "\
Not supported, and `check --target` says so: nothing can inject an error under a process from
outside without a device of its own. dm-error and dm-flakey under a test volume come closest.",
    evidence: "\
A sync failed. The run shows how many failed, and how many bytes were marked clean without having
been written.",
    untouched: "{hosts} synced fewer files than `nth` while the step lasted",
    cure: "make `for` longer, lower `nth`, raise `appends`, or check `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
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
            means: "whether every later sync fails too",
        },
        PATH,
    ],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "torn-tail-truncated"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    let (nth, onwards) = (given.count("nth")?, given.flag("onwards")?);
    Some(Effect::Disk { fault: DiskFault::SyncError { nth, onwards }, path: given.path("path")? })
}
