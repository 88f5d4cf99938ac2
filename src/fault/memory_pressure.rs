//! A machine that runs out of memory: a neighbour, a leak, a limit that was lowered.

use super::{Effect, End, Fault, Given, Kind, LoadFault, Need, Overlap, Parameter, SERVERS_AND_CLIENTS};

/// The entry of `memory-pressure`.
pub(super) static FAULT: Fault = Fault {
    name: "memory-pressure",
    summary: "queues and caches have to make do with less memory",
    group: "load",
    does: "\
While the step lasts, the memory budget of each host in `on` is `budget`. A program that keeps to
its budget shrinks its queues and caches at once and sheds what does not fit: it says so, and the
callers come back later.",
    loses: "\
Lost: nothing that was accepted. Calls are refused before they are accepted.",
    simulated: "\
The budget that the host announces to its software shrinks, and grows again at the end.",
    drilled: "\
A limit by cgroup or rlimit, or a second process on the machine that takes the memory.",
    evidence: "\
The budget held the host back: the host shed load, or one of its queues or caches came to nine
tenths of its limit. The run shows which, and how often. If the software reports nothing about
its memory, the run can only show that it held the receiver of its budget and so was told of the
smaller one. That is weak evidence, and is shown as such.",
    untouched: "no queue or cache of {hosts} reached its limit",
    cure: "add surge while the step lasts, or lower `budget`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "budget",
        kind: Kind::Size { min: 64 << 10, max: 1 << 30 },
        need: Need::Required,
        means: "bytes for all queues and caches of the process together",
    }],
    causes: &["load-shed", "memory-used", "retry", "outbox-full", "duplicate-answered", "connection-closed"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Load(LoadFault::MemoryPressure { budget: given.size("budget")? }))
}
