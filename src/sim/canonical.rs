//! Writes the bytes of an event for the hash of its run: a serializer that writes every field, quickly and in only one
//! way.
//!
//! Numbers have a fixed width. Texts, bytes and lists have their length before them, options and the entries of a map a
//! byte that says whether one follows, and variants their number or name. A reader that knows the types could therefore
//! read the events back, so two different events never have the same bytes. Nothing else is promised: no file holds
//! this format, and it may change with any build.

use std::fmt;

use blake3::Hasher;
use serde::ser::{self, Serialize};

/// Appends `value` to `to`.
///
/// # Errors
/// If a type refuses to be serialized. The types of a history never do.
pub(super) fn write(value: &impl Serialize, to: &mut Sink) -> Result<(), Refused> {
    value.serialize(Canonical(to))
}

/// The reason that a type gave for its refusal.
#[derive(Debug, thiserror::Error)]
#[error("cannot be hashed: {0}")]
pub(super) struct Refused(String);

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Refused(text.to_string())
    }
}

/// The least number of bytes that are hashed at once.
const PIECE_BYTES: usize = 64 << 10;
/// Only multiples of this many bytes are hashed. BLAKE3 takes sixteen of its chunks side by side, but only from such a
/// boundary on: off it, it is several times slower.
const STEP_BYTES: usize = 16 << 10;
/// A piece that is at least this large is hashed in place, except for its two ends.
const LARGE_BYTES: usize = 2 * STEP_BYTES;

/// Feeds bytes into a hash: BLAKE3, which takes less than half of SHA-256's time here.
pub(super) struct Sink {
    hasher: Hasher,
    /// Bytes that are not hashed yet, because a small piece costs as much as a large one.
    waiting: Vec<u8>,
}

impl Sink {
    pub(super) fn new() -> Self {
        Sink { hasher: Hasher::new(), waiting: Vec::with_capacity(2 * PIECE_BYTES) }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.waiting.push(byte);
    }

    /// Appends bytes. It is inlined because most of what comes is a number.
    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        if bytes.len() >= LARGE_BYTES {
            return self.take_large(bytes);
        }
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE_BYTES {
            self.hash_waiting();
        }
    }

    fn hash_waiting(&mut self) {
        let whole = self.waiting.len() / STEP_BYTES * STEP_BYTES;
        self.hasher.update(&self.waiting[..whole]);
        self.waiting.drain(..whole);
    }

    fn take_large(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(self.waiting.len().next_multiple_of(STEP_BYTES) - self.waiting.len());
        self.waiting.extend_from_slice(head);
        let (whole, tail) = rest.split_at(rest.len() / STEP_BYTES * STEP_BYTES);
        self.hasher.update(&self.waiting).update(whole);
        self.waiting.clear();
        self.waiting.extend_from_slice(tail);
    }

    /// Returns the hash over all bytes so far, in hex.
    pub(super) fn hash(&self) -> String {
        self.hasher.clone().update(&self.waiting).finalize().to_string()
    }
}

struct Canonical<'b>(&'b mut Sink);

impl Canonical<'_> {
    fn put(self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn sized(self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.put(bytes)
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, number: $type) -> Result<(), Refused> {
            self.put(&number.to_le_bytes())
        })*
    };
}

impl<'b> ser::Serializer for Canonical<'b> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'b>;
    type SerializeTuple = Parts<'b>;
    type SerializeTupleStruct = Parts<'b>;
    type SerializeTupleVariant = Parts<'b>;
    type SerializeMap = Parts<'b>;
    type SerializeStruct = Parts<'b>;
    type SerializeStructVariant = Parts<'b>;

    /// Makes types write bytes as they are and not as text.
    fn is_human_readable(&self) -> bool {
        false
    }

    numbers!(
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128, serialize_u8 u8,
        serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128, serialize_f32 f32,
        serialize_f64 f64
    );

    fn serialize_bool(self, truth: bool) -> Result<(), Refused> {
        self.put(&[u8::from(truth)])
    }

    fn serialize_char(self, character: char) -> Result<(), Refused> {
        self.put(&u32::from(character).to_le_bytes())
    }

    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.sized(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        self.sized(bytes)
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.put(&[0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.0.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_variant(self, _name: &'static str, index: u32, _variant: &'static str) -> Result<(), Refused> {
        self.put(&index.to_le_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.0.extend_from_slice(&index.to_le_bytes());
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'b>, Refused> {
        Parts::listed(self, len)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Parts<'b>, Refused> {
        Ok(Parts::known(self))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Parts<'b>, Refused> {
        Ok(Parts::known(self))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Parts<'b>, Refused> {
        self.0.extend_from_slice(&index.to_le_bytes());
        Ok(Parts::known(self))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'b>, Refused> {
        Parts::listed(self, len)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Parts<'b>, Refused> {
        Ok(Parts::known(self))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Parts<'b>, Refused> {
        self.0.extend_from_slice(&index.to_le_bytes());
        Ok(Parts::known(self))
    }
}

/// The parts of a compound value.
struct Parts<'b> {
    to: &'b mut Sink,
    /// Whether the number of parts follows neither from the type nor from a written length. A byte before each part
    /// then says that it is there, and one at the end that none follows.
    open: bool,
}

impl<'b> Parts<'b> {
    fn known(to: Canonical<'b>) -> Self {
        Parts { to: to.0, open: false }
    }

    fn listed(to: Canonical<'b>, len: Option<usize>) -> Result<Self, Refused> {
        // A length of this value means that the length was unknown.
        let told = len.map_or(u64::MAX, |len| len as u64);
        to.0.extend_from_slice(&told.to_le_bytes());
        Ok(Parts { to: to.0, open: len.is_none() })
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        if self.open {
            self.to.push(1);
        }
        value.serialize(Canonical(self.to))
    }

    fn close(self) -> Result<(), Refused> {
        if self.open {
            self.to.push(0);
        }
        Ok(())
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(Canonical(self.to))
    }

    fn end(self) -> Result<(), Refused> {
        self.close()
    }
}

macro_rules! compound {
    ($($of:ident $method:ident),*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.part(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close()
            }
        })*
    };
}

