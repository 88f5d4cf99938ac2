//! `gapless-log` as its operators know it: real processes, real files, real sockets on loopback.
//!
//! The simulator tries far more than this, but never the binary itself. Here the binary is killed, stopped, started
//! twice, and given an older copy of its disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test are tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

#[path = "gapless_log/descriptors.rs"]
mod descriptors;
#[path = "gapless_log/flood.rs"]
mod flood;
#[path = "gapless_log/keys.rs"]
mod keys;
#[path = "gapless_log/members.rs"]
mod members;
#[path = "gapless_log/runbooks.rs"]
mod runbooks;

const PATIENCE: Duration = Duration::from_secs(60);

fn gapless_log() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless-log"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

/// Like `run`, but for a command that might serve instead of refusing to: it has a time limit.
fn run_to_its_end(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let by = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > by {
            child.kill().unwrap();
            panic!("{command:?} does not end: {}", stderr(&child.wait_with_output().unwrap()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn succeeded(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {:?}\n{}", output.status, stderr(&output));
    stdout(&output)
}

/// Returns a port at which nothing listens, and which no other test of this process was given.
///
/// It is below the ports that the system chooses for outgoing connections (from 32768 on). A connection of another test
/// could take one of those before the server that is to listen there has started.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(61);
    let mut ports = (0..20_000).map(|_| {
        let nth = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        10_000 + u16::try_from(nth % 20_000).unwrap()
    });
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one of 20,000 ports is free")
}

/// A log and a client, configured and initialised in a folder of their own.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench::bare();
        succeeded(gapless_log().arg("init").args(bench.log()).args(["--with-certificates", "client-1"]));
        bench
    }

    /// The shipped examples, on a free port.
    fn bare() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let port = free_port();
        for name in ["log.toml", "client.toml"] {
            let text = fs::read_to_string(examples.join(name)).unwrap();
            fs::write(folder.path().join(name), text.replace("50051", &port.to_string())).unwrap();
        }
        Bench { folder }
    }

    /// Three servers of one log, initialised as docs/cluster.md says, on free ports.
    fn cluster() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
        let ports = [(); 3].map(|()| free_port());
        for name in ["server-1.toml", "server-2.toml", "server-3.toml", "client.toml"] {
            let text = fs::read_to_string(examples.join(name)).unwrap();
            let text =
                (1..).zip(&ports).fold(text, |text, (n, port)| text.replace(&format!(":5006{n}"), &format!(":{port}")));
            fs::write(folder.path().join(name), text).unwrap();
        }
        let bench = Bench { folder };
        for n in 1..=3 {
            succeeded(gapless_log().arg("cosigner").args(bench.member(n)));
        }
        succeeded(gapless_log().arg("init").args(bench.member(1)).args(["--with-certificates", "client-1"]));
        for n in 2..=3 {
            succeeded(gapless_log().arg("init").args(bench.member(n)));
            succeeded(gapless_log().arg("certify").args(bench.member(n)).arg("--server"));
        }
        bench
    }

    fn member(&self, n: usize) -> [PathBuf; 2] {
        ["--config".into(), self.path(&format!("server-{n}.toml"))]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> [PathBuf; 2] {
        ["--config".into(), self.path("log.toml")]
    }

    fn client(&self) -> [PathBuf; 2] {
        ["--config".into(), self.path("client.toml")]
    }

    /// Writes another configuration of the log, with one text replaced.
    fn variant(&self, name: &str, from: &str, to: &str) -> [PathBuf; 2] {
        let text = fs::read_to_string(self.path("log.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
        ["--config".into(), self.path(name)]
    }

    fn serve(&self) -> Server {
        Server::start(gapless_log().arg("serve").args(self.log()))
    }

    fn verify(&self) -> Output {
        run(gapless_log().arg("verify").args(self.client()).args(["--format", "json", "--linearizable"]))
    }

    /// Returns every event in the log, whichever server is asked first: index to sequence and payload.
    fn events(&self) -> BTreeMap<u64, (u64, String)> {
        let text =
            succeeded(gapless_log().arg("tail").args(self.client()).args(["--format", "json", "--linearizable"]));
        let leaves = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let events = leaves.filter(|leaf| leaf["kind"] == "event").map(|leaf| {
            let payload = STANDARD.decode(leaf["payload"].as_str().unwrap()).unwrap();
            let entry = (leaf["sequence"].as_u64().unwrap(), String::from_utf8(payload).unwrap());
            (leaf["index"].as_u64().unwrap(), entry)
        });
        events.collect()
    }
}

/// A running server, which is killed when it is dropped.
struct Server {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Server {
    /// Returns once it serves.
    fn start(command: &mut Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (lines, said) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::new(Mutex::new(String::new())));
        let (serving, serves) = channel();
        let record = said.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("serving") {
                    let _ = serving.send(());
                }
                record.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let server = Server { child, said };
        if serves.recv_timeout(PATIENCE).is_err() {
            panic!("it does not serve:\n{}", server.said.lock().unwrap());
        }
        server
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM. Returns whether the server ended in order.
    fn stop(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `append` with an open standard input.
struct Appending {
    child: Child,
    input: Option<ChildStdin>,
    indexes: Receiver<u64>,
}

impl Appending {
    fn start(bench: &Bench) -> Appending {
        let mut child = gapless_log()
            .arg("append")
            .args(bench.client())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, indexes) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = told.send(line.parse().unwrap());
            }
        });
        let input = child.stdin.take();
        Appending { child, input, indexes }
    }

    fn say(&mut self, lines: impl IntoIterator<Item = String>) {
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn next_index(&self) -> u64 {
        self.indexes.recv_timeout(PATIENCE).expect("the entry is acknowledged")
    }

    /// Ends the input and waits until the process ends.
    fn finish(mut self) -> Vec<u64> {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}");
        self.indexes.iter().collect()
    }
}

/// Checks that the log has what was acknowledged, at the index that was reported, that it has nothing else, and that
/// nothing in between is missing.
fn holds_exactly(bench: &Bench, lines: &[String], indexes: &[u64]) {
    let events = bench.events();
    assert_eq!(indexes.len(), lines.len());
    for (index, line) in indexes.iter().zip(lines) {
        assert_eq!(events.get(index).map(|(_, payload)| payload), Some(line), "at index {index}");
    }
    assert_eq!(events.len(), lines.len(), "no entry is in the log twice");
    let sequences: Vec<_> = events.values().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=lines.len() as u64).collect::<Vec<_>>());
    let verified = bench.verify();
    assert!(verified.status.success(), "{}", stderr(&verified));
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user {} read record {n}", n % 7)).collect()
}

