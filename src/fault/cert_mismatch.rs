//! A certificate that is not what it should be: the wrong file on the right machine.

use super::{Action, End, Fault, Given, Kind, Mismatch, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `cert-mismatch`.
pub(super) static FAULT: Fault = Fault {
    name: "cert-mismatch",
    summary: "a certificate that nobody should accept",
    does: "\
Each host in `on` shows a certificate that is wrong in the way that `wrong` says: for another
name, of an authority that nobody trusts, not yet valid, or not good for its end of a
connection.",
    loses: "\
Lost: every handshake in which it is shown, until the step ends. Not lost: connections that are
open already, unless `reconnect` drops them; anything accepted or acknowledged.",
    simulated: "\
The host is given that certificate, and a good one at the end of the step.",
    drilled: "\
The certificate is installed in the files of the process, and a good one afterwards.",
    evidence: "\
A connection was opened with it.",
    untouched: "no connection was opened with the certificate of {hosts}",
    cure: "write reconnect = true, or add reset on its links while it lasts",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: None,
    parameters: &[
        Parameter {
            name: "wrong",
            kind: Kind::Word(Mismatch::WORDS),
            need: Need::Required,
            means: "what is wrong with it",
        },
        Parameter {
            name: "reconnect",
            kind: Kind::Flag,
            need: Need::Default(Value::Flag(false)),
            means: "whether open connections are reset, so that it is presented at once",
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
    rule: None,
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::CertMismatch {
        on: given.on.clone()?,
        wrong: Mismatch::read(given.word("wrong")?)?,
        reconnect: given.flag("reconnect")?,
    })
}
