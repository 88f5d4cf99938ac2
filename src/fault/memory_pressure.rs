//! A machine that runs out of memory: a neighbour, a leak, a limit that somebody lowered.

use super::{Action, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS};

/// The entry of `memory-pressure`.
pub(super) static FAULT: Fault = Fault {
    name: "memory-pressure",
    summary: "queues and caches have to do with less memory",
    does: "\
The memory budget of each host in `on` is `budget` while the step lasts. A program that keeps to
its budget shrinks its queues and caches at once, and sheds what does not fit: it says so, and
whoever called comes back later.",
    loses: "\
Lost: nothing that was accepted. Calls are refused before they are taken in.",
    simulated: "\
The budget that the host tells its software shrinks, and grows again at the end.",
    drilled: "\
A limit by cgroup or rlimit, or a process beside it that takes the memory.",
    evidence: "\
The budget held the host back: it shed, or a queue or cache came to nine tenths of its limit.
What, and how often, is shown. Of software that tells nothing of its memory no more can be known
than that it held its budget's receiver and so was told of the smaller one: weak evidence, and
shown as such.",
    untouched: "no queue or cache of {hosts} reached its limit",
    cure: "add surge while it lasts, or lower `budget`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[Parameter {
        name: "budget",
        kind: Kind::Size { min: 64 << 10, max: 1 << 30 },
        need: Need::Required,
        means: "bytes for all queues and caches of the process together",
    }],
    causes: &["load-shed", "memory-used", "retry", "outbox-full", "duplicate-answered", "connection-closed"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::MemoryPressure { on: given.on.clone()?, budget: given.size("budget")? })
}
