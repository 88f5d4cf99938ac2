//! How fresh the log is that this node shows; [`Freshness`](super::Freshness) knows what others said about it.

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
    /// How fresh the log is that this node shows.
    pub(in crate::cluster) fn bound(&self) -> Bound {
        if self.settings.cluster.is_none() {
            // Nobody else can acknowledge anything; but a damaged log may have held more.
            let age = self.read_only().is_none().then_some(Duration::ZERO);
            return Bound { size: *self.committed().borrow(), age };
        }
        // Taken before the size is read: what is acknowledged after this may be missing in it.
        let (led, confirmed) = self.confirmed();
        let size = *self.committed().borrow();
        let confirmed = confirmed.filter(|_| size >= led);
        let as_of = self.freshness.covered(size).max(confirmed);
        let age = as_of.map(|as_of| Duration::from_millis(whole_ms(Instant::now().saturating_duration_since(as_of))));
        Bound { size, age }
    }

    /// What this node, as the leader of `term`, can tell a member.
    pub(in crate::cluster) fn word(&self, to: u64, term: u64) -> Option<Fresh> {
        (*self.led().borrow()).filter(|led| led.term == term)?;
        let (led, confirmed) = self.confirmed();
        let size = *self.committed().borrow();
        self.freshness.word(to, confirmed?, size).filter(|_| size >= led)
    }

    /// The number of leaves with which this node last began to lead, and the newest moment of that term that a quorum
    /// confirmed. Everything that was acknowledged before that moment is shown here once that many leaves are.
    fn confirmed(&self) -> (u64, Option<Instant>) {
        let Some(led) = *self.led().borrow() else { return (0, None) };
        let own = self.settings.node;
        (led.size, self.with_membership(|membership| self.freshness.confirmed(own, led.term, membership)))
    }
}
