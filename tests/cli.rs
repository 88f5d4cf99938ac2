//! The command line as people and scripts meet it: what it says, where, and with which status it ends, above all where
//! something is wrong. Each command is killed after half a minute: nothing that it is given may make it hang.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const GAPLESS: &str = env!("CARGO_BIN_EXE_gapless");

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own for each test, in which commands run.
struct Bench(TempDir);

/// What a command left behind.
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(GAPLESS);
        command.args(arguments).current_dir(self.0.path()).env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        finish(&mut self.command(arguments))
    }
}

fn finish(command: &mut Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let out = reader(child.stdout.take().expect("piped"));
    let err = reader(child.stderr.take().expect("piped"));
    let Some(status) = wait(&mut child, PATIENCE) else {
        child.kill().expect("killed");
        panic!("{command:?} hangs");
    };
    let said = Said { status, out: out.join().expect("read"), err: err.join().expect("read") };
    let all = format!("{}{}", said.out, said.err);
    assert!(!all.contains("panicked at") && !all.contains("RUST_BACKTRACE"), "{command:?} panicked:\n{all}");
    said
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8(bytes).expect("what gapless prints is UTF-8")
    })
}

/// The exit status; for a death by signal its number plus 128, as a shell says it.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().expect("waited") {
            return status.code().or_else(|| status.signal().map(|signal| signal + 128));
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A scenario that runs in a moment.
const QUICK: &str = r#"
title = "A crash"

[cluster]
servers = 1

[workload]
clients = 1
appends = "20/s"
for     = "4s"

[[step]]
action = "crash"
on     = "server-1"
at     = "1s"
for    = "500ms"
"#;

// ---- files that are no scenarios ----

/// What `check` and `run` say of one file; the status must be 3, and neither may hang.
fn refused(bench: &Bench, path: &str) -> String {
    let check = bench.run(&["check", path]);
    assert_eq!((check.status, check.err.as_str()), (3, ""), "check: {}", check.out);
    let run = bench.run(&["run", path]);
    assert_eq!((run.status, run.out.as_str()), (3, ""), "run: {}", run.err);
    assert!(check.out.starts_with(run.err.trim_end()), "they differ:\n{}\n{}", check.out, run.err);
    check.out
}

#[test]
fn garbage_is_refused_with_the_first_wrong_byte() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bench.file("garbage.toml", bytes);
    bench.file("latin.toml", b"title = \"caf\xe9\"\n");
    insta::assert_snapshot!(refused(&bench, "garbage.toml") + &refused(&bench, "latin.toml"));
}

#[test]
fn a_huge_file_is_refused_unread() {
    let bench = Bench::new();
    File::create(bench.path("huge.toml")).expect("made").set_len(100 << 20).expect("grown");
    let mut many = String::from("title = \"many\"\n");
    for n in 0..1_000_000 {
        many.push_str(&format!("[[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"{n}ms\"\n"));
    }
    bench.file("many.toml", &many);
    insta::assert_snapshot!(refused(&bench, "huge.toml") + &refused(&bench, "many.toml"));
}

#[test]
fn as_many_steps_as_fit_into_a_file_are_judged_in_time() {
    let bench = Bench::new();
    let mut text = QUICK.to_owned();
    while text.len() < (1 << 20) - 60 {
        text.push_str("[[step]]\naction=\"crash\"\non=\"nobody\"\nat=\"1s\"\n");
    }
    bench.file("long.toml", text);
    let said = bench.run(&["check", "long.toml"]);
    assert_eq!(said.status, 3);
    assert!(said.out.lines().count() < 2_000, "{} lines", said.out.lines().count());
    assert!(said.out.contains("more problems are not shown") && !said.out.contains("all shown"));
}

#[test]
fn mistakes_of_all_kinds_are_shown_at_once() {
    let bench = Bench::new();
    let text = "title = \"bell \\u0007 and \\u001b[2J\"\ntitle = \"again\"\n[cluster]\nservers = 99999999999999999999\n\
                [workload]\nclients = 1\nappends = \"5/s\"\nfor = \"99999999999999999999h\"\n\
                [[step]]\naction = \"crahs\"\non = \"server-1\"\nat = \"1s\"\nfor = 60\n";
    bench.file("bad.toml", text);
    let said = refused(&bench, "bad.toml");
    assert!(!said.contains(['\u{7}', '\u{1b}']), "a file's control characters reach the terminal: {said:?}");
    insta::assert_snapshot!(said);
}

