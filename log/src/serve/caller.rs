//! The caller of a request.

use std::sync::Arc;

use gapless_world::tls::Lifetime;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::turns::Turns;

/// The caller, as its handshake proved it. It is in the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The first DNS name of its certificate.
    pub(super) name: Arc<str>,
    /// True from the moment at which the connection winds up: streams end then.
    pub(super) closing: watch::Receiver<bool>,
    /// For how long the connection may last.
    pub(super) lifetime: Lifetime,
    /// The order of its unary appends.
    pub(super) turns: Turns,
}

impl Caller {
    /// Fails while a certificate of the connection is not valid. The connection exists until this is noticed, so
    /// streams check before they accept or give anything.
    pub(super) fn still_certified(&self) -> Result<(), Status> {
        self.lifetime.check().map_err(|outside| Status::unavailable(format!("{outside}: connect again")))
    }

    /// Waits until the connection winds up. Cancel safe.
    pub(super) async fn closed(&mut self) {
        // Fails if the connection is gone, which is as good an end.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}

/// Returns the caller. Every request that came in over a connection of this module has one.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("the caller is not known"))
}
