//! A log of one that its start finds damaged: what can be read of it, what it refuses, and that nothing is changed.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tokio::time::timeout;

use super::{
    super::{
        super::{note::Checkpoint, tree::verify_consistency},
        AppendError, Node, NodeError,
        identity::{CHECKPOINT, JOURNAL, VOTE},
    },
    bench::{Bench, Writer, all_leaves, append_all},
};

/// Longer than the time between two looks at the folder.
const SOON: Duration = Duration::from_secs(30);

type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Bench {
    /// Puts these files back, with one byte spoiled in the first file whose path has `file` in it.
    fn spoil(&self, whole: &Files, file: &str, at: usize) {
        let mut spoiled = whole.clone();
        let (_, bytes) = spoiled.iter_mut().find(|(path, _)| path.to_string_lossy().contains(file)).unwrap();
        bytes[at] ^= 0x10;
        self.disk.restore("", &spoiled);
    }

    async fn open_sound(&self) -> Result<Node, NodeError> {
        let damage = self.start().await.expect_err("it is damaged");
        Node::open_sound(self.world(), self.settings.clone(), &damage).await
    }
}

async fn written() -> (Bench, Node, Files) {
    let (bench, node) = Bench::started().await;
    let writer = Writer::new("a", 1);
    append_all(&node, [writer.open(), writer.event(1, "one"), writer.event(2, "two"), writer.event(3, "three")]).await;
    node.shut_down().await.unwrap();
    let whole = bench.disk.copy("");
    (bench, node, whole)
}

#[tokio::test(start_paused = true)]
async fn what_is_before_the_damage_is_shown_and_proven_and_nothing_is_taken() {
    let (bench, before, whole) = written().await;
    let leaves = all_leaves(&before).await;
    let newest = before.checkpoint().unwrap().checkpoint;
    let end = whole.iter().find(|(path, _)| path.to_string_lossy().contains(".seg")).unwrap().1.len();
    drop(before.clone());
    let mut seen = Vec::new();
    for at in 12_288..end {
        bench.spoil(&whole, ".seg", at);
        let spoiled = bench.disk.copy("");
        let Ok(node) = bench.open_sound().await else {
            continue; // not even the first frame is whole
        };
        let size = node.committed();
        assert!(size < newest.size, "byte {at}");
        assert_eq!(all_leaves(&node).await, leaves[..size as usize]);
        let shown = Checkpoint::verify(&node.checkpoint().unwrap().note, &bench.key()).unwrap();
        let proof = before.consistency(size, newest.size).unwrap();
        verify_consistency(size, newest.size, &proof, &shown.root, &newest.root).unwrap();
        assert!(node.inclusion(size - 1, size).is_some());
        assert_eq!(node.bound().age, None, "nobody knows what is missing");
        assert!(matches!(node.linearizable().await, Err(AppendError::Damaged(_))));
        let refused = node.append(Writer::new("a", 1).event(4, "four")).await;
        assert!(matches!(&refused, Err(AppendError::Damaged(why)) if why.contains("damaged at byte")), "{refused:?}");
        node.shut_down().await.unwrap();
        drop(node);
        assert_eq!(bench.disk.copy(""), spoiled, "byte {at}: not a byte is changed");
        seen.push(size);
    }
    seen.dedup();
    assert_eq!(seen, (1..newest.size).collect::<Vec<_>>(), "each frame in turn was the first damaged one");
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_vote_is_lost_is_shown_as_a_whole() {
    let (bench, before, whole) = written().await;
    let leaves = all_leaves(&before).await;
    drop(before);
    let mut spoiled = whole.clone();
    let vote = spoiled.get_mut(&PathBuf::from(VOTE)).unwrap();
    vote.iter_mut().for_each(|byte| *byte ^= 1);
    bench.disk.restore("", &spoiled);
    let node = bench.open_sound().await.unwrap();
    assert_eq!(all_leaves(&node).await, leaves);
    assert!(matches!(node.append(Writer::new("a", 1).event(4, "four")).await, Err(AppendError::Damaged(_))));
    assert_eq!(bench.count("read-only"), 1);
}

#[tokio::test(start_paused = true)]
async fn it_ends_once_the_folder_is_whole_again_and_the_next_life_takes_the_log_as_a_whole() {
    let (bench, before, whole) = written().await;
    let leaves = all_leaves(&before).await;
    drop(before);
    bench.spoil(&whole, ".seg", 12_288 + 200);
    let node = bench.open_sound().await.unwrap();
    assert!(timeout(SOON, node.failed()).await.is_err(), "it is still damaged");
    bench.disk.restore("", &whole);
    let why = timeout(SOON, node.failed()).await.expect("it looks again");
    assert!(why.contains("whole again"), "{why}");
    node.shut_down().await.unwrap_err();
    drop(node);
    let node = bench.start().await.unwrap();
    assert_eq!(all_leaves(&node).await[..leaves.len()], leaves);
    append_all(&node, [Writer::new("a", 1).event(4, "four")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_contradicts_its_own_checkpoint_is_not_shown() {
    let (bench, before, whole) = written().await;
    drop(before);
    // Another log of the same key and id, as long as this one.
    let (other, node) = Bench::started().await;
    let writer = Writer::new("b", 1);
    append_all(&node, [writer.open(), writer.event(1, "x"), writer.event(2, "y"), writer.event(3, "z")]).await;
    node.shut_down().await.unwrap();
    drop(node);
    bench.disk.restore(JOURNAL, &other.disk.copy(JOURNAL));
    assert!(matches!(bench.open_sound().await, Err(NodeError::RolledBack(why)) if why.contains("root")));
    // Both slots.
    let mut spoiled = whole;
    spoiled.get_mut(&PathBuf::from(CHECKPOINT)).unwrap().iter_mut().for_each(|byte| *byte ^= 1);
    bench.disk.restore("", &spoiled);
    assert!(bench.open_sound().await.is_ok(), "nothing contradicts it");
}
