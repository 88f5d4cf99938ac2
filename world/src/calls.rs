//! Reports calls to the observer, at the end that makes them: a [`Service`] around a tonic channel.
//!
//! What a call said on the wire can only be judged by its exact bytes, so each gRPC frame of both bodies is reported as
//! it passes, before anything decodes it. Bodies are teed, never held back: at most one frame is kept in memory for the
//! report, and the bytes themselves go on at once. Every call that started is reported to have ended exactly once, also
//! when its caller drops it. This file must never change what passes through it.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::{LogEvent, Observer, error_chain, observer::Direction};

/// Frames above this many bytes (16 MiB) pass unreported, so that a hostile length costs no memory.
const TOLD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Space for a frame is reserved for at most this many of its missing bytes.
const RESERVED_BYTES_MAX: usize = 256 * 1024;
/// One byte of compression flag and four bytes of length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// The number of an attempt at one piece of work, from 1. It is put into a request's extensions; 1 where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt(pub u32);

/// Numbers calls and reports them. Clones share one counter.
#[derive(Clone)]
pub struct Calls {
    observer: Arc<dyn Observer>,
    next: Arc<AtomicU64>,
}

impl Calls {
    /// Makes a counter that starts at a random multiple of 2^32 below 2^52, so that the numbers of several of these in
    /// one process do not collide and still fit the integers of JSON readers.
    pub fn new(observer: Arc<dyn Observer>) -> Calls {
        let base = u64::from(rand::random::<u32>() >> 12) << 32;
        Calls { observer, next: Arc::new(AtomicU64::new(base)) }
    }

    /// Returns the observer that is told.
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    /// Wraps a channel to `peer`.
    pub fn observe<S>(&self, channel: S, peer: &str) -> Observed<S> {
        Observed { channel, calls: self.clone(), peer: Arc::from(peer) }
    }

    fn start<B>(&self, request: &Request<B>, peer: &str) -> Call {
        let call = Call { number: self.next.fetch_add(1, Ordering::Relaxed), observer: self.observer.clone() };
        let deadline = request.headers().get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
        call.observer.see(LogEvent::CallStarted {
            call: call.number,
            method: request.uri().path().to_owned(),
            peer: peer.to_owned(),
            attempt: request.extensions().get::<Attempt>().map_or(1, |attempt| attempt.0),
            deadline_ms: deadline.map_or(0, |deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)),
        });
        call
    }
}

/// A channel whose calls are reported.
#[derive(Clone)]
pub struct Observed<S> {
    channel: S,
    calls: Calls,
    peer: Arc<str>,
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Error + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.calls.start(&request, &self.peer);
        let ending = Ending { call: Some(call.clone()) };
        let request = request.map(|body| Body::new(Tee::new(body, call.clone(), Direction::Request, None)));
        let answer = self.channel.call(request);
        Box::pin(async move {
            // If this future is dropped while it waits here, `ending` reports that the call was cancelled.
            let mut ending = ending;
            match answer.await {
                Ok(response) => Ok(observe_response(response, call, ending)),
                Err(error) => {
                    let (code, detail) = transport_status(&error);
                    ending.end(code, detail);
                    Err(error)
                }
            }
        })
    }
}

fn observe_response(response: Response<Body>, call: Call, mut ending: Ending) -> Response<Body> {
    // A trailers-only response carries its status in the headers; its body is never read.
    if let Some((code, detail)) = status_in(response.headers()) {
        ending.end(code, detail);
    }
    response.map(|body| Body::new(Tee::new(body, call, Direction::Response, Some(ending))))
}

/// One call that started.
#[derive(Clone)]
struct Call {
    number: u64,
    observer: Arc<dyn Observer>,
}

/// The duty to report that the call ended. It is done once, at the latest when this is dropped.
struct Ending {
    call: Option<Call>,
}

impl Ending {
    fn end(&mut self, code: Code, detail: String) {
        if let Some(call) = self.call.take() {
            call.observer.see(LogEvent::CallEnded { call: call.number, status: code_name(code).to_owned(), detail });
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "dropped by its caller".to_owned());
    }
}

/// A body whose frames are reported while they pass.
struct Tee {
    body: Body,
    call: Call,
    direction: Direction,
    messages: Messages,
    /// Only a response ends its call.
    ending: Option<Ending>,
}

impl Tee {
    fn new(body: Body, call: Call, direction: Direction, ending: Option<Ending>) -> Tee {
        Tee { body, call, direction, messages: Messages::default(), ending }
    }

