//! The mark by which an entry of the workload is recognised in its bytes, wherever they turn up.
//!
//! A payload carries the ASCII text `gapless:<client>#<number>;` somewhere. The log under test need not know about it:
//! it may wrap the payload in envelopes of its own, as long as it leaves the bytes alone. The search allocates nothing,
//! because every payload of a history passes through it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::EntryId;

const OPENING: &[u8] = b"gapless:";
/// Finds the opening many bytes at a time.
static OPENINGS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(OPENING));
/// The longest client name in bytes: that of a DNS name.
const CLIENT_BYTES_MAX: usize = 253;

impl EntryId {
    /// Returns the mark, to be put anywhere into the entry's bytes.
    pub fn mark(&self) -> String {
        format!("gapless:{}#{};", self.client, self.number)
    }

    /// Returns the first well-formed mark in `bytes`, whoever made them.
    pub fn find(bytes: &[u8]) -> Option<EntryId> {
        find_mark(bytes).map(|(client, number)| EntryId { client: client.into(), number })
    }
}

/// Does what [`EntryId::find`] does, and borrows the client's name.
pub(crate) fn find_mark(bytes: &[u8]) -> Option<(&str, u64)> {
    let mut rest = bytes;
    while let Some(at) = OPENINGS.find(rest) {
        rest = &rest[at + OPENING.len()..];
        if let Some(found) = read_mark(rest) {
            return Some(found);
        }
    }
    None
}

/// Reads what follows the opening: `<client>#<number>;`
fn read_mark(text: &[u8]) -> Option<(&str, u64)> {
    let hash = text.iter().take(CLIENT_BYTES_MAX + 1).position(|&b| b == b'#').filter(|&at| at > 0)?;
    let (client, digits) = (&text[..hash], &text[hash + 1..]);
    if !client.iter().all(|&b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') {
        return None;
    }
    let end = digits.iter().take(21).position(|&b| b == b';').filter(|&at| at > 0)?;
    if !digits[..end].iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((std::str::from_utf8(client).ok()?, std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_marks_are_passed_over_until_a_whole_one() {
        let bytes = b"gapless:#7; gapless:Client#7; gapless:a#x; gapless:a#; gapless:client-2#417;gapless:b#1;";
        assert_eq!(EntryId::find(bytes), Some(EntryId { client: "client-2".into(), number: 417 }));
        assert_eq!(EntryId::find(b"gapless:client-2#417"), None);
        assert_eq!(EntryId::find(b"gapless:client-2#99999999999999999999;"), None);
    }

    proptest! {
        #[test]
        fn a_mark_is_found_inside_any_bytes(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 0..40),
            client in "[a-z0-9.-]{1,40}",
            number: u64,
        ) {
            prop_assume!(find_mark(&before).is_none());
            let id = EntryId { client: client.into(), number };
            let bytes = [before, id.mark().into_bytes(), after].concat();
            prop_assert_eq!(EntryId::find(&bytes), Some(id));
        }
    }
}
