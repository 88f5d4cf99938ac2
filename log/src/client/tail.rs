//! A tail: hands out every leaf once, in order, from an index on, across all failures and from any server that is
//! there.
//!
//! Only handing out a leaf moves its position. So after any failure it asks again for exactly the next leaf, and a
//! server that skips or repeats leaves is refused.
//!
//! Before the tail listens to a server, the server has to vouch for what was already handed out: its signed checkpoint
//! covers that, extends the newest checkpoint that this tail has seen, and includes the last leaf. A server that is
//! merely behind is left for another and asked again later, and its log is never taken for the whole; a server with
//! another history is an error. A caller that wants to know how fresh the log is names an age: the tail then asks again
//! and again, and leaves a server that is older, that is silent, or that shows more than it gives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use gapless_world::{
    LogEvent, World,
    calls::{Attempt, Calls},
    tls::Identity,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Request, Response, Status};

use super::{
    connection::{Connection, Connector},
    error::ClientError,
    freshness::{Bound, Level},
    known::{Known, extends, hashes},
    rejection::Rejection,
    retry::{Backoff, cure, leader, pushback},
    rpc::{Leaves, Rpc},
    settings::{Deadlines, ReaderSettings},
};
use crate::{
    dial::{Credentials, Dial, Trouble, dial_tls},
    leaf::Index,
    note::{Checkpoint, NoteKey, Policy},
    schema::Exchange,
    tree::{self, Hash},
    wire::{GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, TailRequest, TailResponse},
};

/// However small the age that is asked for, a server is asked no more often than this.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// Follows the log.
pub struct Tail {
    world: World,
    connector: Connector,
    credentials: watch::Sender<Arc<Credentials>>,
    log_key: NoteKey,
    policy: Policy,
    deadlines: Deadlines,
    cap: Duration,
    backoff: Backoff,
    next: u64,
    /// The hash of the leaf before `next`, once one was handed out.
    last: Option<Hash>,
    /// The newest checkpoint with which a server vouched.
    known: Known,
    age_max: Option<Duration>,
    /// `(n, t)`: the first `n` leaves contain everything that was acknowledged before `t`. `stated` is the newest pair
    /// that a server stated, and `covered` the newest one of which all leaves were handed out.
    stated: Option<(u64, Instant)>,
    covered: Option<(u64, Instant)>,
    open: Option<Open>,
    not_before: Instant,
}

/// A stream, and its connection, which notices what breaks it.
struct Open {
    leaves: Leaves,
    connection: Connection,
    /// When to ask how fresh the server is, and where the tail stood the last time it asked.
    look_at: Option<Instant>,
    stood_at: u64,
}

/// Why a server is not listened to.
enum Unfit {
    /// The server does not answer, or is behind: another one may serve.
    Passing(Status),
    /// What the server says is not signed, or contradicts what was said before.
    Contradicts(ClientError),
}

impl From<Status> for Unfit {
    fn from(status: Status) -> Self {
        Unfit::Passing(status)
    }
}

impl<E: Into<ClientError>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Unfit::Contradicts(error.into())
    }
}

impl Tail {
    /// Returns a tail that begins with leaf `from`. The first [`next`](Self::next) makes the connection.
    pub fn new(world: World, settings: ReaderSettings, from: u64) -> Result<Tail, ClientError> {
        let credentials = watch::Sender::new(Credentials::new(&settings.identity)?);
        let dial = dial_tls(world.clone(), credentials.subscribe());
        Tail::new_with(world, settings, from, dial, credentials)
    }

    pub(super) fn new_with(
        world: World,
        settings: ReaderSettings,
        from: u64,
        dial: Dial,
        credentials: watch::Sender<Arc<Credentials>>,
    ) -> Result<Tail, ClientError> {
        let ReaderSettings { servers, deadlines, retry, revision, log_key, policy, .. } = settings;
        let calls = Calls::new(world.observer.clone());
        let connector = Connector::new(dial, servers, calls, Exchange::new(revision)?, deadlines)?;
        let backoff = Backoff::new(retry, connector.servers());
        Ok(Tail {
            world,
            connector,
            credentials,
            log_key,
            policy,
            deadlines,
            cap: retry.cap,
            backoff,
            next: from,
            last: None,
            known: Known::nothing(),
            age_max: None,
            stated: None,
            covered: None,
            open: None,
            not_before: Instant::now(),
        })
    }

    /// Follows only servers whose log is no older than this age. The tail asks for the age twice within this time, and
    /// leaves a server that exceeds it.
    pub fn within(mut self, age_max: Duration) -> Tail {
        self.age_max = Some(age_max);
        self
    }

    /// Returns the index of the leaf that comes next.
    pub fn position(&self) -> Index {
        Index(self.next)
    }