#[test]
fn what_is_no_regular_file_is_refused_and_nothing_hangs() {
    let bench = Bench::new();
    let fifo = Command::new("mkfifo").arg(bench.path("fifo.toml")).status().expect("started");
    assert!(fifo.success());
    let said = refused(&bench, "fifo.toml") + &refused(&bench, "/dev/zero") + &refused(&bench, "/dev/null");
    insta::assert_snapshot!(said);
    // Found in a folder, too.
    assert_eq!(bench.run(&["run", "."]).status, 3);
}

#[test]
fn a_folder_called_like_a_file_is_a_folder() {
    let bench = Bench::new();
    bench.file("x.toml/inside.toml", QUICK);
    let said = bench.run(&["check", "x.toml"]);
    assert_eq!((said.status, said.out.lines().count()), (0, 1), "{}", said.out);
}

#[test]
fn nothing_selected_is_a_status_of_its_own() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).expect("made");
    let mut said = String::new();
    for arguments in [vec!["run"], vec!["run", "empty"], vec!["check", "none.toml"], vec!["list", "scenarios", "empty"]]
    {
        let it = bench.run(&arguments);
        assert_eq!((it.status, it.out.as_str()), (4, ""), "{arguments:?}");
        said.push_str(&it.err);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_loop_of_links_ends() {
    let bench = Bench::new();
    fs::create_dir(bench.path("loop")).expect("made");
    std::os::unix::fs::symlink(bench.path("loop"), bench.path("loop/again")).expect("linked");
    std::os::unix::fs::symlink("self.toml", bench.path("self.toml")).expect("linked");
    let said = bench.run(&["run", "loop"]);
    assert_eq!(said.status, 4);
    assert!(said.err.contains("folders deep"), "{}", said.err);
    let said = bench.run(&["run", "self.toml"]);
    assert_eq!(said.status, 4);
    assert!(said.err.contains("cannot read self.toml"), "{}", said.err);
}

#[test]
fn a_file_that_is_not_ours_to_read_is_named() {
    let bench = Bench::new();
    let path = bench.file("secret.toml", QUICK);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("closed");
    if File::open(&path).is_ok() {
        return; // whoever runs this may read everything
    }
    assert!(refused(&bench, "secret.toml").contains("cannot read secret.toml: Permission denied"));
}

// ---- the command line itself ----

#[test]
fn wrong_usage_is_status_2() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    for arguments in [
        &["frobnicate"][..],
        &["run", "--seed", "x"],
        &["run", "--seed", "-1"],
        &["run", "--seeds", "5..2"],
        &["run", "--seeds", "0..2", "--seed", "1"],
        &["run", "--partition", "3/2"],
        &["run", "--partition", "0/2"],
        &["run", "--jobs", "0"],
        &["run", "--max-time", "5"],
        &["run", "--format", "xml"],
        &["run", "--color", "sometimes"],
        &["replay"],
        &["list", "faults", "a.toml"],
    ] {
        let said = bench.run(arguments);
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.starts_with("error: "), "{arguments:?}: {}", said.err);
    }
    assert_eq!(bench.run(&["run", "a.toml", "--seeds", "2..0"]).status, 2);
    let two = bench.file("b.toml", QUICK);
    assert_eq!(bench.run(&["replay", two.parent().expect("a folder").to_str().expect("UTF-8")]).status, 2);
}

// ---- words and templates ----

