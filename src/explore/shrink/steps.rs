//! Which steps a scenario can do without, and what becomes of the steps that refer to them. All functions are pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    fault::HostRef,
    scenario::{EventPattern, Moment, Scenario, Start, Step},
};

/// How many other seeds are tried for each step.
const OTHER_SEEDS: u64 = 8;

/// How many other seeds are tried while there are many steps. Removing any step changes the course of a run, and a
/// failure that depends on the course may then no longer happen under the same seed.
const NEAR_SEEDS: u64 = 3;

/// Returns all steps, halves, quarters, and so on down to each single step, the last ones first.
fn groups(count: usize) -> Vec<BTreeSet<usize>> {
    let mut groups = Vec::new();
    let mut size = count;
    while size > 0 {
        let mut end = count;
        while end > 0 {
            let begin = end.saturating_sub(size);
            groups.push((begin..end).collect());
            end = begin;
        }
        size /= 2;
    }
    groups
}

/// When each step of a scenario began in the run that failed, since the workload began.
pub(super) type Begins = BTreeMap<String, Duration>;

/// Returns the scenario without groups of its steps, the largest groups first. If other steps wait for a step of the
/// group, or for an event that it can cause, they also begin when they began in the run that failed.
pub(super) fn fewer_steps(scenario: &Scenario, begins: &Begins) -> Vec<Scenario> {
    let reduced = |gone| {
        let timed = |events| without_at_known_times(scenario, gone, begins, events);
        [Some(without(scenario, gone)), timed(false), timed(true)]
    };
    groups(scenario.steps.len()).iter().flat_map(reduced).flatten().collect()
}

/// Returns scenarios with a single step and those that it refers to, because a failure seldom needs more. They keep the
/// seed at first, and then use the few seeds that come next.
pub(super) fn one_course(scenario: &Scenario) -> Vec<Scenario> {
    let all: BTreeSet<usize> = (0..scenario.steps.len()).collect();
    let mut courses: Vec<BTreeSet<usize>> = all.iter().map(|step| course(scenario, *step)).collect();
    courses.sort_by_key(BTreeSet::len);
    let gone: Vec<BTreeSet<usize>> = courses.iter().map(|kept| &all - kept).filter(|gone| !gone.is_empty()).collect();
    let mut reduced: Vec<Scenario> = gone.iter().map(|gone| without(scenario, gone)).collect();
    reduced.extend(gone.iter().flat_map(|gone| under_others(scenario, NEAR_SEEDS, gone)));
    reduced
}

/// Returns a step and the steps to which it refers, directly or indirectly.
fn course(scenario: &Scenario, step: usize) -> BTreeSet<usize> {
    let (mut course, mut next) = (BTreeSet::new(), vec![step]);
    while let Some(at) = next.pop() {
        if !course.insert(at) {
            continue;
        }
        let Some(step) = scenario.steps.get(at) else { continue };
        let moments = match &step.start {
            Start::After { moment, since, .. } => [Some(moment), since.as_ref()],
            Start::At(_) => [None, None],
        };
        let of_hosts = step.action.on().into_iter().flatten().filter_map(|host| match host {
            HostRef::Step(name) => Some(name.as_str()),
            _ => None,
        });
        let named: Vec<&str> = moments.into_iter().flatten().filter_map(Moment::step).chain(of_hosts).collect();
        next.extend(
            scenario.steps.iter().enumerate().filter(|(_, it)| named.contains(&it.name.as_str())).map(|it| it.0),
        );
    }
    course
}

/// Returns the scenario without groups of its steps, under the few seeds that come next.
pub(super) fn fewer_steps_under_a_near_seed(scenario: &Scenario) -> Vec<Scenario> {
    let groups = groups(scenario.steps.len());
    groups.iter().flat_map(|gone| under_others(scenario, NEAR_SEEDS, gone)).collect()
}

