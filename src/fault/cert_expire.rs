//! A certificate that runs out: the renewal that nobody noticed had failed.

use std::time::Duration;

use super::{Action, Broken, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// A certificate that could not be issued from the start, because the host has another until then or was not known, is
/// installed this long before its end.
pub(crate) const INSTALLED_BEFORE: Duration = Duration::from_secs(10);

/// The entry of `cert-expire`.
pub(super) static FAULT: Fault = Fault {
    name: "cert-expire",
    summary: "a certificate ends at the step's moment",
    does: "\
The moment of the step is the end of the certificate of each host in `on`. With `at`, its
certificate was issued to end then; with `after`, one that ends `wait` later is installed when
the moment comes. Nothing is swapped at the end itself, as at night. A host that renews in time,
before that moment, is not struck.",
    loses: "\
Lost: connections, as soon as either end notices or with `reconnect`, and every handshake until
a valid certificate is there. Not lost: anything accepted or acknowledged. Certificates are made
good at the final heal, as somebody on call would.",
    simulated: "\
The host is given a certificate with that end. What counts is the wall clock of whoever
verifies.",
    drilled: "\
A certificate with that end is installed in the files of the process, which has to take it up by
itself.",
    evidence: "\
A connection was opened to or from the host, or refused or closed for it, while its certificate
had ended.",
    untouched: "no connection met the ended certificate of {hosts}",
    cure: "write reconnect = true, or add reset on its links after it: open connections show nothing",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Allowed,
    counted: None,
    parameters: &[Parameter {
        name: "reconnect",
        kind: Kind::Flag,
        need: Need::Default(Value::Flag(false)),
        means: "whether open connections are reset, so that it is presented at once",
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
    build,
};

fn build(given: &Given) -> Option<Action> {
    Some(Action::CertExpire { on: given.on.clone()?, reconnect: given.flag("reconnect")? })
}

/// After a moment it is installed, and ends `wait` later.
fn lasts_a_while(given: &Given) -> Result<(), Broken> {
    if given.wait.is_some_and(|wait| wait.is_zero()) {
        return Err(Broken {
            code: "missing-key",
            key: "after",
            text: "a certificate that has ended when it is installed is not one that runs out",
            cure: "add wait = \"20s\": it is installed at that moment, and ends so much later",
        });
    }
    Ok(())
}
