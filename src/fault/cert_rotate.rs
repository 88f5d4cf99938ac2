//! A certificate that is replaced while everything runs, as every renewal does.

use super::{CertificateFault, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `cert-rotate`.
pub(super) static FAULT: Fault = Fault {
    name: "cert-rotate",
    summary: "a fresh certificate takes the place of the old one",
    group: "certificates",
    does: "\
Each host in `on` is given a fresh certificate of the same authority. It is valid from this
moment on by the clock of the issuer, which does not backdate it: a host whose clock is slow
finds it not yet valid.",
    loses: "\
Lost: nothing, if the host picks up the certificate without dropping what is in flight. With
`reconnect`: its open connections.",
    simulated: "\
The host that issues certificates issues it, and it is installed at the host at once.",
    drilled: "\
A fresh certificate is installed in the files of the process.",
    evidence: "\
A connection was opened with the fresh certificate.",
    untouched: "no connection was opened with the fresh certificate of {hosts}",
    cure: "write reconnect = true, or add reset on its links after the step",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
    parameters: &[Parameter {
        name: "reconnect",
        kind: Kind::Flag,
        need: Need::Default(Value::Flag(false)),
        means: "whether open connections are reset, to present the certificate at once",
    }],
    causes: &["handshake-refused", "connection-closed", "parked", "resumed", "retry", "duplicate-answered"],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Certificate(CertificateFault::Rotate { reconnect: given.flag("reconnect")? }))
}
