//! Performs steps: when one begins, what it does, what proves that it bit, and how it is undone.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::atomic::Ordering,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Director;
use crate::{
    fault::{Action, Effect, NetworkFault, ProcessFault, ReplyFault},
    history::{Down, Moment, Name, What},
    link::LinkFault,
    scenario::{self, PlannedStep, Start, Targets},
    sim::{
        disk::SimDisk,
        stage::{Role, Stage},
    },
};

/// How long a host that was asked to stop may take before it is killed, while nothing keeps it from stopping.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The state of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Waiting,
    Active,
    Done,
    NotRun,
}

/// A host that is to stop.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    /// Whether it ran and was asked to stop. Otherwise there is nothing to wait for, and nothing that it could show.
    asked: bool,
    /// How long it could have stopped and did not.
    free: Duration,
    /// The time up to which `free` was counted.
    seen: Duration,
}

/// The director's knowledge of one step.
#[derive(Debug, Default)]
pub(super) struct StepState {
    pub(super) status: Status,
    /// When the step is undone; `None`: at the final heal.
    pub(super) ends_at: Option<Duration>,
    began_at: Duration,
    pub(super) hosts: Vec<Name>,
    pub(super) bit: bool,
    /// What the step did to hosts, in words; links count what it did to them.
    pub(super) did: Vec<String>,
    /// Hosts that are to be down, and how far they have come.
    stopping: BTreeMap<Name, Stopping>,
    /// Hosts that are to come up again at this time.
    rising: BTreeMap<Name, Duration>,
    /// The next crash of a churn, and the number of crashes so far.
    next_crash: Option<Duration>,
    crashes: u32,
    /// The number of flipped replies that were counted as moments.
    flips_told: u64,
    syncs_held: u64,
    /// The readings of wall clocks that the step had set wrong and has set right again.
    pub(super) wrong_reads: crate::seam::WrongReads,
    /// What the step's hosts reported about their memory while it lasted.
    pub(super) pressure: super::memory::Pressure,
    pub(super) upgrading: super::upgrades::Upgrading,
    pub(super) readings: super::readings::Around,
    /// The machines that it brought in place of lost ones.
    pub(super) machines: BTreeMap<Name, u32>,
}

