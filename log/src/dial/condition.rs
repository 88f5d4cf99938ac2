//! What broke a connection.
//!
//! It is noted here, because gRPC statuses say too little: a TLS 1.3 client learns only from its first read that the
//! server refused its certificate, and by then h2 has turned this into a string.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use gapless_world::tls;
use rustls::AlertDescription as Alert;

/// What broke a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A certificate on either side, which has to be replaced.
    Credentials(String),
    /// Anything that can pass by itself.
    Transport(String),
}

/// What a connection has noticed about itself. The first trouble with credentials stays; otherwise the newest trouble
/// does.
#[derive(Clone, Default)]
pub(crate) struct Condition(Arc<Mutex<Option<Trouble>>>);

impl Condition {
    pub(crate) fn note(&self, error: &io::Error) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*trouble, Some(Trouble::Credentials(_))) {
            return;
        }
        *trouble = Some(match credentials_are_at_fault(error) {
            true => Trouble::Credentials(format!("{}: {error}; replace the certificate", tls::handshake_reason(error))),
            false => Trouble::Transport(error.to_string()),
        });
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns whether this TLS failure is about an identity. Damaged bytes are not: they pass by themselves.
pub(crate) fn credentials_are_at_fault(error: &io::Error) -> bool {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return false;
    };
    match tls {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        ),
        _ => false,
    }
}
