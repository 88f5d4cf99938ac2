//! A deployment that is taken back.

use super::{Action, End, Fault, Given, Overlap, SERVERS_AND_CLIENTS};

/// The entry of `rollback`.
pub(super) static FAULT: Fault = Fault {
    name: "rollback",
    summary: "back to the schema revision before the one that runs",
    does: "\
As upgrade, to the revision that each host in `on` ran before the one that it runs. A host that
was never upgraded is restarted as it is.",
    loses: "\
As upgrade.",
    simulated: "\
As upgrade.",
    drilled: "\
As upgrade.",
    evidence: "\
Each host ran at the earlier revision and served there: its listener was bound, or its client
came up.",
    untouched: "nothing was served by {hosts} at the earlier revision",
    cure: "begin it earlier: appends have to follow it",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
    counted: None,
    parameters: &[],
    causes: &[
        "retry",
        "duplicate-answered",
        "handshake-refused",
        "connection-closed",
        "shutdown-begun",
        "shutdown-done",
        "schema-agreed",
        "schema-refused",
        "parked",
        "resumed",
    ],
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::Rollback { on: given.on.clone()? })
}
