//! The small certificate authority for tests, simulations and a first evening with the log, and requests for
//! certificates. It is no public key infrastructure.

use rand::{TryRngCore as _, rngs::OsRng};
use rustls_pki_types::CertificateSigningRequestDer;
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;

use super::{Identity, TlsError, certificates, client_config};

/// The kind of a TLS key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA over P-256 with SHA-256, kept as PKCS #8 of version 1 (RFC 5208). Every TLS library takes it: gRPC's C
    /// core, on which clients in Python, C++, Ruby, PHP and C# are built, offers no Ed25519, and OpenSSL 3.0 cannot
    /// read an Ed25519 key with its public half beside it.
    EcdsaP256,
    /// Ed25519 (RFC 8032), kept as PKCS #8 of version 2 (RFC 5958). Its signatures have one length and need no entropy,
    /// so that a simulated run is the same to the byte each time.
    Ed25519,
}

impl KeyKind {
    /// Returns the kind of the private key in this PEM.
    ///
    /// # Errors
    /// If the key is not PKCS #8, or is of neither kind.
    pub fn of(key_pem: &str) -> Result<KeyKind, TlsError> {
        KeyKind::of_pair(&rcgen::KeyPair::from_pem(key_pem)?)
    }

    /// Returns the kind of key for the next request of a host that shows this identity: the kind of its key, or else
    /// the one that every library takes.
    pub(crate) fn like(identity: &Identity) -> KeyKind {
        KeyKind::of(&identity.key_pem).unwrap_or(KeyKind::EcdsaP256)
    }

    fn of_pair(key: &rcgen::KeyPair) -> Result<KeyKind, TlsError> {
        let kinds = [KeyKind::EcdsaP256, KeyKind::Ed25519];
        let unknown = || TlsError::KeyKind(format!("{:?}", key.algorithm()));
        kinds.into_iter().find(|kind| kind.algorithm() == key.algorithm()).ok_or_else(unknown)
    }

    fn algorithm(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            KeyKind::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }

    /// Generates a fresh key.
    fn generate(self) -> Result<rcgen::KeyPair, TlsError> {
        Ok(rcgen::KeyPair::generate_for(self.algorithm())?)
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyKind::EcdsaP256 => "ECDSA P-256",
            KeyKind::Ed25519 => "Ed25519",
        })
    }
}

/// A small certificate authority: one key that signs certificates directly.
pub struct Issuer {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    ca_pem: String,
    /// The kind of the keys that it makes for others.
    grants: KeyKind,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer(..)")
    }
}

impl Issuer {
    /// Makes a new authority of that name with a fresh Ed25519 key, as simulations need it. Times are in seconds since
    /// 1970.
    pub fn new(name: &str, not_before: i64, not_after: i64) -> Result<Issuer, TlsError> {
        Issuer::with_key(KeyKind::Ed25519, name, not_before, not_after)
    }

