//! Who may call what, decided by the name in the caller's certificate and before anything of a call is read.
//!
//! A message must be read before it can be judged, so whoever is no member could make a server hold what members may. Here its
//! name decides first: who is known as a member gets what members get; an operator's calls are for operators.
//!
//! A name that is not known is not turned away from the calls of members: a node that joins, or was cut off for long, may
//! be called by a leader of whom its log has not heard, and only the word inside the message tells. Such calls get a few
//! places for all of them together, and little time. What a call makes a server keep begins with a message that is admitted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};

use crate::cluster::Node;

/// Where the calls of members lie, and those of operators.
const REPLICATION: &str = "/gapless.cluster.v1.Replication/";
const MEMBERSHIP: &str = "/gapless.cluster.v1.Membership/";

/// Calls of members by names that are not known, at once.
const STRANGERS_MAX: usize = 4;

/// A call of a name that is not known lasts no longer. What it brings makes the name known, or it was none of a member.
pub(super) const STRANGER_CALL_MAX: Duration = Duration::from_secs(30);

/// The gate of one server.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    node: Node,
    operators: BTreeSet<String>,
    places: Arc<Semaphore>,
}

/// Which way a call goes.
pub(super) enum Way {
    /// That of all calls.
    Usual,
    /// That of a member whose name is not known.
    Stranger(Place),
}

/// A stranger's place, for as long as its call lasts.
pub(super) struct Place(OwnedSemaphorePermit);

impl Gate {
    /// A gate in front of `node`.
    pub(super) fn new(node: Node, operators: &[String]) -> Gate {
        let (operators, places) = (operators.iter().cloned().collect(), Arc::new(Semaphore::new(STRANGERS_MAX)));
        Gate(Arc::new(Inner { node, operators, places }))
    }

    /// Whether that is the name of a member, as far as is known here.
    pub(super) fn is_member(&self, name: &str) -> bool {
        self.0.node.knows_member(name)
    }

    /// Lets a call in, or says why not. Nothing of it but its head has been read.
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
                Ok(Way::Stranger(Place(place)))
            }
            Err(_) => Err(Status::unavailable(format!(
                "`{name}` is not known as a member here, and others of whom that is true are served: try again"
            ))),
        }
    }
}

/// What somebody is told who asks for what is an operator's.
pub(super) fn no_operator(name: &str) -> Status {
    Status::permission_denied(format!(
        "`{name}` is no operator of this log: name it under `operators` in the configuration of this server"
    ))
}

impl Place {
    /// The same answer, which keeps the place until it is given to the end.
    pub(super) fn keep(self, answer: http::Response<Body>) -> http::Response<Body> {
        answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _kept = &self.0;
                frame
            }))
        })
    }
}
