//! Many runs at once: what is told of them, when they stop, and what is left of them where somebody stops them.

use super::*;

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