/// Returns the scenario without each single step, under the seeds that come next.
pub(super) fn fewer_steps_under_another_seed(scenario: &Scenario) -> Vec<Scenario> {
    let single = (0..scenario.steps.len()).rev().map(|step| BTreeSet::from([step]));
    single.flat_map(|gone| under_others(scenario, OTHER_SEEDS, &gone)).collect()
}

/// Returns the scenario without some steps, under each of the next seeds.
fn under_others(scenario: &Scenario, seeds: u64, gone: &BTreeSet<usize>) -> Vec<Scenario> {
    let [seed] = scenario.seeds[..] else { return Vec::new() };
    let others = (1..=seeds).filter_map(|more| seed.checked_add(more)).filter(|it| i64::try_from(*it).is_ok());
    others.map(|seed| Scenario { seeds: vec![seed], ..without(scenario, gone) }).collect()
}

/// Returns a scenario without some of its steps. A step that began after a removed one begins when it would have begun,
/// as far as that is known before the run. A step that struck the hosts of a removed one names these hosts itself.
fn without(scenario: &Scenario, gone: &BTreeSet<usize>) -> Scenario {
    let mut left = scenario.clone();
    // A removed step may itself refer to a removed step, so this is repeated as often as there are steps.
    for _ in 0..=scenario.steps.len() {
        let named: BTreeMap<String, Step> =
            gone.iter().filter_map(|at| left.steps.get(*at)).map(|step| (step.name.clone(), step.clone())).collect();
        // The removed steps are changed too, because their own references lead on.
        for step in &mut left.steps {
            let me = step.name.clone();
            let known = |name: &str| named.get(name).filter(|it| it.name != me);
            step.start = instead(&step.start, &known);
            let hosts = |on: &Vec<HostRef>| on.iter().flat_map(|host| spelled(host, &known)).collect::<Vec<_>>();
            step.action = step.action.map(&mut |on| hosts(on));
        }
    }
    let mut at = 0;
    left.steps.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
    let stays = |name: &str| left.steps.iter().any(|step| step.name == name);
    let expect = &mut left.expect;
    for list in [&mut expect.seen, &mut expect.never, &mut expect.sometimes] {
        let speaks = |it: &EventPattern| {
            let moment = it.after.as_ref().and_then(Moment::step);
            moment.into_iter().chain(it.during.as_deref()).all(&stays)
        };
        list.retain(speaks);
    }
    left
}

/// Returns a scenario without some of its steps. A step that waited for one of them, or counted its moment from one,
/// begins at the time at which it began in the run that failed. So does, with `events`, a step that waited for an event
/// that one of them can cause. Returns `None` if there is no such step, or if its time is not known.
fn without_at_known_times(
    scenario: &Scenario,
    gone: &BTreeSet<usize>,
    begins: &Begins,
    events: bool,
) -> Option<Scenario> {
    let mut timed = scenario.clone();
    let is_gone = |moment: &Moment| {
        let brings = |step: &Step| match moment {
            Moment::First(event) => events && step.action.fault().causes.contains(&event.as_str()),
            _ => moment.step() == Some(step.name.as_str()),
        };
        gone.iter().filter_map(|at| scenario.steps.get(*at)).any(brings)
    };
    let mut waits = false;
    for (_, step) in timed.steps.iter_mut().enumerate().filter(|(at, _)| !gone.contains(at)) {
        if let Start::After { moment, since, .. } = &step.start
            && (is_gone(moment) || since.as_ref().is_some_and(is_gone))
        {
            // If nothing waited for such an event, there is nothing that `events` would add.
            waits |= !events || (matches!(moment, Moment::First(_)) && is_gone(moment));
            let whole = begins.get(&step.name)?.as_millis();
            step.start = Start::At(Duration::from_millis(u64::try_from(whole).ok()?));
        }
    }
    waits.then(|| without(&timed, gone))
}

