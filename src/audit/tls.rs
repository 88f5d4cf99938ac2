//! Mutual TLS for both ends: TLS 1.3 only, ring only, no resumption and no tickets, because a resumed session skips
//! the verification of certificates altogether.
//!
//! A name here is the first DNS name in a certificate: it is who a client is, and all that the log believes about a
//! caller rests on it. So nothing in this file may ever accept a peer without a verified certificate. The small
//! [`Issuer`] at the end serves tests, simulations and a first evening with the log; it is no public key
//! infrastructure.

use std::{error::Error, io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use tokio::sync::watch;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// What a process shows, and whom it trusts. `Debug` never shows the key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then its intermediates, PEM.
    pub chain_pem: String,
    /// PKCS#8 private key, PEM.
    pub key_pem: String,
    /// Trusted issuers, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// Name and validity of the certificate that this identity shows.
    pub fn peer(&self) -> Result<Peer, TlsError> {
        peer(&self.leaf_certificate()?)
    }

    /// The certificate itself, the first of the chain.
    pub fn leaf_certificate(&self) -> Result<CertificateDer<'static>, TlsError> {
        self.chain()?.into_iter().next().ok_or(TlsError::Empty { what: "certificate chain" })
    }

    /// The form in which a server takes its identity, for one that is never renewed.
    pub fn fixed(self) -> watch::Receiver<Identity> {
        watch::channel(self).1
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates("certificate chain", &self.chain_pem)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|why| TlsError::Pem { what: "private key", why: why.to_string() })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for issuer in certificates("trusted issuers", &self.ca_pem)? {
            roots.add(issuer).map_err(TlsError::Issuers)?;
        }
        Ok(Arc::new(roots))
    }
}

/// Why an identity or a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not the PEM that was expected.
    #[error("the {what} is not readable as PEM: {why}; expected `-----BEGIN …-----` as openssl writes it")]
    Pem {
        /// Which part of the identity.
        what: &'static str,
        /// What the parser says.
        why: String,
    },
    /// Nothing in it.
    #[error("the {what} holds no certificate; it has to hold at least one `-----BEGIN CERTIFICATE-----`")]
    Empty {
        /// Which part of the identity.
        what: &'static str,
    },
    /// A trusted issuer that cannot be one.
    #[error("a trusted issuer cannot be used: {0}")]
    Issuers(rustls::Error),
    /// Certificate and key do not fit, or the key is of an unsupported kind.
    #[error("certificate and private key cannot be used together: {0}; check that both come from one request")]
    Pair(rustls::Error),
    /// The verifier of clients could not be built.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Certificate(String),
    /// No DNS name.
    #[error("the certificate of `{subject}` has no DNS name; name its owner as subjectAltName DNS:<name>")]
    Unnamed {
        /// Its subject, for people.
        subject: String,
    },
    /// The issuer could not issue.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// Validity outside what X.509 can say.
    #[error("{0} is not a time that a certificate can name (seconds since 1970)")]
    Time(i64),
}

/// What a server does: TLS 1.3 by ring, a verified client certificate required, no session ever resumed, ALPN `h2`.
/// The clock is the system's, at each handshake.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(identity.roots()?, provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain()?, identity.key()?)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// What a client does: TLS 1.3 by ring, its certificate shown, no session ever resumed, ALPN `h2`.
pub fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Pair)?
        .with_root_certificates(identity.roots()?)
        .with_client_auth_cert(identity.chain()?, identity.key()?)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

const ALPN_H2: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| TlsError::Pem { what, why: why.to_string() })?;
    if found.is_empty() { Err(TlsError::Empty { what }) } else { Ok(found) }
}

/// Who stands behind a certificate, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The first DNS name in its subjectAltName.
    pub name: String,
    /// First second of its validity, since 1970.
    pub not_before: i64,
    /// Last second of its validity, since 1970.
    pub not_after: i64,
}

