//! A folder that joins: only such a folder may be empty, and only until it has held an entry.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gapless_world::tls;
use openraft::{CommittedLeaderId, EntryPayload, LogId};

use super::{
    super::{
        super::{
            cluster_wire::{
                AppendRequest, Ballot, Frame, LogId as LogIdOnWire, Route, VoteRequest, append_response::Outcome,
            },
            note::SigningKey,
            store::Frame as StoredFrame,
        },
        ClusterSettings, Node, NodeError, NodeSettings, join,
        types::{Member, Membership, RaftEntry, encode_frame},
        vouch::vouch,
    },
    bench::Bench,
};

fn key(node: u64) -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed(&[node as u8; 32]))
}

/// Node 4 of a log whose members are 1, 2 and 3.
fn newcomer() -> Bench {
    let mut bench = Bench::new();
    let identity = tls::Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() }.fixed();
    bench.settings.node = 4;
    bench.settings.cluster = Some(ClusterSettings { identity, cosigner: key(4), contacts: Vec::new() });
    bench
}

/// What the leader, node 1 in term 1, sends: the log's first entry, or a bare heartbeat. It vouches that it is node
/// `from`, called `name`.
fn append(with_entry: bool, from: u64, name: &str) -> AppendRequest {
    append_to(&[1, 2, 3], with_entry, from, name)
}

/// The same, in a log of these voters.
fn append_to(voters: &[u64], with_entry: bool, from: u64, name: &str) -> AppendRequest {
    let vouch = vouch(&NodeSettings { node: from, ..Bench::new().settings }, name);
    let members = voters.iter().map(|&node| {
        let (name, address) = (format!("server-{node}"), format!("server-{node}:1"));
        (node, Member { name, address, cosigner: key(node).verifying_key().0 })
    });
    let membership =
        Membership::new(vec![voters.iter().copied().collect()], members.collect::<std::collections::BTreeMap<_, _>>());
    let entry = RaftEntry {
        log_id: LogId::new(CommittedLeaderId::default(), 0),
        payload: EntryPayload::Membership(membership),
    };
    let StoredFrame { index, term, kind, body } = encode_frame(&entry, 0);
    AppendRequest {
        route: Some(Route {
            log_id: vec![7; 16].into(),
            from,
            to: 4,
            vouch,
            to_cosigner: key(4).verifying_key().0.to_vec().into(),
        }),
        vote: Some(Ballot { term: 1, node: 1, committed: true }),
        previous: None,
        frames: if with_entry { vec![Frame { index, term, kind: kind.into(), body }] } else { Vec::new() },
        committed: None,
        ..AppendRequest::default()
    }
}

