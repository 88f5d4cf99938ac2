//! The client of the audit log: it accepts events durably, and delivers them until the log has proven that it has them.
//!
//! ```text
//! submit ──▶ outbox (fsync: accepted) ──▶ delivery ──▶ log
//!                    ▲                        │
//!                    └── verified receipt ◀───┘        refused for good ──▶ dead letters, slot closed in the log
//! ```
//!
//! * [`AuditClient`] appends. What it has accepted survives crashes, closed clients and dropped futures.
//! * [`LogReader`] reads and verifies. [`Tail`] follows.
//!
//! The client trusts the pinned key of the log and nothing else: neither the word of a server nor an earlier answer.

mod agreement;
mod connection;
mod dead_letter;
mod deliverer;
mod delivery;
mod distance;
mod ending;
mod epoch;
mod error;
mod freshness;
mod known;
mod lane;
mod line;
mod moving;
mod operator;
mod outbox;
mod pace;
mod reader;
mod receipt;
mod recovery;
mod refusal;
mod rejection;
mod retry;
mod rpc;
mod session;
mod settings;
mod tail;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{World, calls::Calls, net::BoxFuture, tls::Identity};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    budget::{self, Account, FLIGHT, SUBMITS},
    dial::{Credentials, Dial, dial_tls},
    leaf::{Epoch, PAYLOAD_BYTES_MAX, Sequence},
    schema::Exchange,
    store::JournalOptions,
};

use connection::Connector;
use deliverer::Deliverer;
use delivery::Parts;
use outbox::{Owner, Submit, View};

pub use dead_letter::DeadLetter;
pub use error::ClientError;
pub use freshness::{Bound, Level};
pub use known::Known;
pub use operator::{Change, Member, MembersResponse, Operator, OperatorError};
pub use reader::{LogReader, Read};
pub use receipt::{Examined, VerifiedReceipt, examine};
pub use rejection::Rejection;
pub use settings::{Call, ClientSettings, Deadlines, OUTBOX_ENTRIES_MAX, ReaderSettings, RetrySettings};
pub use tail::Tail;

/// Submissions that may wait for the outbox besides the one that it holds; further callers wait in line.
const SUBMITS_MAX: usize = 1024;
/// Commands from delivery that may wait for the outbox.
const COMMANDS_MAX: usize = 128;

/// Appends to the log. Clones share one outbox and one delivery, which run until the last handle is dropped or any
/// handle is closed.
#[derive(Clone)]
pub struct AuditClient {
    submits: mpsc::Sender<Submit>,
    /// Held by the caller whose payload goes into the queue next: one caller at a time, in the order in which they
    /// came.
    turn: Arc<Mutex<()>>,
    view: View,
    /// The memory of payloads on their way into the outbox.
    room: Arc<Account>,
    credentials: Arc<watch::Sender<Arc<Credentials>>>,
    stop: watch::Sender<bool>,
}

/// An entry that was accepted: it is durable here and owed to the log.
#[derive(Debug)]
pub struct Submission {
    /// The life of the outbox that the entry belongs to.
    pub epoch: Epoch,
    /// The position of the entry in that life.
    pub sequence: Sequence,
    /// Resolves once the log has the entry, however long that takes: the caller sets a deadline. Dropping the future
    /// loses nothing.
    pub delivered: Delivery,
}

/// What became of an accepted entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// The log has proven that it has the entry.
    Receipt(VerifiedReceipt),
    /// The log refused the entry for good. It is kept, see [`AuditClient::dead_letters`], and another entry closes its
    /// slot in the log.
    DeadLetter {
        /// The log's reason, then its detail.
        reason: String,
    },
    /// The client ended first. The entry is durable and is delivered after the next start on the same folder.
    Owed,
}

/// Waits for an accepted entry to be delivered. Cancel safe.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Delivered>);

impl Delivery {
    fn new(delivered: oneshot::Receiver<Delivered>) -> Delivery {
        Delivery(delivered)
    }
}

