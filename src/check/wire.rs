//! The part of the contract that the judge decodes by itself: code shared by a log and its judge could be wrong on both
//! sides in the same way.

use bytes::Bytes;

/// The judged part of a receipt: the fields 1 to 4 of `gapless.audit.v1.Receipt`
/// (`proto/gapless/audit/v1/audit.proto`). Other fields are ignored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Receipt {
    /// The index of the leaf.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// The leaf as stored.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) leaf: Bytes,
    /// The C2SP tlog-checkpoint in a signed note.
    #[prost(string, tag = "3")]
    pub(super) checkpoint: String,
    /// The audit path from the leaf up to the root of the checkpoint; 32 bytes per hash.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(super) inclusion: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use gapless_log::wire;

    #[test]
    fn a_receipt_of_the_log_is_read_as_it_was_meant() {
        let told = wire::Receipt {
            index: 7,
            leaf: Bytes::from_static(b"leaf"),
            checkpoint: "checkpoint".to_owned(),
            inclusion: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            consistency: vec![Bytes::from_static(b"three")],
            repeated: true,
        };
        let read = Receipt::decode(&told.encode_to_vec()[..]).unwrap();
        let wire::Receipt { index, leaf, checkpoint, inclusion, .. } = told;
        assert_eq!(read, Receipt { index, leaf, checkpoint, inclusion });
    }

    #[test]
    fn what_is_no_receipt_is_not_taken_for_one() {
        // A length that runs past the end, also in a field that is ignored.
        for damaged in [&[0x12, 9, 1][..], &[0x2a, 9, 1], &[0xff; 4]] {
            assert!(Receipt::decode(damaged).is_err(), "{damaged:?}");
        }
    }
}
