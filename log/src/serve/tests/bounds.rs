//! What a caller without rights, or with a name of its own, can make a server hold: never more than its share.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use gapless_world::LogEvent;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use super::bench::{Author, Bench, FAR_AWAY, LONG_AGO, channel, slowly};
use crate::{
    budget::MEMORY_MIN,
    cluster_wire::{FetchRequest, Route, VoteRequest, replication_client::ReplicationClient},
    leaf::Body as EntryBody,
    wire::{
        GetCheckpointRequest, GetConsistencyProofRequest, ReadRequest, TailRequest, audit_log_client::AuditLogClient,
    },
};

const APPEND: &str = "/gapless.cluster.v1.Replication/Append";
const SOON: Duration = Duration::from_secs(10);

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// A call whose request begins with given bytes and ends when this is dropped. Nobody reads its response.
struct Open {
    answer: Response<Body>,
    _end: oneshot::Sender<()>,
}

async fn open(channel: &Channel, path: &str, bytes: Bytes) -> Open {
    let (end, ends) = oneshot::channel();
    let rest = stream::once(ends).filter_map(|_| std::future::ready(None));
    let begun = stream::iter([Ok::<_, Status>(Frame::data(bytes))]).chain(rest);
    let answer = send(channel, path, Body::new(StreamBody::new(begun))).await;
    Open { answer, _end: end }
}

