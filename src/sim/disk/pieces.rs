//! The bytes of a file, as the pieces in which they were written: a page cache and a platter share equal pieces, and
//! neither copies what it is given. Otherwise a file of large entries would be in memory several times over.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

/// Bytes that can be overwritten, cut and extended anywhere. A clone shares all pieces.
#[derive(Debug, Default, Clone)]
pub(super) struct Pieces {
    /// The pieces by their start; none is empty, and each begins where the one before it ends.
    pieces: BTreeMap<usize, Bytes>,
}

impl Pieces {
    /// Returns the number of bytes.
    pub(super) fn len(&self) -> usize {
        self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the byte at a place, if there is one.
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        piece.get(at - start).copied()
    }

    /// Returns the bytes between two places, as far as there are any. It copies only bytes that were written in several
    /// pieces.
    pub(super) fn read(&self, from: usize, to: usize) -> Bytes {
        let to = to.min(self.len());
        if from >= to {
            return Bytes::new();
        }
        // `from` is inside, so a piece covers it.
        let first = self.pieces.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let mut parts = self
            .pieces
            .range(first..to)
            .map(|(start, piece)| piece.slice(from.saturating_sub(*start)..(to - start).min(piece.len())));
        let head = parts.next().unwrap_or_default();
        if head.len() == to - from {
            return head;
        }
        let mut all = BytesMut::with_capacity(to - from);
        all.extend_from_slice(&head);
        parts.for_each(|part| all.extend_from_slice(&part));
        all.freeze()
    }

    /// Overwrites what is there and extends the file as needed; a gap is filled with zeroes.
    pub(super) fn write(&mut self, at: usize, bytes: Bytes) {
        if self.len() < at {
            self.resize(at);
        }
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        self.split(at);
        self.split(end);
        let covered: Vec<usize> = self.pieces.range(at..end).map(|(start, _)| *start).collect();
        for start in covered {
            self.pieces.remove(&start);
        }
        self.pieces.insert(at, bytes);
    }

    /// Cuts the file, or extends it with zeroes.
    pub(super) fn resize(&mut self, len: usize) {
        let now = self.len();
        if now < len {
            self.pieces.insert(now, vec![0; len - now].into());
            return;
        }
        self.split(len);
        drop(self.pieces.split_off(&len));
    }

    /// Makes a piece begin here, if there is a byte here.
    fn split(&mut self, at: usize) {
        let Some((start, piece)) = self.pieces.range_mut(..at).next_back() else { return };
        if at - start < piece.len() {
            let tail = piece.split_off(at - start);
            self.pieces.insert(at, tail);
        }
    }
}

impl PartialEq for Pieces {
    /// Returns whether they hold the same bytes, however those were written.
    fn eq(&self, other: &Pieces) -> bool {
        self.len() == other.len() && self.read(0, self.len()) == other.read(0, other.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_hold_what_a_plain_vector_holds_whatever_is_done_to_them(
            changes in prop::collection::vec((any::<bool>(), 0usize..60, 0usize..40), 0..30),
            from in 0usize..120, len in 0usize..120,
        ) {
            let (mut plain, mut pieces): (Vec<u8>, Pieces) = Default::default();
            for (n, (cut, at, many)) in changes.into_iter().enumerate() {
                let before = pieces.clone();
                let was = plain.clone();
                if cut {
                    plain.resize(at, 0);
                    pieces.resize(at);
                } else {
                    let bytes = vec![n as u8 + 1; many];
                    plain.resize(plain.len().max(at + many), 0);
                    plain[at..at + many].copy_from_slice(&bytes);
                    pieces.write(at, bytes.into());
                }
                prop_assert_eq!(pieces.len(), plain.len());
                prop_assert_eq!(pieces.is_empty(), plain.is_empty());
                prop_assert_eq!(&before.read(0, usize::MAX)[..], &was[..], "a clone changed with its original");
            }
            prop_assert_eq!(&pieces.read(0, usize::MAX)[..], &plain[..]);
            prop_assert_eq!(pieces.get(from), plain.get(from).copied());
            let end = (from + len).min(plain.len());
            prop_assert_eq!(&pieces.read(from, from + len)[..], plain.get(from..end).unwrap_or_default());
        }
    }

    #[test]
    fn what_was_written_at_once_is_read_without_a_copy() {
        let written = Bytes::from(vec![7; 1_000]);
        let mut pieces = Pieces::default();
        pieces.write(0, vec![1; 10].into());
        pieces.write(10, written.clone());
        let (content, read) = (pieces.clone(), pieces.read(10, 1_010));
        assert_eq!(read.as_ptr(), written.as_ptr());
        assert_eq!(content.read(20, 30).as_ptr(), written[10..].as_ptr());
    }
}
