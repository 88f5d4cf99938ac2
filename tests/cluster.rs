//! What a cluster must refuse, however much it costs: here a run that ends badly is the right one.

use std::{path::Path, process::Command};

/// Two of three disks are empty; by number they are a majority.
const MAJORITY_WIPED: &str = r#"
title = "Two of three disks are gone"
[cluster]
servers = 3
[workload]
clients = 1
appends = "1/s"
for = "20s"
[[step]]
name = "gone"
action = "wipe"
on = ["server-2", "server-3"]
at = "8500ms"
for = "2s"
[expect]
recovers-within = "10s"
"#;

/// Never an empty log that looks like a log: what is left is read and verified, and takes nothing more.
#[test]
fn a_majority_that_lost_its_disks_is_refused_loudly_and_never_becomes_an_empty_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("majority-wiped.toml");
    std::fs::write(&file, MAJORITY_WIPED).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
    let replay = command
        .args(["replay", file.to_str().unwrap(), "--seed", "1"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&replay.stdout);
    assert_eq!(replay.status.code(), Some(100), "{said}{}", String::from_utf8_lossy(&replay.stderr));

    let of = |host: &str| -> Vec<&str> {
        let mark = format!(" {host} ");
        said.lines().filter(|line| line.contains(&mark)).collect()
    };
    for host in ["server-2", "server-3"] {
        let lines = of(host);
        let wiped = lines.iter().position(|line| line.contains("wiped: its data folder is empty now")).unwrap();
        let after = &lines[wiped..];
        assert!(after.iter().any(|line| line.contains("failed: the data folder is not initialised")), "{host}");
        assert!(!after.iter().any(|line| line.contains("serves as node")), "{host} serves an empty log");
    }
    // Whoever writes is never told that anything went well, and the log is otherwise what it was.
    assert!(said.contains("recovers: "), "{said}");
    for invariant in ["append-only: ", "no-fork: ", "no-gaps: ", "no-phantoms: ", "acked-durable: "] {
        assert!(!said.contains(&format!("└ {invariant}")), "{invariant} {said}");
    }
}
