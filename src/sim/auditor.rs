//! The auditor: a host that reads the log through its public door, during the run and once more at the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{operator::Operator, recorder::Recorder};
use crate::{
    audit::calls::error_chain,
    history::What,
    system::{Findings, Host, Peer, System},
};

/// What the auditor is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Read now and then.
    Sometimes,
    /// Say the last word: read every server whole.
    Last,
}

/// One reading ends by then, whole or not.
const READING_MAX: Duration = Duration::from_secs(20);

/// Between two tries to say the last word.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The auditor over all its lives.
#[derive(Clone)]
pub(super) struct Auditor {
    recorder: Recorder,
    order: watch::Receiver<Reading>,
    every: Duration,
    operator: Operator,
    readings: Arc<AtomicU32>,
    done: Arc<AtomicBool>,
}

impl Auditor {
    /// An auditor that reads about `every` so often.
    pub(super) fn new(
        recorder: Recorder,
        order: watch::Receiver<Reading>,
        every: Duration,
        operator: Operator,
    ) -> Self {
        Self { recorder, order, every, operator, readings: Arc::default(), done: Arc::default() }
    }

    /// Whether the last word is said, of every server.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// One life.
    pub(super) async fn run<S: System>(&self, system: Arc<S>, host: Host) {
        let follower = tokio::spawn({
            let (system, host) = (system.clone(), host.clone());
            let found = self.findings(None);
            async move { system.follow(host, found).await }
        });
        tokio::spawn(self.operator.clone().run(system.clone(), host.clone()));
        let mut order = self.order.clone();
        while *order.borrow_and_update() == Reading::Sometimes {
            let next = Instant::now() + self.every;
            tokio::select! {
                biased;
                changed = order.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next) => {
                    for server in host.servers() {
                        let _ = self.read(&*system, &host, server, false).await;
                    }
                }
            }
        }
        // What the follower was given so far is judged; it need not be awaited, for it never ends.
        for server in host.servers() {
            while self.read(&*system, &host, server, true).await.is_err() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
        follower.abort();
        self.done.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn read<S: System>(&self, system: &S, host: &Host, server: &Peer, last: bool) -> Result<(), ()> {
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        self.recorder.record(What::ReadingBegan { reading, server: server.name().into(), last });
        let mut found = self.findings(Some(reading));
        let read = system.read_back(host.clone(), server, &mut found);
        let error = match tokio::time::timeout(READING_MAX, read).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(&*error)),
            Err(_) => Some(format!("not read to its end within {READING_MAX:?}")),
        };
        let result = if error.is_none() { Ok(()) } else { Err(()) };
        self.recorder.record(What::ReadingEnded { reading, error });
        result
    }

    fn findings(&self, reading: Option<u32>) -> Findings {
        let recorder = self.recorder.clone();
        Findings { record: Arc::new(move |what| recorder.record(what)), reading }
    }
}
