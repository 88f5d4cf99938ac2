//! A port where nobody listens: the friendliest of network faults, since it is noticed at once.

use super::{Action, ActsOn, End, Fault, Given, Overlap};

/// The entry of `refuse`.
pub(super) static FAULT: Fault = Fault {
    name: "refuse",
    summary: "new connections over the link are refused at once",
    does: "\
Each attempt to connect over the link is answered with a refusal, as by a machine that is up
while nothing listens. With `from` and `to`, `from` is who connects. Connections that are
already open stay untouched: add a reset step if they should have to come back.",
    loses: "\
Lost: nothing but attempts to connect. Not lost: open connections and whatever passes over them.",
    simulated: "\
connect over the link fails with connection refused.",
    drilled: "\
The proxy closes its listening socket for this link and leaves open connections alone.",
    evidence: "\
At least one attempt to connect was refused while the step lasted. Clients with a healthy
connection make no such attempt, and then the step has not bitten.",
    untouched: "nobody tried to connect over the link",
    cure: "add reset on the same link while it lasts: whoever is connected does not ask",
    acts_on: ActsOn::Links { one_way: true },
    end: End::Healed,
    overlap: Overlap::Allowed,
    counted: None,
    parameters: &[],
    causes: &["retry", "duplicate-answered"],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::Refuse { link: given.link.clone()? })
}
