//! What an outbox starts from: the files of its last life, or a new epoch.
//!
//! The order of the writes is the point of this file. Whatever a crash leaves, the next start must find either the same
//! epoch with all that was accepted, or open a new one that cannot meet the old one in the log.

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

/// Where the kept checkpoint is.
const CHECKPOINT: &str = "outbox/checkpoint";
/// Says that the kept checkpoint is lost and is not to be waited for. Made by an operator, removed once it was heeded.
const CHECKPOINT_LOST: &str = "outbox/checkpoint-lost";

/// Opens the outbox of `client`, kept as `options` say, and the kept checkpoint.
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
    // Before an epoch is opened: from then on its absence is a loss.
    let witness = open_witness(world, found.as_ref().is_some_and(|record| record.opened)).await?;
    let (record, journal) = open_epoch(world, client, options, &mut cell, found, pointer).await?;

    let noted = pointer.filter(|pointer| pointer.epoch == record.epoch).map_or(0, |pointer| pointer.acknowledged);
    // Segments are given up only after the pointer that covers them; but the pointer may be the older of the two where
    // its last store was cut off.
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
    // Whoever kept it may have died before it could say so.
    for DeadLetter { epoch, sequence, reason, .. } in owed() {
        world.tell(LogEvent::DeadLettered { epoch: epoch.0, sequence: sequence.0, reason: reason.clone() });
    }
    let (client, key, epoch) = (client.clone(), record.key(), record.epoch);
    let recovered =
        Recovered { client, epoch, key, journal, dead, closings, acknowledged, pointer: pointer_cell, _lock: lock };
    Ok((recovered, witness))
}

/// Opens the kept checkpoint, or makes one that knows nothing yet. An outbox that had one is not given another without a
/// word: its client would take a log that went back for the log that it knew.
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
        // Once, not for every loss to come. A crash before this is durable leaves it beside a checkpoint that is there.
        let disk = |what| move |why| ClientError::Disk { what, why };
        world.disk.remove(consent).await.map_err(disk("remove the word that its checkpoint is lost"))?;
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

/// The epoch to go on in, with its journal: sequence 0 is in it and durable.
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
    // A pointer is never newer than the epoch that it belongs to, unless the epoch itself was lost.
    let newest = found.as_ref().map(|record| record.epoch).max(pointer.map(|pointer| pointer.epoch));
    if let Some(record) = found {
        let mut journal = open_journal(world, &record, options).await?;
        let used = pointer.filter(|pointer| pointer.epoch == record.epoch).map_or(0, |pointer| pointer.acknowledged);
        let lost = journal.next_index() < used.max(u64::from(record.opened));
        if !lost {
            let record = finish_opening(record, &mut journal, cell).await?;
            return Ok((record, journal));
        }
        // The journal is shorter than what had been durable in it: sequences would be given away twice. Nobody knows
        // what else it held, so the new epoch says that what came before is unknown.
    }
    let record = EpochRecord::new(client.clone(), newest);
    // A crash after this store finds the record, not opened, with an empty journal, and goes on right here.
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
    // Frames may have outlived a process crash in the page cache only. They must not be sent before they are durable:
    // a power loss would then give their sequences to other entries.
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
