//! How new the log is that this node shows, of which [`Freshness`](super::Freshness) knows what others said.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{
        super::cluster_wire::Fresh,
        freshness::{Bound, whole_ms},
    },
    Ledger,
};

impl Ledger {
    /// How new what this node shows is.
    pub(in crate::cluster) fn bound(&self) -> Bound {
        if self.settings.cluster.is_none() {
            // Nobody else can acknowledge anything; but what is damaged may have held more.
            let age = self.read_only().is_none().then_some(Duration::ZERO);
            return Bound { size: *self.committed().borrow(), age };
        }
        // Before the size is read: what is acknowledged from now on may be missing in it.
        let (led, confirmed) = self.confirmed();
        let size = *self.committed().borrow();
        let confirmed = confirmed.filter(|_| size >= led);
        let as_of = self.freshness.covered(size).max(confirmed);
        let age = as_of.map(|as_of| Duration::from_millis(whole_ms(Instant::now().saturating_duration_since(as_of))));
        Bound { size, age }
    }

    /// What the leader of `term`, which is this node, can tell a member.
    pub(in crate::cluster) fn word(&self, to: u64, term: u64) -> Option<Fresh> {
        (*self.led().borrow()).filter(|led| led.term == term)?;
        let (led, confirmed) = self.confirmed();
        let size = *self.committed().borrow();
        self.freshness.word(to, confirmed?, size).filter(|_| size >= led)
    }

    /// With how many leaves this node last began to lead, and the newest moment of that term that a quorum confirmed. What
    /// was acknowledged before it is shown here, once so many leaves are.
    fn confirmed(&self) -> (u64, Option<Instant>) {
        let Some(led) = *self.led().borrow() else { return (0, None) };
        let own = self.settings.node;
        (led.size, self.with_membership(|membership| self.freshness.confirmed(own, led.term, membership)))
    }
}
