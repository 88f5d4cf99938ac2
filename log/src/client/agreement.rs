//! A channel that hands on answers only from a server whose schema is compatible with this client's.
//!
//! Each call names this client's schema by its fingerprint, and each answer names the server's. If the two differ and
//! one end does not know the other's yet, they show each other their descriptors once, and the verdict is kept for all
//! connections. An answer is handed on only after the verdict; a server that is not compatible is told apart from one
//! that failed, so that delivery waits for somebody instead of retrying in vain, and drops nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use gapless_world::{LogEvent, Observer};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::timeout;
use tonic::{Status, body::Body, codegen::StdError};
use tower::Service;

use crate::{
    schema::{ASKED_FOR, Exchange, FINGERPRINT, Fingerprint, Judged, printable},
    wire::{ExchangeSchemaRequest, audit_log_client::AuditLogClient},
};

/// The longest reason of a server that is passed on.
const REASON_CHARS_MAX: usize = 400;

/// A channel to one server, over one connection.
#[derive(Clone)]
pub(crate) struct Agreed<S> {
    channel: S,
    end: Arc<ThisEnd>,
}

/// This end of the connection.
struct ThisEnd {
    exchange: Arc<Exchange>,
    observer: Arc<dyn Observer>,
    peer: String,
    /// The deadline for the answer to an exchange.
    deadline: Duration,
    /// The schema that was reported last.
    told: Mutex<Option<Fingerprint>>,
}

impl<S> Agreed<S> {
    pub(crate) fn new(
        channel: S,
        exchange: Arc<Exchange>,
        observer: Arc<dyn Observer>,
        peer: &str,
        deadline: Duration,
    ) -> Agreed<S> {
        let told = Mutex::default();
        Agreed { channel, end: Arc::new(ThisEnd { exchange, observer, peer: peer.to_owned(), deadline, told }) }
    }
}

impl<S> Service<Request<Body>> for Agreed<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<StdError> + Send,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Ok(ours) = HeaderValue::from_str(&self.end.exchange.fingerprint().to_string()) {
            request.headers_mut().insert(FINGERPRINT, ours);
        }
        let (channel, end) = (self.channel.clone(), self.end.clone());
        let answer = self.channel.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(match end.examine(answer.headers(), channel).await {
                Ok(()) => answer,
                Err(status) => status.into_http(),
            })
        })
    }
}

impl ThisEnd {
    /// Checks whether the answer may be handed on.
    async fn examine<S>(&self, answer: &HeaderMap, channel: S) -> Result<(), Status>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<StdError> + Send,
        S::Future: Send + 'static,
    {
        // A server that names no schema does not know of any other: it speaks `current`.
        let Some(named) = answer.get(FINGERPRINT) else { return Ok(()) };
        let Some(theirs) = named.to_str().ok().and_then(Fingerprint::read) else {
            return Err(Status::failed_precondition("the server names its schema by what is not a fingerprint"));
        };
        let asked = answer.contains_key(ASKED_FOR);
        let known = self.exchange.verdict(&theirs).filter(|_| !asked);
        let judged = match known {
            Some(judged) => judged,
            None => self.show(theirs, channel).await?,
        };
        self.tell(theirs, &judged);
        match judged {
            Judged::Incompatible(why) => Err(Status::failed_precondition(format!("schema: {why}"))),
            // The call itself was turned away.
            Judged::Same | Judged::Compatible(_) if asked => {
                Err(Status::aborted("the server has seen this client's schema by now: call again"))
            }
            Judged::Same | Judged::Compatible(_) => Ok(()),
        }
    }

    /// Shows the server this client's descriptors, and judges those that the server shows.
    async fn show<S>(&self, theirs: Fingerprint, channel: S) -> Result<Judged, Status>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<StdError> + Send,
        S::Future: Send + 'static,
    {
        let revision = self.exchange.revision();
        let descriptors = revision.descriptors().into();
        let mut request =
            tonic::Request::new(ExchangeSchemaRequest { revision: revision.name().to_owned(), descriptors });
        request.set_timeout(self.deadline);
        let mut rpc = AuditLogClient::new(channel);
        let shown = match timeout(self.deadline, rpc.exchange_schema(request)).await {
            Ok(shown) => shown?.into_inner(),
            Err(_) => return Err(Status::deadline_exceeded("the server did not show its schema in time")),
        };
        let (fingerprint, mut judged) = (self.exchange.learn(&shown.revision, &shown.descriptors))
            .map_err(|why| Status::failed_precondition(format!("schema: {why}")))?;
        if fingerprint != theirs {
            return Err(Status::aborted("another server answered: call again"));
        }
        if !shown.incompatibility.is_empty() && !matches!(judged, Judged::Incompatible(_)) {
            // The server knows a rule that this end does not know. One refusal is enough.
            judged = Judged::Incompatible(printable(&shown.incompatibility, REASON_CHARS_MAX));
            self.exchange.remember(fingerprint, judged.clone());
        }
        Ok(judged)
    }

    /// Reports a schema that differs, once per connection.
    fn tell(&self, theirs: Fingerprint, judged: &Judged) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(theirs);
        if told == Some(theirs) {
            return;
        }
        let peer = self.peer.clone();
        let revision = self.exchange.revision().name().to_owned();
        match judged {
            Judged::Same => {}
            Judged::Compatible(theirs) => {
                self.observer.see(LogEvent::SchemaAgreed { peer, revision, theirs: theirs.clone() });
            }
            Judged::Incompatible(why) => self.observer.see(LogEvent::SchemaRefused { peer, reason: why.clone() }),
        }
    }
}
