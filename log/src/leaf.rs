//! Entries and leaves: what is signed and what is hashed, in a hand-written, versioned, length-prefixed encoding.
//!
//! A client signs the bytes of an entry, and the tree hashes the bytes of a leaf, which contains the bytes of the
//! entry. So bytes are kept exactly as they came: nothing here encodes again what another program wrote, and every
//! value has exactly one encoding. All numbers are big-endian.
//!
//! ```text
//! entry = "gapless/entry/v1\0"  client: length u8, name  epoch u64  sequence u64  kind u8  body: length u64, bytes
//!         signature: 64 bytes, Ed25519 over everything before it
//! body  = 1 epoch opened:   key 32 bytes, then 0, or 1 with previous epoch u64 and its last sequence u64
//!         2 event:          the payload
//!         3 dead-lettered:  SHA-256 of the rejected payload, then the reason in UTF-8
//! leaf  = "gapless/leaf/v1\0"  term u64  raft index u64  position u32  kind u8  content: length u64, bytes
//! content = 1 entry: the entry's bytes    2 leader started: node u64    3 membership: opaque bytes
//!           4 clock anomaly: node u64, by milliseconds i64
//! ```

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::note::{BadSignature, SigningKey, VerifyingKey};

/// Largest payload of an entry, in bytes (60 KiB): with its envelope, the leaf then fits into the 65,535 bytes of a
/// C2SP tlog-tiles entry bundle. The server refuses larger payloads; decoding does not.
pub const PAYLOAD_BYTES_MAX: usize = 60 * 1024;

/// The beginning of every entry. Bytes that were signed for another purpose never pass for an entry.
const ENTRY_DOMAIN: &[u8] = b"gapless/entry/v1\0";
/// The beginning of every leaf.
const LEAF_DOMAIN: &[u8] = b"gapless/leaf/v1\0";
/// Longest name of a client in bytes, as in DNS.
const CLIENT_BYTES_MAX: usize = 253;
/// Length of an Ed25519 signature in bytes.
const SIGNATURE_BYTES: usize = 64;

const BODY_EPOCH_OPENED: u8 = 1;
const BODY_EVENT: u8 = 2;
const BODY_DEAD_LETTERED: u8 = 3;

const CONTENT_ENTRY: u8 = 1;
const CONTENT_LEADER_STARTED: u8 = 2;
const CONTENT_MEMBERSHIP: u8 = 3;
const CONTENT_CLOCK_ANOMALY: u8 = 4;

/// Position of a leaf in the log, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub u64);

/// Position of an entry in its client's epoch, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

/// One life of a client's outbox. A larger epoch is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The client that appends: the DNS name in its certificate, which is 1 to 253 bytes of `a-z 0-9 - .`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Checks the length and the characters of a name.
    ///
    /// # Errors
    /// If the name is empty, is too long, or contains any other character.
    pub fn new(name: &str) -> Result<Self, DecodeError> {
        let invalid = |why| Err(DecodeError::Invalid { what: "client", why });
        if name.is_empty() || name.len() > CLIENT_BYTES_MAX {
            return invalid(format!("its name has {} bytes, not 1 to {CLIENT_BYTES_MAX}", name.len()));
        }
        if let Some(c) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.')) {
            return invalid(format!("its name has `{}`, which is none of `a-z 0-9 - .`", c.escape_default()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ClientId {
    type Error = DecodeError;

    fn try_from(name: String) -> Result<Self, DecodeError> {
        Self::new(&name)
    }
}

impl From<ClientId> for String {
    fn from(client: ClientId) -> Self {
        client.0.as_ref().into()
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Sequence 0 of each epoch. It carries the key that signs the epoch's entries, and what came before: the previous
    /// epoch with its last sequence, or `None` if that is unknown.
    EpochOpened {
        /// The key that signs every entry of the epoch, this one included.
        key: VerifyingKey,
        /// The previous epoch, and the last sequence that it gave out.
        previous: Option<(Epoch, Sequence)>,
    },
    /// An audit event, which is opaque to the log.
    Event(Bytes),
    /// Closes the slot of an entry that was rejected for good.
    DeadLettered {
        /// SHA-256 of the rejected payload.
        digest: [u8; 32],
        /// Why it was rejected.
        reason: String,
    },
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Body::EpochOpened { .. } => BODY_EPOCH_OPENED,
            Body::Event(_) => BODY_EVENT,
            Body::DeadLettered { .. } => BODY_DEAD_LETTERED,
        }
    }

    fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        match self {
            Body::EpochOpened { key, previous } => {
                to.put_slice(&key.0);
                to.put_u8(previous.is_some().into());
                if let Some((epoch, sequence)) = previous {
                    to.put_u64(epoch.0);
                    to.put_u64(sequence.0);
                }
            }
            Body::Event(payload) => return payload.clone(),
            Body::DeadLettered { digest, reason } => {
                to.put_slice(digest);
                to.put_slice(reason.as_bytes());
            }
        }
        to.freeze()
    }

    fn decode(kind: u8, bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new("entry body", bytes);
        match kind {
            BODY_EPOCH_OPENED => {
                let key = VerifyingKey(from.array()?);
                let previous = match from.u8()? {
                    0 => None,
                    1 => Some((Epoch(from.u64()?), Sequence(from.u64()?))),
                    flag => return Err(from.invalid(format!("its presence flag is {flag}"))),
                };
                from.end()?;
                Ok(Body::EpochOpened { key, previous })
            }
            BODY_EVENT => Ok(Body::Event(from.rest())),
            BODY_DEAD_LETTERED => {
                let digest = from.array()?;
                match String::from_utf8(from.rest().into()) {
                    Ok(reason) => Ok(Body::DeadLettered { digest, reason }),
                    Err(error) => Err(from.invalid(format!("its reason is not UTF-8: {error}"))),
                }
            }
            _ => Err(from.invalid(format!("its kind {kind} is unknown in version 1"))),
        }
    }
}

/// One entry as its client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The client.
    pub client: ClientId,
    /// The life of the client's outbox.
    pub epoch: Epoch,
    /// Position in that life.
    pub sequence: Sequence,
    /// The content.
    pub body: Body,
}

