//! What delivery works with and how far it has come: the lowest sequence that is not proven to be in the log, and what
//! becomes of it.

use std::sync::Arc;

use gapless_world::{LogEvent, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Delivered,
    connection::{Connection, Connector},
    ending::End,
    lane::Lane,
    outbox::{Command, Owed, View},
    pace::Pace,
    rejection::Rejection,
    retry::{Backoff, Cure},
    settings::{Call, Deadlines, RetrySettings},
    witness::Witness,
};
use crate::{
    budget::Account,
    dial::Credentials,
    leaf::Sequence,
    note::{NoteKey, Policy},
};

/// If a first entry is refused as too early this often in a row, the cause is not a race.
const GAPS_MAX: u32 = 3;

/// What delivery works with.
pub(crate) struct Parts {
    pub(crate) world: World,
    pub(crate) view: View,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) connector: Connector,
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    pub(crate) witness: Witness,
    pub(crate) log_key: NoteKey,
    pub(crate) policy: Policy,
    pub(crate) call: Call,
    pub(crate) memory: watch::Receiver<u64>,
    /// The memory of entries in flight, and of those that were read to be sent next.
    pub(crate) room: Arc<Account>,
    pub(crate) deadlines: Deadlines,
    pub(crate) retry: RetrySettings,
    pub(crate) stop: watch::Receiver<bool>,
}

/// How far delivery has come.
pub(crate) struct DeliveryState {
    pub(super) parts: Parts,
    pub(super) connection: Option<Connection>,
    pub(super) backoff: Backoff,
    /// How many entries may be in flight, as learned from the last sessions.
    pub(super) pace: Pace,
    /// Whether delivery waits for somebody to cure it, which has been reported.
    pub(super) parked: bool,
    /// The lowest sequence that is not proven to be in the log.
    pub(super) next: u64,
    gaps: u32,
    /// The sequence of the entry that was last sent alone: until it is settled, no later one is sent.
    ///
    /// If the outbox was put back to an earlier state, its sequences are taken in the log from one on that is the first
    /// of a life, and the log may take those that lie further on. So the first entry of each life is sent alone: if its
    /// sequence is taken, then the log has none of the later entries. The lowest entry that a start finds is sent alone
    /// as well, because an earlier life may have settled a first one in a way that proves nothing.
    alone: u64,
    /// Whether that entry had never been sent before.
    alone_is_new: bool,
    /// Whether the log has said once that it has another entry there.
    alone_is_taken: bool,
    /// Below this sequence, entries may have been sent before.
    sent: u64,
    /// Whether a server that named the leader was believed since the last success. The next one is believed after a
    /// wait.
    pub(super) redirected: bool,
}

impl DeliveryState {
    pub(crate) fn new(parts: Parts) -> DeliveryState {
        let (next, sent) = {
            let progress = parts.view.progress.borrow();
            (progress.acknowledged, progress.durable)
        };
        let backoff = Backoff::new(parts.retry, parts.connector.servers());
        let (least, most) = Lane::widths(parts.call);
        let pace = Pace::new(least, most);
        DeliveryState {
            parts,
            connection: None,
            backoff,
            pace,
            parked: false,
            next,
            gaps: 0,
            alone: next,
            alone_is_new: false,
            alone_is_taken: false,
            sent,
            redirected: false,
        }
    }

    /// Lets the entries of the lowest sequences leave.
    pub(super) async fn leave(&mut self, delivered: Vec<Delivered>) -> Result<(), End> {
        let entries = delivered.len();
        // The kept checkpoint is durable by now. After a crash here, the entries are sent once more, and that is all.
        let command = Command::Leave { first: self.next, delivered };
        self.parts.commands.send(command).await.map_err(|_| End::Stop)?;
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

    /// Keeps the entry of the lowest sequence as a dead letter; then another entry closes its slot.
    pub(super) async fn dead_letter(&mut self, reason: &'static str, detail: String) -> Result<(), End> {
        let (done, kept) = oneshot::channel();
        let command = Command::DeadLetter { sequence: self.next, reason, detail, done };
        self.parts.commands.send(command).await.map_err(|_| End::Stop)?;
        kept.await.map_err(|_| End::Stop)?;
        Err(End::GoBack)
    }

    /// Returns whether an entry may not be sent yet, because an earlier one has to be settled first.
    pub(super) fn waits(&self, sequence: u64) -> bool {
        self.next <= self.alone && self.alone < sequence
    }

    /// Notes that an entry is sent.
    pub(super) fn sends(&mut self, owed: &Owed) {
        let Sequence(sequence) = owed.entry.entry().sequence;
        if owed.first_of_life && self.alone != sequence {
            self.is_alone(sequence);
        }
        if self.alone == sequence {
            self.alone_is_new = self.sent <= sequence;
        }
        self.sent = self.sent.max(sequence + 1);
    }

    fn is_alone(&mut self, sequence: u64) {
        (self.alone, self.alone_is_taken) = (sequence, false);
    }

    /// Notes that the log has the entry of the lowest sequence, and whether it says that it had it before. If that
    /// entry had never been sent, the outbox was put back, and has just been given the same event again. Then the next
    /// sequence may be taken.
    pub(super) fn has(&mut self, sequence: u64, repeated: bool) {
        if repeated && sequence == self.alone && self.alone_is_new {
            self.is_alone(sequence + 1);
        }
    }

    /// Notes that the place of the lowest sequence is closed by an entry that this outbox does not know. If it was sent
    /// alone, that says nothing of the next one.
    pub(super) fn closed(&mut self) {
        if self.next == self.alone {
            self.is_alone(self.next + 1);
        }
    }

    /// Decides what to do when the log says that it has another entry under the lowest sequence. A refusal is no proof,
    /// and bits flip, so it has to be said twice.
    ///
    /// # Errors
    /// The detail, if later entries may be in the log, because this one was not sent alone: it is a dead letter.
    pub(super) fn taken(&mut self, detail: String) -> Result<End, String> {
        if self.next != self.alone {
            return Err(detail);
        }
        if std::mem::replace(&mut self.alone_is_taken, true) {
            return Ok(End::RolledBack);
        }
        Ok(End::Failed { cure: Cure::Time, why: format!("sequence-reused: {detail}"), pushback: None })
    }

    /// Decides what to do when the log says that earlier sequences are missing.
    pub(super) fn gap(&mut self, expected: u64, first: bool) -> End {
        // Calls side by side may overtake each other: the older entry has arrived by now.
        if !first {
            mark!("gap-behind-another");
            return End::GoBack;
        }
        self.gaps += 1;
        let cure = if self.gaps >= GAPS_MAX && expected < self.next { Cure::Somebody } else { Cure::Time };
        let why = format!(
            "the log expects sequence {expected} although everything below {} is proven to be in it; if this lasts, \
             the log lost acknowledged entries",
            self.next
        );
        End::Failed { cure, why, pushback: None }
    }

    /// Reports a receipt that does not count. The entry stays, and is sent again under the same sequence.
    pub(super) fn rejected(&mut self, sequence: u64, why: &Rejection) -> End {
        mark!("receipt-rejected");
        let cure = if why.needs_a_cure() { Cure::Somebody } else { Cure::Time };
        let why = why.to_string();
        self.parts.world.tell(LogEvent::ReceiptRejected { sequence, why: why.clone() });
        End::Failed { cure, why, pushback: None }
    }
}