async fn send(channel: &Channel, path: &str, body: Body) -> Response<Body> {
    let request = Request::post(format!("http://server-1{path}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
    let mut channel = channel.clone();
    let called = async { channel.ready().await.unwrap().call(request).await.unwrap() };
    timeout(SOON, called).await.expect("the answer begins")
}

/// Returns the status that a response begins with; `None` if there is more to come.
fn status(answer: &Response<Body>) -> Option<Code> {
    Status::from_header_map(answer.headers()).map(|status| status.code())
}

async fn last_status(answer: Response<Body>) -> Code {
    use http_body_util::BodyExt as _;
    let body = timeout(SOON, answer.into_body().collect()).await.expect("it ends").unwrap();
    Status::from_header_map(body.trailers().unwrap()).unwrap().code()
}

#[tokio::test]
async fn nobody_brings_a_large_message_member_or_not() {
    let bench = Bench::member(|_| ()).await;
    let votes = |bytes| {
        let route = Route { vouch: Bytes::from(vec![0; bytes]), ..Route::default() };
        VoteRequest { route: Some(route), ..VoteRequest::default() }
    };
    for (name, bytes, code) in [
        ("client-1", 100 << 10, Code::FailedPrecondition),
        ("client-1", 200 << 10, Code::OutOfRange),
        ("server-2", 100 << 10, Code::FailedPrecondition),
        ("server-2", 200 << 10, Code::OutOfRange),
    ] {
        let channel = bench.channel(&bench.client(name)).await.unwrap();
        let refused = ReplicationClient::new(channel).vote(votes(bytes)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name} with {bytes} bytes: {refused}");
    }
}

#[tokio::test]
async fn names_that_are_no_members_have_a_few_calls_for_all_of_them_and_members_their_own() {
    let bench = Bench::member(|_| ()).await;
    let mut held = Vec::new();
    for client in ["client-1", "client-2"] {
        let channel = bench.channel(&bench.client(client)).await.unwrap();
        held.push(open(&channel, APPEND, Bytes::new()).await);
        held.push(open(&channel, APPEND, Bytes::new()).await);
    }
    assert!(held.iter().all(|call| status(&call.answer).is_none()));
    let third = bench.channel(&bench.client("client-3")).await.unwrap();
    assert_eq!(status(&open(&third, APPEND, Bytes::new()).await.answer), Some(Code::Unavailable));
    let member = bench.channel(&bench.client("server-2")).await.unwrap();
    assert_eq!(status(&open(&member, APPEND, Bytes::new()).await.answer), None, "a member is not kept out");
    drop(held);
    let again = async {
        while status(&open(&third, APPEND, Bytes::new()).await.answer).is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.expect("a place is free again");
}

#[tokio::test]
async fn what_is_an_operators_is_not_read_of_anybody_else() {
    let bench = Bench::member(|settings| settings.operators = vec!["operator-1".to_owned()]).await;
    let half = framed(&[0; 1_000]).slice(..500);
    let client = bench.channel(&bench.client("client-1")).await.unwrap();
    let refused = open(&client, "/gapless.cluster.v1.Membership/Members", half).await;
    assert_eq!(status(&refused.answer), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn half_a_message_of_a_leader_does_not_stay() {
    let bench = Bench::member(|settings| settings.deadlines.stream_idle = Duration::from_millis(50)).await;
    let member = bench.channel(&bench.client("server-2")).await.unwrap();
    let half = framed(&[0; 100_000]).slice(..60_000);
    for begun in [Bytes::new(), half] {
        let Open { answer, _end } = open(&member, APPEND, begun).await;
        assert_eq!(last_status(answer).await, Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn one_name_holds_no_more_connections_than_its_share() {
    let bench = Bench::with(|settings| settings.connections_per_name = Some(2)).await;
    let asked = || GetCheckpointRequest { freshness: None };
    let (mut first, mut second) = (bench.connect("client-1").await, bench.connect("client-1").await);
    first.get_checkpoint(asked()).await.unwrap();
    second.get_checkpoint(asked()).await.unwrap();
    // A TLS 1.3 client may believe for a moment that it is connected.
    if let Ok(third) = bench.channel(&bench.client("client-1")).await {
        AuditLogClient::new(third).get_checkpoint(asked()).await.unwrap_err();
    }
    let refused = |event: &LogEvent| matches!(event, LogEvent::HandshakeRefused { reason, .. } if reason == "too-many-connections");
    bench.heard.wait_for(refused).await;
    bench.connect("client-2").await.get_checkpoint(asked()).await.expect("others are let in");
    drop(first);
    let again = async {
        loop {
            if let Ok(channel) = bench.channel(&bench.client("client-1")).await
                && AuditLogClient::new(channel).get_checkpoint(asked()).await.is_ok()
            {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.expect("the place of one that went is free");
}

/// Fills a log with at least 60 KB.
async fn filled(bench: &Bench) -> u64 {
    let (mut client, author) = (bench.connect("client-1").await, Author::new("client-1"));
    client.append(author.request(0)).await.unwrap();
    for sequence in 1..=6 {
        let body = EntryBody::Event(Bytes::from(vec![b'x'; 10_000]));
        client.append(author.saying(sequence, body)).await.unwrap();
    }
    let asked = GetCheckpointRequest { freshness: None };
    client.get_checkpoint(asked).await.unwrap().into_inner().bound.unwrap().size
}

#[tokio::test]
async fn readers_that_have_taken_everything_hold_nothing() {
    let bench = Bench::small(|_| ()).await;
    let size = filled(&bench).await;
    let mut client = bench.connect("client-2").await;
    let mut tails = Vec::new();
    for _ in 0..30 {
        let mut tail = client.tail(TailRequest { start: 0 }).await.unwrap().into_inner();
        for index in 0..size {
            let leaf = tail.message().await.expect("there is room for another reader").unwrap();
            assert_eq!(leaf.index, index);
        }
        tails.push(tail);
    }
}

/// Makes a call of whose response nothing is taken.
async fn unread(channel: &Channel, path: &str, message: &impl Message) -> Response<Body> {
    let asked = framed(&message.encode_to_vec());
    let body = StreamBody::new(stream::iter([Ok::<_, Status>(Frame::data(asked))]));
    send(channel, path, Body::new(body)).await
}

/// Does the same with a read of the whole log.
async fn unread_log(channel: &Channel) -> Response<Body> {
    unread(channel, "/gapless.audit.v1.AuditLog/Read", &ReadRequest::default()).await
}

/// Checks that this many responses that nobody takes use up all room, and give it back once nobody waits for them.
async fn an_untaken_answer_keeps_its_room(
    bench: &Bench,
    names: [&str; 2],
    calls: usize,
    path: &str,
    ask: &impl Message,
) {
    let slow = slowly(&bench.net, &bench.client(names[0])).await;
    let mut held = Vec::new();
    for _ in 0..calls {
        held.push(unread(&slow, path, ask).await);
    }
    assert!(held.iter().all(|answer| status(answer).is_none()), "{path}");
    let other = channel(&bench.net, &bench.client(names[1])).await.unwrap();
    assert_eq!(status(&unread(&other, path, ask).await), Some(Code::ResourceExhausted), "{path}");
    drop(held);
    let again = async {
        while status(&unread(&other, path, ask).await).is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.expect("what nobody waits for takes no room");
}

#[tokio::test]
async fn an_answer_keeps_its_room_until_it_is_taken() {
    let bench = Bench::small(|_| ()).await;
    let size = filled(&bench).await;
    let names = ["client-2", "client-3"];
    // Each takes a quarter of all room.
    let read = "/gapless.audit.v1.AuditLog/Read";
    an_untaken_answer_keeps_its_room(&bench, names, 4, read, &ReadRequest::default()).await;
    // At most 256 proofs of 40 * 34 bytes each: one such response takes nine tenths of the room.
    let further_sizes = (2..258).map(|next| size.min(next)).collect();
    let proofs = GetConsistencyProofRequest { old_size: 1, new_size: 1, further_sizes };
    let prove = "/gapless.audit.v1.AuditLog/GetConsistencyProof";
    an_untaken_answer_keeps_its_room(&bench, names, 1, prove, &proofs).await;
}

#[tokio::test]
async fn what_a_member_fetches_and_does_not_take_keeps_its_room() {
    let bench = Bench::alone(MEMORY_MIN).await;
    filled(&bench).await;
    let route = Route { log_id: vec![1; 16].into(), from: 1, to: 1, ..Route::default() };
    let fetch = FetchRequest { route: Some(route), from: 0, confirm: false };
    let path = "/gapless.cluster.v1.Replication/Fetch";
    an_untaken_answer_keeps_its_room(&bench, ["server-1", "server-1"], 4, path, &fetch).await;
}

#[tokio::test]
async fn a_connection_on_which_an_answer_stands_for_too_long_is_ended() {
    let bench = Bench::small(|settings| {
        (settings.deadlines.call_max, settings.deadlines.drain) = (Duration::from_secs(1), Duration::from_millis(100));
    })
    .await;
    filled(&bench).await;
    let slow = slowly(&bench.net, &bench.client("client-2")).await;
    let _held = unread_log(&slow).await;
    let ended = |event: &LogEvent| matches!(event, LogEvent::ConnectionClosed { peer, why } if peer == "client-2" && why == "answers-not-taken, cut off");
    bench.heard.wait_for(ended).await;
}

#[tokio::test]
async fn tools_that_know_either_version_of_reflection_are_served() {
    use tonic_reflection::pb::{v1, v1alpha};
    let bench = Bench::new().await;
    let channel = bench.channel(&bench.issuer.issue("operator", 3, LONG_AGO, FAR_AWAY).unwrap()).await.unwrap();
    macro_rules! services {
        ($version:ident) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let asked = Some(MessageRequest::ListServices(String::new()));
            let asked = ServerReflectionRequest { host: String::new(), message_request: asked };
            let mut client = ServerReflectionClient::new(channel.clone());
            let mut answers = client.server_reflection_info(stream::iter([asked])).await.unwrap().into_inner();
            match answers.message().await.unwrap().unwrap().message_response {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            }
        }};
    }
    for services in [services!(v1), services!(v1alpha)] {
        assert!(services.iter().any(|name| name == "gapless.audit.v1.AuditLog"), "{services:?}");
    }
}
