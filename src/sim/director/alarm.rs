//! Power losses at the very instant of an event of the log itself: the power goes within the tick, at the event.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Director, Status};
use crate::{
    fault::{Effect, ProcessFault},
    history::Name,
    scenario::{Moment, Start},
    sim::{disk::SimDisk, recorder::Alarm, roster::HostKind, stage::Stage},
};

/// Hosts whose power went within a tick, by the step that caused it and has not begun yet.
pub(super) type Struck = Arc<Mutex<BTreeMap<usize, Vec<Name>>>>;

/// A step that waits for an event.
struct Armed {
    index: usize,
    event: String,
    hosts: Vec<(Name, SimDisk)>,
}

impl Director<'_> {
    /// Arms power losses that wait for an event of the log. Where the event itself says who leads, hosts that depend on
    /// the leader are struck in the next tick instead.
    pub(super) fn arm(&self) {
        let mut armed = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let Start::After { moment: Moment::First(event), wait: Duration::ZERO, since } = &step.start else {
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
                    self.stage
                        .actor(&host)
                        .filter(|actor| actor.kind != HostKind::Auditor)
                        .map(|a| (host, a.disk.clone()))
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

/// Makes an alarm that cuts disk and links of the armed hosts at the first event they wait for, and notes the hosts.
fn alarm(stage: &Stage, armed: Vec<Armed>, struck: Struck) -> Alarm {
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
