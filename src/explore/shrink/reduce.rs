//! The ways to reduce a scenario: fewer steps, fewer hosts, less work, plainer values. All functions are pure. Each
//! reduction takes something away for good, so that no chain of reductions is endless.

use std::time::Duration;

use super::steps::{Begins, fewer_steps, fewer_steps_under_a_near_seed, fewer_steps_under_another_seed, one_course};
use crate::{
    fault::{End, Fault, Given, HostRef, Link, Need, Per, Rate, Value},
    scenario::{
        Call, Cluster, Expect, LATENCY_DEFAULT, MEMORY_DEFAULT, Moment, SECTORS, SIZE_DEFAULT, Scenario, Start, Step,
        WALL_CLOCK_DEFAULT,
    },
};

/// The ways of reducing, in the order in which they are tried: first those that make each further run shorter, then
/// those that save most, and last those that only make the file plainer.
pub(super) static PHASES: &[fn(&Scenario, &Begins) -> Vec<Scenario>] = &[
    |it, _| few_clients(it),
    |it, _| less_work(it),
    fewer_steps,
    |it, _| fewer_hosts(it),
    |it, _| one_course(it),
    |it, _| fewer_steps_under_a_near_seed(it),
    |it, _| plainer_cluster(it),
    |it, _| fewer_steps_under_another_seed(it),
    |it, _| plainer_expectations(it),
    |it, _| plainer_starts(it),
    |it, _| plainer_lengths(it),
    |it, _| plainer_values(it),
    |it, _| plainer_hosts(it),
];

/// The largest number of clients that hardly slow a run down.
const MANY_CLIENTS: u32 = 8;

type Change<'a> = Box<dyn Fn(&mut Scenario) + 'a>;

/// Returns one copy for each change that has an effect.
fn changed(scenario: &Scenario, changes: Vec<Change<'_>>) -> Vec<Scenario> {
    let apply = |change: Change<'_>| {
        let mut copy = scenario.clone();
        change(&mut copy);
        copy
    };
    changes.into_iter().map(apply).filter(|copy| copy != scenario).collect()
}

/// Takes one client, two, four and so on, if there are many. A run with many hosts costs so much that no time would be
/// left for anything else: the simulated network looks through all links for every host in every tick.
fn few_clients(scenario: &Scenario) -> Vec<Scenario> {
    let clients = scenario.workload.clients;
    if clients <= MANY_CLIENTS {
        return Vec::new();
    }
    (0..u32::BITS)
        .map(|bits| 1 << bits)
        .take_while(|few| *few < clients)
        .map(|few| with_hosts(scenario, scenario.cluster.servers, few))
        .collect()
}

/// Moves everything earlier; cuts the time to an eighth, a quarter, a half or three quarters; offers fewer and smaller
/// appends.
fn less_work(scenario: &Scenario) -> Vec<Scenario> {
    let mut reduced = everything_earlier(scenario);
    reduced.extend(less_of_it(scenario));
    reduced
}

/// Moves the first step to one second, or to half of its time, and all others earlier by as much.
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
                // A rate that needs no thought: 10, 20, 50 a second.
                let round = [500, 200, 100, 50, 20, 10, 5, 2, 1].into_iter();
                let less = round.filter(|n| *n <= it.workload.appends.count).max();
                if let (Per::Second, Some(count)) = (it.workload.appends.per, less) {
                    it.workload.appends.count = count;
                }
            }),
        ],
    )
}

/// Takes one client, half of them, or one fewer; one server, or three of five.
fn fewer_hosts(scenario: &Scenario) -> Vec<Scenario> {
    let (servers, clients) = (scenario.cluster.servers, scenario.workload.clients);
    let mut wanted: Vec<(u32, u32)> = [1, 3, 5].into_iter().filter(|n| *n < servers).map(|n| (n, clients)).collect();
    wanted.extend(
        [1, clients / 2, clients.saturating_sub(1)]
            .into_iter()
            .filter(|n| (1..clients).contains(n))
            .map(|n| (servers, n)),
    );
    wanted.into_iter().map(|(servers, clients)| with_hosts(scenario, servers, clients)).collect()
}

