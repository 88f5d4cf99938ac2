//! Drawn scenarios are valid files, always the same for a seed, and within the rules. Together they cover everything.

use std::{path::Path, time::Duration};

use super::{
    rules::{cost, recovers_within},
    *,
};
use crate::{
    fault::{CATALOGUE, HostRef, Link},
    scenario::{Call, Moment, Start},
    system::{AuditLog, Explored, Rule},
};

fn own() -> Subject {
    Subject::of(&AuditLog::default())
}

fn drawn(subject: &Subject, seeds: std::ops::Range<u64>) -> Vec<Scenario> {
    seeds.map(|seed| draw(subject, seed).unwrap_or_else(|problems| panic!("{problems}"))).collect()
}

#[test]
fn a_drawn_scenario_prints_reads_back_and_prints_to_the_same_text() {
    for scenario in drawn(&own(), 0..400) {
        let text = scenario.print();
        let read = scenario::parse(&scenario.path, &text).expect("accepted");
        assert_eq!(read, scenario);
        assert_eq!(read.print(), text);
        assert_eq!(&*scenario.source, text);
    }
}

#[test]
fn a_seed_draws_the_same_text_again_and_another_seed_another() {
    let subject = own();
    for seed in [0, 7, 123, u64::MAX] {
        assert_eq!(draw(&subject, seed).expect("drawn").print(), draw(&subject, seed).expect("drawn").print());
    }
    assert_ne!(draw(&subject, 1).expect("drawn").print(), draw(&subject, 2).expect("drawn").print());
}

#[test]
fn a_seed_stands_in_its_file_where_a_file_can_hold_it() {
    assert_eq!(draw(&own(), 17).expect("drawn").seeds, [17]);
    assert!(draw(&own(), u64::MAX).expect("drawn").seeds.is_empty());
}

#[test]
fn every_fault_of_the_catalogue_is_drawn_and_instants_have_no_end() {
    let all = drawn(&own(), 0..1_500);
    let steps = || all.iter().flat_map(|scenario| &scenario.steps);
    for fault in CATALOGUE {
        let those: Vec<_> = steps().filter(|step| step.action.name() == fault.name).collect();
        assert!(those.len() >= 20, "`{}` is drawn {} times", fault.name, those.len());
        let instant = fault.end == crate::fault::End::Instant;
        assert!(those.iter().all(|step| step.duration.is_none()) == instant, "{}", fault.name);
    }
}

#[test]
fn steps_are_aimed_at_every_kind_of_moment_host_and_link() {
    let all = drawn(&own(), 0..1_500);
    let steps = || all.iter().flat_map(|scenario| &scenario.steps);
    let moment = |wanted: fn(&Moment) -> bool| {
        steps().any(|step| matches!(&step.start, Start::After { moment, .. } if wanted(moment)))
    };
    assert!(moment(|it| matches!(it, Moment::Bites(_))) && moment(|it| matches!(it, Moment::Nth(..))));
    assert!(moment(|it| matches!(it, Moment::Ended(_))) && moment(|it| matches!(it, Moment::Begins(_))));
    for event in ["leader-change", "batch-written", "replica-repaired", "member-changed", "cert-renewed"] {
        let first = |step: &scenario::Step| matches!(&step.start, Start::After { moment: Moment::First(it), .. } if it == event);
        assert!(steps().any(first), "never after first:{event}");
    }
    for (word, host) in HostRef::WORDS {
        let named = |step: &scenario::Step| {
            let ends = step.action.link().map(Link::ends);
            let ends = ends.into_iter().flat_map(|(a, b)| [a, b]);
            step.action.on().into_iter().chain(ends).flatten().any(|it| it == host)
        };
        assert!(steps().any(named), "never {word}");
    }
    assert!(steps().any(|step| step.action.on().is_some_and(|on| matches!(on[..], [HostRef::Step(_)]))));
    assert!(steps().any(|step| step.action.link().is_some_and(Link::is_one_way)));
}

