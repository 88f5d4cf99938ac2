//! Makes every choice that the seed can make, before the run.
//!
//! This is a pure function of scenario and seed. Each step draws from a stream of its own, identified by its place in
//! the file, so a step that is added at the end leaves the others as they were. What only the run knows (which server
//! leads, when the first retry comes) stays a word here.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::fault::{Action, HostRef};

use super::model::{Scenario, Start};

/// One scenario under one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The scenario's title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// The length of one simulated step: the network's latency, but at least 1 ms and at most 5 ms; whole milliseconds.
    pub tick: Duration,
    /// `server-1` and so on.
    pub servers: Vec<String>,
    /// `client-1` and so on.
    pub clients: Vec<String>,
    /// `auditor`.
    pub auditor: String,
    /// `issuer`, if there is one.
    pub issuer: Option<String>,
    /// The steps, in the order of the file.
    pub steps: Vec<PlannedStep>,
}

/// A step whose choices are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its place in the file, from 0.
    pub index: usize,
    /// Its name. Unlike in the file, every name is unique: `crash`, `crash#2`.
    pub name: String,
    /// What it does, and to which hosts.
    pub action: Action<Targets>,
    /// When it begins.
    pub start: Start,
    /// How long it lasts; `None`: until the final heal, or no time at all.
    pub duration: Option<Duration>,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Hosts, as far as they are known before the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// These hosts, each once.
    Fixed(Vec<String>),
    /// The server that leads when the step begins.
    Leader,
    /// The servers that do not lead when the step begins.
    Followers,
    /// The hosts that the step of this name hit.
    SameAs(String),
    /// All of these together; at least two, none of them `Several`.
    Several(Vec<Targets>),
}

impl Targets {
    /// Returns whether these hosts depend on which server leads at the moment at which they are struck.
    pub fn depend_on_the_leader(&self) -> bool {
        match self {
            Targets::Leader | Targets::Followers => true,
            Targets::Several(all) => all.iter().any(Targets::depend_on_the_leader),
            Targets::Fixed(_) | Targets::SameAs(_) => false,
        }
    }
}

/// Makes every choice. Equal arguments give equal plans, in every build.
pub fn plan(scenario: &Scenario, seed: u64) -> Plan {
    let (servers, clients) = (scenario.server_names(), scenario.client_names());
    let steps = scenario.steps.iter().zip(step_names(scenario)).enumerate().map(|(index, (step, name))| {
        let mut draw = Draw::new(seed, index, &servers, &clients);
        PlannedStep {
            index,
            name,
            action: step.action.map(&mut |hosts| draw.resolve(hosts)),
            start: step.start.clone(),
            duration: step.duration,
            line: step.line,
        }
    });
    Plan {
        title: scenario.title.clone(),
        seed,
        tick: tick(scenario.cluster.latency),
        steps: steps.collect(),
        auditor: HostRef::Auditor.to_string(),
        issuer: scenario.cluster.renew_before.map(|_| HostRef::Issuer.to_string()),
        servers,
        clients,
    }
}

/// Returns the names of the steps in a run, where every name is unique: `crash`, `crash#2`.
pub fn step_names(scenario: &Scenario) -> Vec<String> {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    let mut names = Vec::new();
    for step in &scenario.steps {
        let nth = times.entry(&step.name).or_default();
        *nth += 1;
        names.push(if *nth == 1 { step.name.clone() } else { format!("{}#{nth}", step.name) });
    }
    names
}

fn tick(latency: Duration) -> Duration {
    let whole = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(whole.clamp(1, 5))
}

/// The draws of one step.
struct Draw<'p> {
    random: ChaCha8Rng,
    servers: &'p [String],
    clients: &'p [String],
    /// Hosts that `any-…` already drew here: the next draw is another host as long as one is left.
    drawn: Vec<String>,
}

impl<'p> Draw<'p> {
    fn new(seed: u64, index: usize, servers: &'p [String], clients: &'p [String]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(index as u64);
        Draw { random, servers, clients, drawn: Vec::new() }
    }

    fn resolve(&mut self, hosts: &Vec<HostRef>) -> Targets {
        let mut fixed: Vec<String> = Vec::new();
        let mut open = Vec::new();
        for host in hosts {
            match host {
                HostRef::Leader => open.push(Targets::Leader),
                HostRef::Followers => open.push(Targets::Followers),
                HostRef::Step(name) => open.push(Targets::SameAs(name.clone())),
                HostRef::Servers => fixed.extend(self.servers.iter().cloned()),
                HostRef::Clients => fixed.extend(self.clients.iter().cloned()),
                HostRef::AnyServer => fixed.extend(self.any(self.servers)),
                HostRef::AnyClient => fixed.extend(self.any(self.clients)),
                HostRef::Auditor | HostRef::Issuer | HostRef::Server(_) | HostRef::Client(_) => {
                    fixed.push(host.to_string());
                }
            }
        }
        let mut seen = Vec::new();
        fixed.retain(|name| {
            let new = !seen.contains(name);
            seen.push(name.clone());
            new
        });
        if !fixed.is_empty() || open.is_empty() {
            open.insert(0, Targets::Fixed(fixed));
        }
        match open.len() {
            1 => open.remove(0),
            _ => Targets::Several(open),
        }
    }

    /// Draws a name by the remainder of a 64-bit draw: with at most 64 hosts its bias is below 2⁻⁵⁸, and unlike a
    /// library's range it never changes with a version.
    fn any(&mut self, names: &[String]) -> Option<String> {
        let mut left: Vec<_> = names.iter().filter(|name| !self.drawn.contains(name)).collect();
        if left.is_empty() {
            left = names.iter().collect();
        }
        let count = u64::try_from(left.len()).ok().filter(|count| *count > 0)?;
        let drawn = usize::try_from(self.random.next_u64() % count).ok()?;
        let name = left.get(drawn).map(|name| (*name).clone())?;
        self.drawn.push(name.clone());
        Some(name)
    }
}
