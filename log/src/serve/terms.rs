//! What every connection is given.

use std::sync::Arc;

use gapless_world::{World, doorstep::Doorstep, refusals::Refusals};
use tokio::sync::watch;
use tonic::service::Routes;

use super::{Deadlines, gate::Gate, places::Places};
use crate::schema::Exchange;

/// What every connection is given.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) world: World,
    pub(super) routes: Routes,
    pub(super) deadlines: Deadlines,
    pub(super) doorstep: Doorstep,
    pub(super) refusals: Refusals,
    /// True from the moment at which the server stops.
    pub(super) draining: watch::Receiver<bool>,
    #[cfg(feature = "rehearsal")]
    pub(super) reply_hook: Option<super::ReplyHook>,
    /// What is known of schemas, shared by all connections.
    pub(super) exchange: Arc<Exchange>,
    /// Why no caller is served, if none is: only the health service answers then.
    pub(super) closed: Option<&'static str>,
    /// Decides who may call what; `None` if every caller may make every call.
    pub(super) gate: Option<Gate>,
    pub(super) places: Places,
}
