//! The log's gRPC service in the messages of each revision: what comes in is converted to the messages of `current`,
//! with which [`Service`] works, and what it returns is converted to those of the caller.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{
    agreement::Doorkeeper,
    answer::with_room,
    append_stream,
    caller::caller,
    service::{Answered, Service},
    status::not_appended,
    tail,
};
use crate::{
    schema::DESCRIPTORS_BYTES_MAX,
    wire::{
        self, ExchangeSchemaRequest, ExchangeSchemaResponse, GetInclusionProofRequest, GetInclusionProofResponse,
        TailRequest,
    },
};

/// The service in the messages of one revision. `reads` has those about reading: the revision's own, or `current`'s.
macro_rules! speak {
    ($revision:path, reads: $reads:path) => {
        const _: () = {
            use $reads as reads;
            use $revision as revision;

            type Answers = Pin<Box<dyn Stream<Item = Result<revision::AppendResponse, Status>> + Send>>;
            type Leaves = Pin<Box<dyn Stream<Item = Result<reads::TailResponse, Status>> + Send>>;

            #[tonic::async_trait]
            impl revision::audit_log_server::AuditLog for Service {
                type AppendStreamStream = Answers;
                type TailStream = Leaves;

                async fn append(
                    &self,
                    request: Request<revision::AppendRequest>,
                ) -> Result<Response<revision::AppendResponse>, Status> {
                    let caller = caller(&request)?;
                    let (request, turns) = (request.into_inner().into(), Some(caller.turns.clone()));
                    let Answered { answer, room } = self.clone().answer(caller, request, turns).await;
                    Ok(with_room(answer?.into(), room))
                }

                async fn append_stream(
                    &self,
                    request: Request<Streaming<revision::AppendRequest>>,
                ) -> Result<Response<Answers>, Status> {
                    let caller = caller(&request)?;
                    let entries = Box::pin(request.into_inner().map(|request| request.map(Into::into)));
                    let answers = append_stream::answers(self.clone(), caller, entries, self.stream_idle);
                    Ok(Response::new(Box::pin(answers.map(|answer| answer.map(Into::into)))))
                }

                async fn read(
                    &self,
                    request: Request<reads::ReadRequest>,
                ) -> Result<Response<reads::ReadResponse>, Status> {
                    let (answer, room) = Service::read(self, request.into_inner().into()).await?;
                    Ok(with_room(answer.into(), Some(room)))
                }

                async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Leaves>, Status> {
                    let caller = caller(&request)?;
                    let leaves = tail::leaves(self.node.clone(), caller, request.into_inner().start);
                    Ok(Response::new(Box::pin(leaves.map(|leaf| leaf.map(Into::into)))))
                }

                async fn get_checkpoint(
                    &self,
                    request: Request<reads::GetCheckpointRequest>,
                ) -> Result<Response<reads::GetCheckpointResponse>, Status> {
                    let answer = self.checkpoint(request.into_inner().into()).await?;
                    Ok(Response::new(answer.into()))
                }

                async fn get_inclusion_proof(
                    &self,
                    request: Request<GetInclusionProofRequest>,
                ) -> Result<Response<GetInclusionProofResponse>, Status> {
                    self.inclusion_proof(request.into_inner()).map(Response::new)
                }

                async fn get_consistency_proof(
                    &self,
                    request: Request<reads::GetConsistencyProofRequest>,
                ) -> Result<Response<reads::GetConsistencyProofResponse>, Status> {
                    let (answer, room) = self.consistency_proof(request.into_inner().into())?;
                    Ok(with_room(answer.into(), Some(room)))
                }

                async fn exchange_schema(
                    &self,
                    request: Request<ExchangeSchemaRequest>,
                ) -> Result<Response<ExchangeSchemaResponse>, Status> {
                    // The response shows the descriptors of this side, as the request shows those of the other side.
                    let room = self.node.memory().requests.hold(DESCRIPTORS_BYTES_MAX);
                    let Some(room) = room else { return Err(not_appended(self.node.shed())) };
                    let answer = doorkeeper(&request)?.exchange(request.get_ref())?;
                    Ok(with_room(answer, Some(room)))
                }
            }
        };
    };
}

speak!(wire::previous, reads: wire::previous);
speak!(wire, reads: wire);
#[cfg(feature = "rehearsal")]
speak!(wire::next, reads: wire);
#[cfg(feature = "rehearsal")]
speak!(wire::breaking, reads: wire);

/// Returns the doorkeeper that admitted the request. As with the caller, every request has one.
fn doorkeeper<T>(request: &Request<T>) -> Result<Doorkeeper, Status> {
    request.extensions().get::<Doorkeeper>().cloned().ok_or_else(|| Status::unauthenticated("nobody let this call in"))
}
