//! A deployment as it is done: one host after the other, with both revisions alive meanwhile.

use std::time::Duration;

use super::{Action, End, Fault, Given, Kind, Need, Overlap, Parameter, Role, SERVERS_AND_CLIENTS, Value};

/// The entry of `rolling-upgrade`.
pub(super) static FAULT: Fault = Fault {
    name: "rolling-upgrade",
    summary: "upgrades hosts one after the other",
    does: "\
As upgrade, one host of `on` after the other in their order, with `pause` between the moment at
which one serves again and the stop of the next. `STEP:2` is the moment at which the second one
serves.",
    loses: "\
As upgrade.",
    simulated: "\
As upgrade; the next host is stopped only once the last one serves.",
    drilled: "\
As upgrade.",
    evidence: "\
Every host ran at the revision and served there: its listener was bound, or its client came up.",
    untouched: "not all of {hosts} served at the other revision",
    cure: "begin it earlier, or shorten `pause`: appends have to follow it",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Refused,
    counted: Some("upgrade"),
    parameters: &[
        Parameter { name: "to", kind: Kind::Word(Role::WORDS), need: Need::Required, means: "which revision" },
        Parameter {
            name: "pause",
            kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) },
            need: Need::Default(Value::Duration(Duration::from_secs(5))),
            means: "between one host that serves again and the stop of the next",
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::RollingUpgrade {
        on: given.on.clone()?,
        to: Role::read(given.word("to")?)?,
        pause: given.duration("pause")?,
    })
}
