//! Tests the file format as a whole: each mistake has its code, all are found at once, no text makes the parser panic,
//! and what is printed reads back.

use std::{path::Path, time::Duration};

use super::*;

mod any;

/// A file without mistakes, to be spoiled in one place.
const SOUND: &str = r#"title = "t"
[cluster]
servers = 3
[workload]
clients = 2
appends = "20/s"
for = "60s"
[[step]]
name = "cut"
action = "partition"
between = ["clients", "servers"]
at = "10s"
for = "10s"
[[step]]
action = "crash"
on = "server-1"
after = "cut"
wait = "1s"
[expect]
seen = [{ event = "retry", on = "clients", during = "cut" }]
"#;

/// Reads a text for a log that accepts less than a file can ask for.
fn read_text(text: &str) -> Result<Scenario, Vec<Problem>> {
    let sizes = Sizes { entry_max: 59 << 10, payload_max: 60 << 10, segment: 16 << 10..=64 << 20 };
    parse_for(Path::new("scenarios/test.toml"), text, &sizes)
}

fn codes(text: &str) -> Vec<&'static str> {
    read_text(text).err().unwrap_or_default().iter().map(|problem| problem.code).collect()
}

/// Returns the codes after one piece of the sound file was replaced.
fn spoiled(from: &str, to: &str) -> Vec<&'static str> {
    assert!(SOUND.contains(from), "{from}");
    codes(&SOUND.replacen(from, to, 1))
}

fn with_step(step: &str) -> Vec<&'static str> {
    codes(&SOUND.replace("[expect]", &format!("[[step]]\n{step}\n[expect]")))
}

#[test]
fn a_sound_file_is_read_with_its_defaults() {
    let scenario = read_text(SOUND).expect("sound");
    assert_eq!(scenario.name(), "test");
    assert_eq!(scenario.cluster.latency, LATENCY_DEFAULT);
    assert_eq!(scenario.workload.call, Call::Append);
    assert_eq!((scenario.workload.size, scenario.expect.acked_at_least), (256, 1));
    assert_eq!(scenario.steps[1].name, "crash");
    assert_eq!((scenario.steps[0].line, scenario.steps[1].line), (8, 14));
    assert_eq!(scenario.horizon(), Duration::from_secs(60 + 60 + 30 + 60));
}

#[test]
fn segments_may_be_as_small_and_as_large_as_the_log_allows() {
    assert_eq!(read_text(SOUND).expect("sound").cluster.segment, None);
    for (text, bytes) in [("16KiB", 16 << 10), ("64MiB", 64 << 20)] {
        let scenario = read_text(&SOUND.replacen("servers = 3", &format!("servers = 3\nsegment = \"{text}\""), 1));
        assert_eq!(scenario.expect(text).cluster.segment, Some(bytes));
    }
}

#[test]
fn what_is_too_large_depends_on_the_log_and_what_no_log_is_asked_on_the_format() {
    let asks = |place: &str, what: &str| SOUND.replacen(place, &format!("{place}\n{what}"), 1);
    let cases = [
        ("clients = 2", "size", "61KiB", "1025KiB"),
        ("servers = 3", "payload-max", "61KiB", "1025KiB"),
        ("servers = 3", "segment", "65MiB", "1025MiB"),
        ("servers = 3", "segment", "4KiB", "4095B"),
    ];
    for (place, key, beyond_this_log, beyond_any) in cases {
        let [this, any] = [beyond_this_log, beyond_any].map(|size| asks(place, &format!("{key} = \"{size}\"")));
        assert_eq!(codes(&this), ["out-of-range"], "{key}");
        assert!(parse(Path::new("t.toml"), &this).is_ok(), "{key}");
        let problems = parse(Path::new("t.toml"), &any).expect_err(key);
        assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["out-of-range"], "{key}");
    }
}

