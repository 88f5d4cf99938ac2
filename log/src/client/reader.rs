//! Reading and verifying: everything that the log says is checked against its pinned key before it is believed.
//!
//! Leaves alone prove nothing, so [`LogReader::verify_all`] recomputes the signed root from the very bytes that a
//! reader is served.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use gapless_world::{
    LogEvent, Observer, World,
    calls::{Attempt, Calls, code_name},
    tls::Identity,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tonic::{Request, Response, Status};

use super::{
    connection::{Connection, Connector},
    error::ClientError,
    freshness::{Bound, Level},
    known::{Known, extends, hashes},
    rejection::Rejection,
    retry::{Backoff, Cure, cure, is_answer, leader, pushback},
    rpc::Rpc,
    settings::{Deadlines, ReaderSettings, RetrySettings},
};
use crate::{
    dial::{Credentials, Dial, dial_tls},
    leaf::Index,
    note::{Checkpoint, NoteKey, Policy},
    schema::Exchange,
    tree::{self, Frontier},
    wire::{GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, ReadRequest},
};

/// Reads the log and verifies it. Each call has one deadline over all its attempts.
pub struct LogReader {
    link: Mutex<Link>,
    credentials: watch::Sender<Arc<Credentials>>,
    log_key: NoteKey,
    policy: Policy,
    observer: Arc<dyn Observer>,
    deadlines: Deadlines,
    retry: RetrySettings,
}

/// Leaves, and how fresh the log was from which they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The leaves with their indices, ascending by one.
    pub leaves: Vec<(Index, Bytes)>,
    /// The freshness of the log, which has at least `bound.size` leaves; these need not be all.
    pub bound: Bound,
}

/// The connection in use. A failed one is dropped, and the next one goes to the next server.
struct Link {
    connector: Connector,
    connection: Option<Connection>,
}

impl LogReader {
    /// Checks the settings. The first call makes the connection.
    pub fn connect(world: World, settings: ReaderSettings) -> Result<LogReader, ClientError> {
        let credentials = watch::Sender::new(Credentials::new(&settings.identity)?);
        let dial = dial_tls(world.clone(), credentials.subscribe());
        LogReader::connect_with(world, settings, dial, credentials)
    }

    pub(super) fn connect_with(
        world: World,
        settings: ReaderSettings,
        dial: Dial,
        credentials: watch::Sender<Arc<Credentials>>,
    ) -> Result<LogReader, ClientError> {
        let ReaderSettings { servers, log_key, policy, deadlines, retry, revision, .. } = settings;
        let calls = Calls::new(world.observer.clone());
        let connector = Connector::new(dial, servers, calls, Exchange::new(revision)?, deadlines)?;
        let link = Mutex::new(Link { connector, connection: None });
        Ok(LogReader { link, credentials, log_key, policy, observer: world.observer, deadlines, retry })
    }

