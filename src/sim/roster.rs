//! The roster: the hosts of a run, in the one order that everything else follows.
//!
//! Its order decides more than it seems to. A host's place is its index in the seam and so the stream of its random
//! bytes, its disk draws from streams with that index, its address comes from the order in which names are looked up,
//! and turmoil shuffles hosts from the order in which they were added. Another order is another run.

use std::slice;

use crate::{
    history::Name,
    scenario::Plan,
    seam::{self, HostIndex},
};

/// The name under which the harness itself stands in a history.
pub(super) const HARNESS: &str = "harness";

/// The kind of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostKind {
    Server,
    Client,
    Auditor,
    Issuer,
}

/// A host of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RosterEntry {
    pub(super) name: Name,
    pub(super) kind: HostKind,
    pub(super) index: HostIndex,
}

/// All hosts of a run: servers, clients, the auditor, and the issuer if there is one.
#[derive(Debug, Clone)]
pub(super) struct Roster(Vec<RosterEntry>);

impl Roster {
    pub(super) fn of(plan: &Plan) -> Roster {
        let kinds = [
            (HostKind::Server, plan.servers.as_slice()),
            (HostKind::Client, plan.clients.as_slice()),
            (HostKind::Auditor, slice::from_ref(&plan.auditor)),
            (HostKind::Issuer, plan.issuer.as_slice()),
        ];
        let hosts = kinds.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)));
        // The index below the first one is that of the driver, which is the harness.
        let hosts = hosts.zip(seam::DRIVER + 1..);
        Roster(hosts.map(|((kind, name), index)| RosterEntry { name: name.as_str().into(), kind, index }).collect())
    }

    /// Returns the hosts in order.
    pub(super) fn hosts(&self) -> &[RosterEntry] {
        &self.0
    }

    /// Returns the names of all hosts of a kind, in order.
    pub(super) fn names_of(&self, kind: HostKind) -> Vec<Name> {
        self.0.iter().filter(|host| host.kind == kind).map(|host| host.name.clone()).collect()
    }

    /// Returns the names of all hosts by their index in the seam, the harness first.
    pub(super) fn names(&self) -> Vec<Name> {
        std::iter::once(HARNESS.into()).chain(self.0.iter().map(|host| host.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stand_in_one_order_and_their_places_are_their_indexes() {
        let text = "title = \"t\"\n[cluster]\nservers = 2\nrenew-before = \"30s\"\n[workload]\nclients = 2\n\
                    appends = \"1/s\"\nfor = \"9s\"\n";
        let scenario = crate::scenario::parse("t.toml".as_ref(), text).expect("valid");
        let roster = Roster::of(&crate::scenario::plan(&scenario, 7));
        let names = roster.names();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        assert_eq!(names, ["harness", "server-1", "server-2", "client-1", "client-2", "auditor", "issuer"]);
        assert!(roster.hosts().iter().all(|host| *names[host.index] == *host.name));
        assert_eq!(roster.names_of(HostKind::Client), [Name::from("client-1"), Name::from("client-2")]);
    }
}
