//! What becomes of a response once it is given: the room that was set aside for it stays taken until its bytes have
//! left HTTP/2, or its call is gone.
//!
//! HTTP/2 keeps what its peer does not take. A caller that asks and takes no responses could otherwise have any number
//! of them waiting, because the room of each would be free again as soon as the response is written down. So the bytes
//! themselves carry the room, and a connection on which a response waits for too long is ended.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use crate::budget::Held;

/// The room of a response, on its way from the handler to the connection.
#[derive(Clone)]
struct Room {
    _held: Arc<Held>,
}

/// Makes a response that keeps its room until it is taken.
pub(super) fn with_room<T>(message: T, held: Option<Held>) -> tonic::Response<T> {
    let mut response = tonic::Response::new(message);
    if let Some(held) = held {
        response.extensions_mut().insert(Room { _held: Arc::new(held) });
    }
    response
}

/// The responses of one connection that were given and not yet taken, with the moments at which they were given.
#[derive(Clone, Default)]
pub(super) struct Untaken(Arc<Mutex<Given>>);

#[derive(Default)]
struct Given {
    /// By number, and so in the order of their moments.
    standing: BTreeMap<u64, Instant>,
    last: u64,
}

impl Untaken {
    /// Returns whether one of them has waited for longer than that.
    pub(super) fn is_overdue(&self, most: Duration) -> bool {
        self.lock().standing.values().next().is_some_and(|given| given.elapsed() > most)
    }

    /// Lets the bytes of a response carry the room that was set aside for it, if any was.
    pub(super) fn carry(&self, mut answer: Response<Body>) -> Response<Body> {
        match answer.extensions_mut().remove::<Room>() {
            None => answer,
            Some(room) => answer.map(|body| Body::new(Carried { body, room, untaken: self.clone() })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        // Each update is complete before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, bytes: Bytes, room: Room) -> Bytes {
        let mut given = self.lock();
        given.last += 1;
        let number = given.last;
        given.standing.insert(number, Instant::now());
        drop(given);
        Bytes::from_owner(Part { bytes, _room: room, number, untaken: self.clone() })
    }
}

/// A body whose bytes carry the room.
struct Carried {
    body: Body,
    room: Room,
    untaken: Untaken,
}

impl http_body::Body for Carried {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let (untaken, room) = (&self.untaken, &self.room);
        frame.map(|frame| {
            frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| untaken.give(bytes, room.clone()))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes on their way. They are dropped once they are written, or once their stream is reset.
struct Part {
    bytes: Bytes,
    _room: Room,
    number: u64,
    untaken: Untaken,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.untaken.lock().standing.remove(&self.number);
    }
}
