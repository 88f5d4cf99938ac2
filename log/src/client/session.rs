//! A session: sends entries over one lane and settles what comes back.
//!
//! ```text
//! outbox ──read──▶ ready ──send──▶ in flight ──answer──▶ arrived ──one proof, one sync──▶ they leave
//! ```
//!
//! Sending never waits for settling. Each answer is verified as it comes: signatures, policy, the bytes of the leaf,
//! inclusion, and consistency with the tree that was kept when its entry was sent. The answers that have arrived by
//! then are settled together: their trees are shown to lie on one [`line`](super::line) with the kept tree, by one call
//! where the answers do not show it by themselves; the largest tree is kept, by one sync; and then all of their entries
//! leave. So no entry pays for a round trip or a sync of its own, and each answer counts for exactly what it would
//! count alone.
//!
//! What has arrived when a lane ends is settled before the lane is given up. Otherwise a server that keeps ending its
//! streams would make its clients send the same entries forever.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, MaybeDone, OptionFuture, join, maybe_done},
    stream,
};
use gapless_world::{LogEvent, calls::code_name};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Status};

use super::{
    Delivered,
    connection::Connection,
    delivery::{DeliveryState, Parts},
    ending::{End, ended_early, failed},
    known::{Known, hashes},
    lane::Lane,
    line::Line,
    outbox::Owed,
    pace::Mark,
    receipt::{self, Examined, VerifiedReceipt},
    refusal::{Verdict, verdict},
    rejection::Rejection,
    retry::Cure,
    rpc::Rpc,
    settings::READ_BYTES_MAX,
    witness::Placed,
};
use crate::{
    leaf::SignedEntry,
    tree::Hash,
    wire::{AppendRequest, AppendResponse, GetConsistencyProofRequest, Receipt, Refusal, append_response::Outcome},
};

/// The most entries that are read from the outbox at once, if the memory allows.
const READ_ENTRIES_MAX: usize = 256;
/// What an entry takes besides its own bytes, which come back in its leaf: a checkpoint and two proofs.
const ANSWER_BYTES: usize = 1536;

/// One entry in flight.
struct Sent {
    entry: SignedEntry,
    /// The tree that was kept when the entry was sent; the receipt proves consistency with it.
    known: Known,
    /// Whether nothing older was in flight when the entry was sent.
    first: bool,
    mark: Mark,
}

/// An answer that is not settled yet.
enum Arrived {
    /// A receipt that is proven except for its line, with the memory that it takes.
    Receipt {
        examined: Box<Examined>,
        receipt: Receipt,
        weight: usize,
    },
    Refusal {
        sent: Box<Sent>,
        refusal: Refusal,
    },
}

/// Receipts whose line is being proven.
struct Group {
    receipts: Vec<(Examined, Receipt)>,
    weight: usize,
    line: Line,
}

/// What a session waits for.
enum News {
    Answer(Result<Option<AppendResponse>, Status>),
    Proofs,
    Silence,
}

/// The proofs of a line, one for each step, on their way or arrived.
type Proofs = MaybeDone<BoxFuture<'static, Result<Vec<Vec<Bytes>>, Status>>>;

pub(super) struct Session<'d> {
    of: &'d mut DeliveryState,
    connection: Connection,
    lane: Lane,
    /// The next sequence to be read from the outbox.
    read_from: u64,
    ready: VecDeque<Owed>,
    flight: VecDeque<Sent>,
    arrived: VecDeque<Arrived>,
    proving: Option<(Group, Proofs)>,
    /// The memory that all of these entries take.
    weight: usize,
    /// Why nothing more is sent or heard. The session ends with this reason once what has arrived is settled.
    ended: Option<End>,
    /// Whether the connection itself broke, whatever reason is given for the end.
    broken: bool,
    /// When the last answer came, or when the first entry was sent after a time without any in flight.
    heard: Instant,
    idle_by: Instant,
}