#[test]
fn what_a_fault_sets_going_is_struck_in_its_middle_and_a_certificate_ends_in_a_connection() {
    let all = drawn(&own(), 0..1_500);
    let count = |wanted: &dyn Fn(&Scenario, &scenario::Step) -> bool| {
        let any = |it: &&Scenario| it.steps.iter().any(|step| wanted(it, step));
        all.iter().filter(any).count()
    };
    let meets = |step: &scenario::Step, fault: &str, event: &str| {
        let of = |moment: &Moment| matches!(moment, Moment::First(it) if it == event);
        step.action.name() == fault && matches!(&step.start, Start::After { moment, since: Some(_), .. } if of(moment))
    };
    for fault in ["power-loss", "crash", "slow-disk"] {
        assert!(count(&|_, step| meets(step, fault, "corruption-found")) >= 10, "{fault} in a repair");
    }
    let leader = |step: &scenario::Step| step.action.on().is_some_and(|on| matches!(on[..], [HostRef::Leader]));
    assert!(count(&|_, step| leader(step) && meets(step, "crash", "member-changed")) >= 10);
    let ends = |it: &Scenario, at: Duration| {
        let expires = |step: &scenario::Step| {
            step.action.name() == "cert-expire"
                && matches!(step.start, Start::At(end) if end > at && end - at < Duration::from_secs(10))
        };
        it.steps.iter().any(expires)
    };
    let before = |it: &Scenario, step: &scenario::Step| {
        step.action.name() == "reset" && matches!(step.start, Start::At(at) if ends(it, at))
    };
    assert!(count(&before) >= 10);
}

#[test]
fn courses_lead_through_several_steps_to_one_place() {
    let all = drawn(&own(), 0..1_500);
    let steps = |it: &Scenario| it.steps.iter().map(|step| step.action.name().to_owned()).collect::<Vec<_>>();
    let count = |wanted: &[&str], meets: &str| {
        let is = |it: &&Scenario| {
            let at =
                |from: usize| steps(it)[from..].iter().zip(wanted).filter(|(step, wanted)| step == *wanted).count();
            let begins = (0..it.steps.len()).filter(|from| at(*from) == wanted.len());
            let last = begins.map(|from| &it.steps[from + wanted.len() - 1].start).collect::<Vec<_>>();
            last.iter().any(|start| {
                matches!(start, Start::After { moment: Moment::First(event), since: Some(_), .. } if event == meets)
                    || (meets.is_empty() && matches!(start, Start::After { moment: Moment::Begins(_), .. }))
            })
        };
        all.iter().filter(is).count()
    };
    assert!(count(&["torn-write", "power-loss"], "batch-committed") >= 15, "lost after its word");
    assert!(count(&["replace", "slow-disk", "crash"], "") >= 3, "lost with its first entry");
    assert!(count(&["replace", "slow-disk", "crash"], "member-changed") >= 3, "a change left half-way");
    assert!(count(&["crash", "crash"], "leader-change") >= 10, "leaders in a row");
    assert!(count(&["slow-disk", "reset", "reset", "reset"], "") >= 10, "sent while the first one waits");
    for lags in ["isolate", "pause"] {
        let repaired = ["crash", "power-loss", "isolate", "pause"];
        let of = |last| count(&["bit-rot", lags, "crash", last], "corruption-found");
        assert!(repaired.map(of).iter().sum::<usize>() >= 3, "repaired by one that lags");
    }
    let closing = ["crash", "power-loss"].map(|last| count(&["power-loss", last], "dead-lettered"));
    assert!(closing.iter().sum::<usize>() >= 5, "lost with a place to close: {closing:?}");
}

#[test]
fn no_run_begins_with_an_event_that_only_a_step_sets_going() {
    for scenario in drawn(&own(), 0..600) {
        if let Some(Start::After { moment: Moment::First(event), since: None, .. }) =
            scenario.steps.first().map(|it| &it.start)
        {
            panic!("{event} of {}", scenario.source);
        }
    }
}

#[test]
fn clusters_and_workloads_reach_both_of_their_ends() {
    let all = drawn(&own(), 0..1_500);
    let any = |wanted: &dyn Fn(&Scenario) -> bool| all.iter().any(wanted);
    for servers in [1, 3, 5] {
        assert!(any(&|it| it.cluster.servers == servers), "never {servers} servers");
    }
    for call in [Call::Append, Call::AppendStream] {
        assert!(any(&|it| it.workload.call == call));
    }
    assert!(any(&|it| it.workload.clients == 1) && any(&|it| it.workload.clients > 60));
    assert!(any(&|it| it.cluster.latency.as_millis() == 1) && any(&|it| it.cluster.latency.as_millis() >= 190));
    assert!(any(&|it| it.workload.size == 64) && any(&|it| it.workload.size == 59 << 10));
    assert!(any(&|it| it.workload.appends.per_second() < 0.01) && any(&|it| it.workload.appends.per_second() > 500.0));
    assert!(any(&|it| it.cluster.segment.is_some_and(|most| most < 20 << 10)) && any(&|it| it.cluster.sector == 4_096));
    assert!(any(&|it| it.cluster.memory < 1 << 20) && any(&|it| it.workload.oversize_every.is_some()));
    assert!(any(&|it| it.cluster.renew_before.is_some()));
    assert!(any(&|it| it.steps.is_empty()) && any(&|it| it.steps.len() == 1) && any(&|it| it.steps.len() == 9));
    assert!(all.iter().all(|it| it.steps.len() <= 9));
}

