//! Delivery: brings what the outbox owes to the log, and the one place where anything is tried again.
//!
//! Entries go out in the order of their sequences, several in flight, and are answered in that order. Whatever fails,
//! delivery goes back to the lowest sequence that is not proven to be in the log, and takes it up from there: the log
//! answers what it has already with the first receipt. It never gives up, never skips, and never lets an entry go on
//! less than a verified receipt.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status};

use crate::{
    audit::{
        budget::Account,
        calls::{code_name, error_chain},
        leaf::SignedEntry,
        note::{NoteKey, Policy},
        wire::{AppendRequest, AppendResponse, GetConsistencyProofRequest, Receipt, append_response::Outcome},
    },
    world::{LogEvent, World},
};

use super::{
    Delivered,
    connection::{Connection, Connector, Credentials, Trouble},
    error::ClientError,
    lane::Lane,
    outbox::{Order, READ_BYTES_MAX, View},
    receipt::{self, Known, Rejection, VerifiedReceipt},
    refusal::{Verdict, verdict},
    retry::{Backoff, Cure, cure, leader, pushback},
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
    parts: Parts,
    connection: Option<Connection>,
    backoff: Backoff,
    /// A cure by somebody is awaited, and that has been told.
    parked: bool,
    /// The lowest sequence that is not proven to be in the log.
    next: u64,
    gaps: u32,
    /// A server named the leader and was believed, since the last success. The next one is believed after a wait.
    redirected: bool,
}

/// One entry in flight.
struct Sent {
    entry: SignedEntry,
    /// The kept tree when it was sent: the receipt proves consistency with that one.
    known: Known,
    by: Instant,
    /// Nothing older was in flight when it was sent.
    first: bool,
}

