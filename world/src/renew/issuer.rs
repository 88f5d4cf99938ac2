//! The issuer: a server that renews certificates for hosts that show one.
//!
//! A new certificate has exactly the names of the one that was shown, and is good for the same ends, whatever the
//! request asks for. It is valid from the time of issue: an issuer that backdates would hide wrong clocks. Each
//! connection is for one renewal and is given little time, so that nobody can occupy the issuer.

use std::{future::Future, io, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, service::Routes};

use super::grace::Lenient;
use crate::{
    LogEvent, Stream, World,
    doorstep::{Doorstep, Outcome, Standing, TurnedAway},
    issuer_wire::{
        RenewRequest, RenewResponse,
        issuer_server::{Issuer, IssuerServer},
    },
    refusals::Refusals,
    tls::{self, Grant, Identity, TlsError, Usage},
};

/// How long the certificates of an authority are still good for a renewal after the authority was replaced. A host that
/// was away for longer needs somebody to give it a certificate by hand. Each day of this time is also a day for a thief
/// of the old key.
pub const REPLACED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a certificate is still good for a renewal after its end.
pub const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The time by which a TLS handshake ends.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// The time by which a connection ends: a renewal is one call.
const CONNECTION_MAX: Duration = Duration::from_secs(15);
/// The number of connections that may be established at once. Further ones are closed, and their renewals are tried
/// again. Connections in a handshake have places of their own beside these.
const CONNECTIONS_MAX: usize = 1024;
/// The number of connections that were told to end and have not done so yet, before no more are accepted.
const ENDING_MAX: usize = 64;
/// The pause after an accept that failed for want of a resource that may be free again in a moment.
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);
/// The largest request in bytes: a PKCS #10 request over a key of either kind has a few hundred.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Signs certificates, and says who is trusted and who may renew. It is replaced as a whole when an authority is
/// rotated.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Signs new certificates.
    pub signer: Arc<tls::Issuer>,
    /// The authorities that holders of new certificates are to trust, PEM.
    pub trusted_pem: String,
    /// Authorities that are not trusted any more, but whose certificates are still good for a renewal for a while.
    /// **After a key was stolen its authority must not be among them**: the thief could make a certificate of any name,
    /// and have it renewed by the new authority. An authority that is left out here is thrown out at once, and each
    /// holder of its certificates must be given a new one by hand.
    pub replaced: Vec<Replaced>,
}

/// An authority that was replaced.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// Its certificate, PEM.
    pub ca_pem: String,
    /// When it was replaced, in seconds since 1970. It counts for [`IssuerSettings::replaced`] from then on.
    pub at: i64,
}

/// The settings of an issuer.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// `host:port` to bind.
    pub listen: String,
    /// The identity that the issuer shows. It comes from an authority of its own, which outlives every [`Authority`].
    /// The authorities that this identity trusts are not used.
    pub identity: Identity,
    /// The authority in force. A new value holds from the next connection on.
    pub authority: watch::Receiver<Authority>,
    /// How long new certificates are valid.
    pub lifetime: Duration,
    /// See [`GRACE`].
    pub grace: Duration,
    /// See [`REPLACED`].
    pub replaced: Duration,
}

