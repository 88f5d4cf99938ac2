//! The log's front door: mutual TLS, HTTP/2 and gRPC over a [`Node`].
//!
//! The node decides everything about an entry; this module decides who may speak, for how long, and how much at once. A
//! caller is who its verified certificate says, a connection lives no longer than its certificates, every call has a
//! deadline, and a stop answers whatever was accepted before it. Nothing here may acknowledge an entry of its own
//! accord, or outlive a node that failed.

mod agreement;
mod answer;
mod append_stream;
mod bounds;
mod caller;
mod connection;
mod deadline;
mod gate;
mod listener;
mod membership;
mod places;
mod replication;
#[cfg(feature = "rehearsal")]
mod reply_hook;
mod service;
mod speak;
mod start;
mod status;
mod tail;
mod terms;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use gapless_world::{
    LogEvent, World,
    doorstep::Doorstep,
    net::BoxFuture,
    tls::{Identity, TlsError},
};
use tokio::{sync::watch, time::timeout};
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{gate::Gate, listener::Front, membership::Membership, replication::Replication, service::Service};
#[cfg(feature = "rehearsal")]
pub use reply_hook::ReplyHook;
pub use start::start;

use super::{
    cluster::{Node, NodeError},
    cluster_wire::{membership_server::MembershipServer, replication_server::ReplicationServer},
    schema::{Exchange, Revision, SchemaError},
    wire::{self, audit_log_server::AuditLogServer},
};

/// Largest request in bytes: twice an entry of the largest payload with its envelope. What members send each other
/// comes in smaller pieces.
const REQUEST_BYTES_MAX: usize = 128 * 1024;

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The log's id in lower-case hex, which is reported with this node's id when serving begins.
    pub log_id: String,
    /// This node's id. See `log_id`.
    pub node: u64,
    /// `host:port` to bind.
    pub listen: String,
    /// What the server shows and whom it trusts. A new value takes effect from the next handshake on; a value that
    /// cannot be used is logged and passed over. See [`Identity::fixed`] if nothing is ever renewed.
    pub identity: watch::Receiver<Identity>,
    /// How long the parts of a connection may take.
    pub deadlines: Deadlines,
    /// Maximum number of established connections. Any more are closed once their handshake has shown whose they are.
    /// Connections that still shake hands are counted separately: at most as many, or 128 if fewer are configured here,
    /// and never more than 1,024.
    pub connections_max: usize,
    /// Maximum number of connections whose certificates have the same name. `None` stands for a sixteenth of
    /// `connections_max`, and for at least eight. In a cluster, an eighth of `connections_max` is kept for its members.
    pub connections_per_name: Option<usize>,
    /// The contract that the server speaks.
    pub revision: Revision,
    /// Names in the certificates of those who may change the members of a cluster; nobody else may.
    pub operators: Vec<String>,
    /// Can change the server's responses to appends.
    #[cfg(feature = "rehearsal")]
    pub reply_hook: Option<ReplyHook>,
}

impl ServeSettings {
    /// Makes settings with the deadlines and bounds that suit most logs.
    pub fn new(log_id: &[u8; 16], node: u64, listen: &str, identity: watch::Receiver<Identity>) -> ServeSettings {
        ServeSettings {
            log_id: log_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            node,
            listen: listen.to_owned(),
            identity,
            deadlines: Deadlines::default(),
            connections_max: 1024,
            connections_per_name: None,
            revision: Revision::default(),
            operators: Vec::new(),
            #[cfg(feature = "rehearsal")]
            reply_hook: None,
        }
    }

    /// Returns the number of connections that may be open at once in all: those that are established, those that still
    /// shake hands, and those that are about to end.
    pub fn sockets_max(&self) -> usize {
        listener::sockets_max(self.connections_max, &Doorstep::new(self.connections_max))
    }
}

