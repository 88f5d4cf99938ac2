//! The door of a member whose log is damaged.

use std::{fs, sync::Arc};

use tokio::sync::oneshot;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::bench::{FAR_AWAY, Heard, LONG_AGO, MemoryNet, channel};
use crate::{
    audit::{
        budget::{MEMORY_DEFAULT, fixed},
        cluster::{self, ClusterSettings, Limits, MemberSettings, NodeSettings},
        note::SigningKey,
        serve::{ServeSettings, start},
        tls::Issuer,
        wire::{GetCheckpointRequest, audit_log_client::AuditLogClient},
    },
    world::{World, real::RealDisk},
};

#[tokio::test]
async fn while_a_log_is_being_repaired_whoever_calls_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let (net, heard) = (MemoryNet::default(), Arc::new(Heard::default()));
    let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
    let world = World { disk, net: Arc::new(net.clone()), observer: heard.clone() };
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let identity = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap().fixed();
    let cosigner = Arc::new(SigningKey::from_seed(&[8; 32]));
    let member = |node| MemberSettings {
        node,
        name: format!("server-{node}"),
        address: format!("server-{node}:50051"),
        cosigner: cosigner.verifying_key(),
    };
    let node = NodeSettings {
        origin: "log.example/test".to_owned(),
        log_id: [1; 16],
        cluster: Some(ClusterSettings { identity: identity.clone(), cosigner: cosigner.clone(), contacts: Vec::new() }),
        node: 1,
        signing_key: Arc::new(SigningKey::from_seed(&[7; 32])),
        limits: Limits::default(),
        memory: fixed(MEMORY_DEFAULT),
    };
    cluster::init(&world, &node, &[1, 2, 3].map(member)).await.unwrap();
    let segment = folder.path().join("journal/segments/00000000000000000000.seg");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1536 + 60] ^= 1;
    fs::write(&segment, bytes).unwrap();

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
