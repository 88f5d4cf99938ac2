//! Reading: verified, in order, resumed at exactly the next leaf.

use std::sync::atomic::{AtomicUsize, Ordering};

use gapless_world::observer::Unobserved;

use super::memory;
use super::*;
use crate::leaf::Index;

fn log_with(leaves: u64) -> FakeLog {
    let log = FakeLog::new();
    (0..leaves).for_each(|node| log.lead(node));
    log
}

#[test]
fn a_whole_log_is_read_and_its_root_recomputed() {
    let log = log_with(10);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let reader = life.reader();
        let old = reader.checkpoint().await.unwrap();
        assert_eq!(reader.verify_all().await.unwrap(), old);
        life.log.lead(10);
        let new = reader.checkpoint().await.unwrap();
        reader.consistency(&old, &new).await.unwrap();
        assert!(matches!(reader.consistency(&new, &old).await, Err(ClientError::Unproven(_))));
        let (index, leaf) = reader.read(4).await.unwrap().remove(0);
        assert_eq!(index, Index(4));
        reader.inclusion(index, &leaf, &new).await.unwrap();
        assert!(reader.inclusion(Index(5), &leaf, &new).await.is_err());
        assert!(reader.read(11).await.unwrap().is_empty());
    });
}

#[test]
fn a_whole_log_is_verified_in_memory_that_does_not_grow_with_it() {
    let most_held = |leaves| {
        let log = log_with(leaves);
        log.state().reads_max = 300;
        // `Bytes` take room of their own with their first clone.
        log.state().leaves.iter().for_each(|leaf| drop(leaf.clone()));
        live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
            let world = World { observer: Arc::new(Unobserved), ..life.world.clone() };
            let reader = Life { world, ..life }.reader();
            reader.checkpoint().await.unwrap();
            memory::measure();
            assert_eq!(reader.verify_all().await.unwrap().size, leaves);
            memory::most_held()
        })
    };
    let (few, many) = (most_held(1_500), most_held(6_000));
    // The hashes of the leaves alone would take 144,000 bytes more.
    assert!(many < few + 48_000, "{few} bytes for 1,500 leaves, {many} for 6,000");
}

#[test]
fn a_changed_leaf_is_noticed_by_its_root() {
    let log = log_with(5);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        life.log.state().leaves[2] = Bytes::from_static(b"something else");
        let verified = life.reader().verify_all().await;
        assert!(matches!(verified, Err(ClientError::WrongRoot { size: 5 })), "{verified:?}");
    });
}

#[test]
fn a_tail_resumes_at_exactly_the_next_leaf_after_any_failure() {
    let log = log_with(7);
    log.state().tail_leaves_max = Some(2);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let mut tail = life.tail(1);
        for expected in 1..7 {
            assert_eq!(tail.next().await.unwrap().0, Index(expected));
        }
        life.log.state().tail_leaves_max = None;
        let waiting = tokio::time::timeout(Duration::from_secs(300), tail.next()).await;
        assert!(waiting.is_err(), "nothing is committed yet");
        life.log.lead(7);
        assert_eq!(tail.next().await.unwrap().0, Index(7));
        let from: Vec<u64> = (life.seen.all().iter())
            .filter_map(|event| match event {
                LogEvent::TailStarted { from } => Some(*from),
                _ => None,
            })
            .collect();
        assert_eq!(from[..3], [1, 3, 5]);
        assert_eq!(life.seen.count("leaf-read"), 7);
    });
}

#[test]
fn a_tail_refuses_a_server_that_skips_and_asks_again() {
    let log = log_with(5);
    log.state().tail_skips = Some(2);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let mut tail = life.tail(0);
        let mut got = Vec::new();
        while got.len() < 5 {
            match tail.next().await {
                Ok((index, _)) => got.push(index.0),
                Err(error) => {
                    assert!(matches!(error, ClientError::OutOfOrder { expected: 2, found: 3 }), "{error}");
                }
            }
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
    });
}

/// A tail that was given leaves 0 to 4 and has to look for a server again.
async fn cut_off_after_five(life: &Life) -> Tail {
    life.log.state().tail_leaves_max = Some(5);
    let mut tail = life.tail(0);
    for expected in 0..5 {
        assert_eq!(tail.next().await.unwrap().0, Index(expected));
    }
    life.log.state().tail_leaves_max = None;
    tail
}

#[test]
fn a_tail_waits_for_a_server_that_is_behind_and_never_takes_it_for_the_whole() {
    let log = log_with(5);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let mut tail = cut_off_after_five(&life).await;
        life.log.roll_back(3);
        let waiting = tokio::time::timeout(Duration::from_secs(60), tail.next()).await;
        assert!(waiting.is_err(), "{waiting:?}");
        assert_eq!(life.seen.count("tail-started"), 1, "nobody listens to it");
        (3..6).for_each(|node| life.log.lead(node));
        assert_eq!(tail.next().await.unwrap().0, Index(5), "the same log, caught up");
    });
}

#[test]
fn a_tail_notices_a_server_with_another_past() {
    let log = log_with(5);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let mut tail = cut_off_after_five(&life).await;
        life.log.roll_back(3);
        (90..95).for_each(|node| life.log.lead(node));
        for _ in 0..3 {
            let forked = tail.next().await;
            assert!(matches!(forked, Err(ClientError::Unproven(_))), "{forked:?}");
        }
        assert_eq!(tail.position(), Index(5));
    });
}

#[test]
fn a_tail_notices_that_what_it_was_given_last_is_not_in_the_signed_tree() {
    let log = log_with(5);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let honest = life.log.state().leaves[4].clone();
        life.log.state().leaves[4] = Bytes::from_static(b"something else");
        let mut tail = cut_off_after_five(&life).await;
        life.log.state().leaves[4] = honest;
        life.log.lead(5);
        let caught = tail.next().await;
        assert!(matches!(caught, Err(ClientError::Unproven(Rejection::NotIncluded { index: 4, .. }))), "{caught:?}");
    });
}