#[test]
fn what_is_drawn_keeps_every_rule_and_a_run_of_it_can_be_waited_for() {
    let subject = own();
    let all = drawn(&subject, 0..600);
    for scenario in &all {
        assert_eq!(broken(&subject, scenario).map(|rule| rule.name), None, "{}", scenario.source);
    }
    let mean = all.iter().map(cost).sum::<u64>() / all.len() as u64;
    assert!(mean < 5_000_000, "a run costs {mean} µs on average");
}

/// Returns a step as a file has it.
fn step(action: &str, more: &str) -> String {
    format!("[[step]]\naction = \"{action}\"\n{more}\n")
}

/// Asserts which rule steps break, with so many servers, in a workload of this length.
fn assert_rules(work: &str, cases: &[(String, u32, Option<&str>)]) {
    for (steps, servers, rule) in cases {
        let text = format!(
            "title = \"t\"\n[cluster]\nservers = {servers}\n[workload]\nclients = 2\nappends = \"1/s\"\nfor = \"{work}\"\n{steps}"
        );
        let scenario = scenario::parse(Path::new("t.toml"), &text).expect("sound");
        assert_eq!(broken(&own(), &scenario).map(|rule| rule.name), *rule, "{steps}");
    }
}

#[test]
fn each_rule_forbids_what_it_says_and_nothing_less() {
    let rots = |on: &str| step("bit-rot", &format!("on = {on}\nat = \"1s\""));
    let back = |on: &str| step("rewind", &format!("on = {on}\nat = \"1s\"\nfor = \"2s\""));
    let again = step("rewind", "name = \"again\"\non = \"client-1\"\nat = \"9s\"\nfor = \"2s\"");
    let mistake = step("upgrade", "name = \"u\"\non = \"server-1\"\nto = \"breaking\"\nat = \"1s\"");
    let undone = step("rollback", "on = \"server-1\"\nafter = \"u\"\nwait = \"2s\"");
    let too_late = step("rollback", "on = \"server-1\"\nafter = \"u\"\nwait = \"15s\"");
    let crash = |on: &str| step("crash", &format!("on = \"{on}\"\nat = \"1s\"\nfor = \"12s\""));
    let full = |length: &str| step("disk-full", &format!("on = \"server-1\"\nat = \"1s\"\n{length}"));
    let slow = |length: &str| {
        step("slow-disk", &format!("on = \"servers\"\nlatency = \"2s\"\nat = \"1s\"\nfor = \"{length}\""))
    };
    let line = |action: &str, more: &str| {
        step(action, &format!("between = [\"client-2\", \"servers\"]\nat = \"1s\"\nfor = \"1s\"\n{more}"))
    };
    let tears = step("torn-write", "name = \"t\"\non = \"server-1\"\nat = \"1s\"");
    let dark = |on: &str| step("power-loss", &format!("on = \"{on}\"\nat = \"2s\"\nfor = \"1s\""));
    let cases = [
        (tears.clone() + &dark("servers"), 1, Some("one-disk-alone-keeps-its-syncs")),
        (tears.clone() + &dark("@t"), 1, Some("one-disk-alone-keeps-its-syncs")),
        (tears.clone() + &dark("clients"), 1, None),
        (tears.clone() + &dark("server-1"), 3, None),
        (tears.clone() + &dark("@t"), 3, None),
        (tears.clone() + &dark("any-server"), 3, Some("the-others-know-what-a-disk-lost")),
        (tears.clone() + &dark("server-1") + &crash("server-2"), 3, Some("the-others-know-what-a-disk-lost")),
        (tears.clone() + &dark("server-1") + &crash("clients"), 3, None),
        (tears + &crash("server-2"), 3, None),
        (rots("\"server-1\"") + &dark("server-1"), 1, None),
        (rots("\"server-1\""), 3, None),
        (rots("[\"server-1\", \"server-2\"]"), 5, None),
        (rots("[\"server-1\", \"server-2\"]"), 3, Some("damage-stays-with-a-minority")),
        (rots("\"leader\""), 3, Some("damage-stays-with-a-minority")),
        (rots("\"server-1\"") + &step("replace", "on = \"server-2\"\nat = \"2s\""), 3, Some(RULES[0].name)),
        (rots("\"server-1\""), 1, None),
        (step("wipe", "on = \"server-1\"\nat = \"1s\""), 1, Some("damage-stays-with-a-minority")),
        (back("\"server-1\""), 1, Some("damage-stays-with-a-minority")),
        (back("\"server-1\""), 3, Some("the-others-know-what-a-server-forgot")),
        (back("\"client-1\"") + &rots("\"server-1\""), 1, None),
        (back("\"client-1\"") + &back("\"client-2\""), 1, None),
        (back("\"client-1\"") + &again, 1, Some("a-client-is-put-back-once")),
        (back("\"any-client\""), 1, Some("a-client-is-put-back-once")),
        (rots("\"client-1\""), 1, Some("a-client-keeps-its-disk")),
        (mistake.clone() + &undone, 3, None),
        (mistake.clone(), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &too_late, 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &full(""), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &full("for = \"3s\""), 3, None),
        (mistake.clone() + &undone + &crash("any-server"), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &crash("clients"), 3, None),
        (mistake.clone() + &undone + &slow("12s"), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &slow("5s"), 3, None),
        (mistake.clone() + &undone + &line("latency", "delay = \"27s\""), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &line("partition", ""), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &dark("client-2"), 3, Some("a-breaking-revision-is-taken-back")),
        (mistake.clone() + &undone + &line("refuse", ""), 3, None),
        (
            mistake + &undone + &step("upgrade", "name = \"v\"\non = \"server-1\"\nto = \"next\"\nat = \"2s\""),
            3,
            Some("a-breaking-revision-is-taken-back"),
        ),
        (step("surge", "appends = \"90000/s\"\nat = \"1s\""), 1, Some("a-run-can-be-waited-for")),
        (step("surge", "appends = \"900/s\"\nat = \"1s\""), 1, None),
        (
            step("churn", "on = \"server-1\"\nevery = \"2s\"\nat = \"1s\"\nfor = \"3h\""),
            1,
            Some("a-run-can-be-waited-for"),
        ),
        (step("churn", "on = \"server-1\"\nevery = \"2s\"\nat = \"1s\""), 1, None),
        (step("ca-rotate", "on = \"servers\"\noverlap = \"24h\"\nat = \"1s\""), 3, Some("a-run-can-be-waited-for")),
    ];
    assert_rules("19s", &cases);
}