impl Director<'_> {
    /// Begins, continues and ends every step whose time has come.
    pub(super) fn direct_steps(&mut self) {
        if self.began.is_zero() {
            return;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for index in 0..self.steps.len() {
                changed |= match self.steps[index].status {
                    Status::Waiting => {
                        self.foresee_expiry(index);
                        self.begin_if_due(index)
                    }
                    Status::Active => self.go_on(index),
                    Status::Done => {
                        self.look_for_late_evidence(index);
                        false
                    }
                    Status::NotRun => false,
                };
            }
        }
        self.arm();
    }

    /// Ends every step that has no end of its own, in reverse order of beginning.
    pub(super) fn heal(&mut self) {
        let mut active: Vec<usize> =
            (0..self.steps.len()).filter(|index| self.steps[*index].status == Status::Active).collect();
        active.sort_by_key(|index| std::cmp::Reverse((self.steps[*index].began_at, *index)));
        for index in active {
            self.steps[index].ends_at = Some(self.now);
            self.go_on(index);
        }
        self.heal_certificates();
    }

    fn begin_if_due(&mut self, index: usize) -> bool {
        let due = match &self.plan.steps[index].start {
            Start::At(at) => Some(self.began + *at),
            Start::After { moment, wait, since } => {
                self.moments.when(moment, since.as_ref(), self.began).map(|at| at + *wait)
            }
        };
        if let Some(due) = due {
            self.read_around_the_beginning(index, due);
        }
        if due.is_none_or(|due| due > self.now) {
            return false;
        }
        self.begin(index);
        true
    }

    pub(super) fn begin(&mut self, index: usize) {
        let step: &PlannedStep = &self.plan.steps[index];
        let struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        let hosts = struck.unwrap_or_else(|| self.struck_hosts(&step.action));
        mark!("nobody-to-strike", step.action.on().is_some() && hosts.is_empty());
        let state = &mut self.steps[index];
        state.status = Status::Active;
        state.began_at = self.now;
        state.hosts.clone_from(&hosts);
        state.ends_at = match step.action.fault().end {
            crate::fault::End::Instant => Some(self.now),
            crate::fault::End::Healed => step.duration.map(|length| self.now + length),
            crate::fault::End::After(default) => Some(self.now + step.duration.unwrap_or(default)),
        };
        self.moments.reached(scenario::Moment::Begins(step.name.clone()), self.now);
        self.record_step(index, Moment::Begins { hosts: hosts.clone() });
        self.read_around_the_end(index);
        self.strike_with(index, &hosts);
    }

    /// Does to these hosts, or to its links, what a step does as it begins.
    fn strike_with(&mut self, index: usize, hosts: &[Name]) {
        match self.plan.steps[index].action.effect() {
            Effect::Process(fault) => self.begin_process(index, *fault, hosts),
            Effect::Disk { fault, path } => self.begin_disk(index, *fault, path),
            Effect::Network(fault) => self.begin_network(index, *fault, hosts),
            Effect::Reply(ReplyFault::BitFlip { every }) => {
                for host in hosts {
                    if let Some(actor) = self.stage.actor(host) {
                        let mut flips = actor.flips.lock().unwrap_or_else(PoisonError::into_inner);
                        flips.active.insert(index, (*every, self.now));
                    }
                }
            }
            Effect::Certificate(fault) => self.begin_certificates(index, *fault),
            Effect::Clock(fault) => self.begin_clock(index, *fault),
            Effect::Release(_) => self.begin_upgrade(index),
            Effect::Load(fault) => self.begin_memory(index, *fault),
        }
    }

    fn begin_process(&mut self, index: usize, fault: ProcessFault, hosts: &[Name]) {
        match fault {
            ProcessFault::Crash => hosts.iter().for_each(|host| self.take_down(index, host, false)),
            ProcessFault::PowerLoss => hosts.iter().for_each(|host| self.take_down(index, host, true)),
            ProcessFault::Wipe => hosts.iter().for_each(|host| self.wipe(index, host)),
            ProcessFault::Replace => hosts.iter().for_each(|host| self.replace(index, host)),
            ProcessFault::Restart => {
                hosts.iter().for_each(|host| self.stop(index, host));
                // Its length is the time between stop and start: it counts from the stop.
                self.steps[index].ends_at = None;
            }
            ProcessFault::Churn { .. } => self.steps[index].next_crash = Some(self.now),
            ProcessFault::Pause => hosts.iter().for_each(|host| self.pause(index, host, true)),
        }
    }

    fn begin_network(&mut self, index: usize, fault: NetworkFault, hosts: &[Name]) {
        match fault {
            NetworkFault::Isolate => {
                let others: Vec<Name> = self.others(hosts);
                self.strike_links(index, hosts, &others, true, LinkFault::Stall);
            }
            NetworkFault::Partition => self.strike(index, LinkFault::Stall),
            NetworkFault::Blackhole => self.strike(index, LinkFault::Blackhole),
            NetworkFault::Refuse => self.strike(index, LinkFault::Refuse),
            NetworkFault::Latency { delay, jitter } => self.strike(index, LinkFault::Delay { delay, jitter }),
            NetworkFault::Reset => {
                let Some(link) = self.plan.steps[index].action.link() else { return };
                let (a, b) = link.ends();
                let (a, b) = (self.resolve(a), self.resolve(b));
                for (x, y) in pairs(&a, &b) {
                    self.stage.links.reset(index, x, y);
                }
            }
            NetworkFault::SlowReader { bytes } => {
                let others = self.others(hosts);
                for (reader, sender) in pairs(hosts, &others) {
                    self.stage.links.apply(index, sender, reader, LinkFault::Throttle { bytes });
                }
            }
        }
    }

    /// Does what an active step does in this tick. Returns whether the step ended.
    fn go_on(&mut self, index: usize) -> bool {
        self.churn(index);
        self.finish_stops(index);
        self.raise(index);
        self.count_flips(index);
        let upgrading = self.go_on_upgrading(index);
        self.go_on_with_certificates(index);
        self.look_for_evidence(index);
        if upgrading || self.steps[index].ends_at.is_none_or(|end| end > self.now) {
            return false;
        }
        self.undo(index);
        self.raise(index);
        self.finish_stops(index);
        let state = &self.steps[index];
        if !state.stopping.is_empty() || !state.rising.is_empty() {
            return false;
        }
        self.look_for_evidence(index);
        self.steps[index].status = Status::Done;
        let evidence = self.evidence(index);
        self.record_step(index, Moment::Ended { evidence });
        self.moments.reached(scenario::Moment::Ended(self.plan.steps[index].name.clone()), self.now);
        true
    }

    fn undo(&mut self, index: usize) {
        self.steps[index].next_crash = None;
        let hosts = self.steps[index].hosts.clone();
        match self.plan.steps[index].action.effect() {
            Effect::Process(ProcessFault::Pause) => hosts.iter().for_each(|host| self.pause(index, host, false)),
            Effect::Process(ProcessFault::Restart) | Effect::Network(_) | Effect::Release(_) => {}
            Effect::Process(_) => {
                self.order_replacements(index);
                for host in hosts {
                    if self.held_down.get(&host).is_some_and(|by| by.contains(&index)) {
                        self.steps[index].rising.insert(host, self.now);
                    }
                }
            }
            Effect::Reply(_) => {
                for host in &hosts {
                    if let Some(actor) = self.stage.actor(host) {
                        actor.flips.lock().unwrap_or_else(PoisonError::into_inner).active.remove(&index);
                    }
                }
            }
            Effect::Disk { .. } => self.undo_disk(index),
            Effect::Certificate(_) => self.undo_certificates(index),
            Effect::Clock(_) => self.undo_clock(index),
            Effect::Load(_) => self.undo_memory(index),
        }
        self.stage.links.lift(index);
    }

    // ---- hosts ----

    /// Kills a host on behalf of a step, which then holds it down.
    fn take_down(&mut self, index: usize, host: &Name, dark: bool) {
        if let Some(lost) = self.kill(index, host, dark) {
            let did = match dark {
                true => format!("{host} went dark, {lost} bytes that were not synced lost"),
                false => format!("{host} died while it ran"),
            };
            self.bit(index, did);
        }
    }

    /// Kills a host on behalf of a step, which then holds it down. Returns the bytes lost if it ran.
    pub(super) fn kill(&mut self, index: usize, host: &Name, dark: bool) -> Option<u64> {
        mark!("struck-while-down", self.held_down.contains_key(host));
        self.held_down.entry(host.clone()).or_default().push(index);
        self.stage.kill(host, if dark { Down::PowerLoss } else { Down::Crash }, self.now)
    }

    /// Asks a host to stop on behalf of a step, which then holds it down.
    pub(super) fn stop(&mut self, index: usize, host: &Name) {
        let asked = self.stage.sim.is_host_running(&**host);
        if asked {
            self.stage.ask_to_stop(host, self.now);
        }
        self.held_down.entry(host.clone()).or_default().push(index);
        let stopping = Stopping { asked, free: Duration::ZERO, seen: self.now };
        self.steps[index].stopping.insert(host.clone(), stopping);
    }

    fn churn(&mut self, index: usize) {
        let Effect::Process(ProcessFault::Churn { every, down }) = *self.plan.steps[index].action.effect() else {
            return;
        };
        let Some(due) = self.steps[index].next_crash.filter(|due| *due <= self.now) else { return };
        for host in self.steps[index].hosts.clone() {
            self.take_down(index, &host, false);
            self.steps[index].rising.insert(host, self.now + down);
        }
        let state = &mut self.steps[index];
        state.next_crash = Some(due + every);
        state.crashes += 1;
        self.count(index, self.steps[index].crashes);
    }

    /// Counts each flipped reply as a moment: `STEP:2` is the second.
    fn count_flips(&mut self, index: usize) {
        while self.steps[index].flips_told < self.flips(index) {
            self.steps[index].flips_told += 1;
            self.count(index, u32::try_from(self.steps[index].flips_told).unwrap_or(u32::MAX));
        }
    }

    fn flips(&self, index: usize) -> u64 {
        let flips = self.stage.actors.iter().map(|actor| &actor.flips);
        flips.filter_map(|flips| flips.lock().unwrap_or_else(PoisonError::into_inner).done.get(&index).copied()).sum()
    }

    pub(super) fn count(&mut self, index: usize, n: u32) {
        self.moments.reached(scenario::Moment::Nth(self.plan.steps[index].name.clone(), n), self.now);
        self.record_step(index, Moment::Nth { n });
    }

    /// Handles hosts that stopped when asked, or did not in time. Having to be killed is no evidence of a stop.
    fn finish_stops(&mut self, index: usize) {
        for (host, mut stopping) in self.steps[index].stopping.clone() {
            if !self.is_hindered(&host) {
                stopping.free += self.now - stopping.seen;
            }
            stopping.seen = self.now;
            let late = stopping.free >= STOP_MAX;
            if self.stage.sim.is_host_running(&*host) && !late {
                self.steps[index].stopping.insert(host, stopping);
                continue;
            }
            let killed = late && self.stage.kill(&host, Down::Killed, self.now).is_some();
            if !killed {
                self.stage.mourn(&host, self.now);
            }
            let did = match stopping.asked {
                true => (!killed).then(|| format!("{host} stopped by itself")),
                // The host waits for its supervisor, unless another step keeps it down.
                false => (!self.is_held_by_others(index, &host)).then(|| format!("{host} had ended before")),
            };
            if let Some(did) = did {
                match self.deploys(index) {
                    true => self.steps[index].did.push(did), // it bites once the host serves again
                    false => self.bit(index, did),
                }
            }
            let down = self.plan.steps[index].duration.unwrap_or(Duration::from_secs(1));
            self.steps[index].stopping.remove(&host);
            self.steps[index].rising.insert(host, self.now + down);
            self.steps[index].ends_at = Some(self.now + down);
        }
    }

    /// Returns whether something outside a host keeps it from stopping: it stands still, or its disk is slow.
    fn is_hindered(&self, host: &Name) -> bool {
        self.stage.actor(host).is_some_and(|actor| actor.still.load(Ordering::Relaxed) || actor.disk.is_slow())
    }

    /// Starts hosts whose time has come, unless another step holds them down.
    fn raise(&mut self, index: usize) {
        for (host, at) in self.steps[index].rising.clone() {
            if at > self.now {
                continue;
            }
            self.steps[index].rising.remove(&host);
            if let Some(by) = self.held_down.get_mut(&host) {
                by.retain(|step| *step != index);
                if by.is_empty() {
                    self.held_down.remove(&host);
                    self.stage.start(&host);
                }
            }
        }
    }

    fn pause(&mut self, index: usize, host: &Name, paused: bool) {
        let others = self.others(std::slice::from_ref(host));
        if paused {
            self.strike_links(index, std::slice::from_ref(host), &others, true, LinkFault::Stall);
        }
        let Some(actor) = self.stage.actor(host) else { return };
        actor.still.store(paused, Ordering::Relaxed);
        self.steps[index].syncs_held += actor.disk.pause(paused, self.now);
        self.stage.recorder.record_at(self.now, host, What::Paused { paused });
    }

    // ---- links ----

    fn strike(&mut self, index: usize, fault: LinkFault) {
        let Some(link) = self.plan.steps[index].action.link() else { return };
        let (a, b) = link.ends();
        let (a, b) = (self.resolve(a), self.resolve(b));
        self.strike_links(index, &a, &b, !link.is_one_way(), fault);
    }

    fn strike_links(&self, index: usize, a: &[Name], b: &[Name], both_ways: bool, fault: LinkFault) {
        for (x, y) in pairs(a, b) {
            self.stage.links.apply(index, x, y, fault);
            // A group may stand on both sides; each direction is applied once.
            if both_ways && !(a.contains(y) && b.contains(x)) {
                self.stage.links.apply(index, y, x, fault);
            }
        }
    }

    // ---- evidence ----

    pub(super) fn bit(&mut self, index: usize, did: String) {
        self.steps[index].did.push(did.clone());
        if !std::mem::replace(&mut self.steps[index].bit, true) {
            self.moments.reached(scenario::Moment::Bites(self.plan.steps[index].name.clone()), self.now);
            self.record_step(index, Moment::Bites { evidence: did });
        }
    }

    pub(super) fn look_for_evidence(&mut self, index: usize) {
        self.look_for_replacements(index);
        if self.steps[index].bit {
            return;
        }
        if let Some(evidence) = self.counted_evidence(index) {
            self.steps[index].bit = true;
            self.moments.reached(scenario::Moment::Bites(self.plan.steps[index].name.clone()), self.now);
            self.record_step(index, Moment::Bites { evidence });
        }
    }

    /// Returns what links, disks and servers counted for a step.
    fn counted_evidence(&self, index: usize) -> Option<String> {
        let mut said = Vec::new();
        let links = self.stage.links.evidence(index);
        if links.is_some() {
            said.push(links.to_string());
        }
        if self.steps[index].syncs_held > 0 {
            said.push(format!("{} syncs held", self.steps[index].syncs_held));
        }
        let flipped = self.flips(index);
        if flipped > 0 {
            said.push(format!("{flipped} replies with a flipped bit"));
        }
        said.extend(self.certificate_evidence(index));
        said.extend(self.clock_evidence(index));
        said.extend(self.memory_evidence(index));
        said.extend(self.disk_evidence(index));
        (!said.is_empty()).then(|| said.join(", "))
    }

    fn evidence(&self, index: usize) -> Option<String> {
        let state = &self.steps[index];
        if self.deploys(index) && !state.bit {
            return None; // some host never served at its revision, whatever happened to the others
        }
        if !state.machines.is_empty() && !state.bit {
            return None; // that a machine was lost is no replacement
        }
        let mut said = state.did.clone();
        if state.crashes > 1 {
            said = vec![format!("{} crashes", state.crashes)];
        }
        said.extend(self.counted_evidence(index));
        (!said.is_empty()).then(|| said.join("; "))
    }

    // ---- whom ----

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

    fn resolve(&self, targets: &Targets) -> Vec<Name> {
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

    pub(super) fn others(&self, hosts: &[Name]) -> Vec<Name> {
        let names = self.stage.actors.iter().map(|actor| actor.name.clone());
        names.filter(|name| !hosts.contains(name)).collect()
    }

    // ---- striking at the very instant ----

    /// Arms power losses that wait for an event of the log itself: the power goes within the tick, at the event. Where
    /// the event itself says who leads, hosts that depend on the leader are struck in the next tick instead.
    fn arm(&self) {
        let mut armed = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let Start::After { moment: scenario::Moment::First(event), wait: Duration::ZERO, since } = &step.start
            else {
                continue;
            };
            let open = since.as_ref().is_none_or(|since| self.moments.when(since, None, self.began).is_some());
            if self.steps[index].status == Status::Waiting
                && open
                && *step.action.effect() == Effect::Process(ProcessFault::PowerLoss)
                && let Some(on) = step.action.on()
                && !(event == "leader-change" && on.depend_on_the_leader())
            {
                let disks = self.resolve(on).into_iter().filter_map(|host| {
                    self.stage.actor(&host).filter(|actor| actor.role != Role::Auditor).map(|a| (host, a.disk.clone()))
                });
                armed.push(Armed { index, event: event.clone(), hosts: disks.collect() });
            }
        }
        if armed.is_empty() {
            return self.stage.recorder.set_alarm(None);
        }
        self.stage.recorder.set_alarm(Some(alarm(&self.stage, armed, self.struck.clone())));
    }
}

