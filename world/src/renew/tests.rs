//! Tests the issuer and the renewer over a network in memory.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Authority, IssuerSettings, REPLACED, RenewSettings, Renewer, Replaced, serve_issuer};
use crate::{
    Listener, LogEvent, Net, Observer, Server, Stream, World,
    net::BoxFuture,
    real::RealDisk,
    tls::{self, Grant, Identity, Issuer, Usage, wall_seconds},
};

const LONG_AGO: i64 = 1_000_000_000;
const FAR_AWAY: i64 = 4_000_000_000;
const DAY: i64 = 24 * 60 * 60;

/// One address, at which somebody listens or not.
#[derive(Clone, Default)]
struct MemoryNet(Arc<Mutex<Option<mpsc::UnboundedSender<DuplexStream>>>>);

struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

impl Net for MemoryNet {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        *self.0.lock().unwrap() = Some(incoming);
        Box::pin(async { Ok(Box::new(MemoryListener(accepted)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let sent = self.0.lock().unwrap().as_ref().is_some_and(|listener| listener.send(far).is_ok());
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        Box::pin(async move { sent.then(|| Box::new(near) as Box<dyn Stream>).ok_or_else(refused) })
    }
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn Stream>, "somewhere".to_owned())),
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> String {
        "memory".to_owned()
    }
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<LogEvent>>>);

impl Observer for Heard {
    fn see(&self, event: LogEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.name() == name).count()
    }

