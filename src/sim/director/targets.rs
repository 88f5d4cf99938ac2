//! Whom a step strikes: what the plan left open is decided when the step begins.

use super::Director;
use crate::{fault::Action, history::Name, scenario::Targets};

impl Director<'_> {
    /// Returns the hosts that an action strikes if it begins now; of a link, the hosts at both ends.
    pub(super) fn struck_hosts(&self, action: &Action<Targets>) -> Vec<Name> {
        match (action.on(), action.link()) {
            (Some(on), _) => self.resolve(on),
            (None, Some(link)) => {
                let (a, b) = link.ends();
                let mut hosts = self.resolve(a);
                hosts.extend(self.resolve(b));
                hosts.dedup();
                hosts
            }
            (None, None) => Vec::new(),
        }
    }

    /// Returns the hosts for which these words stand now.
    pub(super) fn resolve(&self, targets: &Targets) -> Vec<Name> {
        let leader = || {
            let only = || self.plan.servers.first().filter(|_| self.plan.servers.len() == 1).map(|s| s.as_str().into());
            self.leader.clone().or_else(only)
        };
        match targets {
            Targets::Fixed(names) => names.iter().map(|name| name.as_str().into()).collect(),
            Targets::Leader => leader().into_iter().collect(),
            Targets::Followers => {
                let leads = leader();
                self.plan.servers.iter().map(|s| Name::from(s.as_str())).filter(|s| Some(s) != leads.as_ref()).collect()
            }
            Targets::SameAs(step) => {
                let index = self.plan.steps.iter().position(|other| other.name == *step);
                index.map_or_else(Vec::new, |index| self.steps[index].hosts.clone())
            }
            Targets::Several(all) => {
                let mut hosts: Vec<Name> = Vec::new();
                for host in all.iter().flat_map(|targets| self.resolve(targets)) {
                    if !hosts.contains(&host) {
                        hosts.push(host);
                    }
                }
                hosts
            }
        }
    }

    /// Returns every host that is not one of these.
    pub(super) fn others(&self, hosts: &[Name]) -> Vec<Name> {
        let names = self.stage.actors.iter().map(|actor| actor.name.clone());
        names.filter(|name| !hosts.contains(name)).collect()
    }
}