    /// Presents another certificate, over a new connection.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), ClientError> {
        self.credentials.send_replace(Credentials::new(identity)?);
        self.drop_connection();
        Ok(())
    }

    /// Returns the newest signed checkpoint, verified, with its note as signed.
    pub async fn signed_checkpoint(&self) -> Result<(Checkpoint, String), ClientError> {
        let (checkpoint, note, _) = self.signed_checkpoint_at(Level::Any).await?;
        Ok((checkpoint, note))
    }

    /// Returns a signed checkpoint as fresh as `level` demands, verified, with its note as signed and how fresh it is.
    ///
    /// # Errors
    /// Fails if no server keeps the level within the deadline of a call.
    pub async fn signed_checkpoint_at(&self, level: Level) -> Result<(Checkpoint, String, Bound), ClientError> {
        let request = GetCheckpointRequest { freshness: level.demand() };
        let (answer, sent, server) =
            self.call_timed("read the checkpoint", request, |mut rpc, request| async move {
                rpc.get_checkpoint(request).await
            })
            .await?;
        let checkpoint = Checkpoint::verify_by(&answer.checkpoint, &self.log_key, &self.policy)?;
        let bound = self.kept(&server, level.kept_by(answer.bound, checkpoint.size, sent))?;
        Ok((checkpoint, answer.checkpoint, bound))
    }

    /// Returns the newest signed checkpoint, verified.
    pub async fn checkpoint(&self) -> Result<Checkpoint, ClientError> {
        Ok(self.signed_checkpoint().await?.0)
    }

    /// Returns committed leaves from `start` on, as many as the server gives at once; none if `start` is the end of its
    /// log.
    pub async fn read(&self, start: u64) -> Result<Vec<(Index, Bytes)>, ClientError> {
        self.read_up_to(start, 0).await
    }

    async fn read_up_to(&self, start: u64, limit: u32) -> Result<Vec<(Index, Bytes)>, ClientError> {
        Ok(self.read_at(start, limit, Level::Any).await?.leaves)
    }

    /// Returns committed leaves from `start` on, at most `limit` (0 leaves the choice to the server), of a log as fresh
    /// as `level` demands. It is an error if `start` is beyond the end of that log.
    ///
    /// # Errors
    /// Fails if no server keeps the level within the deadline of a call.
    pub async fn read_at(&self, start: u64, limit: u32, level: Level) -> Result<Read, ClientError> {
        let request = ReadRequest { start, limit, freshness: level.demand() };
        let (answer, sent, server) =
            self.call_timed("read leaves", request, |mut rpc, request| async move { rpc.read(request).await }).await?;
        let bound = self.kept(&server, level.kept_by(answer.bound, answer.size, sent))?;
        if answer.start != start {
            self.drop_connection();
            return Err(ClientError::OutOfOrder { expected: start, found: answer.start });
        }
        let leaves: Vec<_> = (start..).map(Index).zip(answer.leaves).collect();
        for (index, leaf) in &leaves {
            self.observer.see(LogEvent::LeafRead { index: index.0, leaf: leaf.clone() });
        }
        Ok(Read { leaves, bound })
    }

    /// Leaves the server if it did not keep what was asked for.
    fn kept(&self, server: &str, bound: Result<Bound, ClientError>) -> Result<Bound, ClientError> {
        let bound = bound.inspect_err(|_| self.drop_connection())?;
        bound.told(server).into_iter().for_each(|told| self.observer.see(told));
        Ok(bound)
    }

    /// Reads every leaf that the newest checkpoint covers, recomputes the root from these leaves and compares it with
    /// the signed one. Each read has the deadline of a call.
    pub async fn verify_all(&self) -> Result<Checkpoint, ClientError> {
        Ok(self.verify_all_at(Level::Any).await?.0)
    }

    /// Does the same with a checkpoint as fresh as `level` demands, and also returns how fresh that was when it came.
    pub async fn verify_all_at(&self, level: Level) -> Result<(Checkpoint, Bound), ClientError> {
        let (checkpoint, _, bound) = self.signed_checkpoint_at(level).await?;
        let mut tree = Frontier::default();
        let mut behind_by = Instant::now() + self.deadlines.call;
        while tree.size() < checkpoint.size {
            let left = u32::try_from(checkpoint.size - tree.size()).unwrap_or(u32::MAX);
            let leaves = self.read_up_to(tree.size(), left).await?;
            if leaves.is_empty() {
                // This server is behind the one that gave the checkpoint. It may catch up, or another server may be
                // ahead.
                self.wait_for_a_server_that_is_ahead(tree.size(), checkpoint.size, behind_by).await?;
                continue;
            }
            behind_by = Instant::now() + self.deadlines.call;
            let missing = checkpoint.size - tree.size();
            for (_, leaf) in leaves.iter().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
                tree.push(tree::leaf_hash(leaf));
            }
        }
        match tree.size() == checkpoint.size && tree.root() == checkpoint.root {
            true => Ok((checkpoint, bound)),
            false => Err(ClientError::WrongRoot { size: checkpoint.size }),
        }
    }

    async fn wait_for_a_server_that_is_ahead(&self, size: u64, wanted: u64, by: Instant) -> Result<(), ClientError> {
        if Instant::now() >= by {
            let why = format!("no server gives more than {size} leaves although {wanted} are signed");
            return Err(ClientError::Call { what: "read leaves", why });
        }
        self.drop_connection();
        sleep(self.retry.base).await;
        Ok(())
    }

    /// Proves that the leaf is at `index` in the tree of `checkpoint`.
    pub async fn inclusion(&self, index: Index, leaf: &[u8], checkpoint: &Checkpoint) -> Result<(), ClientError> {
        let request = GetInclusionProofRequest { index: index.0, tree_size: checkpoint.size };
        let answer = self
            .call("prove inclusion", request, |mut rpc, request| async move { rpc.get_inclusion_proof(request).await })
            .await?;
        let proof = hashes("inclusion", &answer.hashes)?;
        tree::verify_inclusion(&tree::leaf_hash(leaf), index.0, checkpoint.size, &proof, &checkpoint.root)
            .map_err(|why| Rejection::NotIncluded { index: index.0, size: checkpoint.size, why }.into())
    }

    /// Proves that the tree of `new` begins with the tree of `old`. Both should have been verified.
    pub async fn consistency(&self, old: &Checkpoint, new: &Checkpoint) -> Result<(), ClientError> {
        let (old, new) = (Known::from(old), Known::from(new));
        if old.size == 0 || old.size >= new.size {
            return Ok(extends(&old, &new, &[])?);
        }
        let request = GetConsistencyProofRequest { old_size: old.size, new_size: new.size, further_sizes: Vec::new() };
        let answer =
            self.call("prove consistency", request, |mut rpc, request| async move {
                rpc.get_consistency_proof(request).await
            })
            .await?;
        let proof = hashes("consistency", &answer.hashes)?;
        Ok(extends(&old, &new, &proof)?)
    }

    /// Makes one call, and retries it while its deadline lasts and the failure can pass by itself.
    async fn call<M, T, F, A>(&self, what: &'static str, message: M, make: F) -> Result<T, ClientError>
    where
        M: Clone,
        F: Fn(Rpc, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        Ok(self.call_timed(what, message, make).await?.0)
    }

    /// Does the same, and also returns when the answered attempt was sent, and which server answered it.
    async fn call_timed<M, T, F, A>(
        &self,
        what: &'static str,
        message: M,
        make: F,
    ) -> Result<(T, Instant, Arc<str>), ClientError>
    where
        M: Clone,
        F: Fn(Rpc, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut redirected = false;
        let by = Instant::now() + self.deadlines.call;
        let mut backoff = Backoff::new(self.retry, self.servers());
        loop {
            let connection = self.connection()?;
            let mut request = Request::new(message.clone());
            let sent = Instant::now();
            request.set_timeout(by.saturating_duration_since(sent));
            request.extensions_mut().insert(Attempt(backoff.attempt()));
            let status = match timeout_at(by, make(connection.rpc.clone(), request)).await {
                Ok(Ok(answer)) => {
                    self.link().connector.served();
                    return Ok((answer.into_inner(), sent, connection.server));
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let named = leader(&status);
            if let Some(leader) = named.as_ref().filter(|leader| !self.link().connector.knows(leader)) {
                // This is a good answer over a good connection, which stays.
                let said = status.message();
                let why = format!("{said}: `{leader}` leads, which is not among this reader's servers; add it");
                return Err(ClientError::Call { what, why });
            }
            let trouble = connection.trouble();
            let preferred = self.turn_to(named.as_deref(), is_answer(&status, trouble.as_ref()));
            let cure = cure(&status, trouble.as_ref());
            let (cure, wait) = backoff.failed(cure, pushback(&status, self.retry.cap));
            // The first leader that is named is followed at once; a second name may come from a server that has not
            // heard of the next leader yet.
            if preferred && !std::mem::replace(&mut redirected, true) && Instant::now() < by {
                continue;
            }
            if cure == Cure::Somebody || Instant::now() + wait >= by {
                let why = format!("{}: {}", code_name(status.code()), status.message());
                return Err(ClientError::Call { what, why });
            }
            sleep(wait).await;
        }
    }

    /// Notes that the server of this connection did not serve. The next connection goes to the server that is said to
    /// lead. Returns false if it does not, because none is named or the one that is named was asked in vain. If there
    /// is only one server and it answered, it is asked again over the same connection.
    fn turn_to(&self, leader: Option<&str>, answered: bool) -> bool {
        let mut link = self.link();
        if !answered || link.connector.servers() > 1 {
            link.connection = None;
        }
        link.connector.in_vain();
        leader.is_some_and(|leader| link.connector.prefer(leader))
    }

    fn servers(&self) -> usize {
        self.link().connector.servers()
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Result<Connection, ClientError> {
        let mut link = self.link();
        if link.connection.is_none() {
            link.connection = Some(link.connector.open()?);
        }
        // It was just filled if it was empty.
        link.connection.clone().ok_or(ClientError::Closed)
    }

    fn drop_connection(&self) {
        self.link().connection = None;
    }
}