#[test]
fn a_template_is_written_once_and_passes_the_check() {
    let bench = Bench::new();
    let said = bench.run(&["new", "my-incident", "--template", "partition"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let expected = "wrote scenarios/my-incident.toml, from the template `partition`; now\n  \
                    gapless check scenarios/my-incident.toml\n  gapless run scenarios/my-incident.toml\n";
    assert_eq!(said.out, expected);
    assert!(said.err.contains("gapless schema > schema/scenario.json"), "{}", said.err);
    assert_eq!(bench.run(&["check", "scenarios/my-incident.toml"]).status, 0);
    let text = fs::read(bench.path("scenarios/my-incident.toml")).expect("read");
    let again = bench.run(&["new", "my-incident"]);
    assert_eq!((again.status, again.out.as_str()), (2, ""));
    assert!(again.err.starts_with("error: scenarios/my-incident.toml is there already"), "{}", again.err);
    assert_eq!(fs::read(bench.path("scenarios/my-incident.toml")).expect("read"), text, "it is as it was");
}

#[test]
fn a_scenario_goes_where_it_is_told_to_go() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["new", "a", "--to", "tests/night"]).status, 0);
    let text = fs::read_to_string(bench.path("tests/night/a.toml")).expect("written");
    assert!(text.starts_with("#:schema ../../schema/scenario.json\n"), "{text}");
    assert_eq!(bench.run(&["new", "a", "--template", "crash", "--to", "b.toml"]).status, 0);
    assert!(bench.path("b.toml").exists());
    bench.file("file", "");
    let said = bench.run(&["new", "a", "--to", "file"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error: cannot write file/a.toml: "), "{}", said.err);
}

#[test]
fn what_new_cannot_do_is_said_with_the_cure() {
    let bench = Bench::new();
    let mut said = String::new();
    let long = "a".repeat(65);
    for arguments in
        [&["new", "../x"][..], &["new", "Big"], &["new", ""], &["new", &long], &["new", "a", "--template", "partiton"]]
    {
        let it = bench.run(arguments);
        assert_eq!((it.status, it.out.as_str()), (2, ""), "{arguments:?}");
        said.push_str(&it.err);
    }
    assert_eq!(bench.run(&["new"]).status, 2);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    insta::assert_snapshot!(said);
    assert!(is_empty(bench.0.path()), "something was written");
}

#[test]
fn every_word_is_listed_and_explained_within_the_columns() {
    let bench = Bench::new();
    for kind in ["faults", "events", "invariants"] {
        let list = bench.run(&["list", kind]);
        assert_eq!(list.status, 0);
        for line in list.out.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            let name = line.split_whitespace().next().expect("a name");
            let page = bench.run(&["explain", name]);
            assert_eq!((page.status, page.err.as_str()), (0, ""), "{name}");
            assert!(page.out.starts_with(name), "{}", page.out);
        }
    }
    let all = bench.run(&["explain"]);
    assert!(all.out.lines().all(|line| line.chars().count() <= 100), "{}", all.out);
    let sections: Vec<&str> = all.out.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    assert_eq!(sections, ["Faults", "Events", "Invariants", "Words of a report"]);
}

#[test]
fn a_word_is_found_in_the_singular_and_verdicts_and_exit_statuses_have_pages() {
    let bench = Bench::new();
    for (one, all) in [("fault", "faults"), ("event", "events"), ("invariant", "invariants")] {
        assert_eq!(bench.run(&["list", one]).out, bench.run(&["list", all]).out);
    }
    for word in ["verdict", "holds", "inconclusive", "violated", "exit-codes"] {
        let page = bench.run(&["explain", word]);
        assert_eq!((page.status, page.err.as_str()), (0, ""), "{word}");
        assert!(page.out.starts_with(&format!("{word}: ")), "{}", page.out);
    }
    let codes = bench.run(&["explain", "exit-codes"]).out;
    for code in ["0", "1", "2", "3", "4", "100", "101", "130"] {
        assert!(codes.lines().any(|line| line.split_whitespace().next() == Some(code)), "{code}: {codes}");
    }
}

#[test]
fn the_list_of_events_says_who_tells_each() {
    let bench = Bench::new();
    let list = bench.run(&["list", "events"]);
    for (name, who) in [("batch-synced", "server"), ("handshake-refused", "both"), ("retry", "client")] {
        let line = list.out.lines().find(|line| line.starts_with(name)).expect("listed");
        assert_eq!(line.split_whitespace().nth(1), Some(who), "{line}");
    }
    assert!(list.err.contains("at a client or a proxy"), "{}", list.err);
}

#[test]
fn a_name_that_nothing_has_is_answered_with_the_nearest() {
    let bench = Bench::new();
    let said = bench.run(&["explain", "clock-jmp"]);
    assert_eq!((said.status, said.out.as_str()), (4, ""));
    assert!(said.err.starts_with("error: nothing is called `clock-jmp`\ndid you mean `clock-jump`?"), "{}", said.err);
    assert!(!bench.run(&["explain", "\u{1b}[2J"]).err.contains('\u{1b}'));
}