async fn stored(node: &Node, with_entry: bool) {
    let answer = node.append_entries("server-1", append(with_entry, 1, "server-1")).await.unwrap();
    assert_eq!(answer.outcome(), Outcome::Stored);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_joins_may_start_empty_until_it_has_held_an_entry() {
    let bench = newcomer();
    assert!(matches!(bench.start().await, Err(NodeError::NotInitialised)));
    join(&bench.world(), &bench.settings).await.unwrap();
    assert!(matches!(join(&bench.world(), &bench.settings).await, Err(NodeError::AlreadyInitialised { node: 4, .. })));

    // It was told of a leader and sent nothing, so it may go on.
    let node = bench.start().await.unwrap();
    stored(&node, false).await;
    node.shut_down().await.unwrap();
    drop(node);
    let node = bench.start().await.unwrap();
    let empty = bench.disk.copy("journal");
    stored(&node, true).await;
    node.shut_down().await.unwrap();
    drop(node);
    let node = bench.start().await.unwrap();
    assert_eq!(node.members().entries, 1);
    node.shut_down().await.unwrap();
    drop(node);

    // It said that it holds the entry, and comes back without it.
    bench.disk.restore("journal", &empty);
    let error = bench.start().await.unwrap_err();
    assert!(matches!(&error, NodeError::RolledBack(why) if why.contains("0..0")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_node_lets_in_who_has_the_logs_key_and_nobody_else() {
    let bench = newcomer();
    join(&bench.world(), &bench.settings).await.unwrap();
    let node = bench.start().await.unwrap();
    let without = AppendRequest {
        route: Some(Route { log_id: vec![7; 16].into(), from: 1, to: 4, ..Route::default() }),
        ..append(true, 1, "server-1")
    };
    for (caller, request) in [("server-1", without), ("client-1", append(true, 1, "server-1"))] {
        let refused = node.append_entries(caller, request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{caller}");
    }
    assert_eq!(node.members().entries, 0);
    stored(&node, true).await;
    assert_eq!(node.members().members.len(), 3, "its log names them from now on");
    node.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_folder_under_the_id_of_a_lost_voter_takes_nothing_and_votes_for_nobody() {
    let mut bench = newcomer();
    bench.settings.cluster.iter_mut().for_each(|cluster| cluster.cosigner = key(9));
    join(&bench.world(), &bench.settings).await.unwrap();
    let node = bench.start().await.unwrap();
    let request = append(true, 1, "server-1");
    let vote = VoteRequest {
        route: request.route.clone(),
        vote: Some(Ballot { term: 2, node: 1, committed: false }),
        ..VoteRequest::default()
    };
    let refused =
        [node.append_entries("server-1", request).await.unwrap_err(), node.vote("server-1", vote).await.unwrap_err()];
    for status in refused {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains("another cosigner's key"), "{status}");
    }
    assert_eq!((node.members().entries, node.members().term), (0, 0));
    node.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_a_log_of_one() {
    let mut bench = newcomer();
    bench.settings.cluster = None;
    assert!(matches!(join(&bench.world(), &bench.settings).await, Err(NodeError::Settings(_))));
}

/// A member that has already held the first entry.
async fn member() -> (Bench, Node) {
    let bench = newcomer();
    join(&bench.world(), &bench.settings).await.unwrap();
    let node = bench.start().await.unwrap();
    stored(&node, true).await;
    (bench, node)
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_heard_while_the_disk_is_slow_and_one_that_was_replaced_is_told() {
    let (bench, node) = member().await;
    bench.disk.hold_syncs(true);
    let request = append(true, 1, "server-1");
    let (route, vote) = (request.route.clone(), request.vote);
    let blank = RaftEntry { log_id: LogId::new(CommittedLeaderId::new(1, 1), 1), payload: EntryPayload::Blank };
    let StoredFrame { index, term, kind, body } = encode_frame(&blank, 1);
    let next = AppendRequest {
        previous: Some(LogIdOnWire { term: 0, node: 0, index: 0 }),
        frames: vec![Frame { index, term, kind: kind.into(), body }],
        ..request
    };
    let storing = tokio::spawn({
        let (node, next) = (node.clone(), next.clone());
        async move { node.append_entries("server-1", next).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!storing.is_finished());
    let heard = node.hear("server-1", route.clone(), vote).unwrap();
    assert_eq!(heard.outcome(), Outcome::Received);

    // A leader that gave the call up makes it again; Raft is not handed the second one before it is done with the
    // first.
    storing.abort();
    let again = tokio::spawn({
        let node = node.clone();
        async move { node.append_entries("server-1", next).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(node.appending().try_lock().is_err(), "Raft still has the call that was given up");
    bench.disk.hold_syncs(false);
    assert_eq!(again.await.unwrap().unwrap().outcome(), Outcome::Stored);
    assert_eq!(node.members().entries, 2);

    let older = Some(Ballot { term: 0, node: 2, committed: true });
    let told = node.hear("server-1", route.clone(), older).unwrap();
    assert_eq!((told.outcome(), told.vote.map(|vote| vote.term)), (Outcome::HigherVote, Some(1)));
    assert_eq!(node.hear("client-1", route, vote).unwrap_err().code(), tonic::Code::PermissionDenied);
    node.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_says_no_to_a_trial_while_it_hears_its_leader_and_changes_nothing_by_it() {
    let (_bench, node) = member().await;
    let request = append(false, 1, "server-1");
    let trial = |last| VoteRequest {
        route: append(false, 2, "server-2").route,
        vote: Some(Ballot { term: 9, node: 2, committed: false }),
        last,
        trial: true,
    };
    let last = Some(LogIdOnWire { term: 0, node: 0, index: 0 });
    let asked = tokio::spawn({
        let (node, trial) = (node.clone(), trial(last));
        async move { node.vote("server-2", trial).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stored(&node, false).await;
    assert!(!asked.await.unwrap().unwrap().granted, "its leader spoke while it was asked");
    let lost = node.vote("server-2", trial(last)).await.unwrap();
    assert!(lost.granted, "nobody spoke for the length of a lease");
    assert_eq!(lost.vote.map(|vote| vote.term), Some(1), "a trial leaves the vote as it is");
    assert!(!node.vote("server-2", trial(None)).await.unwrap().granted, "its log is shorter");
    let answer = node.append_entries("server-1", request).await.unwrap();
    assert_eq!(answer.outcome(), Outcome::Stored, "the leader of term 1 is still followed");
    assert_eq!(answer.last, last, "and is told where the log ends");
    node.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_reaches_nobody_asks_again_only_every_now_and_then() {
    let mut bench = newcomer();
    let issued = tls::Issuer::new("test CA", 0, 4_000_000_000).unwrap().issue("server-4", 1, 0, 4_000_000_000).unwrap();
    bench.settings.cluster.as_mut().unwrap().identity = issued.fixed();
    join(&bench.world(), &bench.settings).await.unwrap();
    let node = bench.start().await.unwrap();
    node.append_entries("server-1", append_to(&[1, 2, 4], true, 1, "server-1")).await.unwrap();
    for seconds in [5, 60] {
        let before = bench.dialled.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let dialled = (bench.dialled.load(Ordering::Relaxed) - before) as u64;
        // Two members, each dialled at most once in 150 ms.
        assert!((seconds..seconds * 14).contains(&dialled), "{dialled} times in {seconds} s");
    }
    node.shut_down().await.unwrap();
}