#[test]
fn a_tail_that_wants_an_age_leaves_whoever_cannot_keep_it_and_says_how_new_it_is() {
    let log = log_with(3);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let mut tail = life.tail(0).within(Duration::from_secs(1));
        assert!(matches!(tail.next().await, Err(ClientError::NoBound)), "a server of before there were bounds");
        life.log.state().age_ms = Some(1_001);
        assert!(matches!(tail.next().await, Err(ClientError::BoundNotKept { shown: 3, .. })));
        life.log.state().age_ms = Some(400);
        assert_eq!((tail.position(), tail.bound()), (Index(0), None));
        for _ in 0..3 {
            tail.next().await.unwrap();
        }
        let bound = tail.bound().unwrap();
        assert!(bound.size == 3 && bound.age >= Some(Duration::from_millis(400)), "{bound:?}");
        let quiet = tokio::time::timeout(Duration::from_secs(30), tail.next()).await;
        assert!(quiet.is_err());
        let aged = tail.bound().unwrap().age.unwrap();
        assert!(aged <= Duration::from_secs(1), "asked again while nothing comes: {aged:?}");
        assert_eq!(life.seen.count("tail-started"), 1);
    });
}

#[test]
fn a_tail_leaves_a_server_that_shows_more_than_it_gives() {
    let log = log_with(3);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        (life.log.state().age_ms, life.log.state().tail_hangs) = (Some(100), true);
        let mut tail = life.tail(0).within(Duration::from_secs(2));
        let stuck = tokio::time::timeout(Duration::from_secs(10), tail.next()).await;
        assert!(stuck.is_err() && life.seen.count("tail-started") >= 3, "{}", life.seen.count("tail-started"));
        life.log.state().tail_hangs = false;
        assert_eq!(tail.next().await.unwrap().0, Index(0));
    });
}

fn led_by(name: &str) -> tonic::Status {
    let mut status = tonic::Status::unavailable("this node does not lead");
    status.metadata_mut().insert(crate::words::LEADER, name.parse().unwrap());
    status
}

#[test]
fn a_linearizable_read_follows_the_word_of_who_leads_and_is_told() {
    let log = log_with(4);
    live(&MemoryDisk::default(), &log, Call::Append, |mut life| async move {
        let server = |name: &str| Server { address: format!("{name}:50051"), tls_name: name.to_owned() };
        life.settings.servers = vec![server("server-1"), server("server-3"), server("server-4")];
        (life.log.state().age_ms, life.log.state().linearizable) = (Some(0), true);
        life.log.state().turned_away.push_back(led_by("server-4"));
        let (checkpoint, _, bound) = life.reader().signed_checkpoint_at(Level::Linearizable).await.unwrap();
        assert_eq!((checkpoint.size, bound.size, bound.linearizable), (4, 4, true));
        let peers: Vec<String> = (life.seen.all().into_iter())
            .filter_map(|event| match event {
                LogEvent::CallStarted { peer, .. } => Some(peer),
                _ => None,
            })
            .collect();
        assert_eq!(peers, ["server-1", "server-4"]);
        assert_eq!(life.seen.count("linearizable-read"), 1);
    });
}

#[test]
fn the_only_server_is_asked_again_over_the_same_connection() {
    for (servers, connections) in [(vec!["server-1"], 1), (vec!["server-1", "server-3"], 2)] {
        let log = log_with(4);
        live(&MemoryDisk::default(), &log, Call::Append, |mut life| async move {
            let server = |name: &&str| Server { address: format!("{name}:50051"), tls_name: (*name).to_owned() };
            life.settings.servers = servers.iter().map(server).collect();
            life.log.state().turned_away.push_back(tonic::Status::unavailable("this node does not lead"));
            let (dial, credentials) = life.plain();
            let dialled = Arc::new(AtomicUsize::new(0));
            let counter = dialled.clone();
            let counted: Dial = Arc::new(move |server, condition, credentials| {
                counter.fetch_add(1, Ordering::Relaxed);
                dial(server, condition, credentials)
            });
            let reader = LogReader::connect_with(life.world.clone(), (&life.settings).into(), counted, credentials);
            reader.unwrap().signed_checkpoint().await.unwrap();
            assert_eq!(dialled.load(Ordering::Relaxed), connections, "{servers:?}");
        });
    }
}

#[test]
fn a_reader_that_does_not_know_the_leader_is_told_at_once() {
    let log = log_with(4);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        life.log.state().turned_away.push_back(led_by("server-9"));
        let begun = tokio::time::Instant::now();
        let error = life.reader().signed_checkpoint_at(Level::Linearizable).await.unwrap_err().to_string();
        assert!(error.contains("`server-9` leads, which is not among this reader's servers"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn a_server_that_does_not_confirm_is_not_believed() {
    let log = log_with(4);
    live(&MemoryDisk::default(), &log, Call::Append, |life| async move {
        let reader = life.reader();
        let unbounded = reader.read_at(0, 0, Level::Linearizable).await;
        assert!(matches!(unbounded, Err(ClientError::NoBound)), "{unbounded:?}");
        life.log.state().age_ms = Some(0);
        let unconfirmed = reader.read_at(0, 0, Level::Linearizable).await;
        assert!(matches!(unconfirmed, Err(ClientError::BoundNotKept { .. })), "{unconfirmed:?}");
        assert_eq!(reader.read_at(0, 0, Level::Any).await.unwrap().bound.size, 4);
        assert_eq!((life.seen.count("bounded-read"), life.seen.count("linearizable-read")), (1, 0));
    });
}
