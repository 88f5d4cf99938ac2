//! Clients of every revision against servers of every revision: the same leaves and roots, or a loud refusal.

use std::sync::Arc;

use gapless_world::{Server, World, real::RealDisk};
use prost::Message as _;
use tempfile::TempDir;
use tonic::Status;

use super::{
    bench::{FAR_AWAY, Heard, LONG_AGO},
    *,
};
use crate::{
    client::{
        AuditClient, Call, ClientError, ClientSettings, Delivered, Level, LogReader, ReaderSettings, RetrySettings,
        calls_of,
    },
    leaf::ClientId,
    schema::{ASKED_FOR, EVENT_DETAIL, EVENT_ROOM, FINGERPRINT, Fingerprint, Revision, bytes_of_field},
    wire::{ExchangeSchemaRequest, Receipt, audit_event, breaking, next, previous},
};

/// A client of the server of a bench, with its own disk and its own observer.
struct Outside {
    _folder: TempDir,
    world: World,
    heard: Arc<Heard>,
    settings: ClientSettings,
}

impl Outside {
    fn of(bench: &Bench, revision: Revision) -> Outside {
        let (folder, heard) = (tempfile::tempdir().unwrap(), Arc::new(Heard::default()));
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let world = World { disk, net: Arc::new(bench.net.clone()), observer: heard.clone() };
        let server = Server { address: "server-1:50051".to_owned(), tls_name: "server-1".to_owned() };
        let identity = bench.issuer.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        let name = ClientId::new("client-1").unwrap();
        let mut settings = ClientSettings::new(name, vec![server], identity, bench.log_key.clone());
        settings.call = Call::Append;
        settings.revision = revision;
        settings.retry = RetrySettings { cap: Duration::from_millis(50), ..RetrySettings::default() };
        Outside { _folder: folder, world, heard, settings }
    }

    async fn open(&self, revision: Revision) -> AuditClient {
        AuditClient::open(self.world.clone(), ClientSettings { revision, ..self.settings.clone() }).await.unwrap()
    }
}

/// Returns an event with every field that a revision has.
fn event(revision: Revision, n: u64) -> Bytes {
    let (actor, action, resource, trace) = ("ada".to_owned(), "read".to_owned(), "r".to_owned(), "t".to_owned());
    let detail = Bytes::from(format!("detail {n}"));
    let encoded = match revision {
        Revision::Previous => {
            let outcome = previous::audit_event::Outcome::Failed.into();
            previous::AuditEvent { actor, action, outcome, detail }.encode_to_vec()
        }
        Revision::Current => {
            let outcome = audit_event::Outcome::Denied.into();
            wire::AuditEvent { actor, action, resource, outcome, detail }.encode_to_vec()
        }
        Revision::Next => {
            let outcome = next::audit_event::Outcome::Partly.into();
            next::AuditEvent { actor, action, resource, outcome, trace, detail }.encode_to_vec()
        }
        Revision::Breaking => {
            breaking::AuditEvent { actor, action, record: n, outcome: "ok".to_owned(), detail }.encode_to_vec()
        }
    };
    encoded.into()
}

