//! A certificate that is not what it should be: the wrong file on the right machine.

use super::{
    CertificateFault, Effect, End, Fault, Given, Kind, Mismatch, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value,
};

/// The entry of `cert-mismatch`.
pub(super) static FAULT: Fault = Fault {
    name: "cert-mismatch",
    summary: "a certificate that nobody should accept",
    group: "certificates",
    does: "\
Each host in `on` presents a certificate that is wrong in the way that `wrong` says: it is for
another name, is signed by an authority that nobody trusts, is not yet valid, or is not meant for
its end of a connection.",
    loses: "\
Lost: every handshake in which the certificate is presented, until the step ends. Not lost:
connections that are already open, unless `reconnect` drops them; anything that was accepted or
acknowledged.",
    simulated: "\
The host is given that certificate, and a good one at the end of the step.",
    drilled: "\
That certificate is installed in the files of the process, and a good one afterwards.",
    evidence: "\
A connection was opened with that certificate.",
    untouched: "no connection was opened with the wrong certificate of {hosts}",
    cure: "write reconnect = true, or add reset on its links while the step lasts",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    parameters: &[
        Parameter {
            name: "wrong",
            kind: Kind::Word(Mismatch::WORDS),
            need: Need::Required,
            means: "what is wrong with the certificate",
        },
        Parameter {
            name: "reconnect",
            kind: Kind::Flag,
            need: Need::Default(Value::Flag(false)),
            means: "whether open connections are reset, to present the certificate at once",
        },
    ],
    causes: &[
        "handshake-refused",
        "connection-closed",
        "parked",
        "resumed",
        "retry",
        "duplicate-answered",
        "renewal-failed",
        "cert-renewed",
    ],
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    let (wrong, reconnect) = (Mismatch::read(given.word("wrong")?)?, given.flag("reconnect")?);
    Some(Effect::Certificate(CertificateFault::Mismatch { wrong, reconnect }))
}
