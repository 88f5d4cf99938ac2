//! Many callers that show no certificate keep nobody out, whatever they say or do not say.

use std::time::Duration;

use gapless_world::{
    LogEvent, Net as _, Stream,
    tls::{self, Identity},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};

use super::bench::{Bench, MemoryNet, channel};
use crate::wire::{GetCheckpointRequest, audit_log_client::AuditLogClient};

const SERVER: &str = "server-1:50051";
const SOON: Duration = Duration::from_secs(20);

/// Lets handshakes take long enough for a flood to stand until the test ends.
async fn bench() -> Bench {
    Bench::with(|settings| settings.deadlines.handshake = SOON * 3).await
}

/// Returns the bytes with which a handshake begins.
fn hello(identity: &Identity) -> Vec<u8> {
    let name = ServerName::try_from("server-1").unwrap();
    let mut session = rustls::ClientConnection::new(tls::client_config(identity).unwrap(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

/// Opens this many connections that each say this and no more.
async fn flood(net: &MemoryNet, count: usize, said: &[u8]) -> Vec<Box<dyn Stream>> {
    let mut flood = Vec::new();
    for _ in 0..count {
        let mut stream = net.connect(SERVER).await.unwrap();
        stream.write_all(said).await.unwrap();
        flood.push(stream);
    }
    flood
}

async fn is_served(net: &MemoryNet, identity: &Identity) -> bool {
    let asked = async {
        let mut client = AuditLogClient::new(channel(net, identity).await.ok()?);
        client.get_checkpoint(GetCheckpointRequest { freshness: None }).await.ok()
    };
    timeout(SOON, asked).await.ok().flatten().is_some()
}

#[tokio::test]
async fn connections_that_say_nothing_keep_out_nobody_not_even_of_their_own_address() {
    let bench = bench().await;
    let client = bench.client("client-1");
    let half = hello(&client)[..100].to_vec();
    for said in [&[][..], &half] {
        let _flood = flood(&bench.net.from("10.0.0.66"), 1_500, said).await;
        for host in ["10.0.0.66", "10.0.0.2"] {
            assert!(is_served(&bench.net.from(host), &client).await, "{host} after {} bytes each", said.len());
        }
    }
}

#[tokio::test]
async fn handshakes_that_are_begun_and_not_ended_keep_out_nobody() {
    let bench = bench().await;
    let client = bench.client("client-1");
    let _flood = flood(&bench.net.from("10.0.0.66"), 1_500, &hello(&client)).await;
    for host in ["10.0.0.66", "10.0.0.2"] {
        assert!(is_served(&bench.net.from(host), &client).await, "{host}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_under_way_is_not_ended_for_a_flood_from_elsewhere() {
    let bench = bench().await;
    let hello = hello(&bench.client("client-1"));
    let near = bench.net.from("10.0.0.2");
    let _under_way = [flood(&near, 1, &[]).await, flood(&near, 1, &hello).await];
    let _flood = flood(&bench.net.from("10.0.0.66"), 1_500, &[]).await;
    let _flood = flood(&bench.net.from("10.0.0.66"), 1_500, &hello).await;
    assert!(is_served(&bench.net.from("10.0.0.3"), &bench.client("client-2")).await);
    let ended = bench.heard.all().into_iter().filter_map(|event| match event {
        LogEvent::HandshakeRefused { peer, .. } => Some(peer),
        _ => None,
    });
    assert_eq!(ended.filter(|peer| !peer.starts_with("10.0.0.66:")).count(), 0);
}

#[tokio::test]
async fn a_flood_leaves_established_connections_alone_however_few_there_may_be() {
    let bench = Bench::with(|settings| settings.connections_max = 1).await;
    let mut client = bench.connect("client-1").await;
    let asked = || GetCheckpointRequest { freshness: None };
    client.get_checkpoint(asked()).await.unwrap();
    let _flood = flood(&bench.net, 300, &[]).await;
    client.get_checkpoint(asked()).await.expect("it stands");
    assert!(!is_served(&bench.net, &bench.client("client-2")).await, "there is no place for a second one");
    client.get_checkpoint(asked()).await.expect("it stands");
}

#[tokio::test]
async fn a_handshake_that_trickles_in_ends_by_its_deadline() {
    let bench = Bench::with(|settings| settings.deadlines.handshake = Duration::from_millis(300)).await;
    let mut stream = bench.net.connect(SERVER).await.unwrap();
    let hello = hello(&bench.client("client-1"));
    let trickling = async {
        // Fails once the server has closed the connection.
        for byte in hello {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let timed_out =
        |event: &LogEvent| matches!(event, LogEvent::HandshakeRefused { reason, .. } if reason == "timed-out");
    tokio::join!(bench.heard.wait_for(timed_out), trickling);
}

#[tokio::test]
async fn a_flood_does_not_fill_the_log() {
    let mut bench = bench().await;
    let _flood = flood(&bench.net.from("10.0.0.66"), 1_500, &[]).await;
    assert!(is_served(&bench.net, &bench.client("client-1")).await);
    bench.stop().await;
    let names = bench.heard.names();
    let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
    assert_eq!((count("handshake-refused"), count("refusals-counted")), (64, 1));
}
