//! From a data folder to a log that can go on.
//!
//! Before Raft starts, every leaf is hashed anew from the journal, and the tree is compared with the checkpoint that
//! this node kept. What that checkpoint covers was committed, so it is applied at once; what follows is left to Raft,
//! which commits it again or not. A log that is shorter than its own checkpoint, or has another root at that size, was
//! rolled back or damaged: it is refused, never cut to fit, because that would hide a loss. What can then be done about
//! it is described in `repair` and in `damaged`.

use std::{io, path::Path, sync::Arc};

use gapless_world::{LogEvent, Observer, OpenMode, World};
use openraft::{CommittedLeaderId, Vote};

use super::{
    super::{
        leaf::DecodeError,
        note::{Checkpoint, NoteKey},
        store::{Cell, Frame, Journal, JournalOptions, StoreError},
    },
    NodeError, NodeSettings, SignedCheckpoint,
    identity::{CHECKPOINT, FolderLock, JOURNAL, Joining, VOTE, check_settings},
    ledger::Ledger,
    log::LogStore,
    machine::Machine,
    types::{decode_frame, decode_vote, leaves},
};

/// Bytes of frames held at once while the journal is replayed.
const REPLAY_BYTES_MAX: usize = 4 << 20;

/// What Raft starts from.
pub(super) struct Recovered {
    pub(super) ledger: Arc<Ledger>,
    pub(super) log: LogStore,
    pub(super) machine: Machine,
    /// Where the next checkpoints are kept; `None` in a life that takes no entries.
    pub(super) checkpoint: Option<Cell>,
}

/// Recovers the folder of a member whose identity was checked.
///
/// `joining` is given for a folder that has held no entry so far: only such a folder may be without any.
pub(super) async fn recover(
    world: &World,
    settings: &NodeSettings,
    joining: Option<Joining>,
    lock: FolderLock,
) -> Result<Recovered, NodeError> {
    check_settings(settings)?;
    let options = JournalOptions { segment_bytes: settings.limits.segment_bytes, first_index: 0 };
    let (disk, observer) = (world.disk.clone(), world.observer.clone());
    // What is wrong with the cell is reported once it is opened.
    let kept = look_at_cell(world, CHECKPOINT).await.and_then(|cell| load_checkpoint(&cell, settings));
    let covered = kept.ok().flatten().map_or(0, |kept| kept.checkpoint.size);
    // Checked before the journal cuts a torn tail: the tail may be what is missing, and its damage that of a disk which
    // is yet to be put right.
    let accepts =
        |last: Option<&Frame>| reaches(last, covered).inspect_err(|error| tell_corruption(&*world.observer, error));
    let journal = Journal::open_if(disk, observer, Path::new(JOURNAL), settings.log_id, options, accepts).await?;
    let recovered = recover_over(journal, world, settings, joining, lock).await;
    recovered.inspect_err(|error| tell_corruption(&*world.observer, error))
}

async fn recover_over(
    journal: Journal,
    world: &World,
    settings: &NodeSettings,
    mut joining: Option<Joining>,
    lock: FolderLock,
) -> Result<Recovered, NodeError> {
    let vote = open_vote(world).await?;
    let checkpoint = open_cell(world, CHECKPOINT).await?;
    let kept = load_checkpoint(&checkpoint, settings)?;

    if journal.next_index() > 0
        && let Some(joining) = joining.take()
    {
        mark!("joined-noted-late");
        // A crash came between the first entry and the note of it.
        joining.begins().await?;
    }
    check_extent(&journal, joining.is_some())?;
    let ledger = Arc::new(Ledger::new(settings.clone(), world.observer.clone()));
    let mut machine = Machine::new(ledger.clone());
    replay(&journal, &ledger, &mut machine, kept.as_ref().map_or(0, |kept| kept.checkpoint.size)).await?;
    ledger.synced();
    compare(&ledger, kept.as_ref())?;
    mark!("tail-above-the-checkpoint", ledger.size() > kept.as_ref().map_or(0, |kept| kept.checkpoint.size));
    machine.live(check_vote(&vote, &ledger)?);
    if let Some(kept) = kept {
        ledger.resume(kept);
    }
    world.tell(LogEvent::LogRecovered { frames: journal.next_index(), leaves: ledger.size() });
    let log = LogStore::new(journal, Some(vote), ledger.clone(), joining, lock);
    Ok(Recovered { ledger, log, machine, checkpoint: Some(checkpoint) })
}

/// Opens the cell of the vote. Where it is missing or damaged, this node does not know whom it voted for.
pub(super) async fn open_vote(world: &World) -> Result<Cell, NodeError> {
    open_cell(world, VOTE).await.map_err(vote_lost)
}

