//! A deployment as it is usually done: one host after the other, while both revisions are in use.

use std::time::Duration;

use super::{
    Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, ReleaseFault, RevisionRole, SERVERS_AND_CLIENTS, Value,
};

/// The entry of `rolling-upgrade`.
pub(super) static FAULT: Fault = Fault {
    name: "rolling-upgrade",
    summary: "upgrades hosts one after the other",
    group: "releases",
    does: "\
Like upgrade, but one host after the other, in the order of `on`. `pause` is the time from the
moment at which one host serves again to the stop of the next one. `STEP:2` is the moment at
which the second host serves.",
    loses: "\
Like upgrade.",
    simulated: "\
Like upgrade; the next host is stopped only once the previous one serves.",
    drilled: "\
Like upgrade.",
    evidence: "\
Every host ran at that revision and served there: its listener was bound, or its client came up.",
    untouched: "not all of {hosts} served at the other revision",
    cure: "begin the step earlier, so that appends follow it, or shorten `pause`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Refused,
    counted: Some("upgrade"),
    parameters: &[
        Parameter { name: "to", kind: Kind::Word(RevisionRole::WORDS), need: Need::Required, means: "which revision" },
        Parameter {
            name: "pause",
            kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) },
            need: Need::Default(Value::Duration(Duration::from_secs(5))),
            means: "from the moment at which one host serves again to the stop of the next",
        },
    ],
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
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    let (to, pause) = (RevisionRole::read(given.word("to")?)?, given.duration("pause")?);
    Some(Effect::Release(ReleaseFault::RollingUpgrade { to, pause }))
}
