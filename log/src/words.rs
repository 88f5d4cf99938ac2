//! Words that both ends of a call have to write in the same way: metadata keys, names of reasons, hashes and ids.

use super::wire::refusal::Reason;

/// Metadata in which a server says after how many milliseconds to come back (gRFC A6).
pub(crate) const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Metadata in which a server that does not lead names the leader, by the name in the leader's certificate.
pub(crate) const LEADER: &str = "gapless-leader";

/// Returns the name of a refusal's reason in kebab-case, as events and dead letters carry it.
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "unspecified",
        Reason::Oversize => "oversize",
        Reason::Malformed => "malformed",
        Reason::WrongClient => "wrong-client",
        Reason::SequenceGap => "sequence-gap",
        Reason::SequenceReused => "sequence-reused",
        Reason::WrongEpoch => "wrong-epoch",
    }
}

/// Returns lower-case hexadecimal, as events and messages show hashes and ids.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_named_as_the_contract_names_it() {
        for reason in (0..).map_while(|number| Reason::try_from(number).ok()) {
            let contract = reason.as_str_name().trim_start_matches("REASON_").to_ascii_lowercase().replace('_', "-");
            assert_eq!(reason_name(reason), contract);
        }
    }
}
