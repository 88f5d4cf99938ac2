//! The members of a cluster change while it serves: real servers, one of them lost for good.

use super::*;

/// What docs/cluster.md says about a dead machine: another machine joins under its name, and takes its place.
struct Change<'b> {
    bench: &'b Bench,
    address: String,
}

impl Change<'_> {
    /// Makes the files of server 4 and of an operator, beside those of the three, and lets the new server's folder
    /// join.
    fn prepare(bench: &Bench) -> Change<'_> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
        let ports: Vec<(usize, String)> = (1..=3).map(|n| (n, port_of(bench, n))).collect();
        // Server 4 has the name and the address of the server that it replaces.
        let address = format!("127.0.0.1:{}", ports[2].1);
        for name in ["server-4.toml", "operator.toml", "client-2.toml"] {
            let text = match name {
                // A client that knows only the new machine.
                "client-2.toml" => fs::read_to_string(examples.join("client.toml"))
                    .unwrap()
                    .replace("client-1", "client-2")
                    .replace("server-3/cosigner", "server-4/cosigner"),
                "server-4.toml" => fs::read_to_string(examples.join(name))
                    .unwrap()
                    .replace("name = \"server-4\"", "name = \"server-3\"")
                    .replace(":50064", ":50063"),
                name => fs::read_to_string(examples.join(name)).unwrap(),
            };
            let text =
                ports.iter().fold(text, |text, (n, port)| text.replace(&format!(":5006{n}"), &format!(":{port}")));
            fs::write(bench.path(name), text).unwrap();
        }
        succeeded(gapless_log().arg("certify").args(bench.member(1)).args(["operator-1", "client-2"]));
        succeeded(gapless_log().arg("certify").args(bench.member(4)).arg("--server"));
        let key = succeeded(gapless_log().arg("join").args(bench.member(4)));
        assert_eq!(key, fs::read_to_string(bench.path("var/server-4/cosigner.vkey")).unwrap());
        // Keys of one name are one cosigner, so clients are told of the new one in advance.
        let client = fs::read_to_string(bench.path("client.toml")).unwrap();
        let both = client.replace("cosigners = [", "cosigners = [\"var/server-4/cosigner.vkey\", ");
        fs::write(bench.path("client.toml"), both).unwrap();
        Change { bench, address }
    }

    fn member(&self, verb: &[&str]) -> Command {
        let mut command = gapless_log();
        command.arg("member").args(verb).arg("--config").arg(self.bench.path("operator.toml"));
        command
    }

    /// A command with the new server's node, address and key.
    fn new_member(&self, verb: &[&str], node: u64) -> Command {
        let mut command = self.member(verb);
        command.args(["--node", &node.to_string(), "--address", &self.address, "--cosigner"]);
        command.arg(self.bench.path("var/server-4/cosigner.vkey"));
        command
    }

    /// This is little time for a learner that does not answer, and enough for an election.
    fn with_little_time(&self, mut command: Command) -> Command {
        command.args(["--within", "6"]);
        command
    }

    fn list(&self) -> serde_json::Value {
        serde_json::from_str(&succeeded(self.member(&["list"]).args(["--format", "json"]))).unwrap()
    }
}

pub(crate) fn port_of(bench: &Bench, n: usize) -> String {
    let text = fs::read_to_string(bench.path(&format!("server-{n}.toml"))).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen")).unwrap();
    listen.rsplit(':').next().unwrap().trim_end_matches('"').to_owned()
}

