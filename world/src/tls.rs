//! Mutual TLS for both ends: TLS 1.3 only, ring only, no resumption and no tickets, because a resumed session skips the
//! verification of certificates altogether.
//!
//! A name here is the first DNS name in a certificate: it identifies a client, and everything that the log believes
//! about a caller rests on it. So nothing in this file may ever accept a peer without a verified certificate.

mod issuer;
mod validity;

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor},
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use tokio::sync::watch;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

pub use issuer::{CertificateRequest, Grant, Issuer, KeyKind, Usage, fresh_serial};
pub use validity::{Lifetime, Outside, Succession};

/// What a process shows, and which authorities it trusts. `Debug` never shows the key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, followed by its intermediates, PEM.
    pub chain_pem: String,
    /// The PKCS#8 private key, PEM.
    pub key_pem: String,
    /// The trusted issuers, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// Returns the name and the validity of the certificate that this identity shows.
    pub fn peer(&self) -> Result<Peer, TlsError> {
        peer(&self.leaf_certificate()?)
    }

    /// Returns the certificate itself, the first of the chain.
    pub fn leaf_certificate(&self) -> Result<CertificateDer<'static>, TlsError> {
        self.chain()?.into_iter().next().ok_or(TlsError::Empty { what: "certificate chain" })
    }

    /// Wraps an identity that is never renewed in the form in which a server takes it.
    pub fn fixed(self) -> watch::Receiver<Identity> {
        watch::channel(self).1
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates("certificate chain", &self.chain_pem)
    }

    /// Returns the certificates of the trusted issuers.
    pub fn trusted_certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates("trusted issuers", &self.ca_pem)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|why| TlsError::Pem { what: "private key", why: why.to_string() })
    }

    /// Checks that the issuers that this identity trusts signed its own certificate: that a peer that trusts the same
    /// issuers would accept it, at any time within its validity, at either end of a connection.
    ///
    /// # Errors
    /// The error with which such a peer would refuse the certificate.
    pub fn verify_by_own_issuers(&self) -> Result<(), TlsError> {
        let (chain, not_after) = (self.chain()?, self.peer()?.not_after);
        let (leaf, intermediates) = chain.split_first().ok_or(TlsError::Empty { what: "certificate chain" })?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(not_after).unwrap_or(0)));
        match client_verifier(&self.ca_pem)?.verify_client_cert(leaf, intermediates, at) {
            Ok(_) => Ok(()),
            Err(why) if rustls_reason(&why) == "wrong-usage" => {
                let (roots, provider) = (roots(&self.ca_pem)?, provider());
                let algorithms = provider.signature_verification_algorithms.all;
                ParsedCertificate::try_from(leaf)
                    .and_then(|leaf| {
                        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, at, algorithms)
                    })
                    .map_err(TlsError::Untrusted)
            }
            Err(why) => Err(TlsError::Untrusted(why)),
        }
    }
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for issuer in certificates("trusted issuers", ca_pem)? {
        roots.add(issuer).map_err(TlsError::Issuers)?;
    }
    Ok(Arc::new(roots))
}

/// Why an identity or a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text is not PEM, or not the PEM that was expected.
    #[error("the {what} is not readable as PEM: {why}; expected `-----BEGIN …-----` as openssl writes it")]
    Pem {
        /// The part of the identity.
        what: &'static str,
        /// What the parser says.
        why: String,
    },
    /// The PEM holds no certificate.
    #[error("the {what} holds no certificate; it has to hold at least one `-----BEGIN CERTIFICATE-----`")]
    Empty {
        /// The part of the identity.
        what: &'static str,
    },
    /// A trusted issuer cannot be one.
    #[error("a trusted issuer cannot be used: {0}")]
    Issuers(rustls::Error),
    /// The certificate and the key do not fit, or the key is of an unsupported kind.
    #[error("certificate and private key cannot be used together: {0}; check that both come from one request")]
    Pair(rustls::Error),
    /// The verifier of clients could not be built.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The bytes are not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Certificate(String),
    /// The certificate has no DNS name.
    #[error("the certificate of `{subject}` has no DNS name; name its owner as subjectAltName DNS:<name>")]
    Unnamed {
        /// Its subject, for people.
        subject: String,
    },
    /// The issuer could not issue.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The request is not one that can be granted.
    #[error(
        "not a request that can be granted: {0}; expected PKCS #10 over an ECDSA P-256 or Ed25519 key, signed by it"
    )]
    Request(String),
    /// The private key is of an unsupported kind.
    #[error("the private key is of the kind {0}; expected ECDSA P-256 or Ed25519 as PKCS #8")]
    KeyKind(String),
    /// The certificate of one authority came with the key of another.
    #[error("the authority's certificate and its private key do not belong together; restore both from one copy")]
    Authority,
    /// The certificate was not signed by its own trusted issuers.
    #[error("the certificate is not one that its own trusted issuers would accept: {0}")]
    Untrusted(rustls::Error),
    /// No random bytes could be read.
    #[error("no random serial number: {0}")]
    Entropy(String),
    /// The time is outside what X.509 can express.
    #[error("{0} is not a time that a certificate can name (seconds since 1970)")]
    Time(i64),
}

