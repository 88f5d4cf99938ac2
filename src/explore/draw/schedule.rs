//! When steps happen: in quiet succession, in storms, or aimed at a moment in the middle of an election, a batch, a
//! repair, a replacement, a rollout or a renewal.

use std::time::Duration;

use super::{
    Subject,
    dice::Dice,
    family::{Family, swarm},
    plot,
    scene::{Scene, length},
    sequel,
};
use crate::{
    fault::{Action, End, Fault, Given, HostRef, RevisionRole, Value, find},
    scenario::{Moment, Scenario, Start, Step},
};

/// The most steps that are drawn for one run.
const STEPS_MAX: u64 = 9;

/// How many steps are tried for each step that is wanted, because rules or the file format may refuse some.
const TRIES: u64 = 8;

/// How the steps of a run are distributed.
enum Shape {
    /// Anywhere in the run.
    Spread,
    /// All within a few seconds of one of these times.
    Storms(Vec<u64>),
}

impl Shape {
    fn draw(dice: &mut Dice, work: u64) -> Self {
        let calm = work.saturating_mul(9) / 10;
        match dice.below(10) {
            0..=4 => Shape::Spread,
            5..=7 => Shape::Storms(vec![dice.between(500, calm)]),
            _ => Shape::Storms(vec![dice.between(500, work / 3), dice.between(work / 2, calm)]),
        }
    }

    /// Draws a time in milliseconds.
    fn time(&self, dice: &mut Dice, work: u64) -> u64 {
        match self {
            Shape::Spread => dice.between(1, work.saturating_mul(9) / 10),
            Shape::Storms(times) => {
                let time = dice.pick(times).copied().unwrap_or_default();
                (time + dice.magnitude(0, 3_000)).min(work.saturating_sub(1))
            }
        }
    }
}

/// Draws the steps of a scenario so that `accepts` takes the whole after each of them. Returns the families to which
/// they belong.
pub(super) fn fill(
    dice: &mut Dice,
    subject: &Subject,
    scenario: &mut Scenario,
    accepts: impl Fn(&Scenario) -> bool,
) -> Vec<&'static Family> {
    let families = swarm(dice);
    let faults: Vec<(&'static Family, Vec<&'static Fault>)> = families
        .iter()
        .map(|family| {
            let able = family.faults().filter(|fault| subject.faults.iter().any(|other| other.name == fault.name));
            (*family, able.collect::<Vec<_>>())
        })
        .filter(|(_, faults)| !faults.is_empty())
        .collect();
    let scene = Scene::new(dice, subject, scenario);
    let wanted = if dice.one_in(32) { 0 } else { dice.between(1, STEPS_MAX) };
    // If hosts renew by themselves, certificates change during a run, so their faults are drawn twice as often.
    let often = |family: &Family| match family.name {
        "certificates" if scene.renews().is_some() => 2 * family.weight,
        _ => family.weight,
    };
    let weighted: Vec<usize> =
        faults.iter().enumerate().flat_map(|(at, (family, _))| std::iter::repeat_n(at, often(family))).collect();
    let work = u64::try_from(scenario.workload.duration.as_millis()).unwrap_or(u64::MAX);
    let shape = Shape::draw(dice, work);
    for _ in 0..wanted * TRIES {
        if scenario.steps.len() as u64 >= wanted {
            break;
        }
        let family = dice.pick(&weighted).and_then(|at| faults.get(*at));
        let Some(mut fault) = family.and_then(|(_, faults)| dice.pick(faults)).copied() else { break };
        // Certificates outlast a run unless one is made to expire.
        if fault.name.starts_with("cert-") && scene.renews().is_some() && dice.one_in(2) {
            fault = faults
                .iter()
                .flat_map(|(_, all)| all)
                .find(|other| other.name == "cert-expire")
                .copied()
                .unwrap_or(fault);
        }
        let before = scenario.steps.len();
        let mut more = group(dice, &scene, fault, scenario, &shape);
        more.truncate(STEPS_MAX as usize - before);
        scenario.steps.extend(more);
        if !accepts(scenario) {
            scenario.steps.truncate(before);
        }
    }
    faults.into_iter().map(|(family, _)| family).collect()
}

