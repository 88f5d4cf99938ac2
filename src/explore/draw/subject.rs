//! What a draw has to know about the log under test. It is plain data: nothing is asked of the log during a draw.

use crate::{
    fault::{CATALOGUE, Fault, RevisionRole},
    scenario::Sizes,
    system::{AnySystem, Explored, System},
};

/// What can be drawn for one log.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The faults that can be performed on it, in the order of the catalogue.
    pub faults: Vec<&'static Fault>,
    /// The faults that cannot, each with the reason.
    pub left_out: Vec<(&'static Fault, String)>,
    /// The revisions that it can run.
    pub revisions: Vec<RevisionRole>,
    /// The sizes that it takes.
    pub sizes: Sizes,
    /// Its clusters, words and rules.
    pub explored: Explored,
}

impl Subject {
    /// Asks a log what it can suffer, and what may be asked of it.
    pub fn of(system: &impl System) -> Self {
        Self::of_any(system)
    }

    fn of_any(system: &dyn AnySystem) -> Self {
        let revisions: Vec<RevisionRole> =
            system.revisions().iter().filter_map(|word| RevisionRole::read(word)).collect();
        let mut explored = system.explored();
        explored.servers.retain(|count| (1..=system.servers_max()).contains(count));
        if explored.servers.is_empty() {
            explored.servers.push(1);
        }
        let most = explored.servers.iter().copied().max().unwrap_or(1);
        let sizes = system.sizes();
        let mut subject = Self { faults: Vec::new(), left_out: Vec::new(), revisions, sizes, explored };
        for fault in CATALOGUE {
            let upgrades = ["upgrade", "rolling-upgrade", "rollback"].contains(&fault.name);
            let why = match system.can_suffer(fault.name) {
                Err(why) => why.into_owned(),
                Ok(()) if upgrades && subject.revisions.len() < 2 => "this log has one revision".to_owned(),
                Ok(()) if fault.servers_min > most => format!("this log has at most {most} servers"),
                Ok(()) => {
                    subject.faults.push(fault);
                    continue;
                }
            };
            subject.left_out.push((fault, why));
        }
        subject
    }
}