#[test]
fn the_schema_is_json_and_every_shell_gets_its_completions() {
    let bench = Bench::new();
    let schema = bench.run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = bench.run(&["completions", shell]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains("check-determinism") && said.out.contains("explain"), "{shell}");
    }
    assert_eq!(bench.run(&["completions", "cobol"]).status, 2);
}

/// What bash offers once the words are typed and TAB is pressed.
fn completed(bench: &Bench, words: &[&str]) -> Vec<String> {
    bench.file("gapless.bash", bench.run(&["completions", "bash"]).out);
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let script = format!(
        "source gapless.bash; COMP_WORDS=({}); COMP_CWORD={}; _gapless gapless '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(bench.0.path());
    let said = finish(&mut bash);
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{script}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_what_can_be_explained_and_listed() {
    let bench = Bench::new();
    assert_eq!(completed(&bench, &["gapless", "explain", "pow"]), ["power-loss"]);
    assert_eq!(completed(&bench, &["gapless", "explain", "inconc"]), ["inconclusive"]);
    assert_eq!(completed(&bench, &["gapless", "list", "inv"]), ["invariants"]);
    assert_eq!(completed(&bench, &["gapless", "run", "--until"]), ["--until-fail"]);
    // Names that nothing has are still answered with the nearest, and help does not list two hundred values.
    let help = bench.run(&["explain", "--help"]);
    assert!(!help.out.contains("power-loss"), "{}", help.out);
}

#[test]
fn a_known_violation_that_does_not_happen_is_status_100() {
    let bench = Bench::new();
    let known = "known-violation = { invariant = \"acked-durable\", issue = \"https://example.org/7\" }\n";
    bench.file("a.toml", format!("{known}{QUICK}"));
    let said = bench.run(&["run", "a.toml"]);
    assert_eq!(said.status, 100, "{}", said.out);
    assert!(said.out.contains("the known violation of `acked-durable`"), "{}", said.out);
}

#[test]
fn a_fault_that_cannot_bite_is_status_101_and_says_why_and_what_to_do() {
    let bench = Bench::new();
    let step = "[[step]]\nname = \"shut\"\naction = \"refuse\"\nbetween = [\"clients\", \"servers\"]\nat = \"1s\"\n\
                for = \"1s\"\n";
    bench.file("a.toml", format!("{}{step}", &QUICK[..QUICK.find("[[step]]").expect("there is one")]));
    let said = bench.run(&["run", "a.toml"]);
    assert_eq!(said.status, 101, "{}", said.out);
    for part in
        ["step `shut` left no trace: nobody tried to connect", "cure: add reset on the same link while it lasts"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    // To be pasted, so on a line of its own.
    assert!(said.out.lines().any(|line| line.trim() == "gapless explain refuse"), "{}", said.out);
}

#[test]
fn a_reader_that_has_seen_enough_is_not_an_error() {
    let bench = Bench::new();
    for n in 0..3_000 {
        fs::write(bench.path(&format!("scenario-{n:04}-{}.toml", "long".repeat(20))), QUICK).expect("written");
    }
    let said = finish(bench.command(&[]).args(["list", "scenarios", "."]).stdout(Stdio::null()));
    assert_eq!(said.status, 0);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#""$0" list scenarios . 2>err | head -1; cat err"#, GAPLESS]).current_dir(bench.0.path());
    let said = finish(&mut shell);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    assert!(said.out.starts_with("scenario-0000"), "{}", said.out);
}

#[test]
fn results_go_to_stdout_in_colour_only_where_asked_for() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let plain = bench.run(&["run", "a.toml"]);
    assert_eq!((plain.status, plain.err.as_str()), (0, ""));
    assert!(plain.out.contains("  holds         a "), "{}", plain.out);
    assert!(!plain.out.contains('\u{1b}'));
    let painted = bench.run(&["run", "a.toml", "--color", "always"]);
    assert!(painted.out.contains("\u{1b}[32mholds"), "{}", painted.out);
    let refused = finish(bench.command(&["run", "a.toml"]).env("NO_COLOR", "1"));
    assert!(!refused.out.contains('\u{1b}'));
}

#[test]
fn shares_of_the_runs_cover_each_exactly_once_as_json() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    bench.file("sub/a.toml", format!("seeds = [7]\n{QUICK}"));
    let mut seen = Vec::new();
    for share in ["1/2", "2/2"] {
        let said = bench.run(&["run", ".", "--seeds", "0..2", "--format", "json", "--partition", share]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
        for line in said.out.lines() {
            let run: serde_json::Value = serde_json::from_str(line).expect("a JSON object per line");
            assert!(run.is_object() && run["judgement"].is_object(), "{line}");
            seen.push((run["file"].as_str().expect("a file").to_owned(), run["seed"].as_u64().expect("a seed")));
        }
    }
    let different: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((seen.len(), different.len()), (5, 5), "{seen:?}");
    let empty = bench.run(&["run", "a.toml", "--partition", "2/2"]);
    assert_eq!((empty.status, empty.out.as_str()), (4, ""));
}

#[test]
fn histories_of_files_with_one_name_do_not_meet() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    bench.file("sub/a.toml", QUICK);
    let said = bench.run(&["run", "a.toml", "sub", "--report", "out/new"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let mut names: Vec<_> = fs::read_dir(bench.path("out/new"))
        .expect("made")
        .map(|entry| entry.expect("read").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["a-0.history.jsonl", "sub-a-0.history.jsonl"]);
}

#[test]
fn a_report_folder_that_cannot_be_is_an_error_before_anything_runs() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let said = bench.run(&["run", "a.toml", "--report", "a.toml/inside"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.starts_with("error: cannot make a.toml/inside: "), "{}", said.err);
    // It exists, but nothing can be written there.
    let said = bench.run(&["run", "a.toml", "--report", "/proc"]);
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(said.out.contains("FAILED") && said.out.contains("/proc/a-0.history.jsonl"), "{}", said.out);
}

#[test]
fn without_a_temporary_folder_nothing_runs_and_the_cure_is_named() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    for folder in ["/nonexistent", "/proc", "a.toml"] {
        for verb in ["run", "replay"] {
            let said = finish(bench.command(&[verb, "a.toml"]).env("TMPDIR", folder));
            assert_eq!(said.status, 1, "{verb} {folder}: {}", said.out);
            let all = said.out + &said.err;
            assert!(all.contains("TMPDIR") && all.contains(folder), "{all}");
        }
    }
}

#[test]
fn no_time_is_no_run_and_no_verdict() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let said = bench.run(&["run", "a.toml", "--max-time", "0s"]);
    assert_eq!(said.status, 4, "{}", said.out);
    assert!(said.out.contains("1 not begun (--max-time)"), "{}", said.out);
}

#[test]
fn a_file_that_changes_under_a_sweep_changes_nothing() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    bench.file("b.toml", QUICK);
    let whole = bench.run(&["run", "a.toml", "b.toml", "--seeds", "0..2", "--format", "json"]);
    let mut command = bench.command(&["run", "a.toml", "b.toml", "--seeds", "0..2", "--format", "json"]);
    let mut sweep = command.stdout(Stdio::piped()).spawn().expect("started");
    let out = reader(sweep.stdout.take().expect("piped"));
    // Long enough to have read the files, too short to have come to the last run.
    thread::sleep(Duration::from_millis(150));
    fs::write(bench.path("a.toml"), "not a scenario").expect("written");
    fs::remove_file(bench.path("b.toml")).expect("removed");
    let status = wait(&mut sweep, PATIENCE);
    assert_eq!(status, Some(0));
    assert_eq!(hashes(&out.join().expect("read")), hashes(&whole.out));
}

