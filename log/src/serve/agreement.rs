//! Who may call at all: callers whose schema is compatible with this server's.
//!
//! A call that names an unknown schema is turned away with the request to show its descriptors; a call whose schema is
//! known to be incompatible is turned away for good. In both cases, nothing of the call was read but its head. A call
//! that names no schema is served: other clients and `grpcurl` speak `current`, whose bytes are never re-encoded here.

use std::sync::{Arc, Mutex, PoisonError};

use gapless_world::{LogEvent, World};
use http::{HeaderMap, HeaderValue};
use tonic::Status;

use crate::{
    schema::{ASKED_FOR, Exchange, FINGERPRINT, Fingerprint, Judged},
    wire::{ExchangeSchemaRequest, ExchangeSchemaResponse},
};

/// The path of the log's own service.
const SERVICE: &str = "/gapless.audit.v1.AuditLog/";
/// The one call that needs no agreement.
const EXCHANGE: &str = "/gapless.audit.v1.AuditLog/ExchangeSchema";

/// Guards the door of one connection. It is in the extensions of every request.
#[derive(Clone)]
pub(super) struct Doorkeeper(Arc<Door>);

struct Door {
    exchange: Arc<Exchange>,
    world: World,
    peer: String,
    /// This server's fingerprint, as a header of its responses.
    ours: HeaderValue,
    /// The schema that was reported last.
    told: Mutex<Option<Fingerprint>>,
}

impl Doorkeeper {
    pub(super) fn new(exchange: Arc<Exchange>, world: World, peer: &str) -> Doorkeeper {
        let ours = exchange.fingerprint().to_string();
        // Hex digits are always a valid value.
        let ours = HeaderValue::from_str(&ours).unwrap_or_else(|_| HeaderValue::from_static(""));
        Doorkeeper(Arc::new(Door { exchange, world, peer: peer.to_owned(), ours, told: Mutex::default() }))
    }

    /// Admits a call, or says why not.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Status> {
        if !path.starts_with(SERVICE) || path == EXCHANGE {
            return Ok(());
        }
        let Some(named) = headers.get(FINGERPRINT) else { return Ok(()) };
        let Some(theirs) = named.to_str().ok().and_then(Fingerprint::read) else {
            return Err(Status::invalid_argument(format!("`{FINGERPRINT}` is 64 lower-case hex digits")));
        };
        let Some(judged) = self.0.exchange.verdict(&theirs) else {
            mark!("schema-not-seen-yet");
            let said = format!("this server has not seen schema {theirs} yet: show it with ExchangeSchema");
            let mut status = Status::failed_precondition(said);
            status.metadata_mut().insert(ASKED_FOR, tonic::metadata::MetadataValue::from_static("1"));
            return Err(status);
        };
        self.tell(theirs, &judged);
        match judged {
            Judged::Same | Judged::Compatible(_) => Ok(()),
            Judged::Incompatible(why) => {
                mark!("schema-refused");
                Err(Status::failed_precondition(format!("schema: {why}")))
            }
        }
    }

    /// Puts this server's fingerprint into a response.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        headers.insert(FINGERPRINT, self.0.ours.clone());
    }

    /// Judges the schema that a caller shows, and returns this server's.
    pub(super) fn exchange(&self, shown: &ExchangeSchemaRequest) -> Result<ExchangeSchemaResponse, Status> {
        let learnt = self.0.exchange.learn(&shown.revision, &shown.descriptors);
        let (theirs, judged) = learnt.map_err(|why| Status::invalid_argument(why.to_string()))?;
        self.tell(theirs, &judged);
        let revision = self.0.exchange.revision();
        let incompatibility = match judged {
            Judged::Same | Judged::Compatible(_) => String::new(),
            Judged::Incompatible(why) => why,
        };
        let (revision, descriptors) = (revision.name().to_owned(), revision.descriptors().into());
        Ok(ExchangeSchemaResponse { revision, descriptors, incompatibility })
    }

    /// Reports a schema that differs, once per connection.
    fn tell(&self, theirs: Fingerprint, judged: &Judged) {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner).replace(theirs);
        if told == Some(theirs) {
            return;
        }
        let peer = self.0.peer.clone();
        let revision = self.0.exchange.revision().name().to_owned();
        match judged {
            Judged::Same => {}
            Judged::Compatible(theirs) => {
                mark!("schemas-differ");
                self.0.world.tell(LogEvent::SchemaAgreed { peer, revision, theirs: theirs.clone() });
            }
            Judged::Incompatible(why) => {
                self.0.world.tell(LogEvent::SchemaRefused { peer, reason: why.clone() });
            }
        }
    }
}