impl<'d> Session<'d> {
    pub(super) fn new(of: &'d mut DeliveryState, connection: Connection) -> Session<'d> {
        let Parts { call, deadlines, .. } = of.parts;
        let lane = Lane::open(call, &connection.rpc, &deadlines, of.backoff.attempt());
        of.pace.restarted();
        let read_from = of.next;
        let (heard, idle_by) = (Instant::now(), Instant::now() + deadlines.stream_idle());
        Session {
            of,
            connection,
            lane,
            read_from,
            ready: VecDeque::new(),
            flight: VecDeque::new(),
            arrived: VecDeque::new(),
            proving: None,
            weight: 0,
            ended: None,
            broken: false,
            heard,
            idle_by,
        }
    }

    /// Sends and settles until the lane ends.
    pub(super) async fn run(mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.settle_what_can_be().await?;
        // With a new identity, nothing more is sent over this connection; what is in flight is still awaited.
        let renewing = self.of.parts.credentials.has_changed().unwrap_or(false);
        if renewing && self.is_quiet() {
            mark!("renewed-between-calls");
            return Err(End::Renew);
        }
        let sends = !renewing && self.ended.is_none();
        if sends {
            self.fill().await?;
        }
        self.wait(sends).await
    }

    /// Waits until there is something to do: an answer, a proof or another entry has come, or nothing has for too long.
    async fn wait(&mut self, sends: bool) -> Result<(), End> {
        let hears = self.ended.is_none();
        let room = sends && self.flight.len() < self.of.pace.width();
        let (alone, quiet) = (self.flight.is_empty(), self.is_quiet());
        let by = if alone { self.idle_by } else { self.heard + self.of.parts.deadlines.call };
        let Parts { stop, view, memory, .. } = &mut self.of.parts;
        let proofs = OptionFuture::from(self.proving.as_mut().map(|(_, proofs)| proofs));
        let news = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(End::Stop),
            answer = self.lane.next(), if hears => News::Answer(answer),
            Some(()) = proofs => News::Proofs,
            more = view.progress.changed(), if room => return more.map_err(|_| End::Stop),
            // With nothing in flight, an entry that is larger than its share can be sent only once there is more
            // memory.
            Ok(()) = memory.changed(), if hears && alone => return Ok(()),
            () = sleep_until(by), if hears && (quiet || !alone) => News::Silence,
        };
        match news {
            News::Answer(answer) => self.hear(answer),
            News::Proofs => self.proven().await,
            News::Silence if alone => Err(End::Idle),
            News::Silence => {
                mark!("server-was-silent");
                Err(failed(&Status::deadline_exceeded("no answer in time"), &self.connection))
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.flight.is_empty() && self.arrived.is_empty() && self.proving.is_none()
    }

    /// Sends until the lane or the memory is full, or nothing durable is left to send.
    async fn fill(&mut self) -> Result<(), End> {
        self.of.parts.view.progress.mark_unchanged();
        self.of.parts.memory.mark_unchanged();
        loop {
            if self.ready.is_empty() && !self.read().await? {
                return Ok(());
            }
            if self.ready.front().is_some_and(|owed| self.of.waits(owed.entry.entry().sequence.0)) {
                return Ok(());
            }
            if self.flight.len() >= self.of.pace.width() {
                mark!("window-was-full");
                self.of.pace.held_back();
                return Ok(());
            }
            let Some(owed) = self.ready.pop_front() else { return Ok(()) };
            self.of.sends(&owed);
            let (entry, known) = (owed.entry, self.of.parts.witness.kept().clone());
            self.lane.send(AppendRequest { entry: entry.bytes().clone(), known_size: known.size });
            let (now, first) = (Instant::now(), self.flight.is_empty());
            if first {
                self.heard = now;
            }
            let mark = self.of.pace.sent(now, first);
            self.flight.push_back(Sent { entry, known, first, mark });
        }
    }

    /// Reads the entries that come next. Returns false if there is none, or no memory for it.
    async fn read(&mut self) -> Result<bool, End> {
        let room = self.of.parts.room.limit_len().saturating_sub(self.weight);
        let limit = (room / ANSWER_BYTES).clamp(1, READ_ENTRIES_MAX) as u64;
        let read = self.of.parts.view.entries(self.read_from, limit, room.min(READ_BYTES_MAX));
        let entries = meanwhile(&mut self.lane, &mut self.proving, read).await?;
        let mut left = room;
        for owed in entries {
            // An entry that is too large for the room that is left is read again later.
            let Some(rest) = left.checked_sub(weight(&owed.entry)) else { break };
            left = rest;
            self.read_from += 1;
            self.ready.push_back(owed);
        }
        self.holds(self.weight + room - left);
        Ok(!self.ready.is_empty())
    }

    /// Records how much memory is held.
    fn holds(&mut self, weight: usize) {
        self.weight = weight;
        self.of.parts.room.holds(weight);
    }

    /// Takes an answer and all others that have already come.
    fn hear(&mut self, answer: Result<Option<AppendResponse>, Status>) -> Result<(), End> {
        let mut next = Some(answer);
        while let Some(answer) = next {
            let Some(sent) = self.flight.pop_front() else { return self.ended_while_idle() };
            let now = Instant::now();
            self.heard = now;
            self.idle_by = now + self.of.parts.deadlines.stream_idle();
            match answer {
                Ok(Some(answer)) => {
                    self.of.pace.answered(now, &sent.mark);
                    if let Err((sequence, why)) = self.examine(answer, sent) {
                        self.ended = Some(self.of.rejected(sequence, &why));
                    }
                }
                Ok(None) => self.ended = Some(ended_early()),
                Err(status) => {
                    // Errors of the transport have a source; a status that a server sent has none.
                    self.broken = std::error::Error::source(&status).is_some() || self.connection.trouble().is_some();
                    self.ended = Some(failed(&status, &self.connection));
                }
            }
            if self.ended.is_some() {
                self.lane.give_up();
                return Ok(());
            }
            next = self.lane.next().now_or_never();
        }
        Ok(())
    }

    /// Notes that the stream or its connection ended while nothing was in flight: that is no failure, but the
    /// connection is of no more use.
    fn ended_while_idle(&mut self) -> Result<(), End> {
        self.of.connection = None;
        self.ended = Some(End::Idle);
        Ok(())
    }

    /// Verifies everything about an answer that can be verified without the others.
    fn examine(&mut self, answer: AppendResponse, sent: Sent) -> Result<(), (u64, Rejection)> {
        let (expected, found) = (sent.entry.entry().sequence.0, answer.sequence);
        let refuse = |why| (expected, why);
        if found != expected {
            return Err(refuse(Rejection::WrongSequence { expected, found }));
        }
        let Parts { log_key, policy, .. } = &self.of.parts;
        self.arrived.push_back(match answer.outcome {
            None => return Err(refuse(Rejection::Empty)),
            Some(Outcome::Receipt(receipt)) => {
                let examined = receipt::examine(&receipt, &sent.entry, log_key, policy, &sent.known).map_err(refuse)?;
                Arrived::Receipt { examined: Box::new(examined), receipt, weight: weight(&sent.entry) }
            }
            Some(Outcome::Refusal(refusal)) => Arrived::Refusal { sent: Box::new(sent), refusal },
        });
        Ok(())
    }

    /// Settles what has arrived, as far as no proof has to be awaited. Ends the session once its lane has ended and
    /// nothing is left to settle.
    async fn settle_what_can_be(&mut self) -> Result<(), End> {
        while self.proving.is_none() {
            match self.arrived.front() {
                Some(Arrived::Receipt { .. }) => self.settle_receipts().await?,
                Some(Arrived::Refusal { .. }) => self.settle_refusal().await?,
                None => return self.ended.take().map_or(Ok(()), Err),
            }
        }
        Ok(())
    }

    /// Settles the receipts that came before the first refusal, or asks for the proofs of their line.
    async fn settle_receipts(&mut self) -> Result<(), End> {
        let mut line = Line::new(self.of.parts.witness.kept());
        let (mut receipts, mut weight) = (Vec::new(), 0);
        while let Some(arrived) = self.arrived.pop_front() {
            match arrived {
                Arrived::Receipt { examined, receipt, weight: more } => {
                    line.add(examined.tree(), examined.base())
                        .map_err(|why| self.of.rejected(examined.place().0.0, &why))?;
                    receipts.push((*examined, receipt));
                    weight += more;
                }
                refusal => {
                    self.arrived.push_front(refusal);
                    break;
                }
            }
        }
        let (sizes, group) = (line.missing(), Group { receipts, weight, line });
        if sizes.is_empty() {
            return self.conclude(group, &[]).await;
        }
        // Over a broken connection no proof will come, and it is up to the next session to make another connection.
        if self.broken
            && let Some(end) = self.ended.take()
        {
            mark!("broken-before-the-proof");
            return Err(end);
        }
        let proofs = links(self.connection.rpc.clone(), sizes, self.of.parts.deadlines.call);
        mark!("receipts-linked");
        self.proving = Some((group, maybe_done(Box::pin(proofs))));
        Ok(())
    }

    /// Handles the proofs of a line, which have come or have failed.
    async fn proven(&mut self) -> Result<(), End> {
        let Some((group, mut proofs)) = self.proving.take() else { return Ok(()) };
        let Some(proofs) = Pin::new(&mut proofs).take_output() else { return Ok(()) };
        let first = group.receipts.first().map_or(self.of.next, |(examined, _)| examined.place().0.0);
        match proofs {
            Ok(proofs) => {
                let proofs: Result<Vec<Vec<Hash>>, _> =
                    proofs.iter().map(|proof| hashes("consistency", proof)).collect();
                let proofs = proofs.map_err(|why| self.of.rejected(first, &why))?;
                self.conclude(group, &proofs).await
            }
            // The reason that ended the lane before says more than the failure that followed from it.
            Err(status) => Err(self.ended.take().unwrap_or_else(|| unproven(&status, &self.connection))),
        }
    }

    /// Lets the entries of a group leave if these proofs complete its line.
    async fn conclude(&mut self, group: Group, proofs: &[Vec<Hash>]) -> Result<(), End> {
        let Group { receipts, weight, line } = group;
        let mut sequence = self.of.next;
        let line = line.prove(proofs).map_err(|why| self.of.rejected(sequence, &why))?;
        let mut placed = self.of.parts.witness.placed();
        let mut verified = Vec::with_capacity(receipts.len());
        let mut told = Vec::with_capacity(receipts.len());
        let mut refused = None;
        for (examined, receipt) in receipts {
            let counted = examined.counts_on(&line).map_err(|why| self.of.rejected(sequence, &why))?;
            let place = Placed::from(&counted);
            if let Some(Err(why)) = placed.map(|before| before.agrees(&place)) {
                refused = Some(why);
                break;
            }
            placed = placed.filter(|before| before.is_behind(&place)).or(Some(place));
            verified.push(counted);
            told.push(receipt);
            sequence += 1;
        }
        if let Some((newest, last)) = verified.iter().max_by_key(|receipt| receipt.checkpoint.size).zip(placed) {
            self.keep(newest, last).await?;
        }
        for (counted, receipt) in verified.iter().zip(&told) {
            mark!("repeat-was-received", counted.repeated);
            self.of.has(counted.sequence.0, counted.repeated);
            self.of.parts.world.tell(LogEvent::ReceiptVerified {
                epoch: counted.epoch.0,
                sequence: counted.sequence.0,
                index: counted.index.0,
                receipt: prost::Message::encode_to_vec(receipt).into(),
            });
        }
        self.holds(self.weight.saturating_sub(weight));
        if !verified.is_empty() {
            let left = self.of.leave(verified.into_iter().map(Delivered::Receipt).collect());
            meanwhile(&mut self.lane, &mut self.proving, left).await?;
        }
        refused.map_or(Ok(()), |why| Err(self.of.rejected(sequence, &why)))
    }

    /// Makes the newest checkpoint of a group durable, while the lane goes on.
    async fn keep(&mut self, newest: &VerifiedReceipt, last: Placed) -> Result<(), End> {
        let kept = self.of.parts.witness.keep(newest, last);
        Ok(meanwhile(&mut self.lane, &mut self.proving, kept).await?)
    }

    /// Settles a refusal of the lowest sequence.
    async fn settle_refusal(&mut self) -> Result<(), End> {
        let Some(Arrived::Refusal { sent, refusal }) = self.arrived.pop_front() else { return Ok(()) };
        match verdict(&refusal, &sent.entry) {
            Verdict::Gap => Err(self.of.gap(refusal.expected_sequence, sent.first)),
            Verdict::DeadLetter { reason, detail } => {
                let kept = self.of.dead_letter(reason, detail);
                meanwhile(&mut self.lane, &mut self.proving, kept).await
            }
            Verdict::Closed { reason } => {
                self.holds(self.weight.saturating_sub(weight(&sent.entry)));
                self.of.closed();
                let left = self.of.leave(vec![Delivered::DeadLetter { reason }]);
                meanwhile(&mut self.lane, &mut self.proving, left).await
            }
            Verdict::Taken { reason, detail } => match self.of.taken(detail) {
                Ok(end) => Err(end),
                Err(detail) => {
                    let kept = self.of.dead_letter(reason, detail);
                    meanwhile(&mut self.lane, &mut self.proving, kept).await
                }
            },
            Verdict::Park { why } => Err(End::Failed { cure: Cure::Somebody, why, pushback: None }),
        }
    }
}

/// Waits for the outbox while the calls under way go on: a call that is not polled would not end at its deadline.
async fn meanwhile<T>(lane: &mut Lane, proving: &mut Option<(Group, Proofs)>, work: impl Future<Output = T>) -> T {
    let proofs = OptionFuture::from(proving.as_mut().map(|(_, proofs)| proofs));
    let calls = join(proofs, lane.drive());
    tokio::select! {
        biased;
        done = work => done,
        (_, never) = calls => match never {},
    }
}

/// The memory that an entry takes until it has left.
fn weight(entry: &SignedEntry) -> usize {
    entry.bytes().len() + ANSWER_BYTES
}

/// The most calls for proofs that are under way at a time, if a server gives fewer proofs in one answer than are
/// needed.
const PROOFS_ASKED_MAX: usize = 64;

/// Fetches a proof for each step between these sizes. A server of an earlier revision gives one proof at a time, and
/// any server may limit how many it gives; the steps that the first answer leaves over are asked for side by side,
/// because each call takes a round trip. Every call has the deadline of a single call.
async fn links(rpc: Rpc, sizes: Vec<u64>, deadline: Duration) -> Result<Vec<Vec<Bytes>>, Status> {
    let mut proofs = some_links(rpc.clone(), &sizes, deadline).await?;
    let (at_a_time, left) = (proofs.len(), sizes.get(proofs.len()..).unwrap_or_default());
    let parts = (0..left.len().saturating_sub(1)).step_by(at_a_time.max(1));
    let asks = parts.map(|from| {
        let sizes = left[from..left.len().min(from + at_a_time + 1)].to_vec();
        all_links(rpc.clone(), sizes, deadline)
    });
    let mut answers = stream::iter(asks.collect::<Vec<_>>()).buffered(PROOFS_ASKED_MAX);
    while let Some(more) = answers.try_next().await? {
        proofs.extend(more);
    }
    Ok(proofs)
}

/// Does the same, one call after the other.
async fn all_links(rpc: Rpc, sizes: Vec<u64>, deadline: Duration) -> Result<Vec<Vec<Bytes>>, Status> {
    let mut proofs = Vec::with_capacity(sizes.len());
    while let left @ [_, _, ..] = &sizes[proofs.len()..] {
        proofs.extend(some_links(rpc.clone(), left, deadline).await?);
    }
    Ok(proofs)
}

/// Fetches as many proofs as one answer holds, from the first step on: at least one if there is a step.
async fn some_links(mut rpc: Rpc, sizes: &[u64], deadline: Duration) -> Result<Vec<Vec<Bytes>>, Status> {
    let [old_size, new_size, further @ ..] = sizes else { return Ok(Vec::new()) };
    let message =
        GetConsistencyProofRequest { old_size: *old_size, new_size: *new_size, further_sizes: further.to_vec() };
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    let late = |_| Status::deadline_exceeded("no proof of consistency in time");
    let answer = timeout(deadline, rpc.get_consistency_proof(request)).await.map_err(late)??.into_inner();
    let more = answer.further.into_iter().take(further.len()).map(|proof| proof.hashes);
    Ok(std::iter::once(answer.hashes).chain(more).collect())
}

/// Returns how the session ends if no proof came.
fn unproven(status: &Status, connection: &Connection) -> End {
    // A server that has restarted since it gave the receipts has yet to learn how much of its log is committed. If the
    // log really went back, the next receipt shows it.
    if status.code() == Code::OutOfRange {
        let why = format!("{}: {}", code_name(status.code()), status.message());
        return End::Failed { cure: Cure::Time, why, pushback: None };
    }
    failed(status, connection)
}