/// What is replaced by what, and the code of the mistake that this makes.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("servers = 3", "servers = 3\nserver = 1", "unknown-key"),
    ("\"partition\"", "\"partiton\"", "unknown-action"),
    ("\"server-1\"", "\"servrs\"", "unknown-host"),
    ("\"retry\"", "\"retri\"", "unknown-event"),
    ("servers = 3", "servers = \"3\"", "wrong-type"),
    ("[expect]", "[expect]\nconnections-at-most = 20", "no-unit"),
    ("[expect]", "[expect]\nconnections-at-most = \"0/s\"", "out-of-range"),
    ("servers = 3", "", "missing-key"),
    ("on = \"server-1\"", "", "missing-key"),
    ("between = [\"clients\", \"servers\"]", "", "missing-key"),
    ("at = \"10s\"", "at = 10", "no-unit"),
    ("at = \"10s\"", "at = \"10\"", "no-unit"),
    ("at = \"10s\"", "at = \"-10s\"", "bad-quantity"),
    ("at = \"10s\"", "at = \"99999999999999999999s\"", "bad-quantity"),
    ("at = \"10s\"", "at = \"soon\"", "bad-quantity"),
    ("at = \"10s\"", "at = \"25h\"", "out-of-range"),
    ("servers = 3", "servers = 10", "out-of-range"),
    ("servers = 3", "servers = 0xffffffffffffffff", "out-of-range"),
    ("\"20/s\"", "\"0/s\"", "out-of-range"),
    ("clients = 2", "clients = 2\nsize = \"61KiB\"", "out-of-range"),
    ("servers = 3", "servers = 3\npayload-max = \"255B\"", "cannot-happen"),
    ("servers = 3", "servers = 3\npayload-max = \"61KiB\"", "out-of-range"),
    ("servers = 3", "servers = 3\nsector = \"8KiB\"", "out-of-range"),
    ("servers = 3", "servers = 3\nsector = \"1KiB\"", "out-of-range"),
    ("servers = 3", "servers = 3\nsegment = \"16383B\"", "out-of-range"),
    ("servers = 3", "servers = 3\nsegment = \"65MiB\"", "out-of-range"),
    ("servers = 3", "servers = 3\nsegment = \"64\"", "no-unit"),
    ("servers = 3", "servers = 3\nsegment = 65536", "no-unit"),
    ("clients = 2", "clients = 2\noversize-every = 50", "missing-key"),
    ("clients = 2", "clients = 2\noversize-every = 1", "out-of-range"),
    ("at = \"10s\"\n", "", "start-missing"),
    ("at = \"10s\"", "at = \"10s\"\nafter = \"crash\"", "start-twice"),
    ("at = \"10s\"", "at = \"10s\"\nwait = \"1s\"", "wait-without-after"),
    ("at = \"10s\"", "at = \"10s\"\nsince = \"crash\"", "since-without-after"),
    ("wait = \"1s\"", "since = \"cut\"", "since-without-first"),
    ("at = \"10s\"", "at = \"60s\"", "starts-after-end"),
    ("wait = \"1s\"", "wait = \"40s\"", "starts-after-end"),
    ("after = \"cut\"", "after = \"cat\"", "unknown-step"),
    ("after = \"cut\"", "after = \"crash:begins\"", "circle"),
    ("after = \"cut\"", "after = \"cut:soon\"", "unknown-moment"),
    ("after = \"cut\"", "after = \"cut:2\"", "cannot-happen"),
    ("after = \"cut\"", "after = \"first:torn-tail-truncated\"", "cannot-happen"),
    ("for = \"10s\"", "", "cannot-happen"),
    ("\"retry\"", "\"corruption-found\"", "cannot-happen"),
    ("on = \"server-1\"", "name = \"cut\"\non = \"server-1\"", "duplicate-name"),
    ("on = \"server-1\"", "on = \"server-1\"\non = \"server-2\"", "duplicate-key"),
    ("on = \"server-1\"", "on = [\"server-1\", \"server-1\"]", "duplicate-name"),
    ("[\"clients\", \"servers\"]", "[\"server-1\", \"server-1\"]", "self-link"),
    ("[\"clients\", \"servers\"]", "[\"clients\", \"auditor\"]", "cannot-happen"),
    ("[\"clients\", \"servers\"]", "[\"clients\"]", "wrong-type"),
    ("at = \"10s\"", "at = \"10s\"\nfrom = \"servers\"", "link-twice"),
    ("\"server-1\"", "\"server-5\"", "empty-selection"),
    ("\"server-1\"", "[]", "empty-selection"),
    ("\"server-1\"", "\"auditor\"", "wrong-host"),
    ("\"server-1\"", "\"@cut\"", "wrong-host"),
    ("during = \"cut\"", "after = \"first:clock-anomaly\"", "cannot-happen"),
    ("on = \"clients\"", "on = \"any-client\"", "wrong-host"),
    ("title = \"t\"", "title = \"a\\u001b[2Jb\"", "control-character"),
    ("title = \"t\"", "title = \"\"", "out-of-range"),
    ("name = \"cut\"", "name = \"Cut!\"", "bad-name"),
    ("during = \"cut\"", "reason = \"x\", event2 = 1", "unknown-key"),
    ("title = \"t\"", "title = \"t\"\nseeds = [-1]", "out-of-range"),
    ("title = \"t\"", "title = t", "syntax"),
    (
        "title = \"t\"",
        "title = \"t\"\nknown-violation = { invariant = \"no-gap\", issue = \"https://x\" }",
        "unknown-invariant",
    ),
];

