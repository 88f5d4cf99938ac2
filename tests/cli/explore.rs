//! Scenarios that nobody wrote down: what is drawn, told and kept, and how an exploration ends.

use gapless::system::{AuditLog, System as _};
use sha2::Digest as _;

use super::*;

/// So many that one core takes some ten seconds in a debug build.
const SHORT: &str = "0..12";

/// Of the text of the first three hundred seeds.
const DRAWN: &str = "95227ece7978fdd8";

#[test]
fn a_short_exploration_of_fixed_seeds_finds_nothing_and_says_how_much_it_tried() {
    let bench = Bench::new();
    let said = bench.run(&["explore", "--seeds", SHORT, "--keep", "kept"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("exploring · seeds 0..12 · 12 runs"), "{}", said.out);
    let last = said.out.lines().last().expect("a sum");
    assert!(last.starts_with("12 runs in ") && last.contains(" simulated: ") && last.contains(" steps bit"), "{last}");
    assert_eq!(fs::read_dir(bench.0.path().join("kept")).expect("made").count(), 0);
    // Between them they come by many rare situations, and the sum says which these were not.
    let (reached, all, never) = marks(&said.out);
    assert!(reached >= 40 && reached < all && never.len() == all - reached, "{reached} of {all}: {never:?}");
    assert!(said.out.contains(" reached; in the fewest runs: "), "{}", said.out);
}

/// What a sum says of marks: how many were reached, of how many, and the names of the others.
fn marks(out: &str) -> (usize, usize, Vec<String>) {
    let of = regex::Regex::new(r"\n  marks +(\d+) of (\d+) reached").expect("sound");
    let found = of.captures(out).unwrap_or_else(|| panic!("no marks: {out}"));
    let number = |at: usize| found[at].parse::<usize>().expect("a number");
    let never = out.split_once("\n  never ").map_or("", |(_, rest)| rest);
    // Up to the first line that is not indented as far.
    let lines = never.lines().enumerate().take_while(|(nth, line)| *nth == 0 || line.starts_with("           "));
    let words: Vec<&str> = lines.flat_map(|(_, line)| line.split([',', ' '])).filter(|word| !word.is_empty()).collect();
    (number(1), number(2), words.into_iter().map(str::to_owned).collect())
}

#[test]
fn a_sweep_of_scenarios_says_which_marks_its_runs_reached_where_it_is_asked_to() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let said = bench.run(&["run", "a.toml", "--seeds", "0..2"]);
    assert!(said.status == 0 && !said.out.contains("marks"), "{}{}", said.out, said.err);
    let said = bench.run(&["run", "a.toml", "--seeds", "0..2", "--marks"]);
    let (reached, all, never) = marks(&said.out);
    assert!(said.status == 0 && reached > 0 && never.len() == all - reached, "{}{}", said.out, said.err);
    // It has a step, and no repair.
    let is_never = |name: &str| never.iter().any(|mark| mark == name);
    assert!(is_never("repair-begun") && is_never("nothing-went-wrong"), "{}", said.out);
    let marks_of = |arguments: &[&str]| {
        let said = bench.run(&[&["run", "a.toml", "--format", "json"], arguments].concat());
        serde_json::from_str::<serde_json::Value>(&said.out).expect("JSON")["marks"].clone()
    };
    assert_eq!(marks_of(&[]), serde_json::Value::Null);
    let named = marks_of(&["--marks"]);
    let named = named.as_object().expect("an object");
    let known = |name: &String| all_marks().iter().any(|mark| mark.name == *name);
    assert!(!named.is_empty() && named.keys().all(|name| known(name) && !is_never(name)), "{named:?}");
}

/// All that a sweep of this log tells of.
fn all_marks() -> Vec<&'static gapless::world::mark::Mark> {
    gapless::marks::all(&AuditLog::default().explored().marks)
}

