//! Delivery: brings what the outbox owes to the log, and the one place where anything is tried again.
//!
//! Entries go out in the order of their sequences, several in flight, and are answered in that order; see
//! [`session`](super::session). Whatever fails, delivery goes back to the lowest sequence that is not proven to be in the
//! log, and takes it up from there: the log answers what it has already with the first receipt. It never gives up, never
//! skips, and never lets an entry go on less than a verified receipt.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tonic::{Code, Status};

use crate::{
    audit::{
        budget::Account,
        note::{NoteKey, Policy},
    },
    world::{LogEvent, World, calls::code_name, error_chain},
};

use super::{
    Delivered,
    connection::{Connection, Connector, Credentials, Trouble},
    error::ClientError,
    lane::Lane,
    outbox::{Order, View},
    pace::Pace,
    receipt::Rejection,
    retry::{Backoff, Cure, cure, leader, pushback},
    session::Session,
    settings::{Call, Deadlines, RetrySettings},
    witness::Witness,
};

/// A first entry that is refused as too early this often in a row is not refused because of a race.
const GAPS_MAX: u32 = 3;
/// The longest pushback that is honoured, so that a wild value cannot silence an outbox for good; also what a refusal
/// of any retry is taken for.
const PUSHBACK_MAX: Duration = Duration::from_secs(60);

/// What delivery works with.
pub(crate) struct Parts {
    pub(crate) world: World,
    pub(crate) view: View,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) connector: Connector,
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    pub(crate) witness: Witness,
    pub(crate) log_key: NoteKey,
    pub(crate) policy: Policy,
    pub(crate) call: Call,
    pub(crate) memory: watch::Receiver<u64>,
    /// What is in flight, and what was read to be sent next.
    pub(crate) room: Arc<Account>,
    pub(crate) deadlines: Deadlines,
    pub(crate) retry: RetrySettings,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The task that delivers.
pub(crate) struct Deliverer {
    pub(super) parts: Parts,
    pub(super) connection: Option<Connection>,
    pub(super) backoff: Backoff,
    /// How many entries are in flight, by what the last sessions showed.
    pub(super) pace: Pace,
    /// A cure by somebody is awaited, and that has been told.
    parked: bool,
    /// The lowest sequence that is not proven to be in the log.
    pub(super) next: u64,
    gaps: u32,
    /// A server named the leader and was believed, since the last success. The next one is believed after a wait.
    redirected: bool,
}

/// Why a session ended.
pub(super) enum End {
    /// Nothing is owed, for a while: the lane is closed, the connection may stay.
    Idle,
    /// The connection is to be replaced, without a failure.
    Renew,
    /// Start again at the lowest sequence, at once.
    GoBack,
    /// Another server leads.
    Elsewhere { leader: String, pushback: Option<Duration> },
    /// The server has no room. It is asked again after a wait, over the same connection.
    Busy { why: String, pushback: Option<Duration> },
    /// Something failed. It is tried again after a wait.
    Failed { cure: Cure, why: String, pushback: Option<Duration> },
    /// The client is being closed, or the owner of the outbox is gone.
    Stop,
    /// The disk failed.
    Broken(ClientError),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> End {
        End::Broken(error)
    }
}

impl Deliverer {
    pub(crate) fn new(parts: Parts) -> Deliverer {
        let next = parts.view.progress.borrow().acknowledged;
        let backoff = Backoff::new(parts.retry, parts.connector.servers());
        let (least, most) = Lane::widths(parts.call);
        let pace = Pace::new(least, most);
        Deliverer { parts, connection: None, backoff, pace, parked: false, next, gaps: 0, redirected: false }
    }

    /// Delivers until the client is closed. Nothing is lost whenever this is dropped: what it knows is on disk, or is
    /// asked for again.
    pub(crate) async fn run(mut self) {
        while self.wait_for_work().await {
            let end = self.session().await;
            // What was in flight went with the session; it is read again from the disk.
            self.parts.room.holds(0);
            match end {
                End::Idle | End::GoBack => {}
                End::Renew => self.connection = None,
                End::Stop => return,
                End::Broken(why) => {
                    let _ = self.parts.orders.send(Order::Stop { why }).await;
                    return;
                }
                End::Elsewhere { leader, .. } if self.redirect(&leader) => {}
                End::Elsewhere { leader, pushback } => {
                    let why = format!("unavailable: `{leader}` is said to lead");
                    if !self.back_off(Cure::Time, why, pushback).await {
                        return;
                    }
                }
                End::Busy { why, pushback } => {
                    self.pace.turned_away();
                    if !self.back_off(Cure::Time, why, pushback).await {
                        return;
                    }
                }
                End::Failed { cure, why, pushback } => {
                    self.connection = None;
                    self.parts.connector.in_vain();
                    if !self.back_off(cure, why, pushback).await {
                        return;
                    }
                }
            }
        }
    }

    /// Turns to the server that is said to lead. False where it has to wait: two servers may each take the other for the
    /// leader until they have heard of the next one, and a leader that was just lost is named until it is replaced.
    fn redirect(&mut self, leader: &str) -> bool {
        self.backoff.answered();
        self.connection = None;
        self.parts.connector.in_vain();
        let known = self.parts.connector.prefer(leader);
        let at_once = known && !self.redirected;
        mark!("led-elsewhere", known && !self.redirected);
        mark!("led-in-a-circle", !known);
        self.redirected = known;
        at_once
    }