#[test]
fn each_mistake_has_its_code() {
    for (from, to, code) in MISTAKES {
        let found = spoiled(from, to);
        assert!(found.contains(code), "{from} -> {to}: {found:?}");
    }
}

#[test]
fn one_mistake_is_one_problem() {
    for (from, to) in [
        ("\"partition\"", "\"partiton\""),
        ("at = \"10s\"", "at = 10"),
        ("\"server-1\"", "\"server-9\""),
        ("servers = 3", "servers = \"3\""),
        ("after = \"cut\"", "after = \"cat\""),
        ("title = \"t\"", "title = "),
    ] {
        assert_eq!(spoiled(from, to).len(), 1, "{from} -> {to}: {:?}", spoiled(from, to));
    }
}

#[test]
fn a_fault_without_an_end_has_no_for() {
    let step = "action = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"30s\"";
    assert_eq!(with_step(step), [""; 0]);
    assert_eq!(with_step(&format!("{step}\nfor = \"1s\"")), ["for-on-endless"]);
    let one_way = "action = \"reset\"\nfrom = \"clients\"\nto = \"servers\"\nat = \"30s\"";
    assert!(with_step(one_way).contains(&"unknown-key"));
}

#[test]
fn a_second_step_of_one_action_needs_a_name_only_if_something_refers_to_it() {
    let crash = "action = \"crash\"\non = \"server-2\"\nat = \"30s\"\nfor = \"1s\"";
    assert_eq!(with_step(crash), [""; 0]);
    let referred = format!("{crash}\n[[step]]\naction = \"pause\"\non = \"server-3\"\nafter = \"crash:begins\"");
    assert_eq!(with_step(&referred), ["ambiguous-name"]);
}

#[test]
fn overlapping_steps_of_one_action_are_refused_where_they_contradict() {
    let slow = |name: &str, bytes: &str, at: &str| {
        format!(
            "name = \"{name}\"\naction = \"slow-reader\"\non = \"clients\"\nbytes = \"{bytes}\"\nat = \"{at}\"\n\
             for = \"10s\""
        )
    };
    let two = |a: String, b: String| with_step(&format!("{a}\n[[step]]\n{b}"));
    assert_eq!(two(slow("a", "1KiB", "20s"), slow("b", "2KiB", "25s")), ["overlap"]);
    assert_eq!(two(slow("a", "1KiB", "20s"), slow("b", "1KiB", "25s")), [""; 0]);
    assert_eq!(two(slow("a", "1KiB", "20s"), slow("b", "2KiB", "30s")), [""; 0]);
    let crash = |name: &str, host: &str| {
        format!("name = \"{name}\"\naction = \"crash\"\non = \"{host}\"\nat = \"20s\"\nfor = \"5s\"")
    };
    assert_eq!(two(crash("a", "servers"), crash("b", "server-2")), ["overlap"]);
    assert_eq!(two(crash("a", "server-3"), crash("b", "server-2")), [""; 0]);
}