/// The same, only to look at it: nothing is changed.
pub(super) async fn look_at_vote(world: &World) -> Result<Cell, NodeError> {
    look_at_cell(world, VOTE).await.map_err(vote_lost)
}

fn vote_lost(error: NodeError) -> NodeError {
    match error {
        NodeError::RolledBack(why) => NodeError::VoteLost(why),
        NodeError::Store(damage @ StoreError::Corrupt { .. }) => NodeError::VoteLost(damage.to_string()),
        error => error,
    }
}

/// Opens a cell that was made with the folder. A missing one is not created anew, because its value was lost.
pub(super) async fn open_cell(world: &World, name: &str) -> Result<Cell, NodeError> {
    is_there(world, name).await?;
    Ok(Cell::open(world.disk.clone(), Path::new(name)).await?)
}

/// The same, only to look at it: nothing is changed.
pub(super) async fn look_at_cell(world: &World, name: &str) -> Result<Cell, NodeError> {
    is_there(world, name).await?;
    Ok(Cell::look(&*world.disk, Path::new(name)).await?)
}

async fn is_there(world: &World, name: &str) -> Result<(), NodeError> {
    let there = world.disk.open(Path::new(name), OpenMode::Existing).await;
    match there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        true => Err(NodeError::RolledBack(format!("the file `{name}` is missing"))),
        false => Ok(()),
    }
}

pub(super) fn load_checkpoint(cell: &Cell, settings: &NodeSettings) -> Result<Option<SignedCheckpoint>, NodeError> {
    let Some(bytes) = cell.load() else { return Ok(None) };
    let note = String::from_utf8(bytes.into())
        .map_err(|error| NodeError::Corrupt(format!("the kept checkpoint is not text: {error}")))?;
    let key = NoteKey { name: settings.origin.clone(), key: settings.signing_key.verifying_key() };
    let checkpoint = Checkpoint::verify(&note, &key)?;
    Ok(Some(SignedCheckpoint { checkpoint, note }))
}

/// Checks that a log begins at entry 0 and has at least that entry, its first membership, unless it may never have held
/// any.
pub(super) fn check_extent(journal: &Journal, may_be_empty: bool) -> Result<(), NodeError> {
    let (first, next) = (journal.first_index(), journal.next_index());
    if first == 0 && (next > 0 || may_be_empty) {
        return Ok(());
    }
    Err(without_beginning(first, next))
}

fn without_beginning(first: u64, next: u64) -> NodeError {
    let what = format!("the log holds entries {first}..{next}");
    NodeError::RolledBack(format!("{what}; a log that was begun or joined has entry 0, its membership"))
}

/// Hashes every leaf, and applies the entries whose leaves are among the first `covered`.
pub(super) async fn replay(
    journal: &Journal,
    ledger: &Ledger,
    machine: &mut Machine,
    covered: u64,
) -> Result<(), NodeError> {
    let mut next = 0;
    while next < journal.next_index() {
        let frames = journal.read(next, journal.next_index(), REPLAY_BYTES_MAX).await?;
        if frames.is_empty() {
            return Err(NodeError::Corrupt(format!("entry {next} of the log cannot be read")));
        }
        for frame in &frames {
            replay_frame(frame, next, ledger, machine, covered)?;
            next += 1;
        }
    }
    Ok(())
}

/// Takes the next frame of a log into the ledger, and applies it where its leaves are among the first `covered`.
pub(super) fn replay_frame(
    frame: &Frame,
    index: u64,
    ledger: &Ledger,
    machine: &mut Machine,
    covered: u64,
) -> Result<(), NodeError> {
    let (entry, first_leaf) = decode_frame(frame)?;
    let (size, last) = (ledger.size(), ledger.last_log_id());
    if entry.log_id.index != index || first_leaf != size {
        let found = format!("entry {} with first leaf {first_leaf}", entry.log_id.index);
        return Err(NodeError::Corrupt(format!("{found} stands where entry {index} with first leaf {size} belongs")));
    }
    if last.is_some_and(|last| last.leader_id > entry.log_id.leader_id) {
        return Err(NodeError::Corrupt(format!("the term goes back at entry {index}, to {}", entry.log_id)));
    }
    let (stored, added) = ledger.append(entry.clone());
    // Reads encode leaves from frames: the same entry must always give the same bytes.
    if stored.body != frame.body || stored.kind != frame.kind {
        return Err(NodeError::Corrupt(format!("entry {index} is not in the form that this version writes")));
    }
    if added.first_leaf + added.leaves <= covered {
        machine.replay(&entry);
    }
    Ok(())
}

