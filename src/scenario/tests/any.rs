//! Tests any file: none makes the parser panic or takes long, and what is printed reads back, whatever it is.

use std::{path::Path, time::Duration};

use gapless_world::LogEvent;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    fault::{self, ActsOn, End, Given, Kind, Need, Per, Rate, Value},
    history::Invariant,
};

/// The time for one step, in milliseconds: steps follow each other, so that no two overlap.
const SLOT: u64 = 10_000;

/// Returns a value of a kind, a different one for each `n`.
fn some_value(kind: Kind, n: u64) -> Value {
    let sign = if n.is_multiple_of(2) { 1 } else { -1 };
    match kind {
        Kind::Duration { min, .. } => Value::Duration(min + Duration::from_millis(n)),
        Kind::Offset { .. } => Value::Offset(sign * (n as i64 + 1)),
        Kind::Drift { .. } => Value::Drift(sign as i32 * (n as i32 + 1)),
        Kind::Size { min, .. } => Value::Size(min + n),
        Kind::Rate => Value::Rate(Rate { count: n as u32 + 1, per: Per::Minute }),
        Kind::Word(words) => Value::Word(words[n as usize % words.len()].0),
        Kind::Flag => Value::Flag(n.is_multiple_of(2)),
        Kind::Count { min, max } => Value::Count((min + n).min(max)),
        Kind::Path => Value::Path(["journal/", "outbox/"][n as usize % 2].to_owned()),
    }
}

fn any_step(index: usize) -> impl Strategy<Value = Step> {
    let start = Duration::from_millis(index as u64 * SLOT + 1);
    let number = 0u64..SLOT / 2;
    (select(fault::CATALOGUE), number.clone(), number, any::<[bool; 4]>(), 1u32..=3).prop_map(
        move |(fault, length, value, [named, with_length, one_way, symbolic], n)| {
            let mut given = Given::default();
            let client = if symbolic { HostRef::AnyClient } else { HostRef::Client(n.min(2)) };
            let server = if symbolic { HostRef::Leader } else { HostRef::Server(n) };
            match fault.acts_on {
                ActsOn::Hosts { clients: true, .. } => given.on = Some(vec![client, server]),
                ActsOn::Hosts { .. } => given.on = Some(vec![server]),
                ActsOn::Links { one_way: true } if one_way => {
                    given.link = Some(Link::OneWay { from: vec![server], to: vec![client, HostRef::Auditor] });
                }
                ActsOn::Links { .. } => given.link = Some(Link::Between(vec![client], vec![HostRef::Servers])),
                ActsOn::Workload => {}
            }
            for parameter in fault.parameters {
                let value = match &parameter.need {
                    Need::Default(default) if value % 2 == 0 || fault.rule.is_some() => default.clone(),
                    _ => some_value(parameter.kind, value),
                };
                given.values.insert(parameter.name, value);
            }
            let duration = match fault.end {
                End::Instant => None,
                End::After(default) if !with_length => Some(default),
                _ if fault.rule.is_some() => Some(Duration::from_millis(6_000 + length / 2)),
                _ => Some(Duration::from_millis(length + 1)),
            };
            let name = if named { format!("step-{index}") } else { fault.name.to_owned() };
            let action = fault.action(&given).expect("everything was given");
            Step { name, action, start: Start::At(start), duration, line: 0 }
        },
    )
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    (0usize..6, any::<bool>(), 0u64..2).prop_flat_map(|(count, chained, wait)| {
        (0..count).map(any_step).collect::<Vec<_>>().prop_map(move |mut steps| {
            let named = steps.first().filter(|first| first.name == "step-0").cloned();
            if let (Some(first), Some(last), true) = (named, steps.last_mut(), chained)
                && last.name != first.name
            {
                let moment = if wait == 0 { Moment::Ended(first.name) } else { Moment::Bites(first.name) };
                // A certificate has to last for a while after it was installed.
                let wait = wait.max(u64::from(last.action.name() == "cert-expire"));
                last.start = Start::After { moment, wait: Duration::from_secs(wait), since: None };
            }
            steps
        })
    })
}

fn any_pattern() -> impl Strategy<Value = EventPattern> {
    (select(LogEvent::NAMES), option::of(select(vec![HostRef::Servers, HostRef::Client(1)])), any::<bool>()).prop_map(
        |(event, on, moment)| EventPattern {
            event: event.to_owned(),
            on: on.map(|host| vec![host]),
            during: None,
            after: moment.then(|| Moment::First("retry".to_owned())),
            reason: (event == "retry").then(|| "it \"broke\" \\ é".to_owned()),
            line: 0,
        },
    )
}

prop_compose! {
    fn any_expect()(
        recovers in 1u64..86_400_000, blind in option::of(1u64..100_000), dead_letters in 0u64..3,
        acked_at_least in 0u64..1_000, most in option::of(1u32..1_000), never in vec(any_pattern(), 0..3)
    ) -> Expect {
        Expect {
            recovers_within: Duration::from_millis(recovers),
            blind_at_most: blind.map(Duration::from_millis),
            connections_at_most: most.map(|count| Rate { count, per: Per::Minute }),
            dead_letters, acked_at_least, never, seen: Vec::new(), sometimes: Vec::new(),
        }
    }
}