fn hashes(lines: &str) -> Vec<String> {
    let run = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    lines.lines().map(|line| run(line)["hash"].as_str().expect("a hash").to_owned()).collect()
}

#[test]
fn two_sweeps_at_a_time_do_not_disturb_each_other() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let arguments = ["run", "a.toml", "--seeds", "0..2", "--format", "json", "--report", "out"];
    let both: Vec<Said> = thread::scope(|scope| {
        let sweeps: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.run(&arguments))).collect();
        sweeps.into_iter().map(|sweep| sweep.join().expect("ran")).collect()
    });
    assert_eq!((both[0].status, both[1].status), (0, 0), "{}{}", both[0].out, both[1].out);
    assert_eq!(hashes(&both[0].out), hashes(&both[1].out));
}

// ---- sweeps ----

/// A scenario that every run violates: nobody is ever acknowledged as fast as that.
fn hopeless() -> String {
    format!("{QUICK}\n[expect]\nblind-at-most = \"1ms\"\n")
}

#[test]
fn runs_that_fail_for_one_cause_are_told_once_with_their_seeds() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless());
    bench.file("b.toml", QUICK);
    let said = bench.run(&["run", "a.toml", "b.toml", "--seeds", "3..7", "-j", "2"]);
    assert_eq!(said.status, 100, "{}", said.out);
    // One row and one screen.
    assert_eq!(said.out.matches("VIOLATED").count(), 2, "{}", said.out);
    assert!(
        said.out.contains("… 4 runs of a are violated for one cause, shown for seed 3: seeds 3 to 6\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("… 4 runs hold (-v lists them)"), "{}", said.out);
    assert!(said.out.contains("8 runs in") && said.out.contains("4 hold, 4 violated"), "{}", said.out);
    let listed = bench.run(&["run", "a.toml", "--seeds", "3..7", "-v"]);
    // Each has its row, and the first its screen.
    assert_eq!(listed.out.matches("VIOLATED").count(), 5, "{}", listed.out);
}

#[test]
fn a_run_until_it_fails_stops_at_the_first_that_does() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    bench.file("b.toml", hopeless());
    let said = bench.run(&["run", "a.toml", "b.toml", "--until-fail", "--jobs", "1"]);
    assert_eq!(said.status, 100, "{}", said.out);
    assert!(said.out.contains("seeds from 0 on · until one fails"), "{}", said.out);
    assert!(said.out.contains("2 runs in") && said.out.contains("1 hold, 1 violated"), "{}", said.out);
    let from = bench.run(&["run", "b.toml", "--until-fail", "--seed", "41"]);
    assert!(from.out.contains("b.toml    seed 41"), "{}", from.out);
    let bounded = bench.run(&["run", "b.toml", "--until-fail", "--seeds", "5..9"]);
    assert!(bounded.out.contains("1 violated, 3 not run (--until-fail)"), "{}", bounded.out);
    let holds = bench.run(&["run", "a.toml", "--until-fail", "--seeds", "0..3"]);
    assert_eq!(holds.status, 0, "{}", holds.out);
    assert!(holds.out.contains("3 runs in"), "{}", holds.out);
}

