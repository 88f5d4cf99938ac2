//! The director: makes a plan happen, tick by tick, and undoes everything in the end.
//!
//! The phases are: warm-up until every client has had one append acknowledged (t = 0); the workload with the steps; the
//! final heal, in reverse order; a settle phase in which what is owed is delivered; the auditor's last readings; and
//! the report of each client on what it holds.

mod alarm;
mod certificates;
mod clocks;
mod course;
mod disks;
mod family;
mod hosts;
mod load;
mod moments;
mod network;
mod perform;
mod presented;
mod processes;
mod readings;
mod releases;
mod replies;
mod targets;

use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use gapless_world::{LogEvent, error_chain};
use moments::Moments;
use perform::{Status, StepState};

use super::{SimError, auditor::Reading, panicked, roster::HARNESS, stage::Stage, workload::Phase};
use crate::{
    history::{Event, Name, Outcome, StepEvent, What},
    scenario::{Plan, Scenario},
    seam,
};

/// The time within which the first acknowledgement of every client must come.
const WARM_UP_MAX: Duration = Duration::from_secs(30);

/// The pause between the moment when the last client is quiet and the auditor's last readings: replicas learn what was
/// acknowledged a moment after the client does, at the latest by a heartbeat.
const REPLICAS_CATCH_UP: Duration = Duration::from_secs(1);
/// The time on top of `recovers-within` after which a settle phase is given up.
const SETTLE_EXTRA: Duration = Duration::from_secs(5);

/// The auditor's last readings are given up once they found nothing more for the first duration, and at the latest
/// after the second: reading a long log far away takes time.
const AUDIT_MAX: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1_800));

/// The time within which the clients must say what they hold.
const REPORT_MAX: Duration = Duration::from_secs(10);

/// A process that ended by itself is started again after this time, as a supervisor would do.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Makes one plan happen.
pub(super) struct Director<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    stage: Stage,
    steps: Vec<StepState>,
    moments: Moments,
    now: Duration,
    /// The time of t = 0.
    began: Duration,
    /// The leader, as far as the servers reported it.
    leader: Option<Name>,
    /// The hosts that lost power at the very moment of an event, for steps that have not begun yet.
    struck: alarm::Struck,
    /// Hosts that have to be down, with the steps that demand it.
    held_down: BTreeMap<Name, Vec<usize>>,
    /// Hosts that ended by themselves, and when they are started again.
    to_restart: BTreeMap<Name, Duration>,
    last_failure: Option<String>,
    certificates: presented::Presented,
    /// Hosts whose software reports the memory that it uses.
    tell_of_memory: Vec<Name>,
}

impl<'a> Director<'a> {
    /// Makes a director for a stage whose hosts have just started.
    pub(super) fn new(scenario: &'a Scenario, plan: &'a Plan, stage: Stage) -> Self {
        let steps = plan.steps.iter().map(|step| StepState::new(step.action.effect())).collect();
        Self {
            scenario,
            plan,
            stage,
            steps,
            moments: Moments::default(),
            now: Duration::ZERO,
            began: Duration::ZERO,
            leader: None,
            struck: alarm::Struck::default(),
            held_down: BTreeMap::new(),
            to_restart: BTreeMap::new(),
            last_failure: None,
            certificates: presented::Presented::default(),
            tell_of_memory: Vec::new(),
        }
    }

    /// Returns the simulated time since the run began.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Directs the whole run.
    pub(super) fn direct(&mut self) -> Result<(), SimError> {
        self.record_budgets();
        self.warm_up()?;
        self.play()?;
        let catch_up_by = self.now + self.scenario.expect.recovers_within;
        self.settle()?;
        self.stage.order.send_replace(Reading::Last { catch_up_by });
        self.audit()?;
        self.stage.phase.send_replace(Phase::Report);
        self.tick_until(REPORT_MAX, |this| this.stage.workloads.iter().all(|client| client.has_reported()))?;
        Ok(())
    }

    /// Waits for the auditor's last readings.
    fn audit(&mut self) -> Result<(), SimError> {
        let end = self.now + AUDIT_MAX.1;
        let mut found = None;
        while found.replace(self.stage.auditor.found()) != Some(self.stage.auditor.found()) && self.now < end {
            if self.tick_until(AUDIT_MAX.0, |this| this.stage.auditor.is_done())? {
                break;
            }
        }
        Ok(())
    }

    fn warm_up(&mut self) -> Result<(), SimError> {
        self.issue_before_the_run()?;
        if self.tick_until(WARM_UP_MAX, |this| this.stage.workloads.iter().all(|client| client.is_warm()))? {
            let wait = self.t_zero_at_least().saturating_sub(self.now);
            self.tick_until(wait, |_| false)?;
            self.began = self.now;
            self.issue_late()?;
            self.record(What::Began {});
            self.foresee_readings();
            self.stage.phase.send_replace(Phase::Offer { since: self.now });
            return Ok(());
        }
        let cold = self.stage.workloads.iter().filter(|client| !client.is_warm());
        let missing: Vec<&str> = cold.map(|client| &**client.client()).collect();
        let hint = self.last_failure.clone().unwrap_or_else(|| "nothing reported an error".to_owned());
        Err(SimError::NotWarm { waited: self.now, missing: missing.join(", "), hint })
    }