/// Appends the same entries in one revision, one at a time. Returns the receipts, or the first refusal of a schema.
async fn append(outside: &Outside, requests: &[AppendRequest]) -> Result<Vec<Receipt>, Status> {
    let mut rpc = calls_of(&outside.world, ReaderSettings::from(&outside.settings)).unwrap();
    let mut receipts = Vec::new();
    for (n, request) in requests.iter().enumerate() {
        let answer = loop {
            // Unary calls and streams take turns.
            let answer = match n % 2 {
                0 => rpc.append(Request::new(request.clone())).await.map(tonic::Response::into_inner),
                _ => match rpc.append_stream(Request::new(futures::stream::iter([request.clone()]))).await {
                    Ok(answers) => answers.into_inner().next().await.unwrap(),
                    Err(status) => Err(status),
                },
            };
            match answer {
                Err(status) if status.code() == Code::Aborted => continue,
                answer => break answer?,
            }
        };
        let Some(Outcome::Receipt(receipt)) = answer.outcome else { panic!("{:?}", answer.outcome) };
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// Returns all leaves and the verified checkpoint, as a caller that names no schema gets them.
async fn everything(bench: &Bench) -> (Vec<Bytes>, Checkpoint) {
    let mut reader = bench.connect("auditor").await;
    let note = reader.get_checkpoint(GetCheckpointRequest { freshness: None }).await.unwrap().into_inner().checkpoint;
    let leaves = reader.read(ReadRequest { start: 0, limit: 0, freshness: None }).await.unwrap().into_inner().leaves;
    (leaves, Checkpoint::verify(&note, &bench.log_key).unwrap())
}

fn payloads(leaves: &[Bytes]) -> Vec<Bytes> {
    let payload = |leaf: &Bytes| match Leaf::decode(leaf.clone()).unwrap().content {
        Content::Entry(entry) => match &entry.entry().body {
            Body::Event(payload) => Some(payload.clone()),
            _ => None,
        },
        _ => None,
    };
    leaves.iter().filter_map(payload).collect()
}

fn count(heard: &Heard, name: &str) -> usize {
    heard.names().iter().filter(|told| **told == name).count()
}

#[tokio::test]
async fn every_client_revision_meets_every_server_revision() {
    let author = Author::new("client-1");
    for client in Revision::ALL.iter().copied() {
        let events: Vec<Bytes> = (1..6).map(|n| event(client, n)).collect();
        let mut requests = vec![author.request(0)];
        requests.extend((1..).zip(&events).map(|(n, event)| author.saying(n, Body::Event(event.clone()))));
        let mut first: Option<(Vec<Bytes>, Hash)> = None;
        for server in Revision::ALL.iter().copied() {
            let bench = Bench::with(|settings| settings.revision = server).await;
            let outside = Outside::of(&bench, client);
            let receipts = append(&outside, &requests).await;
            let (leaves, checkpoint) = everything(&bench).await;
            if client != server && [client, server].contains(&Revision::Breaking) {
                let status = receipts.expect_err("misread");
                assert_eq!(status.code(), Code::FailedPrecondition);
                assert!(status.message().contains("field 2 of `gapless.audit.v1.AppendRequest`"), "{status:?}");
                assert!(status.message().contains("fixed64 known_size"), "{status:?}");
                assert!(payloads(&leaves).is_empty(), "nothing of a refused call is written");
                for heard in [&bench.heard, &outside.heard] {
                    assert_eq!(count(heard, "schema-refused"), 1, "{client:?} {server:?} {:?}", heard.names());
                }
                continue;
            }
            let receipts = receipts.unwrap_or_else(|status| panic!("{client:?} to {server:?}: {status:?}"));
            assert_eq!(payloads(&leaves), events, "{client:?} to {server:?}: bytes as received");
            assert!(receipts.iter().all(|receipt| leaves.contains(&receipt.leaf)));
            let mut tree = tree::Tree::default();
            leaves.iter().for_each(|leaf| tree.push(tree::leaf_hash(leaf)));
            assert_eq!(tree.root_at(checkpoint.size), Some(checkpoint.root));
            let agreed = usize::from(client != server);
            assert_eq!(count(&bench.heard, "schema-agreed"), agreed, "{client:?} to {server:?}");
            assert_eq!(count(&outside.heard, "schema-agreed"), agreed, "{client:?} to {server:?}");
            match &first {
                None => first = Some((leaves, checkpoint.root)),
                Some(first) => assert_eq!(*first, (leaves, checkpoint.root), "{client:?}: the same log everywhere"),
            }
        }
        assert!(first.is_some(), "{client:?} is understood by somebody");
    }
}

#[tokio::test]
async fn a_client_waits_for_a_server_that_is_rolled_back_and_loses_nothing() {
    let mut bench = Bench::with(|settings| settings.revision = Revision::Breaking).await;
    let outside = Outside::of(&bench, Revision::Current);
    let client = outside.open(Revision::Current).await;
    let submitted: Vec<Bytes> = (0..5).map(|n| event(Revision::Current, n)).collect();
    let mut waiting = Vec::new();
    for payload in &submitted {
        waiting.push(client.submit(payload.clone()).await.unwrap().delivered);
    }
    let parked = outside.heard.wait_for(|event| event.name() == "parked").await;
    assert!(matches!(&parked, LogEvent::Parked { why } if why.contains("known_size")), "{parked:?}");
    bench.heard.wait_for(|event| event.name() == "schema-refused").await;
    outside.heard.wait_for(|event| event.name() == "schema-refused").await;
    assert_eq!(client.outstanding().await.unwrap(), submitted);
    assert!(payloads(&everything(&bench).await.0).is_empty());

    bench.stop().await;
    bench.start(|settings| settings.revision = Revision::Current).await;
    for delivered in waiting {
        assert!(matches!(delivered.await, Delivered::Receipt(_)));
    }
    outside.heard.wait_for(|event| event.name() == "resumed").await;
    assert_eq!(payloads(&everything(&bench).await.0), submitted);
    assert_eq!(count(&outside.heard, "dead-lettered"), 0);
}

#[tokio::test]
async fn what_a_refused_client_accepted_is_delivered_by_its_next_life() {
    let bench = Bench::new().await;
    let outside = Outside::of(&bench, Revision::Breaking);
    let client = outside.open(Revision::Breaking).await;
    let accepted = event(Revision::Breaking, 1);
    let submission = client.submit(accepted.clone()).await.unwrap();
    outside.heard.wait_for(|event| event.name() == "parked").await;
    drop(submission);
    let closed = client.close(Duration::ZERO).await;
    assert!(matches!(closed, Err(ClientError::StillOwed { .. })), "{closed:?}");

    let client = outside.open(Revision::Previous).await;
    client.append(event(Revision::Previous, 2)).await.unwrap();
    assert_eq!(payloads(&everything(&bench).await.0), [accepted, event(Revision::Previous, 2)]);
}

#[tokio::test]
async fn a_caller_that_names_no_schema_is_served_and_told_the_servers() {
    let bench = Bench::with(|settings| settings.revision = Revision::Next).await;
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    let answer = client.append(author.request(0)).await.unwrap();
    let named = answer.metadata().get(FINGERPRINT).unwrap().to_str().unwrap().to_owned();
    assert!(Fingerprint::read(&named).is_some(), "{named}");
    assert!(matches!(answer.into_inner().outcome, Some(Outcome::Receipt(_))));
    assert_eq!(count(&bench.heard, "schema-agreed") + count(&bench.heard, "schema-refused"), 0);
}

#[tokio::test]
async fn an_unknown_schema_is_asked_for_and_what_is_none_is_refused() {
    let bench = Bench::new().await;
    let mut client = bench.connect("client-1").await;
    let naming = |value: &str| {
        let mut request = Request::new(GetCheckpointRequest { freshness: None });
        request.metadata_mut().insert(FINGERPRINT, value.parse().unwrap());
        let mut client = client.clone();
        async move { client.get_checkpoint(request).await.unwrap_err() }
    };
    let asked = naming(&"0".repeat(64)).await;
    assert_eq!(asked.code(), Code::FailedPrecondition);
    assert!(asked.metadata().contains_key(ASKED_FOR) && asked.metadata().contains_key(FINGERPRINT));
    assert_eq!(naming("next").await.code(), Code::InvalidArgument);

    let shown = |descriptors: Bytes| ExchangeSchemaRequest { revision: "x".to_owned(), descriptors };
    for wrong in [Bytes::new(), Bytes::from(vec![0; 70_000]), Bytes::from_static(b"\xff\xff")] {
        assert_eq!(client.exchange_schema(shown(wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let answer = client.exchange_schema(shown(Revision::Previous.descriptors().into())).await.unwrap().into_inner();
    assert_eq!((answer.revision.as_str(), answer.incompatibility.as_str()), ("current", ""));
}

/// An older server ignores what it does not know, and answers as if nothing had been demanded.
#[tokio::test]
async fn a_server_of_before_there_were_bounds_is_not_taken_for_one_that_kept_them() {
    for revision in [Revision::Previous, Revision::Current, Revision::Next] {
        let bench = Bench::with(|settings| settings.revision = revision).await;
        let outside = Outside::of(&bench, Revision::Current);
        let reader = LogReader::connect(outside.world.clone(), ReaderSettings::from(&outside.settings)).unwrap();
        let any = reader.signed_checkpoint_at(Level::Any).await.unwrap().2;
        for level in [Level::Linearizable, Level::AgeAtMost(Duration::ZERO)] {
            let (checkpoint, read) = (reader.signed_checkpoint_at(level).await, reader.read_at(0, 0, level).await);
            if revision == Revision::Previous {
                assert!(matches!(checkpoint, Err(ClientError::NoBound)) && matches!(read, Err(ClientError::NoBound)));
                assert_eq!(any.age, None);
                continue;
            }
            let (bound, read) = (checkpoint.unwrap().2, read.unwrap());
            assert_eq!(bound.linearizable, level == Level::Linearizable, "{revision:?}");
            assert!(bound.age.is_some() && read.bound.size == read.leaves.len() as u64);
        }
    }
}

#[test]
fn an_event_of_any_revision_keeps_its_detail_under_one_number_and_needs_little_more() {
    for revision in Revision::ALL.iter().copied() {
        let event = event(revision, 7);
        assert_eq!(bytes_of_field(&event, EVENT_DETAIL), Some(b"detail 7".as_slice()));
        assert!(event.len() < EVENT_ROOM);
    }
}
