//! The messages that differ from revision to revision, to and from those of `current`, with which this code works.
//!
//! A program in production speaks one revision. This one can be told to speak any, so that a rollout can be rehearsed:
//! what goes over the wire is then made and read by that revision's own generated code. Only the frame of a call passes
//! through here. What is signed, hashed and stored is opaque bytes in all of them, and is moved, never re-encoded.

use super::{
    leaf::Leaf,
    wire::{
        AppendRequest, AppendResponse, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
        GetConsistencyProofResponse, ReadRequest, ReadResponse, Receipt, TailResponse, append_response, breaking, next,
        previous,
    },
};

/// Name and version of this program, as `next` tells them.
const PROGRAM: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

impl From<AppendRequest> for next::AppendRequest {
    fn from(request: AppendRequest) -> Self {
        let AppendRequest { entry, known_size } = request;
        Self { entry, known_size, program: Some(PROGRAM.to_owned()) }
    }
}

impl From<next::AppendRequest> for AppendRequest {
    fn from(request: next::AppendRequest) -> Self {
        Self { entry: request.entry, known_size: request.known_size }
    }
}

impl From<AppendRequest> for breaking::AppendRequest {
    fn from(request: AppendRequest) -> Self {
        Self { entry: request.entry, known_size: request.known_size }
    }
}

impl From<breaking::AppendRequest> for AppendRequest {
    fn from(request: breaking::AppendRequest) -> Self {
        Self { entry: request.entry, known_size: request.known_size }
    }
}

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

impl From<Receipt> for next::Receipt {
    fn from(receipt: Receipt) -> Self {
        let Receipt { index, leaf, checkpoint, inclusion, consistency, repeated } = receipt;
        let term = Leaf::decode(leaf.clone()).ok().map(|leaf| leaf.term);
        Self { index, leaf, checkpoint, inclusion, consistency, repeated, term }
    }
}

impl From<next::Receipt> for Receipt {
    fn from(receipt: next::Receipt) -> Self {
        let next::Receipt { index, leaf, checkpoint, inclusion, consistency, repeated, term: _ } = receipt;
        Self { index, leaf, checkpoint, inclusion, consistency, repeated }
    }
}

impl From<Receipt> for breaking::Receipt {
    fn from(receipt: Receipt) -> Self {
        let Receipt { index, leaf, checkpoint, inclusion, consistency, repeated: _ } = receipt;
        let origin = checkpoint.lines().next().unwrap_or_default().to_owned();
        Self { index, leaf, checkpoint, inclusion, consistency, origin }
    }
}

impl From<breaking::Receipt> for Receipt {
    fn from(receipt: breaking::Receipt) -> Self {
        let breaking::Receipt { index, leaf, checkpoint, inclusion, consistency, origin: _ } = receipt;
        Self { index, leaf, checkpoint, inclusion, consistency, repeated: false }
    }
}

/// Answers differ in their receipts alone.
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

answers!(previous next breaking);

// `previous` knows of no bounds: its servers overlook what they are asked for, and say nothing. Whoever asked must notice.

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

// `previous` knows of one proof at a time: its servers overlook further sizes, and its clients never name any.

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
