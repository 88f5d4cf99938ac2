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

#[path = "cli/columns.rs"]
mod columns;
#[path = "cli/end.rs"]
mod end;
#[path = "cli/explore.rs"]
mod explore;
#[path = "cli/sweeps.rs"]
mod sweeps;
#[path = "cli/words.rs"]
mod words;

const GAPLESS: &str = env!("CARGO_BIN_EXE_gapless");

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);

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

/// A scenario that every run violates: nobody is ever acknowledged as fast as that.
fn hopeless() -> String {
    format!("{QUICK}\n[expect]\nblind-at-most = \"1ms\"\n")
}

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
        ["step `shut` left no trace: nobody tried to connect", "cure: add reset on the same link while the step lasts"]
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

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

fn signal(name: &str, to: &str) {
    let sent = Command::new("kill").args([name, "--", to]).status().expect("started");
    assert!(sent.success());
}