#[test]
fn delays_of_several_steps_on_one_link_add_up_and_contradict_nothing() {
    let others = |name: &str, host: &str, delay: &str| {
        format!(
            "name = \"{name}\"\naction = \"latency\"\nbetween = [\"{host}\", \"servers\"]\ndelay = \"{delay}\"\n\
             at = \"20s\"\nfor = \"10s\""
        )
    };
    // Both slow the link between server-1 and server-2.
    let two = format!("{}\n[[step]]\n{}", others("a", "server-1", "100ms"), others("b", "server-2", "250ms"));
    assert_eq!(with_step(&two), [""; 0]);
}

#[test]
fn an_overlap_names_the_place_that_both_steps_strike() {
    let message = |a: &str, b: &str| {
        let text =
            SOUND.replace("[expect]", &format!("[[step]]\nname = \"a\"\n{a}\n[[step]]\nname = \"b\"\n{b}\n[expect]"));
        let problems = read_text(&text).expect_err("they overlap");
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].message.clone()
    };
    let slow = |on: &str, bytes: &str| {
        format!("action = \"slow-reader\"\non = {on}\nbytes = \"{bytes}\"\nat = \"20s\"\nfor = \"10s\"")
    };
    assert_eq!(
        message(&slow("[\"server-1\", \"server-3\"]", "1KiB"), &slow("[\"server-2\", \"server-3\"]", "2KiB")),
        "this step overlaps `a`, the same action on server-3"
    );
    let surge = |appends: &str| format!("action = \"surge\"\nappends = \"{appends}\"\nat = \"20s\"\nfor = \"10s\"");
    assert_eq!(message(&surge("9/s"), &surge("8/s")), "this step overlaps `a`, the same action on the workload");
}

#[test]
fn a_surge_overlaps_a_surge_of_another_size_and_pressure_another_budget_on_the_same_host() {
    let surge = |name: &str, appends: &str, at: &str| {
        format!("name = \"{name}\"\naction = \"surge\"\nappends = \"{appends}\"\nat = \"{at}\"\nfor = \"10s\"")
    };
    let squeeze = |name: &str, host: &str, budget: &str| {
        format!("name = \"{name}\"\naction = \"memory-pressure\"\non = \"{host}\"\nbudget = \"{budget}\"\nat = \"20s\"")
    };
    let two = |a: String, b: String| with_step(&format!("{a}\n[[step]]\n{b}"));
    assert_eq!(two(surge("a", "9/s", "20s"), surge("b", "8/s", "25s")), ["overlap"]);
    assert_eq!(two(surge("a", "9/s", "20s"), surge("b", "9/s", "25s")), [""; 0]);
    assert_eq!(two(surge("a", "9/s", "20s"), surge("b", "8/s", "30s")), [""; 0]);
    assert_eq!(two(squeeze("a", "servers", "1MiB"), squeeze("b", "server-2", "2MiB")), ["overlap"]);
    assert_eq!(two(squeeze("a", "server-1", "1MiB"), squeeze("b", "server-2", "2MiB")), [""; 0]);
    assert_eq!(two(squeeze("a", "server-1", "1MiB"), surge("b", "9/s", "20s")), [""; 0]);
}

#[test]
fn two_upgrades_of_one_host_at_one_instant_contradict_unless_they_are_the_same() {
    let upgrade = |name: &str, to: &str, at: &str| {
        format!("name = \"{name}\"\naction = \"upgrade\"\non = \"servers\"\nto = \"{to}\"\nat = \"{at}\"")
    };
    let two = |a: String, b: String| with_step(&format!("{a}\n[[step]]\n{b}"));
    assert_eq!(two(upgrade("a", "next", "20s"), upgrade("b", "previous", "20s")), ["overlap"]);
    assert_eq!(two(upgrade("a", "next", "20s"), upgrade("b", "next", "20s")), [""; 0]);
    assert_eq!(two(upgrade("a", "next", "20s"), upgrade("b", "previous", "25s")), [""; 0]);
}

