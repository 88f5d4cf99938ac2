//! Courses of several steps that lead to one rare situation, each with the values and the waits that this takes. Chance
//! would not bring them together in a whole night.

use std::time::Duration;

use super::{dice::Dice, scene::Scene, sequel::BLOWS};
use crate::{
    fault::{Action, End, HostRef, Link, Value, find},
    scenario::{Moment, Start, Step},
};

/// A course that may begin with a fault.
struct Plot {
    after: &'static [&'static str],
    /// In how many of sixteen cases it follows.
    in_sixteen: u64,
    /// Adds the steps, and gives the first one the values that they need. Returns `None` if the scene lacks the hosts
    /// for it.
    play: fn(&mut Course<'_>) -> Option<()>,
}

static PLOTS: &[Plot] = &[
    Plot { after: &["torn-write"], in_sixteen: 12, play: lost_after_its_word },
    Plot { after: &["replace"], in_sixteen: 3, play: lost_with_its_first_entry },
    Plot { after: &["replace", "wipe"], in_sixteen: 5, play: change_left_half_way },
    Plot { after: &["replace", "wipe"], in_sixteen: 5, play: change_left_undecided },
    Plot { after: &["bit-rot"], in_sixteen: 3, play: damage_met_by_readers },
    Plot { after: &["bit-rot"], in_sixteen: 4, play: lost_in_its_repair },
    Plot { after: &["bit-rot"], in_sixteen: 4, play: repaired_by_one_that_lags },
    Plot { after: &["bit-rot"], in_sixteen: 6, play: repaired_with_a_tail_that_nobody_took },
    Plot { after: END_CLIENTS, in_sixteen: 6, play: lost_with_a_place_to_close },
    Plot { after: BLOWS, in_sixteen: 1, play: leaders_in_a_row },
    Plot { after: &["slow-disk"], in_sixteen: 5, play: sent_while_the_first_one_waits },
];

/// Faults that end the process of a client, or cut the client off from the log.
static END_CLIENTS: &[&str] = &["crash", "power-loss", "restart", "isolate"];

/// The steps of a plot while they are being built.
struct Course<'a> {
    dice: &'a mut Dice,
    scene: &'a Scene<'a>,
    first: Step,
    more: Vec<Step>,
    name: &'a dyn Fn(usize) -> String,
}

/// Returns the steps of a course that begins with `first`, or `None` if there is to be no course. `name` names the n-th
/// step behind `first`.
pub(super) fn of(
    dice: &mut Dice,
    scene: &Scene<'_>,
    first: &Step,
    name: &dyn Fn(usize) -> String,
) -> Option<Vec<Step>> {
    let fault = first.action.name();
    for plot in PLOTS.iter().filter(|plot| plot.after.contains(&fault)) {
        if dice.below(16) < plot.in_sixteen {
            let mut course = Course { dice, scene, first: first.clone(), more: Vec::new(), name };
            (plot.play)(&mut course)?;
            return Some(std::iter::once(course.first).chain(course.more).collect());
        }
    }
    None
}