/// Draws one step, together with the step by which an operator would repair the damage: an expired certificate is
/// replaced, a revision that the log cannot read is rolled back.
fn group(dice: &mut Dice, scene: &Scene<'_>, fault: &'static Fault, scenario: &Scenario, shape: &Shape) -> Vec<Step> {
    let work = scenario.workload.duration;
    let taken = scenario.steps.len();
    let name = |nth: usize| format!("s{}", taken + nth + 1);
    let mut start = start(dice, scenario, shape, scene.moments());
    if fault.name == "cert-expire"
        && let Start::After { wait, .. } = &mut start
    {
        *wait = (*wait).max(Duration::from_millis(1));
    }
    let (action, cure) = match fault.name {
        "upgrade" if scene.breaks() && dice.one_in(4) => {
            let Some(host) = scene.one_host(dice) else { return Vec::new() };
            // Early enough to be rolled back while the workload runs.
            start = Start::At(Duration::from_millis(shape.time(dice, work.as_millis() as u64 / 2)));
            let to = ("to", Value::Word(RevisionRole::Breaking.word()));
            let Some(mistake) = fault_on(fault.name, vec![host.clone()], &[to]) else { return Vec::new() };
            (mistake, fault_on("rollback", vec![host], &[]))
        }
        _ => {
            let Some(first) = scene.action(dice, fault, &scenario.steps) else { return Vec::new() };
            let cure = match first.on() {
                Some(on) if fault.name == "cert-expire" && !dice.one_in(4) => {
                    let reconnect = ("reconnect", Value::Flag(dice.one_in(2)));
                    fault_on("cert-rotate", on.clone(), &[reconnect])
                }
                _ => None,
            };
            (first, cure)
        }
    };
    let mut duration = length(dice, &action, work);
    match fault.name {
        // Data that is damaged only for a moment is never read.
        "bit-rot" | "torn-write" | "misdirected-write" if !dice.one_in(8) => {
            let least = Duration::from_millis(dice.between(1_000, 10_000));
            duration = duration.map(|duration| duration.max(least));
        }
        // Longer than any call, so that calls that are given up and retried are slow as well.
        "slow-reader" if dice.one_in(3) => {
            let least = Duration::from_millis(dice.between(30_000, 60_000));
            duration = duration.map(|duration| duration.max(least));
        }
        // In the few milliseconds between a write and its sync.
        "power-loss" if dice.one_in(4) => {
            if let Some(written) = scene.written(dice, &scenario.steps) {
                start = written;
            }
        }
        _ => {}
    }
    if fault.name == "rewind" && !action.on().into_iter().flatten().all(HostRef::is_client) {
        // Whatever follows may strike no server before this one is up to date again.
        let start = Start::At(Duration::from_millis(shape.time(dice, work.as_millis() as u64)));
        return vec![Step { name: name(0), duration, action, start, line: 0 }];
    }
    let mut first = Step { name: name(0), duration, action, start, line: 0 };
    if let Some(course) = plot::of(dice, scene, &first, &|nth| name(1 + nth)) {
        return course;
    }
    if let Some(next) = sequel::next_blow(dice, scene, &mut first, name(1), work) {
        return vec![first, next];
    }
    let cure = cure.map(|action| {
        let wait = Duration::from_millis(dice.magnitude(50, 15_000));
        let start = Start::After { moment: Moment::Ended(first.name.clone()), wait, since: None };
        Step { name: name(1), duration: None, action, start, line: 0 }
    });
    let taken = 1 + usize::from(cure.is_some());
    let sequels = sequel::of(dice, scene, &first, work, |nth| name(taken + nth));
    std::iter::once(first).chain(cure).chain(sequels).collect()
}

/// Returns a fault on these hosts. All its values are given.
fn fault_on(fault: &str, on: Vec<HostRef>, values: &[(&'static str, Value)]) -> Option<Action> {
    let values = values.iter().cloned().collect();
    find(fault)?.action(&Given { on: Some(on), values, ..Given::default() })
}

/// Faults that bite whenever they find a host. A step that waits for such a fault to bite does not wait in vain.
const SURE: &[&str] = &["crash", "restart", "churn", "power-loss", "wipe", "isolate", "surge"];

/// Draws when a step begins.
fn start(dice: &mut Dice, scenario: &Scenario, shape: &Shape, moments: &[&'static str]) -> Start {
    let work = u64::try_from(scenario.workload.duration.as_millis()).unwrap_or(u64::MAX);
    let wait = |dice: &mut Dice| match dice.below(3) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(dice.magnitude(1, 100)),
        _ => Duration::from_millis(dice.magnitude(1, 4_000)),
    };
    let before = dice.pick(&scenario.steps);
    match (dice.below(20), before) {
        (0..=6, Some(step)) => {
            let name = step.name.clone();
            let moment = match dice.below(8) {
                0..=2 if SURE.contains(&step.action.name()) || dice.one_in(4) => Moment::Bites(name),
                0..=5 => Moment::Begins(name),
                6 if step.action.fault().counted.is_some() => Moment::Nth(name, dice.between(1, 3) as u32),
                // A step that lasts until the final heal ends when nothing begins any more.
                _ if step.duration.is_none() && step.action.fault().end == End::Healed => Moment::Begins(name),
                _ => Moment::Ended(name),
            };
            Start::After { moment, wait: wait(dice), since: None }
        }
        // Moments count from the time at which all clients are served. Most events come only after an earlier step has
        // caused them.
        (7..=11, Some(before)) if !moments.is_empty() => {
            let event = dice.pick(moments).copied().unwrap_or_default().to_owned();
            let name = before.name.clone();
            let since = match dice.below(4) {
                0 => Moment::Ended(name),
                1 => Moment::Bites(name),
                _ => Moment::Begins(name),
            };
            Start::After { moment: Moment::First(event), wait: wait(dice), since: Some(since) }
        }
        _ => Start::At(Duration::from_millis(shape.time(dice, work))),
    }
}
