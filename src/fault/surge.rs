//! More work than usual: a batch job, a retry storm, the first of the month.

use super::{ActsOn, Effect, End, Fault, Given, Kind, LoadFault, Need, Overlap, Parameter};

/// The entry of `surge`.
pub(super) static FAULT: Fault = Fault {
    name: "surge",
    summary: "clients offer more entries than usual",
    group: "load",
    does: "\
While the step lasts, all clients together offer `appends` more than the workload says, whether
or not the log keeps up.",
    loses: "\
Lost: nothing that was accepted. A log that takes in more than it can keep up with will have to
shed load.",
    simulated: "\
The workload offers more entries.",
    drilled: "\
The workload offers more entries.",
    evidence: "\
Appends were offered on top of the workload. The run shows their number.",
    untouched: "nothing was offered on top of the workload",
    cure: "make `for` longer, or raise `appends`",
    acts_on: ActsOn::Workload,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "appends",
        kind: Kind::Rate,
        need: Need::Required,
        means: "how many more appends, by all clients together",
    }],
    causes: &["load-shed", "memory-used", "retry", "outbox-full", "duplicate-answered"],
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Load(LoadFault::Surge { appends: given.rate("appends")? }))
}