#[test]
fn who_is_kept_down_by_another_step_cannot_be_struck() {
    let step = |action: &str, host: &str, at: &str| {
        format!("name = \"{action}-1\"\naction = \"{action}\"\non = \"{host}\"\nat = \"{at}\"\nfor = \"5s\"")
    };
    let two = |a: String, b: String| with_step(&format!("{a}\n[[step]]\n{b}"));
    assert_eq!(two(step("crash", "server-2", "20s"), step("power-loss", "server-2", "22s")), ["overlap"]);
    assert_eq!(two(step("restart", "server-2", "22s"), step("power-loss", "servers", "20s")), ["overlap"]);
    // Fine if the server is up again, if other servers are struck too, or if only the run knows the host.
    assert_eq!(two(step("crash", "server-2", "20s"), step("power-loss", "server-2", "25s")), [""; 0]);
    assert_eq!(two(step("crash", "server-2", "20s"), step("power-loss", "servers", "22s")), [""; 0]);
    assert_eq!(two(step("crash", "server-2", "20s"), step("power-loss", "leader", "22s")), [""; 0]);
    // By then another server leads.
    let leader = |name: &str, at: &str| step("crash", "leader", at).replace("crash-1", name);
    assert_eq!(two(leader("a", "20s"), leader("b", "22s")), [""; 0]);
}

#[test]
fn a_repeated_step_is_counted_only_as_far_as_it_goes() {
    let after = |step: &str, n: u32| {
        with_step(&format!(
            "name = \"it\"\n{step}\nat = \"20s\"\n[[step]]\naction = \"pause\"\non = \"server-3\"\nafter = \"it:{n}\""
        ))
    };
    let rollout = "action = \"rolling-upgrade\"\nto = \"next\"\non = [\"servers\", \"any-client\"]";
    assert_eq!(after(rollout, 4), [""; 0]);
    assert_eq!(after(rollout, 5), ["cannot-happen"]);
    let churn = "action = \"churn\"\non = \"server-2\"\nevery = \"3s\"\nfor = \"10s\"";
    assert_eq!(after(churn, 4), [""; 0]);
    assert_eq!(after(churn, 5), ["cannot-happen"]);
}

#[test]
fn a_certificate_that_ends_after_a_moment_lasts_for_a_while() {
    let expire = "action = \"cert-expire\"\non = \"servers\"\n";
    assert_eq!(with_step(&format!("{expire}at = \"20s\"")), [""; 0]);
    assert_eq!(with_step(&format!("{expire}after = \"cut\"\nwait = \"5s\"")), [""; 0]);
    assert_eq!(with_step(&format!("{expire}after = \"cut\"")), ["missing-key"]);
    assert_eq!(with_step(&format!("{expire}after = \"cut\"\nwait = \"0s\"")), ["missing-key"]);
}

/// Returns the codes of the sound file with a step and with this pattern as its expectation.
fn expecting(step: &str, list: &str, pattern: &str) -> Vec<&'static str> {
    let text = SOUND.replace("[expect]", &format!("[[step]]\n{step}\n[expect]"));
    let at = text.find("seen = ").expect("it is there");
    codes(&format!("{}{list} = [{{ {pattern} }}]\n", &text[..at]))
}

#[test]
fn a_reason_that_is_no_word_or_that_no_step_can_give_is_refused() {
    let skew = "action = \"clock-skew\"\non = \"server-2\"\noffset = \"-90s\"\nat = \"20s\"";
    let wrong = |how: &str| format!("action = \"cert-mismatch\"\non = \"server-2\"\nwrong = \"{how}\"\nat = \"20s\"");
    let reset = "action = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"30s\"";
    let refused = |step: &str, reason: &str| {
        expecting(step, "seen", &format!("event = \"handshake-refused\", reason = \"{reason}\""))
    };
    assert_eq!(refused(reset, "expird"), ["unknown-reason"]);
    for (step, reason) in [(skew, "expired"), (skew, "not-yet-valid"), (reset, "timed-out"), (reset, "refused-by-peer")]
    {
        assert_eq!(refused(step, reason), [""; 0], "{reason}");
    }
    for (how, reason) in [("name", "wrong-name"), ("issuer", "unknown-issuer"), ("not-yet-valid", "not-yet-valid")] {
        assert_eq!(refused(&wrong(how), reason), [""; 0], "{reason}");
        assert_eq!(refused(&wrong("key-usage"), reason), ["cannot-happen"], "{reason}");
        assert_eq!(refused(reset, reason), ["cannot-happen"], "{reason}");
    }
    assert_eq!(expecting(reset, "never", "event = \"handshake-refused\", reason = \"expired\""), [""; 0]);
    assert_eq!(expecting(reset, "never", "event = \"handshake-refused\", reason = \"expird\""), ["unknown-reason"]);
    assert_eq!(expecting(reset, "never", "event = \"call-ended\", reason = \"deadline\""), ["unknown-reason"]);
    assert_eq!(expecting(reset, "seen", "event = \"leaf-read\", reason = \"x\""), ["no-reason"]);
}