/// Reads name and validity. Verifies nothing: that has been done by the handshake that the certificate comes from.
pub fn peer(certificate: &CertificateDer<'_>) -> Result<Peer, TlsError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|why| TlsError::Certificate(why.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|why| TlsError::Certificate(why.to_string()))?;
    let first = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let name = first.ok_or_else(|| TlsError::Unnamed { subject: parsed.subject().to_string() })?;
    let validity = parsed.validity();
    Ok(Peer { name, not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}

/// Why a handshake failed, in the words that events carry: `expired`, `not-yet-valid`, `unknown-issuer`, `wrong-name`,
/// `no-certificate`, `refused-by-peer`, `timed-out`, `disconnected` or `other`. Looks through all sources of the
/// error. A TLS 1.3 client learns that the server refused it only from the first read after its own handshake, so
/// that end must ask here about the errors of its calls too.
pub fn handshake_reason(error: &(dyn Error + 'static)) -> &'static str {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return rustls_reason(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // An io::Error names the source of what it wraps, not what it wraps: it has to be opened by hand.
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
                continue;
            }
            return io_reason(io.kind());
        }
        next = error.source();
    }
    "other"
}

fn rustls_reason(error: &rustls::Error) -> &'static str {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "expired",
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => "not-yet-valid",
        // A certificate of another authority with the name of ours fails by its signature.
        rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => "unknown-issuer",
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => "wrong-name",
        rustls::Error::NoCertificatesPresented => "no-certificate",
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => "expired",
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => "unknown-issuer",
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => "no-certificate",
        rustls::Error::AlertReceived(_) => "refused-by-peer",
        _ => "other",
    }
}

fn io_reason(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::TimedOut => "timed-out",
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "disconnected",
        _ => "other",
    }
}

/// A small certificate authority: one Ed25519 key that signs certificates directly. Ed25519 because its signatures
/// have one length and need no entropy, so that a simulated run is the same to the byte each time.
pub struct Issuer {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    ca_pem: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer(..)")
    }
}

impl Issuer {
    /// A new authority of that name with a fresh key. Times in seconds since 1970.
    pub fn new(name: &str, not_before: i64, not_after: i64) -> Result<Issuer, TlsError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let mut params = authority(name);
        params.serial_number = Some(1u64.into());
        params.not_before = moment(not_before)?;
        params.not_after = moment(not_after)?;
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Issuer { issuer: rcgen::Issuer::new(params, key), ca_pem })
    }

    /// The authority that [`ca_pem`](Self::ca_pem) and [`key_pem`](Self::key_pem) were kept from.
    pub fn restore(ca_pem: &str, key_pem: &str) -> Result<Issuer, TlsError> {
        let key = rcgen::KeyPair::from_pem(key_pem)?;
        let certificate = certificates("authority", ca_pem)?.swap_remove(0);
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate)
            .map_err(|why| TlsError::Certificate(why.to_string()))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.ok_or_else(|| TlsError::Certificate("an authority without a common name".to_owned()))?;
        Ok(Issuer { issuer: rcgen::Issuer::new(authority(name), key), ca_pem: ca_pem.to_owned() })
    }

    /// The authority's own certificate: what others have to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Its private key, to be stored with the owner's access only.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// An identity with this one DNS name and a fresh key, good for both ends of a connection.
    pub fn issue(&self, name: &str, serial: u64, not_before: i64, not_after: i64) -> Result<Identity, TlsError> {
        self.issue_for(&[name], serial, not_before, not_after)
    }

    /// The same for several names: what parses as an IP address becomes one, the first DNS name is who it is.
    pub fn issue_for(
        &self,
        names: &[&str],
        serial: u64,
        not_before: i64,
        not_after: i64,
    ) -> Result<Identity, TlsError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = common_name(names.first().copied().unwrap_or_default());
        params.serial_number = Some(serial.into());
        params.not_before = moment(not_before)?;
        params.not_after = moment(not_after)?;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: self.ca_pem.clone() })
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

#[cfg(test)]
mod tests {
    use rustls_pki_types::ServerName;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const LONG_AGO: i64 = 1_000_000_000;
    const FAR_AWAY: i64 = 4_000_000_000;

    fn issuer() -> Issuer {
        Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap()
    }

