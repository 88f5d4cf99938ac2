//! The runbooks of docs/cluster.md that nobody needs at night, each as it is written there.

use super::{
    members::{nodes, port_of},
    *,
};

/// Copies a file of examples/cluster that a bench does not have, with the ports of the bench.
fn take(bench: &Bench, name: &str, fourth: &str) {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster").join(name)).unwrap();
    let own = (1..=3).map(|n| (n, port_of(bench, n)));
    let ports = own.chain([(4, fourth.to_owned())]);
    let text = ports.fold(text, |text, (n, port)| text.replace(&format!(":5006{n}"), &format!(":{port}")));
    fs::write(bench.path(name), text).unwrap();
}

fn member(bench: &Bench, verb: &[&str]) -> Command {
    let mut command = gapless_log();
    command.arg("member").args(verb).arg("--config").arg(bench.path("operator.toml"));
    command
}

fn list(bench: &Bench) -> serde_json::Value {
    serde_json::from_str(&succeeded(member(bench, &["list"]).args(["--format", "json"]))).unwrap()
}

#[test]
fn a_member_is_added_and_removed_and_the_leader_moves_away_for_maintenance() {
    let bench = Bench::cluster();
    let fourth = free_port().to_string();
    ["server-4.toml", "operator.toml"].iter().for_each(|name| take(&bench, name, &fourth));
    let serve = |n| Server::start(gapless_log().arg("serve").args(bench.member(n)));
    let append = |entry: &str| succeeded(gapless_log().arg("append").args(bench.client()).arg(entry));
    succeeded(gapless_log().arg("certify").args(bench.member(1)).arg("operator-1"));
    let mut servers: BTreeMap<usize, Server> = (1..=3).map(|n| (n, serve(n))).collect();
    append("of three");

    succeeded(gapless_log().arg("certify").args(bench.member(4)).arg("--server"));
    succeeded(gapless_log().arg("join").args(bench.member(4)));
    servers.insert(4, serve(4));
    let mut add = member(&bench, &["add"]);
    add.args(["--node", "4", "--address", &format!("127.0.0.1:{fourth}"), "--cosigner"]);
    succeeded(add.arg(bench.path("var/server-4/cosigner.vkey")));
    assert_eq!(nodes(&list(&bench)), [(1, true), (2, true), (3, true), (4, true)]);
    append("of four");
    // If the new member happens to lead, another one has to take the lead first.
    if list(&bench)["leader"] == 4 {
        assert!(servers.remove(&4).unwrap().stop());
        servers.insert(4, serve(4));
    }
    succeeded(&mut member(&bench, &["remove", "4"]));
    assert_eq!(nodes(&list(&bench)), [(1, true), (2, true), (3, true)]);
    assert!(servers.remove(&4).unwrap().stop());
    append("of three again");

    let leader = list(&bench)["leader"].as_u64().unwrap();
    assert!(servers.remove(&(leader as usize)).unwrap().stop());
    append("while one is away");
    assert_ne!(list(&bench)["leader"], leader);
    servers.insert(leader as usize, serve(leader as usize));
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["of three", "of four", "of three again", "while one is away"]);
    assert!(servers.into_values().all(Server::stop));
}

#[test]
fn a_new_authority_is_taken_up_in_three_rounds_without_a_restart() {
    /// Servers check their files every five seconds.
    const TAKEN_UP: Duration = Duration::from_secs(7);
    let bench = Bench::cluster();
    let servers: Vec<Server> =
        (1..=3).map(|n| Server::start(gapless_log().arg("serve").args(bench.member(n)))).collect();
    let append = |entry: &str| succeeded(gapless_log().arg("append").args(bench.client()).arg(entry));
    append("under the old one");
    let old = ["pem", "key"].map(|ending| (bench.path(&format!("var/server-1/client-1.{ending}")), ending));
    for (file, ending) in &old {
        fs::copy(file, bench.path(&format!("var/old.{ending}"))).unwrap();
    }
    let next = |n: usize| {
        let text = fs::read_to_string(bench.path(&format!("server-{n}.toml"))).unwrap();
        fs::write(bench.path("next.toml"), text.replace("var/ca.pem", "var/next/ca.pem")).unwrap();
        ["--config".into(), bench.path("next.toml")]
    };
    succeeded(gapless_log().arg("certify").args(next(1)).arg("made-with-the-authority"));
    let (both, new) = (bench.path("var/ca.pem"), fs::read_to_string(bench.path("var/next/ca.pem")).unwrap());
    fs::write(&both, fs::read_to_string(&both).unwrap() + &new).unwrap();
    thread::sleep(TAKEN_UP);
    append("while both are trusted");
    succeeded(gapless_log().arg("certify").args(next(1)).args(["--server", "--replace", "client-1"]));
    for n in 2..=3 {
        succeeded(gapless_log().arg("certify").args(next(n)).args(["--server", "--replace"]));
    }
    thread::sleep(TAKEN_UP);
    append("with certificates by the new one");
    fs::write(&both, &new).unwrap();
    thread::sleep(TAKEN_UP);
    append("under the new one alone");
    assert_eq!(bench.events().len(), 4);

    // A client that shows a certificate of the old authority is turned away.
    let client = fs::read_to_string(bench.path("client.toml")).unwrap();
    let client = client.replace("var/server-1/client-1.", "var/old.").replace("client-1/outbox", "client-1/other");
    fs::write(bench.path("old.toml"), client).unwrap();
    let refused = run(gapless_log().args(["append", "--within", "3", "--config"]).arg(bench.path("old.toml")).arg("x"));
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(servers.into_iter().all(Server::stop));
}
