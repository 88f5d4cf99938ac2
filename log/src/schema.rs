//! Schemas: which contract an end speaks, and whether two ends may speak to each other.
//!
//! During a rollout, two revisions of one contract run side by side, under one package and one service path. Both ends
//! name theirs in each call, by its fingerprint. If they differ, each end reads the other's descriptors and judges for
//! itself. Calls of compatible revisions pass untouched; calls of incompatible revisions are refused before anything is
//! misread.
//!
//! Two revisions are compatible if everything that both have means the same. The rule, for every message that can be
//! reached from the service or from [`EVENT`]:
//!
//! * a field or an enum value that only one end has is fine: protobuf keeps or skips what it does not know;
//! * a number that both ends have must stand for the same thing: name, type, cardinality (repeated or not) and `oneof`;
//! * a method that both ends have must have the same messages and streams on both sides.
//!
//! It follows "Updating A Message Type" of the protobuf language guide and the `WIRE` category of buf's breaking change
//! rules, and is stricter than both in two places. Both let a type become another type with the same wire format
//! (`int64` read as `int32`, which truncates it), and both let a number change its name: on the wire, nothing tells a
//! new name from a reused number. A log that has to be believed accepts neither. A new name needs a new number.
//!
//! Whether the number of a removed element is `reserved` is not checked: this would only guard against what is refused
//! here when it happens.

mod exchange;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sha2::{Digest as _, Sha256};

use super::wire;
pub(crate) use exchange::printable;
pub use exchange::{ASKED_FOR, Exchange, FINGERPRINT, Judged};

/// The service whose contract is compared.
pub const SERVICE: &str = "gapless.audit.v1.AuditLog";
/// What applications write into payloads. The log never decodes it; its writers and readers do.
pub const EVENT: &str = "gapless.audit.v1.AuditEvent";
/// The number under which every revision of [`EVENT`] keeps the application's own bytes.
pub const EVENT_DETAIL: u32 = 15;
/// Bytes that an event may need in addition to its detail, so that it fits into a payload whatever its revision.
pub const EVENT_ROOM: usize = 1024;
/// Largest set of descriptors that is read from another end, in bytes (64 KiB).
pub const DESCRIPTORS_BYTES_MAX: usize = 64 * 1024;

/// A revision of the contract that this build can speak, named by its role in a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// The previous revision.
    Previous,
    /// The revision in force.
    #[default]
    Current,
    /// A compatible successor, for rehearsals.
    #[cfg(feature = "rehearsal")]
    Next,
    /// A successor that is not compatible with the others, for rehearsals.
    #[cfg(feature = "rehearsal")]
    Breaking,
}

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: &[Revision] = &[
        Revision::Previous,
        Revision::Current,
        #[cfg(feature = "rehearsal")]
        Revision::Next,
        #[cfg(feature = "rehearsal")]
        Revision::Breaking,
    ];
    /// The names of [`ALL`](Self::ALL), in the same order.
    pub const NAMES: &[&str] = &[
        "previous",
        "current",
        #[cfg(feature = "rehearsal")]
        "next",
        #[cfg(feature = "rehearsal")]
        "breaking",
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Revision::Previous => "previous",
            Revision::Current => "current",
            #[cfg(feature = "rehearsal")]
            Revision::Next => "next",
            #[cfg(feature = "rehearsal")]
            Revision::Breaking => "breaking",
        }
    }

    /// Returns the revision of a name.
    pub fn named(name: &str) -> Option<Revision> {
        Revision::ALL.iter().copied().find(|revision| revision.name() == name)
    }

    /// Returns the contract, as a protobuf `FileDescriptorSet` without comments.
    pub fn descriptors(self) -> &'static [u8] {
        match self {
            Revision::Previous => wire::previous::DESCRIPTORS,
            Revision::Current => wire::DESCRIPTORS,
            #[cfg(feature = "rehearsal")]
            Revision::Next => wire::next::DESCRIPTORS,
            #[cfg(feature = "rehearsal")]
            Revision::Breaking => wire::breaking::DESCRIPTORS,
        }
    }
}

/// The part of a contract that reaches the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// By message and number.
    messages: BTreeMap<String, BTreeMap<i32, Field>>,
    /// The names of each number: protobuf allows several.
    enums: BTreeMap<String, BTreeMap<i32, BTreeSet<String>>>,
    methods: BTreeMap<String, Method>,
}

/// One field without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    /// A scalar's name, or the full name of a message or an enum.
    kind: String,
    repeated: bool,
    oneof: Option<String>,
}

/// One method without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Method {
    takes: String,
    gives: String,
    takes_stream: bool,
    gives_stream: bool,
}

