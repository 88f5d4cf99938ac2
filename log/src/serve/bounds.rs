//! How new a response is: what its reader demands is kept or refused, and what is known is stated.
//!
//! A server that cannot meet the demand names a server that might, and never responds with anything older. What it
//! states is known before it looks at the leaves, so a response is at least as new as it says.

use std::time::Duration;

use tonic::Status;

use super::status::not_appended;
use crate::{
    cluster::{AppendError, Bound, Node},
    wire::{self, Freshness, freshness::Demand},
    words::{LEADER, PUSHBACK},
};

/// Returns the bound of a response made at this moment, which meets the demand.
pub(super) async fn kept(node: &Node, asked: Option<Freshness>) -> Result<wire::Bound, Status> {
    match asked.and_then(|asked| asked.demand) {
        None | Some(Demand::Linearizable(false)) => Ok(now(node)),
        Some(Demand::Linearizable(true)) => {
            node.linearizable().await.map_err(not_appended)?;
            Ok(stated(node.bound(), true))
        }
        Some(Demand::AgeMsMax(age_ms_max)) => within(node, Duration::from_millis(age_ms_max)).await,
    }
}

/// Returns the bound of a response made at this moment.
pub(super) fn now(node: &Node) -> wire::Bound {
    stated(node.bound(), false)
}

/// Returns the bound of a response made at this moment, if its age is at most `age_max`. A leader asks its quorum again
/// if it has to.
async fn within(node: &Node, age_max: Duration) -> Result<wire::Bound, Status> {
    let keeps = |bound: &Bound| bound.age.is_some_and(|age| age <= age_max);
    let bound = node.bound();
    if keeps(&bound) {
        return Ok(stated(bound, false));
    }
    let elsewhere = match node.leads() {
        Err(damaged @ AppendError::Damaged(_)) => return Err(not_appended(damaged)),
        Err(elsewhere) => elsewhere,
        Ok(()) => match node.linearizable().await {
            Err(elsewhere) => elsewhere,
            Ok(()) => match Some(node.bound()).filter(keeps) {
                Some(bound) => {
                    mark!("leader-confirmed-its-age");
                    return Ok(stated(bound, true));
                }
                None => AppendError::NotLeader { leader: None },
            },
        },
    };
    Err(too_old(&bound, age_max, elsewhere))
}

fn stated(Bound { size, age }: Bound, linearizable: bool) -> wire::Bound {
    let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    wire::Bound { size, age_ms, linearizable }
}

/// The error says where to go and when to come back, as for an append that met no leader.
fn too_old(bound: &Bound, age_max: Duration, elsewhere: AppendError) -> Status {
    mark!("read-too-old");
    mark!("read-of-unknown-age", bound.age.is_none());
    let age = match bound.age {
        Some(age) => format!("is {} ms old", age.as_millis()),
        None => "is of unknown age: no leader's word was heard yet".to_owned(),
    };
    let (known, most) = (not_appended(elsewhere), age_max.as_millis());
    let mut status = Status::unavailable(format!("what this server shows {age}, and at most {most} ms are asked for"));
    for name in [LEADER, PUSHBACK] {
        known.metadata().get(name).map(|value| status.metadata_mut().insert(name, value.clone()));
    }
    status
}
