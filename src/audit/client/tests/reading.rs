//! Reading: verified, in order, resumed at exactly the next leaf.

use super::*;
use crate::audit::leaf::Index;

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
