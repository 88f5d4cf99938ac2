//! What an outbox starts from: the files of its last life, or a new epoch.
//!
//! The order of the writes is the point of this file. Whatever a crash leaves, the next start must either find the same
//! epoch with everything that was accepted, or open a new one that cannot collide with the old one in the log.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use bytes::Bytes;
use gapless_world::{LogEvent, OpenMode, World};
use tokio::time::{Instant, sleep};

use super::{
    dead_letter::{DeadLetter, DeadLetters},
    epoch::{self, EpochRecord},
    error::ClientError,
    moving::Moving,
    outbox::{KIND_EVENT, KIND_OPENED, Pointer, Recovered},
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
    let moving = Moving::load(world.disk.clone()).await?;
    let opening = Opening { world, client, options, letters: &letters, moving };
    let (record, journal) = opening.open_epoch(&mut cell, found, pointer).await?;

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
    let (pointer, disk) = (pointer_cell, world.disk.clone());
    let recovered = Recovered { client, epoch, key, journal, dead, closings, acknowledged, pointer, disk, _lock: lock };
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

/// What an epoch is opened with.
struct Opening<'a> {
    world: &'a World,
    client: &'a ClientId,
    options: JournalOptions,
    letters: &'a [DeadLetter],
    /// The entries of an earlier epoch that move to the one after it.
    moving: Option<Moving>,
}

impl Opening<'_> {
    /// Returns the epoch to go on in and its journal, in which sequence 0 is durable.
    async fn open_epoch(
        &self,
        cell: &mut Cell,
        found: Option<EpochRecord>,
        pointer: Option<Pointer>,
    ) -> Result<(EpochRecord, Journal), ClientError> {
        if let Some(record) = found.as_ref().filter(|record| record.client != *self.client) {
            let (found, expected) = (record.client.as_str().to_owned(), self.client.as_str().to_owned());
            return Err(ClientError::OtherClient { found, expected });
        }
        // A pointer never names a newer epoch than the record does, unless the record itself was lost.
        let newest = found.as_ref().map(|record| record.epoch).max(pointer.map(|pointer| pointer.epoch));
        let left = self.moving.as_ref().filter(|it| found.as_ref().is_some_and(|record| record.epoch == it.epoch));
        if let Some(record) = found.filter(|_| left.is_none()) {
            let mut journal = self.open_journal(record.epoch).await?;
            let used =
                pointer.filter(|pointer| pointer.epoch == record.epoch).map_or(0, |pointer| pointer.acknowledged);
            let lost = journal.next_index() < used.max(u64::from(record.opened));
            if !lost {
                let record = self.finish_opening(record, &mut journal, cell).await?;
                return Ok((record, journal));
            }
            // The journal is shorter than what had been durable in it: sequences would be assigned twice. Nobody knows
            // what else it held, so the new epoch says that what came before is unknown.
        }
        let record = match left {
            Some(moving) => moving.to.clone(),
            None => EpochRecord::new(self.client.clone(), newest),
        };
        // After a crash behind this store, the next start finds the record, not opened, with an empty journal, and goes
        // on here.
        record.store(cell).await?;
        let mut journal = self.open_journal(record.epoch).await?;
        let record = self.finish_opening(record, &mut journal, cell).await?;
        Ok((record, journal))
    }

    async fn open_journal(&self, epoch: Epoch) -> Result<Journal, ClientError> {
        let (disk, observer) = (self.world.disk.clone(), self.world.observer.clone());
        let (folder, id) = (epoch::folder(epoch, Path::new(FOLDER)), epoch::outbox_id(self.client, epoch));
        Ok(Journal::open(disk, observer, &folder, id, self.options).await?)
    }

    /// Makes sure that everything in the journal is durable: sequence 0, and what moves here from an earlier epoch.
    async fn finish_opening(
        &self,
        mut record: EpochRecord,
        journal: &mut Journal,
        cell: &mut Cell,
    ) -> Result<EpochRecord, ClientError> {
        if journal.next_index() == 0 {
            journal.write(&[opening(&record)])?;
        }
        if !record.opened {
            self.move_entries(&record, journal).await?;
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

    /// Makes the entries that move durable in the journal of an epoch that is not open yet. A start that was cut off
    /// may have written the first of them.
    async fn move_entries(&self, record: &EpochRecord, journal: &mut Journal) -> Result<(), ClientError> {
        let Some(moving) = self.moving.as_ref().filter(|moving| moving.to.epoch == record.epoch) else { return Ok(()) };
        let old = self.open_journal(moving.epoch).await?;
        if old.next_index() <= moving.from {
            let epoch = moving.epoch.0;
            tracing::warn!("the entries of epoch {epoch} were to move to a new epoch, and their journal is lost");
        }
        let (mut next, mut sequence, there) = (0, 1, journal.next_index());
        loop {
            let payloads = moving.read(&old, self.letters, &mut next).await?;
            let moved = || (sequence..).zip(&payloads);
            let missing = moved().filter(|(sequence, _)| *sequence >= there);
            let frames: Vec<Frame> =
                missing.map(|(sequence, payload)| event(record, sequence, payload.clone())).collect();
            mark!("entries-moved-to-a-new-epoch", !frames.is_empty());
            journal.write(&frames)?;
            journal.sync().await?;
            // The start that wrote an entry may have been cut off before it could tell.
            for (sequence, payload) in moved() {
                let entry = payload.clone();
                self.world.tell(LogEvent::EntryAccepted { epoch: record.epoch.0, sequence, entry });
            }
            sequence += payloads.len() as u64;
            if payloads.is_empty() {
                return Ok(());
            }
        }
    }
}

fn opening(record: &EpochRecord) -> Frame {
    let body = Body::EpochOpened { key: record.key().verifying_key(), previous: record.previous };
    frame(record, 0, KIND_OPENED, body)
}

fn event(record: &EpochRecord, sequence: u64, payload: Bytes) -> Frame {
    frame(record, sequence, KIND_EVENT, Body::Event(payload))
}

fn frame(record: &EpochRecord, sequence: u64, kind: u8, body: Body) -> Frame {
    let entry = Entry { client: record.client.clone(), epoch: record.epoch, sequence: Sequence(sequence), body };
    let Epoch(term) = record.epoch;
    Frame { index: sequence, term, kind, body: entry.sign(&record.key()).bytes().clone() }
}
