//! A certificate authority that is replaced, either in the order of the textbook or all at once.

use std::time::Duration;

use super::{CertificateFault, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, SERVERS_AND_CLIENTS, Value};

/// The entry of `ca-rotate`.
pub(super) static FAULT: Fault = Fault {
    name: "ca-rotate",
    summary: "a new certificate authority takes the place of the old one",
    group: "certificates",
    does: "\
With an `overlap`: first, every host in `on` is told to trust both authorities; after `overlap`,
the new authority signs and every host renews; after another `overlap`, the old authority is no
longer trusted. In this order, no handshake ever fails. Without an `overlap`: the new authority
signs and is trusted at once, and the old one is dropped at once. Hosts that have renewed and
hosts that have not then refuse each other until all have renewed.",
    loses: "\
Lost: handshakes between hosts that do not trust each other's authority. Not lost: open
connections, unless `reconnect` drops them; anything that was accepted or acknowledged.",
    simulated: "\
The host that issues certificates changes the authority that it signs with and the authorities
that it hands out as trusted, and the hosts in `on` renew at once.",
    drilled: "\
The harness replaces its own authority and installs the files in the same order.",
    evidence: "\
A connection was opened with a certificate of the new authority.",
    untouched: "no connection was opened with a certificate of the new authority",
    cure: "write reconnect = true, or add reset after the step",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Instant,
    overlap: Overlap::Refused,
    parameters: &[
        Parameter {
            name: "overlap",
            kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(86_400) },
            need: Need::Default(Value::Duration(Duration::ZERO)),
            means: "how long each of the two phases lasts in which both are trusted",
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
    let (overlap, reconnect) = (given.duration("overlap")?, given.flag("reconnect")?);
    Some(Effect::Certificate(CertificateFault::NewAuthority { overlap, reconnect }))
}
