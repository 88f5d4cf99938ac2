//! A folder that joins: it alone may be empty, and only until it has held an entry.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{CommittedLeaderId, EntryPayload, LogId};

use super::{
    super::{
        super::{
            cluster_wire::{AppendRequest, Ballot, Frame, Route, VoteRequest, append_response::Outcome},
            note::SigningKey,
            store::Frame as StoredFrame,
            tls,
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

/// What the leader, node 1 in term 1, sends: the log's first entry, or a bare heartbeat. It shows that it is `from` and
/// called `name`.
fn append(with_entry: bool, from: u64, name: &str) -> AppendRequest {
    let vouch = vouch(&NodeSettings { node: from, ..Bench::new().settings }, name);
    let members = (1..=3).map(|node| {
        let (name, address) = (format!("server-{node}"), format!("server-{node}:1"));
        (node, Member { name, address, cosigner: key(node).verifying_key().0 })
    });
    let membership =
        Membership::new(vec![BTreeSet::from([1, 2, 3])], members.collect::<std::collections::BTreeMap<_, _>>());
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

    // Told of a leader, and sent nothing: it may go on.
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

    // It said that it holds the entry, and comes back without.
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
        last: None,
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
