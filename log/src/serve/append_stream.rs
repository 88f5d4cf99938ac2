//! Pipelined appends: entries go to the node in the order in which they come, answers go back in the same order.
//!
//! Nothing is spawned: the stream reads a further entry only while somebody takes its answers and fewer than a bounded
//! number are in flight. Entries that were read belong to the node; a caller that goes away takes back none of them,
//! and learns their fate by sending them again.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures::{
    Stream, StreamExt as _,
    future::BoxFuture,
    stream::{FuturesOrdered, unfold},
};
use tokio::time::sleep;
use tonic::Status;

use super::{
    caller::Caller,
    service::{Answered, Service},
};
use crate::wire::{AppendRequest, AppendResponse};

/// Entries of one stream that may wait for their answers. Where a commit takes a round trip around the earth, so many of
/// them have to be on their way at once; small ones are bounded here, large ones by their share of the memory.
const IN_FLIGHT_MAX: usize = 4096;

/// The entries of one stream.
pub(super) type Entries = Pin<Box<dyn Stream<Item = Result<AppendRequest, Status>> + Send>>;

/// The answers of one stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

/// Answers one stream of entries.
pub(super) fn answers(service: Service, caller: Caller, requests: Entries, idle: Duration) -> Answers {
    let (in_flight, weights) = (FuturesOrdered::new(), VecDeque::new());
    let pipeline =
        Pipeline { service, caller, requests, idle, in_flight, weights, held: 0, last: 0, end: None, over: false };
    Box::pin(unfold(pipeline, |mut pipeline| async move { Some((pipeline.next().await?, pipeline)) }))
}

struct Pipeline {
    service: Service,
    caller: Caller,
    requests: Entries,
    idle: Duration,
    in_flight: FuturesOrdered<BoxFuture<'static, Answered>>,
    /// Bytes of each entry in flight, and of all of them.
    weights: VecDeque<usize>,
    held: usize,
    /// Bytes of the entry that came last: what the next one is taken for.
    last: usize,
    /// Set once no more is read; said when everything in flight is answered.
    end: Option<Result<(), Status>>,
    over: bool,
}

impl Pipeline {
    async fn next(&mut self) -> Option<Result<AppendResponse, Status>> {
        if self.over {
            return None;
        }
        loop {
            let reads = self.end.is_none();
            // While somebody takes this stream's answers, entries may wait on its connection: that slows their sender
            // down without sending anybody away. With nothing in flight the next one is read and gets an answer.
            let room = self.in_flight.is_empty() || self.has_room();
            mark!("entries-waited-outside", !room && self.end.is_none());
            tokio::select! {
                biased;
                Some(Answered { answer, .. }) = self.in_flight.next() => {
                    self.held -= self.weights.pop_front().unwrap_or(0);
                    self.over = answer.is_err();
                    return Some(answer);
                }
                () = self.caller.closed(), if reads => {
                    mark!("stream-wound-up");
                    self.end = Some(Err(Status::unavailable("the connection is winding up: go on over another")));
                }
                request = self.requests.next(), if reads && room => match request {
                    // Between the end of a certificate and the look at the clock that notices it, nothing is let in.
                    Some(Ok(request)) => match self.caller.still_certified() {
                        Ok(()) => self.submit(request).await,
                        Err(late) => self.end = Some(Err(late)),
                    },
                    None => self.end = Some(Ok(())),
                    Some(Err(status)) => self.end = Some(Err(status)),
                },
                () = sleep(self.idle), if reads && self.in_flight.is_empty() => {
                    let said = "no entry came for too long: open a stream again when there is one";
                    self.end = Some(Err(Status::deadline_exceeded(said)));
                }
                else => break,
            }
        }
        self.over = true;
        self.end.take()?.err().map(Err)
    }

    /// Whether another entry as large as the last one may be taken in: one stream never takes all the memory there is.
    fn has_room(&self) -> bool {
        let few = self.in_flight.len() < IN_FLIGHT_MAX && self.service.is_fair(self.held, self.in_flight.len());
        few && self.service.has_room(self.last)
    }

    /// Hands the entry to the node before the next one is read: the first poll queues it there.
    async fn submit(&mut self, request: AppendRequest) {
        self.last = request.entry.len();
        self.held += self.last;
        self.weights.push_back(self.last);
        let mut answer: BoxFuture<'static, _> =
            Box::pin(self.service.clone().answer(self.caller.clone(), request, None));
        match futures::poll!(answer.as_mut()) {
            std::task::Poll::Ready(answer) => self.in_flight.push_back(Box::pin(std::future::ready(answer))),
            std::task::Poll::Pending => self.in_flight.push_back(answer),
        }
    }
}
