//! What a scenario can be reduced to: fewer steps, fewer hosts, less work, plainer values. Pure; each reduction takes
//! something away for good, so that no chain of them is endless.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    fault::{Action, End, Fault, Given, HostRef, Link, Need, Per, Rate, Value},
    scenario::{
        Call, Cluster, Expect, LATENCY_DEFAULT, MEMORY_DEFAULT, Moment, SECTORS, SIZE_DEFAULT, Scenario, Start, Step,
        WALL_CLOCK_DEFAULT,
    },
};

/// Ways of reducing, in the order in which they are tried: what makes each further run shorter first, then what saves most.
pub(super) static PHASES: &[fn(&Scenario) -> Vec<Scenario>] = &[
    less_work,
    fewer_steps,
    fewer_hosts,
    one_course,
    fewer_steps_under_a_near_seed,
    plainer_cluster,
    plainer_expectations,
    plainer_starts,
    plainer_lengths,
    plainer_values,
    plainer_hosts,
    fewer_steps_under_another_seed,
];

/// How many other seeds are tried for each step.
const OTHER_SEEDS: u64 = 8;

/// How many other seeds are tried while there are many steps: any step that is gone changes the course of a run, and what
/// depends on its course does not fail then under the same seed.
const NEAR_SEEDS: u64 = 3;

/// All of the steps, half of them, a quarter, and so on to each single one, the last first.
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

fn fewer_steps(scenario: &Scenario) -> Vec<Scenario> {
    groups(scenario.steps.len()).iter().map(|gone| without(scenario, gone)).collect()
}

/// A single step, with those that it refers to: what fails seldom needs more. Under its own seed, then under the few that come
/// next.
fn one_course(scenario: &Scenario) -> Vec<Scenario> {
    let all: BTreeSet<usize> = (0..scenario.steps.len()).collect();
    let mut courses: Vec<BTreeSet<usize>> = all.iter().map(|step| course(scenario, *step)).collect();
    courses.sort_by_key(BTreeSet::len);
    courses.dedup();
    let gone: Vec<BTreeSet<usize>> = courses.iter().map(|kept| &all - kept).filter(|gone| !gone.is_empty()).collect();
    let mut reduced: Vec<Scenario> = gone.iter().map(|gone| without(scenario, gone)).collect();
    reduced.extend(gone.iter().flat_map(|gone| under_others(scenario, NEAR_SEEDS, gone)));
    reduced
}

/// A step and whatever it refers to, and so on.
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

/// Without as many steps as can be spared, under the few seeds that come next.
fn fewer_steps_under_a_near_seed(scenario: &Scenario) -> Vec<Scenario> {
    let groups = groups(scenario.steps.len());
    groups.iter().flat_map(|gone| under_others(scenario, NEAR_SEEDS, gone)).collect()
}

/// Without each single step, under the seeds that come next.
fn fewer_steps_under_another_seed(scenario: &Scenario) -> Vec<Scenario> {
    let single = (0..scenario.steps.len()).rev().map(|step| BTreeSet::from([step]));
    single.flat_map(|gone| under_others(scenario, OTHER_SEEDS, &gone)).collect()
}

/// Without some steps, under each of the next seeds.
fn under_others(scenario: &Scenario, seeds: u64, gone: &BTreeSet<usize>) -> Vec<Scenario> {
    let [seed] = scenario.seeds[..] else { return Vec::new() };
    let others = (1..=seeds).filter_map(|more| seed.checked_add(more)).filter(|it| i64::try_from(*it).is_ok());
    others.map(|seed| Scenario { seeds: vec![seed], ..without(scenario, gone) }).collect()
}

