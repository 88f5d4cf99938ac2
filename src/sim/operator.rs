//! The operator: stands in for the people who replace a machine. It makes the log take a new machine in and let the old
//! one go, by the calls that the log offers for this, from the auditor's host.
//!
//! It decides nothing by itself: a step gives an order, and the operator tries until the log reports that it is done.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gapless_world::error_chain;
use tokio::sync::watch;

use super::recorder::Recorder;
use crate::{
    history::{Name, What},
    system::{AnySystem, Host, Peer},
};

/// The pause between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A machine that is to be taken in: its server, and its number among the machines of that server, from 1.
type NewMachine = (Name, u32);

/// The operator over all lives of its host. Clones share their state.
#[derive(Clone)]
pub(super) struct Operator {
    recorder: Recorder,
    orders: watch::Sender<Vec<NewMachine>>,
    done: Arc<Mutex<BTreeSet<NewMachine>>>,
}

impl Operator {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, orders: watch::Sender::default(), done: Arc::default() }
    }

    /// Orders that a server's machine be taken in.
    pub(super) fn order(&self, server: &Name, machine: u32) {
        self.orders.send_modify(|orders| orders.push((server.clone(), machine)));
    }

    /// Returns whether that machine was taken in.
    pub(super) fn is_done(&self, server: &Name, machine: u32) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(&(server.clone(), machine))
    }

    /// Runs one life: carries out the orders, in their order.
    pub(super) async fn run(self, system: Arc<dyn AnySystem>, host: Host) {
        let mut orders = self.orders.subscribe();
        loop {
            let next =
                orders.borrow_and_update().iter().find(|(server, machine)| !self.is_done(server, *machine)).cloned();
            match next {
                Some((server, machine)) => self.replace(&*system, &host, server, machine).await,
                None if orders.changed().await.is_err() => return,
                None => {}
            }
        }
    }

    async fn replace(&self, system: &dyn AnySystem, host: &Host, server: Name, machine: u32) {
        let Some(peer): Option<&Peer> = host.servers().iter().find(|peer| *peer.name() == *server) else { return };
        while let Err(why) = system.replace(host.clone(), peer, machine).await {
            self.recorder.record(What::Failed { error: format!("replacing {server}: {}", error_chain(&*why)) });
            mark!("replaced-at-second-try");
            tokio::time::sleep(TRY_AGAIN).await;
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert((server, machine));
    }
}
