//! Keeps each large content of events once. An entry is submitted, accepted and read again and again, from every
//! server: a history that kept each of these copies would take more memory than everything else in a run together.

use std::collections::BTreeMap;

use bytes::Bytes;
use gapless_world::LogEvent;

use crate::history::{Found, What};

/// Contents smaller than this are not worth looking for.
const LARGE_BYTES: usize = 1024;
/// The bytes from both ends of a content by which it is found.
const SAMPLE_BYTES: usize = 512;
/// Only this many first bytes of a call's message are kept. Nothing is judged by them, and the entries in a message are
/// kept separately.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The contents of a run.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Contents by their length and the checksums of both ends. Two that agree in these and differ otherwise share
    /// nothing.
    kept: BTreeMap<(usize, u32, u32), Bytes>,
}

impl Contents {
    /// Lets an event share what was kept before, if it is the same, and keeps what is new. Only the beginning of a long
    /// message is kept.
    pub(super) fn keep(&mut self, what: &mut What) {
        match what {
            What::Submitted { bytes, .. } => self.share(bytes),
            What::Found { found, .. } | What::Followed { found } => self.keep_found(found),
            What::Log { event: LogEvent::LeafRead { leaf, .. } } => self.share(leaf),
            What::Log { event: LogEvent::EntryAccepted { entry, .. } } => self.share(entry),
            What::Log { event: LogEvent::CallMessage { bytes, omitted, .. } } if bytes.len() > MESSAGE_BYTES_MAX => {
                *omitted += (bytes.len() - MESSAGE_BYTES_MAX) as u64;
                *bytes = Bytes::copy_from_slice(&bytes[..MESSAGE_BYTES_MAX]);
            }
            _ => {}
        }
    }

    fn keep_found(&mut self, found: &mut Found) {
        self.share(&mut found.bytes);
        if let Some(leaf) = &mut found.leaf {
            self.share(&mut leaf.0);
        }
    }

    fn share(&mut self, bytes: &mut Bytes) {
        if bytes.len() < LARGE_BYTES {
            return;
        }
        let ends = (&bytes[..SAMPLE_BYTES], &bytes[bytes.len() - SAMPLE_BYTES..]);
        let key = (bytes.len(), crc32c::crc32c(ends.0), crc32c::crc32c(ends.1));
        // This is a copy, because an event may hold a small part of a large buffer, which would stay in memory as a
        // whole.
        let kept = self.kept.entry(key).or_insert_with(|| Bytes::copy_from_slice(bytes));
        if kept == bytes {
            *bytes = kept.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{EntryId, LeafBytes};
    use gapless_world::observer::Direction;

    fn read(leaf: Vec<u8>) -> What {
        What::Log { event: LogEvent::LeafRead { index: 0, leaf: leaf.into() } }
    }

    fn leaf_of(what: &What) -> &Bytes {
        match what {
            What::Log { event: LogEvent::LeafRead { leaf, .. } } => leaf,
            _ => panic!("not a leaf"),
        }
    }

    #[test]
    fn what_is_the_same_is_held_once_by_all_events_and_stays_what_it_was() {
        let (mut contents, bytes) = (Contents::default(), vec![3; 5_000]);
        let mut found = Found {
            position: 0,
            entry: None,
            counts: true,
            numbered: None,
            bytes: bytes.clone().into(),
            leaf: Some(LeafBytes(bytes.clone().into())),
        };
        let entry = EntryId { client: "client-1".into(), number: 0 };
        let mut submitted = What::Submitted { entry, bytes: bytes.clone().into() };
        let (mut first, mut again) = (read(bytes.clone()), read(bytes.clone()));
        [&mut submitted, &mut first, &mut again].into_iter().for_each(|what| contents.keep(what));
        contents.keep_found(&mut found);
        let What::Submitted { bytes: kept, .. } = &submitted else { panic!("it was submitted") };
        let leaf = found.leaf.unwrap().0;
        for other in [leaf_of(&first), leaf_of(&again), &found.bytes, &leaf] {
            assert_eq!((other.as_ptr(), &other[..]), (kept.as_ptr(), &bytes[..]));
        }
    }

    #[test]
    fn what_differs_in_one_byte_only_stays_what_it_is() {
        let mut contents = Contents::default();
        let plain = vec![3; 5_000];
        for at in [0, 2_500, 4_999] {
            let mut other = plain.clone();
            other[at] ^= 1;
            let (mut one, mut two) = (read(plain.clone()), read(other.clone()));
            contents.keep(&mut one);
            contents.keep(&mut two);
            assert_eq!((&leaf_of(&one)[..], &leaf_of(&two)[..]), (&plain[..], &other[..]), "byte {at}");
        }
    }

    #[test]
    fn of_a_long_message_the_beginning_stays_and_how_much_followed() {
        for (len, stays) in [(MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX), (MESSAGE_BYTES_MAX + 9, MESSAGE_BYTES_MAX), (5, 5)]
        {
            let bytes = Bytes::from(vec![1; len]);
            let event = LogEvent::CallMessage { call: 1, direction: Direction::Request, bytes, omitted: 0 };
            let mut what = What::Log { event };
            Contents::default().keep(&mut what);
            let What::Log { event: LogEvent::CallMessage { bytes, omitted, .. } } = &what else { panic!("a message") };
            assert_eq!((bytes.len(), *omitted), (stays, (len - stays) as u64));
        }
    }
}
