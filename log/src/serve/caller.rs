//! Who calls.

use std::sync::Arc;

use gapless_world::tls::Lifetime;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::turns::Turns;

/// Who calls, as its handshake proved. In the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The first DNS name of its certificate.
    pub(super) name: Arc<str>,
    /// True from the moment that the connection winds up: streams end then.
    pub(super) closing: watch::Receiver<bool>,
    /// For how long the connection may last.
    pub(super) lifetime: Lifetime,
    /// The order of its unary appends.
    pub(super) turns: Turns,
}

impl Caller {
    /// Fails while a certificate of the connection does not count: until that is noticed the connection is still there,
    /// and streams ask before they take or give anything.
    pub(super) fn still_certified(&self) -> Result<(), Status> {
        self.lifetime.check().map_err(|outside| Status::unavailable(format!("{outside}: connect again")))
    }

    /// Waits until the connection winds up. Cancel safe.
    pub(super) async fn closed(&mut self) {
        // Fails where the connection is gone, which is as good an end.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}

/// Who calls. Every request that came in over a connection of this room has one.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("the caller is not known"))
}