#[test]
fn an_event_is_expected_only_of_those_who_tell_it() {
    let reset = "action = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"30s\"";
    let seen = |event: &str, on: &str| expecting(reset, "seen", &format!("event = \"{event}\", on = \"{on}\""));
    assert_eq!(seen("retry", "servers"), ["cannot-happen"]);
    assert_eq!(seen("batch-synced", "client-1"), ["cannot-happen"]);
    assert_eq!(seen("retry", "client-1"), [""; 0]);
    assert_eq!(seen("retry", "@crash"), [""; 0]);
    assert_eq!(seen("handshake-accepted", "servers"), [""; 0]);
}

#[test]
fn without_an_issuer_nobody_renews() {
    let cut = "name = \"off\"\naction = \"blackhole\"\nbetween = [\"clients\", \"servers\"]\nat = \"30s\"";
    for event in ["renewal-failed", "cert-renewed"] {
        assert_eq!(expecting(cut, "seen", &format!("event = \"{event}\"")), ["cannot-happen"], "{event}");
        assert_eq!(expecting(cut, "never", &format!("event = \"{event}\"")), [""; 0], "{event}");
    }
    let renewing = SOUND.replace("servers = 3", "servers = 3\nrenew-before = \"30s\"");
    let seen = "seen = [{ event = \"renewal-failed\" }, { event = \"cert-renewed\" }]\n";
    assert_eq!(codes(&format!("{}{seen}", &renewing[..renewing.find("seen = ").expect("it is there")])), [""; 0]);
}

#[test]
fn one_server_has_no_followers_and_no_link_to_itself() {
    let one = SOUND.replace("servers = 3", "servers = 1");
    assert_eq!(codes(&one), [""; 0]);
    assert_eq!(codes(&one.replace("\"server-1\"", "\"followers\"")), ["empty-selection"]);
    assert_eq!(codes(&one.replace("[\"clients\", \"servers\"]", "[\"leader\", \"server-1\"]")), ["self-link"]);
}

#[test]
fn churn_must_leave_time_to_be_up_and_to_crash_twice() {
    let churn = "action = \"churn\"\non = \"server-2\"\nat = \"30s\"\nfor = \"9s\"";
    assert_eq!(with_step(churn), [""; 0]);
    assert_eq!(with_step(&format!("{churn}\nevery = \"2s\"\ndown = \"2s\"")), ["out-of-range"]);
    assert_eq!(with_step(&churn.replace("9s", "5999ms")), ["out-of-range"]);
}

#[test]
fn a_circle_is_named_once() {
    let step = |name: &str, after: &str| {
        format!("name = \"{name}\"\naction = \"pause\"\non = \"server-2\"\nafter = \"{after}:begins\"\nfor = \"1s\"")
    };
    let circle = [step("a", "c"), step("b", "a"), step("c", "b"), step("d", "c")].join("\n[[step]]\n");
    assert_eq!(with_step(&circle), ["circle"]);
    let through_hosts = "name = \"a\"\naction = \"pause\"\non = \"@a\"\nat = \"20s\"\nfor = \"1s\"";
    assert_eq!(with_step(through_hosts), ["circle"]);
}