/// Why a session ended.
enum End {
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
        Deliverer { parts, connection: None, backoff, parked: false, next, gaps: 0, redirected: false }
    }

    /// Delivers until the client is closed. Nothing is lost whenever this is dropped: what it knows is on disk, or is
    /// asked for again.
    pub(crate) async fn run(mut self) {
        while self.wait_for_work().await {
            let Err(end) = self.session().await;
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
    async fn session(&mut self) -> Result<Infallible, End> {
        if self.parts.credentials.has_changed().unwrap_or(false) {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.parts.credentials.mark_unchanged();
                self.parts.connector.open()?
            }
        };
        self.connection = Some(connection.clone());
        let Parts { call, deadlines, .. } = self.parts;
        let mut lane = Lane::open(call, &connection.rpc, &deadlines, self.backoff.attempt());
        let (mut flight, mut ready) = (VecDeque::<Sent>::new(), VecDeque::<SignedEntry>::new());
        let mut idle_by = Instant::now() + deadlines.stream_idle();
        loop {
            // A new identity: nothing more is sent over this connection, what is in flight is still awaited.
            let renewing = self.parts.credentials.has_changed().unwrap_or(false);
            if renewing && flight.is_empty() {
                return Err(End::Renew);
            }
            if !renewing {
                self.fill(&mut lane, &mut flight, &mut ready).await?;
            }
            let room = !renewing && flight.len() < lane.width();
            let by = flight.front().map_or(idle_by, |sent| sent.by);
            let Parts { stop, view, memory, .. } = &mut self.parts;
            let answer = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Err(End::Stop),
                answer = lane.next() => answer,
                more = view.progress.changed(), if room => match more {
                    Ok(()) => continue,
                    Err(_) => return Err(End::Stop),
                },
                // With nothing in flight, only more memory lets an entry go that is larger than its share.
                Ok(()) = memory.changed(), if flight.is_empty() => continue,
                () = sleep_until(by) => match flight.is_empty() {
                    true => return Err(End::Idle),
                    false => return Err(failed(&Status::deadline_exceeded("no answer in time"), &connection)),
                },
            };
            let Some(sent) = flight.pop_front() else { return Err(self.ended_while_idle()) };
            self.parts.room.holds(weight(&flight, &ready));
            match answer {
                Ok(Some(answer)) => tokio::select! {
                    biased;
                    settled = self.settle(answer, sent, &connection) => settled?,
                    never = lane.drive() => match never {},
                },
                Ok(None) => return Err(ended_early()),
                Err(status) => return Err(failed(&status, &connection)),
            }
            idle_by = Instant::now() + deadlines.stream_idle();
        }
    }

    /// The stream or its connection ended while nothing was owed. That is no failure, only no use any more.
    fn ended_while_idle(&mut self) -> End {
        self.connection = None;
        End::Idle
    }

    /// Sends until the lane or the memory is full, or nothing durable is left to send.
    async fn fill(
        &mut self,
        lane: &mut Lane,
        flight: &mut VecDeque<Sent>,
        ready: &mut VecDeque<SignedEntry>,
    ) -> Result<(), End> {
        self.parts.view.progress.mark_unchanged();
        self.parts.memory.mark_unchanged();
        while flight.len() < lane.width() {
            if ready.is_empty() {
                let start = self.next + flight.len() as u64;
                let limit = (lane.width() - flight.len()) as u64;
                let room = self.parts.room.limit_len().saturating_sub(weight(flight, ready));
                let entries = self.parts.view.entries(start, limit, room.min(READ_BYTES_MAX)).await?;
                // A single one that is too large for what is left came alone: it is read again when there is room.
                if entries.iter().map(|entry| entry.bytes().len()).sum::<usize>() > room {
                    break;
                }
                ready.extend(entries);
                self.parts.room.holds(weight(flight, ready));
            }
            let Some(entry) = ready.pop_front() else { break };
            let known = self.parts.witness.kept().clone();
            lane.send(AppendRequest { entry: entry.bytes().clone(), known_size: known.size });
            let (by, first) = (Instant::now() + self.parts.deadlines.call, flight.is_empty());
            flight.push_back(Sent { entry, known, by, first });
        }
        Ok(())
    }

    /// Takes the answer to the lowest sequence.
    async fn settle(&mut self, answer: AppendResponse, sent: Sent, connection: &Connection) -> Result<(), End> {
        let (expected, found) = (self.next, answer.sequence);
        if found != expected {
            return Err(self.rejected(Rejection::WrongSequence { expected, found }));
        }
        match answer.outcome {
            None => Err(self.rejected(Rejection::Empty)),
            Some(Outcome::Receipt(receipt)) => {
                let verified = self.verify(&receipt, sent, connection).await?;
                self.parts.witness.keep(&verified).await?;
                self.parts.world.tell(LogEvent::ReceiptVerified {
                    epoch: verified.epoch.0,
                    sequence: verified.sequence.0,
                    index: verified.index.0,
                    receipt: prost::Message::encode_to_vec(&receipt).into(),
                });
                self.leave(Delivered::Receipt(verified)).await
            }
            Some(Outcome::Refusal(refusal)) => match verdict(&refusal, &sent.entry) {
                Verdict::Gap => Err(self.gap(refusal.expected_sequence, sent.first)),
                Verdict::DeadLetter { reason, detail } => self.dead_letter(reason, detail).await,
                Verdict::Closed { reason } => self.leave(Delivered::DeadLetter { reason }).await,
                Verdict::Park { why } => Err(End::Failed { cure: Cure::Somebody, why, pushback: None }),
            },
        }
    }

    /// Verifies a receipt against the tree known at sending, and against what was kept since then.
    async fn verify(&mut self, receipt: &Receipt, sent: Sent, connection: &Connection) -> Result<VerifiedReceipt, End> {
        let Parts { log_key, policy, .. } = &self.parts;
        let examined =
            receipt::examine(receipt, &sent.entry, log_key, policy, &sent.known).map_err(|why| self.rejected(why))?;
        let proof = match examined.missing(self.parts.witness.kept()) {
            None => Vec::new(),
            Some((old_size, new_size)) => {
                let proof = self.consistency(old_size, new_size, connection).await?;
                receipt::hashes("consistency", &proof).map_err(|why| self.rejected(why))?
            }
        };
        examined.accept(self.parts.witness.kept(), &proof).map_err(|why| self.rejected(why))
    }

    async fn consistency(
        &mut self,
        old_size: u64,
        new_size: u64,
        connection: &Connection,
    ) -> Result<Vec<bytes::Bytes>, End> {
        let mut request = tonic::Request::new(GetConsistencyProofRequest { old_size, new_size });
        request.set_timeout(self.parts.deadlines.call);
        let mut rpc = connection.rpc.clone();
        tokio::select! {
            biased;
            _ = self.parts.stop.wait_for(|stop| *stop) => Err(End::Stop),
            answer = rpc.get_consistency_proof(request) => match answer {
                Ok(answer) => Ok(answer.into_inner().hashes),
                // Started again since it gave the receipt, it has yet to learn how much of its log is committed. Where
                // the log really went back, the next receipt shows it.
                Err(status) if status.code() == Code::OutOfRange => {
                    let why = format!("{}: {}", code_name(status.code()), status.message());
                    Err(End::Failed { cure: Cure::Time, why, pushback: None })
                }
                Err(status) => Err(failed(&status, connection)),
            },
            () = sleep(self.parts.deadlines.call) => {
                Err(failed(&Status::deadline_exceeded("no proof of consistency in time"), connection))
            }
        }
    }

    /// The lowest sequence is done with.
    async fn leave(&mut self, delivered: Delivered) -> Result<(), End> {
        // The kept checkpoint is durable by now. A crash here sends the entry once more, nothing else.
        let order = Order::Leave { sequence: self.next, delivered };
        self.parts.orders.send(order).await.map_err(|_| End::Stop)?;
        self.next += 1;
        self.gaps = 0;
        self.redirected = false;
        self.parts.connector.served();
        self.backoff.succeeded();
        if self.parked {
            self.parked = false;
            self.parts.world.tell(LogEvent::Resumed {});
        }
        Ok(())
    }

    /// Keeps the lowest sequence as a dead letter; then its slot is closed by what takes its place.
    async fn dead_letter(&mut self, reason: &'static str, detail: String) -> Result<(), End> {
        let (done, kept) = oneshot::channel();
        let order = Order::DeadLetter { sequence: self.next, reason, detail, done };
        self.parts.orders.send(order).await.map_err(|_| End::Stop)?;
        kept.await.map_err(|_| End::Stop)?;
        Err(End::GoBack)
    }

    /// The log says that earlier sequences are missing.
    fn gap(&mut self, expected: u64, first: bool) -> End {
        // Calls side by side may overtake each other: the older one has arrived by now.
        if !first {
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
    fn rejected(&mut self, why: Rejection) -> End {
        let cure = if why.needs_a_cure() { Cure::Somebody } else { Cure::Time };
        let why = why.to_string();
        self.parts.world.tell(LogEvent::ReceiptRejected { sequence: self.next, why: why.clone() });
        End::Failed { cure, why, pushback: None }
    }
}

/// Bytes in flight and ready to be sent.
fn weight(flight: &VecDeque<Sent>, ready: &VecDeque<SignedEntry>) -> usize {
    let sent = flight.iter().map(|sent| &sent.entry);
    sent.chain(ready).map(|entry| entry.bytes().len()).sum()
}

fn ended_early() -> End {
    End::Failed { cure: Cure::Time, why: "the server ended the stream".to_owned(), pushback: None }
}

fn failed(status: &Status, connection: &Connection) -> End {
    let pushback = pushback(status, PUSHBACK_MAX).map(|wait| wait.min(PUSHBACK_MAX));
    if let Some(leader) = leader(status) {
        return End::Elsewhere { leader, pushback };
    }
    let trouble = connection.trouble();
    if status.code() == Code::ResourceExhausted && trouble.is_none() {
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
