//! The reasons that an event can give, where they are a fixed set of words, and the steps that can bring each about.
//!
//! A pattern whose `reason` is no word that the log ever uses would never match, and a scenario that waits for it would
//! always end inconclusive. The fault of a step and its values say what the step can cause; where that depends on more,
//! the step gets the benefit of the doubt.

use gapless_world::calls::code_name;
use tonic::Code;

use crate::fault::{Fault, Mismatch, Value};

/// What can bring a reason about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Anything that can cause the event.
    Anything,
    /// Only these of the faults that can cause the event; also `cert-mismatch`, if it is wrong in this way.
    Only(&'static [&'static str], Option<Mismatch>),
}

/// The reasons of `handshake-refused`: the words of `world::tls::handshake_reason`, and those of the server itself.
const HANDSHAKE: &[(&str, Cause)] = &[
    ("expired", Cause::Only(&["cert-expire", "clock-skew", "clock-drift", "clock-jump"], None)),
    ("not-yet-valid", Cause::Only(&["clock-skew", "clock-drift", "clock-jump"], Some(Mismatch::NotYetValid))),
    ("unknown-issuer", Cause::Only(&["ca-rotate"], Some(Mismatch::Issuer))),
    ("wrong-name", Cause::Only(&[], Some(Mismatch::Name))),
    ("wrong-usage", Cause::Only(&[], Some(Mismatch::KeyUsage))),
    ("no-certificate", Cause::Only(&[], None)),
    ("no-name", Cause::Anything),
    ("refused-by-peer", Cause::Anything),
    ("timed-out", Cause::Anything),
    ("disconnected", Cause::Anything),
    ("too-many-connections", Cause::Anything),
    ("too-many-handshakes", Cause::Anything),
    ("other", Cause::Anything),
];

/// The reasons of `entry-refused`: those of the wire contract.
const ENTRY: &[(&str, Cause)] = &[
    ("oversize", Cause::Anything),
    ("malformed", Cause::Anything),
    ("wrong-client", Cause::Anything),
    ("sequence-gap", Cause::Anything),
    ("sequence-reused", Cause::Anything),
    ("wrong-epoch", Cause::Anything),
];

/// Returns the reasons that an event can give, each with what can bring it about. Empty if any text may come.
pub fn reasons(event: &str) -> Vec<(&'static str, Cause)> {
    match event {
        "handshake-refused" | "refusals-counted" => HANDSHAKE.to_vec(),
        "entry-refused" => ENTRY.to_vec(),
        // gRPC has the status codes 0 to 16.
        "call-ended" => (0..=16).map(|code| (code_name(Code::from_i32(code)), Cause::Anything)).collect(),
        _ => Vec::new(),
    }
}

impl Cause {
    /// Returns whether a fault that can cause the event can give it this reason. `values` are those of a step, if it
    /// has them.
    pub(super) fn allows(self, fault: &Fault, values: Option<&[(&'static str, Value)]>) -> bool {
        let Cause::Only(faults, wrong) = self else { return true };
        if fault.name != "cert-mismatch" {
            return faults.contains(&fault.name);
        }
        let Some(wrong) = wrong else { return false };
        values.is_none_or(|values| values.contains(&("wrong", Value::Word(wrong.word()))))
    }

    /// Writes a step that can bring the reason about: `clock-skew`, `cert-mismatch with wrong = "name"`.
    pub(super) fn described(self, fault: &Fault) -> String {
        match self {
            Cause::Only(_, Some(wrong)) if fault.name == "cert-mismatch" => {
                format!("cert-mismatch with wrong = \"{}\"", wrong.word())
            }
            _ => fault.name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fault::CATALOGUE;
    use gapless_log::words::reason_name;

    /// Returns the string literals between two marks of a source file.
    fn words<'s>(source: &'s str, from: &str, to: &str) -> BTreeSet<&'s str> {
        let part = source.split_once(from).unwrap().1.split_once(to).unwrap().0;
        // Neither comments nor marks count; marks have names of their own.
        let of_code = |line: &&str| !["//", "mark!"].iter().any(|other| line.trim_start().starts_with(other));
        part.lines().filter(of_code).flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
    }

    #[test]
    fn every_reason_of_a_handshake_is_known_and_no_other() {
        let tls = words(include_str!("../../world/src/tls.rs"), "pub fn handshake_reason", "#[cfg(test)]");
        let connection = include_str!("../../log/src/serve/connection.rs");
        let connection = words(connection, "pub(super) async fn run(", "/// Serves calls until");
        let known: BTreeSet<_> = HANDSHAKE.iter().map(|(word, _)| *word).collect();
        assert_eq!(known, [tls, connection].into_iter().flatten().collect());
    }

    #[test]
    fn every_reason_of_the_wire_contract_is_known() {
        use gapless_log::wire::refusal::Reason;
        let said = (1..).map_while(|n| Reason::try_from(n).ok()).map(reason_name);
        assert_eq!(ENTRY.iter().map(|(word, _)| *word).collect::<Vec<_>>(), said.collect::<Vec<_>>());
    }

    #[test]
    fn whoever_can_give_a_reason_can_cause_its_event() {
        for (word, cause) in HANDSHAKE {
            let Cause::Only(faults, _) = cause else { continue };
            for name in *faults {
                let fault = CATALOGUE.iter().find(|fault| fault.name == *name).unwrap_or_else(|| panic!("{name}"));
                assert!(fault.causes.contains(&"handshake-refused"), "{name} for {word}");
            }
        }
    }
}
