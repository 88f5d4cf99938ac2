//! The front door, seen from outside.

mod bench;
mod bounds;
mod closed;
mod disk;
mod far;
mod flood;
mod revisions;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use gapless_world::{
    LogEvent, Net as _,
    tls::{Identity, Issuer},
};
use tokio::time::timeout;
use tonic::{Code, Request};

use self::bench::{Author, Bench, FAR_AWAY, LONG_AGO};
use super::{REQUEST_BYTES_MAX, ServeError};
use crate::{
    leaf::{Body, Content, Leaf, PAYLOAD_BYTES_MAX},
    note::Checkpoint,
    tree::{self, Hash},
    wire::{
        self, AppendRequest, GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, ReadRequest,
        TailRequest, append_response::Outcome, audit_log_client::AuditLogClient, refusal::Reason,
    },
};

fn proof(hashes: &[Bytes]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash::try_from(hash.as_ref()).unwrap()).collect()
}

fn reason(outcome: Option<Outcome>) -> Reason {
    match outcome {
        Some(Outcome::Refusal(refusal)) => refusal.reason(),
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn an_append_is_answered_with_a_receipt_that_verifies() {
    let mut bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    let mut indexes = Vec::new();
    for sequence in [0, 1, 1] {
        let request = author.request(sequence);
        let answer = client.append(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.sequence, sequence);
        let Some(Outcome::Receipt(receipt)) = answer.outcome else { panic!("{:?}", answer.outcome) };
        let checkpoint = Checkpoint::verify(&receipt.checkpoint, &bench.log_key).unwrap();
        let hash = tree::leaf_hash(&receipt.leaf);
        let inclusion = proof(&receipt.inclusion);
        tree::verify_inclusion(&hash, receipt.index, checkpoint.size, &inclusion, &checkpoint.root).unwrap();
        let Content::Entry(stored) = Leaf::decode(receipt.leaf).unwrap().content else { panic!("not an entry") };
        assert_eq!(stored.bytes(), &request.entry);
        indexes.push((receipt.index, receipt.repeated));
    }
    assert_eq!(indexes[1], (indexes[2].0, false), "the repeat has the index of the first");
    assert!(indexes[2].1, "the repeat says that it is one");
    drop(client);
    assert_eq!(bench.stop().await, indexes[1].0 + 1);
}

#[tokio::test]
async fn what_is_not_the_callers_entry_never_reaches_the_log() {
    let bench = Bench::new().await;
    let mut client = bench.connect("client-1").await;
    let stranger = client.append(Author::new("client-2").request(0)).await.unwrap().into_inner();
    assert_eq!(reason(stranger.outcome), Reason::WrongClient);
    let nonsense = AppendRequest { entry: Bytes::from_static(b"nonsense"), known_size: 0 };
    assert_eq!(reason(client.append(nonsense).await.unwrap().into_inner().outcome), Reason::Malformed);
    let large = Body::Event(Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]));
    let large = client.append(Author::new("client-1").saying(1, large)).await.unwrap().into_inner();
    assert_eq!((large.sequence, reason(large.outcome)), (1, Reason::Oversize));
    let huge = AppendRequest { entry: Bytes::from(vec![0; REQUEST_BYTES_MAX + 1]), known_size: 0 };
    assert_eq!(client.append(huge).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(bench.heard.names().iter().filter(|name| **name == "entry-refused").count(), 3);
}

#[tokio::test]
async fn a_stream_answers_in_the_order_of_its_entries() {
    let bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    let requests: Vec<_> = (0..600).map(|sequence| author.request(sequence)).collect();
    let answers = client.append_stream(futures::stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.iter().map(|answer| answer.sequence).collect::<Vec<_>>(), (0..600).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| matches!(answer.outcome, Some(Outcome::Receipt(_)))));
}

