//! A frame: one record of a journal, and its bytes in a segment file.
//!
//! The checksum is CRC32C (RFC 3720, appendix B.4): it reveals a torn or rotten frame, not a forged one. Forgery is the
//! business of signatures.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::StoreError;

/// Largest value of a frame's length field. A larger one is damage.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Bytes of the length field, which does not count itself.
pub(super) const LENGTH_BYTES: usize = 4;
/// Checksum, index, term and kind.
const FIXED_BYTES: u32 = 4 + 8 + 8 + 1;

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Position in the journal; consecutive.
    pub index: u64,
    /// Raft term, or 0 where there is none.
    pub term: u64,
    /// The kind of the body, chosen by the owner of the journal.
    pub kind: u8,
    /// The record itself, at most 64 MiB less 21 bytes.
    pub body: Bytes,
}

/// What encoding a frame yields besides its bytes.
pub(super) struct Encoded {
    /// Bytes in the file, length field included.
    pub(super) bytes: u32,
    /// The frame's checksum.
    pub(super) crc: u32,
}

impl Frame {
    /// Checks that the frame fits.
    pub(super) fn check_size(&self) -> Result<(), StoreError> {
        let (bytes, max) = (self.body.len() as u64, u64::from(FRAME_BYTES_MAX - FIXED_BYTES));
        if bytes > max { Err(StoreError::Oversize { bytes, max }) } else { Ok(()) }
    }

    /// Returns how many bytes the frame takes in a file.
    pub(super) fn encoded_bytes(&self) -> usize {
        LENGTH_BYTES + FIXED_BYTES as usize + self.body.len()
    }

    /// Appends the bytes of the frame, whose size has been checked.
    pub(super) fn encode(&self, to: &mut BytesMut) -> Encoded {
        let length = FIXED_BYTES + self.body.len() as u32;
        to.reserve(LENGTH_BYTES + length as usize);
        to.put_u32(length);
        let crc_at = to.len();
        to.put_u32(0);
        to.put_u64(self.index);
        to.put_u64(self.term);
        to.put_u8(self.kind);
        to.put_slice(&self.body);
        let crc = crc32c::crc32c(&to[crc_at + 4..]);
        to[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
        Encoded { bytes: LENGTH_BYTES as u32 + length, crc }
    }

    /// Reads a length field: the number of bytes of the frame that follow it.
    pub(super) fn decode_length(bytes: [u8; LENGTH_BYTES]) -> Result<u32, String> {
        match u32::from_be_bytes(bytes) {
            length @ FIXED_BYTES..=FRAME_BYTES_MAX => Ok(length),
            length => Err(format!("a frame cannot have the length {length}")),
        }
    }

    /// Reads what follows a length field, and returns the frame and its checksum.
    pub(super) fn decode(mut bytes: Bytes, index: u64) -> Result<(Frame, u32), String> {
        if bytes.len() < FIXED_BYTES as usize {
            return Err(format!("a frame cannot have the length {}", bytes.len()));
        }
        let crc = bytes.get_u32();
        if crc32c::crc32c(&bytes) != crc {
            return Err(format!("the checksum of frame {index} does not hold"));
        }
        let frame = Frame { index: bytes.get_u64(), term: bytes.get_u64(), kind: bytes.get_u8(), body: bytes };
        if frame.index != index {
            return Err(format!("frame {} stands where frame {index} should", frame.index));
        }
        Ok((frame, crc))
    }
}

/// Returns the chain of checksums up to and including a frame: two journals that agree in it agree in all frames
/// before.
pub(super) fn chained(chain: u32, crc: u32) -> u32 {
    crc32c::crc32c_append(chain, &crc.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_frame_never_change() {
        let mut bytes = BytesMut::new();
        Frame { index: 1, term: 2, kind: 3, body: Bytes::from_static(b"hi") }.encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "00000017d557f68f00000000000000010000000000000002036869");
    }

    #[test]
    fn a_length_out_of_bounds_is_damage() {
        assert!(Frame::decode_length([0; 4]).is_err());
        assert!(Frame::decode_length(20u32.to_be_bytes()).is_err());
        assert!(Frame::decode_length((FRAME_BYTES_MAX + 1).to_be_bytes()).is_err());
        assert_eq!(Frame::decode_length(21u32.to_be_bytes()), Ok(21));
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written_and_an_altered_one_is_not(
            index: u64, term: u64, kind: u8, body: Vec<u8>, at: usize, flip in 1u8..=255,
        ) {
            let frame = Frame { index, term, kind, body: body.into() };
            let mut bytes = BytesMut::new();
            let encoded = frame.encode(&mut bytes);
            prop_assert_eq!(encoded.bytes as usize, bytes.len());
            let mut rest = bytes.split_off(LENGTH_BYTES);
            prop_assert_eq!(Frame::decode(rest.clone().freeze(), index), Ok((frame, encoded.crc)));
            let at = at % rest.len();
            rest[at] ^= flip;
            prop_assert!(Frame::decode(rest.freeze(), index).is_err());
        }
    }
}
