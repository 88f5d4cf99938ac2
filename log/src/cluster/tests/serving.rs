//! A node that runs: outcomes, receipts, batches, bounds, reads.

use bytes::Bytes;
use futures::future::join_all;
use gapless_world::LogEvent;
use tokio::task::yield_now;

use super::{
    super::{
        super::{
            leaf::{Content, Index},
            wire::refusal::Reason,
        },
        AppendError, Appended, NodeError, Refusal,
    },
    bench::{Bench, Writer, all_leaves, append_all},
};

fn reason(appended: Appended) -> Reason {
    match appended {
        Appended::Refused(Refusal { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_receipt_verifies_against_a_signed_checkpoint_and_the_one_before() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    let mut known = None;
    for entry in [billing.open(), billing.event(1, "a"), billing.event(2, "b")] {
        let index = append_all(&node, [entry.clone()]).await[0];
        let size = known.as_ref().map_or(0, |known: &super::super::Checkpoint| known.size);
        let receipt = node.receipt(Index(index), size, false).await.unwrap();
        assert!(receipt.leaf.windows(entry.bytes().len()).any(|part| part == entry.bytes()));
        known = Some(bench.verify(&receipt, known.as_ref()));
    }
    assert_eq!(node.committed(), 5);
    assert_eq!(node.checkpoint().unwrap().checkpoint.size, 5);
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_its_membership_and_who_led_it() {
    let (bench, node) = Bench::started().await;
    let leaves = all_leaves(&node).await;
    assert!(matches!(leaves[0].content, Content::Membership(_)));
    assert_eq!((leaves[1].term, &leaves[1].content), (1, &Content::LeaderStarted { node: 1 }));
    assert_eq!(bench.events("leader-change"), [LogEvent::LeaderChange { node: 1, term: 1 }]);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_with_its_first_index_and_adds_no_leaf() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    let indexes = append_all(&node, [billing.open(), billing.event(1, "a")]).await;
    let size = node.committed();
    let again = node.append(billing.event(1, "a")).await.unwrap();
    assert_eq!(again, Appended::Repeated { index: Index(indexes[1]) });
    assert_eq!(node.committed(), size);
    assert_eq!(bench.count("duplicate-answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn two_sendings_in_one_batch_are_one_leaf() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    let size = node.committed();
    bench.disk.hold_syncs(true);
    let other = Writer::new("shipping", 1);
    let all = [other.open(), billing.event(1, "a"), billing.event(1, "a")].map(|entry| {
        let node = node.clone();
        tokio::spawn(async move { node.append(entry).await.unwrap() })
    });
    yield_now().await;
    bench.disk.hold_syncs(false);
    let outcomes: Vec<_> = join_all(all).await.into_iter().map(Result::unwrap).collect();
    let Appended::Counted { index } = outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], Appended::Repeated { index });
    assert_eq!(node.committed(), size + 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_count_is_refused_with_its_reason_and_leaves_no_trace() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 2);
    append_all(&node, [billing.open(), billing.event(1, "a")]).await;
    let size = node.committed();
    let gap = node.append(billing.event(5, "e")).await.unwrap();
    assert!(matches!(&gap, Appended::Refused(Refusal { reason: Reason::SequenceGap, expected: 2, .. })), "{gap:?}");
    assert_eq!(reason(node.append(billing.event(1, "A")).await.unwrap()), Reason::SequenceReused);
    assert_eq!(reason(node.append(billing.forged(2, "b")).await.unwrap()), Reason::Malformed);
    assert_eq!(reason(node.append(Writer::new("billing", 1).open()).await.unwrap()), Reason::WrongEpoch);
    assert_eq!(reason(node.append(Writer::new("nobody", 1).event(1, "x")).await.unwrap()), Reason::WrongEpoch);
    let huge = node.append(billing.event(2, vec![0; 60 * 1024 + 1])).await.unwrap();
    assert!(matches!(&huge, Appended::Refused(Refusal { detail, .. }) if detail.contains("61440")), "{huge:?}");
    assert_eq!(reason(huge), Reason::Oversize);
    assert_eq!(node.committed(), size);
    let told = bench.events("entry-refused").into_iter().map(|event| match event {
        LogEvent::EntryRefused { reason, .. } => reason,
        other => panic!("{other:?}"),
    });
    let expected = ["sequence-gap", "sequence-reused", "malformed", "wrong-epoch", "wrong-epoch", "oversize"];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_and_its_first_entries_may_share_a_batch_and_forgeries_are_still_found() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    bench.disk.hold_syncs(true);
    let shipping = Writer::new("shipping", 1);
    let entries = [billing.event(1, "a"), shipping.open(), shipping.forged(1, "x"), shipping.event(1, "y")];
    let all = entries.map(|entry| {
        let node = node.clone();
        tokio::spawn(async move { node.append(entry).await.unwrap() })
    });
    yield_now().await;
    bench.disk.hold_syncs(false);
    let outcomes: Vec<_> = join_all(all).await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(outcomes[1], Appended::Counted { .. }));
    assert_eq!(reason(outcomes[2].clone()), Reason::Malformed);
    assert!(matches!(outcomes[3], Appended::Counted { .. }));
}

#[tokio::test(start_paused = true)]
async fn concurrent_appends_share_batches() {
    let (bench, node) = Bench::started().await;
    let before = bench.count("batch-written");
    bench.disk.hold_syncs(true);
    let all: Vec<_> = (0..100)
        .map(|at| {
            let (node, entry) = (node.clone(), Writer::new(&format!("client-{at}"), 1).open());
            tokio::spawn(async move { node.append(entry).await.unwrap() })
        })
        .collect();
    yield_now().await;
    bench.disk.hold_syncs(false);
    for one in all {
        assert!(matches!(one.await.unwrap(), Appended::Counted { .. }));
    }
    assert_eq!(node.committed(), 102);
    assert!(bench.count("batch-written") - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_sends_callers_away_and_recovers() {
    let mut bench = Bench::new();
    bench.settings.limits.queue_entries = 4;
    bench.init().await.unwrap();
    let node = bench.start().await.unwrap();
    bench.disk.hold_syncs(true);
    let send = |at: usize| {
        let (node, entry) = (node.clone(), Writer::new(&format!("client-{at}"), 1).open());
        tokio::spawn(async move { node.append(entry).await })
    };
    let first = send(0);
    bench.more_than(bench.count("batch-written"), "batch-written").await;
    let waiting: Vec<_> = (1..5).map(send).collect();
    yield_now().await;
    let away = send(5).await.unwrap();
    assert!(matches!(away, Err(AppendError::Busy { retry_after_ms: 20..=2000 })), "{away:?}");
    assert_eq!(bench.events("load-shed"), [LogEvent::LoadShed { queued: 4 }]);
    bench.disk.hold_syncs(false);
    for one in waiting.into_iter().chain([first]) {
        one.await.unwrap().unwrap();
    }
    send(5).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_changes_nothing() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    bench.disk.hold_syncs(true);
    let (asked, entry) = (node.clone(), billing.open());
    let caller = tokio::spawn(async move { asked.append(entry).await });
    bench.more_than(bench.count("batch-written"), "batch-written").await;
    caller.abort();
    bench.disk.hold_syncs(false);
    let mut changes = node.committed_changes();
    changes.wait_for(|size| *size == 3).await.unwrap();
    assert_eq!(node.append(billing.open()).await.unwrap(), Appended::Repeated { index: Index(2) });
}

#[tokio::test(start_paused = true)]
async fn shutting_down_answers_everything_accepted_and_takes_nothing_more() {
    let (bench, node) = Bench::started().await;
    bench.disk.hold_syncs(true);
    let all: Vec<_> = (0..20)
        .map(|at| {
            let (node, entry) = (node.clone(), Writer::new(&format!("client-{at}"), 1).open());
            tokio::spawn(async move { node.append(entry).await })
        })
        .collect();
    yield_now().await;
    let stopped = node.clone();
    let stop = tokio::spawn(async move { stopped.shut_down().await });
    yield_now().await;
    assert_eq!(node.append(Writer::new("late", 1).open()).await, Err(AppendError::ShuttingDown));
    bench.disk.hold_syncs(false);
    for one in all {
        assert!(matches!(one.await.unwrap(), Ok(Appended::Counted { .. })));
    }
    assert_eq!(stop.await.unwrap().unwrap(), 22);
    assert_eq!(node.shut_down().await.unwrap(), 22);
}

#[tokio::test(start_paused = true)]
async fn reads_are_bounded_and_show_only_what_is_committed() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    let events = (1..10).map(|sequence| billing.event(sequence, vec![sequence as u8; 1000]));
    append_all(&node, [billing.open()].into_iter().chain(events)).await;
    assert_eq!(node.read(0, 3, 1 << 20).await.unwrap().len(), 3);
    assert_eq!(node.read(3, 0, 2500).await.unwrap().len(), 2);
    assert_eq!(node.read(3, 0, 1).await.unwrap().len(), 1);
    assert_eq!(node.read(12, 0, 1).await.unwrap(), Vec::<Bytes>::new());
    assert!(matches!(node.read(13, 0, 1).await, Err(NodeError::PastEnd { index: 13, size: 12 })));

    bench.disk.hold_syncs(true);
    let (asked, entry) = (node.clone(), billing.event(10, "later"));
    let later = tokio::spawn(async move { asked.append(entry).await });
    bench.more_than(bench.count("batch-written"), "batch-written").await;
    assert_eq!(node.read(12, 0, 1 << 20).await.unwrap(), Vec::<Bytes>::new());
    assert!(matches!(node.receipt(Index(12), 0, false).await, Err(NodeError::PastEnd { .. })));
    assert_eq!((node.inclusion(12, 13), node.consistency(1, 13)), (None, None));
    bench.disk.hold_syncs(false);
    later.await.unwrap().unwrap();
    assert!(node.inclusion(12, 13).is_some() && node.consistency(1, 13).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_more_than_the_log_gets_no_consistency_proof() {
    let (_bench, node) = Bench::started().await;
    let receipt = node.receipt(Index(0), 1000, false).await.unwrap();
    assert_eq!(receipt.consistency, Vec::<Bytes>::new());
}

#[tokio::test(start_paused = true)]
async fn leaves_that_differ_from_what_was_hashed_are_never_served() {
    /// More leaves than are kept in memory.
    const ENTRIES: u64 = 160;
    let fill = |letter: u8| async move {
        let (bench, node) = Bench::started().await;
        let billing = Writer::new("billing", 1);
        let event = |sequence| billing.event(sequence, vec![letter; 60 * 1024]);
        append_all(&node, [billing.open()].into_iter().chain((1..ENTRIES).map(event))).await;
        (bench, node)
    };
    let ((bench, node), (other, _)) = (fill(b'a').await, fill(b'b').await);
    assert_eq!(node.read(3, 1, 1 << 20).await.unwrap().len(), 1);
    // Frames that are whole in themselves, of another log of the same id.
    bench.disk.restore("journal", &other.disk.copy("journal"));
    assert!(node.read(3, 1, 1 << 20).await.is_ok(), "what was just verified is still in memory");
    let error = node.read(30, 1, 1 << 20).await.map(drop).unwrap_err();
    assert!(matches!(error, NodeError::Corrupt(_)), "{error}");
    assert!(node.receipt(Index(30), 0, false).await.is_err());
    assert!(bench.count("corruption-found") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_log_of_one_is_linearizable_by_itself_and_always_new() {
    let (_bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    node.linearizable().await.unwrap();
    assert_eq!(node.bound(), super::super::Bound { size: 3, age: Some(std::time::Duration::ZERO) });
    node.shut_down().await.unwrap();
    assert!(node.linearizable().await.is_err(), "a node that was stopped answers nothing, and at once");
}
