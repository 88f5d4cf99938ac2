//! From a data folder to a node that can be served: a damaged member is repaired first, and a damaged log of one can
//! only be read.
//!
//! During a repair, the member's door is closed, not missing: callers get `UNAVAILABLE` and the reason, and the health
//! service says that the member does not serve. So callers go to another member at once, and the operator sees a
//! process that works.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use gapless_world::{World, net::BoxFuture};
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{ServeError, ServeSettings, listener::Front, say};
use crate::{
    cluster::{Node, NodeError, NodeSettings, is_repairable, repair},
    schema::Exchange,
};

/// What callers are told during a repair.
const CLOSED: &str = "this member's log is damaged and is being repaired from the others: ask another one";

/// Starts a node. If the log of a member of several is damaged, it is repaired from the others first, however long that
/// takes. Returns `None` if `stop` resolved before the node was started. A damaged log of one is opened as far as it is
/// sound.
///
/// # Errors
/// Those of [`Node::start`], and an error if the repair cannot go on.
pub async fn start(
    world: &World,
    node: &NodeSettings,
    settings: &ServeSettings,
    stop: impl Future<Output = ()> + Send,
) -> Result<Option<Node>, NodeError> {
    start_unless(world, node, settings, pin!(stop)).await
}

/// Does the same. The box keeps the code of a whole node in this crate: without it, each crate that starts one would
/// compile it anew.
fn start_unless<'a>(
    world: &'a World,
    node: &'a NodeSettings,
    settings: &'a ServeSettings,
    stop: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
) -> BoxFuture<'a, Result<Option<Node>, NodeError>> {
    Box::pin(start_or_repair(world, node, settings, stop))
}

async fn start_or_repair(
    world: &World,
    node: &NodeSettings,
    settings: &ServeSettings,
    mut stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
) -> Result<Option<Node>, NodeError> {
    // Hashing a long log takes a while, and a stop that is requested meanwhile is heeded. If a start is dropped, it
    // leaves behind what a crash leaves.
    let started = tokio::select! {
        biased;
        () = stop.as_mut() => {
            mark!("stopped-while-starting");
            return Ok(None)
        }
        started = Node::start(world.clone(), node.clone()) => started,
    };
    let damage = match started {
        Err(damage) if is_repairable(&damage, node) => damage,
        Err(damage) if node.cluster.is_none() => {
            let sound = Node::open_sound(world.clone(), node.clone(), &damage).await;
            return sound.map(Some).map_err(|why| {
                tracing::error!(%why, "nothing of the damaged log can be shown");
                damage
            });
        }
        started => return started.map(Some),
    };
    tracing::error!(%damage, "the log is damaged: this member is repaired from the others before it serves");
    tokio::select! {
        biased;
        () = stop.as_mut() => return Ok(None),
        repaired = repair(world, node) => repaired?,
        why = turn_away(world, settings) => return Err(NodeError::Failed(why.to_string())),
    }
    tokio::select! {
        biased;
        () = stop => Ok(None),
        started = Node::start(world.clone(), node.clone()) => started.map(Some),
    }
}

/// Turns all callers away for as long as it is polled. It ends only if a connection panics.
async fn turn_away(world: &World, settings: &ServeSettings) -> ServeError {
    match closed_front(world, settings).await {
        Ok(mut front) => front.accept_until_failure().await,
        Err(why) => {
            // The repair needs no door. What is wrong here is reported again once the node is to be served.
            tracing::error!(%why, "callers cannot be told that this member is being repaired");
            std::future::pending().await
        }
    }
}

async fn closed_front(world: &World, settings: &ServeSettings) -> Result<Front, ServeError> {
    let health = HealthReporter::new();
    say(&health, ServingStatus::NotServing).await;
    let mut routes = Routes::builder();
    routes.add_service(HealthServer::new(HealthService::from_health_reporter(health)));
    let exchange: Arc<Exchange> = Exchange::new(settings.revision)?;
    Front::open(world, settings, routes.routes().prepare(), exchange, Some(CLOSED), None).await
}