#[tokio::test]
async fn unary_appends_that_overtake_each_other_reach_the_log_in_order() {
    let bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    client.append(author.request(0)).await.unwrap();
    for sequences in [1..3, 3..200] {
        let calls = sequences.rev().map(|sequence| {
            let mut client = client.clone();
            let request = author.request(sequence);
            async move { client.append(request).await.unwrap().into_inner() }
        });
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| matches!(answer.outcome, Some(Outcome::Receipt(_)))), "{answers:?}");
    }
    assert!(!bench.heard.names().contains(&"entry-refused"));
}

#[tokio::test]
async fn an_idle_stream_of_appends_is_ended() {
    let bench = Bench::with(|settings| settings.deadlines.stream_idle = Duration::from_millis(50)).await;
    let mut client = bench.connect("client-1").await;
    let mut answers = client.append_stream(futures::stream::pending()).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_tail_gives_what_there_is_and_then_each_new_leaf_once() {
    let mut bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    let last = |answer: wire::AppendResponse| match answer.outcome {
        Some(Outcome::Receipt(receipt)) => receipt.index,
        other => panic!("{other:?}"),
    };
    let first = last(client.append(author.request(0)).await.unwrap().into_inner());
    let mut tail = client.tail(TailRequest { start: 0 }).await.unwrap().into_inner();
    let mut leaves = Vec::new();
    for index in 0..=first {
        let found = tail.message().await.unwrap().unwrap();
        assert_eq!(found.index, index);
        leaves.push(found.leaf);
    }
    for sequence in 1..20 {
        let index = last(client.append(author.request(sequence)).await.unwrap().into_inner());
        let found = tail.message().await.unwrap().unwrap();
        assert_eq!(found.index, index);
        leaves.push(found.leaf);
    }
    let mut resumed = client.tail(TailRequest { start: first + 5 }).await.unwrap().into_inner();
    assert_eq!(resumed.message().await.unwrap().unwrap().index, first + 5);

    let read = client.read(ReadRequest { start: 0, limit: 0, freshness: None }).await.unwrap().into_inner();
    assert_eq!((read.leaves, read.size), (leaves.clone(), leaves.len() as u64));
    let few = client.read(ReadRequest { start: 2, limit: 3, freshness: None }).await.unwrap().into_inner();
    assert_eq!((few.start, &few.leaves[..]), (2, &leaves[2..5]));

    bench.stop().await;
    assert_eq!(tail.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn proofs_verify_and_ranges_outside_the_log_are_refused() {
    let bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    for sequence in 0..5 {
        client.append(author.request(sequence)).await.unwrap();
    }
    let note = client.get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap().into_inner().checkpoint;
    let checkpoint = Checkpoint::verify(&note, &bench.log_key).unwrap();
    let (size, root) = (checkpoint.size, checkpoint.root);
    let leaves = client.read(ReadRequest { start: 0, limit: 0, freshness: None }).await.unwrap().into_inner().leaves;

    let inclusion = |index, tree_size| Request::new(GetInclusionProofRequest { index, tree_size });
    let found = client.get_inclusion_proof(inclusion(1, size)).await.unwrap().into_inner();
    tree::verify_inclusion(&tree::leaf_hash(&leaves[1]), 1, size, &proof(&found.hashes), &root).unwrap();
    assert_eq!(client.get_inclusion_proof(inclusion(size, size)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.get_inclusion_proof(inclusion(0, size + 1)).await.unwrap_err().code(), Code::OutOfRange);

    let mut part = tree::Tree::default();
    leaves[..2].iter().for_each(|leaf| part.push(tree::leaf_hash(leaf)));
    let consistency =
        |old_size, new_size| Request::new(GetConsistencyProofRequest { old_size, new_size, further_sizes: Vec::new() });
    let found = client.get_consistency_proof(consistency(2, size)).await.unwrap().into_inner();
    tree::verify_consistency(2, size, &proof(&found.hashes), &part.root_at(2).unwrap(), &root).unwrap();
    let chain = |old_size, new_size, further_sizes| {
        Request::new(GetConsistencyProofRequest { old_size, new_size, further_sizes })
    };
    let found = client.get_consistency_proof(chain(1, 2, vec![4, size])).await.unwrap().into_inner();
    let links = std::iter::once(found.hashes).chain(found.further.into_iter().map(|link| link.hashes));
    let mut whole = tree::Tree::default();
    leaves.iter().for_each(|leaf| whole.push(tree::leaf_hash(leaf)));
    let root = |size| whole.root_at(size).unwrap();
    let steps = [(1, 2), (2, 4), (4, size)];
    assert_eq!(links.clone().count(), steps.len());
    for ((old, new), link) in steps.into_iter().zip(links) {
        tree::verify_consistency(old, new, &proof(&link), &root(old), &root(new)).unwrap();
    }
    let many = client.get_consistency_proof(chain(1, 2, vec![size; 10_000])).await.unwrap().into_inner();
    assert_eq!(many.further.len(), 256, "the rest is for the next call");
    for (sizes, code) in [(vec![4, 3], Code::InvalidArgument), (vec![size + 1], Code::OutOfRange)] {
        assert_eq!(client.get_consistency_proof(chain(1, 2, sizes)).await.unwrap_err().code(), code);
    }
    assert_eq!(client.get_consistency_proof(consistency(3, 2)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.get_consistency_proof(consistency(1, size + 1)).await.unwrap_err().code(), Code::OutOfRange);

    assert_eq!(
        client.read(ReadRequest { start: size + 1, limit: 0, freshness: None }).await.unwrap_err().code(),
        Code::OutOfRange
    );
    let end = client.read(ReadRequest { start: size, limit: 0, freshness: None }).await.unwrap().into_inner();
    assert!(end.leaves.is_empty());
}

#[tokio::test]
async fn a_stop_answers_what_was_sent_and_says_so() {
    let mut bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    client.append(author.request(0)).await.unwrap();
    let requests: Vec<_> = (1..100).map(|sequence| author.request(sequence)).collect();
    // The stream of requests stays open, so it is the server that ends it.
    let open = futures::stream::iter(requests).chain(futures::stream::pending());
    let mut answers = client.append_stream(open).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(first.sequence, 1);
    let (size, answered) = tokio::join!(bench.stop(), async {
        let mut answered = 1;
        loop {
            match answers.message().await {
                Ok(Some(_)) => answered += 1,
                Ok(None) => panic!("an early end is no success"),
                Err(status) => break (answered, status.code()),
            }
        }
    });
    assert_eq!(answered.1, Code::Unavailable);
    assert!(size > answered.0, "{size} leaves hold {answered:?} answered entries");
    let told = bench.heard.names();
    let order = ["server-started", "handshake-accepted", "shutdown-begun", "connection-closed", "shutdown-done"];
    let places: Vec<_> = order.iter().map(|name| told.iter().position(|told| told == name)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{told:?}");
    assert!(bench.channel(&bench.client("client-1")).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn health_says_serving_and_its_watchers_do_not_hold_up_a_stop() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let mut bench = Bench::new().await;
    let mut health = HealthClient::new(bench.channel(&bench.client("operator")).await.unwrap());
    for service in ["", "gapless.audit.v1.AuditLog"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(asked).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    bench.stop().await;
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn refused_handshakes_are_told_with_their_reasons() {
    let bench = Bench::with(|settings| {
        settings.deadlines.handshake = Duration::from_millis(200);
        settings.connections_max = 1;
    })
    .await;
    let refused = |wanted: &'static str| {
        bench
            .heard
            .wait_for(move |event| matches!(event, LogEvent::HandshakeRefused { reason, .. } if reason == wanted))
    };
    let expired = bench.issuer.issue("client-1", 3, LONG_AGO, LONG_AGO + 60).unwrap();
    // A TLS 1.3 client may believe for a moment that it is connected.
    if let Ok(channel) = bench.channel(&expired).await {
        AuditLogClient::new(channel).get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap_err();
    }
    refused("expired").await;
    let _silent = bench.net.connect("server-1:50051").await.unwrap();
    refused("timed-out").await;
    let _many: Vec<_> = futures::future::join_all((0..65).map(|_| bench.net.connect("server-1:50051"))).await;
    refused("too-many-handshakes").await;
    let mut established = bench.connect("client-1").await;
    established.get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap();
    if let Ok(channel) = bench.channel(&bench.client("client-2")).await {
        AuditLogClient::new(channel).get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap_err();
    }
    refused("too-many-connections").await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let bench = Bench::new().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let not_after = i64::try_from(now).unwrap() + 1;
    let identity = bench.issuer.issue("client-1", 3, LONG_AGO, not_after).unwrap();
    let mut client = AuditLogClient::new(bench.channel(&identity).await.unwrap());
    let mut tail = client.tail(TailRequest { start: 0 }).await.unwrap().into_inner();
    tail.message().await.unwrap().unwrap();
    bench
        .heard
        .wait_for(|event| matches!(event, LogEvent::HandshakeAccepted { not_after: told, .. } if *told == not_after))
        .await;
    let closed = bench.heard.wait_for(|event| event.name() == "connection-closed").await;
    let expected = LogEvent::ConnectionClosed { peer: "client-1".into(), why: "certificate-expired".into() };
    assert_eq!(closed, expected);
    while let Ok(Some(_)) = tail.message().await {}
    client
        .get_checkpoint(GetCheckpointRequest { freshness: None })
        .await
        .expect_err("the old certificate opens no new connection");
}

/// The clock is checked once a second, from the handshake on. To leave a gap, the handshake comes in the middle of a
/// second. What was sent after the end and is answered all the same was admitted too late, however slow the machine is.
#[tokio::test]
async fn an_open_stream_takes_nothing_once_its_certificate_has_ended() {
    let bench = Bench::new().await;
    let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    tokio::time::sleep(Duration::from_millis((1_400 - u64::from(wall().subsec_millis())) % 1_000)).await;
    let not_after = wall().as_secs() + 1;
    let identity = bench.issuer.issue("client-1", 3, LONG_AGO, i64::try_from(not_after).unwrap()).unwrap();
    let mut client = AuditLogClient::new(bench.channel(&identity).await.unwrap());
    let (entries, sending) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(sending);
    let mut answers = client.append_stream(requests).await.unwrap().into_inner();
    let author = Author::new("client-1");
    for sequence in 0.. {
        let sent = wall().as_secs();
        if entries.send(author.request(sequence)).await.is_err() {
            break;
        }
        match answers.message().await {
            Ok(Some(_)) => assert!(sent <= not_after, "entry {sequence} was sent at {sent}, after {not_after}"),
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_renewed_identity_holds_from_the_next_handshake_on() {
    let bench = Bench::new().await;
    let mut old = bench.connect("client-1").await;
    let other = Issuer::new("other authority", LONG_AGO, FAR_AWAY).unwrap();
    bench.renew.send_replace(other.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap());
    assert!(bench.channel(&bench.client("client-2")).await.is_err(), "the new identity is of another authority");
    let client = other.issue("client-3", 3, LONG_AGO, FAR_AWAY).unwrap();
    let mut new = AuditLogClient::new(bench.channel(&client).await.unwrap());
    new.get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap();
    old.get_checkpoint(GetCheckpointRequest { freshness: None }).await.expect("the standing connection stands");

    bench.renew.send_replace(Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() });
    bench.channel(&client).await.expect("what cannot be used changes nothing");
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_ends_the_server() {
    let mut bench = Bench::new().await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    client.append(author.request(0)).await.unwrap();
    bench.disk.break_syncs();
    let status = client.append(author.request(1)).await.expect_err("it is not durable");
    assert_ne!(status.code(), Code::ResourceExhausted, "that would say that it was not written");
    let ended = timeout(Duration::from_secs(10), &mut bench.served).await.expect("it ends").unwrap();
    assert!(matches!(ended, Err(ServeError::NodeFailed(_))), "{ended:?}");
    client.get_checkpoint(GetCheckpointRequest { freshness: None }).await.expect_err("nobody answers any more");
}