/// Hosts whose power went within a tick, by the step that caused it and has not begun yet.
pub(super) type Struck = Arc<Mutex<BTreeMap<usize, Vec<Name>>>>;

struct Armed {
    index: usize,
    event: String,
    hosts: Vec<(Name, SimDisk)>,
}

/// Makes an alarm that cuts disk and links of the armed hosts at the first event they wait for, and notes the hosts.
fn alarm(stage: &Stage, armed: Vec<Armed>, struck: Struck) -> crate::sim::recorder::Alarm {
    let (links, recorder) = (stage.links.clone(), stage.recorder.clone());
    let armed = Arc::new(Mutex::new(armed));
    Box::new(move |event, at| {
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.retain(|step| {
            let strikes = step.event == event;
            if strikes {
                mark!("power-lost-at-the-moment");
                let hosts = step.hosts.iter().map(|(host, _)| host.clone()).collect();
                struck.lock().unwrap_or_else(PoisonError::into_inner).insert(step.index, hosts);
                for (host, disk) in &step.hosts {
                    links.darken(host);
                    recorder.silence(host);
                    disk.lose_power(at);
                }
            }
            !strikes
        });
    })
}

/// Returns every pair of two different hosts, one of `a` and one of `b`.
fn pairs<'h>(a: &'h [Name], b: &'h [Name]) -> impl Iterator<Item = (&'h Name, &'h Name)> {
    a.iter().flat_map(move |x| b.iter().map(move |y| (x, y))).filter(|(x, y)| x != y)
}