/// A scenario without some of its steps. What began after one of those begins when it would have, as far as that is known
/// before the run; what struck the hosts of one of those strikes them by its words.
pub(super) fn without(scenario: &Scenario, gone: &BTreeSet<usize>) -> Scenario {
    let mut left = scenario.clone();
    // A step may refer to one that is gone and refers to another one that is gone: as often as there are steps.
    for _ in 0..=scenario.steps.len() {
        let named: BTreeMap<String, Step> =
            gone.iter().filter_map(|at| left.steps.get(*at)).map(|step| (step.name.clone(), step.clone())).collect();
        // Those that are gone, too: their own references lead on.
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
        let speaks = |it: &crate::scenario::EventPattern| {
            let moment = it.after.as_ref().and_then(Moment::step);
            moment.into_iter().chain(it.during.as_deref()).all(&stays)
        };
        list.retain(speaks);
    }
    left
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

/// `@step` of a step that is gone, by the words of that step.
fn spelled<'a>(host: &HostRef, gone: &impl Fn(&str) -> Option<&'a Step>) -> Vec<HostRef> {
    let HostRef::Step(name) = host else { return vec![host.clone()] };
    match gone(name).and_then(|step| step.action.on()) {
        Some(on) => on.clone(),
        None => vec![host.clone()],
    }
}

/// The same scenario with other names for its steps.
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

type Change<'a> = Box<dyn Fn(&mut Scenario) + 'a>;

/// One copy for each change that changes anything.
fn changed(scenario: &Scenario, changes: Vec<Change<'_>>) -> Vec<Scenario> {
    let apply = |change: Change<'_>| {
        let mut copy = scenario.clone();
        change(&mut copy);
        copy
    };
    changes.into_iter().map(apply).filter(|copy| copy != scenario).collect()
}

/// Everything earlier; an eighth of the time, up to three quarters of it; fewer appends, smaller ones.
fn less_work(scenario: &Scenario) -> Vec<Scenario> {
    let mut reduced = everything_earlier(scenario);
    reduced.extend(less_of_it(scenario));
    reduced
}

/// The first step after a second, or after half of the time, and all the others as long before as that one.
fn everything_earlier(scenario: &Scenario) -> Vec<Scenario> {
    let starts = scenario.steps.iter().filter_map(|step| match step.start {
        Start::At(at) => Some(at),
        Start::After { .. } => None,
    });
    let Some(first) = starts.min() else { return Vec::new() };
    let second = Duration::from_secs(1);
    let sooner = |by: Duration| {
        let mut copy = scenario.clone();
        copy.workload.duration = copy.workload.duration.saturating_sub(by).max(second);
        for step in &mut copy.steps {
            if let Start::At(at) = &mut step.start {
                *at = at.saturating_sub(by);
            }
        }
        copy
    };
    let by = [first.saturating_sub(second), first / 2].map(|by| Duration::from_secs(by.as_secs()));
    by.into_iter().filter(|by| !by.is_zero()).map(sooner).collect()
}

fn less_of_it(scenario: &Scenario) -> Vec<Scenario> {
    let seconds = |eighths: u32| {
        let whole = scenario.workload.duration / 8 * eighths;
        Duration::from_secs(whole.as_secs().max(1)).min(scenario.workload.duration)
    };
    let slower = |rate: Rate, by: u32| Rate { count: (rate.count / by).max(1), ..rate };
    changed(
        scenario,
        vec![
            Box::new(|it| it.workload.duration = seconds(1)),
            Box::new(|it| it.workload.duration = seconds(2)),
            Box::new(|it| it.workload.duration = seconds(4)),
            Box::new(|it| it.workload.duration = seconds(6)),
            Box::new(|it| it.workload.appends = slower(it.workload.appends, 8)),
            Box::new(|it| it.workload.appends = slower(it.workload.appends, 2)),
            Box::new(|it| it.workload.size = SIZE_DEFAULT),
            Box::new(|it| it.workload.size = (it.workload.size / 2).max(it.workload.size.min(SIZE_DEFAULT))),
            Box::new(|it| {
                // One that nobody has to think about: 10, 20, 50 a second.
                let round = [500, 200, 100, 50, 20, 10, 5, 2, 1].into_iter();
                let less = round.filter(|n| *n <= it.workload.appends.count).max();
                if let (Per::Second, Some(count)) = (it.workload.appends.per, less) {
                    it.workload.appends.count = count;
                }
            }),
        ],
    )
}

