//! One connection from its handshake to its end.
//!
//! A connection rests on two certificates. By this host's wall clock, it may not outlive the one that ends first, nor
//! exist while the caller's certificate has not begun: HTTP/2 connections live for days, and nothing else checks a
//! certificate twice. So the clock is checked again and again, a request that comes too late is turned away even if the
//! connection is still being wound up, and streams are told to end as well.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use gapless_world::{
    LogEvent, Stream,
    doorstep::{Outcome, Standing, TurnedAway},
    tls::{self, Lifetime, Outside, Peer},
};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tonic::{Status, body::Body};

use super::{
    agreement::Doorkeeper,
    answer::Untaken,
    caller::Caller,
    deadline::CallDeadline,
    gate::{Gate, STRANGER_CALL_MAX, Way},
    terms::Terms,
    turns::Turns,
};

/// How often the wall clock is compared with the certificates: it may jump at any time, in either direction.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// Maximum number of concurrent calls on one connection.
const STREAMS_MAX: u32 = 256;
/// The path of calls that are answered even if nothing else is served.
const HEALTH: &str = "/grpc.health.";
/// Header bytes of one request.
const HEADERS_MAX: u32 = 16 * 1024;
/// Bytes of requests that may be on their way to one call, and to one connection. This is what a caller sends in one
/// round trip: even at 600 ms, two thousand entries of 256 bytes a second fit.
const WINDOWS: (u32, u32) = (1024 * 1024, 4 * 1024 * 1024);
/// The same for a connection of another member: a whole Raft call, however far away the member is.
const MEMBERS_WINDOWS: (u32, u32) = (4 * 1024 * 1024, 8 * 1024 * 1024);

/// Shakes hands and serves until the connection ends.
pub(super) async fn run(
    terms: Terms,
    (config, own): (Arc<ServerConfig>, Arc<Peer>),
    (standing, outcome): (Standing, Outcome),
    stream: Box<dyn Stream>,
    address: String,
) {
    let shaken = tokio::select! {
        biased;
        () = stopped(terms.draining.clone()) => return,
        () = outcome.crowded_out() => Err("too-many-handshakes".into()),
        shaken = shake(&terms, config, standing, stream) => shaken,
    };
    let (stream, peer) = match shaken {
        Ok(shaken) => shaken,
        Err(away) => {
            terms.refusals.add(address, away.reason);
            return tokio::select! {
                biased;
                () = stopped(terms.draining.clone()) => (),
                () = outcome.see_off(away) => (),
            };
        }
    };
    let is_member = terms.gate.as_ref().is_some_and(|gate| gate.is_member(&peer.name));
    let Some(_place) = terms.places.take(&peer.name, is_member) else {
        return terms.refusals.add(peer.name, "too-many-connections");
    };
    let lifetime = Lifetime::of(&own, &peer);
    terms.world.tell(LogEvent::HandshakeAccepted { peer: peer.name.clone(), not_after: lifetime.not_after });
    let why = serve(&terms, &peer.name, lifetime, stream).await;
    terms.world.tell(LogEvent::ConnectionClosed { peer: peer.name, why });
}

/// Shakes hands. Gives up the place at the door when it ends, unless the peer has yet to read why it was turned away.
async fn shake(
    terms: &Terms,
    config: Arc<ServerConfig>,
    standing: Standing,
    stream: Box<dyn Stream>,
) -> Result<(TlsStream<Box<dyn Stream>>, Peer), TurnedAway<Box<dyn Stream>>> {
    let Ok(shaken) = timeout(terms.deadlines.handshake, standing.shake(stream, config)).await else {
        mark!("handshake-took-too-long");
        return Err("timed-out".into());
    };
    let stream = shaken?;
    // The verifier demands a certificate. A connection without a certificate has no name, so it has no peer either.
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).ok_or("no-certificate")?;
    let peer = tls::peer(shown).map_err(|_| "no-name")?;
    Ok((stream, peer))
}

/// Serves calls until the peer goes, the server stops or a certificate is not valid any more. Returns why.
async fn serve(terms: &Terms, name: &str, lifetime: Lifetime, stream: TlsStream<Box<dyn Stream>>) -> String {
    let (closing, closed) = watch::channel(false);
    let caller = Caller { name: name.into(), closing: closed, lifetime, turns: Turns::default() };
    let routes = CallDeadline::new(terms.routes.clone(), terms.deadlines.call_max);
    let doorkeeper = Doorkeeper::new(terms.exchange.clone(), terms.world.clone(), name);
    let (gate, untaken) = (terms.gate.clone(), Untaken::default());
    let calls = Calls {
        routes,
        caller,
        doorkeeper,
        #[cfg(feature = "rehearsal")]
        reply_hook: terms.reply_hook.clone(),
        closed: terms.closed,
        gate,
        untaken: untaken.clone(),
    };
    let mut connection = pin!(http(terms, name).serve_connection(TokioIo::new(stream), calls));

    let why = tokio::select! {
        biased;
        () = stopped(terms.draining.clone()) => "draining",
        why = ended(lifetime, &untaken, terms.deadlines.call_max) => why,
        ended = connection.as_mut() => return said(&ended),
    };
    closing.send_replace(true);
    connection.as_mut().graceful_shutdown();
    match timeout(terms.deadlines.drain, connection).await {
        Ok(_) => why.to_owned(),
        // Its calls are cut off. What they submitted belongs to the node and may still be written: their callers do not
        // know, and have to ask again.
        Err(_) => {
            mark!("calls-cut-off-by-a-stop");
            format!("{why}, cut off")
        }
    }
}