fn refused(mut command: Command, words: &[&str]) {
    let output = run(&mut command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is missing in: {said}"));
}

pub(crate) fn nodes(status: &serde_json::Value) -> Vec<(u64, bool)> {
    let members = status["members"].as_array().unwrap();
    members.iter().map(|member| (member["node"].as_u64().unwrap(), member["voter"].as_bool().unwrap())).collect()
}

#[test]
fn a_dead_machine_is_replaced_under_load_and_the_new_one_counts() {
    let (bench, lines) = (Bench::cluster(), lines(600));
    let serve = |n| Server::start(gapless_log().arg("serve").args(bench.member(n)));
    let mut servers: BTreeMap<usize, Server> = (1..=3).map(|n| (n, serve(n))).collect();
    // Made in advance, so that clients know its key before it is needed.
    let change = Change::prepare(&bench);
    let mut appending = Appending::start(&bench);
    appending.say(lines[..200].iter().cloned());
    let mut indexes: Vec<u64> = (0..100).map(|_| appending.next_index()).collect();

    // The third machine dies, with its disk. Its folder, made anew, belongs to no member.
    servers.remove(&3).unwrap().kill();
    fs::remove_dir_all(bench.path("var/server-3/data")).unwrap();
    fs::create_dir(bench.path("var/server-3/data")).unwrap();
    refused_to_serve(&bench);
    let mut init = gapless_log();
    init.arg("init").args(bench.member(3));
    refused(init, &["cosigner.key belongs to the data folder", "must not be made again", "member replace"]);
    // A node that does not hold the log gets no vote: not before its process runs, whoever asks for it.
    refused(change.with_little_time(change.new_member(&["replace", "3"], 4)), &["node 4 has not caught up"]);
    refused(change.with_little_time(change.member(&["promote", "4"])), &["node 4 does not answer"]);
    assert_eq!(nodes(&change.list()), [(1, true), (2, true), (3, true), (4, false)]);
    servers.insert(4, serve(4));
    appending.say(lines[200..400].iter().cloned());
    succeeded(&mut change.new_member(&["replace", "3"], 4));
    let status = change.list();
    assert_eq!(nodes(&status), [(1, true), (2, true), (4, true)], "{status}");
    assert_eq!(status["changing"], false);
    indexes.extend((100..300).map(|_| appending.next_index()));

    // The same command again changes nothing; what would do harm is refused with the cure.
    succeeded(&mut change.new_member(&["replace", "3"], 4));
    let entries = |status: &serde_json::Value| status["members"].clone();
    assert_eq!(nodes(&change.list()), nodes(&status), "{}", entries(&change.list()));
    refused(change.new_member(&["add"], 3), &["node 3 was a member of this log already", "take 5"]);
    refused(change.new_member(&["add"], 5), &["node 4 cosigned by the same key", "gapless-log cosigner"]);
    refused(change.member(&["remove", "9"]), &["was never a member"]);
    let leader = change.list()["leader"].as_u64().unwrap();
    refused(change.member(&["remove", &leader.to_string()]), &["leads", "ask that one"]);
    let mut stranger = gapless_log();
    stranger.args(["member", "list"]).args(bench.client());
    refused(stranger, &["`client-1` is no operator", "operators"]);

    // One more of the old machines is lost: what is acknowledged from here on is on the new one's disk.
    let lost = if leader == 1 { 1 } else { 2 };
    servers.remove(&lost).unwrap().kill();
    let told = ["--config".into(), bench.path("client-2.toml")];
    let entry = succeeded(gapless_log().arg("append").args(&told).arg("by the two that are left"));
    assert_eq!(entry.lines().count(), 1);
    servers.insert(lost, serve(lost));

    appending.say(lines[400..].iter().cloned());
    indexes.extend(appending.finish());
    // Any server may be asked, and the one that came back may have to catch up.
    let by = Instant::now() + PATIENCE;
    let events = loop {
        let events = bench.events();
        if events.len() > lines.len() || Instant::now() > by {
            break events;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let found: Vec<_> = indexes.iter().map(|index| events[index].1.clone()).collect();
    assert_eq!(found, lines);
    assert_eq!(events.len(), lines.len() + 1, "each is there once");
    succeeded(gapless_log().arg("verify").args(&told).arg("--linearizable"));
    assert!(servers.into_values().all(Server::stop));
}

fn refused_to_serve(bench: &Bench) {
    let output = run(gapless_log().arg("serve").args(bench.member(3)));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not initialised"), "{}", stderr(&output));
}

#[test]
fn a_folder_joins_once_and_only_a_log_whose_key_it_has() {
    let bench = Bench::cluster();
    let change = Change::prepare(&bench);
    let again = run(gapless_log().arg("join").args(change.bench.member(4)));
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("cosigner.key exists"), "{}", stderr(&again));
    fs::rename(bench.path("var/server-4/cosigner.key"), bench.path("var/server-4/aside.key")).unwrap();
    let again = run(gapless_log().arg("join").args(change.bench.member(4)));
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("already node 4"), "{}", stderr(&again));
    fs::rename(bench.path("var/log.key"), bench.path("var/elsewhere.key")).unwrap();
    let keyless = run(gapless_log().arg("join").args(change.bench.member(4)));
    assert_eq!(keyless.status.code(), Some(3));
    assert!(!bench.path("var/log.key").exists(), "no key is made for a log that is there");
}

/// What docs/cluster.md says about a member that lost its vote: a copy of its folder does not bring it back.
#[test]
fn a_member_that_lost_its_vote_is_replaced_and_never_restored() {
    let bench = Bench::cluster();
    let serve = |n| Server::start(gapless_log().arg("serve").args(bench.member(n)));
    let mut servers: BTreeMap<usize, Server> = (1..=3).map(|n| (n, serve(n))).collect();
    succeeded(gapless_log().arg("append").args(bench.client()).arg("before"));
    assert!(servers.remove(&3).unwrap().stop());
    fs::remove_file(bench.path("var/server-3/data/vote")).unwrap();
    let mut again = gapless_log();
    again.arg("serve").args(bench.member(3));
    refused(again, &["the vote is lost", "gapless-log member replace"]);

    let change = Change::prepare(&bench);
    servers.insert(4, serve(4));
    succeeded(&mut change.new_member(&["replace", "3"], 4));
    assert_eq!(nodes(&change.list()), [(1, true), (2, true), (4, true)]);
    succeeded(gapless_log().arg("append").args(bench.client()).arg("after"));
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["before", "after"]);
    assert!(servers.into_values().all(Server::stop));
}

#[test]
fn a_folder_that_is_not_the_one_of_its_members_key_is_not_served() {
    let bench = Bench::cluster();
    let (note, data) = (bench.path("var/server-3/cosigner.folder"), bench.path("var/server-3/data"));
    let first = fs::read_to_string(&note).unwrap();
    // The folder is made anew, against the advice.
    fs::remove_file(&note).unwrap();
    fs::remove_dir_all(&data).unwrap();
    succeeded(gapless_log().arg("init").args(bench.member(3)));
    assert_ne!(fs::read_to_string(&note).unwrap(), first);
    fs::write(&note, &first).unwrap();
    let mut serve = gapless_log();
    serve.arg("serve").args(bench.member(3));
    refused(serve, &["the data folder is", first.trim(), "must not be served"]);

    // The folder of a release that noted nothing is noted at its first start.
    let (note, noted) = (bench.path("var/server-2/cosigner.folder"), bench.path("var/server-1/cosigner.folder"));
    let before = fs::read_to_string(&note).unwrap();
    fs::remove_file(&note).unwrap();
    assert!(Server::start(gapless_log().arg("serve").args(bench.member(2))).stop());
    assert_eq!(fs::read_to_string(&note).unwrap(), before);
    assert_ne!(fs::read_to_string(noted).unwrap(), before);
}
