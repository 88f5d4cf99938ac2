//! A tail: every leaf once, in order, from an index on, across all failures.
//!
//! Its position is the whole of its state, and only a leaf handed out moves it. So whatever breaks, it asks again for
//! exactly the next leaf, and a server that skips or repeats is refused.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Request, Status, Streaming};

use crate::{
    audit::{
        calls::{Attempt, Calls},
        leaf::Index,
        schema::Exchange,
        tls::Identity,
        wire::{TailRequest, TailResponse},
    },
    world::{LogEvent, World},
};

use super::{
    connection::{Connector, Credentials, Dial, Trouble, dial_tls},
    error::ClientError,
    retry::{Backoff, cure, pushback},
    settings::{Deadlines, ReaderSettings},
};

/// Follows the log.
pub struct Tail {
    world: World,
    connector: Connector,
    credentials: watch::Sender<Arc<Credentials>>,
    deadlines: Deadlines,
    cap: std::time::Duration,
    backoff: Backoff,
    next: u64,
    open: Option<Open>,
    not_before: Instant,
}

/// A stream, and what its connection noticed about itself.
struct Open {
    leaves: Streaming<TailResponse>,
    connection: super::connection::Connection,
}

impl Tail {
    /// A tail that begins with leaf `from`. The connection is made by the first [`next`](Self::next).
    pub fn new(world: World, settings: ReaderSettings, from: u64) -> Result<Tail, ClientError> {
        let credentials = watch::Sender::new(Credentials::new(&settings.identity)?);
        let dial = dial_tls(world.clone(), credentials.subscribe(), settings.deadlines);
        Tail::new_with(world, settings, from, dial, credentials)
    }

    pub(super) fn new_with(
        world: World,
        settings: ReaderSettings,
        from: u64,
        dial: Dial,
        credentials: watch::Sender<Arc<Credentials>>,
    ) -> Result<Tail, ClientError> {
        let ReaderSettings { servers, deadlines, retry, revision, .. } = settings;
        let calls = Calls::new(world.observer.clone());
        let connector = Connector::new(dial, servers, calls, Exchange::new(revision)?, deadlines)?;
        let backoff = Backoff::new(retry, connector.servers());
        let (cap, not_before) = (retry.cap, Instant::now());
        Ok(Tail { world, connector, credentials, deadlines, cap, backoff, next: from, open: None, not_before })
    }

    /// The index of the leaf that comes next.
    pub fn position(&self) -> Index {
        Index(self.next)
    }

    /// Shows another certificate, over a new connection.
    pub fn replace_identity(&mut self, identity: &Identity) -> Result<(), ClientError> {
        self.credentials.send_replace(Credentials::new(identity)?);
        self.open = None;
        Ok(())
    }

    /// The next leaf, as soon as it is committed; waits as long as it takes. Failed calls are made again here. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`ClientError::OutOfOrder`] where the server skipped or repeated a leaf. The next call asks again, at the same
    /// index.
    pub async fn next(&mut self) -> Result<(Index, Bytes), ClientError> {
        loop {
            let Some(open) = &mut self.open else {
                // Kept outside of this future, so that a caller who drops it and asks again does not skip the wait.
                sleep_until(self.not_before).await;
                self.open().await?;
                continue;
            };
            let answer = match timeout(self.deadlines.tail_idle, open.leaves.message()).await {
                // Nothing new for long: asks again, in case that this server forgot its reader.
                Err(_) => {
                    self.open = None;
                    continue;
                }
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) => {
                    self.failed(&Status::unavailable("the server ended the tail"), None);
                    continue;
                }
                Ok(Err(status)) => {
                    let trouble = open.connection.trouble();
                    self.failed(&status, trouble);
                    continue;
                }
            };
            return self.take(answer);
        }
    }

    fn take(&mut self, answer: TailResponse) -> Result<(Index, Bytes), ClientError> {
        let (expected, found) = (self.next, answer.index);
        if found != expected {
            self.failed(&Status::aborted("out of order"), None);
            return Err(ClientError::OutOfOrder { expected, found });
        }
        self.backoff.succeeded();
        self.next += 1;
        self.world.tell(LogEvent::LeafRead { index: found, leaf: answer.leaf.clone() });
        Ok((Index(found), answer.leaf))
    }

    /// Opens a stream at exactly the next leaf, or waits before the next attempt.
    async fn open(&mut self) -> Result<(), ClientError> {
        let connection = self.connector.open()?;
        let mut request = Request::new(TailRequest { start: self.next });
        request.extensions_mut().insert(Attempt(self.backoff.attempt()));
        let mut rpc = connection.rpc.clone();
        match timeout(self.deadlines.call, rpc.tail(request)).await {
            Ok(Ok(answer)) => {
                self.world.tell(LogEvent::TailStarted { from: self.next });
                self.open = Some(Open { leaves: answer.into_inner(), connection });
            }
            Ok(Err(status)) => self.failed(&status, connection.trouble()),
            Err(_) => self.failed(&Status::deadline_exceeded("no answer in time"), connection.trouble()),
        }
        Ok(())
    }

    fn failed(&mut self, status: &Status, trouble: Option<Trouble>) {
        self.open = None;
        let (_, wait) = self.backoff.failed(cure(status, trouble.as_ref()), pushback(status, self.cap));
        self.not_before = Instant::now() + wait;
    }
}
