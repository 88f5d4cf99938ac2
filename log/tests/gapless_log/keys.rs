//! Keys and certificates in files: which are served, which are refused, and what is said of those.

use gapless_world::tls::{Issuer, KeyKind};

use super::*;

/// Logs had such keys before `certify` made keys that all clients can read.
#[test]
fn those_who_have_ed25519_keys_are_served_and_certify_makes_them_others() {
    let bench = Bench::bare();
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let issuer = Issuer::new("an authority of before", now - 60, now + 86_400).unwrap();
    let keep = |name: &str, text: &str, mode: u32| {
        let path = bench.path("var/tls").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    keep("ca.pem", issuer.ca_pem(), 0o644);
    keep("ca.key", &issuer.key_pem(), 0o600);
    for (serial, name) in (2..).zip(["server", "client-1"]) {
        let names = if name == "server" { vec!["localhost", "127.0.0.1"] } else { vec![name] };
        let identity = issuer.issue_for(&names, serial, now - 60, now + 86_400).unwrap();
        assert_eq!(KeyKind::of(&identity.key_pem).unwrap(), KeyKind::Ed25519);
        keep(&format!("{name}.pem"), &identity.chain_pem, 0o644);
        keep(&format!("{name}.key"), &identity.key_pem, 0o600);
    }
    succeeded(gapless_log().arg("init").args(bench.log()));
    let server = bench.serve();
    let append = |entry: &str| succeeded(gapless_log().arg("append").args(bench.client()).arg(entry));
    append("with the old keys");
    // The client gets a new key, and speaks to a server that shows its old one; then the server gets a new one, too.
    let certify = |what: &str| succeeded(gapless_log().arg("certify").args(bench.log()).args(["--replace", what]));
    certify("client-1");
    append("with a new key of the client");
    assert!(server.stop());
    certify("--server");
    for name in ["server", "client-1"] {
        let key = fs::read_to_string(bench.path(&format!("var/tls/{name}.key"))).unwrap();
        assert_eq!(KeyKind::of(&key).unwrap(), KeyKind::EcdsaP256, "{name}");
    }
    let _server = bench.serve();
    append("with new keys of both");
    let found: Vec<_> = bench.events().into_values().map(|(_, payload)| payload).collect();
    assert_eq!(found, ["with the old keys", "with a new key of the client", "with new keys of both"]);
    assert!(bench.verify().status.success());
}

#[test]
fn tls_keys_that_others_may_read_are_refused_like_the_logs() {
    let bench = Bench::new();
    let verb = |verb: &str, config: [PathBuf; 2], rest: &[&str]| {
        let output = run_to_its_end(gapless_log().arg(verb).args(config).args(rest));
        (output.status.code(), stderr(&output))
    };
    for key in ["server.key", "client-1.key", "ca.key"] {
        let path = bench.path("var/tls").join(key);
        for mode in [0o640, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let (code, said) = match key {
                "server.key" => verb("serve", bench.log(), &[]),
                "client-1.key" => verb("append", bench.client(), &["--within", "0", "an entry"]),
                _ => verb("certify", bench.log(), &["client-2"]),
            };
            assert_eq!(code, Some(3), "{said}");
            let expected = format!("{} can be read by others (mode {mode:03o})", path.display());
            assert!(said.contains(&expected) && said.contains("chmod 600"), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(!bench.path("var/tls/client-2.pem").exists(), "a refused certify leaves nothing behind");
}

#[test]
fn what_is_wrong_with_keys_and_certificates_is_said_with_their_files_and_the_cure() {
    let bench = Bench::new();
    let tls = |name: &str| bench.path("var/tls").join(name);
    let refused = |command: &mut Command, code: i32, words: &[&str]| {
        let output = run_to_its_end(command);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is missing in: {said}"));
    };
    let with = |name: &str, text: &str, check: &dyn Fn()| {
        let kept = fs::read(tls(name)).unwrap();
        fs::write(tls(name), text).unwrap();
        check();
        fs::write(tls(name), kept).unwrap();
    };
    let serve = || {
        let mut command = gapless_log();
        command.arg("serve").args(bench.log());
        command
    };
    let certify = || {
        let mut command = gapless_log();
        command.arg("certify").args(bench.log()).arg("client-2");
        command
    };
    with("server.key", "no key", &|| refused(&mut serve(), 3, &["server.key", "private key", "PEM"]));
    with("server.pem", "no certificate", &|| refused(&mut serve(), 3, &["server.pem", "holds no certificate"]));
    with("ca.pem", "", &|| refused(&mut serve(), 3, &["ca.pem", "trusted issuers"]));
    with("ca.key", "no key", &|| refused(&mut certify(), 3, &["ca.key", "no authority"]));
    let other = Issuer::with_key(KeyKind::EcdsaP256, "another", 0, 4_000_000_000).unwrap();
    with("ca.pem", other.ca_pem(), &|| {
        refused(&mut certify(), 3, &["ca.pem", "do not belong together", "restore both"])
    });
    fs::rename(tls("ca.key"), tls("ca.gone")).unwrap();
    refused(&mut certify(), 1, &["ca.key is missing", "init --with-certificates"]);
    // An `init` that cannot certify does nothing at all.
    let new = Bench::bare();
    fs::create_dir_all(new.path("var/tls")).unwrap();
    fs::copy(tls("ca.pem"), new.path("var/tls/ca.pem")).unwrap();
    let init = &mut gapless_log();
    refused(init.arg("init").args(new.log()).args(["--with-certificates", "client-1"]), 1, &["ca.key is missing"]);
    assert!(!new.path("var/data").exists() && !new.path("var/log.key").exists());
    fs::rename(tls("ca.gone"), tls("ca.key")).unwrap();
    refused(gapless_log().arg("certify").args(bench.log()).arg("Client 3"), 1, &["`Client 3` cannot name a client"]);
    succeeded(&mut certify());
}
