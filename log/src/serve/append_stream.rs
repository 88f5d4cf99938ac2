//! Pipelined appends: entries go to the node in the order in which they come, and responses go back in the same order.
//!
//! Nothing is spawned: the stream reads a further entry only while its responses are taken and fewer than a bounded
//! number are in flight. Entries that were read belong to the node; a caller that goes away takes none of them back,
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

/// The number of entries of one stream that may wait for their responses. If a commit takes a round trip around the
/// earth, this many have to be on their way at once. This bounds small entries; large ones are bounded by their share
/// of the memory.
const IN_FLIGHT_MAX: usize = 4096;

/// The entries of one stream.
pub(super) type Entries = Pin<Box<dyn Stream<Item = Result<AppendRequest, Status>> + Send>>;

/// The responses of one stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

/// Responds to one stream of entries.
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
    /// Bytes of each entry in flight (`weights`), and of all of them (`held`).
    weights: VecDeque<usize>,
    held: usize,
    /// Bytes of the entry that came last; the next one is assumed to have as many.
    last: usize,
    /// Set once no more is read, and sent once everything in flight is answered.
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
            // While this stream's responses are taken, entries may wait on its connection: this slows their sender down
            // without turning anybody away. If nothing is in flight, the next entry is read and gets a response.
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
                    // Nothing is admitted between the end of a certificate and the check of the clock that notices it.
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

    /// Returns whether another entry as large as the last one may be accepted: one stream never takes all the memory.
    fn has_room(&self) -> bool {
        let few = self.in_flight.len() < IN_FLIGHT_MAX && self.service.is_fair(self.held, self.in_flight.len());
        few && self.service.has_room(self.last)
    }

    /// Hands the entry to the node before the next one is read: the first poll puts it into the node's queue.
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
