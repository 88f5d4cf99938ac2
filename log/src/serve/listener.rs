//! The accept loop: every connection that comes in becomes a task, and there are never too many of them.
//!
//! The loop itself waits for nothing but the next connection. Handshakes run in their own tasks, with a deadline and
//! with places of their own, which no caller can fill for the others ([`Doorstep`]); established connections have other
//! places ([`Places`]). A connection that is one too many is closed at once rather than left to queue in the kernel,
//! where its handshake would time out without a word.

use std::{sync::Arc, time::Duration};

use gapless_world::{
    Listener, Stream, World,
    doorstep::Doorstep,
    refusals::Refusals,
    tls::{self, Identity, Peer, TlsError},
};
use rustls::ServerConfig;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tonic::service::Routes;

use super::{ServeError, ServeSettings, connection, gate::Gate, places::Places, terms::Terms};
use crate::schema::Exchange;

/// The pause after an accept that failed for lack of something (descriptors, memory) that may soon be available again.
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// The number of connections that were told to end and have not yet ended, above which no more are accepted. They wait
/// for nothing, so this holds up the loop only if it outruns them.
const ENDING_MAX: usize = 64;

/// Returns the maximum number of all connections, if `connections_max` of them may be established.
pub(super) fn sockets_max(connections_max: usize, doorstep: &Doorstep) -> usize {
    connections_max.saturating_add(doorstep.places() + ENDING_MAX)
}

/// The listener, and the connections that it accepted. Dropping it closes them all.
pub(super) struct Front {
    listener: Box<dyn Listener>,
    credentials: Credentials,
    connections: JoinSet<()>,
    /// The maximum number of all connections: established, at the door, and ending.
    connections_max: usize,
    draining: watch::Sender<bool>,
    terms: Terms,
}

impl Front {
    /// Binds the address.
    pub(super) async fn open(
        world: &World,
        settings: &ServeSettings,
        routes: Routes,
        exchange: Arc<Exchange>,
        closed: Option<&'static str>,
        gate: Option<Gate>,
    ) -> Result<Front, ServeError> {
        let credentials = Credentials::new(settings.identity.clone())?;
        let listener = world.net.listen(&settings.listen).await.map_err(ServeError::Listen)?;
        tracing::info!(address = listener.local_address(), "listening");
        let (draining, drained) = watch::channel(false);
        let terms = Terms {
            world: world.clone(),
            routes,
            deadlines: settings.deadlines,
            doorstep: Doorstep::new(settings.connections_max),
            refusals: Refusals::new(world.clone()),
            draining: drained,
            #[cfg(feature = "rehearsal")]
            reply_hook: settings.reply_hook.clone(),
            exchange,
            closed,
            places: Places::new(settings.connections_max, settings.connections_per_name, gate.is_some()),
            gate,
        };
        let connections = JoinSet::new();
        let connections_max = sockets_max(settings.connections_max, &terms.doorstep);
        Ok(Front { listener, credentials, connections, connections_max, draining, terms })
    }

    /// Accepts connections. Ends only if one of them panicked. Cancel safe.
    pub(super) async fn accept_until_failure(&mut self) -> ServeError {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.connections.join_next() => {
                    if let Err(panic) = ended {
                        return ServeError::Panicked(panic);
                    }
                }
                never = self.terms.refusals.count() => match never {},
                accepted = self.listener.accept(), if self.connections.len() < self.connections_max => match accepted {
                    Ok((stream, address)) => self.welcome(stream, address),
                    Err(why) => {
                        tracing::warn!(%why, "a connection could not be accepted");
                        sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, stream: Box<dyn Stream>, address: String) {
        let shown = self.credentials.current();
        let standing = self.terms.doorstep.enter(&address);
        self.connections.spawn(connection::run(self.terms.clone(), shown, standing, stream, address));
    }

    /// Accepts no more, asks every connection to end, and waits for them as long as they may take; whatever is left
    /// then is cut off.
    pub(super) async fn drain(self) {
        let Front { listener, mut connections, draining, terms, .. } = self;
        drop(listener);
        draining.send_replace(true);
        // Each connection has `drain` for its calls. The wait is a little longer, so that the connection gives up
        // first.
        let all_ended = timeout(terms.deadlines.drain + Duration::from_secs(1), async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        });
        if all_ended.await.is_err() {
            tracing::warn!(connections = connections.len(), "connections did not end in time and are cut off");
        }
        terms.refusals.count_the_last();
    }
}

/// At the end of a process, a panic of a connection changes nothing any more, but it must not go unseen.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(%panic, "a connection ended in a panic");
    }
}

/// The identity in force, and what TLS makes of it.
struct Credentials {
    identity: watch::Receiver<Identity>,
    config: Arc<ServerConfig>,
    own: Arc<Peer>,
}

impl Credentials {
    fn new(mut identity: watch::Receiver<Identity>) -> Result<Credentials, TlsError> {
        let first = identity.borrow_and_update().clone();
        Ok(Credentials { identity, config: tls::server_config(&first)?, own: Arc::new(first.peer()?) })
    }

    /// Returns what the next handshake shows. A renewal that cannot be used is passed over: the old identity stays, and
    /// every peer sees `expired` when its time comes.
    fn current(&mut self) -> (Arc<ServerConfig>, Arc<Peer>) {
        if self.identity.has_changed().unwrap_or(false) {
            let renewed = self.identity.borrow_and_update().clone();
            match tls::server_config(&renewed).and_then(|config| Ok((config, renewed.peer()?))) {
                Ok((config, own)) => {
                    tracing::info!(name = own.name, not_after = own.not_after, "certificate renewed");
                    mark!("new-certificate-in-service");
                    (self.config, self.own) = (config, Arc::new(own));
                }
                Err(why) => tracing::error!(%why, "the renewed certificate cannot be used, the old one stays"),
            }
        }
        (self.config.clone(), self.own.clone())
    }
}