#[test]
fn ctrl_c_in_a_sweep_tells_what_ran_and_the_violations_so_far() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless());
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", GAPLESS, "run", "a.toml", "--seeds", "0..5000", "-v"]);
    command.current_dir(bench.0.path()).stdin(Stdio::null()).process_group(0);
    let mut sweep = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut out = std::io::BufReader::new(sweep.stdout.take().expect("piped"));
    // Until the third of them was told.
    let (mut told, mut rows) = (String::new(), 0);
    while rows < 4 {
        let mut line = String::new();
        let read = std::io::BufRead::read_line(&mut out, &mut line).expect("read");
        assert!(read > 0, "it ended by itself: {told}");
        rows += usize::from(line.contains("VIOLATED"));
        told.push_str(&line);
    }
    signal("-INT", &format!("-{}", sweep.id()));
    let rest = reader(out);
    assert_eq!(wait(&mut sweep, Duration::from_secs(10)), Some(130));
    told.push_str(&rest.join().expect("read"));
    assert!(told.contains("runs of a are violated for one cause, shown for seed 0: seeds 0 to "), "{told}");
    let last = told.lines().last().expect("a sum");
    assert!(last.contains(" violated, ") && last.contains(" not run (interrupted)"), "{told}");
    assert!(last.ends_with(" exit 130"), "{told}");
    // A run that was killed was not run, and is no failure.
    assert!(!told.contains("FAILED") && !told.contains("failed"), "{told}");
}

// ---- narrow terminals ----

