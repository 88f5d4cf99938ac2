//! Whether this node leads, and which one does if it does not.
//!
//! Raft says who leads, but not since when the leader knows everything that was committed before it. It does once the
//! entry that begins its term is applied, which the ledger notes; only then does a leader answer or propose anything.
//! This version of openraft does not step down when nobody answers it, so a leader that has not heard from a quorum for
//! a while does not count as one.

use std::{sync::Arc, time::Duration};

use openraft::{Raft, RaftMetrics};
use tokio::sync::watch;

use super::{
    AppendError,
    ledger::{Led, Ledger},
    network::Links,
    types::{Member, TypeConfig},
};

/// A leader that has heard from no quorum for this long may have been replaced.
const UNHEARD_MAX: Duration = Duration::from_millis(1_500);

/// See the module. All clones are equivalent.
#[derive(Clone)]
pub(super) struct Leadership {
    metrics: watch::Receiver<RaftMetrics<u64, Member>>,
    led: watch::Receiver<Option<Led>>,
    ledger: Arc<Ledger>,
    links: Arc<Links>,
}

impl Leadership {
    pub(super) fn new(raft: &Raft<TypeConfig>, ledger: Arc<Ledger>, links: Arc<Links>) -> Self {
        Self { metrics: raft.metrics(), led: ledger.led(), ledger, links }
    }

    /// The term in which this node leads, and the size of the log when it began.
    ///
    /// # Errors
    /// [`AppendError::NotLeader`], with the member that is believed to lead; [`AppendError::Damaged`] where this life
    /// takes no entries; [`AppendError::Failed`] where this node must end.
    pub(super) fn check(&self) -> Result<Led, AppendError> {
        if let Some(why) = self.ledger.failure() {
            return Err(AppendError::Failed(why));
        }
        if let Some(why) = self.ledger.read_only() {
            return Err(AppendError::Damaged(why.to_owned()));
        }
        let metrics = self.metrics.borrow();
        let led = self.led.borrow().filter(|led| led.term == metrics.current_term && metrics.state.is_leader());
        mark!("leader-was-cut-off", led.is_some() && !self.is_heard());
        match led {
            Some(led) if self.is_heard() => Ok(led),
            _ => {
                let other = metrics.current_leader.filter(|leader| *leader != self.ledger.settings.node);
                Err(AppendError::NotLeader { leader: other.and_then(|leader| self.ledger.name_of(leader)) })
            }
        }
    }

    /// Returns whether a quorum has answered lately. What counts is when the answers came: how long they were on their
    /// way says how far away the others are, not whether they are there.
    fn is_heard(&self) -> bool {
        self.ledger.settings.cluster.is_none()
            || self.ledger.with_membership(|members| self.links.is_heard(members, UNHEARD_MAX))
    }
}