#[test]
fn the_first_evening_with_a_log() {
    let bench = Bench::bare();
    let vkey = succeeded(gapless_log().arg("init").args(bench.log()).args(["--with-certificates", "client-1"]));
    assert_eq!(vkey, fs::read_to_string(bench.path("var/log.vkey")).unwrap());
    for secret in ["var/log.key", "var/tls/ca.key", "var/tls/server.key", "var/tls/client-1.key"] {
        assert_eq!(fs::metadata(bench.path(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }

    let events = bench.path("events.jsonl");
    let server = Server::start(gapless_log().arg("serve").args(bench.log()).arg("--events").arg(&events));
    let indexes = succeeded(gapless_log().arg("append").args(bench.client()).args(["one", "two"]));
    let file = bench.path("more.txt");
    fs::write(&file, "three\n\nfour\r\nfive").unwrap();
    let more = succeeded(gapless_log().arg("append").args(bench.client()).arg("--file").arg(&file));
    let indexes: Vec<u64> = (indexes + &more).lines().map(|line| line.parse().unwrap()).collect();
    let found: Vec<_> = bench.events().into_iter().map(|(index, (_, payload))| (index, payload)).collect();
    let expected: Vec<_> = indexes.into_iter().zip(["one", "two", "three", "four", "five"].map(String::from)).collect();
    assert_eq!(found, expected);
    let from = found[3].0.to_string();
    let rest = succeeded(gapless_log().arg("tail").args(bench.client()).args(["--from", &from]));
    assert_eq!(rest.lines().count(), 2, "{rest}");
    assert!(rest.ends_with("five\n"), "{rest}");

    let first = bench.verify();
    assert!(first.status.success(), "{}", stderr(&first));
    let verdict: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let again: serde_json::Value = serde_json::from_slice(&bench.verify().stdout).unwrap();
    assert_eq!((&again["extends"], &again["root"]), (&verdict["size"], &verdict["root"]));

    assert!(server.stop());
    let told = fs::read_to_string(&events).unwrap();
    let last: gapless_world::real::EventLine = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(last.event.name(), "shutdown-done");
}

#[test]
fn a_server_that_is_killed_under_load_loses_nothing_that_was_acknowledged() {
    // A longer siege: GAPLESS_KILL_ROUNDS=100 cargo test --test gapless_log killed_under_load
    let rounds = std::env::var("GAPLESS_KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let (bench, lines) = (Bench::new(), lines(200 * (rounds + 1)));
    let mut server = bench.serve();
    let mut appending = Appending::start(&bench);
    let mut indexes = Vec::new();
    for (round, chunk) in lines.chunks(200).enumerate() {
        appending.say(chunk.iter().cloned());
        // Some of the chunk are acknowledged by now, and others are on their way, written or not.
        indexes.extend((0..chunk.len() / 2).map(|_| appending.next_index()));
        if round < rounds {
            server.kill();
            server = bench.serve();
        }
    }
    indexes.extend(appending.finish());
    holds_exactly(&bench, &lines, &indexes);
}

#[test]
fn a_cluster_whose_leader_is_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let rounds = std::env::var("GAPLESS_KILL_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let (bench, lines) = (Bench::cluster(), lines(rounds * 100));
    let serve = |n| Server::start(gapless_log().arg("serve").args(bench.member(n)));
    let mut servers: BTreeMap<usize, Server> = (1..=3).map(|n| (n, serve(n))).collect();
    let mut appending = Appending::start(&bench);
    let (mut indexes, mut term) = (Vec::new(), 0);
    for round in lines.chunks(100) {
        appending.say(round.iter().cloned());
        // Some are acknowledged, and some are on their way.
        indexes.extend((0..50).map(|_| appending.next_index()));
        let (leader, newest) = newest_leader(&servers, term);
        term = newest;
        servers.remove(&leader).unwrap().kill();
        indexes.extend((50..60).map(|_| appending.next_index()));
        servers.insert(leader, serve(leader));
    }
    indexes.extend(appending.finish());
    holds_exactly(&bench, &lines, &indexes);
    assert!(servers.into_values().all(Server::stop));
}

/// Returns which of the servers began to lead in the largest term, and that term. An entry was acknowledged, so there
/// is a leader; but another thread reads what the servers say.
fn newest_leader(servers: &BTreeMap<usize, Server>, after: u64) -> (usize, u64) {
    let term = |server: &Server| {
        let said = server.said.lock().unwrap();
        let terms = said.lines().filter(|line| line.contains("leader changed"));
        terms.filter_map(|line| line.rsplit("term=").next()?.trim().parse::<u64>().ok()).max()
    };
    let by = Instant::now() + PATIENCE;
    loop {
        let newest = servers.iter().filter_map(|(n, server)| Some((term(server)?, *n))).max();
        match newest.filter(|(term, _)| *term > after) {
            Some((term, leader)) => return (leader, term),
            None => assert!(Instant::now() < by, "nobody says that it leads after term {after}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_is_stopped_ends_in_order_and_its_clients_go_on_later() {
    let (bench, lines) = (Bench::new(), lines(600));
    let server = bench.serve();
    let mut appending = Appending::start(&bench);
    appending.say(lines.iter().cloned());
    let mut indexes = vec![appending.next_index()];
    let said = server.said.clone();
    assert!(server.stop(), "{}", said.lock().unwrap());
    let _server = bench.serve();
    indexes.extend(appending.finish());
    holds_exactly(&bench, &lines, &indexes);
}

#[test]
fn a_second_instance_is_refused_and_told_why() {
    let bench = Bench::new();
    let server = bench.serve();
    let same_port = run(gapless_log().arg("serve").args(bench.log()));
    assert_eq!(same_port.status.code(), Some(1));
    assert!(stderr(&same_port).contains("another process"), "{}", stderr(&same_port));

    let other = Bench::new();
    let port = fs::read_to_string(bench.path("log.toml")).unwrap();
    let port = port.lines().find(|line| line.starts_with("listen")).unwrap().to_owned();
    let text = fs::read_to_string(other.path("log.toml")).unwrap();
    let own = text.lines().find(|line| line.starts_with("listen")).unwrap();
    let busy = run(gapless_log().arg("serve").args(other.variant("busy.toml", own, &port)));
    assert_eq!(busy.status.code(), Some(1));
    assert!(stderr(&busy).contains("cannot listen on 127.0.0.1:"), "{}", stderr(&busy));
    assert!(stderr(&busy).contains("stop whatever listens there"), "{}", stderr(&busy));
    assert!(server.stop());
}

#[test]
fn a_log_that_was_rolled_back_does_not_verify() {
    let bench = Bench::new();
    let append = |entry: &str| succeeded(gapless_log().arg("append").args(bench.client()).arg(entry));
    let server = bench.serve();
    append("before the copy");
    assert!(server.stop());
    copy(&bench.path("var/data"), &bench.path("copy"));

    let server = bench.serve();
    append("after the copy");
    assert!(bench.verify().status.success());
    assert!(server.stop());
    fs::remove_dir_all(bench.path("var/data")).unwrap();
    fs::rename(bench.path("copy"), bench.path("var/data")).unwrap();

    let _server = bench.serve();
    let verdict = bench.verify();
    assert_eq!(verdict.status.code(), Some(100), "{}", stderr(&verdict));
    assert!(stderr(&verdict).contains("rolled back"), "{}", stderr(&verdict));
    let again = bench.verify();
    assert_eq!(again.status.code(), Some(100), "what failed is not remembered as true");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}

#[test]
fn what_cannot_work_is_said_with_its_cure() {
    let bench = Bench::new();
    let serve = |config: [PathBuf; 2]| run(gapless_log().arg("serve").args(config));
    let failed = |output: Output, code: i32, words: &[&str]| {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is missing in: {said}"));
    };
    failed(run(gapless_log().arg("serve")), 2, &["--config"]);
    failed(serve(["--config".into(), bench.path("nowhere.toml")]), 3, &["nowhere.toml"]);
    failed(serve(bench.variant("a.toml", "data =", "date =")), 3, &["date", "line"]);
    failed(serve(bench.variant("b.toml", "log.example/first", "log.example/second")), 3, &["log.example/first"]);
    failed(serve(bench.variant("c.toml", "var/log.key", "var/no.key")), 3, &["no.key", "gapless-log init"]);
    failed(serve(bench.variant("d.toml", "var/data", "var/nothing")), 1, &["var/nothing", "gapless-log init"]);
    fs::create_dir(bench.path("var/empty")).unwrap();
    failed(serve(bench.variant("e.toml", "var/data", "var/empty")), 1, &["not initialised"]);
    failed(serve(bench.variant("f.toml", "server.key", "client-1.key")), 3, &["cannot be used together"]);

    let init = |config: [PathBuf; 2]| run(gapless_log().arg("init").args(config));
    failed(init(bench.log()), 1, &["already"]);
    let again = run(gapless_log().arg("init").args(bench.log()).args(["--with-certificates", "client-2"]));
    failed(again, 1, &["server.pem", "certify"]);
    assert!(!bench.path("var/tls/client-2.pem").exists(), "a refused init leaves nothing behind");
    succeeded(gapless_log().arg("certify").args(bench.log()).arg("client-2"));
    assert!(bench.path("var/tls/client-2.pem").exists());

    fs::set_permissions(bench.path("var/log.key"), fs::Permissions::from_mode(0o640)).unwrap();
    failed(serve(bench.log()), 3, &["can be read by others", "chmod 600"]);
    fs::set_permissions(bench.path("var/log.key"), fs::Permissions::from_mode(0o600)).unwrap();
    for (key, command) in [("server.key", "serve"), ("ca.key", "certify"), ("client-1.key", "verify")] {
        let key = bench.path("var/tls").join(key);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let output = match command {
            "serve" => serve(bench.log()),
            "certify" => run(gapless_log().arg("certify").args(bench.log()).arg("client-3")),
            _ => bench.verify(),
        };
        let said = stderr(&output);
        assert!(!output.status.success());
        assert!(said.contains("can be read by others (mode 644)") && said.contains("chmod 600"), "{said}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// What docs/operating.md says about a log of one that lost a file of its folder.
#[test]
fn a_log_of_one_that_lost_its_vote_takes_nothing_until_its_folder_is_restored_from_a_copy() {
    let bench = Bench::new();
    let server = bench.serve();
    succeeded(gapless_log().arg("append").args(bench.client()).arg("before"));
    assert!(bench.verify().status.success());
    assert!(server.stop());
    copy(&bench.path("var/data"), &bench.path("copy"));
    fs::remove_file(bench.path("var/data/vote")).unwrap();

    let server = bench.serve();
    let refused = run(gapless_log().arg("append").args(bench.client()).args(["--within", "0", "after"]));
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    server.kill();
    fs::remove_dir_all(bench.path("var/data")).unwrap();
    fs::rename(bench.path("copy"), bench.path("var/data")).unwrap();

    let server = bench.serve();
    succeeded(gapless_log().arg("append").args(bench.client()).arg("and more"));
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["before", "after", "and more"]);
    assert!(bench.verify().status.success());
    assert!(server.stop());
}

#[test]
fn what_could_not_be_delivered_stays_in_the_outbox_and_goes_first() {
    let bench = Bench::new();
    let alone = run(gapless_log().arg("append").args(bench.client()).args(["--within", "0", "early"]));
    assert_eq!(alone.status.code(), Some(1));
    assert!(stderr(&alone).contains("stay in the outbox"), "{}", stderr(&alone));
    let _server = bench.serve();
    succeeded(gapless_log().arg("append").args(bench.client()).arg("late"));
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["early", "late"]);
}
