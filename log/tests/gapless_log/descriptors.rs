//! File descriptors: a server raises its limit to what it may need, and warns if it cannot.

use super::*;

/// Starts the server of a log from a shell that has set these limits.
fn serve_under(bench: &Bench, limits: &str) -> Server {
    let [flag, config] = bench.log();
    let mut command = Command::new("sh");
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command.args(["-c", &format!("{limits} && exec \"$0\" serve \"$@\""), env!("CARGO_BIN_EXE_gapless-log")]);
    Server::start(command.arg(flag).arg(config))
}

/// Returns the soft and the hard limit of a process, and what it has said about them.
fn descriptors(server: &Server) -> (u64, u64, String) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    let said = server.said.lock().unwrap();
    let warned = said.lines().filter(|line| line.contains("file descriptors")).map(str::to_owned).collect();
    (numbers.next().unwrap(), numbers.next().unwrap(), warned)
}

/// The need of the example: 1,024 established connections, as many at the door, 64 that end, 128 others, and a file for
/// each mebibyte of the memory.
const NEEDED: u64 = 1_024 + 1_024 + 64 + 128 + 64;

#[test]
fn a_server_raises_its_soft_limit_of_descriptors_to_what_it_may_need() {
    let bench = Bench::new();
    let (soft, _, warned) = descriptors(&serve_under(&bench, "ulimit -Sn 128 && ulimit -Hn 4096"));
    assert_eq!((soft, warned.as_str()), (NEEDED, ""));
}

#[test]
fn a_soft_limit_of_descriptors_that_suffices_is_left_as_it_is() {
    let bench = Bench::new();
    let (soft, _, warned) = descriptors(&serve_under(&bench, "ulimit -Sn 3000 && ulimit -Hn 4096"));
    assert_eq!((soft, warned.as_str()), (3_000, ""));
}

#[test]
fn a_hard_limit_of_descriptors_that_is_too_low_is_told_with_its_cure() {
    let bench = Bench::new();
    let (soft, hard, warned) = descriptors(&serve_under(&bench, "ulimit -Sn 128 && ulimit -Hn 512"));
    assert_eq!((soft, hard), (512, 512), "as far as it goes");
    let config = bench.path("log.toml").display().to_string();
    for word in ["512", &NEEDED.to_string(), &config, "connections-max", "ulimit -Hn", "LimitNOFILE", "WARN"] {
        assert!(warned.contains(word), "{word}: {warned}");
    }

    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("memory = \"64MiB\"", "memory = \"4MiB\"");
    fs::write(&config, format!("connections-max = 100\n{text}")).unwrap();
    let (soft, _, warned) = descriptors(&serve_under(&bench, "ulimit -Sn 128 && ulimit -Hn 512"));
    assert_eq!((soft, warned.as_str()), (100 + 128 + 64 + 128 + 4, ""), "fewer connections need fewer");
}
