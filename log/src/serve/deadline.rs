//! Deadlines of calls: what the caller asks for in `grpc-timeout`, and never longer than the server allows.
//!
//! At its deadline, a call is answered with `DEADLINE_EXCEEDED` and dropped, future and body. This may not lose
//! anything: an entry that was submitted belongs to the node, which finishes it whether or not the caller still waits.
//! Streams may last: they end at the caller's deadline if it gave one, and when their connection winds up.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::caller::Caller;

/// The routes with a deadline.
#[derive(Clone)]
pub(super) struct CallDeadline {
    routes: Routes,
    call_max: Duration,
    /// How long a stream may last, if it may not last for ever.
    stream_max: Option<Duration>,
}

impl CallDeadline {
    pub(super) fn new(routes: Routes, call_max: Duration) -> CallDeadline {
        CallDeadline { routes, call_max, stream_max: None }
    }

    /// Returns the same routes, on which no call lasts longer than that.
    pub(super) fn for_at_most(self, most: Duration) -> CallDeadline {
        CallDeadline { call_max: self.call_max.min(most), stream_max: Some(most), ..self }
    }

    /// Makes one call.
    pub(super) async fn call<B>(self, request: Request<B>, caller: Caller) -> Result<Response<Body>, Infallible>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let asked = asked_timeout(request.headers());
        let kind = Kind::of(request.uri().path());
        let allowed = match kind {
            Kind::Unary => Some(asked.map_or(self.call_max, |asked| asked.min(self.call_max))),
            Kind::OwnStream | Kind::ForeignStream => asked.into_iter().chain(self.stream_max).min(),
        };
        let deadline = allowed.map(|allowed| Instant::now() + allowed);
        let answering = self.routes.oneshot(request);
        let response = match deadline {
            None => answering.await?,
            Some(deadline) => match timeout_at(deadline, answering).await {
                Ok(answered) => answered?,
                Err(_) => return Ok(exceeded().into_http()),
            },
        };
        let cut = cut(deadline, (kind == Kind::ForeignStream).then_some(caller));
        Ok(response.map(|body| Body::new(Cut { body, cut, ended: false })))
    }
}

/// How long a call may last, and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One message each way.
    Unary,
    /// A stream of the log's own, which ends by itself when its connection winds up.
    OwnStream,
    /// A stream of another service, which would go on for ever.
    ForeignStream,
}

impl Kind {
    fn of(path: &str) -> Kind {
        match path {
            "/gapless.audit.v1.AuditLog/AppendStream"
            | "/gapless.audit.v1.AuditLog/Tail"
            | "/gapless.cluster.v1.Replication/Append" => Kind::OwnStream,
            "/grpc.health.v1.Health/Watch" => Kind::ForeignStream,
            path if path.starts_with("/grpc.reflection.") => Kind::ForeignStream,
            _ => Kind::Unary,
        }
    }
}

fn exceeded() -> Status {
    mark!("deadline-of-a-call");
    Status::deadline_exceeded("the deadline of the call is over; what was submitted may still be written")
}

/// Reads `grpc-timeout` as the gRPC protocol over HTTP/2 writes it: at most eight digits and a unit. Anything else is
/// no timeout.
fn asked_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Resolves with the status that ends a body early.
type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

fn cut(deadline: Option<Instant>, ends_with: Option<Caller>) -> Option<Ending> {
    let at_deadline = deadline.map(|deadline| async move {
        sleep_until(deadline).await;
        exceeded()
    });
    let at_closing = ends_with.map(|mut caller| async move {
        caller.closed().await;
        Status::unavailable("the connection is winding up")
    });
    match (at_deadline, at_closing) {
        (None, None) => None,
        (Some(at_deadline), None) => Some(Box::pin(at_deadline)),
        (None, Some(at_closing)) => Some(Box::pin(at_closing)),
        (Some(at_deadline), Some(at_closing)) => Some(Box::pin(async move {
            tokio::select! { biased; status = at_deadline => status, status = at_closing => status }
        })),
    }
}

/// A body that may be ended early, with a status in its trailers.
struct Cut {
    body: Body,
    cut: Option<Ending>,
    ended: bool,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What is ready goes first: a last message (`NOT_SERVING`) is sent before the end.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some(cut) = self.cut.as_mut() else { return Poll::Pending };
        let Poll::Ready(status) = cut.as_mut().poll(cx) else { return Poll::Pending };
        self.ended = true;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        asked_timeout(&headers)
    }

    #[test]
    fn every_unit_of_grpc_timeout_is_understood() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ];
        for (text, expected) in cases {
            assert_eq!(asked(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_none() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }

    /// A service whose methods either never answer or never end their answers.
    #[derive(Clone)]
    struct Endless;

    impl tonic::server::NamedService for Endless {
        const NAME: &'static str = "grpc.health.v1.Health";
    }

    impl tower::Service<Request<Body>> for Endless {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            match request.uri().path() {
                "/grpc.health.v1.Health/Watch" => {
                    let endless = http_body_util::StreamBody::new(futures::stream::pending::<Result<_, Status>>());
                    Box::pin(std::future::ready(Ok(Response::new(Body::new(endless)))))
                }
                _ => Box::pin(std::future::pending()),
            }
        }
    }

    async fn answered(path: &str, timeout: Option<&str>) -> (Response<Body>, tokio::sync::watch::Sender<bool>) {
        let (closing, closed) = tokio::sync::watch::channel(false);
        let lifetime = gapless_world::tls::Lifetime { not_before: 0, not_after: i64::MAX };
        let caller = Caller { name: "client-1".into(), closing: closed, lifetime, turns: Default::default() };
        let mut request = Request::post(path).body(Body::empty()).unwrap();
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let layer = CallDeadline::new(Routes::new(Endless), Duration::from_secs(30));
        (layer.call(request, caller).await.unwrap(), closing)
    }

    #[tokio::test(start_paused = true)]
    async fn a_unary_call_ends_by_the_earlier_of_both_deadlines() {
        for (asked, ends_after_ms) in [(None, 30_000), (Some("1H"), 30_000), (Some("250m"), 250)] {
            let begun = Instant::now();
            let (response, _closing) = answered("/grpc.health.v1.Health/Check", asked).await;
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
            assert_eq!(begun.elapsed().as_millis(), ends_after_ms, "{asked:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_by_its_callers_deadline_or_with_its_connection() {
        use http_body_util::BodyExt as _;
        let (response, _closing) = answered("/grpc.health.v1.Health/Watch", Some("90S")).await;
        let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), tonic::Code::DeadlineExceeded);

        let (response, closing) = answered("/grpc.health.v1.Health/Watch", None).await;
        closing.send_replace(true);
        let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), tonic::Code::Unavailable);
    }
}