/// Makes the configuration of a server: TLS 1.3 by ring, a verified client certificate required, no session ever
/// resumed, ALPN `h2`. The clock is the system's, at each handshake.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(identity, client_verifier(&identity.ca_pem)?)
}

/// Makes a verifier that demands a client certificate that one of these issuers signed.
pub(crate) fn client_verifier(ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    Ok(WebPkiClientVerifier::builder_with_provider(roots(ca_pem)?, provider()).build()?)
}

/// Does what [`server_config`] does, with clients verified by `verifier`.
pub(crate) fn server_config_with(
    identity: &Identity,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
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

/// Makes the configuration of a client: TLS 1.3 by ring, its certificate shown, no session ever resumed, ALPN `h2`.
pub fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Pair)?
        .with_root_certificates(roots(&identity.ca_pem)?)
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

/// The owner of a certificate, and its validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The first DNS name in its subjectAltName.
    pub name: String,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
}

/// Reads name and validity. It verifies nothing: the handshake that the certificate comes from has done that.
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

/// Returns every name of a certificate, DNS names first. It verifies nothing, like [`peer`].
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, TlsError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|why| TlsError::Certificate(why.to_string()))?;
    let found = parsed.subject_alternative_name().map_err(|why| TlsError::Certificate(why.to_string()))?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for name in found.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    names.extend(addresses);
    Ok(names)
}

