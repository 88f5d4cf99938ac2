//! A disk that is slow: a noisy neighbour on the same array, a drive that retries, a volume out of credits.

use std::time::Duration;

use super::{DiskFault, Effect, End, Fault, Given, Kind, Need, Overlap, PATH, Parameter, SERVERS_AND_CLIENTS};

/// The entry of `slow-disk`.
pub(super) static FAULT: Fault = Fault {
    name: "slow-disk",
    summary: "syncs and reads take longer",
    group: "failing disks",
    does: "\
Every sync and every read of each host in `on` that begins while the step lasts takes `latency`
longer. Writes go into the page cache as fast as ever, and become durable only with the sync.
Without `path`, syncs of folders are slow too.",
    loses: "\
Lost: nothing. What a sync has not finished is not durable, so a power loss takes more. Calls
whose deadline is shorter than the delay of the disk fail for their caller and may still take
effect.",
    simulated: "\
The operation completes that much later, in the order of submission for each file. Operations
through Host::disk take no time, slow disk or not, because they cannot wait for simulated time.",
    drilled: "\
A cgroup limits the bandwidth and the operations of the process, if the target allows it.
Otherwise not supported, and `check --target` says so.",
    evidence: "\
A sync or a read was held. The run shows the number of each.",
    untouched: "no file of {hosts} was synced or read while the step lasted",
    cure: "make `for` longer, raise `appends`, or check `path`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[
        Parameter {
            name: "latency",
            kind: Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(60) },
            need: Need::Required,
            means: "how much longer each sync and each read takes",
        },
        PATH,
    ],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed", "outbox-full", "load-shed"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Disk { fault: DiskFault::Slow { latency: given.duration("latency")? }, path: given.path("path")? })
}
