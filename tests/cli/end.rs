//! The end of a command: nothing that it began goes on, and nothing that it made is left.

use super::*;

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

pub(super) fn children_of(parent: u32) -> BTreeSet<u32> {
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

/// Sends a signal to a long sweep, or to its whole process group: it ends with this status, its runs end with it, and
/// none of its files is left.
fn a_signal_ends_everything(signal_name: &str, to_group: bool, status: i32) {
    let bench = Bench::new();
    let (mut sweep, children) = long_sweep(&bench);
    let group = if to_group { "-" } else { "" };
    signal(signal_name, &format!("{group}{}", sweep.id()));
    assert_eq!(wait(&mut sweep, Duration::from_secs(10)), Some(status));
    assert!(all_end(&children), "runs go on");
    assert!(is_empty(&bench.path("tmp")));
}

#[test]
fn ctrl_c_ends_everything_and_leaves_nothing() {
    a_signal_ends_everything("-INT", true, 130);
}

#[test]
fn runs_end_with_a_parent_that_is_killed() {
    a_signal_ends_everything("-KILL", false, 137);
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
