//! A certificate that expires: the renewal whose failure nobody noticed.

use std::time::Duration;

use super::{
    Broken, CertificateFault, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value,
};

/// A certificate that could not be issued from the start, because the host has another one until then or was not yet
/// known, is installed this long before its end.
pub(crate) const INSTALLED_BEFORE: Duration = Duration::from_secs(10);

/// The entry of `cert-expire`.
pub(super) static FAULT: Fault = Fault {
    name: "cert-expire",
    summary: "a certificate expires at the step's moment",
    group: "certificates",
    does: "\
The certificate of each host in `on` ends at the moment of the step. With `at`, the host holds a
certificate that was issued to end then; with `after`, a certificate that ends `wait` later is
installed when the moment of `after` comes. At the end itself nothing is swapped, as when a
certificate expires at night. A host that renews before that moment is not struck.",
    loses: "\
Lost: connections, as soon as either end notices the expiry or because `reconnect` drops them,
and every handshake until a valid certificate is there. Not lost: anything that was accepted or
acknowledged. At the final heal the host gets a valid certificate, as an operator on call would
see to it.",
    simulated: "\
The host is given a certificate with that end. What counts is the wall clock of the host that
verifies it.",
    drilled: "\
A certificate with that end is installed in the files of the process, which has to pick it up by
itself.",
    evidence: "\
A connection to or from the host was opened, or was refused or closed because of its certificate,
after that certificate had ended.",
    untouched: "no connection met the expired certificate of {hosts}",
    cure: "write reconnect = true, or add reset on its links afterwards: open connections show nothing",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
    parameters: &[Parameter {
        name: "reconnect",
        kind: Kind::Flag,
        need: Need::Default(Value::Flag(false)),
        means: "whether open connections are reset, to present the certificate at once",
    }],
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
    rule: Some(lasts_a_while),
    may_end_process: true,
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Certificate(CertificateFault::Expire { reconnect: given.flag("reconnect")? }))
}

/// A certificate that is installed after a moment must last for a while: it ends `wait` later.
fn lasts_a_while(given: &Given) -> Result<(), Broken> {
    if given.wait.is_some_and(|wait| wait.is_zero()) {
        return Err(Broken {
            code: "missing-key",
            key: "after",
            text: "a certificate that has already ended when it is installed cannot expire",
            cure: "add wait = \"20s\": the certificate is installed at that moment, and ends that much later",
        });
    }
    Ok(())
}
