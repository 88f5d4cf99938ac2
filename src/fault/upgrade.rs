//! A deployment: another version of the program, with another revision of the schema.

use super::{Action, End, Fault, Given, Kind, Need, Overlap, Parameter, Role, SERVERS_AND_CLIENTS};

/// The entry of `upgrade`.
pub(super) static FAULT: Fault = Fault {
    name: "upgrade",
    summary: "a graceful stop, then a start at another schema revision",
    does: "\
The process of each host in `on` is asked to stop, as at a restart, and starts again at the
revision `to`. It stays there for the rest of the run, unless another step changes it.",
    loses: "\
Lost: what a restart loses. Not lost: anything accepted or acknowledged; nor a single byte of an
event that a newer revision wrote and an older one stored.",
    simulated: "\
As restart; the new life is told its revision.",
    drilled: "\
The process is restarted with the program, or the option, that the target names for that
revision.",
    evidence: "\
The host ran at the revision, and served or had an append acknowledged there.",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
    counted: None,
    parameters: &[Parameter {
        name: "to",
        kind: Kind::Word(Role::WORDS),
        need: Need::Required,
        means: "which revision",
    }],
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
    Some(Action::Upgrade { on: given.on.clone()?, to: Role::read(given.word("to")?)? })
}