#[test]
fn limits_are_said_before_the_work_is_done() {
    let large = "#".repeat(FILE_BYTES_MAX + 1);
    let problems = read_text(&large).expect_err("too large");
    assert_eq!((problems.len(), problems[0].code), (1, "too-many"));
    assert!(problems[0].message.contains("1048576"));
    let reset = "[[step]]\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"1s\"\n";
    let many = SOUND.replace("[expect]", &format!("{}[expect]", reset.repeat(STEPS_MAX + 1)));
    assert_eq!(codes(&many), ["too-many"]);
    let wrong = SOUND.replace("[expect]", &format!("{}[expect]", "[[step]]\n".repeat(PROBLEMS_MAX)));
    let problems = read_text(&wrong).expect_err("wrong");
    assert_eq!((problems.len(), problems[PROBLEMS_MAX - 1].code), (PROBLEMS_MAX, "not-shown"));
    assert!(!render::all_shown(&problems));
}

#[test]
fn eight_mistakes_look_like_this() {
    let text = include_str!("eight_mistakes.toml");
    let path = Path::new("scenarios/upgrade-in-the-dark.toml");
    let problems = parse(path, text).expect_err("wrong");
    assert_eq!(problems.len(), 8);
    let page = render::problems(path, text, &problems) + &render::summary(1, problems.len(), 0, 3);
    insta::assert_snapshot!(page);
}

#[test]
fn every_shipped_scenario_is_sound_and_reads_back_as_printed() {
    let paths = discover(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")]).expect("some");
    assert!(paths.len() >= 7);
    for path in paths {
        match read(&path, &Sizes::default()) {
            Ok(scenario) => assert_eq!(bare(read_text(&scenario.print()).expect("sound")), bare(scenario)),
            Err(ReadError::Invalid { text, problems, .. }) => {
                panic!("{}", render::problems(&path, &text, &problems));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_plan_is_the_same_for_the_same_seed_and_a_later_step_changes_nothing() {
    let step = "[[step]]\nname = \"a\"\naction = \"pause\"\non = [\"any-server\", \"any-client\"]\nat = \"30s\"\n";
    let one = read_text(&SOUND.replace("[expect]", &format!("{step}[expect]"))).expect("sound");
    let more = format!("{step}{}[expect]", step.replace("\"a\"", "\"b\"").replace("30s", "40s"));
    let more = more.replacen("at = \"30s\"", "at = \"30s\"\nfor = \"1s\"", 1);
    let two = read_text(&SOUND.replace("[expect]", &more)).expect("sound");
    let mut drawn = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (first, second) = (plan(&one, seed), plan(&two, seed));
        assert_eq!(first, plan(&one, seed));
        assert_eq!(first.steps[2].action, second.steps[2].action);
        assert_eq!(first.tick, Duration::from_millis(5));
        drawn.insert(format!("{:?}", first.steps[2].action));
    }
    assert_eq!(drawn.len(), 6, "three servers and two clients are all drawn sooner or later");
}

#[test]
fn a_plan_keeps_as_words_what_only_the_run_knows() {
    let text = SOUND.replace("\"server-1\"", "[\"leader\", \"server-2\", \"@cat\"]").replace(
        "[[step]]\naction = \"crash\"",
        "[[step]]\nname = \"cat\"\naction = \"pause\"\non = \"followers\"\nat = \"5s\"\n[[step]]\naction = \"crash\"",
    );
    let plan = plan(&read_text(&text).expect("sound"), 0);
    let (pause, crash) = (&plan.steps[1].action, &plan.steps[2].action);
    assert_eq!((pause.name(), pause.on()), ("pause", Some(&Targets::Followers)));
    let all = vec![Targets::Fixed(vec!["server-2".into()]), Targets::Leader, Targets::SameAs("cat".into())];
    assert_eq!((crash.name(), crash.on()), ("crash", Some(&Targets::Several(all))));
}

/// Returns a scenario without the parts that printing cannot keep.
fn bare(mut scenario: Scenario) -> Scenario {
    scenario.path = Default::default();
    scenario.source = "".into();
    scenario.steps.iter_mut().for_each(|step| step.line = 0);
    let expect = &mut scenario.expect;
    for patterns in [&mut expect.seen, &mut expect.never, &mut expect.sometimes] {
        patterns.iter_mut().for_each(|pattern| pattern.line = 0);
    }
    scenario
}
