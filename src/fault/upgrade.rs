//! A deployment: another version of the program, with another revision of the schema.

use super::{
    Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, ReleaseFault, RevisionRole, SERVERS_AND_CLIENTS,
};

/// The entry of `upgrade`.
pub(super) static FAULT: Fault = Fault {
    name: "upgrade",
    summary: "a graceful stop, then a start at another schema revision",
    group: "releases",
    does: "\
The process of each host in `on` is asked to stop, as at a restart, and is started again a second
later at the revision `to`. It stays at this revision for the rest of the run, across crashes
too, unless another step changes it. A host that is already down is not asked: it comes up
upgraded.",
    loses: "\
Lost: what a restart loses. Not lost: anything that was accepted or acknowledged; nor a single
byte of an event that a newer revision wrote and an older one stored. If a process has to be
killed because it does not stop, that breaks `stops-when-asked`.",
    simulated: "\
Like restart; the restarted host is told its revision.",
    drilled: "\
The process is restarted with the program, or the option, that the target names for that
revision.",
    evidence: "\
Each host ran at that revision and served there: its listener was bound, or its client came up.",
    untouched: "{hosts} served nothing at the other revision",
    cure: "begin the step earlier, so that appends follow it",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::SameValues,
    parameters: &[Parameter {
        name: "to",
        kind: Kind::Word(RevisionRole::WORDS),
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
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Release(ReleaseFault::Upgrade { to: RevisionRole::read(given.word("to")?)? }))
}