    /// Does the same with a key of that kind; identities that it certifies get keys of that kind as well.
    pub fn with_key(kind: KeyKind, name: &str, not_before: i64, not_after: i64) -> Result<Issuer, TlsError> {
        let key = kind.generate()?;
        let mut params = authority(name);
        params.serial_number = Some(1u64.into());
        params.not_before = moment(not_before)?;
        params.not_after = moment(not_after)?;
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Issuer { issuer: rcgen::Issuer::new(params, key), ca_pem, grants: kind })
    }

    /// Restores the authority that [`ca_pem`](Self::ca_pem) and [`key_pem`](Self::key_pem) were kept from. Identities
    /// that it certifies get keys of its own kind.
    ///
    /// # Errors
    /// If either cannot be read, and if they do not belong together.
    pub fn restore(ca_pem: &str, key_pem: &str) -> Result<Issuer, TlsError> {
        let key = rcgen::KeyPair::from_pem(key_pem)?;
        let grants = KeyKind::of_pair(&key)?;
        let certificate = certificates("authority", ca_pem)?.swap_remove(0);
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate)
            .map_err(|why| TlsError::Certificate(why.to_string()))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.ok_or_else(|| TlsError::Certificate("an authority without a common name".to_owned()))?;
        // Otherwise everybody who trusts the certificate would refuse whatever the key signed.
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(TlsError::Authority);
        }
        Ok(Issuer { issuer: rcgen::Issuer::new(authority(name), key), ca_pem: ca_pem.to_owned(), grants })
    }

    /// Returns the same authority, which from then on makes keys of that kind for others.
    #[must_use]
    pub fn granting(self, kind: KeyKind) -> Issuer {
        Issuer { grants: kind, ..self }
    }

    /// Returns the authority's own certificate, which others have to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns its private key, to be stored with access for the owner only.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues an identity with this one DNS name and a fresh key, good for both ends of a connection.
    pub fn issue(&self, name: &str, serial: u64, not_before: i64, not_after: i64) -> Result<Identity, TlsError> {
        self.issue_for(&[name], serial, not_before, not_after)
    }

    /// Does the same for several names: a name that parses as an IP address becomes one, and the first DNS name
    /// identifies the owner.
    pub fn issue_for(
        &self,
        names: &[&str],
        serial: u64,
        not_before: i64,
        not_after: i64,
    ) -> Result<Identity, TlsError> {
        self.grant(&Grant { names, serial, not_before, not_after, usage: Usage::BothEnds })
    }

    /// Issues an identity with a fresh key and a certificate with exactly these contents.
    pub fn grant(&self, grant: &Grant<'_>) -> Result<Identity, TlsError> {
        let key = self.grants.generate()?;
        let certificate = grant.params()?.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: self.ca_pem.clone() })
    }

    /// Returns a certificate, PEM, for the key of a PKCS #10 request in DER. Only the key of the request counts; the
    /// requester has proven by its signature that it holds the key.
    pub fn sign(&self, request: &[u8], grant: &Grant<'_>) -> Result<String, TlsError> {
        let request = rcgen::CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|why| TlsError::Request(why.to_string()))?;
        let kinds = [KeyKind::EcdsaP256, KeyKind::Ed25519];
        if !kinds.iter().any(|kind| request.public_key.algorithm() == kind.algorithm()) {
            return Err(TlsError::Request(format!("its key is of the kind {:?}", request.public_key.algorithm())));
        }
        Ok(grant.params()?.signed_by(&request.public_key, &self.issuer)?.pem())
    }
}

/// The ends of a connection for which a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Either end.
    BothEnds,
    /// The end of the server only.
    Server,
    /// The end of the client only.
    Client,
}

/// The contents of a certificate, apart from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The names: one that parses as an IP address becomes one; the first DNS name identifies the owner.
    pub names: &'a [&'a str],
    /// The serial number, unique for its issuer.
    pub serial: u64,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// The ends for which it is good.
    pub usage: Usage,
}

impl Grant<'_> {
    fn params(&self) -> Result<rcgen::CertificateParams, TlsError> {
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names)?;
        params.distinguished_name = common_name(self.names.first().copied().unwrap_or_default());
        params.serial_number = Some(self.serial.into());
        params.not_before = moment(self.not_before)?;
        params.not_after = moment(self.not_after)?;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.usage {
            Usage::BothEnds => {
                vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth]
            }
            Usage::Server => vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// Draws a serial number from the system's entropy. Serials only have to differ (RFC 5280, 4.1.2.2), and a random one
/// needs no memory of the last. It is positive, also for readers that take the first bit for a sign.
pub fn fresh_serial() -> Result<u64, TlsError> {
    let random = OsRng.try_next_u64().map_err(|why| TlsError::Entropy(why.to_string()))?;
    Ok(random >> 1 | 1)
}

/// A fresh key, and the request to certify it (PKCS #10, RFC 2986).
pub struct CertificateRequest {
    der: Vec<u8>,
    key_pem: String,
}

impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateRequest(..)")
    }
}

impl CertificateRequest {
    /// Makes a request by `name`, signed by the fresh key, which is of that kind.
    pub fn new(kind: KeyKind, name: &str) -> Result<CertificateRequest, TlsError> {
        let key = kind.generate()?;
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = common_name(name);
        let der = params.serialize_request(&key)?.der().to_vec();
        Ok(CertificateRequest { der, key_pem: key.serialize_pem() })
    }

    /// Returns the request in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Makes an identity of the request and the answer to it.
    ///
    /// # Errors
    /// If the certificate is not for this key, or was not signed by the trusted issuers.
    pub fn fulfilled(self, chain_pem: String, ca_pem: String) -> Result<Identity, TlsError> {
        let identity = Identity { chain_pem, key_pem: self.key_pem, ca_pem };
        client_config(&identity)?;
        identity.verify_by_own_issuers()?;
        Ok(identity)
    }
}

fn authority(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(rcgen::DnType::CommonName, name);
    distinguished
}

fn moment(seconds: i64) -> Result<OffsetDateTime, TlsError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TlsError::Time(seconds))
}