    fn tell(&mut self, data: &Bytes) {
        self.messages.push(data);
        while let Some(bytes) = self.messages.next() {
            let event = LogEvent::CallMessage { call: self.call.number, direction: self.direction, bytes, omitted: 0 };
            self.call.observer.see(event);
        }
    }

    fn end(&mut self, code: Code, detail: String) {
        if let Some(ending) = &mut self.ending {
            ending.end(code, detail);
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.tell(data);
                } else if let Some((code, detail)) = frame.trailers_ref().and_then(status_in) {
                    self.end(code, detail);
                }
            }
            Some(Err(status)) => self.end(status.code(), error_chain(status)),
            None => self.end(Code::Unknown, "ended without a status".to_owned()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Cuts a body into its gRPC frames, without their prefixes. Data chunks need not end where frames do.
#[derive(Default)]
struct Messages {
    pending: BytesMut,
    /// The bytes still to come of a frame that is too large to be reported.
    skip: usize,
}

impl Messages {
    fn push(&mut self, data: &Bytes) {
        let skipped = self.skip.min(data.len());
        self.skip -= skipped;
        self.pending.extend_from_slice(&data[skipped..]);
    }

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let prefix: [u8; PREFIX_BYTES] = self.pending.get(..PREFIX_BYTES)?.try_into().ok()?;
            let [_compressed, length @ ..] = prefix;
            let length = u32::from_be_bytes(length) as usize;
            if length <= TOLD_BYTES_MAX {
                let missing = (PREFIX_BYTES + length).saturating_sub(self.pending.len());
                if missing > 0 {
                    // Reserve at once, because growing step by step copies everything each time; but not as much as a
                    // hostile length asks for.
                    self.pending.reserve(missing.min(RESERVED_BYTES_MAX));
                    return None;
                }
                self.pending.advance(PREFIX_BYTES);
                return Some(self.pending.split_to(length).freeze());
            }
            let here = (PREFIX_BYTES + length).min(self.pending.len());
            self.skip = PREFIX_BYTES + length - here;
            self.pending.advance(here);
        }
    }
}

fn status_in(headers: &HeaderMap) -> Option<(Code, String)> {
    let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
    let detail = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Some((code, detail.unwrap_or_default()))
}

/// Returns the status of a call whose transport failed before there was a response.
fn transport_status(error: &(dyn Error + Send + Sync + 'static)) -> (Code, String) {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::TimeoutExpired>() {
            return (Code::DeadlineExceeded, error.to_string());
        }
        if error.is::<tonic::ConnectError>() {
            return (Code::Unavailable, error_chain(error));
        }
        next = error.source();
    }
    (Code::Unknown, error_chain(error))
}

/// Returns the name of a gRPC status in kebab-case, as events carry it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid-argument",
        Code::DeadlineExceeded => "deadline-exceeded",
        Code::NotFound => "not-found",
        Code::AlreadyExists => "already-exists",
        Code::PermissionDenied => "permission-denied",
        Code::ResourceExhausted => "resource-exhausted",
        Code::FailedPrecondition => "failed-precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out-of-range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data-loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timeout_is_read_with_its_unit_and_nothing_else_is() {
        assert_eq!(grpc_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(grpc_timeout("9999999u"), Some(Duration::from_micros(9_999_999)));
        for wrong in ["", "S", "10", "123456789S", "+1S", "1é", "1x"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_frame_too_large_to_tell_is_passed_over_and_the_next_is_told() {
        let mut messages = Messages::default();
        let length = u32::try_from(TOLD_BYTES_MAX + 1).unwrap();
        messages.push(&Bytes::from([&[0u8][..], &length.to_be_bytes(), &[7; 100]].concat()));
        assert_eq!(messages.next(), None);
        messages.push(&Bytes::from(vec![7; TOLD_BYTES_MAX + 1 - 100]));
        messages.push(&Bytes::from_static(b"\0\0\0\0\x02ok"));
        assert_eq!(messages.next(), Some(Bytes::from_static(b"ok")));
        assert_eq!(messages.next(), None);
    }

    proptest! {
        #[test]
        fn frames_are_told_whole_however_the_body_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..30,
        ) {
            let mut body = Vec::new();
            for frame in &frames {
                body.push(0);
                body.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
                body.extend_from_slice(frame);
            }
            let (mut messages, mut told) = (Messages::default(), Vec::new());
            for chunk in body.chunks(cut) {
                messages.push(&Bytes::copy_from_slice(chunk));
                while let Some(message) = messages.next() {
                    told.push(message.to_vec());
                }
            }
            prop_assert_eq!(told, frames);
        }
    }
}