#[test]
fn while_a_server_forgets_nothing_else_strikes_the_servers() {
    const RULE: Option<&str> = Some("the-others-know-what-a-server-forgot");
    let forgets = |at: &str, down: &str| {
        step("rewind", &format!("name = \"f\"\non = \"server-1\"\nat = \"{at}\"\nfor = \"2s\"\ndown = \"{down}\""))
    };
    let crash = |on: &str| step("crash", &format!("on = \"{on}\"\nat = \"1s\"\nfor = \"12s\""));
    let cut = |at: &str, one: &str, other: &str| {
        step("blackhole", &format!("between = [{one}, {other}]\nat = \"{at}\"\nfor = \"1s\""))
    };
    assert_rules(
        "99s",
        &[
            (forgets("30s", "15s"), 3, None),
            (forgets("30s", "5s"), 3, RULE),
            (forgets("30s", "15s") + &crash("server-2"), 3, None),
            (forgets("20s", "15s") + &crash("server-2"), 3, RULE),
            (step("wipe", "on = \"server-1\"\nat = \"1s\"") + &crash("server-2"), 3, None),
            (forgets("1s", "15s") + &cut("80s", "\"server-2\"", "\"server-3\""), 3, None),
            (forgets("1s", "15s") + &cut("20s", "\"server-2\"", "\"server-3\""), 3, RULE),
            (forgets("1s", "15s") + &cut("20s", "\"clients\"", "\"servers\""), 3, None),
            (forgets("1s", "15s") + &step("restart", "name = \"r\"\non = \"server-2\"\nafter = \"f\""), 3, RULE),
        ],
    );
}