#[test]
fn results_are_laid_out_for_the_columns_that_there_are() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless());
    bench.file("wrong.toml", format!("{QUICK}\nafter = \"the other step that nobody has written down anywhere\"\n"));
    let narrow = |arguments: &[&str], columns: &str| finish(bench.command(arguments).env("COLUMNS", columns)).out;
    let pasted = |line: &str| {
        line.trim_start().starts_with("reproduce ") || line.contains("gapless explain ") || line.contains("hash ")
    };
    for columns in [40, 60, 80] {
        for arguments in [
            &["run", "a.toml"][..],
            &["run", "a.toml", "--seeds", "0..3"],
            &["run", "a.toml", "--verbose"],
            &["replay", "a.toml"],
            &["list", "events"],
            &["explain"],
            &["explain", "power-loss"],
            &["explain", "exit-codes"],
            &["explain", "acked-durable"],
            &["check", "a.toml"],
            &["check", "wrong.toml"],
        ] {
            let out = narrow(arguments, &columns.to_string());
            for line in out.lines().filter(|line| !pasted(line)) {
                assert!(line.chars().count() <= columns, "{columns} columns: {arguments:?}: {line}\n{out}");
            }
        }
    }
    assert_eq!(narrow(&["explain", "pause"], "1000"), bench.run(&["explain", "pause"]).out, "100 are enough");
    assert_eq!(narrow(&["explain", "pause"], "many"), bench.run(&["explain", "pause"]).out);
}

#[test]
fn why_a_run_failed_is_wrapped_and_said_to_its_end() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let command = &mut bench.command(&["run", "a.toml", "--report", "/proc"]);
    let said = finish(command.env("COLUMNS", "60"));
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(
        said.out.lines().filter(|line| !line.contains("again:")).all(|line| line.chars().count() <= 60),
        "{}",
        said.out
    );
    let words: String = said.out.split_whitespace().collect();
    assert!(words.contains("/proc/a-0.history.jsonl") && words.contains("FAILED"), "{}", said.out);
}

// ---- the end of a command ----

/// Starts a long sweep in a process group of its own, with a temporary folder of its own, and lets it come to work.
fn long_sweep(bench: &Bench) -> (Child, BTreeSet<u32>) {
    bench.file("a.toml", QUICK.replace("\"4s\"", "\"300s\""));
    fs::create_dir(bench.path("tmp")).expect("made");
    // Whoever starts the tests in the background has them ignore SIGINT, and would pass that on.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", GAPLESS, "run", "a.toml", "--seeds", "0..50", "--jobs", "2"]);
    command.current_dir(bench.0.path()).stdin(Stdio::null());
    command.env("TMPDIR", bench.path("tmp")).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("started");
    let end = Instant::now() + PATIENCE;
    let mut children = children_of(child.id());
    while children.len() != 2 && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
        children = children_of(child.id());
    }
    if children.len() != 2 {
        child.kill().and_then(|()| child.wait()).expect("killed");
        panic!("no runs begin: {children:?}");
    }
    (child, children)
}

fn children_of(parent: u32) -> BTreeSet<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Whether a process is there and not only waiting to be buried.
fn is_alive(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn all_end(processes: &BTreeSet<u32>) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while processes.iter().any(|process| is_alive(*process)) {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

fn signal(name: &str, to: &str) {
    let sent = Command::new("kill").args([name, "--", to]).status().expect("started");
    assert!(sent.success());
}

#[test]
fn ctrl_c_ends_everything_and_leaves_nothing() {
    let bench = Bench::new();
    let (mut sweep, children) = long_sweep(&bench);
    signal("-INT", &format!("-{}", sweep.id()));
    assert_eq!(wait(&mut sweep, Duration::from_secs(10)), Some(130));
    assert!(all_end(&children), "runs go on");
    assert!(is_empty(&bench.path("tmp")));
}

#[test]
fn runs_end_with_a_parent_that_is_killed() {
    let bench = Bench::new();
    let (mut sweep, children) = long_sweep(&bench);
    signal("-KILL", &sweep.id().to_string());
    assert_eq!(wait(&mut sweep, Duration::from_secs(10)), Some(137));
    assert!(all_end(&children), "runs go on");
    assert!(is_empty(&bench.path("tmp")));
}

#[test]
fn an_order_from_nowhere_is_refused() {
    let bench = Bench::new();
    for order in ["", "1", "x", "/etc/passwd"] {
        let said = finish(bench.command(&["list", "faults"]).env("GAPLESS_ORDER", order));
        assert_eq!((said.status, said.out.as_str()), (1, ""));
        assert!(said.err.contains("GAPLESS_ORDER"), "{}", said.err);
    }
}