prop_compose! {
    fn any_scenario()(
        title in "[ -~é漢]{1,30}".prop_filter("not blank", |title| !title.trim().is_empty()),
        story in "(?s)[ -~é\n\t\"\\\\]{0,60}", seeds in vec(0u64..=i64::MAX as u64, 0..4),
        latency in 1u64..10_000, count in 1u32..1_000,
        per in select(vec![Per::Second, Per::Minute, Per::Hour]), stream in any::<bool>(), size in 64u64..=60_416,
        steps in any_steps(), expect in any_expect(), known in any::<bool>(), renew in option::of(5u64..1_000),
        clock in 946_684_800i64..4_102_444_800, memory in 64u64..100_000,
        too_large in option::of((2u64..1_000, 0u64..=100))
    ) -> Scenario {
        let issue = "https://example.com/1".to_owned();
        let size = if too_large.is_some() { size.min(30_000) } else { size };
        Scenario {
            title, story, seeds, steps, expect,
            cluster: Cluster {
                servers: 3, latency: Duration::from_millis(latency),
                renew_before: renew.map(Duration::from_secs), wall_clock: clock, memory: memory << 10,
                payload_max: too_large.map(|(_, more)| size + more),
                sector: if known { 4_096 } else { 512 },
                segment: known.then_some(memory.clamp(16, 64 << 10) << 10),
            },
            workload: Workload {
                clients: 2, appends: Rate { count, per }, duration: Duration::from_secs(120),
                call: if stream { Call::AppendStream } else { Call::Append }, size,
                oversize_every: too_large.map(|(every, _)| every),
            },
            known_violation: known.then(|| KnownViolation {
                invariant: Invariant::NoGaps,
                issue,
                saying: stream.then(|| "is missing".to_owned()),
            }),
            path: Default::default(), source: "".into(),
        }
    }
}

/// A sound file with some bytes replaced, doubled or dropped.
fn mutated() -> impl Strategy<Value = String> {
    vec((any::<prop::sample::Index>(), 0u8..4, select(b"\"'[]{}=.,#\n0-s:@\\ \xc3\x00".to_vec())), 1..12).prop_map(
        |changes| {
            let mut bytes = SOUND.as_bytes().to_vec();
            for (at, how, byte) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => {
                        let line: Vec<u8> = bytes[at..].iter().copied().take(30).collect();
                        bytes.splice(at..at, line);
                    }
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        },
    )
}

/// Reads and renders a text; a refusal has at least one problem, and every span lies in the text.
fn survives(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = read_text(text) {
        prop_assert!(!problems.is_empty());
        prop_assert!(problems.iter().all(|problem| problem.span.end <= text.len()));
        prop_assert!(!render::problems(Path::new("x.toml"), text, &problems).is_empty());
    }
    Ok(())
}

#[test]
fn nesting_beyond_reason_is_a_problem_and_not_a_crash() {
    for deep in ["[".repeat(200_000), "{a=".repeat(100_000), "a.".repeat(100_000), "\"a\" . ".repeat(50_000)] {
        for text in [format!("x = {deep}"), format!("[{deep}b]"), format!("[[{deep}b]]\n"), format!("{deep}b = 1")] {
            assert!(read_text(&text).is_err());
        }
    }
}

#[test]
fn a_file_full_of_mistakes_is_still_read_quickly() {
    let words = "\"@abc\", ".repeat(80);
    let step = format!("[[step]]\naction = \"pause\"\nat = \"1s\"\non = [{words}]\n");
    let text = SOUND.replace("[expect]", &format!("{}[expect]", step.repeat(900)));
    assert!(text.len() <= FILE_BYTES_MAX);
    assert_eq!(codes(&text).len(), PROBLEMS_MAX);
}

proptest! {
    #[test]
    fn a_printed_scenario_reads_back_as_it_was(scenario in any_scenario()) {
        let text = scenario.print();
        match read_text(&text) {
            Ok(read) => prop_assert_eq!(bare(read), bare(scenario), "{}", text),
            Err(problems) => prop_assert!(false, "{}", render::problems(Path::new("p"), &text, &problems)),
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn no_mutation_of_a_sound_file_makes_the_parser_panic(text in mutated()) {
        survives(&text)?;
    }

    #[test]
    fn a_plan_names_only_hosts_that_exist(scenario in any_scenario(), seed in any::<u64>()) {
        let plan = plan(&scenario, seed);
        let all: Vec<_> = plan.servers.iter().chain(&plan.clients).chain([&plan.auditor]).collect();
        let mut names: Vec<_> = plan.steps.iter().map(|step| &step.name).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), plan.steps.len());
        for step in &plan.steps {
            step.action.map(&mut |targets| {
                if let Targets::Fixed(hosts) = targets {
                    assert!(!hosts.is_empty() && hosts.iter().all(|host| all.contains(&host)));
                }
            });
        }
    }
}