#[test]
fn entries_that_are_too_large_cost_what_is_sent_anew_behind_them_and_take_their_round_trips() {
    let read = |every: &str, latency: &str| {
        let text = format!(
            "title = \"t\"\n[cluster]\nservers = 5\nlatency = \"{latency}\"\npayload-max = \"2KiB\"\n[workload]\nclients = 3\n\
             appends = \"150/s\"\nfor = \"40s\"\n{every}\n"
        );
        scenario::parse(Path::new("t.toml"), &text).expect("sound")
    };
    let (many, few) = ("oversize-every = 4", "oversize-every = 200");
    let forbidden = |scenario: &Scenario| broken(&own(), scenario).map(|rule| rule.name);
    assert_eq!(forbidden(&read(many, "123ms")), Some("a-run-can-be-waited-for"));
    assert_eq!(forbidden(&read(few, "123ms")), None);
    let within = |every, latency| recovers_within(&read(every, latency)).as_secs();
    assert!(
        within(many, "123ms") > within(few, "123ms") + 500,
        "each of a client's five hundred takes more than a second"
    );
    assert!(within(many, "123ms") > within(many, "5ms") + 500, "nearer it takes less");
    assert!(within(many, "5ms") > within(few, "5ms") + 50, "and fewer take less");
}

#[test]
fn a_small_memory_takes_longer_far_away_and_a_large_one_does_not() {
    let within = |memory: &str, latency: &str| {
        let text = format!(
            "title = \"t\"\n[cluster]\nservers = 3\nlatency = \"{latency}\"\nmemory = \"{memory}\"\n[workload]\nclients = 2\n\
             appends = \"400/s\"\nfor = \"20s\"\n"
        );
        recovers_within(&scenario::parse(Path::new("t.toml"), &text).expect("sound")).as_secs()
    };
    assert!(within("600KiB", "150ms") > within("64MiB", "150ms") + 200);
    assert!(within("600KiB", "5ms") < within("600KiB", "150ms") - 100);
    assert_eq!(within("32MiB", "150ms"), within("64MiB", "150ms"));
}

#[test]
fn runs_have_several_steps_and_those_that_change_the_course_of_a_log_most_often() {
    let all = drawn(&own(), 0..600);
    let steps: Vec<&str> = all.iter().flat_map(|it| &it.steps).map(|step| step.action.name()).collect();
    let alone = all.iter().filter(|it| it.steps.len() == 1).count();
    assert!(alone * 6 < all.len(), "{alone} of {} runs have one step", all.len());
    let count = |names: &[&str]| steps.iter().filter(|name| names.contains(name)).count();
    let (ends, flips) = (count(&["crash", "restart", "churn", "pause"]), count(&["bit-flip"]));
    assert!(ends > 2 * flips, "processes {ends}, flipped bits {flips}");
    assert!(count(&["partition", "blackhole", "refuse", "isolate", "reset"]) > 2 * flips);
}

#[test]
fn a_log_is_asked_what_it_can_suffer_and_keeps_rules_of_its_own() {
    let never_crashes = |scenario: &Scenario| scenario.steps.iter().all(|step| step.action.name() != "crash");
    let rule = Rule { name: "no-crash", reason: "it says so", allows: never_crashes };
    let subject = Subject { explored: Explored::default().and(rule), ..own() };
    let all = drawn(&subject, 0..300);
    assert!(all.iter().all(|it| it.cluster.servers == 1 && it.cluster.renew_before.is_none()));
    let names: BTreeSet<&str> = all.iter().flat_map(|it| &it.steps).map(|step| step.action.name()).collect();
    assert!(!names.contains("crash") && names.contains("power-loss") && !names.contains("replace"), "{names:?}");
    let free = Subject { explored: Explored::default().free_of("a-client-keeps-its-disk"), ..own() };
    assert!(rules(&free).all(|rule| rule.name != "a-client-keeps-its-disk") && rules(&free).count() == RULES.len() - 1);
}

#[test]
fn a_rule_that_allows_nothing_is_named() {
    let rule = Rule { name: "nothing", reason: "", allows: |_| false };
    let subject = Subject { explored: Explored::default().and(rule), ..own() };
    let error = draw(&subject, 1).expect_err("forbidden").to_string();
    assert!(error.contains("`nothing`") && error.contains("cure:"), "{error}");
}

#[test]
fn a_surge_of_a_moment_offers_for_the_ticks_that_it_touches() {
    let text = "title = \"t\"\n[cluster]\nservers = 1\n[workload]\nclients = 1\nappends = \"1/h\"\nfor = \"10s\"\n\
                [[step]]\naction = \"surge\"\nappends = \"14492/s\"\nat = \"1s\"\nfor = \"1ms\"\n";
    let scenario = scenario::parse(Path::new("t.toml"), text).expect("sound");
    assert!(super::rules::offered(&scenario) >= 14_492 / 200, "a tick of 5 ms");
}
