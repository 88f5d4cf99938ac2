//! One seed is one run, to the byte, in whatever process, whenever, and beside whatever else the machine does.

use std::{
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

fn gapless(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().expect("started")
}

#[test]
fn a_replay_shows_the_same_to_the_byte_whenever_it_is_made() {
    let replay = || gapless(&["replay", "scenarios/power-loss-inside-a-batch.toml", "--seed", "3"]);
    let first = replay();
    // Into another second of the wall clock: hyper's `date` header alone would show it.
    thread::sleep(Duration::from_secs(2));
    let second = replay();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(first.stdout.len() > 10_000);
    assert!(first.stdout == second.stdout, "the timelines differ");
}

#[test]
fn every_run_agrees_with_itself_also_beside_others() {
    let arguments = [
        "run",
        "scenarios/power-loss-inside-a-batch.toml",
        "scenarios/blackhole-under-a-stream.toml",
        "--seeds",
        "0..2",
        "--jobs",
        "3",
        "--check-determinism",
    ];
    let run = gapless(&arguments);
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("every run twice, all hashes identical"), "{said}");
}

/// One night in full: its steps, its verdict, and the hash of everything that any host said or received. Whatever
/// changes the course of a run changes this; whether it should have is for a person to say.
#[test]
fn three_fourteen_is_the_same_night_as_when_it_was_written_down() {
    let arguments = ["replay", "scenarios/three-fourteen.toml", "--seed", "7", "--host", "harness"];
    let replay = gapless(&arguments);
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    insta::assert_snapshot!(String::from_utf8_lossy(&replay.stdout));
}