fn instead<'a>(start: &Start, gone: &impl Fn(&str) -> Option<&'a Step>) -> Start {
    let Start::After { moment, wait, since } = start else { return start.clone() };
    let since = match since {
        Some(since) => match since.step().and_then(gone) {
            Some(step) => match &step.start {
                Start::After { moment: before @ (Moment::Ended(_) | Moment::Begins(_) | Moment::Bites(_)), .. } => {
                    Some(before.clone())
                }
                _ => None,
            },
            None => Some(since.clone()),
        },
        None => None,
    };
    let Some(step) = moment.step().and_then(gone) else {
        return Start::After { moment: moment.clone(), wait: *wait, since };
    };
    let later = match moment {
        Moment::Ended(_) => step.duration.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    match &step.start {
        Start::At(at) => Start::At(*at + later + *wait),
        Start::After { moment, wait: before, since } => {
            Start::After { moment: moment.clone(), wait: *before + later + *wait, since: since.clone() }
        }
    }
}

/// Replaces `@step` of a removed step by the words of that step.
fn spelled<'a>(host: &HostRef, gone: &impl Fn(&str) -> Option<&'a Step>) -> Vec<HostRef> {
    let HostRef::Step(name) = host else { return vec![host.clone()] };
    match gone(name).and_then(|step| step.action.on()) {
        Some(on) => on.clone(),
        None => vec![host.clone()],
    }
}

