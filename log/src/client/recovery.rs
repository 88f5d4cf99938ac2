//! What an outbox starts from: the files of its last life, or a new epoch.
//!
//! The order of the writes is the point of this file. Whatever a crash leaves, the next start must either find the same
//! epoch with everything that was accepted, or open a new one that cannot collide with the old one in the log.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use gapless_world::{LogEvent, OpenMode, World};
use tokio::time::{Instant, sleep};

use super::{
    dead_letter::{DeadLetter, DeadLetters},
    epoch::EpochRecord,
    error::ClientError,
    outbox::{KIND_OPENED, Pointer, Recovered},
    witness::Witness,
};
use crate::{
    leaf::{Body, ClientId, Entry, Epoch, Sequence},
    store::{Cell, Frame, Journal, JournalOptions},
};

const FOLDER: &str = "outbox";
/// The client before this one may still be closing its files.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// The file of the kept checkpoint.
const CHECKPOINT: &str = "outbox/checkpoint";
/// A file that says that the kept checkpoint is lost and will not come back. An operator creates it, and the client
/// removes it once it has acted on it.
const CHECKPOINT_LOST: &str = "outbox/checkpoint-lost";

/// Opens the outbox of `client`, stored as `options` say, and the kept checkpoint.
pub(crate) async fn recover(
    world: &World,
    client: &ClientId,
    options: JournalOptions,
) -> Result<(Recovered, Witness), ClientError> {
    let lock = lock(world).await?;
    let outbox = Path::new(FOLDER);
    let disk = |what| move |why| ClientError::Disk { what, why };
    world.disk.create_folder(outbox).await.map_err(disk("create its folder"))?;
    world.disk.sync_folder(Path::new("")).await.map_err(disk("sync the data folder"))?;
    let (observer, files) = (world.observer.clone(), world.disk.clone());
    let (dead, letters) = DeadLetters::open(files.clone(), observer, &outbox.join("dead-letters"), client).await?;
    let (pointer_cell, pointer) = Pointer::load(world, &outbox.join("acknowledged")).await?;
    let (mut cell, found) = EpochRecord::load(files, &outbox.join("epoch")).await?;
    // This comes before an epoch is opened: from then on, a missing checkpoint is a loss.
    let witness = open_witness(world, found.as_ref().is_some_and(|record| record.opened)).await?;
    let (record, journal) = open_epoch(world, client, options, &mut cell, found, pointer).await?;

    let noted = pointer.filter(|pointer| pointer.epoch == record.epoch).map_or(0, |pointer| pointer.acknowledged);
    // Segments are given up only after the pointer that covers them is stored; but the pointer may be the older of the
    // two if its last store was cut off.
    let acknowledged = noted.max(journal.first_index());
    let owed = || letters.iter().filter(|letter| letter.epoch == record.epoch && letter.sequence.0 >= acknowledged);
    let closings: BTreeMap<u64, _> = owed().map(|letter| (letter.sequence.0, letter.closing.clone())).collect();
    mark!("outbox-had-a-rest", journal.next_index() > acknowledged && acknowledged > 0);
    mark!("closing-entry-owed", !closings.is_empty());
    world.tell(LogEvent::OutboxRecovered {
        epoch: record.epoch.0,
        next_sequence: journal.next_index(),
        pending: journal.next_index() - acknowledged,
        dead_letters: u64::try_from(letters.len()).unwrap_or(u64::MAX),
    });
    // The process that kept a dead letter may have died before it could report it.
    for DeadLetter { epoch, sequence, reason, .. } in owed() {
        world.tell(LogEvent::DeadLettered { epoch: epoch.0, sequence: sequence.0, reason: reason.clone() });
    }
    let (client, key, epoch) = (client.clone(), record.key(), record.epoch);
    let recovered =
        Recovered { client, epoch, key, journal, dead, closings, acknowledged, pointer: pointer_cell, _lock: lock };
    Ok((recovered, witness))
}

