//! Faults of certificates and of the authorities that sign them.

use std::time::Duration;

/// What a step does to certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// A certificate expires at the step's moment.
    Expire {
        /// Whether open connections are reset at that moment.
        reconnect: bool,
    },
    /// A fresh certificate replaces the old one. It is valid from this moment on, by the issuer's clock.
    Rotate {
        /// Whether open connections are reset, so that the certificate is presented at once.
        reconnect: bool,
    },
    /// A host presents a certificate that nobody should accept.
    Mismatch {
        /// What is wrong with the certificate.
        wrong: Mismatch,
        /// Whether open connections are reset, so that the certificate is presented at once.
        reconnect: bool,
    },
    /// A new certificate authority takes the place of the old one. The struck hosts are told to renew at once. The
    /// others learn of the new authority when they renew by themselves.
    NewAuthority {
        /// How long both authorities are trusted before the new one signs, and again before the old one is dropped. If
        /// zero, the old one is dropped at once.
        overlap: Duration,
        /// Whether open connections are reset once the new authority signs.
        reconnect: bool,
    },
}

words! {
    /// What is wrong with a certificate that nobody should accept.
    Mismatch {
        Name = "name": "it is good, but was issued for another name",
        Issuer = "issuer": "an authority that nobody trusts has signed it",
        NotYetValid = "not-yet-valid": "it becomes valid only in a year",
        KeyUsage = "key-usage": "it is not meant for its end of a connection",
    }
}
