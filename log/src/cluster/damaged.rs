//! A log of one that its start found damaged: what is sound is shown, and no entries are taken.
//!
//! Nobody else has the log, so its operator has to restore the folder; until then its old entries can still be read.
//! What is sound are the leaves before the first damage. They are durable, and their frames are whole and follow one
//! another. The checkpoint over them is signed anew, because the kept one covers leaves that nobody can hash any more.
//! The new one says no more than the older checkpoint of that size did, and the next life finds it consistent with the
//! whole log.
//!
//! Not a byte is changed, and Raft elects nobody, because an election would add an entry. It is unknown how fresh the
//! shown log is, and that is what readers are told. Once the folder is whole again the node ends, so that the next life
//! begins over all of it.

use std::{path::Path, sync::Arc, time::Duration};

use gapless_world::{LogEvent, World, observer::Unobserved};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    super::store::Journal,
    NodeError, NodeSettings, SignedCheckpoint,
    identity::{CHECKPOINT, FolderLock, JOURNAL},
    ledger::Ledger,
    log::LogStore,
    machine::Machine,
    recovery::{Recovered, check_extent, check_vote, compare, load_checkpoint, look_at_cell, look_at_vote, replay},
};

/// How often the folder is examined again. Where that takes long, it is done less often, so that it takes a twentieth
/// of the time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKING_SHARE: u32 = 20;

/// What a folder yields when nothing in it is changed.
struct Examined {
    journal: Journal,
    ledger: Arc<Ledger>,
    machine: Machine,
    kept: Option<SignedCheckpoint>,
    damage: Option<NodeError>,
}

/// Reads everything, up to the first damage; with `durable` only what a sync has made durable.
///
/// # Errors
/// Where the disk fails, and where what can be read is not this node's log: then nothing can be vouched for.
async fn examine(world: &World, settings: &NodeSettings, durable: bool) -> Result<Examined, NodeError> {
    let (disk, observer) = (world.disk.clone(), world.observer.clone());
    let opened = Journal::open_sound(disk, observer, Path::new(JOURNAL), settings.log_id, durable).await;
    let (journal, damage) = opened?;
    let mut damage = damage.map(NodeError::from);
    check_extent(&journal, false)?;

    let ledger = Arc::new(Ledger::new(settings.clone(), world.observer.clone()));
    let mut machine = Machine::new(ledger.clone());
    // In a log of one whatever is durable is committed.
    replay(&journal, &ledger, &mut machine, u64::MAX).await?;
    ledger.synced();

    let checkpoint = look_at_cell(world, CHECKPOINT).await;
    let mut kept = aside(checkpoint.and_then(|cell| load_checkpoint(&cell, settings)), &mut damage)?.flatten();
    if kept.as_ref().is_some_and(|kept| kept.checkpoint.size > ledger.size()) {
        aside(compare(&ledger, kept.take().as_ref()), &mut damage)?;
    }
    compare(&ledger, kept.as_ref())?;
    let vote = look_at_vote(world).await;
    aside(vote.and_then(|vote| check_vote(&vote, &ledger)), &mut damage)?;
    Ok(Examined { journal, ledger, machine, kept, damage })
}

/// Sets damage aside, keeping the first that is found, and goes on without the damaged part.
fn aside<T>(found: Result<T, NodeError>, damage: &mut Option<NodeError>) -> Result<Option<T>, NodeError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_damage() => {
            damage.get_or_insert(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Recovers what is sound of a damaged folder, for a life that takes no entries.
pub(super) async fn recover_sound(
    world: &World,
    settings: &NodeSettings,
    damage: &NodeError,
    lock: FolderLock,
) -> Result<Recovered, NodeError> {
    let Examined { journal, ledger, machine, kept, .. } = examine(world, settings, true).await?;
    ledger.close(damage.to_string());
    if let Some(kept) = kept {
        ledger.resume(kept);
    }
    ledger.sign(ledger.size());
    mark!("shown-while-damaged");
    world.tell(LogEvent::ReadOnly { leaves: ledger.size(), why: damage.to_string() });
    let log = LogStore::new(journal, None, ledger.clone(), None, lock);
    Ok(Recovered { ledger, log, machine, checkpoint: None })
}

/// Ends the node once the folder is whole again. This task ends with the node.
pub(super) async fn end_when_whole(
    world: World,
    settings: NodeSettings,
    ledger: Arc<Ledger>,
    mut stop: watch::Receiver<bool>,
) {
    // What this task sees was reported before.
    let world = World { observer: Arc::new(Unobserved), ..world };
    let mut wait = LOOK_EVERY;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(wait) => {}
        }
        let begun = Instant::now();
        if let Ok(Examined { damage: None, .. }) = examine(&world, &settings, false).await {
            mark!("whole-again");
            return ledger.fail("the log is whole again: the next start takes it as a whole".into());
        }
        wait = LOOK_EVERY.max(begun.elapsed() * LOOKING_SHARE);
    }
}