/// Why an issuer ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The certificate that it shows, or those that it accepts, cannot be used.
    #[error("the issuer's certificates: {0}")]
    Identity(#[from] TlsError),
    /// The address cannot be bound.
    #[error("{0}; stop whatever listens there, or choose another `listen`")]
    Listen(#[source] io::Error),
    /// A task of a connection panicked.
    #[error("a connection ended in a panic: {0}")]
    Panicked(#[from] JoinError),
}

/// Issues certificates until `stop` resolves. Renewals that are under way then are cut off: their callers ask again.
///
/// # Errors
/// If it cannot begin, and if a connection panics.
pub async fn serve_issuer(
    world: World,
    settings: IssuerSettings,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), IssuerError> {
    settings.config()?;
    let mut listener = world.net.listen(&settings.listen).await.map_err(IssuerError::Listen)?;
    let mut connections = JoinSet::new();
    let hall = Hall::new(world);
    let all_max = CONNECTIONS_MAX + hall.doorstep.places() + ENDING_MAX;
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            Some(ended) = connections.join_next() => ended?,
            never = hall.refusals.count() => match never {},
            accepted = listener.accept(), if connections.len() < all_max => match accepted {
                Ok((stream, address)) => {
                    let standing = hall.doorstep.enter(&address);
                    connections.spawn(converse(hall.clone(), settings.clone(), standing, stream, address));
                }
                Err(why) => {
                    tracing::warn!(%why, "a connection could not be accepted");
                    sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
}

impl Authority {
    /// Returns the authorities whose certificates are good for a renewal now, PEM.
    fn accepted_pem(&self, for_a_while: Duration) -> String {
        let for_a_while = i64::try_from(for_a_while.as_secs()).unwrap_or(i64::MAX);
        let now = tls::wall_seconds();
        let still = |replaced: &&Replaced| now <= replaced.at.saturating_add(for_a_while);
        let replaced = self.replaced.iter().filter(still).map(|replaced| replaced.ca_pem.as_str());
        std::iter::once(self.trusted_pem.as_str()).chain(replaced).collect()
    }
}

impl IssuerSettings {
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let strict = tls::client_verifier(&self.authority.borrow().accepted_pem(self.replaced))?;
        tls::server_config_with(&self.identity, Arc::new(Lenient { strict, grace: self.grace }))
    }
}

/// What all connections of an issuer share.
#[derive(Clone)]
struct Hall {
    world: World,
    doorstep: Doorstep,
    established: Arc<Semaphore>,
    refusals: Refusals,
}

impl Hall {
    fn new(world: World) -> Hall {
        let (doorstep, established) = (Doorstep::new(CONNECTIONS_MAX), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        Hall { doorstep, established, refusals: Refusals::new(world.clone()), world }
    }
}

/// Serves one connection: the handshake proves the names, and the call renews them.
async fn converse(
    hall: Hall,
    settings: IssuerSettings,
    (standing, outcome): (Standing, Outcome),
    stream: Box<dyn Stream>,
    address: String,
) {
    let accepting = async {
        // An authority holds for the connections that begin under it.
        let config = settings.config().map_err(|why| {
            tracing::error!(%why, "the issuer cannot be used");
            "other"
        })?;
        standing.shake(stream, config).await
    };
    let shaken = async {
        let stream = timeout(HANDSHAKE_MAX, accepting).await.map_err(|_| "timed-out")??;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).ok_or("no-certificate")?;
        let peer = tls::peer(shown).map_err(|_| "no-name")?;
        let names = tls::names(shown).map_err(|_| "no-name")?;
        let usage = tls::usage(shown).map_err(|_| "wrong-usage")?;
        Ok::<_, TurnedAway<_>>((stream, peer, names, usage))
    };
    let shaken = tokio::select! {
        biased;
        () = outcome.crowded_out() => Err("too-many-handshakes".into()),
        shaken = shaken => shaken,
    };
    let (stream, peer, names, usage) = match shaken {
        Ok(shaken) => shaken,
        Err(away) => {
            hall.refusals.add(address, away.reason);
            return outcome.see_off(away).await;
        }
    };
    let Ok(_place) = hall.established.try_acquire() else {
        return hall.refusals.add(peer.name, "too-many-connections");
    };
    let world = hall.world.clone();
    world.tell(LogEvent::HandshakeAccepted { peer: peer.name.clone(), not_after: peer.not_after });
    let desk = Desk { names, usage, authority: settings.authority, lifetime: settings.lifetime };
    let service = IssuerServer::new(desk).max_decoding_message_size(REQUEST_BYTES_MAX);
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(1)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(Routes::new(service).prepare()));
    let why = match timeout(CONNECTION_MAX, serving).await {
        Ok(Ok(())) => "closed-by-peer".to_owned(),
        Ok(Err(why)) => why.to_string(),
        Err(_) => "time is up".to_owned(),
    };
    world.tell(LogEvent::ConnectionClosed { peer: peer.name, why });
}

/// Serves one caller, known by name.
struct Desk {
    /// The names in the certificate that the caller showed.
    names: Vec<String>,
    /// The usage in that certificate.
    usage: Usage,
    authority: watch::Receiver<Authority>,
    lifetime: Duration,
}

#[tonic::async_trait]
impl Issuer for Desk {
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let authority = self.authority.borrow().clone();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let not_before = tls::wall_seconds();
        let not_after = not_before.saturating_add(i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX));
        let serial = tls::fresh_serial().map_err(|why| Status::internal(why.to_string()))?;
        let grant = Grant { names: &names, serial, not_before, not_after, usage: self.usage };
        let chain =
            authority.signer.sign(&request.into_inner().certificate_request, &grant).map_err(|why| match why {
                TlsError::Request(_) => Status::invalid_argument(why.to_string()),
                why => Status::internal(why.to_string()),
            })?;
        Ok(Response::new(RenewResponse { chain, trusted: authority.trusted_pem }))
    }
}
