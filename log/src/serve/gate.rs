//! Who may call what, decided by the name in the caller's certificate, before anything of a call is read.
//!
//! A message must be read before it can be judged, so a caller that is no member could make a server hold as much as
//! members may. Here the caller's name decides first: a known member gets what members get, and an operator's calls are
//! for operators.
//!
//! An unknown name is not turned away from the calls of members: a node that joins, or that was cut off for long, may
//! be called by a leader of which its log has not heard, and only the message itself can tell. All such calls together
//! get a few places, and little time. A server begins to keep what a call brings only with a message that is admitted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};

use crate::cluster::Node;

/// The paths of the calls of members, and of those of operators.
const REPLICATION: &str = "/gapless.cluster.v1.Replication/";
const MEMBERSHIP: &str = "/gapless.cluster.v1.Membership/";

/// Maximum number of concurrent members' calls by unknown names.
const STRANGERS_MAX: usize = 4;

/// The longest time that a call by an unknown name lasts. What it brings makes the name known, or it was not a member's
/// call.
pub(super) const STRANGER_CALL_MAX: Duration = Duration::from_secs(30);

/// The gate of one server.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    node: Node,
    operators: BTreeSet<String>,
    places: Arc<Semaphore>,
}

/// How a call that is admitted is handled.
pub(super) enum Way {
    /// As every call is.
    Usual,
    /// In one of the places for members' calls by unknown names, for a short time.
    Stranger(StrangersPlace),
}

/// A stranger's place, taken for as long as its call lasts.
pub(super) struct StrangersPlace(OwnedSemaphorePermit);

impl Gate {
    /// Makes a gate in front of `node`.
    pub(super) fn new(node: Node, operators: &[String]) -> Gate {
        let (operators, places) = (operators.iter().cloned().collect(), Arc::new(Semaphore::new(STRANGERS_MAX)));
        Gate(Arc::new(Inner { node, operators, places }))
    }

    /// Returns whether this is the name of a member, as far as this server knows.
    pub(super) fn is_member(&self, name: &str) -> bool {
        self.0.node.knows_member(name)
    }

    /// Admits a call, or says why not. Nothing of the call but its head has been read.
    pub(super) fn admit(&self, name: &str, path: &str) -> Result<Way, Status> {
        if path.starts_with(MEMBERSHIP) && !self.0.operators.contains(name) {
            return Err(no_operator(name));
        }
        if !path.starts_with(REPLICATION) || self.is_member(name) {
            return Ok(Way::Usual);
        }
        match self.0.places.clone().try_acquire_owned() {
            Ok(place) => {
                mark!("unknown-member-called");
                Ok(Way::Stranger(StrangersPlace(place)))
            }
            Err(_) => Err(Status::unavailable(format!(
                "`{name}` is not known as a member here, and others of whom that is true are served: try again"
            ))),
        }
    }
}

/// Returns the refusal of an operator's call that comes from a caller that is no operator.
pub(super) fn no_operator(name: &str) -> Status {
    Status::permission_denied(format!(
        "`{name}` is no operator of this log: name it under `operators` in the configuration of this server"
    ))
}

impl StrangersPlace {
    /// Returns the same response, which keeps the place until it is complete.
    pub(super) fn keep(self, answer: http::Response<Body>) -> http::Response<Body> {
        answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _kept = &self.0;
                frame
            }))
        })
    }
}