impl Future for Delivery {
    type Output = Delivered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Delivered> {
        Pin::new(&mut self.0).poll(cx).map(|delivered| delivered.unwrap_or(Delivered::Owed))
    }
}

/// The calls of one revision as this client makes them, for tests of the servers that answer them.
#[cfg(test)]
pub(crate) fn calls_of(world: &World, settings: ReaderSettings) -> Result<rpc::Rpc, ClientError> {
    let ReaderSettings { servers, identity, revision, deadlines, .. } = settings;
    let credentials = watch::Sender::new(Credentials::new(&identity)?);
    let dial = dial_tls(world.clone(), credentials.subscribe());
    let calls = Calls::new(world.observer.clone());
    Ok(Connector::new(dial, servers, calls, Exchange::new(revision)?, deadlines)?.open()?.rpc)
}

impl AuditClient {
    /// Recovers the outbox in the world's data folder, takes its lock, and goes on delivering.
    pub async fn open(world: World, settings: ClientSettings) -> Result<AuditClient, ClientError> {
        let credentials = Arc::new(watch::Sender::new(Credentials::new(&settings.identity)?));
        let dial = dial_tls(world.clone(), credentials.subscribe());
        AuditClient::open_with(world, settings, dial, credentials).await
    }

    /// Opens a client that connects by `dial`. The box keeps the code of a whole client in this crate: without it, each
    /// crate that opens one would compile it anew.
    fn open_with(
        world: World,
        settings: ClientSettings,
        dial: Dial,
        credentials: Arc<watch::Sender<Arc<Credentials>>>,
    ) -> BoxFuture<'static, Result<AuditClient, ClientError>> {
        Box::pin(AuditClient::recover(world, settings, dial, credentials))
    }

    async fn recover(
        world: World,
        settings: ClientSettings,
        dial: Dial,
        credentials: Arc<watch::Sender<Arc<Credentials>>>,
    ) -> Result<AuditClient, ClientError> {
        let ClientSettings {
            name,
            servers,
            log_key,
            policy,
            call,
            revision,
            outbox_entries_max,
            segment_bytes,
            memory,
            deadlines,
            retry,
            ..
        } = settings;
        let calls = Calls::new(world.observer.clone());
        let connector = Connector::new(dial, servers, calls, Exchange::new(revision)?, deadlines)?;
        let (recovered, witness) =
            recovery::recover(&world, &name, JournalOptions { segment_bytes, first_index: 0 }).await?;

        let (owner, view) = Owner::new(recovered, outbox_entries_max, world.observer.clone());
        let (submits, submitted) = mpsc::channel(SUBMITS_MAX);
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let stop = watch::Sender::new(false);
        let room = Account::new(SUBMITS, &memory, &world.observer);
        let flight = Account::new(FLIGHT, &memory, &world.observer);
        let accounts = [room.clone(), flight.clone()];
        let changed = move || accounts.iter().for_each(|account| account.budget_changed());
        tokio::spawn(budget::follow(memory.clone(), stop.subscribe(), changed));
        let deliverer = Deliverer::new(Parts {
            world,
            view: view.clone(),
            commands,
            connector,
            credentials: credentials.subscribe(),
            witness,
            log_key,
            policy,
            call,
            memory,
            room: flight,
            deadlines,
            retry,
            stop: stop.subscribe(),
        });
        tokio::spawn(owner.run(submitted, commanded, stop.clone()));
        tokio::spawn(deliverer.run());
        Ok(AuditClient { submits, turn: Arc::default(), view, room, credentials, stop })
    }

    /// Accepts one event of at most [`PAYLOAD_BYTES_MAX`] bytes. Waits while the outbox or the memory is full, and
    /// returns once the event is durable in the outbox. If the future is dropped before that, the event may or may not
    /// have been accepted.
    ///
    /// Events get their sequences in the order in which these futures are first polled, even while callers wait for
    /// room.
    pub async fn submit(&self, payload: Bytes) -> Result<Submission, ClientError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(ClientError::Oversize { bytes: payload.len(), limit: PAYLOAD_BYTES_MAX });
        }
        let (reply, accepted) = oneshot::channel();
        tokio::select! {
            biased;
            () = self.queue(payload, reply) => {}
            () = self.submits.closed() => return Err(self.gone().await),
        }
        match accepted.await {
            Ok(accepted) => accepted,
            Err(_) => Err(self.gone().await),
        }
    }

    /// Puts a payload into the queue of the outbox when its turn has come and there is room.
    async fn queue(&self, payload: Bytes, reply: oneshot::Sender<Result<Submission, ClientError>>) {
        // A channel hands its free places to the callers that wait, but a later caller may take another place and fill
        // it before they are polled again. So no caller asks for a place before the one ahead has used its own: a mutex
        // is passed on in the order in which it was asked for, and stays locked while the next caller in line has yet
        // to be polled.
        let _turn = self.turn.lock().await;
        let room = self.room.hold_in_turn(payload.len()).await;
        // If the queue is closed, the reply is dropped with the payload, and the caller is told why.
        if let Ok(place) = self.submits.reserve().await {
            place.send(Submit { payload, reply, _room: room });
        }
    }

    /// Accepts one event and waits until the log has it. Has no deadline of its own: the caller sets one.
    pub async fn append(&self, payload: Bytes) -> Result<Delivered, ClientError> {
        Ok(self.submit(payload).await?.delivered.await)
    }

    /// Returns the payloads that are accepted and not yet proven to be in the log, oldest first, read from the disk.
    pub async fn outstanding(&self) -> Result<Vec<Bytes>, ClientError> {
        self.view.outstanding().await
    }

    /// Returns everything that the log ever refused for good, in all epochs, oldest first, read from the disk.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, ClientError> {
        self.view.dead_letters().await
    }

    /// Returns the epoch of this outbox, its current life.
    pub fn epoch(&self) -> Epoch {
        self.view.epoch
    }

    /// Presents another certificate from the next connection on, and makes that connection as soon as everything in
    /// flight has been answered. A delivery that waits for a valid certificate goes on at once.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), ClientError> {
        self.credentials.send_replace(Credentials::new(identity)?);
        Ok(())
    }

    /// Waits until the outbox fails, for instance because the disk failed, and returns the reason. Everything accepted
    /// is on disk: start again from the same folder. Returns `None` if the client was closed.
    pub async fn failed(&self) -> Option<String> {
        let mut progress = self.view.progress.clone();
        match progress.wait_for(|progress| progress.ended).await {
            Ok(progress) => progress.stopped.clone(),
            Err(_) => None,
        }
    }

    /// Waits until nothing is owed, for at most `within`, then ends delivery and closes the files.
    ///
    /// # Errors
    /// [`ClientError::StillOwed`] if the time did not suffice: the rest stays in the outbox.
    pub async fn close(self, within: Duration) -> Result<(), ClientError> {
        let mut progress = self.view.progress.clone();
        let quiet = progress.wait_for(|progress| progress.ended || progress.durable == progress.acknowledged);
        let _ = timeout(within, quiet).await;
        self.stop.send_replace(true);
        // Bounded by the disk operations that are under way.
        let _ = progress.wait_for(|progress| progress.ended).await;
        let end = progress.borrow().clone();
        match (end.stopped, end.durable - end.acknowledged) {
            (Some(why), _) => Err(ClientError::Stopped(why)),
            (None, 0) => Ok(()),
            (None, entries) => Err(ClientError::StillOwed { entries }),
        }
    }

    async fn gone(&self) -> ClientError {
        match self.failed().await {
            Some(why) => ClientError::Stopped(why),
            None => ClientError::Closed,
        }
    }
}