/// One client, half of them, one fewer; one server, three of five.
fn fewer_hosts(scenario: &Scenario) -> Vec<Scenario> {
    let (servers, clients) = (scenario.cluster.servers, scenario.workload.clients);
    let mut reduced = Vec::new();
    let mut wanted: Vec<(u32, u32)> = [1, 3, 5].into_iter().filter(|n| *n < servers).map(|n| (n, clients)).collect();
    wanted.extend(
        [1, clients / 2, clients.saturating_sub(1)]
            .into_iter()
            .filter(|n| (1..clients).contains(n))
            .map(|n| (servers, n)),
    );
    for (servers, clients) in wanted {
        let mut copy = scenario.clone();
        copy.cluster.servers = servers;
        copy.workload.clients = clients;
        // Whoever is not there any more is the last one that is.
        let there = |host: &HostRef| match host {
            HostRef::Server(n) => HostRef::Server((*n).min(servers)),
            HostRef::Client(n) => HostRef::Client((*n).min(clients)),
            HostRef::Followers if servers == 1 => HostRef::Servers,
            other => other.clone(),
        };
        for step in &mut copy.steps {
            step.action = step.action.map(&mut |on| once(on.iter().map(there)));
        }
        reduced.push(copy);
    }
    reduced
}

fn once(hosts: impl Iterator<Item = HostRef>) -> Vec<HostRef> {
    let mut kept: Vec<HostRef> = Vec::new();
    for host in hosts {
        if !kept.contains(&host) {
            kept.push(host);
        }
    }
    kept
}

/// What a file does not have to say.
fn plainer_cluster(scenario: &Scenario) -> Vec<Scenario> {
    let plain = |cluster: &mut Cluster| {
        *cluster = Cluster {
            servers: cluster.servers,
            payload_max: cluster.payload_max,
            latency: LATENCY_DEFAULT,
            renew_before: None,
            wall_clock: WALL_CLOCK_DEFAULT,
            memory: MEMORY_DEFAULT,
            sector: SECTORS[0],
            segment: None,
        };
    };
    changed(
        scenario,
        vec![
            Box::new(move |it| plain(&mut it.cluster)),
            Box::new(|it| {
                it.workload.oversize_every = None;
                it.cluster.payload_max = None;
            }),
            Box::new(|it| it.cluster.latency = LATENCY_DEFAULT),
            Box::new(|it| it.cluster.renew_before = None),
            Box::new(|it| it.cluster.wall_clock = WALL_CLOCK_DEFAULT),
            Box::new(|it| it.cluster.memory = MEMORY_DEFAULT),
            Box::new(|it| it.cluster.sector = SECTORS[0]),
            Box::new(|it| it.cluster.segment = None),
            Box::new(|it| it.workload.call = Call::Append),
        ],
    )
}

/// What nobody has to say of the outcome either.
fn plainer_expectations(scenario: &Scenario) -> Vec<Scenario> {
    changed(scenario, vec![Box::new(|it| it.expect = Expect::default())])
}

/// Each step with every change to it, one at a time.
fn each_step(scenario: &Scenario, changes: impl Fn(&Step) -> Vec<Step>) -> Vec<Scenario> {
    let mut reduced = Vec::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        for change in changes(step).into_iter().filter(|change| change != step) {
            let mut copy = scenario.clone();
            copy.steps[at] = change;
            reduced.push(copy);
        }
    }
    reduced
}