    /// Returns how fresh the leaves that were handed out are at this moment: everything that was acknowledged longer
    /// ago than `age` is among them. `None` until a server has said so.
    pub fn bound(&self) -> Option<Bound> {
        self.covered.map(|(size, as_of)| Bound { size, age: Some(as_of.elapsed()), linearizable: false })
    }

    /// Shows another certificate, over a new connection.
    pub fn replace_identity(&mut self, identity: &Identity) -> Result<(), ClientError> {
        self.credentials.send_replace(Credentials::new(identity)?);
        self.open = None;
        Ok(())
    }

    /// Returns the next leaf as soon as it is committed, and waits as long as that takes. Failed calls are retried
    /// here. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::OutOfOrder`] if the server skipped or repeated a leaf; [`ClientError::Note`] and
    /// [`ClientError::Unproven`] if it cannot vouch for what was handed out before; [`ClientError::NoBound`] and
    /// [`ClientError::BoundNotKept`] if it does not say how new its log is, or if that is too old. The next call asks
    /// the next server, at the same index.
    pub async fn next(&mut self) -> Result<(Index, Bytes), ClientError> {
        loop {
            let Some(open) = &mut self.open else {
                // Kept outside this future, so that a caller who drops it and asks again does not skip the wait.
                sleep_until(self.not_before).await;
                self.open().await?;
                continue;
            };
            let answer = tokio::select! {
                biased;
                () = at(open.look_at) => {
                    self.look().await?;
                    continue;
                }
                answer = timeout(self.deadlines.tail_idle, open.leaves.next()) => answer,
            };
            match answer {
                // Nothing new has come for long: asks again, in case this server has forgotten its reader.
                Err(_) => self.open = None,
                Ok(Some(Ok(answer))) => return self.take(answer),
                Ok(Some(Err(status))) => {
                    let trouble = open.connection.trouble();
                    self.failed(&status, trouble);
                }
                Ok(None) => self.failed(&Status::unavailable("the server ended the tail"), None),
            }
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
        self.last = Some(tree::leaf_hash(&answer.leaf));
        self.covers();
        self.world.tell(LogEvent::LeafRead { index: found, leaf: answer.leaf.clone() });
        Ok((Index(found), answer.leaf))
    }

    /// Opens a stream at exactly the next leaf, from a server that vouches for the leaves before it. If that fails, the
    /// next attempt has to wait.
    async fn open(&mut self) -> Result<(), ClientError> {
        let connection = self.connector.open()?;
        let mut rpc = connection.rpc.clone();
        match timeout(self.deadlines.call, self.vouched(&mut rpc, &connection.server)).await {
            Ok(vouched) => {
                if let Err(unfit) = vouched {
                    return self.leave(unfit, connection.trouble());
                }
            }
            Err(_) => {
                self.failed(&Status::deadline_exceeded("no answer in time"), connection.trouble());
                return Ok(());
            }
        }
        match timeout(self.deadlines.call, rpc.tail(self.request(TailRequest { start: self.next }))).await {
            Ok(Ok(answer)) => {
                self.world.tell(LogEvent::TailStarted { from: self.next });
                let (leaves, look_at) = (answer.into_inner(), self.next_look());
                self.open = Some(Open { leaves, connection, look_at, stood_at: self.next });
            }
            Ok(Err(status)) => self.failed(&status, connection.trouble()),
            Err(_) => self.failed(&Status::deadline_exceeded("no answer in time"), connection.trouble()),
        }
        Ok(())
    }

    /// Asks the current server how fresh it is, and leaves a server that does not say so in time.
    async fn look(&mut self) -> Result<(), ClientError> {
        let Some(open) = &self.open else { return Ok(()) };
        let owed = self.stated.is_some_and(|(size, _)| size > self.next);
        if owed && open.stood_at == self.next {
            self.failed(&Status::unavailable("it shows more leaves than it gives"), None);
            return Ok(());
        }
        let connection = open.connection.clone();
        // An age counts from when it was stated, and vouching for it takes up to three questions.
        let most = self.age_max.unwrap_or(self.deadlines.call).max(self.connector.few_round_trips());
        let most = most.clamp(LOOK_EVERY_MIN, self.deadlines.call);
        let mut rpc = connection.rpc.clone();
        match timeout(most, self.vouched(&mut rpc, &connection.server)).await {
            Ok(Ok(())) => {
                let (look_at, stood_at) = (self.next_look(), self.next);
                self.open.iter_mut().for_each(|open| (open.look_at, open.stood_at) = (look_at, stood_at));
                Ok(())
            }
            Ok(Err(unfit)) => self.leave(unfit, connection.trouble()),
            Err(_) => {
                self.failed(&Status::deadline_exceeded("it does not say how new it is"), connection.trouble());
                Ok(())
            }
        }
    }

    fn next_look(&self) -> Option<Instant> {
        self.age_max.map(|age_max| Instant::now() + (age_max / 2).max(LOOK_EVERY_MIN))
    }

    /// Has a server vouch for what was handed out, and say how fresh it is.
    async fn vouched(&mut self, rpc: &mut Rpc, server: &str) -> Result<(), Unfit> {
        let level = self.age_max.map_or(Level::Any, Level::AgeAtMost);
        let sent = Instant::now();
        let answer = rpc.get_checkpoint(self.question(GetCheckpointRequest { freshness: level.demand() })).await?;
        let answer = answer.into_inner();
        let checkpoint = Checkpoint::verify_by(&answer.checkpoint, &self.log_key, &self.policy)?;
        let bound = level.kept_by(answer.bound, checkpoint.size, sent)?;
        // Both times are taken at once: an age is that of this moment, and proofs take their time.
        let as_of = bound.age.and_then(|age| Instant::now().checked_sub(age));
        bound.told(server).into_iter().for_each(|told| self.world.tell(told));
        let needed = self.known.size.max(self.next);
        if checkpoint.size < needed {
            mark!("reader-met-one-behind");
            let behind = format!("it shows {} leaves, and others showed {needed}", checkpoint.size);
            return Err(Status::unavailable(behind).into());
        }
        self.extends(rpc, &checkpoint).await?;
        self.includes_last(rpc, &checkpoint).await?;
        self.known = Known::from(&checkpoint);
        // The size that is proven counts, which may be larger than the one that is stated.
        self.stated = as_of.map(|as_of| (checkpoint.size, as_of));
        self.covers();
        Ok(())
    }

    async fn extends(&mut self, rpc: &mut Rpc, checkpoint: &Checkpoint) -> Result<(), Unfit> {
        let new = Known::from(checkpoint);
        let (old_size, new_size) = (self.known.size, new.size);
        let proof = match old_size > 0 && old_size < new_size {
            false => Vec::new(),
            true => {
                let request =
                    self.question(GetConsistencyProofRequest { old_size, new_size, further_sizes: Vec::new() });
                let answer = proven(rpc.get_consistency_proof(request).await)?;
                hashes("consistency", &answer.hashes)?
            }
        };
        Ok(extends(&self.known, &new, &proof)?)
    }

    async fn includes_last(&mut self, rpc: &mut Rpc, checkpoint: &Checkpoint) -> Result<(), Unfit> {
        let (Some(last), Some(index)) = (&self.last, self.next.checked_sub(1)) else { return Ok(()) };
        let request = self.question(GetInclusionProofRequest { index, tree_size: checkpoint.size });
        let answer = proven(rpc.get_inclusion_proof(request).await)?;
        let proof = hashes("inclusion", &answer.hashes)?;
        let included = tree::verify_inclusion(last, index, checkpoint.size, &proof, &checkpoint.root);
        Ok(included.map_err(|why| Rejection::NotIncluded { index, size: checkpoint.size, why })?)
    }

    /// Notes whether everything that was stated has been handed out by now.
    fn covers(&mut self) {
        if let Some(stated) = self.stated.filter(|(size, _)| *size <= self.next) {
            self.covered = Some(self.covered.map_or(stated, |known| if known.1 > stated.1 { known } else { stated }));
        }
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Attempt(self.backoff.attempt()));
        request
    }

    /// Returns a request that is answered in time or not at all.
    fn question<M>(&self, message: M) -> Request<M> {
        let mut request = self.request(message);
        request.set_timeout(self.deadlines.call);
        request
    }

    fn leave(&mut self, unfit: Unfit, trouble: Option<Trouble>) -> Result<(), ClientError> {
        match unfit {
            Unfit::Passing(status) => {
                self.failed(&status, trouble);
                Ok(())
            }
            Unfit::Contradicts(error) => {
                self.failed(&Status::aborted("it cannot vouch for the log"), None);
                Err(error)
            }
        }
    }

    /// Ends the stream. The next attempt goes to the server that is said to lead, else to the next one.
    fn failed(&mut self, status: &Status, trouble: Option<Trouble>) {
        self.open = None;
        if let Some(leader) = leader(status) {
            self.connector.prefer(&leader);
        }
        let (_, wait) = self.backoff.failed(cure(status, trouble.as_ref()), pushback(status, self.cap));
        self.not_before = Instant::now() + wait;
    }
}

/// Returns a proof. A server that refuses one is asked again later: it may just have restarted and not be that far yet.
fn proven<T>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == tonic::Code::OutOfRange => Err(Status::unavailable(status.message())),
        Err(status) => Err(status),
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