/// How long something may take before the server ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A TLS handshake.
    pub handshake: Duration,
    /// A unary call, whatever deadline its caller gave; and how long its response may wait to be taken.
    pub call_max: Duration,
    /// A stream of appends without an entry, or a leader's stream without a message.
    pub stream_idle: Duration,
    /// The time between two HTTP/2 pings.
    pub keepalive_interval: Duration,
    /// The time for the answer to a ping.
    pub keepalive_timeout: Duration,
    /// The time for calls in flight, once a connection or the server is asked to end.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            call_max: Duration::from_secs(30),
            stream_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why serving ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The identity cannot be used.
    #[error("the server's identity: {0}")]
    Identity(#[from] TlsError),
    /// The address cannot be bound.
    #[error("{0}; stop whatever listens there, or choose another `listen`")]
    Listen(#[source] io::Error),
    /// The build's own contract cannot be read.
    #[error("this build's own contract: {0}")]
    Schema(#[from] SchemaError),
    /// The descriptors of the contract do not decode.
    #[error("the reflection service cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The node ended by itself: nothing that it says can be relied upon any more.
    #[error("the node failed: {0}; the process must end and recover from its disk")]
    NodeFailed(String),
    /// The node did not stop in order.
    #[error("the node did not stop in order: {0}")]
    Stop(#[from] NodeError),
    /// The node took too long to stop.
    #[error("the node did not stop within {} s; what was acknowledged is on disk", .0.as_secs())]
    StopTimedOut(Duration),
    /// A task of a connection panicked.
    #[error("a connection ended in a panic: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Serves `node` until `stop` resolves. Then it finishes the calls in flight within [`Deadlines::drain`], stops the
/// node and returns the size of the log.
///
/// # Errors
/// If serving cannot begin, if the node fails, or if a connection panics. In the last two cases the process must end.
pub async fn serve(
    world: World,
    node: Node,
    settings: ServeSettings,
    stop: impl Future<Output = ()> + Send,
) -> Result<u64, ServeError> {
    serve_until(world, node, settings, pin!(stop)).await
}

/// Does the same. The box keeps the code of a whole server in this crate: without it, each crate that serves would
/// compile it anew.
fn serve_until(
    world: World,
    node: Node,
    settings: ServeSettings,
    stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
) -> BoxFuture<'_, Result<u64, ServeError>> {
    Box::pin(serve_and_stop(world, node, settings, stop))
}

async fn serve_and_stop(
    world: World,
    node: Node,
    settings: ServeSettings,
    stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
) -> Result<u64, ServeError> {
    let health = HealthReporter::new();
    let exchange = Exchange::new(settings.revision)?;
    let routes = routes(&node, &settings, &health, &world)?;
    let mut front = Front::open(&world, &settings, routes, exchange, None, gate(&node, &settings)).await?;
    // A caller that only reads need not ask the health service.
    let takes = node.read_only().is_none();
    say(&health, if takes { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
    world.tell(LogEvent::ServerStarted {
        log_id: settings.log_id.clone(),
        node: settings.node,
        size: node.committed(),
    });

    let ended = tokio::select! {
        biased;
        why = node.failed() => Err(ServeError::NodeFailed(why)),
        why = front.accept_until_failure() => Err(why),
        () = stop => Ok(()),
    };
    say(&health, ServingStatus::NotServing).await;
    // If the node failed, dropping `front` resets all connections: no call may get another answer from it.
    ended?;

    world.tell(LogEvent::ShutdownBegun {});
    tokio::select! {
        biased;
        why = node.failed() => return Err(ServeError::NodeFailed(why)),
        () = front.drain() => {}
    }
    let stopping = timeout(settings.deadlines.drain, node.shut_down());
    let size = stopping.await.map_err(|_| ServeError::StopTimedOut(settings.deadlines.drain))??;
    world.tell(LogEvent::ShutdownDone { size });
    Ok(size)
}

fn routes(
    node: &Node,
    settings: &ServeSettings,
    health: &HealthReporter,
    world: &World,
) -> Result<Routes, tonic_reflection::server::Error> {
    let log = Service::new(node.clone(), world.clone(), settings.deadlines.stream_idle);
    let descriptors = settings.revision.descriptors();
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
    let mut routes = Routes::builder();
    macro_rules! speak {
        ($server:ty) => {
            routes.add_service(<$server>::new(log).max_decoding_message_size(REQUEST_BYTES_MAX))
        };
    }
    match settings.revision {
        Revision::Previous => speak!(wire::previous::audit_log_server::AuditLogServer<Service>),
        Revision::Current => speak!(AuditLogServer<Service>),
        #[cfg(feature = "rehearsal")]
        Revision::Next => speak!(wire::next::audit_log_server::AuditLogServer<Service>),
        #[cfg(feature = "rehearsal")]
        Revision::Breaking => speak!(wire::breaking::audit_log_server::AuditLogServer<Service>),
    };
    if node.is_clustered() {
        // Anything larger comes in pieces.
        let replication = Replication { node: node.clone(), idle: settings.deadlines.stream_idle };
        routes.add_service(ReplicationServer::new(replication).max_decoding_message_size(REQUEST_BYTES_MAX));
        let operators = Membership::new(node.clone(), &settings.operators);
        routes.add_service(MembershipServer::new(operators).max_decoding_message_size(REQUEST_BYTES_MAX));
    }
    routes
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        ))
        .add_service(reflection().build_v1()?)
        // Some tools know no other version.
        .add_service(reflection().build_v1alpha()?);
    Ok(routes.routes().prepare())
}

/// Returns what guards the calls of members and operators, if there are any.
fn gate(node: &Node, settings: &ServeSettings) -> Option<Gate> {
    node.is_clustered().then(|| Gate::new(node.clone(), &settings.operators))
}

/// Tells the health service about the log and about the server as a whole, which the protocol names by the empty
/// string.
async fn say(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status(<AuditLogServer<Service> as tonic::server::NamedService>::NAME, status).await;
}