/// Returns the same scenario with other names for its steps.
pub(super) fn rename(scenario: &Scenario, names: &BTreeMap<String, String>) -> Scenario {
    let mut renamed = scenario.clone();
    let name = |old: &String| names.get(old).unwrap_or(old).clone();
    let moment = |moment: &Moment| match moment {
        Moment::Ended(step) => Moment::Ended(name(step)),
        Moment::Begins(step) => Moment::Begins(name(step)),
        Moment::Bites(step) => Moment::Bites(name(step)),
        Moment::Nth(step, n) => Moment::Nth(name(step), *n),
        Moment::First(event) => Moment::First(event.clone()),
    };
    let host = |host: &HostRef| match host {
        HostRef::Step(step) => HostRef::Step(name(step)),
        other => other.clone(),
    };
    for step in &mut renamed.steps {
        step.name = name(&step.name);
        if let Start::After { moment: after, since, .. } = &mut step.start {
            *after = moment(after);
            *since = since.as_ref().map(moment);
        }
        step.action = step.action.map(&mut |on| on.iter().map(host).collect());
    }
    for list in [&mut renamed.expect.seen, &mut renamed.expect.never, &mut renamed.expect.sometimes] {
        for pattern in list {
            pattern.during = pattern.during.as_ref().map(name);
            pattern.after = pattern.after.as_ref().map(moment);
            pattern.on = pattern.on.as_ref().map(|on| on.iter().map(host).collect());
        }
    }
    renamed
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::parse;

    const CHAIN: &str = "title = \"t\"\n[cluster]\nservers = 3\nlatency = \"20ms\"\n[workload]\nclients = 4\nappends = \"70/s\"\nfor = \"40s\"\n\
        [[step]]\nname = \"a\"\naction = \"crash\"\non = \"server-3\"\nat = \"3s\"\nfor = \"2s\"\n\
        [[step]]\nname = \"b\"\naction = \"pause\"\non = \"@a\"\nafter = \"a\"\nwait = \"500ms\"\nfor = \"1s\"\n\
        [[step]]\nname = \"c\"\naction = \"power-loss\"\non = [\"@b\", \"server-1\"]\nafter = \"first:retry\"\nsince = \"b:begins\"\nfor = \"1230ms\"\n\
        [[step]]\nname = \"d\"\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nafter = \"c:bites\"\nwait = \"7ms\"\n";

    pub(in super::super) fn chain() -> Scenario {
        parse(Path::new("t.toml"), CHAIN).expect("sound")
    }

    pub(in super::super) fn start(scenario: &Scenario, name: &str) -> Start {
        scenario.step(name).expect("there").start.clone()
    }

    #[test]
    fn what_began_after_a_step_that_is_gone_begins_when_it_would_have() {
        let left = without(&chain(), &[0].into());
        assert_eq!(start(&left, "b"), Start::At(Duration::from_millis(5_500)));
        assert_eq!(left.step("b").and_then(|step| step.action.on()), Some(&vec![HostRef::Server(3)]));
        let left = without(&chain(), &[0, 1].into());
        let since = match start(&left, "c") {
            Start::After { moment: Moment::First(event), since, .. } if event == "retry" => since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since, None);
        let on = left.step("c").and_then(|step| step.action.on());
        assert_eq!(on, Some(&vec![HostRef::Server(3), HostRef::Server(1)]));
        let left = without(&chain(), &[2].into());
        assert!(matches!(start(&left, "d"), Start::After { moment: Moment::First(_), wait, since: Some(_) }
            if wait == Duration::from_millis(7)));
    }

    #[test]
    fn what_waited_for_something_that_is_gone_can_begin_when_it_began() {
        let at = |ms| Start::At(Duration::from_millis(ms));
        let begins: Begins =
            [("b", 5_600), ("c", 7_200)].map(|(name, ms)| (name.into(), Duration::from_millis(ms))).into();
        let timed = |gone: usize, events| without_at_known_times(&chain(), &[gone].into(), &begins, events);
        let left = timed(0, false).expect("`b` waited for `a`");
        assert_eq!(start(&left, "b"), at(5_600));
        assert!(matches!(start(&left, "c"), Start::After { moment: Moment::First(_), .. }));
        let left = timed(0, true).expect("`a` can cause what `c` waited for");
        assert_eq!((start(&left, "b"), start(&left, "c")), (at(5_600), at(7_200)));
        assert_eq!(timed(2, false), None, "nobody knows when `d` began");
        assert_eq!(timed(3, false), None, "nothing waited for `d`");
        let left = timed(3, true).expect("a reset, too, can cause what `c` waited for");
        assert_eq!((start(&left, "b"), start(&left, "c")), (start(&chain(), "b"), at(7_200)));
    }

    #[test]
    fn every_set_of_steps_can_be_taken_away_and_what_is_left_refers_to_nothing_that_is_gone() {
        for mask in 0_u32..16 {
            let gone: BTreeSet<usize> = (0..4).filter(|bit| mask >> bit & 1 == 1).collect();
            let left = without(&chain(), &gone);
            assert_eq!(left.steps.len(), 4 - gone.len());
            let text = left.print();
            // Without a step that can cause it, `first:retry` never comes, and the candidate is refused. Nothing else
            // may be wrong with one.
            let problems = parse(Path::new("t.toml"), &text).err().unwrap_or_default();
            assert!(problems.iter().all(|problem| problem.code == "cannot-happen"), "{mask}: {problems:?}\n{text}");
        }
    }

    #[test]
    fn a_course_is_a_step_with_whatever_it_refers_to() {
        let courses: Vec<Vec<usize>> = (0..4).map(|step| course(&chain(), step).into_iter().collect()).collect();
        assert_eq!(courses, [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]]);
        let scenario = Scenario { seeds: vec![7], ..chain() };
        let tried: Vec<(u64, usize)> = one_course(&scenario).iter().map(|it| (it.seeds[0], it.steps.len())).collect();
        assert_eq!(tried[..3], [(7, 1), (7, 2), (7, 3)]);
        assert_eq!(tried[3..6], [(8, 1), (9, 1), (10, 1)]);
        assert_eq!(tried.len(), 3 * 4, "all of the steps are no smaller than what there is");
    }

    #[test]
    fn names_are_changed_wherever_they_stand() {
        let names = [("a", "crash"), ("b", "pause"), ("c", "power-loss")];
        let names = names.into_iter().map(|(old, new)| (old.to_owned(), new.to_owned())).collect();
        let text = rename(&chain(), &names).print();
        assert!(text.contains("\"@crash\"") && text.contains("since = \"pause:begins\""), "{text}");
        assert!(text.contains("after = \"power-loss:bites\"") && text.contains("name = \"d\""), "{text}");
        assert!(parse(Path::new("t.toml"), &text).is_ok(), "{text}");
    }
}