/// Checks that a log that ends with this frame has as many leaves as its own checkpoint covers.
fn reaches(last: Option<&Frame>, covered: u64) -> Result<(), NodeError> {
    match last.map(decode_frame).transpose() {
        Ok(None) if covered > 0 => Err(without_beginning(0, 0)),
        Ok(Some((entry, first_leaf))) => match first_leaf + leaves(&entry).len() as u64 {
            found if found < covered => Err(went_back(found, covered)),
            _ => Ok(()),
        },
        // A frame that holds no entry is refused later, where all of them are read.
        Ok(None) | Err(_) => Ok(()),
    }
}

fn went_back(found: u64, covered: u64) -> NodeError {
    mark!("log-went-back");
    NodeError::RolledBack(format!("the log has {found} leaves, its own checkpoint covers {covered}"))
}

/// Compares the log with this node's own checkpoint.
pub(super) fn compare(ledger: &Ledger, kept: Option<&SignedCheckpoint>) -> Result<(), NodeError> {
    let Some(SignedCheckpoint { checkpoint, .. }) = kept else { return Ok(()) };
    let (size, found) = (checkpoint.size, ledger.size());
    match ledger.root_at(size) {
        None => Err(went_back(found, size)),
        Some(root) if root != checkpoint.root => {
            Err(NodeError::RolledBack(format!("the root of the first {size} leaves is not that of its own checkpoint")))
        }
        Some(_) => Ok(()),
    }
}

/// Returns the last term that may have been led before. Refuses a vote that is older than the log: it was stored before
/// the log's entries, so a newer one was lost, and a node that forgot its vote could vote twice.
pub(super) fn check_vote(vote: &Cell, ledger: &Ledger) -> Result<u64, NodeError> {
    let voted = voted_for(vote)?;
    if let Some(last) = ledger.last_log_id() {
        not_older(voted, last.leader_id)?;
    }
    Ok(voted.term)
}

/// The leader that this node voted for last. Before its first vote that is none, of term 0.
pub(super) fn voted_for(vote: &Cell) -> Result<CommittedLeaderId<u64>, NodeError> {
    let vote = vote.load().map(decode_vote).transpose()?;
    Ok(vote.map_or(CommittedLeaderId::default(), |Vote { leader_id, .. }| {
        CommittedLeaderId::new(leader_id.term, leader_id.node_id)
    }))
}

/// Refuses a vote that is older than an entry of the leader `last`. One term may have two leaders, one after the other,
/// the later one with the larger node id; so whole leader ids are compared, never terms alone.
pub(super) fn not_older(voted: CommittedLeaderId<u64>, last: CommittedLeaderId<u64>) -> Result<(), NodeError> {
    if voted >= last {
        return Ok(());
    }
    let said = |id: CommittedLeaderId<u64>| format!("of term {} (node {})", id.term, id.node_id);
    Err(NodeError::VoteLost(format!("the vote is {}, the log's last entry {}", said(voted), said(last))))
}

/// Reports that stored bytes are not what they were.
pub(super) fn tell_corruption(observer: &dyn Observer, error: &NodeError) {
    let (file, offset, what) = match error {
        NodeError::Store(StoreError::Corrupt { file, offset, what }) => (file.clone(), *offset, what.clone()),
        NodeError::Decode(DecodeError::Short { what, .. } | DecodeError::Invalid { what, .. }) => {
            ((*what).to_owned(), 0, error.to_string())
        }
        NodeError::OwnCheckpoint(_) => (CHECKPOINT.to_owned(), 0, error.to_string()),
        NodeError::VoteLost(_) => {
            mark!("vote-lost");
            (VOTE.to_owned(), 0, error.to_string())
        }
        NodeError::RolledBack(_) | NodeError::Corrupt(_) => (JOURNAL.to_owned(), 0, error.to_string()),
        _ => return,
    };
    observer.see(LogEvent::CorruptionFound { file, offset, what });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one term the node with the larger id may be elected after the other one was.
    #[test]
    fn a_vote_for_the_first_leader_of_a_term_is_older_than_an_entry_of_the_second() {
        let id = CommittedLeaderId::new;
        for (voted, last, is_old) in [
            (id(0, 0), id(0, 0), false),
            (id(5, 2), id(5, 2), false),
            (id(5, 2), id(5, 1), false),
            (id(6, 1), id(5, 3), false),
            (id(5, 1), id(5, 2), true),
            (id(4, 3), id(5, 1), true),
        ] {
            assert_eq!(matches!(not_older(voted, last), Err(NodeError::VoteLost(_))), is_old, "{voted} and {last}");
        }
    }
}
