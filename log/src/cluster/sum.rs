//! A checksum over what a member answers to the others, so that a bit that flips in its memory is not taken for its
//! word.
//!
//! TLS protects an answer only from the moment at which it is encrypted. A leader that believed an answer which was
//! false before that would count an entry as stored where it is not, or believe in a term that nobody leads; Raft has
//! no defence against this. Everything else that members send each other is signed, or hashed again by the receiver.

use prost::Message;
use tonic::Status;

use super::super::cluster_wire as wire;

/// An answer that carries a sum: the CRC-32C of its encoding without the sum.
pub(crate) trait Summed: Message + Clone + Sized {
    /// The field that holds the sum.
    fn sum(&mut self) -> &mut u32;

    /// Returns the answer with its sum.
    fn summed(mut self) -> Self {
        *self.sum() = 0;
        *self.sum() = crc32c::crc32c(&self.encode_to_vec());
        self
    }

    /// Returns the answer if it is what was summed.
    ///
    /// # Errors
    /// Where the answer differs, or has lost its sum: one bit in the length of a field can hide all that follows.
    fn checked(mut self) -> Result<Self, Status> {
        let sum = std::mem::take(self.sum());
        match sum == crc32c::crc32c(&self.encode_to_vec()) {
            true => Ok(self),
            false => Err(Status::data_loss("the member's answer does not match its sum: a bit flipped on its way")),
        }
    }
}

impl Summed for wire::AppendResponse {
    fn sum(&mut self) -> &mut u32 {
        &mut self.sum
    }
}

impl Summed for wire::VoteResponse {
    fn sum(&mut self) -> &mut u32 {
        &mut self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flips_are_found<M: Summed + Default + PartialEq + std::fmt::Debug>(answer: M) {
        let sent = answer.clone().summed().encode_to_vec();
        assert_eq!(M::decode(&sent[..]).unwrap().checked().unwrap(), answer);
        for bit in 0..sent.len() * 8 {
            let mut flipped = sent.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(decoded) = M::decode(&flipped[..]) else { continue };
            // Some bits mean nothing: a `true` of 3 is read like one of 1.
            if let Ok(believed) = decoded.checked() {
                assert_eq!(believed, answer, "bit {bit}");
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_an_answer_is_believed() {
        let at = |index| Some(wire::LogId { term: 3, node: 2, index });
        let vote = Some(wire::Ballot { term: 3, node: 2, committed: true });
        flips_are_found(wire::AppendResponse::default());
        flips_are_found(wire::AppendResponse {
            outcome: wire::append_response::Outcome::Conflict.into(),
            matching: at(300),
            vote,
            cosignature: "— server-3 Az3grn".into(),
            shown: 112,
            stamp: Some(wire::Stamp { life: 7, at_ms: 1_000 }),
            last: at(301),
            sum: 0,
        });
        flips_are_found(wire::VoteResponse { vote, granted: false, last: at(300), sum: 0 });
    }
}
