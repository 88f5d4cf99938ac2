//! A node under pressure: memory that shrinks while it runs, and a clock that jumps.

use gapless_world::LogEvent;
use tokio::sync::watch;

use super::{
    super::{
        super::{
            budget::MEMORY_DEFAULT,
            leaf::{Content, Index},
        },
        AppendError, Appended,
    },
    bench::{Bench, Writer, all_leaves, append_all},
};

/// What a queue or cache reported last: bytes and limit.
fn told(bench: &Bench, of: &str) -> Option<(u64, u64)> {
    bench.events("memory-used").into_iter().rev().find_map(|event| match event {
        LogEvent::MemoryUsed { what, bytes, limit } if what == of => Some((bytes, limit)),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_smaller_budget_is_kept_to_at_once_and_what_was_accepted_stays() {
    let mut bench = Bench::new();
    let (budget, memory) = watch::channel(MEMORY_DEFAULT);
    bench.settings.memory = memory;
    bench.init().await.unwrap();
    let node = bench.start().await.unwrap();
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    let send = |sequence: u64| {
        let (node, entry) = (node.clone(), billing.event(sequence, vec![b'x'; 3_000]));
        tokio::spawn(async move { node.append(entry).await })
    };
    bench.disk.hold_syncs(true);
    let mut accepted = vec![send(1)];
    bench.more_than(bench.count("batch-written"), "batch-written").await;
    accepted.extend((2..=6).map(send));
    tokio::task::yield_now().await; // each is in the queue once its task was polled
    // An eighth of 64 KiB, where five entries of 3 KB wait.
    budget.send_replace(64 << 10);
    let away = send(7).await.unwrap();
    assert!(matches!(away, Err(AppendError::Busy { .. })), "{away:?}");
    assert_eq!(bench.events("load-shed"), [LogEvent::LoadShed { queued: 5 }]);
    let (bytes, limit) = told(&bench, "queue").unwrap();
    assert!(bytes > 15_000 && limit == 8 << 10, "{bytes} of {limit}");
    bench.disk.hold_syncs(false);
    for (at, one) in (3..).zip(accepted) {
        assert_eq!(one.await.unwrap().unwrap(), Appended::Counted { index: Index(at) });
    }
    // A sixteenth: each batch is one entry.
    assert_eq!(all_leaves(&node).await.last().unwrap().position, 0);
    let (bytes, limit) = told(&bench, "cache").unwrap();
    assert!(bytes <= limit && limit == 16 << 10, "{bytes} of {limit}");
    budget.send_replace(MEMORY_DEFAULT);
    assert_eq!(send(7).await.unwrap().unwrap(), Appended::Counted { index: Index(9) });
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fits_into_no_batch_waits_outside_until_there_is_more_memory() {
    let mut bench = Bench::new();
    let (budget, memory) = watch::channel(64 << 10);
    bench.settings.memory = memory;
    bench.init().await.unwrap();
    let node = bench.start().await.unwrap();
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    let large = billing.event(1, vec![b'x'; 5_000]);
    assert!(matches!(node.append(large.clone()).await, Err(AppendError::Busy { .. })));
    budget.send_replace(1 << 20);
    append_all(&node, [large]).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_moved_leaves_an_entry_and_the_log_goes_on() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    node.clock_moved(-90_000);
    node.clock_moved(1_000);
    let index = append_all(&node, [billing.event(1, "a")]).await;
    assert_eq!(index, [4]);
    let leaves = all_leaves(&node).await;
    assert_eq!(leaves[3].content, Content::ClockAnomaly { node: 1, by_ms: -89_000 }, "what waited is one note");
    assert_eq!(bench.events("clock-anomaly"), [LogEvent::ClockAnomaly { node: 1, by_ms: -89_000 }]);
    node.shut_down().await.unwrap();
    drop(node);
    let again = bench.start().await.unwrap();
    assert_eq!(all_leaves(&again).await[..leaves.len()], leaves);
    assert_eq!(bench.count("clock-anomaly"), 1, "it is told once, not at each start");
    assert_eq!(append_all(&again, [billing.event(2, "b")]).await, [6]);
}