/// Without a wait, without `since`; at a whole second.
fn plainer_starts(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let starts = match &step.start {
            Start::At(at) => vec![
                Start::At(Duration::from_secs(at.as_secs().max(1)).min(*at)),
                Start::At(rounded(*at)),
                Start::At(rounded(*at / 2)),
            ],
            Start::After { moment, wait, since } => {
                let after =
                    |wait, since: &Option<Moment>| Start::After { moment: moment.clone(), wait, since: since.clone() };
                vec![
                    after(Duration::ZERO, &None),
                    after(Duration::ZERO, since),
                    after(*wait, &None),
                    after(rounded(*wait), since),
                ]
            }
        };
        starts.into_iter().map(|start| Step { start, ..step.clone() }).collect()
    })
}

/// A second, half of the length, a round one.
fn plainer_lengths(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let Some(length) = step.duration else { return Vec::new() };
        let half = Duration::from_millis(u64::try_from(length.as_millis() / 2).unwrap_or(u64::MAX).max(1));
        let second = Duration::from_secs(1).min(length);
        let default = match step.action.fault().end {
            End::After(default) => default.min(length),
            End::Instant | End::Healed => second,
        };
        let lengths = [default, second, half, rounded(length)];
        lengths.into_iter().map(|length| Step { duration: Some(length), ..step.clone() }).collect()
    })
}

/// The default of each parameter, or a round value.
fn plainer_values(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let fault = step.action.fault();
        let mut plainer = Vec::new();
        for (name, value) in step.action.values() {
            let Some(parameter) = fault.parameters.iter().find(|parameter| parameter.name == name) else { continue };
            let mut values = vec![round(&value)];
            if let Need::Default(default) = &parameter.need {
                values.insert(0, default.clone());
            }
            for value in values {
                plainer.extend(with(fault, step, name, value));
            }
        }
        plainer
    })
}

/// One host of several, a link both ways.
fn plainer_hosts(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let mut plainer = Vec::new();
        if let Some(on) = step.action.on().filter(|on| on.len() > 1) {
            for one in on {
                plainer.push(Step { action: step.action.map(&mut |_| vec![one.clone()]), ..step.clone() });
            }
        }
        if let Some(Link::OneWay { from, to }) = step.action.link() {
            let mut given = given(step);
            given.link = Some(Link::Between(from.clone(), to.clone()));
            plainer.extend(built(step.action.fault(), step, &given));
        }
        plainer
    })
}

fn given(step: &Step) -> Given {
    let wait = match &step.start {
        Start::After { wait, .. } => Some(*wait),
        Start::At(_) => None,
    };
    Given {
        on: step.action.on().cloned(),
        link: step.action.link().cloned(),
        length: step.duration,
        wait,
        values: step.action.values().into_iter().collect(),
    }
}

fn with(fault: &'static Fault, step: &Step, name: &'static str, value: Value) -> Option<Step> {
    let mut given = given(step);
    given.values.insert(name, value);
    built(fault, step, &given)
}

fn built(fault: &'static Fault, step: &Step, given: &Given) -> Option<Step> {
    if fault.rule.is_some_and(|rule| rule(given).is_err()) {
        return None;
    }
    let action: Action = (fault.build)(given)?;
    Some(Step { action, ..step.clone() })
}

