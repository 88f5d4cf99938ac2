//! A deployment that is reverted.

use super::{Effect, End, Fault, Overlap, ReleaseFault, SERVERS_AND_CLIENTS};

/// The entry of `rollback`.
pub(super) static FAULT: Fault = Fault {
    name: "rollback",
    summary: "back to the schema revision before the one that runs",
    group: "releases",
    does: "\
Like upgrade, to the revision that each host in `on` ran before its present one. A host that was
never upgraded is restarted at the revision that it runs.",
    loses: "\
Like upgrade.",
    simulated: "\
Like upgrade.",
    drilled: "\
Like upgrade.",
    evidence: "\
Each host ran at the earlier revision and served there: its listener was bound, or its client
came up.",
    untouched: "{hosts} served nothing at the earlier revision",
    cure: "begin the step earlier, so that appends follow it",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
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
    build: |_| Some(Effect::Release(ReleaseFault::Rollback)),
    ..Fault::USUAL
};