impl Entry {
    /// Encodes and signs the entry. The signature covers every byte before it, under the domain `gapless/entry/v1\0`.
    pub fn sign(&self, key: &SigningKey) -> SignedEntry {
        let mut to = self.encode_unsigned();
        let signature = key.sign(&to);
        to.put_slice(&signature);
        SignedEntry { bytes: to.freeze(), entry: self.clone() }
    }

    fn encode_unsigned(&self) -> BytesMut {
        let (client, body) = (self.client.as_str().as_bytes(), self.body.encode());
        let fixed = ENTRY_DOMAIN.len() + 1 + 8 + 8 + 1 + 8 + SIGNATURE_BYTES;
        let mut to = BytesMut::with_capacity(fixed + client.len() + body.len());
        to.put_slice(ENTRY_DOMAIN);
        // A client's name has at most 253 bytes, see `ClientId::new`.
        to.put_u8(client.len() as u8);
        to.put_slice(client);
        to.put_u64(self.epoch.0);
        to.put_u64(self.sequence.0);
        to.put_u8(self.body.kind());
        to.put_u64(body.len() as u64);
        to.put_slice(&body);
        to
    }
}

/// An entry with its signature: the exact bytes that the client wrote, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    bytes: Bytes,
    entry: Entry,
}

impl SignedEntry {
    /// Decodes an entry, without verifying its signature.
    ///
    /// # Errors
    /// If the bytes are not an entry of version 1, end early, or go on after it. The size of a payload is not judged.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new("entry", bytes.clone());
        from.domain(ENTRY_DOMAIN)?;
        let length = from.u8()?;
        let name = from.take(length.into())?;
        let client = match std::str::from_utf8(&name) {
            Ok(name) => ClientId::new(name)?,
            Err(error) => return Err(from.invalid(format!("its client is not UTF-8: {error}"))),
        };
        let (epoch, sequence, kind) = (Epoch(from.u64()?), Sequence(from.u64()?), from.u8()?);
        let body = from.length_prefixed()?;
        let _signature: [u8; SIGNATURE_BYTES] = from.array()?;
        from.end()?;
        let body = Body::decode(kind, body)?;
        Ok(Self { bytes, entry: Entry { client, epoch, sequence, body } })
    }

    /// Returns the exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns what the bytes mean.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Returns the SHA-256 of the bytes. It is the same each time that an entry is sent.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Checks that `key` made the signature.
    ///
    /// # Errors
    /// If it did not.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), BadSignature> {
        // Both ways to make a signed entry put the signature behind at least the domain.
        let (signed, signature) = self.bytes.split_at(self.bytes.len() - SIGNATURE_BYTES);
        key.verify(signed, signature)
    }
}

/// Why bytes do not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} ends after {have} bytes")]
    Short {
        /// What was decoded.
        what: &'static str,
        /// The number of bytes that there were.
        have: usize,
    },
    /// Anything else.
    #[error("{what}: {why}")]
    Invalid {
        /// What was decoded.
        what: &'static str,
        /// Why it is not valid.
        why: String,
    },
}

