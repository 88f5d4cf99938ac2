//! Converts the messages that differ from revision to revision to and from those of `current`, with which this code
//! works.
//!
//! A program in production speaks one revision. This program can be told to speak another one, so that a rollout can be
//! rehearsed: that revision's own generated code then makes and reads what goes over the wire. Only the frame of a call
//! passes through here. What is signed, hashed and stored is opaque bytes in all revisions, and is moved, never encoded
//! again.

#[cfg(feature = "rehearsal")]
mod rehearsed;

use super::wire::{
    AppendResponse, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
    GetConsistencyProofResponse, ReadRequest, ReadResponse, Receipt, TailResponse, append_response, previous,
};

/// Responses differ only in their receipts.
macro_rules! answers {
    ($($revision:ident)*) => {$(
        impl From<AppendResponse> for $revision::AppendResponse {
            fn from(answer: AppendResponse) -> Self {
                use $revision::append_response::Outcome;
                let outcome = answer.outcome.map(|outcome| match outcome {
                    append_response::Outcome::Receipt(receipt) => Outcome::Receipt(receipt.into()),
                    append_response::Outcome::Refusal(refusal) => Outcome::Refusal(refusal),
                });
                Self { sequence: answer.sequence, outcome }
            }
        }

        impl From<$revision::AppendResponse> for AppendResponse {
            fn from(answer: $revision::AppendResponse) -> Self {
                use $revision::append_response::Outcome;
                let outcome = answer.outcome.map(|outcome| match outcome {
                    Outcome::Receipt(receipt) => append_response::Outcome::Receipt(receipt.into()),
                    Outcome::Refusal(refusal) => append_response::Outcome::Refusal(refusal),
                });
                Self { sequence: answer.sequence, outcome }
            }
        }
    )*};
}

#[cfg(feature = "rehearsal")]
use answers;

answers!(previous);

impl From<Receipt> for previous::Receipt {
    fn from(receipt: Receipt) -> Self {
        let Receipt { index, leaf, checkpoint, inclusion, consistency, repeated: _ } = receipt;
        Self { index, leaf, checkpoint, inclusion, consistency }
    }
}

impl From<previous::Receipt> for Receipt {
    fn from(receipt: previous::Receipt) -> Self {
        let previous::Receipt { index, leaf, checkpoint, inclusion, consistency } = receipt;
        Self { index, leaf, checkpoint, inclusion, consistency, repeated: false }
    }
}

// `previous` does not know bounds: its servers ignore a demand for one and state none. The caller must notice.

impl From<ReadRequest> for previous::ReadRequest {
    fn from(request: ReadRequest) -> Self {
        Self { start: request.start, limit: request.limit }
    }
}

impl From<previous::ReadRequest> for ReadRequest {
    fn from(request: previous::ReadRequest) -> Self {
        Self { start: request.start, limit: request.limit, freshness: None }
    }
}

impl From<ReadResponse> for previous::ReadResponse {
    fn from(answer: ReadResponse) -> Self {
        let ReadResponse { start, leaves, size, bound: _ } = answer;
        Self { start, leaves, size }
    }
}

impl From<previous::ReadResponse> for ReadResponse {
    fn from(answer: previous::ReadResponse) -> Self {
        let previous::ReadResponse { start, leaves, size } = answer;
        Self { start, leaves, size, bound: None }
    }
}

impl From<TailResponse> for previous::TailResponse {
    fn from(answer: TailResponse) -> Self {
        Self { index: answer.index, leaf: answer.leaf }
    }
}

impl From<previous::TailResponse> for TailResponse {
    fn from(answer: previous::TailResponse) -> Self {
        Self { index: answer.index, leaf: answer.leaf, bound: None }
    }
}

impl From<GetCheckpointRequest> for previous::GetCheckpointRequest {
    fn from(_: GetCheckpointRequest) -> Self {
        Self {}
    }
}

impl From<previous::GetCheckpointRequest> for GetCheckpointRequest {
    fn from(_: previous::GetCheckpointRequest) -> Self {
        Self { freshness: None }
    }
}

impl From<GetCheckpointResponse> for previous::GetCheckpointResponse {
    fn from(answer: GetCheckpointResponse) -> Self {
        Self { checkpoint: answer.checkpoint }
    }
}

impl From<previous::GetCheckpointResponse> for GetCheckpointResponse {
    fn from(answer: previous::GetCheckpointResponse) -> Self {
        Self { checkpoint: answer.checkpoint, bound: None }
    }
}

// `previous` knows one proof at a time: its servers ignore further sizes, and its clients never name any.

impl From<GetConsistencyProofRequest> for previous::GetConsistencyProofRequest {
    fn from(request: GetConsistencyProofRequest) -> Self {
        let GetConsistencyProofRequest { old_size, new_size, further_sizes: _ } = request;
        Self { old_size, new_size }
    }
}

impl From<previous::GetConsistencyProofRequest> for GetConsistencyProofRequest {
    fn from(request: previous::GetConsistencyProofRequest) -> Self {
        let previous::GetConsistencyProofRequest { old_size, new_size } = request;
        Self { old_size, new_size, further_sizes: Vec::new() }
    }
}

impl From<GetConsistencyProofResponse> for previous::GetConsistencyProofResponse {
    fn from(answer: GetConsistencyProofResponse) -> Self {
        Self { hashes: answer.hashes }
    }
}

impl From<previous::GetConsistencyProofResponse> for GetConsistencyProofResponse {
    fn from(answer: previous::GetConsistencyProofResponse) -> Self {
        Self { hashes: answer.hashes, further: Vec::new() }
    }
}
