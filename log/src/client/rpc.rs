//! The generated clients of all revisions behind one interface: callers use the messages of the `current` revision.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use gapless_world::{calls::Observed, net::BoxFuture};
use tonic::{Request, Response, Status, transport::Channel};

use super::agreement::Agreed;
use crate::{
    schema::Revision,
    wire::{
        AppendRequest, AppendResponse, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
        GetConsistencyProofResponse, GetInclusionProofRequest, GetInclusionProofResponse, ReadRequest, ReadResponse,
        TailRequest, TailResponse, audit_log_client::AuditLogClient, previous,
    },
};

/// Answers larger than this (8 MiB) are refused.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

type Wire = Agreed<Observed<Channel>>;

/// Answers to a stream of entries, in their order.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

/// The leaves of a tail, with what the server says of their bounds.
pub(crate) type Leaves = Pin<Box<dyn Stream<Item = Result<TailResponse, Status>> + Send>>;

/// A client of the log in one revision, over an observed channel whose schema is agreed.
#[derive(Clone)]
pub(crate) enum Rpc {
    Previous(previous::audit_log_client::AuditLogClient<Wire>),
    Current(AuditLogClient<Wire>),
    #[cfg(feature = "rehearsal")]
    Next(crate::wire::next::audit_log_client::AuditLogClient<Wire>),
    #[cfg(feature = "rehearsal")]
    Breaking(crate::wire::breaking::audit_log_client::AuditLogClient<Wire>),
}

/// An answer on its way. The box keeps the code of a call, four times over, in one place.
type Answer<'a, T> = BoxFuture<'a, Result<Response<T>, Status>>;

/// Makes the same call in any revision.
macro_rules! any {
    ($self:expr, $rpc:ident => $call:expr) => {
        match $self {
            Rpc::Previous($rpc) => Box::pin(async move { $call }),
            Rpc::Current($rpc) => Box::pin(async move { $call }),
            #[cfg(feature = "rehearsal")]
            Rpc::Next($rpc) => Box::pin(async move { $call }),
            #[cfg(feature = "rehearsal")]
            Rpc::Breaking($rpc) => Box::pin(async move { $call }),
        }
    };
}

impl Rpc {
    pub(crate) fn new(revision: Revision, channel: Wire) -> Rpc {
        let most = ANSWER_BYTES_MAX;
        match revision {
            Revision::Previous => {
                let rpc = previous::audit_log_client::AuditLogClient::new(channel);
                Rpc::Previous(rpc.max_decoding_message_size(most))
            }
            Revision::Current => Rpc::Current(AuditLogClient::new(channel).max_decoding_message_size(most)),
            #[cfg(feature = "rehearsal")]
            Revision::Next => Rpc::Next(
                crate::wire::next::audit_log_client::AuditLogClient::new(channel).max_decoding_message_size(most),
            ),
            #[cfg(feature = "rehearsal")]
            Revision::Breaking => {
                let rpc = crate::wire::breaking::audit_log_client::AuditLogClient::new(channel);
                Rpc::Breaking(rpc.max_decoding_message_size(most))
            }
        }
    }

    pub(crate) fn append(&mut self, request: Request<AppendRequest>) -> Answer<'_, AppendResponse> {
        any!(self, rpc => Ok(rpc.append(request.map(Into::into)).await?.map(Into::into)))
    }

    #[allow(clippy::useless_conversion, reason = "it is one for `current` alone")]
    pub(crate) fn append_stream(
        &mut self,
        request: Request<impl Stream<Item = AppendRequest> + Send + 'static>,
    ) -> Answer<'_, Answers> {
        any!(self, rpc => {
            let answers = rpc.append_stream(request.map(|entries| entries.map(Into::into))).await?;
            Ok(answers.map(|answers| Box::pin(answers.map(|answer| answer.map(Into::into))) as Answers))
        })
    }

    pub(crate) fn read(&mut self, request: Request<ReadRequest>) -> Answer<'_, ReadResponse> {
        any!(self, rpc => Ok(rpc.read(request.map(Into::into)).await?.map(Into::into)))
    }

    #[allow(clippy::useless_conversion, reason = "it is one for `current` alone")]
    pub(crate) fn tail(&mut self, request: Request<TailRequest>) -> Answer<'_, Leaves> {
        any!(self, rpc => {
            let answers = rpc.tail(request).await?;
            Ok(answers.map(|answers| Box::pin(answers.map(|answer| answer.map(Into::into))) as Leaves))
        })
    }

    pub(crate) fn get_checkpoint(
        &mut self,
        request: Request<GetCheckpointRequest>,
    ) -> Answer<'_, GetCheckpointResponse> {
        any!(self, rpc => Ok(rpc.get_checkpoint(request.map(Into::into)).await?.map(Into::into)))
    }

    pub(crate) fn get_inclusion_proof(
        &mut self,
        request: Request<GetInclusionProofRequest>,
    ) -> Answer<'_, GetInclusionProofResponse> {
        any!(self, rpc => rpc.get_inclusion_proof(request).await)
    }

    pub(crate) fn get_consistency_proof(
        &mut self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Answer<'_, GetConsistencyProofResponse> {
        any!(self, rpc => Ok(rpc.get_consistency_proof(request.map(Into::into)).await?.map(Into::into)))
    }
}
