//! The generated clients of all revisions behind one interface: callers use the messages of the `current` revision.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use gapless_world::calls::Observed;
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

/// Makes the same call in any revision.
macro_rules! any {
    ($self:expr, $rpc:ident => $call:expr) => {
        match $self {
            Rpc::Previous($rpc) => $call,
            Rpc::Current($rpc) => $call,
            #[cfg(feature = "rehearsal")]
            Rpc::Next($rpc) => $call,
            #[cfg(feature = "rehearsal")]
            Rpc::Breaking($rpc) => $call,
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

    pub(crate) async fn append(&mut self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        any!(self, rpc => Ok(rpc.append(request.map(Into::into)).await?.map(Into::into)))
    }

    #[allow(clippy::useless_conversion, reason = "it is one for `current` alone")]
    pub(crate) async fn append_stream(
        &mut self,
        request: Request<impl Stream<Item = AppendRequest> + Send + 'static>,
    ) -> Result<Response<Answers>, Status> {
        any!(self, rpc => {
            let answers = rpc.append_stream(request.map(|entries| entries.map(Into::into))).await?;
            Ok(answers.map(|answers| Box::pin(answers.map(|answer| answer.map(Into::into))) as Answers))
        })
    }

    pub(crate) async fn read(&mut self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        any!(self, rpc => Ok(rpc.read(request.map(Into::into)).await?.map(Into::into)))
    }

    #[allow(clippy::useless_conversion, reason = "it is one for `current` alone")]
    pub(crate) async fn tail(&mut self, request: Request<TailRequest>) -> Result<Response<Leaves>, Status> {
        any!(self, rpc => {
            let answers = rpc.tail(request).await?;
            Ok(answers.map(|answers| Box::pin(answers.map(|answer| answer.map(Into::into))) as Leaves))
        })
    }

    pub(crate) async fn get_checkpoint(
        &mut self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        any!(self, rpc => Ok(rpc.get_checkpoint(request.map(Into::into)).await?.map(Into::into)))
    }

    pub(crate) async fn get_inclusion_proof(
        &mut self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        any!(self, rpc => rpc.get_inclusion_proof(request).await)
    }

    pub(crate) async fn get_consistency_proof(
        &mut self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        any!(self, rpc => Ok(rpc.get_consistency_proof(request.map(Into::into)).await?.map(Into::into)))
    }
}