compound!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! structure {
    ($($of:ident),*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            /// Writes no name: the type determines which fields there are.
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Refused> {
                self.part(value)
            }

            /// Refuses: a field that is left out would move the others.
            fn skip_field(&mut self, field: &'static str) -> Result<(), Refused> {
                Err(ser::Error::custom(format_args!("the field `{field}` is left out at times")))
            }

            fn end(self) -> Result<(), Refused> {
                self.close()
            }
        })*
    };
}

structure!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::{EntryId, Event, Found, LeafBytes, Outcome, What};
    use gapless_world::LogEvent;

    fn bytes(what: What) -> Vec<u8> {
        let mut to = Sink::new();
        write(&Event { at: Duration::from_nanos(5), host: "server-1".into(), what }, &mut to).unwrap();
        to.waiting
    }

    fn found(bytes: &'static [u8], leaf: Option<&'static [u8]>) -> What {
        let found = Found {
            position: 1,
            entry: None,
            counts: true,
            numbered: None,
            bytes: bytes.into(),
            leaf: leaf.map(|leaf| LeafBytes(leaf.into())),
        };
        What::Followed { found }
    }

    #[test]
    fn the_same_event_is_the_same_bytes_and_bytes_stand_in_it_as_they_are() {
        let payload = b"\x00\xff payload";
        let twice = [bytes(found(payload, None)), bytes(found(payload, None))];
        assert_eq!(twice[0], twice[1]);
        assert!(twice[0].windows(payload.len()).any(|window| window == payload));
    }

    #[test]
    fn events_that_differ_in_any_field_are_different_bytes() {
        let entry = || EntryId { client: "client-1".into(), number: 1 };
        let all = [
            What::Began {},
            What::Healed {},
            What::Settled { quiet: true },
            What::Settled { quiet: false },
            What::Returned { entry: entry(), outcome: Outcome::Acked { at: None } },
            What::Returned { entry: entry(), outcome: Outcome::Acked { at: Some(0) } },
            What::Returned { entry: entry(), outcome: Outcome::Refused { why: "no".to_owned() } },
            What::Returned { entry: entry(), outcome: Outcome::Unknown { why: "no".to_owned() } },
            What::Holds { outbox: vec![entry()], dead_letters: vec![] },
            What::Holds { outbox: vec![], dead_letters: vec![entry()] },
            found(b"", None),
            found(b"", Some(b"")),
            found(b"a", Some(b"b")),
            found(b"ab", Some(b"")),
            What::Log { event: LogEvent::BatchSynced { raft_index: 1 } },
            What::Log { event: LogEvent::LoadShed { queued: 1 } },
            What::Log { event: LogEvent::TailStarted { from: 1 } },
        ];
        let all: Vec<Vec<u8>> = all.into_iter().map(bytes).collect();
        for (n, one) in all.iter().enumerate() {
            // No event is equal to another or the beginning of another: a stream of them can be read in only one way.
            let same = all.iter().enumerate().filter(|(m, other)| *m != n && other.starts_with(one));
            assert_eq!(same.count(), 0, "{n}");
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_how_the_bytes_came() {
        let all: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let whole = Hasher::new().update(&all).finalize().to_string();
        for size in [1, 1_000, STEP_BYTES, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 70_000, all.len()] {
            let mut to = Sink::new();
            all.chunks(size).for_each(|chunk| to.extend_from_slice(chunk));
            assert_eq!(to.hash(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_of_which_nothing_was_left_out_says_no_more_than_its_bytes() {
        let message = |omitted| {
            let (direction, said) = (gapless_world::observer::Direction::Request, b"x"[..].into());
            bytes(What::Log { event: LogEvent::CallMessage { call: 1, direction, bytes: said, omitted } })
        };
        assert_eq!(message(1).len(), message(0).len() + 8);
    }

    #[test]
    fn a_type_whose_fields_come_and_go_is_refused() {
        #[derive(serde::Serialize)]
        struct Partly {
            #[serde(skip_serializing_if = "Option::is_none")]
            here: Option<u8>,
        }
        assert!(write(&Partly { here: None }, &mut Sink::new()).is_err());
    }
}
