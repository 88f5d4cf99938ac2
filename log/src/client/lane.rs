//! How entries travel: as unary calls side by side, or over one stream. Either way answers come in the order of the
//! entries, so that delivery need not know the difference.

use std::{collections::VecDeque, convert::Infallible, future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, stream::FuturesOrdered};
use gapless_world::calls::Attempt;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    rpc::{Answers, Rpc},
    settings::{Call, Deadlines},
};
use crate::wire::{AppendRequest, AppendResponse};

/// The number of unary calls side by side: at any distance, and at most. A server takes 256 calls on one connection,
/// and other calls need room there too.
const CALLS: (usize, usize) = (16, 240);
/// The same for entries on one stream, which only the memory limits.
const STREAM_ENTRIES: (usize, usize) = (128, 16 * 1024);

type Opening = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;
/// Answers that came while delivery was busy with an earlier one, in the order of the entries.
type EarlyAnswers = VecDeque<Result<AppendResponse, Status>>;
type Answer = Pin<Box<dyn Future<Output = Result<AppendResponse, Status>> + Send>>;

/// One way to the log, over one connection. Dropping the lane cancels what is in flight on this side; the log may have
/// those entries all the same.
pub(crate) enum Lane {
    Calls { rpc: Box<Rpc>, deadline: Duration, attempt: u32, answers: FuturesOrdered<Answer>, arrived: EarlyAnswers },
    Stream { entries: mpsc::Sender<AppendRequest>, state: StreamState },
}

/// The headers of the answer to a stream come some time after its first entries were sent.
pub(crate) enum StreamState {
    Opening(Opening),
    Open(Answers),
}

impl Lane {
    pub(crate) fn open(call: Call, rpc: &Rpc, deadlines: &Deadlines, attempt: u32) -> Lane {
        let mut rpc = Box::new(rpc.clone());
        match call {
            Call::Append => {
                let (answers, arrived) = (FuturesOrdered::new(), VecDeque::new());
                Lane::Calls { rpc, deadline: deadlines.call, attempt, answers, arrived }
            }
            Call::AppendStream => {
                let (entries, sending) = mpsc::channel(STREAM_ENTRIES.1);
                let mut request = Request::new(ReceiverStream::new(sending));
                request.extensions_mut().insert(Attempt(attempt));
                let opening = Box::pin(async move { rpc.append_stream(request).await });
                Lane::Stream { entries, state: StreamState::Opening(opening) }
            }
        }
    }

    /// Returns how many entries may be in flight: at any distance, and at most.
    pub(crate) fn widths(call: Call) -> (usize, usize) {
        match call {
            Call::Append => CALLS,
            Call::AppendStream => STREAM_ENTRIES,
        }
    }

    /// Sends one entry. Never waits: the caller keeps to [`widths`](Self::widths). If the lane is broken, the next
    /// answer says so.
    pub(crate) fn send(&mut self, message: AppendRequest) {
        match self {
            Lane::Calls { rpc, deadline, attempt, answers, .. } => {
                let (mut rpc, deadline) = (rpc.clone(), *deadline);
                let mut request = Request::new(message);
                request.set_timeout(deadline);
                // Only the first call in flight counts as a repeated attempt; those after it count as first attempts.
                request.extensions_mut().insert(Attempt(if answers.is_empty() { *attempt } else { 1 }));
                // The timeout that travels with the request bounds only the wait for the head of the answer.
                answers.push_back(Box::pin(async move {
                    let late = |_| Status::deadline_exceeded("no answer in time");
                    timeout(deadline, rpc.append(request)).await.map_err(late)?.map(Response::into_inner)
                }));
            }
            Lane::Stream { entries, .. } => {
                let _ = entries.try_send(message);
            }
        }
    }

    /// Returns the next answer in the order of the entries, or `None` if the server ended the stream. Waits while
    /// nothing is in flight and nothing is wrong. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<AppendResponse>, Status> {
        match self {
            Lane::Calls { answers, arrived, .. } => {
                if let Some(answer) = arrived.pop_front() {
                    return answer.map(Some);
                }
                match answers.next().await {
                    Some(answer) => answer.map(Some),
                    None => std::future::pending().await,
                }
            }
            Lane::Stream { state, .. } => {
                if let StreamState::Opening(opening) = state {
                    let answers = opening.await?.into_inner();
                    *state = StreamState::Open(answers);
                }
                match state {
                    StreamState::Open(answers) => answers.next().await.transpose(),
                    StreamState::Opening(_) => Ok(None),
                }
            }
        }
    }

    /// Gives up what is in flight: its answers are not awaited.
    pub(crate) fn give_up(&mut self) {
        if let Lane::Calls { answers, arrived, .. } = self {
            *answers = FuturesOrdered::new();
            arrived.clear();
        }
    }

    /// Drives what is in flight while delivery is busy with an earlier answer: a call that is not polled would not end
    /// at its deadline. Never returns. Cancel safe.
    pub(crate) async fn drive(&mut self) -> Infallible {
        if let Lane::Calls { answers, arrived, .. } = self {
            while let Some(answer) = answers.next().await {
                arrived.push_back(answer);
            }
        }
        std::future::pending().await
    }
}