/// With one digit that is not zero, downwards: whole seconds of more than one.
fn rounded(length: Duration) -> Duration {
    Duration::from_millis(leading(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
}

/// The largest number of one digit and zeros that is no larger.
fn leading(n: u64) -> u64 {
    let mut unit = 1;
    while n / unit >= 10 {
        unit *= 10;
    }
    n / unit * unit
}

fn round(value: &Value) -> Value {
    match value {
        Value::Duration(length) => Value::Duration(rounded(*length)),
        Value::Offset(ms) => {
            let bare = i64::try_from(leading(ms.unsigned_abs())).unwrap_or(i64::MAX);
            Value::Offset(if *ms < 0 { -bare } else { bare })
        }
        Value::Drift(ppm) => {
            let bare = i32::try_from(leading(u64::from(ppm.unsigned_abs()))).unwrap_or(i32::MAX);
            Value::Drift(if *ppm < 0 { -bare } else { bare })
        }
        // Sizes are round in powers of two.
        Value::Size(bytes) => Value::Size(bytes.checked_ilog2().map_or(0, |bits| 1 << bits)),
        Value::Count(count) => Value::Count(leading(*count)),
        Value::Rate(rate) => Value::Rate(Rate { count: leading(u64::from(rate.count)) as u32, ..*rate }),
        Value::Word(_) | Value::Flag(_) | Value::Path(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::parse;

    const CHAIN: &str = "title = \"t\"\n[cluster]\nservers = 3\nlatency = \"20ms\"\n[workload]\nclients = 4\nappends = \"70/s\"\nfor = \"40s\"\n\
        [[step]]\nname = \"a\"\naction = \"crash\"\non = \"server-3\"\nat = \"3s\"\nfor = \"2s\"\n\
        [[step]]\nname = \"b\"\naction = \"pause\"\non = \"@a\"\nafter = \"a\"\nwait = \"500ms\"\nfor = \"1s\"\n\
        [[step]]\nname = \"c\"\naction = \"power-loss\"\non = [\"@b\", \"server-1\"]\nafter = \"first:retry\"\nsince = \"b:begins\"\nfor = \"1230ms\"\n\
        [[step]]\nname = \"d\"\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nafter = \"c:bites\"\nwait = \"7ms\"\n";

    fn chain() -> Scenario {
        parse(Path::new("t.toml"), CHAIN).expect("sound")
    }

    fn start(scenario: &Scenario, name: &str) -> Start {
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
    fn every_set_of_steps_can_be_taken_away_and_what_is_left_refers_to_nothing_that_is_gone() {
        for mask in 0_u32..16 {
            let gone: BTreeSet<usize> = (0..4).filter(|bit| mask >> bit & 1 == 1).collect();
            let left = without(&chain(), &gone);
            assert_eq!(left.steps.len(), 4 - gone.len());
            let text = left.print();
            // Without what can cause it, `first:retry` never comes: such a candidate is refused, and that is all.
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
    fn everything_comes_earlier_by_as_much() {
        let earlier = everything_earlier(&chain());
        let found =
            earlier.iter().map(|it| (start(it, "a"), start(it, "b") == start(&chain(), "b"), it.workload.duration));
        let at = |seconds| Start::At(Duration::from_secs(seconds));
        let expected = [(at(1), true, Duration::from_secs(38)), (at(2), true, Duration::from_secs(39))];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(everything_earlier(&earlier[0]).is_empty(), "a second is early enough");
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

    #[test]
    fn reductions_come_to_an_end_from_whatever_is_drawn() {
        use crate::{
            explore::draw::{Subject, draw},
            system::AuditLog,
        };
        let subject = Subject::of(&AuditLog::default());
        for seed in 0..60 {
            let mut scenario = draw(&subject, seed).expect("drawn");
            let sound = |it: &Scenario| parse(&it.path, &it.print()).is_ok();
            let mut taken = 0;
            // As if everything failed that keeps the last step's fault: the worst that a search can meet.
            let keeps = scenario.steps.last().map(|step| step.action.name());
            while let Some(next) = PHASES
                .iter()
                .flat_map(|phase| phase(&scenario))
                .find(|it| sound(it) && it.steps.iter().any(|step| Some(step.action.name()) == keeps))
            {
                scenario = next;
                taken += 1;
                assert!(taken < 400, "seed {seed} goes on for ever:\n{}", scenario.print());
            }
        }
    }

    #[test]
    fn figures_are_rounded_down_to_one_digit() {
        assert_eq!([0, 7, 10, 19, 234, 9_999].map(leading), [0, 7, 10, 10, 200, 9_000]);
        assert_eq!(round(&Value::Size(3_000_000)), Value::Size(2 << 20));
        assert_eq!(round(&Value::Offset(-1_234)), Value::Offset(-1_000));
    }
}
