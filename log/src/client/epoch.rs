//! The epoch: one life of an outbox, with the key that signs its entries and a record of the epoch before.
//!
//! A client whose outbox survives goes on in its epoch. A client that lost its outbox must not: it would assign
//! sequences twice. It opens a new epoch with a larger number, and the first entry of that epoch says what is known
//! about the one before, so that a loss shows in the log itself.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gapless_world::Disk;
use sha2::{Digest, Sha256};

use super::error::ClientError;
use crate::{
    leaf::{ClientId, Epoch, Sequence},
    note::SigningKey,
    store::Cell,
};

const VERSION: u8 = 1;
const WHAT: &str = "the epoch of the outbox";

/// What the cell holds. `Debug` never shows the seed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EpochRecord {
    pub(crate) client: ClientId,
    pub(crate) epoch: Epoch,
    /// The seed of the key that signs the epoch's entries.
    pub(crate) seed: [u8; 32],
    /// The epoch before with its last sequence, or `None` if unknown.
    pub(crate) previous: Option<(Epoch, Sequence)>,
    /// Whether the entry that opens the epoch has ever been durable. If not, no entry of the epoch was ever sent.
    pub(crate) opened: bool,
}

impl fmt::Debug for EpochRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochRecord({} {})", self.client.as_str(), self.epoch.0)
    }
}

/// Returns the folder of the journal of an epoch's entries. Each epoch has its own, so that what an older one left stays
/// where it is.
pub(crate) fn folder(epoch: Epoch, outbox: &Path) -> PathBuf {
    outbox.join(format!("entries-{:016x}", epoch.0))
}

/// Returns the identity of the journal of an epoch's entries.
pub(crate) fn outbox_id(client: &ClientId, epoch: Epoch) -> [u8; 16] {
    journal_id(client, b"outbox", epoch.0)
}

impl EpochRecord {
    /// Returns a new epoch. Its number is the milliseconds since 1970, or larger if needed to exceed the number that
    /// was found.
    pub(crate) fn new(client: ClientId, found: Option<Epoch>) -> EpochRecord {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let epoch = Epoch(found.map_or(now, |Epoch(found)| now.max(found.saturating_add(1))));
        EpochRecord { client, epoch, seed: SigningKey::generate().seed(), previous: None, opened: false }
    }

    pub(crate) fn key(&self) -> SigningKey {
        SigningKey::from_seed(&self.seed)
    }

    pub(crate) async fn load(disk: Arc<dyn Disk>, path: &Path) -> Result<(Cell, Option<EpochRecord>), ClientError> {
        let cell = Cell::open(disk, path).await?;
        let record = cell.load().map(EpochRecord::decode).transpose()?;
        Ok((cell, record))
    }

    pub(crate) async fn store(&self, cell: &mut Cell) -> Result<(), ClientError> {
        Ok(cell.store(self.encode()).await?)
    }

    /// Version, flags, epoch, seed, previous epoch and its last sequence, client name to the end.
    pub(crate) fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        to.put_u8(u8::from(self.opened));
        to.put_u64(self.epoch.0);
        to.put_slice(&self.seed);
        to.put_u8(u8::from(self.previous.is_some()));
        let (epoch, sequence) = self.previous.unwrap_or((Epoch(0), Sequence(0)));
        to.put_u64(epoch.0);
        to.put_u64(sequence.0);
        to.put_slice(self.client.as_str().as_bytes());
        to.freeze()
    }

    pub(crate) fn decode(mut from: Bytes) -> Result<EpochRecord, ClientError> {
        let foreign = |why: String| ClientError::Foreign { what: WHAT, why };
        if from.len() < 1 + 1 + 8 + 32 + 1 + 8 + 8 {
            return Err(foreign(format!("only {} bytes", from.len())));
        }
        let version = from.get_u8();
        if version != VERSION {
            return Err(foreign(format!("version {version}, expected {VERSION}")));
        }
        let opened = from.get_u8() == 1;
        let epoch = Epoch(from.get_u64());
        let mut seed = [0; 32];
        from.copy_to_slice(&mut seed);
        let known = from.get_u8() == 1;
        let (before, last) = (Epoch(from.get_u64()), Sequence(from.get_u64()));
        let name = std::str::from_utf8(&from).map_err(|why| foreign(why.to_string()))?;
        let client = ClientId::new(name).map_err(|why| foreign(why.to_string()))?;
        Ok(EpochRecord { client, epoch, seed, previous: known.then_some((before, last)), opened })
    }
}

/// The first 16 bytes of a hash over the client, the purpose and the epoch of a journal, so that a journal in a wrong
/// folder is noticed.
pub(crate) fn journal_id(client: &ClientId, purpose: &[u8], epoch: u64) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update(b"gapless/client-journal/v1\0")
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(epoch.to_be_bytes())
        .chain_update(client.as_str().as_bytes())
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding_and_shows_no_seed() {
        let client = ClientId::new("client-1").unwrap();
        let mut record = EpochRecord::new(client, Some(Epoch(u64::MAX - 1)));
        assert_eq!(record.epoch, Epoch(u64::MAX), "a clock that went back does not lower the number");
        for previous in [None, Some((Epoch(7), Sequence(9)))] {
            record.previous = previous;
            record.opened = !record.opened;
            assert_eq!(EpochRecord::decode(record.encode()).unwrap(), record);
        }
        assert!(!format!("{record:?}").contains(&format!("{:?}", record.seed[0..2].to_vec())));
    }
}
