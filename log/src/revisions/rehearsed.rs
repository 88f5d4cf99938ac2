//! The successors of `current`, which exist only for rehearsals.

use super::answers;
use crate::{
    leaf::Leaf,
    wire::{AppendRequest, AppendResponse, Receipt, append_response, breaking, next},
};

/// Name and version of this program, which `next` transmits.
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

answers!(next breaking);