#[test]
fn every_mark_is_listed_with_what_it_means() {
    let bench = Bench::new();
    let said = bench.run(&["explore", "--marks"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let all = all_marks();
    assert!(all.len() >= 60);
    for mark in all {
        assert!(said.out.contains(&format!("\n  {}\n      ", mark.name)), "{}: {}", mark.name, said.out);
    }
    assert!(said.out.starts_with("store\n  ") && said.out.contains("\n\njudging\n"), "{}", said.out);
    assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{}", said.out);
}

#[test]
fn what_is_drawn_is_a_sound_file_and_the_same_in_every_build() {
    let bench = Bench::new();
    let said = bench.run(&["explore", "--seeds", "7..8", "--print"]);
    assert_eq!(said.status, 0, "{}", said.err);
    bench.file("drawn.toml", &said.out);
    let checked = bench.run(&["check", "drawn.toml"]);
    assert_eq!(checked.status, 0, "{}", checked.out);
    // Pinned, so that no machine and no optimisation draws others. A change of the drawing changes it.
    let all = bench.run(&["explore", "--seeds", "0..300", "--print"]).out;
    assert!(all.contains(&said.out) && all.matches("[cluster]").count() == 300);
    assert_eq!(format!("{:x}", sha2::Sha256::digest(all.as_bytes()))[..16], *DRAWN);
}

#[test]
fn partitions_run_every_seed_once_and_json_has_an_object_per_run() {
    let bench = Bench::new();
    let seeds = |part: &str| {
        let said = bench.run(&["explore", "--seeds", "20..23", "--partition", part, "--format", "json"]);
        assert!([0, 101].contains(&said.status), "{}{}", said.out, said.err);
        let seed = |line: &str| {
            let run: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let marks = run["marks"].as_object().expect("what it came by");
            assert!(marks.len() > 5 && marks.values().all(|times| times.as_u64() > Some(0)), "{marks:?}");
            run["seed"].as_u64()
        };
        said.out.lines().map(|line| seed(line).expect("a seed")).collect::<Vec<_>>()
    };
    assert_eq!((seeds("1/2"), seeds("2/2")), (vec![20, 22], vec![21]));
}

#[test]
fn what_may_be_asked_is_told_with_its_reasons() {
    let bench = Bench::new();
    let said = bench.run(&["explore", "--rules"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let faults = format!("{} faults", gapless::fault::CATALOGUE.len());
    for word in ["damage-stays-with-a-minority", "No log can show", &faults, "misdirected-write"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_said_before_anything_runs() {
    let bench = Bench::new();
    bench.file("taken", "");
    let said = bench.run(&["explore", "--seeds", "0..9", "--keep", "taken"]);
    assert!(said.status == 1 && said.err.contains("taken"), "{}{}", said.out, said.err);
    assert!(said.out.is_empty(), "{}", said.out);
}

#[test]
fn an_exploration_without_end_ends_with_its_time_and_ctrl_c_with_a_sum() {
    let bench = Bench::new();
    let said = bench.run(&["explore", "--max-time", "1ms"]);
    assert!(said.out.contains("seeds from 0 on · for 0.0s"), "{}", said.out);
    assert!(said.out.contains("ended by --max-time"), "{}", said.out);

    let mut command = Command::new("env");
    command.args(["--default-signal=INT", GAPLESS, "explore", "--verbose"]);
    command.current_dir(bench.0.path()).stdin(Stdio::null()).process_group(0);
    let mut exploring = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut out = std::io::BufReader::new(exploring.stdout.take().expect("piped"));
    let mut told = String::new();
    while !told.contains("explored-0") {
        let read = std::io::BufRead::read_line(&mut out, &mut told).expect("read");
        assert!(read > 0, "it ended by itself: {told}");
    }
    signal("-INT", &format!("-{}", exploring.id()));
    let rest = reader(out);
    assert_eq!(wait(&mut exploring, Duration::from_secs(10)), Some(130));
    told.push_str(&rest.join().expect("read"));
    let last = told.lines().last().expect("a sum");
    assert!(last.contains(" bit, interrupted ") && last.ends_with(" exit 130") && !told.contains("FAILED"), "{told}");
}

#[test]
fn a_scenario_that_fails_is_cut_down_to_what_matters_and_written_as_a_file_that_fails_alike() {
    let bench = Bench::new();
    let more = "[[step]]\naction = \"pause\"\non = \"client-1\"\nat = \"1s\"\nfor = \"200ms\"\n\
                [[step]]\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nafter = \"pause\"\n";
    bench.file("a.toml", hopeless() + more);
    let said = bench.run(&["shrink", "a.toml", "--seed", "3", "--to", "small.toml"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("wrote small.toml: nothing smaller fails alike"), "{}", said.out);
    let text = fs::read_to_string(bench.0.path().join("small.toml")).expect("written");
    assert!(!text.contains("pause") && !text.contains("reset"), "{text}");
    assert!(text.contains("seeds = [3]") && text.contains("Seen under seed 3"), "{text}");
    let again = bench.run(&["run", "small.toml", "--seed", "3"]);
    assert_eq!(again.status, 100, "{}", again.out);
    let kept = bench.run(&["shrink", "a.toml", "--seed", "3", "--to", "small.toml"]);
    assert!(kept.status == 2 && kept.err.contains("small.toml exists"), "{}{}", kept.out, kept.err);
}

#[test]
fn what_holds_cannot_be_shrunk() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let said = bench.run(&["shrink", "a.toml"]);
    assert!(said.status == 4 && said.err.contains("nothing to shrink"), "{}{}", said.out, said.err);
    let said = bench.run(&["run", "a.toml", "--shrink", "--format", "json"]);
    assert!(said.status == 2 && said.err.contains("cure:"), "{}{}", said.out, said.err);
}

#[test]
fn the_time_of_a_shrink_ends_also_a_run_that_is_under_way() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless().replace("\"4s\"", "\"30m\""));
    let said = bench.run(&["shrink", "a.toml", "--seed", "3", "--max-time", "50ms"]);
    assert!(said.status == 4 && said.err.contains("before the scenario itself had run"), "{}{}", said.out, said.err);
}

#[test]
fn ctrl_c_in_a_shrink_keeps_the_smallest_so_far() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless().replace("\"4s\"", "\"120s\""));
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", GAPLESS, "shrink", "a.toml", "--seed", "3", "--to", "small.toml"]);
    command.args(["--jobs", "1"]).current_dir(bench.0.path()).stdin(Stdio::null()).process_group(0);
    let mut shrinking = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // The run of the scenario itself is over once a second one has begun.
    let mut runs = BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    while runs.len() < 2 && Instant::now() < end {
        runs.extend(end::children_of(shrinking.id()));
        thread::sleep(Duration::from_millis(2));
    }
    signal("-INT", &format!("-{}", shrinking.id()));
    let said = reader(std::io::BufReader::new(shrinking.stdout.take().expect("piped")));
    assert_eq!(wait(&mut shrinking, Duration::from_secs(10)), Some(130));
    let said = said.join().expect("read");
    assert!(said.contains("wrote small.toml: not tried to the end"), "{said}");
    assert_eq!(bench.run(&["check", "small.toml"]).status, 0);
}