    /// False where the client is being closed.
    async fn wait_for_work(&mut self) -> bool {
        loop {
            if *self.parts.stop.borrow_and_update() {
                return false;
            }
            if self.parts.view.progress.borrow_and_update().durable > self.next {
                return true;
            }
            tokio::select! {
                biased;
                stop = self.parts.stop.changed() => if stop.is_err() { return false },
                more = self.parts.view.progress.changed() => if more.is_err() { return false },
            }
        }
    }

    /// Tells and waits. False where the client is being closed.
    async fn back_off(&mut self, cure: Cure, why: String, pushback: Option<Duration>) -> bool {
        let (cure, wait) = self.backoff.failed(cure, pushback);
        if cure == Cure::Somebody && !self.parked {
            self.parked = true;
            mark!("parked");
            self.parts.world.tell(LogEvent::Parked { why: why.clone() });
        }
        self.parts.world.tell(LogEvent::Retry {
            sequence: self.next,
            attempt: self.backoff.attempt(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            why,
        });
        let Parts { stop, credentials, .. } = &mut self.parts;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => false,
            // A replaced identity may be the cure that is waited for.
            Ok(()) = credentials.changed(), if self.parked => true,
            () = sleep(wait) => true,
        }
    }

    /// Sends and settles over one lane until it ends.
    async fn session(&mut self) -> End {
        if self.parts.credentials.has_changed().unwrap_or(false) {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.parts.credentials.mark_unchanged();
                match self.parts.connector.open() {
                    Ok(connection) => connection,
                    Err(why) => return End::Broken(why),
                }
            }
        };
        self.connection = Some(connection.clone());
        Session::new(self, connection).run().await
    }

    /// The lowest sequences are done with.
    pub(super) async fn leave(&mut self, delivered: Vec<Delivered>) -> Result<(), End> {
        let entries = delivered.len();
        // The kept checkpoint is durable by now. A crash here sends the entries once more, nothing else.
        let order = Order::Leave { first: self.next, delivered };
        self.parts.orders.send(order).await.map_err(|_| End::Stop)?;
        self.next += entries as u64;
        self.gaps = 0;
        self.redirected = false;
        self.parts.connector.served();
        (0..entries).for_each(|_| self.backoff.succeeded());
        if self.parked {
            self.parked = false;
            mark!("resumed");
            self.parts.world.tell(LogEvent::Resumed {});
        }
        Ok(())
    }

    /// Keeps the lowest sequence as a dead letter; then its slot is closed by what takes its place.
    pub(super) async fn dead_letter(&mut self, reason: &'static str, detail: String) -> Result<(), End> {
        let (done, kept) = oneshot::channel();
        let order = Order::DeadLetter { sequence: self.next, reason, detail, done };
        self.parts.orders.send(order).await.map_err(|_| End::Stop)?;
        kept.await.map_err(|_| End::Stop)?;
        Err(End::GoBack)
    }

    /// The log says that earlier sequences are missing.
    pub(super) fn gap(&mut self, expected: u64, first: bool) -> End {
        // Calls side by side may overtake each other: the older one has arrived by now.
        if !first {
            mark!("gap-behind-another");
            return End::GoBack;
        }
        self.gaps += 1;
        let cure = if self.gaps >= GAPS_MAX && expected < self.next { Cure::Somebody } else { Cure::Time };
        let why = format!(
            "the log expects sequence {expected} where everything below {} is proven to be in it; if this lasts, the \
             log lost acknowledged entries",
            self.next
        );
        End::Failed { cure, why, pushback: None }
    }

    /// A receipt that does not count. The entry stays; it is sent again under the same sequence.
    pub(super) fn rejected(&mut self, sequence: u64, why: &Rejection) -> End {
        mark!("receipt-rejected");
        let cure = if why.needs_a_cure() { Cure::Somebody } else { Cure::Time };
        let why = why.to_string();
        self.parts.world.tell(LogEvent::ReceiptRejected { sequence, why: why.clone() });
        End::Failed { cure, why, pushback: None }
    }
}

pub(super) fn ended_early() -> End {
    End::Failed { cure: Cure::Time, why: "the server ended the stream".to_owned(), pushback: None }
}

pub(super) fn failed(status: &Status, connection: &Connection) -> End {
    let pushback = pushback(status, PUSHBACK_MAX).map(|wait| wait.min(PUSHBACK_MAX));
    if let Some(leader) = leader(status) {
        return End::Elsewhere { leader, pushback };
    }
    let trouble = connection.trouble();
    if status.code() == Code::ResourceExhausted && trouble.is_none() {
        mark!("told-to-wait");
        return End::Busy { why: format!("{}: {}", code_name(status.code()), error_text(status)), pushback };
    }
    let mut why = format!("{}: {}", code_name(status.code()), error_text(status));
    if let Some(Trouble::Credentials(what)) = &trouble {
        why = what.clone();
    }
    End::Failed { cure: cure(status, trouble.as_ref()), why, pushback }
}

/// The message, then what caused it, without saying the same twice.
fn error_text(status: &Status) -> String {
    match std::error::Error::source(status).map(error_chain) {
        Some(chain) if chain.starts_with(status.message()) => chain,
        Some(chain) => format!("{}: {chain}", status.message()),
        None => status.message().to_owned(),
    }
}