/// SHA-256 over the canonical text of a [`Schema`]. It does not depend on comments, on the order of files and elements,
/// or on anything that cannot be reached from the roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads 64 lower-case hex digits.
    pub fn read(text: &str) -> Option<Fingerprint> {
        let digits: Vec<u8> = text
            .bytes()
            .map(|byte| b"0123456789abcdef".iter().position(|hex| *hex == byte))
            .map(|digit| digit.and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> =
            digits.chunks(2).filter(|pair| pair.len() == 2).map(|pair| pair[0] << 4 | pair[1]).collect();
        (digits.len() == 64).then(|| bytes.try_into().ok().map(Fingerprint))?
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Descriptors that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// They are larger than any contract needs.
    #[error("descriptors of {bytes} bytes are larger than the {DESCRIPTORS_BYTES_MAX} that are read; send them bare")]
    TooLarge {
        /// The number of bytes that came.
        bytes: usize,
    },
    /// They are not a `FileDescriptorSet`.
    #[error("the descriptors are no google.protobuf.FileDescriptorSet: {0}")]
    Unreadable(String),
    /// They lack something that has to be compared.
    #[error("the descriptors do not define `{0}`; send the files of the contract with all that they import")]
    Undefined(String),
    /// Two elements have the same name or number.
    #[error("the descriptors define `{0}` twice")]
    Twice(String),
    /// A name is not a protobuf identifier.
    #[error("the descriptors hold a name that is none: {0:?}")]
    Name(String),
}

/// The first contradiction between two contracts. `ours` and `theirs` are written as in a `.proto` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatibility {
    /// A number stands for two different fields.
    #[error("field {number} of `{message}` is `{ours}` here and `{theirs}` there; give what is new a new number")]
    Field {
        /// Full name of the message.
        message: String,
        /// The number.
        number: i32,
        /// What it stands for here.
        ours: String,
        /// What it stands for there.
        theirs: String,
    },
    /// A number stands for two different enum values.
    #[error("value {number} of `{name}` is `{ours}` here and `{theirs}` there; give what is new a new number")]
    Value {
        /// Full name of the enum.
        name: String,
        /// The number.
        number: i32,
        /// What it stands for here.
        ours: String,
        /// What it stands for there.
        theirs: String,
    },
    /// A method has different messages or streams.
    #[error("method `{name}` is `{ours}` here and `{theirs}` there; give what is new a new name")]
    Method {
        /// Name of the method.
        name: String,
        /// The method as it is here.
        ours: String,
        /// The method as it is there.
        theirs: String,
    },
}

/// Judges two contracts by the rule of this file. Symmetric, except for which of the two is called ours.
///
/// # Errors
/// The first contradiction: methods first, then fields, then enum values, each by name and number.
pub fn compatible(ours: &Schema, theirs: &Schema) -> Result<(), Incompatibility> {
    for (name, ours, theirs) in both(&ours.methods, &theirs.methods) {
        if ours != theirs {
            let (ours, theirs) = (ours.to_string(), theirs.to_string());
            return Err(Incompatibility::Method { name: name.clone(), ours, theirs });
        }
    }
    for (message, ours, theirs) in both(&ours.messages, &theirs.messages) {
        if let Some((number, ours, theirs)) = both(ours, theirs).find(|(_, ours, theirs)| ours != theirs) {
            let (message, ours, theirs) = (message.clone(), ours.to_string(), theirs.to_string());
            return Err(Incompatibility::Field { message, number: *number, ours, theirs });
        }
    }
    for (name, ours, theirs) in both(&ours.enums, &theirs.enums) {
        if let Some((number, ours, theirs)) = both(ours, theirs).find(|(_, ours, theirs)| ours.is_disjoint(theirs)) {
            let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
            let (ours, theirs) = (list(ours), list(theirs));
            return Err(Incompatibility::Value { name: name.clone(), number: *number, ours, theirs });
        }
    }
    Ok(())
}

/// Returns what both sides have under the same key.
fn both<'s, K: Ord, V>(
    ours: &'s BTreeMap<K, V>,
    theirs: &'s BTreeMap<K, V>,
) -> impl Iterator<Item = (&'s K, &'s V, &'s V)> {
    ours.iter().filter_map(|(key, ours)| Some((key, ours, theirs.get(key)?)))
}

impl Schema {
    /// Reads descriptors from any source.
    ///
    /// # Errors
    /// If they are too large, are damaged, or lack something that the service or the event needs.
    pub fn read(descriptors: &[u8]) -> Result<Schema, SchemaError> {
        read::read(descriptors)
    }

    /// Returns the fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.canonical()).into())
    }

    /// Writes a line per method, field and enum value, in the order of names and numbers. Names contain neither spaces
    /// nor line breaks, so no two schemas have the same text.
    fn canonical(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.methods.iter().map(|(name, method)| format!("method {name} {method}\n")));
        for (message, fields) in &self.messages {
            lines.push(format!("message {message}\n"));
            lines.extend(fields.iter().map(|(number, field)| format!("field {number} {field}\n")));
        }
        for (name, values) in &self.enums {
            lines.push(format!("enum {name}\n"));
            let names = values.iter().flat_map(|(number, names)| names.iter().map(move |name| (number, name)));
            lines.extend(names.map(|(number, name)| format!("value {number} {name}\n")));
        }
        lines.concat()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(oneof) = &self.oneof {
            write!(f, "oneof {oneof} ")?;
        }
        write!(f, "{}{} {}", if self.repeated { "repeated " } else { "" }, self.kind, self.name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = |stream| if stream { "stream " } else { "" };
        let (takes, gives) = (stream(self.takes_stream), stream(self.gives_stream));
        write!(f, "({takes}{}) returns ({gives}{})", self.takes, self.gives)
    }
}

/// Returns the bytes of the last length-delimited field of that number in an encoded message. This needs no schema, so
/// it works for any revision. `None` if there is no such field, or if the bytes are not a message.
pub fn bytes_of_field(message: &[u8], wanted: u32) -> Option<&[u8]> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    let (mut rest, mut found) = (message, None);
    while !rest.is_empty() {
        let (number, kind) = decode_key(&mut rest).ok()?;
        let length = match kind {
            WireType::Varint => decode_varint(&mut rest).ok().map(|_| 0)?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        if number == wanted && kind == WireType::LengthDelimited {
            found = Some(value);
        }
        rest = after;
    }
    found
}