/// Returns the scenario with fewer hosts. A host that is gone is replaced by the last one that is left.
fn with_hosts(scenario: &Scenario, servers: u32, clients: u32) -> Scenario {
    let mut copy = scenario.clone();
    copy.cluster.servers = servers;
    copy.workload.clients = clients;
    let there = |host: &HostRef| match host {
        HostRef::Server(n) => HostRef::Server((*n).min(servers)),
        HostRef::Client(n) => HostRef::Client((*n).min(clients)),
        HostRef::Followers if servers == 1 => HostRef::Servers,
        other => other.clone(),
    };
    for step in &mut copy.steps {
        step.action = step.action.map(&mut |on| once(on.iter().map(there)));
    }
    copy
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

/// Removes what a file does not have to say about the cluster.
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

/// Removes what a file does not have to say about the outcome.
fn plainer_expectations(scenario: &Scenario) -> Vec<Scenario> {
    changed(scenario, vec![Box::new(|it| it.expect = Expect::default())])
}

/// Applies every change to each step, one at a time.
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

/// Removes the wait or `since`; moves a start to a whole second, or to half of its time.
fn plainer_starts(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let starts = match &step.start {
            Start::At(at) => vec![
                Start::At(Duration::from_secs(at.as_secs().max(1)).min(*at)),
                Start::At(rounded(*at)),
                Start::At(halved(*at)),
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

/// Sets the length to the default of the fault, to a second, to half of it, or to a round one.
fn plainer_lengths(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let Some(length) = step.duration else { return Vec::new() };
        let second = Duration::from_secs(1).min(length);
        let default = match step.action.fault().end {
            End::After(default) => default.min(length),
            End::Instant | End::Healed => second,
        };
        let lengths = [default, second, halved(length), rounded(length)];
        lengths.into_iter().map(|length| Step { duration: Some(length), ..step.clone() }).collect()
    })
}

/// Sets each parameter to its default, or to a round value.
fn plainer_values(scenario: &Scenario) -> Vec<Scenario> {
    each_step(scenario, |step| {
        let fault = step.action.fault();
        let mut plainer = Vec::new();
        for &(name, ref value) in step.action.values() {
            let Some(parameter) = fault.parameters.iter().find(|parameter| parameter.name == name) else { continue };
            let mut values = vec![round(value)];
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

/// Takes one host of several, or both directions of a link.
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
        values: step.action.values().iter().cloned().collect(),
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
    let action = fault.action(given)?;
    Some(Step { action, ..step.clone() })
}

/// Returns a round half of a length, but no less than a second: what is shorter is no plainer.
fn halved(length: Duration) -> Duration {
    rounded(length / 2).max(Duration::from_secs(1)).min(length)
}

/// Rounds down to one digit that is not zero; lengths above a second become whole seconds.
fn rounded(length: Duration) -> Duration {
    Duration::from_millis(leading(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
}

/// Returns the largest number of one digit followed by zeros that is not larger than `n`.
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
        // Round sizes are powers of two.
        Value::Size(bytes) => Value::Size(bytes.checked_ilog2().map_or(0, |bits| 1 << bits)),
        Value::Count(count) => Value::Count(leading(*count)),
        Value::Rate(rate) => Value::Rate(Rate { count: leading(u64::from(rate.count)) as u32, ..*rate }),
        Value::Word(_) | Value::Flag(_) | Value::Path(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::steps::tests::{chain, start},
        *,
    };
    use crate::scenario::parse;

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
            // This assumes that every scenario fails that keeps the fault of the last step, which is the worst case for
            // a search.
            let keeps = scenario.steps.last().map(|step| step.action.name());
            while let Some(next) = PHASES
                .iter()
                .flat_map(|phase| phase(&scenario, &Begins::new()))
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
