//! One folder over several lives: restarts, power losses, failing disks, folders that are not what they should be.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use gapless_world::LogEvent;
use tokio::time::sleep;

use super::{
    super::{
        super::{
            leaf::{Content, Index},
            note::SigningKey,
            store::BLOCKS_BYTES,
        },
        AppendError, Appended, NodeError, incarnation,
    },
    bench::{Bench, Writer, all_leaves, append_all},
};

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_leaves_sessions_and_the_checkpoint() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    let indexes = append_all(&node, [billing.open(), billing.event(1, "a")]).await;
    let (before, leaves) = (node.checkpoint().unwrap(), all_leaves(&node).await);
    node.shut_down().await.unwrap();

    let node = bench.start().await.unwrap();
    let again = node.append(billing.event(1, "a")).await.unwrap();
    assert_eq!(again, Appended::Repeated { index: Index(indexes[1]) });
    assert_eq!(all_leaves(&node).await[..leaves.len()], leaves);
    let receipt = node.receipt(Index(indexes[1]), before.checkpoint.size, true).await.unwrap();
    bench.verify(&receipt, Some(&before.checkpoint));
    append_all(&node, [billing.event(2, "b")]).await;
}

#[tokio::test(start_paused = true)]
async fn each_life_leads_in_a_term_of_its_own() {
    let (bench, node) = Bench::started().await;
    node.shut_down().await.unwrap();
    let node = bench.start().await.unwrap();
    node.shut_down().await.unwrap();
    let node = bench.start().await.unwrap();
    let terms: Vec<_> = all_leaves(&node).await.iter().map(|leaf| leaf.term).collect();
    assert_eq!(terms, [0, 1, 2, 3]);
    let change = |term| LogEvent::LeaderChange { node: 1, term };
    assert_eq!(bench.events("leader-change"), [change(1), change(2), change(3)]);
    let recovered = |size| LogEvent::LogRecovered { frames: size, leaves: size };
    assert_eq!(bench.events("log-recovered"), [recovered(1), recovered(2), recovered(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_between_write_and_sync_loses_nothing_acknowledged() {
    for kept in [false, true] {
        let (bench, node) = Bench::started().await;
        let billing = Writer::new("billing", 1);
        let indexes = append_all(&node, [billing.open(), billing.event(1, "a")]).await;
        let known = node.checkpoint().unwrap().checkpoint;
        bench.disk.hold_syncs(true);
        let (asked, entry) = (node.clone(), billing.event(2, "in flight"));
        let in_flight = tokio::spawn(async move { asked.append(entry).await });
        bench.more_than(bench.count("batch-written"), "batch-written").await;
        bench.disk.power_loss(kept);
        assert!(matches!(in_flight.await.unwrap(), Err(AppendError::Failed(_))));
        drop(node);

        let node = bench.start().await.unwrap();
        let again = node.append(billing.event(1, "a")).await.unwrap();
        assert_eq!(again, Appended::Repeated { index: Index(indexes[1]) });
        // The entry in flight may be there or not; sending it again is right in both cases.
        let once_more = node.append(billing.event(2, "in flight")).await.unwrap();
        match (kept, &once_more) {
            (true, Appended::Repeated { .. }) | (false, Appended::Counted { .. }) => {}
            other => panic!("{other:?}"),
        }
        let count = |leaf: &&super::super::super::leaf::Leaf| match &leaf.content {
            Content::Entry(signed) => signed.entry().sequence.0 == 2,
            _ => false,
        };
        assert_eq!(all_leaves(&node).await.iter().filter(count).count(), 1);
        let receipt = node.receipt(Index(indexes[1]), known.size, true).await.unwrap();
        bench.verify(&receipt, Some(&known));
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_before_the_checkpoint_is_kept_signs_the_same_roots_again() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    sleep(Duration::from_secs(1)).await;
    append_all(&node, [billing.open()]).await;
    append_all(&node, (1..20).map(|sequence| billing.event(sequence, "x"))).await;
    let known = node.checkpoint().unwrap().checkpoint;
    bench.disk.power_loss(false);
    drop(node);
    let node = bench.start().await.unwrap();
    let receipt = node.receipt(Index(5), known.size, true).await.unwrap();
    bench.verify(&receipt, Some(&known));
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_ends_the_node_and_the_next_life_serves() {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open()]).await;
    bench.disk.fail_syncs(true);
    let failed = node.append(billing.event(1, "a")).await;
    assert!(matches!(&failed, Err(AppendError::Failed(why)) if why.contains("sync")), "{failed:?}");
    assert!(node.failed().await.contains("sync"));
    assert!(matches!(node.append(billing.event(1, "a")).await, Err(AppendError::Failed(_))));
    assert!(matches!(node.shut_down().await, Err(NodeError::Failed(_))));
    bench.disk.fail_syncs(false);
    bench.disk.power_loss(false);
    let node = bench.start().await.unwrap();
    append_all(&node, [billing.event(1, "a")]).await;
}

/// The files of a journal.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A folder that nobody holds, its writer, and its journal after the first life and after the second.
async fn two_lives() -> (Bench, Writer, Files, Files) {
    let (bench, node) = Bench::started().await;
    let billing = Writer::new("billing", 1);
    append_all(&node, [billing.open(), billing.event(1, "a")]).await;
    node.shut_down().await.unwrap();
    let older = bench.disk.copy("journal");
    let node = bench.start().await.unwrap();
    append_all(&node, [billing.event(2, "b"), billing.event(3, "c")]).await;
    node.shut_down().await.unwrap();
    let newest = bench.disk.copy("journal");
    (bench, billing, older, newest)
}

/// A start refuses these files as rolled back, tells it once, and leaves them as they are; with the newest ones it goes
/// on.
async fn refused_until_restored(bench: &Bench, billing: &Writer, files: &Files, newest: &Files) {
    bench.disk.restore("journal", files);
    let error = bench.start().await.unwrap_err();
    assert!(matches!(error, NodeError::RolledBack(_)), "{error}");
    assert_eq!(bench.count("corruption-found"), 1);
    assert_eq!(bench.count("torn-tail-truncated"), 0);
    assert!(bench.disk.copy("journal") == *files, "neither cut nor written anew");

    bench.disk.restore("journal", newest);
    let node = bench.start().await.unwrap();
    append_all(&node, [billing.event(4, "d")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_whose_journal_was_rolled_back_is_refused() {
    let (bench, billing, older, newest) = two_lives().await;
    refused_until_restored(&bench, &billing, &older, &newest).await;
}

/// What looks like a torn tail may be damage to what the checkpoint covers: the marker after it can be damaged as well.
#[tokio::test(start_paused = true)]
async fn a_tail_that_the_checkpoint_covers_is_not_cut() {
    let (bench, billing, older, newest) = two_lives().await;
    // The newest bytes with the older markers, and the last byte flipped.
    let mut damaged = newest.clone();
    for (path, bytes) in damaged.iter_mut().filter(|(path, _)| path.extension().is_some_and(|it| it == "seg")) {
        bytes[..BLOCKS_BYTES].copy_from_slice(&older[path][..BLOCKS_BYTES]);
        *bytes.last_mut().unwrap() ^= 1;
    }
    refused_until_restored(&bench, &billing, &damaged, &newest).await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_with_other_leaves_than_its_checkpoint_covers_is_refused() {
    let fill = |text: &'static str| async move {
        let (bench, node) = Bench::started().await;
        let billing = Writer::new("billing", 1);
        append_all(&node, [billing.open(), billing.event(1, text)]).await;
        node.shut_down().await.unwrap();
        bench
    };
    let (bench, other) = (fill("truth").await, fill("lying").await);
    bench.disk.restore("journal", &other.disk.copy("journal"));
    let error = bench.start().await.unwrap_err();
    assert!(matches!(&error, NodeError::RolledBack(why) if why.contains("root")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_vote_older_than_the_log_is_refused() {
    let (bench, node) = Bench::started().await;
    node.shut_down().await.unwrap();
    let older = bench.disk.copy("vote");
    bench.start().await.unwrap().shut_down().await.unwrap();
    bench.disk.restore("vote", &older);
    let error = bench.start().await.unwrap_err();
    assert!(matches!(&error, NodeError::VoteLost(why) if why.contains("vote")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_vote_or_checkpoint_is_not_made_anew() {
    for name in ["vote", "checkpoint"] {
        let (bench, node) = Bench::started().await;
        node.shut_down().await.unwrap();
        bench.disk.restore(name, &Default::default());
        let error = bench.start().await.unwrap_err();
        match &error {
            NodeError::VoteLost(why) => assert!(name == "vote" && why.contains(name), "{error}"),
            NodeError::RolledBack(why) => assert!(name == "checkpoint" && why.contains(name), "{error}"),
            other => panic!("{other}"),
        }
        assert_eq!(bench.count("corruption-found"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_with_both_slots_damaged_is_noticed() {
    let (bench, node) = Bench::started().await;
    node.shut_down().await.unwrap();
    let mut damaged = bench.disk.copy("checkpoint");
    damaged.values_mut().for_each(|bytes| bytes.fill(0xff));
    bench.disk.restore("checkpoint", &damaged);
    assert!(matches!(bench.start().await, Err(NodeError::Store(_))));
    assert_eq!(bench.count("corruption-found"), 1);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused() {
    let refused = |change: fn(&mut super::super::NodeSettings)| async move {
        let mut bench = Bench::new();
        change(&mut bench.settings);
        matches!(bench.init().await, Err(NodeError::Settings(_)))
    };
    assert!(refused(|settings| settings.origin = "two words".into()).await);
    assert!(refused(|settings| settings.origin = "x".repeat(256)).await);
    assert!(refused(|settings| settings.limits.payload_bytes += 1).await);
    assert!(refused(|settings| settings.limits.batch_bytes = 1 << 30).await);
    assert!(refused(|settings| settings.limits.queue_bytes = 1000).await);
    assert!(refused(|settings| settings.limits.batch_entries = 0).await);
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_started_once_at_a_time() {
    let (bench, node) = Bench::started().await;
    assert!(matches!(bench.start().await, Err(NodeError::Locked)));
    node.shut_down().await.unwrap();
    bench.start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_an_initialised_folder_of_this_node_is_started() {
    let mut bench = Bench::new();
    assert!(matches!(bench.start().await, Err(NodeError::NotInitialised)));
    bench.init().await.unwrap();
    assert!(matches!(bench.init().await, Err(NodeError::AlreadyInitialised { node: 1, .. })));
    bench.settings.node = 2;
    assert!(matches!(bench.start().await, Err(NodeError::Foreign { node: 2, found_node: 1, .. })));
    bench.settings.node = 1;
    bench.start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_initialisation_that_was_cut_off_can_be_made_again_but_a_log_is_never_taken_over() {
    let bench = Bench::new();
    bench.init().await.unwrap();
    bench.disk.restore("identity", &Default::default());
    bench.init().await.unwrap();
    let node = bench.start().await.unwrap();
    node.shut_down().await.unwrap();
    bench.disk.restore("identity", &Default::default());
    assert!(matches!(bench.init().await, Err(NodeError::Anonymous { frames: 2 })));
    assert!(matches!(bench.start().await, Err(NodeError::NotInitialised)));
}

#[tokio::test(start_paused = true)]
async fn another_signing_key_does_not_take_over_the_checkpoint() {
    let (mut bench, node) = Bench::started().await;
    node.shut_down().await.unwrap();
    bench.settings.signing_key = Arc::new(SigningKey::from_seed(&[2; 32]));
    assert!(matches!(bench.start().await, Err(NodeError::OwnCheckpoint(_))));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_last_handle_is_dropped_gives_the_folder_free() {
    let (bench, node) = Bench::started().await;
    append_all(&node, [Writer::new("billing", 1).open()]).await;
    drop(node);
    sleep(Duration::from_secs(1)).await;
    let node = bench.start().await.unwrap();
    assert_eq!(all_leaves(&node).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn wherever_the_power_goes_nothing_acknowledged_is_lost_and_the_next_life_serves() {
    let billing = Writer::new("billing", 1);
    let entry = |sequence| match sequence {
        0 => billing.open(),
        _ => billing.event(sequence, format!("event {sequence}")),
    };
    for operations in 0.. {
        let mut finished = true;
        for kept in [false, true] {
            let bench = Bench::new();
            bench.disk.dies_after(operations);
            let (mut acknowledged, mut known) = (Vec::new(), None);
            let begun = async { bench.init().await.and(bench.start().await) }.await;
            if let Ok(node) = begun {
                for sequence in 0..6 {
                    let Ok(Appended::Counted { index }) = node.append(entry(sequence)).await else { break };
                    acknowledged.push(index);
                    known = node.checkpoint().map(|signed| signed.checkpoint);
                    sleep(Duration::from_millis(150)).await;
                }
            }
            finished &= acknowledged.len() == 6;
            bench.disk.power_loss(kept);

            match bench.init().await {
                Ok(()) => assert_eq!(acknowledged, []),
                Err(error) => assert!(matches!(error, NodeError::AlreadyInitialised { .. }), "{error}"),
            }
            let node = bench.start().await.unwrap();
            for (sequence, index) in (0..).zip(&acknowledged) {
                let again = node.append(entry(sequence)).await.unwrap();
                assert_eq!(again, Appended::Repeated { index: *index }, "power gone after {operations}");
                let size = known.as_ref().map_or(0, |known| known.size);
                bench.verify(&node.receipt(*index, size, true).await.unwrap(), known.as_ref());
            }
            for sequence in 0..8 {
                let outcome = node.append(entry(sequence)).await.unwrap();
                assert!(!matches!(outcome, Appended::Refused(_)), "{outcome:?}");
            }
            let entries = all_leaves(&node).await.into_iter().filter_map(|leaf| match leaf.content {
                Content::Entry(signed) => Some(signed.entry().sequence.0),
                _ => None,
            });
            assert_eq!(entries.collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        }
        if finished {
            assert!(operations > 40, "the power never went in the middle: only {operations} operations");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_told_from_another_one_of_its_node_and_not_from_a_copy_of_itself() {
    let (bench, other) = (Bench::new(), Bench::new());
    assert_eq!(incarnation(&bench.world()).await.unwrap(), None);
    assert!(bench.disk.copy("identity").is_empty(), "looking makes nothing");
    bench.init().await.unwrap();
    other.init().await.unwrap();
    let of = |bench: &Bench| {
        let world = bench.world();
        async move { incarnation(&world).await.unwrap().expect("it is somebody's") }
    };
    let own = of(&bench).await;
    assert_ne!(own, of(&other).await);
    other.disk.restore("identity", &bench.disk.copy("identity"));
    assert_eq!(own, of(&other).await);
}