    /// Both ends' outcome of one handshake that is followed by one byte each way.
    async fn shake(server: &Identity, client: &Identity, name: &str) -> (io::Result<Peer>, io::Result<()>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(server_config(server).unwrap());
        let connector = TlsConnector::from(client_config(client).unwrap());
        let accepting = async {
            let mut stream = acceptor.accept(far).await?;
            stream.write_all(b"!").await?;
            stream.flush().await?;
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            Ok(peer(&shown).unwrap())
        };
        let connecting = async {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let mut stream = connector.connect(name, near).await?;
            stream.read_u8().await?;
            Ok(())
        };
        tokio::join!(accepting, connecting)
    }

    #[tokio::test]
    async fn both_ends_verify_and_the_server_learns_the_name() {
        let issuer = issuer();
        let server = issuer.issue_for(&["server-1", "127.0.0.1"], 2, LONG_AGO, FAR_AWAY).unwrap();
        let client = issuer.issue("ledger.example", 3, LONG_AGO, FAR_AWAY).unwrap();
        for name in ["server-1", "127.0.0.1"] {
            let (accepted, connected) = shake(&server, &client, name).await;
            connected.unwrap();
            let expected = Peer { name: "ledger.example".into(), not_before: LONG_AGO, not_after: FAR_AWAY };
            assert_eq!(accepted.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_must_not_be_accepted_is_refused_with_its_reason() {
        let issuer = issuer();
        let server = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let stranger = Issuer::new("stranger", LONG_AGO, FAR_AWAY).unwrap();
        let mut foreign = stranger.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        foreign.ca_pem = server.ca_pem.clone();
        let same_name = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
        let mut impostor = same_name.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        impostor.ca_pem = server.ca_pem.clone();
        let cases = [
            (issuer.issue("client-1", 3, LONG_AGO, LONG_AGO + 60).unwrap(), "expired"),
            (issuer.issue("client-1", 3, FAR_AWAY - 60, FAR_AWAY).unwrap(), "not-yet-valid"),
            (foreign, "unknown-issuer"),
            (impostor, "unknown-issuer"),
        ];
        for (client, reason) in cases {
            let (accepted, connected) = shake(&server, &client, "server-1").await;
            assert_eq!(handshake_reason(&accepted.unwrap_err()), reason);
            connected.expect_err("the client finds out at its first read");
        }
        let client = issuer.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        let (_, connected) = shake(&server, &client, "server-2").await;
        assert_eq!(handshake_reason(&connected.unwrap_err()), "wrong-name");
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let issuer = issuer();
        let server = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let bare = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(server.roots().unwrap())
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(server_config(&server).unwrap());
        let connector = TlsConnector::from(Arc::new(bare));
        let (accepted, _kept) =
            tokio::join!(acceptor.accept(far), connector.connect(ServerName::try_from("server-1").unwrap(), near));
        assert_eq!(handshake_reason(&accepted.unwrap_err()), "no-certificate");
    }

    #[test]
    fn nothing_is_ever_resumed() {
        let identity = issuer().issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let server = server_config(&identity).unwrap();
        assert_eq!(server.send_tls13_tickets, 0);
        assert!(!server.session_storage.can_cache());
        assert!(!server.ticketer.enabled());
    }

    #[tokio::test]
    async fn a_restored_issuer_issues_what_the_first_one_is_trusted_for() {
        let first = issuer();
        let second = Issuer::restore(first.ca_pem(), &first.key_pem()).unwrap();
        let server = first.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let client = second.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        let (accepted, connected) = shake(&server, &client, "server-1").await;
        connected.unwrap();
        assert_eq!(accepted.unwrap().name, "client-1");
    }

    #[test]
    fn unusable_identities_say_what_is_wrong() {
        let issuer = issuer();
        let good = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let empty = Identity { chain_pem: String::new(), ..good.clone() };
        assert!(matches!(server_config(&empty), Err(TlsError::Empty { what: "certificate chain" })));
        let keyless = Identity { key_pem: "nonsense".into(), ..good.clone() };
        assert!(matches!(client_config(&keyless), Err(TlsError::Pem { what: "private key", .. })));
        let other = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let crossed = Identity { key_pem: other.key_pem, ..good };
        assert!(matches!(server_config(&crossed), Err(TlsError::Pair(_))));
        let nameless = issuer.issue_for(&["127.0.0.1"], 2, LONG_AGO, FAR_AWAY).unwrap();
        assert!(matches!(nameless.peer(), Err(TlsError::Unnamed { .. })));
    }
}
