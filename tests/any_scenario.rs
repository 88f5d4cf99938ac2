//! Any valid scenario comes to a verdict. Small ones are drawn, always the same, so that every fault of the catalogue is
//! in one of them, and run by the program itself, each in a process of its own as always.
//!
//! What the verdict is does not matter here; that there is one does. The one other end that a run may come to is the
//! plain statement that this log cannot do what was asked.

use std::{path::Path, process::Command, time::Duration};

use gapless::{
    fault::{ActsOn, CATALOGUE, End, Fault, Given, HostRef, Kind, Link, Need, Per, Rate, Value},
    scenario::{
        Call, Cluster, Expect, LATENCY_DEFAULT, MEMORY_DEFAULT, Moment, SECTORS, Scenario, Start, Step, Workload, parse,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const SERVER: HostRef = HostRef::Server(1);

/// A small value of a kind, another one for each `n`.
fn some_value(kind: Kind, n: u32) -> Value {
    let sign = if n.is_multiple_of(2) { 1 } else { -1 };
    match kind {
        Kind::Duration { min, max } => Value::Duration(Duration::from_millis(400 + u64::from(n)).clamp(min, max)),
        Kind::Offset { .. } => Value::Offset(i64::from(sign) * 1_000 * i64::from(n + 1)),
        Kind::Drift { most } => Value::Drift(sign * (1 + n as i32).min(most)),
        Kind::Size { min, max } => Value::Size((64 << 10 << (n % 8)).clamp(min, max)),
        Kind::Rate => Value::Rate(Rate { count: n + 1, per: Per::Second }),
        Kind::Word(words) => Value::Word(words[n as usize % words.len()].0),
        Kind::Flag => Value::Flag(n.is_multiple_of(2)),
        Kind::Count { min, max } => Value::Count((min + u64::from(n)).min(max)),
        Kind::Path => Value::Path(["journal/", "outbox/"][n as usize % 2].to_owned()),
    }
}

/// A step of a fault that begins in the `nth` second, or after the step before.
fn a_step(fault: &'static Fault, nth: usize, (n, one_way, chained): (u32, bool, bool), before: Option<&str>) -> Step {
    let mut given = Given::default();
    let client = if one_way { HostRef::AnyClient } else { HostRef::Client(1) };
    match fault.acts_on {
        ActsOn::Hosts { clients: true, .. } if n % 3 == 0 => given.on = Some(vec![client]),
        ActsOn::Hosts { .. } => given.on = Some(vec![SERVER]),
        ActsOn::Links { one_way: true } if one_way => {
            given.link = Some(Link::OneWay { from: vec![SERVER], to: vec![HostRef::Clients, HostRef::Auditor] });
        }
        ActsOn::Links { .. } => given.link = Some(Link::Between(vec![HostRef::Clients], vec![HostRef::Servers])),
        ActsOn::Workload => {}
    }
    for parameter in fault.parameters {
        let value = match &parameter.need {
            Need::Default(default) if n % 2 == 0 || fault.rule.is_some() => default.clone(),
            _ => some_value(parameter.kind, n),
        };
        given.values.insert(parameter.name, value);
    }
    let (duration, start) = match fault.end {
        End::Instant => (None, Duration::from_secs(nth as u64 + 1)),
        _ if fault.name == "churn" => (Some(Duration::from_secs(6)), Duration::from_secs(1)),
        _ => (Some(Duration::from_millis(500 + u64::from(n))), Duration::from_secs(nth as u64 + 1)),
    };
    let start = match before {
        Some(name) if chained => {
            Start::After { moment: Moment::Begins(name.to_owned()), wait: Duration::from_millis(500), since: None }
        }
        _ => Start::At(start),
    };
    let action = fault.action(&given).expect("everything was given");
    Step { name: format!("step-{nth}"), action, start, duration, line: 0 }
}

fn a_scenario(faults: &[&'static Fault], clients: u32, stream: bool, draws: &[(u32, bool, bool)]) -> Scenario {
    let mut steps: Vec<Step> = Vec::new();
    for (nth, (fault, draw)) in faults.iter().zip(draws).enumerate() {
        let before = steps.last().map(|step| step.name.clone());
        steps.push(a_step(fault, nth, *draw, before.as_deref()));
    }
    Scenario {
        title: "drawn".to_owned(),
        story: String::new(),
        cluster: Cluster {
            servers: faults.iter().map(|fault| fault.servers_min).max().unwrap_or(1),
            latency: LATENCY_DEFAULT,
            renew_before: draws.first().is_some_and(|draw| draw.1).then(|| Duration::from_secs(10)),
            wall_clock: 1_774_754_000,
            memory: MEMORY_DEFAULT,
            payload_max: None,
            sector: SECTORS[draws.len() % 2],
            segment: stream.then_some(16 << 10),
        },
        workload: Workload {
            clients,
            appends: Rate { count: 10, per: Per::Second },
            duration: Duration::from_secs(5),
            call: if stream { Call::AppendStream } else { Call::Append },
            size: 64,
            oversize_every: None,
        },
        steps,
        expect: Expect { acked_at_least: 0, recovers_within: Duration::from_secs(15), ..Expect::default() },
        seeds: Vec::new(),
        known_violation: None,
        path: "drawn.toml".into(),
        source: "".into(),
    }
}

/// All faults in an order of their own, dealt to scenarios of one to three steps.
fn scenarios() -> impl Strategy<Value = Vec<Scenario>> {
    let faults = Just(CATALOGUE.to_vec()).prop_shuffle();
    let draws = proptest::collection::vec((0u32..60, any::<bool>(), any::<bool>()), CATALOGUE.len());
    let deals = proptest::collection::vec((2usize..=3, 1u32..=2, any::<bool>()), CATALOGUE.len());
    (faults, draws, deals).prop_map(|(faults, draws, deals)| {
        let (mut left, mut draws, mut all) = (faults.as_slice(), draws.as_slice(), Vec::new());
        for (steps, clients, stream) in deals {
            let steps = steps.min(left.len());
            if steps > 0 {
                all.push(a_scenario(&left[..steps], clients, stream, &draws[..steps]));
                (left, draws) = (&left[steps..], &draws[steps..]);
            }
        }
        all
    })
}

#[test]
fn any_valid_scenario_comes_to_a_verdict() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let drawn = scenarios().new_tree(&mut runner).expect("drawn").current();
    let folder = tempfile::tempdir().expect("a folder");
    for (n, scenario) in drawn.iter().enumerate() {
        let text = scenario.print();
        let read = parse(Path::new("drawn.toml"), &text);
        assert!(read.is_ok(), "{text}\n{read:?}");
        std::fs::write(folder.path().join(format!("drawn-{n:02}.toml")), text).expect("written");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
    let run = command.args(["run", ".", "--format", "json"]).current_dir(folder.path()).output().expect("started");
    let said = String::from_utf8(run.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert_eq!(said.lines().count(), drawn.len(), "{said}{errors}");
    for line in said.lines() {
        let outcome: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let file = outcome["file"].as_str().expect("a file");
        let text = std::fs::read_to_string(folder.path().join(file)).expect("read");
        match outcome["error"].as_str() {
            None => {
                let verdict = outcome["judgement"]["verdict"].as_str();
                println!("{file}: {}", verdict.unwrap_or_else(|| panic!("no verdict: {line}")));
            }
            Some(error) => assert!(error.contains("cannot be performed"), "{file}: {error}\n{text}"),
        }
    }
}
