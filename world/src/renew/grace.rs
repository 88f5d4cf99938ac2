//! A verifier that treats a certificate that ended a short while ago as one that has not ended yet.
//!
//! It serves renewals alone: a host that was cut off from the issuer until its certificate ended must be able to catch
//! up. Everything else is verified as usual, as of the last second at which the certificate was good.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::tls;

/// Accepts certificates until `grace` after their end, and otherwise verifies as `strict` does.
#[derive(Debug)]
pub(super) struct Lenient {
    pub(super) strict: Arc<dyn ClientCertVerifier>,
    pub(super) grace: Duration,
}

impl ClientCertVerifier for Lenient {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.strict.verify_client_cert(end_entity, intermediates, now);
        let expired =
            |why: &CertificateError| matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. });
        match verified {
            Err(Error::InvalidCertificate(why)) if expired(&why) => {
                let ended = tls::peer(end_entity).ok().and_then(|peer| u64::try_from(peer.not_after).ok());
                match ended {
                    Some(ended) if now.as_secs() <= ended.saturating_add(self.grace.as_secs()) => {
                        mark!("expired-one-was-renewed");
                        let then = UnixTime::since_unix_epoch(Duration::from_secs(ended));
                        self.strict.verify_client_cert(end_entity, intermediates, then)
                    }
                    _ => Err(Error::InvalidCertificate(why)),
                }
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }
}
