//! Dials a server: a stream with mutual TLS that ends when its certificates do.
//!
//! Clients dial the servers of a log, and the members of a cluster dial each other. Each dial looks up anew the
//! identity that it shows, so that a renewed certificate takes effect with the next connection.

mod condition;
mod expiring;

use std::{io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use gapless_world::{
    LogEvent, Server, Stream, World,
    tls::{self, Identity, Lifetime, Outside, Peer, TlsError},
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

pub(crate) use condition::{Condition, Trouble};
pub(crate) use expiring::Expiring;

/// Makes one stream to a server, ready for HTTP/2, within a time. The condition learns what goes wrong, also later on.
pub(crate) type Dial =
    Arc<dyn Fn(Server, Condition, Duration) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// The identity that this side shows, ready for use.
pub(crate) struct Credentials {
    config: Arc<ClientConfig>,
    /// Our own certificate.
    own: Peer,
}

impl Credentials {
    pub(crate) fn new(identity: &Identity) -> Result<Arc<Credentials>, TlsError> {
        let own = identity.peer()?;
        Ok(Arc::new(Credentials { config: tls::client_config(identity)?, own }))
    }
}

/// Dials over the world's network with mutual TLS. Each dial looks up the credentials, so that replaced ones take
/// effect with the next connection.
pub(crate) fn dial_tls(world: World, credentials: watch::Receiver<Arc<Credentials>>) -> Dial {
    Arc::new(move |server: Server, condition: Condition, within: Duration| {
        let world = world.clone();
        let credentials = credentials.borrow().clone();
        Box::pin(async move {
            let stream = connect(&world, &server, &credentials, within).await;
            match stream {
                Ok((stream, lifetime)) => {
                    let observer = world.observer.clone();
                    Ok(Box::new(Expiring::new(stream, Some(lifetime), server.tls_name, observer, condition)) as _)
                }
                Err(error) => {
                    condition.note(&error);
                    Err(error)
                }
            }
        })
    })
}

/// Like [`dial_tls`], with the identity that is in force at each dial; for callers that keep another kind of
/// connection.
pub(crate) fn dial_as(
    world: World,
    identity: watch::Receiver<Identity>,
) -> impl Fn(Server, Duration) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Clone + Send + Sync {
    move |server: Server, within: Duration| {
        let world = world.clone();
        let credentials = Credentials::new(&identity.borrow());
        Box::pin(async move {
            let credentials = credentials.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
            let (stream, lifetime) = connect(&world, &server, &credentials, within).await?;
            let observer = world.observer.clone();
            Ok(Box::new(Expiring::new(stream, Some(lifetime), server.tls_name, observer, Condition::default())) as _)
        })
    }
}

/// Connects and shakes hands, both within one deadline. Returns the stream, and for how long it may last.
async fn connect(
    world: &World,
    server: &Server,
    credentials: &Credentials,
    within: Duration,
) -> io::Result<(impl Stream + use<>, Lifetime)> {
    let by = Instant::now() + within;
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what}: no answer in time"));
    let stream = match timeout_at(by, world.net.connect(&server.address)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(late("connect")),
    };
    let name = ServerName::try_from(server.tls_name.clone())
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why.to_string()))?;
    let handshake = TlsConnector::from(credentials.config.clone()).connect(name, stream);
    let refused = |error: io::Error| {
        let reason = tls::handshake_reason(&error).to_owned();
        world.tell(LogEvent::HandshakeRefused { peer: server.tls_name.clone(), reason });
        error
    };
    let stream = match timeout_at(by, handshake).await {
        Ok(stream) => stream.map_err(refused)?,
        Err(_) => return Err(refused(late("TLS handshake"))),
    };
    let theirs = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(tls::peer);
    let lifetime = match theirs {
        Some(Ok(peer)) => Lifetime::of(&credentials.own, &peer),
        Some(Err(why)) => return Err(io::Error::new(io::ErrorKind::InvalidData, why.to_string())),
        None => Lifetime { not_before: i64::MIN, not_after: credentials.own.not_after },
    };
    if lifetime.check() == Err(Outside::Ended) {
        mark!("own-certificate-had-ended");
        // No end checks its own certificate. If this one were used all the same, the connection would end at once,
        // again and again, and look as if it had merely broken.
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        return Err(refused(io::Error::new(io::ErrorKind::InvalidData, expired)));
    }
    world.tell(LogEvent::HandshakeAccepted { peer: server.tls_name.clone(), not_after: lifetime.not_after });
    Ok((stream, lifetime))
}