impl Course<'_> {
    /// Rebuilds the action of the first step on these hosts with these values, and makes the step last at least this
    /// long.
    fn first(&mut self, on: Vec<HostRef>, values: &[(&'static str, Value)], least_ms: u64) -> Option<()> {
        self.first.action = self.scene.with(self.dice, self.first.action.fault(), on, values)?;
        let least = Duration::from_millis(least_ms);
        self.first.duration = self.first.duration.map(|duration| duration.max(least));
        Some(())
    }

    /// Makes this many bits of the entries rot on the disk.
    fn rots(&mut self, bits: u64, least_ms: u64) -> Option<()> {
        let path = self.scene.entries_path().map(|path| ("path", Value::Path(path.to_owned())));
        let values: Vec<_> = std::iter::once(("bits", Value::Count(bits))).chain(path).collect();
        let on = self.first.action.on()?.to_vec();
        self.first(on, &values, least_ms)
    }

    /// Makes a new machine take the place of the one that is struck.
    fn replaces(&mut self) -> Option<()> {
        self.scene.is_led().then_some(())?;
        let on = self.first.action.on()?.to_vec();
        self.first.action = self.scene.with(self.dice, find("replace")?, on, &[])?;
        Some(())
    }

    /// Adds a step.
    fn step(
        &mut self,
        fault: &str,
        on: Vec<HostRef>,
        values: &[(&'static str, Value)],
        start: Start,
        ms: u64,
    ) -> Option<()> {
        let fault = find(fault)?;
        let action = self.scene.with(self.dice, fault, on, values)?;
        let duration = (fault.end != End::Instant).then(|| Duration::from_millis(ms));
        self.add(action, start, duration);
        Some(())
    }

    /// Adds a partition that begins this long after the first step.
    fn partition(&mut self, one: Vec<HostRef>, other: Vec<HostRef>, wait_ms: u64, ms: u64) -> Option<()> {
        let action = self.scene.on_link("partition", Link::Between(one, other))?;
        self.add(action, self.later(wait_ms), Some(Duration::from_millis(ms)));
        Some(())
    }

    fn add(&mut self, action: Action, start: Start, duration: Option<Duration>) {
        self.more.push(Step { name: (self.name)(self.more.len()), duration, action, start, line: 0 });
    }

    /// Starts with the first such event since the previous step began.
    fn meets(&self, event: &str, wait_ms: u64) -> Option<Start> {
        self.since(self.more.last().unwrap_or(&self.first), event, wait_ms)
    }

    /// Starts with the first such event since the first step began.
    fn meets_from_the_first(&self, event: &str, wait_ms: u64) -> Option<Start> {
        self.since(&self.first, event, wait_ms)
    }

    fn since(&self, step: &Step, event: &str, wait_ms: u64) -> Option<Start> {
        self.scene.moments().iter().find(|moment| **moment == event)?;
        let (moment, since) = (Moment::First(event.to_owned()), Some(Moment::Begins(step.name.clone())));
        Some(Start::After { moment, wait: Duration::from_millis(wait_ms), since })
    }

    /// Starts this long after the first step began.
    fn later(&self, wait_ms: u64) -> Start {
        let moment = Moment::Begins(self.first.name.clone());
        Start::After { moment, wait: Duration::from_millis(wait_ms), since: None }
    }

    /// Returns the hosts that the first step strikes.
    fn same(&self) -> Vec<HostRef> {
        vec![HostRef::Step(self.first.name.clone())]
    }

    /// Draws one of the faults that take a leader away.
    fn blow(&mut self) -> &'static str {
        self.dice.pick(BLOWS).copied().unwrap_or(BLOWS[0])
    }
}

fn latency(ms: u64) -> (&'static str, Value) {
    ("latency", Value::Duration(Duration::from_millis(ms)))
}

/// A lying disk loses what its host has just acknowledged, before anything else on that disk says that it was there. If
/// the hosts are close together, that is the case once the leader commits; if they are far apart, a follower completes
/// its own sync long before the leader hears of it.
fn lost_after_its_word(course: &mut Course<'_>) -> Option<()> {
    let path = course.scene.entries_path().filter(|_| !course.dice.one_in(4));
    let path = path.map(|path| ("path", Value::Path(path.to_owned())));
    let values: Vec<_> = std::iter::once(("nth", Value::Count(1))).chain(path).collect();
    let on = course.first.action.on()?.to_vec();
    course.first(on, &values, 10_000)?;
    let latency = course.scene.latency_ms();
    let start = match latency {
        0..=10 => {
            let wait = course.dice.below(12);
            course.meets("batch-committed", wait)?
        }
        _ => {
            let wait = course.dice.between(latency * 14 / 10, latency * 22 / 10) + course.dice.below(8);
            course.meets("batch-synced", wait)?
        }
    };
    let down = course.dice.magnitude(50, 4_000);
    course.step("power-loss", course.same(), &[], start, down)
}

/// A new machine with a slow disk is lost between its first entry and the note that it has one.
fn lost_with_its_first_entry(course: &mut Course<'_>) -> Option<()> {
    let slow = course.dice.magnitude(50, 1_000);
    let start = course.meets("member-changed", 0)?;
    course.step("slow-disk", course.same(), &[latency(slow)], start, 20_000)?;
    let wait = course.dice.between(slow, slow * 4);
    let (fault, down) = (if course.dice.one_in(2) { "crash" } else { "power-loss" }, course.dice.magnitude(50, 2_000));
    let moment = Moment::Begins(course.more.first()?.name.clone());
    let start = Start::After { moment, wait: Duration::from_millis(wait), since: None };
    course.step(fault, course.same(), &[], start, down)
}

/// A leader is lost in the middle of a change of the members, which slow disks draw out. The next leader finds the
/// change half done, and for a while the members differ about who they are. If the old leader is cut off for long, it
/// cannot tell its operator how the change ended.
///
/// From the first entry of a new machine to the change of its vote takes about five syncs.
fn change_left_half_way(course: &mut Course<'_>) -> Option<()> {
    course.replaces()?;
    let slow = course.dice.between(60, 300);
    if !course.dice.one_in(4) {
        let start = if course.dice.one_in(4) { course.later(0) } else { course.meets("member-changed", 0)? };
        course.step("slow-disk", vec![HostRef::Servers], &[latency(slow)], start, 20_000)?;
    }
    let wait =
        if course.dice.one_in(4) { course.dice.between(0, slow * 12) } else { course.dice.between(slow * 5, slow * 7) };
    let fault = course.blow();
    let start = course.meets_from_the_first("member-changed", wait)?;
    let lasts =
        if course.dice.one_in(3) { course.dice.between(20_000, 35_000) } else { course.dice.magnitude(200, 8_000) };
    course.step(fault, vec![HostRef::Leader], &[], start, lasts)
}

/// The disks of all machines but the new one take longer than a change of the members may take.
fn change_left_undecided(course: &mut Course<'_>) -> Option<()> {
    course.replaces()?;
    let others = course.scene.servers_but(course.first.action.on()?)?;
    let (slow, wait) = (course.dice.between(10_000, 60_000), course.dice.below(500));
    let start = course.meets("member-changed", wait)?;
    course.step("slow-disk", others, &[latency(slow)], start, 40_000)
}

/// A member finds at its start that its disk has rotted, and rebuilds its log from the others. It is lost again in one
/// of the few milliseconds in which the new files take the place of the old ones.
fn lost_in_its_repair(course: &mut Course<'_>) -> Option<()> {
    course.scene.is_led().then_some(())?;
    let bits = course.dice.between(8, 64);
    course.rots(bits, 10_000)?;
    let (wait, down) = (course.dice.magnitude(20, 1_000), course.dice.magnitude(50, 2_000));
    course.step("crash", course.same(), &[], course.later(wait), down)?;
    let (wait, down) = (course.dice.between(0, 30), course.dice.magnitude(50, 4_000));
    let fault = if course.dice.one_in(4) { "crash" } else { "power-loss" };
    let start = course.meets_from_the_first("replica-rebuilt", wait)?;
    course.step(fault, course.same(), &[], start, down)
}

/// The log of a member rots and the member is lost while others lag behind. As it finds the damage, the leader is lost
/// for long. Only lagging members are left to repair the log, so a quorum could forget what the member had
/// acknowledged.
fn repaired_by_one_that_lags(course: &mut Course<'_>) -> Option<()> {
    course.scene.is_led().then_some(())?;
    let others = course.scene.servers_but(course.first.action.on()?)?;
    let bits = course.dice.between(8, 64);
    course.rots(bits, 20_000)?;
    let lagging = course.dice.some(&others, others.len() / 2);
    let (wait, lags) = (course.dice.below(500), course.dice.between(1_000, 4_000));
    let fault = if course.dice.one_in(2) { "isolate" } else { "pause" };
    course.step(fault, lagging, &[], course.later(wait), lags)?;
    let (wait, down) = (wait + lags - course.dice.between(50, 400), course.dice.magnitude(20, 300));
    course.step("crash", course.same(), &[], course.later(wait), down)?;
    let (wait, lasts) = (course.dice.below(20), course.dice.between(8_000, 30_000));
    let fault = course.blow();
    let start = course.meets_from_the_first("corruption-found", wait)?;
    course.step(fault, vec![HostRef::Leader], &[], start, lasts)
}

/// The log of a member rots. All others stand still for so long that this member leads once they go on. Then it reaches
/// none of them, and they reach no client: it writes what they never receive, and is lost. They elect another leader,
/// which has little to write as long as it hears of no client. In that time the member comes back and repairs its log.
fn repaired_with_a_tail_that_nobody_took(course: &mut Course<'_>) -> Option<()> {
    course.scene.is_led().then_some(())?;
    let others = course.scene.servers_but(course.first.action.on()?)?;
    let bits = course.dice.between(8, 64);
    course.rots(bits, 30_000)?;
    let (wait, still) = (course.dice.below(500), course.dice.between(3_000, 8_000));
    course.step("pause", others.clone(), &[], course.later(wait), still)?;
    let (wait, alone) = (wait + still + course.dice.between(500, 3_000), course.dice.between(1_000, 3_000));
    course.partition(course.same(), others.clone(), wait, alone)?;
    let unheard = course.dice.between(4_000, 10_000);
    course.partition(vec![HostRef::Clients], others, wait, alone + unheard)?;
    let (wait, down) = (wait + alone - course.dice.between(20, 300), course.dice.magnitude(50, 2_000));
    course.step("crash", course.same(), &[], course.later(wait), down)
}

/// A client has kept an entry that the log refused, and is lost before it has closed the place of that entry in the
/// log. Its next life has to close the place, and is lost again.
fn lost_with_a_place_to_close(course: &mut Course<'_>) -> Option<()> {
    course.scene.moments().contains(&"dead-lettered").then_some(())?;
    course.first(vec![HostRef::Clients], &[], 0)?;
    for _ in 0..course.dice.between(2, 4) {
        let wait = course.dice.between(0, 20 + 3 * course.scene.latency_ms());
        let start = course.meets("dead-lettered", wait)?;
        let fault = if course.dice.one_in(2) { "crash" } else { "power-loss" };
        let down = course.dice.magnitude(50, 2_000);
        course.step(fault, vec![HostRef::Clients], &[], start, down)?;
    }
    Some(())
}

/// A small memory budget sends readers to the disk while bits on it are flipped; afterwards the bits are as they were.
fn damage_met_by_readers(course: &mut Course<'_>) -> Option<()> {
    let (bits, lasts) = (course.dice.between(4, 32), course.dice.between(4_000, 15_000));
    course.rots(bits, lasts)?;
    let budget = ("budget", Value::Size(course.dice.between(256 << 10, 512 << 10)));
    let wait = course.dice.below(500);
    let start = course.later(wait);
    course.step("memory-pressure", course.same(), &[budget], start, lasts)
}

/// One leader after the other is lost as it begins to lead.
fn leaders_in_a_row(course: &mut Course<'_>) -> Option<()> {
    course.scene.is_led().then_some(())?;
    course.first(vec![HostRef::Leader], &[], 0)?;
    for _ in 0..course.dice.between(3, 6) {
        let wait = if course.dice.one_in(3) { course.dice.magnitude(1, 50) } else { 0 };
        let (fault, start) = (course.blow(), course.meets("leader-change", wait)?);
        let lasts = course.dice.magnitude(300, 6_000);
        course.step(fault, vec![HostRef::Leader], &[], start, lasts)?;
    }
    Some(())
}

/// Clients lose their connections while entries wait for a disk, and resend the entries before the disk is done.
fn sent_while_the_first_one_waits(course: &mut Course<'_>) -> Option<()> {
    let slow = course.dice.between(400, 2_500);
    course.first(vec![HostRef::Servers], &[latency(slow)], slow * 5)?;
    for nth in 1..=3 {
        let wait = slow * nth + course.dice.below(slow);
        let start = course.later(wait);
        let link = Link::Between(vec![HostRef::Clients], vec![HostRef::Servers]);
        let action = course.scene.on_link("reset", link)?;
        course.add(action, start, None);
    }
    Some(())
}
