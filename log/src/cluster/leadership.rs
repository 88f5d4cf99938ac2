//! Whether this node leads, and who does where it does not.
//!
//! Raft says who leads, but not from when on the leader knows all that was committed before it: that is once the entry
//! that begins its term is applied, which the ledger notes. Only then does a leader answer or propose anything. Raft of
//! this version does not step down when nobody answers it any more, so a leader that has not heard from a quorum for a
//! while counts as none.

use std::{sync::Arc, time::Duration};

use openraft::{Raft, RaftMetrics};
use tokio::sync::watch;

use super::{
    AppendError,
    ledger::{Led, Ledger},
    network::Links,
    types::{Member, TypeConfig},
};

/// A leader that heard from no quorum for so long may have been replaced.
const UNHEARD_MAX: Duration = Duration::from_millis(1_500);

/// See the module. Clones are the same.
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

    /// The term in which this node leads.
    ///
    /// # Errors
    /// [`AppendError::NotLeader`], with the member that is believed to lead; [`AppendError::Damaged`] where this life takes
    /// nothing; [`AppendError::Failed`] where this node ends.
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

    /// Whether a quorum has answered lately. What counts is when the answers came: how long they were on their way says how
    /// far the others are, not whether they are there.
    fn is_heard(&self) -> bool {
        self.ledger.settings.cluster.is_none()
            || self.ledger.with_membership(|members| self.links.is_heard(members, UNHEARD_MAX))
    }
}
