//! One connection from its handshake to its end.
//!
//! A connection rests on two certificates and may not outlive the earlier end of the two, by this host's wall clock:
//! HTTP/2 connections live for days, and nobody checks a certificate twice. So the clock is looked at again and again,
//! a request that comes too late is turned away even if the connection is still being wound up, and streams are told
//! to end as well.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::{Status, body::Body};

use super::{ReplyHook, agreement::Doorkeeper, deadline::CallDeadline, listener::Terms};
use crate::{
    audit::tls::{self, Peer},
    world::{LogEvent, Stream},
};

/// How often the wall clock is compared with the end of the certificates: it may jump at any time.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// Calls at once on one connection.
const STREAMS_MAX: u32 = 128;
/// Calls that are answered even where nobody is served.
const HEALTH: &str = "/grpc.health.";
/// Header bytes of one request.
const HEADERS_MAX: u32 = 16 * 1024;
/// Bytes of requests that may be on their way to one call, and to one connection: what a caller gets through in one round
/// trip, so that at 600 ms two thousand entries of 256 bytes a second still fit.
const WINDOWS: (u32, u32) = (1024 * 1024, 4 * 1024 * 1024);

/// Who calls, as its handshake proved. In the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The first DNS name of its certificate.
    pub(super) name: Arc<str>,
    /// True from the moment that the connection winds up: streams end then.
    pub(super) closing: watch::Receiver<bool>,
    /// Last second of the connection's certificates, since 1970.
    pub(super) not_after: i64,
}

impl Caller {
    /// Fails once a certificate of the connection has ended: until that is noticed the connection is still there, and
    /// streams ask before they take or give anything.
    pub(super) fn still_certified(&self) -> Result<(), Status> {
        if is_over(self.not_after) {
            return Err(Status::unavailable("a certificate of this connection has ended: connect again"));
        }
        Ok(())
    }

    /// Waits until the connection winds up. Cancel safe.
    pub(super) async fn closed(&mut self) {
        // Fails where the connection is gone, which is as good an end.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}

/// Shakes hands and serves until the connection ends.
pub(super) async fn run(
    terms: Terms,
    config: Arc<ServerConfig>,
    own: Arc<Peer>,
    stream: Box<dyn Stream>,
    address: String,
) {
    let shaken = tokio::select! {
        biased;
        () = stopped(terms.draining.clone()) => return,
        shaken = shake(&terms, config, stream) => shaken,
    };
    let (stream, peer) = match shaken {
        Ok(shaken) => shaken,
        Err(reason) => {
            terms.world.tell(LogEvent::HandshakeRefused { peer: address, reason: reason.to_owned() });
            return;
        }
    };
    let not_after = peer.not_after.min(own.not_after);
    terms.world.tell(LogEvent::HandshakeAccepted { peer: peer.name.clone(), not_after });
    let why = serve(&terms, &peer.name, not_after, stream).await;
    terms.world.tell(LogEvent::ConnectionClosed { peer: peer.name, why });
}

async fn shake(
    terms: &Terms,
    config: Arc<ServerConfig>,
    stream: Box<dyn Stream>,
) -> Result<(TlsStream<Box<dyn Stream>>, Peer), &'static str> {
    let accepting = async {
        // Never closed, so always given.
        let _turn = terms.handshakes.acquire().await;
        TlsAcceptor::from(config).accept(stream).await
    };
    let stream = match timeout(terms.deadlines.handshake, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return Err(tls::handshake_reason(&why)),
        Err(_) => return Err("timed-out"),
    };
    // The verifier demands a certificate; without one there is no name, so none is no peer either.
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).ok_or("no-certificate")?;
    let peer = tls::peer(shown).map_err(|_| "no-name")?;
    Ok((stream, peer))
}

/// Serves calls until the peer goes, the server stops or a certificate ends. Answers why.
async fn serve(terms: &Terms, name: &str, not_after: i64, stream: TlsStream<Box<dyn Stream>>) -> String {
    let (closing, closed) = watch::channel(false);
    let caller = Caller { name: name.into(), closing: closed, not_after };
    let routes = CallDeadline::new(terms.routes.clone(), terms.deadlines.call_max);
    let doorkeeper = Doorkeeper::new(terms.exchange.clone(), terms.world.clone(), name);
    let (reply_hook, closed) = (terms.reply_hook.clone(), terms.closed);
    let calls = Calls { routes, caller, doorkeeper, reply_hook, closed };
    let mut connection = pin!(http(terms).serve_connection(TokioIo::new(stream), calls));

    let why = tokio::select! {
        biased;
        () = stopped(terms.draining.clone()) => "draining",
        () = ended(not_after) => "certificate-expired",
        ended = connection.as_mut() => return said(&ended),
    };
    closing.send_replace(true);
    connection.as_mut().graceful_shutdown();
    match timeout(terms.deadlines.drain, connection).await {
        Ok(_) => why.to_owned(),
        // Its calls are cut off. What they submitted belongs to the node and may still be written: their callers do
        // not know, and have to ask again.
        Err(_) => format!("{why}, cut off"),
    }
}

fn http(terms: &Terms) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(terms.deadlines.keepalive_interval)
        .keep_alive_timeout(terms.deadlines.keepalive_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        // gRPC has no use for the date of an answer, and reading the clock for it is not free.
        .auto_date_header(false);
    builder
}

/// Why a connection ended that nobody here asked to.
fn said(ended: &Result<(), hyper::Error>) -> String {
    match ended {
        Ok(()) => "closed-by-peer".to_owned(),
        Err(why) if why.is_timeout() => "keepalive-timed-out".to_owned(),
        Err(why) => std::error::Error::source(why).map_or_else(|| why.to_string(), |source| format!("{why}: {source}")),
    }
}

/// Resolves when the server stops.
async fn stopped(mut draining: watch::Receiver<bool>) {
    // Fails where the front is gone: the server is being dropped.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Resolves when the wall clock has passed `not_after`.
async fn ended(not_after: i64) {
    while !is_over(not_after) {
        sleep(CLOCK_CHECK).await;
    }
}

/// Whether a certificate that is valid through `not_after` is no longer.
fn is_over(not_after: i64) -> bool {
    tls::wall_seconds() > not_after
}

/// The calls of one connection: each is stamped with its caller, none is let in after the certificates ended.
#[derive(Clone)]
struct Calls {
    routes: CallDeadline,
    caller: Caller,
    doorkeeper: Doorkeeper,
    reply_hook: Option<ReplyHook>,
    closed: Option<&'static str>,
}

impl Calls {
    /// Whether this call may be made at all.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Status> {
        let path = request.uri().path();
        match self.closed {
            Some(why) if !path.starts_with(HEALTH) => Err(Status::unavailable(why)),
            _ => self.doorkeeper.admit(path, request.headers()),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Err(late) = self.caller.still_certified() {
            return Box::pin(std::future::ready(Ok(late.into_http())));
        }
        let doorkeeper = self.doorkeeper.clone();
        if let Err(status) = self.admit(&request) {
            let mut turned_away = status.into_http();
            doorkeeper.sign(turned_away.headers_mut());
            return Box::pin(std::future::ready(Ok(turned_away)));
        }
        request.extensions_mut().insert(self.caller.clone());
        request.extensions_mut().insert(doorkeeper.clone());
        let hook = self.reply_hook.clone().filter(|_| ReplyHook::is_for(request.uri().path()));
        let answer = self.routes.clone().call(request, self.caller.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            doorkeeper.sign(answer.headers_mut());
            Ok(match hook {
                None => answer,
                Some(hook) => answer.map(|body| hook.on(body)),
            })
        })
    }
}