/// Opens the kept checkpoint, or creates one that knows nothing yet. An outbox that had one does not silently get
/// another: its client would take a log that was rolled back for the log that it knew.
async fn open_witness(world: &World, had_one: bool) -> Result<Witness, ClientError> {
    let (file, consent) = (Path::new(CHECKPOINT), Path::new(CHECKPOINT_LOST));
    let exists = async |path: &Path| match world.disk.open(path, OpenMode::Existing).await {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(ClientError::Disk { what: "look for the kept checkpoint", why }),
    };
    let agreed = exists(consent).await?;
    if had_one && !exists(file).await? {
        if !agreed {
            return Err(ClientError::CheckpointLost {
                file: CHECKPOINT.to_owned(),
                consent: CHECKPOINT_LOST.to_owned(),
            });
        }
        tracing::warn!("`{CHECKPOINT}` was lost: this client trusts the log anew from what it shows next");
    }
    let witness = Witness::open(world.disk.clone(), world.observer.clone(), file).await?;
    if agreed {
        // The consent covers one loss, not every loss to come. A crash before its removal is durable leaves it beside a
        // checkpoint that exists.
        let disk = |what| move |why| ClientError::Disk { what, why };
        world.disk.remove(consent).await.map_err(disk("remove the note that its checkpoint is lost"))?;
        world.disk.sync_folder(Path::new(FOLDER)).await.map_err(disk("sync its folder"))?;
    }
    Ok(witness)
}

async fn lock(world: &World) -> Result<Box<dyn Send + Sync>, ClientError> {
    let by = Instant::now() + LOCK_WAIT;
    loop {
        match world.disk.lock().await {
            Ok(lock) => return Ok(lock),
            Err(why) if why.kind() != io::ErrorKind::WouldBlock => {
                return Err(ClientError::Disk { what: "lock the data folder", why });
            }
            Err(_) if Instant::now() >= by => return Err(ClientError::InUse),
            Err(_) => sleep(LOCK_LOOK).await,
        }
    }
}

/// Returns the epoch to go on in and its journal, in which sequence 0 is durable.
async fn open_epoch(
    world: &World,
    client: &ClientId,
    options: JournalOptions,
    cell: &mut Cell,
    found: Option<EpochRecord>,
    pointer: Option<Pointer>,
) -> Result<(EpochRecord, Journal), ClientError> {
    if let Some(record) = found.as_ref().filter(|record| record.client != *client) {
        let (found, expected) = (record.client.as_str().to_owned(), client.as_str().to_owned());
        return Err(ClientError::OtherClient { found, expected });
    }
    // A pointer never names a newer epoch than the record does, unless the record itself was lost.
    let newest = found.as_ref().map(|record| record.epoch).max(pointer.map(|pointer| pointer.epoch));
    if let Some(record) = found {
        let mut journal = open_journal(world, &record, options).await?;
        let used = pointer.filter(|pointer| pointer.epoch == record.epoch).map_or(0, |pointer| pointer.acknowledged);
        let lost = journal.next_index() < used.max(u64::from(record.opened));
        if !lost {
            let record = finish_opening(record, &mut journal, cell).await?;
            return Ok((record, journal));
        }
        // The journal is shorter than what had been durable in it: sequences would be assigned twice. Nobody knows what
        // else it held, so the new epoch says that what came before is unknown.
    }
    let record = EpochRecord::new(client.clone(), newest);
    // After a crash behind this store, the next start finds the record, not opened, with an empty journal, and goes on
    // here.
    record.store(cell).await?;
    let mut journal = open_journal(world, &record, options).await?;
    let record = finish_opening(record, &mut journal, cell).await?;
    Ok((record, journal))
}

async fn open_journal(world: &World, record: &EpochRecord, options: JournalOptions) -> Result<Journal, ClientError> {
    let folder = record.folder(Path::new(FOLDER));
    let (disk, observer) = (world.disk.clone(), world.observer.clone());
    Ok(Journal::open(disk, observer, &folder, record.journal_id(), options).await?)
}

/// Makes sure that everything in the journal is durable, sequence 0 included.
async fn finish_opening(
    mut record: EpochRecord,
    journal: &mut Journal,
    cell: &mut Cell,
) -> Result<EpochRecord, ClientError> {
    if journal.next_index() == 0 {
        let frame = opening(&record);
        journal.write(&[frame])?;
    }
    // Some frames may have survived a process crash only in the page cache. They must not be sent before they are
    // durable: after a power loss, their sequences would go to other entries.
    journal.sync().await?;
    if !record.opened {
        record.opened = true;
        record.store(cell).await?;
    }
    Ok(record)
}

fn opening(record: &EpochRecord) -> Frame {
    let key = record.key();
    let body = Body::EpochOpened { key: key.verifying_key(), previous: record.previous };
    let entry = Entry { client: record.client.clone(), epoch: record.epoch, sequence: Sequence(0), body }.sign(&key);
    let Epoch(term) = record.epoch;
    Frame { index: 0, term, kind: KIND_OPENED, body: entry.bytes().clone() }
}
