//! Somebody else's log, `examples/your_own_log.rs`: gapless finds that it loses what it acknowledged, and what it prints
//! to reproduce that, pasted into a shell, does reproduce it.

use std::process::{Command, Output};

/// Runs a command line as a user would, from the root of the project.
fn shell(line: &str) -> (i32, String) {
    let Output { status, stdout, stderr } = Command::new("sh")
        .args(["-c", line])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("GAPLESS_SEED")
        .output()
        .expect("a shell");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().unwrap_or(-1), text)
}

/// What stands behind `reproduce` on the screen of a violation.
fn reproduce(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("reproduce"));
    line.unwrap_or_else(|| panic!("no line to reproduce it in\n{text}")).trim()
}

fn violated(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("VIOLATED")).unwrap_or_else(|| panic!("not violated:\n{text}"))
}

#[test]
fn a_log_that_answers_before_it_syncs_is_found_out_and_the_printed_line_reproduces_it() {
    let (status, run) = shell("cargo run --quiet --example your_own_log -- --gapless run --seeds 5..7 --verbose");
    assert_eq!(status, 100, "{run}");
    assert!(violated(&run).contains("acked-durable") && run.contains("seed 5"), "{run}");
    assert!(run.contains("not judged") && run.contains("no-gaps: clients append concurrently"), "{run}");
    assert!(run.contains("holds         restart-under-load"), "{run}");

    let line = reproduce(&run);
    assert_eq!(line, "cargo run --example your_own_log -- --gapless replay power-loss-in-a-batch --seed 5");
    let (status, replayed) = shell(line);
    assert_eq!(status, 100, "{replayed}");
    assert_eq!(violated(&replayed), violated(&run));
    assert_eq!(reproduce(&replayed), line);
    let hash = run.lines().find_map(|line| line.trim_start().strip_prefix("seed 5 hash ")).expect("told by --verbose");
    assert!(replayed.contains(&format!("seed 5 · hash {hash}")), "another run than {hash}:\n{replayed}");
}

#[test]
fn as_a_test_it_fails_and_the_printed_line_reproduces_that_too() {
    let (status, tested) = shell("cargo run --quiet --example your_own_log -- power-loss");
    assert_eq!(status, 101, "{tested}");
    let line = reproduce(&tested);
    assert_eq!(line, "GAPLESS_SEED=0 cargo run --example your_own_log -- --exact power-loss-in-a-batch");
    let (status, again) = shell(line);
    assert_eq!(status, 101, "{again}");
    assert_eq!(violated(&again), violated(&tested));
}

#[test]
fn every_verb_works_for_that_system_and_takes_scenarios_by_name_or_path() {
    for (line, status, said) in [
        ("check", 0, "2 files, no errors"),
        ("check restart-under-load", 0, "1 file, no errors"),
        ("check examples/your-own-log/restart-under-load.toml", 0, "1 file, no errors"),
        ("list", 0, "power-loss-in-a-batch  The power fails while clients append"),
        ("run restart-under-load --check-determinism", 0, "all hashes identical"),
        ("run nobody-wrote-this", 4, "nobody-wrote-this"),
        ("completions bash", 0, "your_own_log() {\n    cargo run --example your_own_log -- --gapless \"$@\"\n}"),
        ("completions fish", 0, "complete -c your_own_log"),
        ("sing", 2, "Usage: cargo run --example your_own_log -- --gapless"),
    ] {
        let (ended, text) = shell(&format!("cargo run --quiet --example your_own_log -- --gapless {line}"));
        assert!(ended == status && text.contains(said), "{line}: {ended}\n{text}");
    }
}

#[test]
fn explored_from_its_own_test_the_log_is_found_out_and_the_finding_cut_down_to_a_file_that_fails_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().display();
    let explore = "cargo run --quiet --example your_own_log -- --gapless explore --seeds 0..40 --until-fail --shrink";
    let (status, explored) = shell(&format!("{explore} --keep {kept}"));
    assert_eq!(status, 100, "{explored}");
    let shrunk: Vec<_> = std::fs::read_dir(folder.path())
        .expect("made")
        .filter_map(|file| Some(file.ok()?.path()).filter(|path| path.to_string_lossy().ends_with("-shrunk.toml")))
        .collect();
    let [shrunk] = &shrunk[..] else { panic!("{shrunk:?}\n{explored}") };
    let text = std::fs::read_to_string(shrunk).expect("written");
    assert!(text.contains("acked-durable") && text.contains("action = \"power-loss\""), "{text}");
    assert!(text.matches("[[step]]").count() <= 3, "{text}");
    let run = format!("cargo run --quiet --example your_own_log -- --gapless run {}", shrunk.display());
    let (status, again) = shell(&run);
    assert!(status == 100 && violated(&again).contains("acked-durable"), "{status}\n{again}");
}