    fn refusals(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let reason = |event: &LogEvent| match event {
            LogEvent::HandshakeRefused { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        events.iter().filter_map(reason).collect()
    }
}

/// A root for the issuer itself, and an authority that it issues from.
struct Bench {
    world: World,
    heard: Heard,
    root: Issuer,
    authority: watch::Sender<Authority>,
    _folder: Arc<tempfile::TempDir>,
}

impl Bench {
    fn new() -> Bench {
        let heard = Heard::default();
        let observer: Arc<dyn Observer> = Arc::new(heard.clone());
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let world = World { disk, net: Arc::new(MemoryNet::default()), observer };
        let root = Issuer::new("root", LONG_AGO, FAR_AWAY).unwrap();
        let signer = Arc::new(Issuer::new("first", LONG_AGO, FAR_AWAY).unwrap());
        let pem = signer.ca_pem().to_owned();
        let authority = Authority { signer, trusted_pem: pem, replaced: Vec::new() };
        Bench { world, heard, root, authority: watch::Sender::new(authority), _folder: folder }
    }

    fn identity(&self, name: &str, from: i64, until: i64) -> Identity {
        let authority = self.authority.borrow();
        let identity = authority.signer.issue(name, 7, from, until).unwrap();
        Identity { ca_pem: authority.trusted_pem.clone(), ..identity }
    }

    /// Puts another authority in force. The old one counts as replaced at the given time, if there is one. Returns the
    /// authority to trust.
    fn replace_authority(&self, signer: Arc<Issuer>, at: &[i64]) -> String {
        let ca_pem = self.authority.borrow().trusted_pem.clone();
        let replaced = at.iter().map(|at| Replaced { ca_pem: ca_pem.clone(), at: *at }).collect();
        let trusted_pem = signer.ca_pem().to_owned();
        self.authority.send_replace(Authority { signer, trusted_pem: trusted_pem.clone(), replaced });
        trusted_pem
    }

    fn serve(&self) {
        let settings = IssuerSettings {
            listen: "issuer:1".to_owned(),
            identity: self.root.issue("issuer", 1, LONG_AGO, FAR_AWAY).unwrap(),
            authority: self.authority.subscribe(),
            lifetime: Duration::from_secs(3_600),
            grace: Duration::from_secs(24 * 60 * 60),
            replaced: REPLACED,
        };
        let world = self.world.clone();
        tokio::spawn(async move { serve_issuer(world, settings, std::future::pending()).await.unwrap() });
    }

    /// Runs a renewer from an identity on. Returns what is in force, and a way to ask for a renewal now.
    fn renew(&self, from: Identity) -> (watch::Receiver<Identity>, watch::Sender<u64>) {
        let issuer = Server { address: "issuer:1".to_owned(), tls_name: "issuer".to_owned() };
        let settings = RenewSettings::new(issuer, self.root.ca_pem().to_owned(), Duration::from_secs(60));
        let (in_force, asked) = (watch::Sender::new(from), watch::Sender::new(0));
        let (seen, asks) = (in_force.subscribe(), asked.subscribe());
        let keep = Box::new(move |identity| _ = in_force.send_replace(identity));
        tokio::spawn(Renewer::new(self.world.clone(), settings, seen.clone(), asks, keep).run());
        (seen, asked)
    }
}

async fn renewed(in_force: &mut watch::Receiver<Identity>) -> Option<Identity> {
    timeout(Duration::from_secs(120), in_force.changed()).await.ok()?.unwrap();
    Some(in_force.borrow_and_update().clone())
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_about_to_end_is_renewed_for_the_same_names_from_now_on() {
    let bench = Bench::new();
    bench.serve();
    let now = wall_seconds();
    let (mut in_force, _asked) = bench.renew(bench.identity("client-1", LONG_AGO, now + 30));
    let identity = renewed(&mut in_force).await.expect("renewed");
    let peer = identity.peer().unwrap();
    assert_eq!(peer.name, "client-1");
    assert!((now..=now + 5).contains(&peer.not_before), "an issuer does not backdate: {peer:?}");
    assert_eq!(peer.not_after, peer.not_before + 3_600);
    assert_eq!(bench.heard.count("cert-renewed"), 1);
    assert!(renewed(&mut in_force).await.is_none(), "it is not due again for an hour");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_tried_until_it_works_also_after_the_certificate_has_ended() {
    let bench = Bench::new();
    let (mut in_force, _asked) = bench.renew(bench.identity("client-1", LONG_AGO, wall_seconds() - 60));
    assert!(renewed(&mut in_force).await.is_none());
    let failed = bench.heard.count("renewal-failed");
    assert!(failed > 10, "{failed}");
    bench.serve();
    assert!(renewed(&mut in_force).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn connections_that_show_nothing_keep_nobody_from_a_renewal() {
    let bench = Bench::new();
    bench.serve();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut flood = Vec::new();
    for _ in 0..1_500 {
        flood.push(bench.world.net.connect("issuer:1").await.unwrap());
    }
    let (mut in_force, _asked) = bench.renew(bench.identity("client-1", LONG_AGO, wall_seconds() + 30));
    assert!(renewed(&mut in_force).await.is_some());
    assert_eq!(bench.heard.count("renewal-failed"), 0, "{:?}", bench.heard.refusals());
    assert_eq!(bench.heard.refusals().len(), 64, "the others are counted");
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_good_gets_nothing() {
    let bench = Bench::new();
    bench.serve();
    let stranger = Issuer::new("stranger", LONG_AGO, FAR_AWAY).unwrap();
    let foreign = stranger.issue("client-1", 7, LONG_AGO, wall_seconds() + 30).unwrap();
    let too_late = bench.identity("client-1", LONG_AGO, wall_seconds() - DAY - 60);
    for (shown, reason) in [(foreign, "unknown-issuer"), (too_late, "expired")] {
        let (mut in_force, _asked) = bench.renew(shown);
        assert!(renewed(&mut in_force).await.is_none());
        assert!(bench.heard.refusals().iter().any(|told| told == reason), "{reason}");
    }
    assert_eq!(bench.heard.count("cert-renewed"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_of_another_root_is_told_nothing() {
    let bench = Bench::new();
    bench.serve();
    let other = Bench { root: Issuer::new("root", LONG_AGO, FAR_AWAY).unwrap(), ..bench };
    let (mut in_force, _asked) = other.renew(other.identity("client-1", LONG_AGO, wall_seconds() + 30));
    assert!(renewed(&mut in_force).await.is_none());
    assert!(other.heard.count("renewal-failed") > 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_renews_at_once_and_follows_a_rotation() {
    let bench = Bench::new();
    bench.serve();
    let (mut in_force, asked) = bench.renew(bench.identity("client-1", LONG_AGO, FAR_AWAY));
    assert!(renewed(&mut in_force).await.is_none(), "it is not due");
    let second = Arc::new(Issuer::new("second", LONG_AGO, FAR_AWAY).unwrap());
    let trusted_pem = bench.replace_authority(second, &[wall_seconds()]);
    asked.send_replace(1);
    let identity = renewed(&mut in_force).await.expect("renewed, although nobody trusts what it showed");
    assert_eq!(identity.ca_pem, trusted_pem);
    identity.verify_by_own_issuers().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_was_replaced_long_ago_or_is_thrown_out_renews_nothing() {
    let week = i64::try_from(REPLACED.as_secs()).unwrap();
    let cases = [
        (vec![wall_seconds() - week + 600], true),
        (vec![wall_seconds() - week - 600], false),
        (Vec::new(), false), // its key was stolen
    ];
    for (replaced, renews) in cases {
        let bench = Bench::new();
        bench.serve();
        let (mut in_force, asked) = bench.renew(bench.identity("client-1", LONG_AGO, FAR_AWAY));
        bench.replace_authority(Arc::new(Issuer::new("second", LONG_AGO, FAR_AWAY).unwrap()), &replaced);
        asked.send_replace(1);
        assert_eq!(renewed(&mut in_force).await.is_some(), renews, "{replaced:?}");
        assert_eq!(bench.heard.refusals().iter().any(|reason| reason == "unknown-issuer"), !renews);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_good_for_the_ends_for_which_the_old_one_was() {
    for usage in [Usage::Client, Usage::BothEnds] {
        let bench = Bench::new();
        bench.serve();
        let grant =
            Grant { names: &["client-1"], serial: 7, not_before: LONG_AGO, not_after: wall_seconds() + 30, usage };
        let (mut in_force, _asked) = bench.renew(bench.authority.borrow().signer.grant(&grant).unwrap());
        let renewed = renewed(&mut in_force).await.expect("renewed");
        assert_eq!(tls::usage(&renewed.leaf_certificate().unwrap()).unwrap(), usage);
    }
}
