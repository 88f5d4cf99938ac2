//! Faults of connections: which links they strike, and how. The links count what that did.

use super::{Director, family::Family};
use crate::{fault::NetworkFault, history::Name, link::LinkFault};

/// A step that strikes connections. All that it did to them is lifted when it ends.
#[derive(Debug)]
pub(super) struct Network {
    fault: NetworkFault,
}

impl Network {
    pub(super) fn new(fault: NetworkFault) -> Self {
        Self { fault }
    }
}

impl Family for Network {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        match self.fault {
            NetworkFault::Partition => director.strike_link(index, LinkFault::Stall),
            NetworkFault::Blackhole => director.strike_link(index, LinkFault::Blackhole),
            NetworkFault::Refuse => director.strike_link(index, LinkFault::Refuse),
            NetworkFault::Latency { delay, jitter } => director.strike_link(index, LinkFault::Delay { delay, jitter }),
            NetworkFault::Isolate => {
                let hosts = &director.steps[index].hosts;
                director.strike_links(index, hosts, &director.others(hosts), true, LinkFault::Stall);
            }
            NetworkFault::Reset => {
                let Some(link) = director.plan.steps[index].action.link() else { return };
                let (a, b) = link.ends();
                let (a, b) = (director.resolve(a), director.resolve(b));
                for (x, y) in pairs(&a, &b) {
                    director.stage.links.reset(index, x, y);
                }
            }
            NetworkFault::SlowReader { bytes } => {
                let hosts = &director.steps[index].hosts;
                for (reader, sender) in pairs(hosts, &director.others(hosts)) {
                    director.stage.links.apply(index, sender, reader, LinkFault::Throttle { bytes });
                }
            }
        }
    }
}

impl Director<'_> {
    /// Strikes the link of a step.
    fn strike_link(&self, index: usize, fault: LinkFault) {
        let Some(link) = self.plan.steps[index].action.link() else { return };
        let (a, b) = link.ends();
        self.strike_links(index, &self.resolve(a), &self.resolve(b), !link.is_one_way(), fault);
    }

    /// Strikes what `a` sends to `b`, and if `both_ways` also what `b` sends to `a`, until the step ends.
    pub(super) fn strike_links(&self, index: usize, a: &[Name], b: &[Name], both_ways: bool, fault: LinkFault) {
        for (x, y) in pairs(a, b) {
            self.stage.links.apply(index, x, y, fault);
            // A group may stand on both sides; each direction is applied once.
            if both_ways && !(a.contains(y) && b.contains(x)) {
                self.stage.links.apply(index, y, x, fault);
            }
        }
    }
}

/// Returns every pair of two different hosts, one of `a` and one of `b`.
fn pairs<'h>(a: &'h [Name], b: &'h [Name]) -> impl Iterator<Item = (&'h Name, &'h Name)> {
    a.iter().flat_map(move |x| b.iter().map(move |y| (x, y))).filter(|(x, y)| x != y)
}