    /// Runs the workload and the steps. It ends when the workload does and every step with an end of its own has come
    /// to it.
    fn play(&mut self) -> Result<(), SimError> {
        let end = self.began + self.scenario.workload.duration;
        while self.now < end {
            self.direct_steps();
            self.tick()?;
        }
        self.record(What::WorkloadEnded {});
        self.stage.phase.send_replace(Phase::Rest);
        self.give_up_waiting();
        while (0..self.steps.len()).any(|index| self.comes_to_an_end(index)) {
            mark!("steps-outlasted-the-work");
            self.direct_steps();
            self.tick()?;
        }
        self.heal();
        // A graceful stop that a step began may still be under way.
        self.tick_until(Duration::from_secs(60), |this| this.steps.iter().all(|step| step.status != Status::Active))?;
        self.record(What::Healed {});
        Ok(())
    }

    fn settle(&mut self) -> Result<(), SimError> {
        self.stage.phase.send_replace(Phase::Settle);
        let limit = self.scenario.expect.recovers_within + SETTLE_EXTRA;
        let quiet = self.tick_until(limit, |this| this.stage.workloads.iter().all(|client| client.is_quiet()))?;
        self.record(What::Settled { quiet });
        self.tick_until(REPLICAS_CATCH_UP, |_| false)?;
        Ok(())
    }

    /// Ticks until `done`, for at most `limit`. Returns whether it was done.
    fn tick_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<bool, SimError> {
        let end = self.now + limit;
        while !done(self) {
            if self.now >= end {
                return Ok(false);
            }
            self.direct_steps();
            self.tick()?;
        }
        Ok(true)
    }

    /// Runs one tick of the world, and handles what follows from it.
    fn tick(&mut self) -> Result<(), SimError> {
        seam::advance_to(self.now);
        let stepped = self.stage.sim.step();
        self.now = self.stage.sim.elapsed();
        seam::advance_to(self.now);
        if let Some(panic) = panicked() {
            return Err(SimError::Panicked { at: self.now, panic });
        }
        if let Some(leak) = seam::leaks().into_iter().next() {
            return Err(SimError::Leak { leak });
        }
        stepped.map_err(|error| SimError::Panicked { at: self.now, panic: error_chain(&*error) })?;
        self.notice();
        self.supervise();
        Ok(())
    }

    /// Looks at the events of the last tick.
    fn notice(&mut self) {
        let recorder = self.stage.recorder.clone();
        recorder.look_at_fresh(|event| self.notice_one(event));
    }

    fn notice_one(&mut self, event: &Event) {
        self.notice_certificates(event);
        self.notice_on_steps(event);
        match &event.what {
            What::Log { event: log } => {
                match log {
                    LogEvent::LeaderChange { node, .. } => {
                        // Any machine of that server may lead.
                        let n = usize::try_from(*node).unwrap_or(usize::MAX);
                        let server = |n: usize| self.plan.servers.get(n % self.plan.servers.len());
                        self.leader = n.checked_sub(1).and_then(server).map(|s| s.as_str().into());
                    }
                    LogEvent::MemoryUsed { .. } if !self.tell_of_memory.contains(&event.host) => {
                        self.tell_of_memory.push(event.host.clone());
                    }
                    _ => {}
                }
                self.moments.saw(log.name(), event.at);
            }
            What::Failed { error } => self.last_failure = Some(format!("{} said: {error}", event.host)),
            What::Returned { outcome: Outcome::Unknown { why }, entry } if self.began.is_zero() => {
                self.last_failure = Some(format!("{} said: {why}", entry.client));
            }
            What::Marked { mark } => self.moments.saw(mark, event.at),
            _ => {}
        }
    }

    /// Starts hosts again that ended by themselves.
    fn supervise(&mut self) {
        if !self.stage.ended.swap(false, Ordering::Relaxed) {
            return; // the usual tick, in which all hosts go on
        }
        for index in 0..self.stage.actors.len() {
            let name = self.stage.actors[index].name.clone();
            if self.stage.sim.is_host_running(&*name) {
                self.to_restart.remove(&name);
                continue;
            }
            // The host is down, so the next tick has to look after it, too.
            self.stage.ended.store(true, Ordering::Relaxed);
            if self.held_down.contains_key(&name) {
                self.to_restart.remove(&name);
            } else if *self.to_restart.entry(name.clone()).or_insert(self.now + RESTART_AFTER) <= self.now {
                self.to_restart.remove(&name);
                mark!("host-ended-by-itself");
                self.stage.mourn(&name, self.now);
                self.stage.start(&name);
            }
        }
    }

    /// Marks steps as not run if their moment did not come while the workload ran. A step that struck within the last
    /// tick begins.
    fn give_up_waiting(&mut self) {
        for index in 0..self.steps.len() {
            let has_struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&index);
            if has_struck {
                self.begin(index);
            } else if self.steps[index].status == Status::Waiting {
                mark!("moment-never-came");
                self.steps[index].status = Status::NotRun;
                let why = match &self.plan.steps[index].start {
                    crate::scenario::Start::At(at) => format!("its start, {at:?}, is after the workload's end"),
                    crate::scenario::Start::After { moment, .. } => {
                        format!("`{moment}` did not come, or came too late, while the workload ran")
                    }
                };
                self.record_step(index, StepEvent::NotRun { why });
            }
        }
        self.stage.recorder.set_alarm(None);
    }

    fn record(&self, what: What) {
        self.stage.recorder.record_at(self.now, &HARNESS.into(), what);
    }

    fn record_step(&self, index: usize, event: StepEvent) {
        let step = self.plan.steps[index].name.as_str().into();
        self.record(What::Step { step, event });
    }
}
