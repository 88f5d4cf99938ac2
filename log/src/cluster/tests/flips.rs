//! One bit is flipped, in each byte of each file in turn.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use openraft::{Vote, storage::RaftLogStorage as _};

use super::{
    super::{
        super::tree::Hash,
        NodeError, SignedCheckpoint,
        identity::{CHECKPOINT, Identity, JOURNAL, VOTE, lock},
        reads::Reads,
        recovery::{Recovered, recover},
    },
    bench::{Bench, Writer, append_all},
};

/// The places of the bytes of a file that are worth a try. The blocks before the frames of a segment end in zeroes, of
/// which a few are enough.
pub(super) fn places(path: &Path, len: usize) -> impl Iterator<Item = usize> {
    let is_segment = path.starts_with(JOURNAL);
    let matters = |at: usize| !(64..4_090).contains(&(at % 4_096)) || at.is_multiple_of(61);
    (0..len).filter(move |at| !is_segment || *at >= 12_288 || matters(*at))
}

/// All that a start takes from the disk.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) vote: Option<Vote<u64>>,
    pub(super) checkpoint: Option<SignedCheckpoint>,
    /// The leaves that its checkpoint covers.
    pub(super) leaves: Vec<Bytes>,
    /// The frames and the root of the whole log.
    pub(super) frames: u64,
    pub(super) root: Hash,
}

impl Found {
    /// Starts without Raft, and reads everything.
    pub(super) async fn at_start(bench: &Bench) -> Result<Found, NodeError> {
        let (world, settings) = (bench.world(), &bench.settings);
        let lock = lock(&world).await?;
        let (identity, joining) = Identity::check(&world, settings).await?;
        let Recovered { ledger, mut log, .. } = recover(&world, settings, joining, lock).await?;
        let vote = log.read_vote().await.map_err(|error| NodeError::Failed(error.to_string()))?;
        let checkpoint = ledger.checkpoint().borrow().clone();
        let frames = ledger.last_log_id().map_or(0, |last| last.index + 1);
        let root = ledger.root_at(ledger.size()).unwrap();
        let reads = Reads::new(ledger, log.journal_reader());
        let leaves = reads.read(0, 0, usize::MAX).await?;
        Ok(Found { identity, vote, checkpoint, leaves, frames, root })
    }
}

#[tokio::test(start_paused = true)]
async fn no_flipped_byte_of_any_file_is_believed() {
    let (bench, node) = Bench::started().await;
    let writer = Writer::new("a", 1);
    append_all(&node, [writer.open(), writer.event(1, "one"), writer.event(2, "two")]).await;
    node.shut_down().await.unwrap();
    drop(node);
    let whole = bench.disk.copy("");
    let sound = Found::at_start(&bench).await.unwrap();
    assert_eq!(sound.leaves.len() as u64, sound.checkpoint.as_ref().unwrap().checkpoint.size);

    // By file: how many flips a start refused, and how many cost nothing because the same data stands elsewhere.
    let mut counts: BTreeMap<_, [usize; 2]> = BTreeMap::new();
    for (path, bytes) in &whole {
        for at in places(path, bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            bench.disk.restore("", &whole);
            bench.disk.restore(path.to_str().unwrap(), &BTreeMap::from([(path.clone(), damaged)]));
            let found = Found::at_start(&bench).await;
            let count = counts.entry(path.clone()).or_default();
            match found {
                Ok(found) => {
                    assert_eq!(found, sound, "byte {at} of {}", path.display());
                    count[1] += 1;
                }
                Err(
                    NodeError::Store(_)
                    | NodeError::Decode(_)
                    | NodeError::Corrupt(_)
                    | NodeError::RolledBack(_)
                    | NodeError::OwnCheckpoint(_),
                ) => count[0] += 1,
                Err(other) => panic!("byte {at} of {}: {other}", path.display()),
            }
        }
    }
    let of = |name: &str| -> Vec<[usize; 2]> {
        counts.iter().filter(|(path, _)| path.starts_with(name)).map(|(_, count)| *count).collect()
    };
    let journal = of(JOURNAL);
    assert!(!journal.is_empty() && journal.iter().all(|[refused, _]| *refused > 0), "{counts:?}");
    for cell in ["identity", VOTE, CHECKPOINT] {
        assert_eq!(of(cell), [[0, whole[Path::new(cell)].len()]], "two slots each");
    }
}