/// Returns the ends for which a certificate is good. It verifies nothing, like [`peer`]. A certificate that does not
/// say is good for both (RFC 5280, 4.2.1.12).
///
/// # Errors
/// If the certificate is good for neither end.
pub(crate) fn usage(certificate: &CertificateDer<'_>) -> Result<Usage, TlsError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|why| TlsError::Certificate(why.to_string()))?;
    let found = parsed.extended_key_usage().map_err(|why| TlsError::Certificate(why.to_string()))?;
    let ends = found.map_or((true, true), |found| {
        (found.value.server_auth || found.value.any, found.value.client_auth || found.value.any)
    });
    match ends {
        (true, true) => Ok(Usage::BothEnds),
        (true, false) => Ok(Usage::Server),
        (false, true) => Ok(Usage::Client),
        (false, false) => Err(TlsError::Certificate("it is good for neither end of a connection".to_owned())),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
}

/// Returns the wall clock, in whole seconds since 1970.
pub fn wall_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Returns why a handshake failed, in the words that events carry: `expired`, `not-yet-valid`, `unknown-issuer`,
/// `wrong-name`, `wrong-usage`, `no-certificate`, `refused-by-peer`, `timed-out`, `disconnected` or `other`. It looks
/// through all sources of the error. A TLS 1.3 client learns that the server refused it only from the first read after
/// its own handshake, so that end must use this for the errors of its calls, too.
pub fn handshake_reason(error: &(dyn Error + 'static)) -> &'static str {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return rustls_reason(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // The source of an io::Error is the source of the error that it wraps, so the wrapped error has to be taken
            // out by hand.
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
        // A certificate of another authority with the name of a trusted one fails by its signature.
        rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => "unknown-issuer",
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => "wrong-name",
        rustls::Error::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }) => "wrong-usage",
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

    /// Returns both ends' outcome of one handshake that is followed by one byte each way.
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
    async fn keys_of_either_kind_are_served_under_authorities_of_either_kind() {
        let kinds = [KeyKind::EcdsaP256, KeyKind::Ed25519];
        for authority in kinds {
            let issuer = Issuer::with_key(authority, "test authority", LONG_AGO, FAR_AWAY).unwrap();
            let (ca, key) = (issuer.ca_pem().to_owned(), issuer.key_pem());
            let of = |kind, name, serial| {
                let issuer = Issuer::restore(&ca, &key).unwrap().granting(kind);
                let identity = issuer.issue(name, serial, LONG_AGO, FAR_AWAY).unwrap();
                assert_eq!(KeyKind::of(&identity.key_pem).unwrap(), kind);
                identity
            };
            for (server, client) in kinds.iter().flat_map(|server| kinds.map(|client| (*server, client))) {
                let (server, client) = (of(server, "server-1", 2), of(client, "client-1", 3));
                let (accepted, connected) = shake(&server, &client, "server-1").await;
                connected.unwrap();
                assert_eq!(accepted.unwrap().name, "client-1");
            }
        }
    }

    #[test]
    fn an_ecdsa_key_is_kept_as_pkcs8_of_version_1_which_every_library_reads() {
        let issuer = Issuer::with_key(KeyKind::EcdsaP256, "test authority", LONG_AGO, FAR_AWAY).unwrap();
        for pem in [issuer.key_pem(), issuer.issue("client-1", 2, LONG_AGO, FAR_AWAY).unwrap().key_pem] {
            assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{pem}");
            let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() else {
                panic!("{pem}")
            };
            // A sequence whose length takes two bytes, then the version: 0 stands for version 1 (RFC 5208, section 5).
            let [0x30, 0x81, _, 0x02, 0x01, version, ..] = *der.secret_pkcs8_der() else { panic!("{pem}") };
            assert_eq!(version, 0);
        }
    }

    #[test]
    fn an_authority_is_not_restored_from_a_certificate_and_a_key_that_are_strangers() {
        for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
            let [one, other] = [(); 2].map(|()| Issuer::with_key(kind, "a", LONG_AGO, FAR_AWAY).unwrap());
            let crossed = Issuer::restore(one.ca_pem(), &other.key_pem());
            assert!(matches!(crossed, Err(TlsError::Authority)), "{crossed:?}");
        }
        let one = issuer();
        assert!(matches!(Issuer::restore(one.ca_pem(), "nonsense"), Err(TlsError::Issue(_))));
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
            .with_root_certificates(roots(&server.ca_pem).unwrap())
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
    fn a_request_is_granted_for_its_key_and_for_the_names_of_the_grant_only() {
        let issuer = issuer();
        let grant = |usage| Grant {
            names: &["client-1", "127.0.0.1"],
            serial: 7,
            not_before: LONG_AGO,
            not_after: FAR_AWAY,
            usage,
        };
        for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
            let request = CertificateRequest::new(kind, "client-1").unwrap();
            let chain = issuer.sign(request.der(), &grant(Usage::BothEnds)).unwrap();
            let identity = request.fulfilled(chain, issuer.ca_pem().to_owned()).unwrap();
            assert_eq!(KeyKind::like(&identity), kind);
        }
        let unheard_of = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let request = rcgen::CertificateParams::new(vec!["client-1".to_owned()]).unwrap();
        let request = request.serialize_request(&unheard_of).unwrap();
        assert!(matches!(issuer.sign(request.der(), &grant(Usage::BothEnds)), Err(TlsError::Request(_))));

        let request = CertificateRequest::new(KeyKind::Ed25519, "somebody-else").unwrap();
        let chain = issuer.sign(request.der(), &grant(Usage::BothEnds)).unwrap();
        let identity = request.fulfilled(chain.clone(), issuer.ca_pem().to_owned()).unwrap();
        assert_eq!(identity.peer().unwrap().name, "client-1");
        assert_eq!(names(&identity.leaf_certificate().unwrap()).unwrap(), ["client-1", "127.0.0.1"]);

        let other = CertificateRequest::new(KeyKind::Ed25519, "client-1").unwrap();
        let crossed = other.fulfilled(chain.clone(), issuer.ca_pem().to_owned());
        assert!(matches!(crossed, Err(TlsError::Pair(_))), "{crossed:?}");
        let again = CertificateRequest::new(KeyKind::Ed25519, "client-1").unwrap();
        let chain = issuer.sign(again.der(), &grant(Usage::BothEnds)).unwrap();
        let stranger = Issuer::new("stranger", LONG_AGO, FAR_AWAY).unwrap();
        let untrusted = again.fulfilled(chain, stranger.ca_pem().to_owned());
        assert!(matches!(untrusted, Err(TlsError::Untrusted(_))), "{untrusted:?}");

        let mut forged = CertificateRequest::new(KeyKind::Ed25519, "client-1").unwrap().der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(matches!(issuer.sign(&forged, &grant(Usage::BothEnds)), Err(TlsError::Request(_))));
        assert!(matches!(issuer.sign(b"nonsense", &grant(Usage::BothEnds)), Err(TlsError::Request(_))));
    }

    #[tokio::test]
    async fn a_certificate_for_the_other_end_is_refused() {
        let issuer = issuer();
        let grant = |names, usage| {
            issuer.grant(&Grant { names, serial: 2, not_before: LONG_AGO, not_after: FAR_AWAY, usage }).unwrap()
        };
        let server = grant(&["server-1"], Usage::Server);
        let (accepted, _) = shake(&server, &grant(&["client-1"], Usage::Server), "server-1").await;
        assert_eq!(handshake_reason(&accepted.unwrap_err()), "wrong-usage");
        let client = grant(&["client-1"], Usage::Client);
        let (_, connected) = shake(&grant(&["server-1"], Usage::Client), &client, "server-1").await;
        assert_eq!(handshake_reason(&connected.unwrap_err()), "wrong-usage");
        shake(&server, &client, "server-1").await.1.unwrap();
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
