//! The door of a damaged log.

use std::{fs, path::Path, sync::Arc, time::Duration};

use gapless_world::{World, real::RealDisk, tls::Issuer};
use tokio::{sync::oneshot, time::timeout};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::bench::{Author, FAR_AWAY, Heard, LONG_AGO, MemoryNet, channel};
use crate::{
    budget::{MEMORY_DEFAULT, fixed},
    cluster::{self, ClusterSettings, Limits, MemberSettings, Node, NodeSettings},
    leaf::SignedEntry,
    note::SigningKey,
    serve::{ServeSettings, serve, start},
    wire::{
        Freshness, GetCheckpointRequest, ReadRequest, TailRequest, audit_log_client::AuditLogClient, freshness::Demand,
    },
};

const SEGMENT: &str = "journal/segments/00000000000000000000.seg";

fn world(folder: &Path) -> (MemoryNet, Arc<Heard>, World) {
    let (net, heard) = (MemoryNet::default(), Arc::new(Heard::default()));
    let disk = Arc::new(RealDisk::open(folder).unwrap());
    let world = World { disk, net: Arc::new(net.clone()), observer: heard.clone() };
    (net, heard, world)
}

fn log_of_one() -> NodeSettings {
    NodeSettings {
        origin: "log.example/test".to_owned(),
        log_id: [1; 16],
        cluster: None,
        node: 1,
        signing_key: Arc::new(SigningKey::from_seed(&[7; 32])),
        limits: Limits::default(),
        memory: fixed(MEMORY_DEFAULT),
    }
}

fn flip(folder: &Path, at: usize) {
    let path = folder.join(SEGMENT);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn while_a_log_is_being_repaired_whoever_calls_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let (net, heard, world) = world(folder.path());
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let identity = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap().fixed();
    let cosigner = Arc::new(SigningKey::from_seed(&[8; 32]));
    let member = |node| MemberSettings {
        node,
        name: format!("server-{node}"),
        address: format!("server-{node}:50051"),
        cosigner: cosigner.verifying_key(),
    };
    let cluster = ClusterSettings { identity: identity.clone(), cosigner: cosigner.clone(), contacts: Vec::new() };
    let node = NodeSettings { cluster: Some(cluster), ..log_of_one() };
    cluster::init(&world, &node, &[1, 2, 3].map(member)).await.unwrap();
    flip(folder.path(), 12_288 + 60);

    let settings = ServeSettings::new(&[1; 16], 1, "server-1:50051", identity);
    let (stop, stopped) = oneshot::channel::<()>();
    let starting = tokio::spawn(async move { start(&world, &node, &settings, async { _ = stopped.await }).await });
    heard.wait_for(|event| event.name() == "repair-stalled").await;
    assert!(heard.names().contains(&"corruption-found"));

    let calls = channel(&net, &issuer.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap()).await.unwrap();
    let refused = AuditLogClient::new(calls.clone()).get_checkpoint(GetCheckpointRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("repaired from the others"), "{refused}");
    let health = HealthClient::new(calls).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::NotServing);

    stop.send(()).unwrap();
    assert!(starting.await.unwrap().unwrap().is_none(), "it can be stopped meanwhile");
}

#[tokio::test]
async fn a_damaged_log_of_one_is_read_up_to_the_damage_and_never_taken_for_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (net, heard, world) = world(folder.path());
    let (node, author) = (log_of_one(), Author::new("client-1"));
    cluster::init(&world, &node, &[]).await.unwrap();
    let whole = Node::start(world.clone(), node.clone()).await.unwrap();
    for sequence in 0..4 {
        whole.append(SignedEntry::decode(author.request(sequence).entry).unwrap()).await.unwrap();
    }
    let size = whole.shut_down().await.unwrap();
    drop(whole);
    let path = folder.path().join(SEGMENT);
    let end = fs::metadata(&path).unwrap().len() as usize;
    flip(folder.path(), end - 100);

    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let settings = ServeSettings::new(
        &[1; 16],
        1,
        "server-1:50051",
        issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap().fixed(),
    );
    let opened = start(&world, &node, &settings, std::future::pending()).await.unwrap().unwrap();
    let served = tokio::spawn(serve(world, opened, settings, std::future::pending()));
    heard.wait_for(|event| event.name() == "server-started").await;

    let calls = channel(&net, &issuer.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap()).await.unwrap();
    let mut client = AuditLogClient::new(calls.clone());
    let from = |start| ReadRequest { start, ..ReadRequest::default() };
    let read = client.read(from(0)).await.unwrap().into_inner();
    let shown = read.leaves.len() as u64;
    assert!(shown > 0 && shown < size && read.size == shown, "{shown} of {size}");
    assert_eq!(read.bound.unwrap().age_ms, None);
    let beyond = client.read(from(shown)).await.unwrap_err();
    assert_eq!(beyond.code(), Code::DataLoss);
    assert!(beyond.message().contains("damaged at byte"), "{beyond}");
    let mut tail = client.tail(TailRequest { start: shown - 1 }).await.unwrap().into_inner();
    assert_eq!(tail.message().await.unwrap().unwrap().index, shown - 1);
    assert_eq!(tail.message().await.unwrap_err().code(), Code::DataLoss, "a follower does not wait for ever");
    for demand in [Demand::Linearizable(true), Demand::AgeMsMax(60_000)] {
        let asked = GetCheckpointRequest { freshness: Some(Freshness { demand: Some(demand) }) };
        let refused = client.get_checkpoint(asked).await.unwrap_err();
        assert!(refused.code() == Code::Unavailable && refused.message().contains("damaged"), "{refused}");
    }
    let refused = client.append(author.request(4)).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("takes nothing more"), "{refused}");
    let health = HealthClient::new(calls).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::NotServing);

    flip(folder.path(), end - 100);
    let ended = timeout(Duration::from_secs(60), served).await.expect("it looks again").unwrap();
    assert!(ended.unwrap_err().to_string().contains("whole again"));
}

#[tokio::test]
async fn a_stop_that_is_asked_for_while_a_log_is_read_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (_net, heard, world) = world(folder.path());
    let node = log_of_one();
    cluster::init(&world, &node, &[]).await.unwrap();
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let identity = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap().fixed();
    let settings = ServeSettings::new(&[1; 16], 1, "server-1:50051", identity);
    // Requested when the first bytes are on their way from the disk.
    let stop = tokio::task::yield_now();
    assert!(start(&world, &node, &settings, stop).await.unwrap().is_none());
    assert!(!heard.names().contains(&"leader-change"));
    assert!(start(&world, &node, &settings, std::future::pending()).await.unwrap().is_some(), "and harms nothing");
}