fn http(terms: &Terms, name: &str) -> http2::Builder<TokioExecutor> {
    let is_member = terms.gate.as_ref().is_some_and(|gate| gate.is_member(name));
    let windows = if is_member { MEMBERS_WINDOWS } else { WINDOWS };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(terms.deadlines.keepalive_interval)
        .keep_alive_timeout(terms.deadlines.keepalive_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(windows.0)
        .initial_connection_window_size(windows.1)
        // gRPC has no use for the date of a response, and reading the clock for it is not free.
        .auto_date_header(false);
    builder
}

/// Returns why a connection ended that this server did not end.
fn said(ended: &Result<(), hyper::Error>) -> String {
    match ended {
        Ok(()) => "closed-by-peer".to_owned(),
        Err(why) if why.is_timeout() => {
            mark!("peer-fell-silent");
            "keepalive-timed-out".to_owned()
        }
        Err(why) => std::error::Error::source(why).map_or_else(|| why.to_string(), |source| format!("{why}: {source}")),
    }
}

/// Resolves when the server stops.
async fn stopped(mut draining: watch::Receiver<bool>) {
    // Fails if the front is gone: the server is being dropped.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Resolves with the reason once a certificate is not valid any more, or a response waits for too long.
async fn ended(lifetime: Lifetime, untaken: &Untaken, answer_max: Duration) -> &'static str {
    loop {
        match lifetime.check() {
            Err(Outside::Ended) => {
                mark!("certificate-ended-in-a-connection");
                return "certificate-expired";
            }
            Err(Outside::NotYetValid) => {
                mark!("clock-before-the-certificate");
                return "certificate-not-yet-valid";
            }
            Ok(()) if untaken.is_overdue(answer_max) => return "answers-not-taken",
            Ok(()) => sleep(CLOCK_CHECK).await,
        }
    }
}

/// The calls of one connection: each is stamped with its caller, and none is admitted while the certificates are not
/// valid.
#[derive(Clone)]
struct Calls {
    routes: CallDeadline,
    caller: Caller,
    doorkeeper: Doorkeeper,
    #[cfg(feature = "rehearsal")]
    reply_hook: Option<super::ReplyHook>,
    closed: Option<&'static str>,
    gate: Option<Gate>,
    untaken: Untaken,
}

impl Calls {
    /// Decides whether this call may be made at all, and which way it goes.
    fn admit(&self, request: &Request<Incoming>) -> Result<Way, Status> {
        let path = request.uri().path();
        match self.closed {
            Some(why) if !path.starts_with(HEALTH) => {
                mark!("turned-away-in-a-repair");
                return Err(Status::unavailable(why));
            }
            _ => self.doorkeeper.admit(path, request.headers())?,
        }
        self.gate.as_ref().map_or(Ok(Way::Usual), |gate| gate.admit(&self.caller.name, path))
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Err(late) = self.caller.still_certified() {
            mark!("call-after-its-certificate");
            return Box::pin(std::future::ready(Ok(late.into_http())));
        }
        let doorkeeper = self.doorkeeper.clone();
        let (routes, place) = match self.admit(&request) {
            Ok(Way::Usual) => (self.routes.clone(), None),
            Ok(Way::Stranger(place)) => (self.routes.clone().for_at_most(STRANGER_CALL_MAX), Some(place)),
            Err(status) => {
                let mut turned_away = status.into_http();
                doorkeeper.sign(turned_away.headers_mut());
                return Box::pin(std::future::ready(Ok(turned_away)));
            }
        };
        request.extensions_mut().insert(self.caller.clone());
        request.extensions_mut().insert(doorkeeper.clone());
        #[cfg(feature = "rehearsal")]
        let hook = self.reply_hook.clone().filter(|_| super::ReplyHook::is_for(request.uri().path()));
        let answer = routes.call(request, self.caller.clone());
        let untaken = self.untaken.clone();
        Box::pin(async move {
            let mut answer = untaken.carry(answer.await?);
            doorkeeper.sign(answer.headers_mut());
            if let Some(place) = place {
                answer = place.keep(answer);
            }
            #[cfg(feature = "rehearsal")]
            if let Some(hook) = hook {
                answer = answer.map(|body| hook.on(body));
            }
            Ok(answer)
        })
    }
}
