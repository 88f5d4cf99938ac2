//! Delivery: brings what the outbox owes to the log. It is the only place where an append is retried.
//!
//! Entries are sent in the order of their sequences, several in flight, and are answered in that order; see
//! [`session`](super::session). After any failure, delivery goes back to the lowest sequence that is not proven to be
//! in the log and continues from there: the log answers an entry that it already has with the first receipt. Delivery
//! never gives up, never skips, and never lets an entry go on less than a verified receipt.

use std::time::Duration;

use gapless_world::LogEvent;
use tokio::time::sleep;

use super::{
    delivery::{DeliveryState, Parts},
    ending::End,
    outbox::Command,
    retry::Cure,
    session::Session,
};

/// The task that delivers.
pub(crate) struct Deliverer {
    state: DeliveryState,
}

impl Deliverer {
    pub(crate) fn new(parts: Parts) -> Deliverer {
        Deliverer { state: DeliveryState::new(parts) }
    }

    /// Delivers until the client is closed. Dropping this future loses nothing: what it knows is on disk or is asked
    /// for again.
    pub(crate) async fn run(mut self) {
        while self.wait_for_work().await {
            let end = self.session().await;
            // What was in flight is gone with the session and is read again from the disk.
            self.state.parts.room.holds(0);
            match end {
                End::Idle | End::GoBack => {}
                End::Renew => self.state.connection = None,
                End::Stop => return,
                End::RolledBack => {
                    let _ = self.state.parts.commands.send(Command::MoveFrom { sequence: self.state.next }).await;
                    return;
                }
                End::Broken(why) => {
                    let _ = self.state.parts.commands.send(Command::Stop { why }).await;
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
                    self.state.pace.turned_away();
                    if !self.back_off(Cure::Time, why, pushback).await {
                        return;
                    }
                }
                End::Failed { cure, why, pushback } => {
                    self.state.connection = None;
                    self.state.parts.connector.in_vain();
                    if !self.back_off(cure, why, pushback).await {
                        return;
                    }
                }
            }
        }
    }

    /// Turns to the server that is said to lead. Returns false if delivery has to wait first: two servers may each take
    /// the other for the leader until they have heard of the next one, and a leader that was just lost is named until
    /// it is replaced.
    fn redirect(&mut self, leader: &str) -> bool {
        self.state.backoff.answered();
        self.state.connection = None;
        self.state.parts.connector.in_vain();
        let known = self.state.parts.connector.prefer(leader);
        let at_once = known && !self.state.redirected;
        mark!("led-elsewhere", known && !self.state.redirected);
        mark!("led-in-a-circle", !known);
        self.state.redirected = known;
        at_once
    }

    /// Waits until something is owed. Returns false if the client is being closed.
    async fn wait_for_work(&mut self) -> bool {
        loop {
            if *self.state.parts.stop.borrow_and_update() {
                return false;
            }
            if self.state.parts.view.progress.borrow_and_update().durable > self.state.next {
                return true;
            }
            tokio::select! {
                biased;
                stop = self.state.parts.stop.changed() => if stop.is_err() { return false },
                more = self.state.parts.view.progress.changed() => if more.is_err() { return false },
            }
        }
    }

    /// Reports the failure and waits. Returns false if the client is being closed.
    async fn back_off(&mut self, cure: Cure, why: String, pushback: Option<Duration>) -> bool {
        let (cure, wait) = self.state.backoff.failed(cure, pushback);
        if cure == Cure::Somebody && !self.state.parked {
            self.state.parked = true;
            mark!("parked");
            self.state.parts.world.tell(LogEvent::Parked { why: why.clone() });
        }
        self.state.parts.world.tell(LogEvent::Retry {
            sequence: self.state.next,
            attempt: self.state.backoff.attempt(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            why,
        });
        let Parts { stop, credentials, .. } = &mut self.state.parts;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => false,
            // A replaced identity may be the cure that delivery waits for.
            Ok(()) = credentials.changed(), if self.state.parked => true,
            () = sleep(wait) => true,
        }
    }

    /// Sends and settles over one lane until it ends.
    async fn session(&mut self) -> End {
        if self.state.parts.credentials.has_changed().unwrap_or(false) {
            self.state.connection = None;
        }
        let connection = match self.state.connection.take() {
            Some(connection) => connection,
            None => {
                self.state.parts.credentials.mark_unchanged();
                match self.state.parts.connector.open() {
                    Ok(connection) => connection,
                    Err(why) => return End::Broken(why),
                }
            }
        };
        self.state.connection = Some(connection.clone());
        Session::new(&mut self.state, connection).run().await
    }
}