/// One leaf of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Raft term. With the Raft index and the position in the batch, it says where the log itself put the leaf.
    pub term: u64,
    /// Raft index.
    pub raft_index: u64,
    /// Position in the batch of that Raft index.
    pub position: u32,
    /// The content.
    pub content: Content,
}

/// The content of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A client's entry.
    Entry(SignedEntry),
    /// A node became the leader.
    LeaderStarted {
        /// The node.
        node: u64,
    },
    /// The cluster's voters and learners changed. The bytes are opaque here; `cluster` writes them.
    Membership(Bytes),
    /// A node's wall clock moved relative to its monotonic clock: times in the entries near this leaf may be wrong. The
    /// order is not affected, because it depends on no clock.
    ClockAnomaly {
        /// The node.
        node: u64,
        /// The number of milliseconds by which it moved; negative if it moved back.
        by_ms: i64,
    },
}

impl Leaf {
    /// Encodes the leaf in version 1.
    pub fn encode(&self) -> Bytes {
        let (kind, content) = match &self.content {
            Content::Entry(entry) => (CONTENT_ENTRY, entry.bytes.clone()),
            Content::LeaderStarted { node } => (CONTENT_LEADER_STARTED, Bytes::copy_from_slice(&node.to_be_bytes())),
            Content::Membership(bytes) => (CONTENT_MEMBERSHIP, bytes.clone()),
            Content::ClockAnomaly { node, by_ms } => {
                let mut to = BytesMut::with_capacity(16);
                to.put_u64(*node);
                to.put_i64(*by_ms);
                (CONTENT_CLOCK_ANOMALY, to.freeze())
            }
        };
        let mut to = BytesMut::with_capacity(LEAF_DOMAIN.len() + 8 + 8 + 4 + 1 + 8 + content.len());
        to.put_slice(LEAF_DOMAIN);
        to.put_u64(self.term);
        to.put_u64(self.raft_index);
        to.put_u32(self.position);
        to.put_u8(kind);
        to.put_u64(content.len() as u64);
        to.put_slice(&content);
        to.freeze()
    }

    /// Decodes a leaf, without verifying the signature of its entry.
    ///
    /// # Errors
    /// If the bytes are not a leaf of version 1, end early, or go on after it.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new("leaf", bytes);
        from.domain(LEAF_DOMAIN)?;
        let (term, raft_index, position, kind) = (from.u64()?, from.u64()?, from.u32()?, from.u8()?);
        let content = from.length_prefixed()?;
        from.end()?;
        let content = match kind {
            CONTENT_ENTRY => Content::Entry(SignedEntry::decode(content)?),
            CONTENT_LEADER_STARTED => {
                let mut from = Reader::new("leader-started leaf", content);
                let node = from.u64()?;
                from.end()?;
                Content::LeaderStarted { node }
            }
            CONTENT_MEMBERSHIP => Content::Membership(content),
            CONTENT_CLOCK_ANOMALY => {
                let mut from = Reader::new("clock-anomaly leaf", content);
                let (node, by_ms) = (from.u64()?, i64::from_be_bytes(from.array()?));
                from.end()?;
                Content::ClockAnomaly { node, by_ms }
            }
            _ => return Err(from.invalid(format!("its kind {kind} is unknown in version 1"))),
        };
        Ok(Leaf { term, raft_index, position, content })
    }
}

/// Takes bytes from the front, and never more than there are.
struct Reader {
    what: &'static str,
    have: usize,
    left: Bytes,
}

impl Reader {
    fn new(what: &'static str, bytes: Bytes) -> Self {
        Self { what, have: bytes.len(), left: bytes }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if self.left.len() < length {
            return Err(DecodeError::Short { what: self.what, have: self.have });
        }
        Ok(self.left.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Takes the bytes that follow their length. The length is a `u64`, so that no length in memory is too long to be
    /// written.
    fn length_prefixed(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u64()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.left)
    }

    fn domain(&mut self, domain: &[u8]) -> Result<(), DecodeError> {
        if self.take(domain.len())? != domain {
            return Err(self.invalid("it does not begin with the domain of version 1".into()));
        }
        Ok(())
    }

    fn end(&self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            more => Err(self.invalid(format!("{more} bytes follow its end"))),
        }
    }

    fn invalid(&self, why: String) -> DecodeError {
        DecodeError::Invalid { what: self.what, why }
    }
}

#[cfg(test)]
mod tests;
