//! A node: the log, Raft and the sequencer running together, and the handle that the server holds.
//!
//! A start locks the folder, checks whose it is, recovers the log and compares it with its own checkpoint, and only
//! then starts Raft. Anything that later makes the log doubtful ends the node: [`Node::failed`] resolves and the
//! process must end, because a node that goes on after a failed sync may acknowledge what is not on the disk.

use std::{future::pending, sync::Arc};

use bytes::Bytes;
use gapless_world::{LogEvent, World};
use openraft::{Config, Raft, SnapshotPolicy, error::Fatal};
use tokio::{
    sync::{Mutex, oneshot, watch},
    task::JoinHandle,
};

use super::{
    super::{
        budget::{self, Account, REQUESTS, TAILS},
        leaf::{ClientId, Epoch, Index, SignedEntry},
        store::Frame,
        tree::Hash,
        wire,
    },
    AppendError, Appended, Bound, NodeError, NodeSettings, SignedCheckpoint, clock, cosign,
    damaged::{end_when_whole, recover_sound},
    election::{Elections, LEASE, Pulse},
    identity::{FolderLock, Identity, lock},
    keeper,
    leadership::Leadership,
    ledger::Ledger,
    linearizable::Confirmations,
    network::Links,
    peer::Network,
    queue::{Job, Queue},
    reads::Reads,
    recovery::{Recovered, recover, tell_corruption},
    repair::finish_swap,
    sequencer::{COMMIT_SECONDS_MAX, Sequencer, inspect, notice, patiently},
    types::TypeConfig,
};
use crate::words::hex;

/// How long the start of a log of one waits until it leads. It elects itself at Raft's first tick and then waits for
/// its disk alone, for as long as a batch may.
const LEADERSHIP_SECONDS_MAX: u64 = COMMIT_SECONDS_MAX;
/// How long a caller waits for a quorum to cosign what was committed.
const SHOWN_SECONDS_MAX: u64 = 5;
/// Entries in one call to a member, each of them a batch. For each step of openraft's search for what a member holds, a
/// leader reads this many entries, whether or not they are sent.
const CALL_ENTRIES_MAX: u64 = 64;
/// How long each step of a stop may take.
const STOP_SECONDS_MAX: u64 = 60;

/// A running node. It is cheap to clone. It stops when the last handle is gone, or gracefully by
/// [`shut_down`](Node::shut_down).
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

struct Handle {
    ledger: Arc<Ledger>,
    raft: Raft<TypeConfig>,
    leadership: Leadership,
    confirmations: Confirmations,
    queue: Arc<Queue>,
    reads: Reads,
    memory: Memory,
    links: Arc<Links>,
    /// Held by the one membership change that may be under way.
    changing: Arc<Mutex<()>>,
    /// Held by the one call of a leader that Raft may be handling.
    appending: Arc<Mutex<()>>,
    pulse: Arc<Pulse>,
    /// Taken apart step by step by a stop. A stop that is dropped half-way can be called again.
    running: Mutex<Running>,
}

/// The memory accounts of the services in front of this node.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) requests: Arc<Account>,
    pub(crate) tails: Arc<Account>,
}

struct Running {
    sequencer: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    stop_keeper: watch::Sender<bool>,
}

impl Node {
    /// Recovers the folder and starts Raft. A log of one leads when this returns.
    ///
    /// # Errors
    /// Where the folder is locked, not initialised, another node's, rolled back or corrupt; where the disk fails; where
    /// a log of one does not lead within a minute.
    pub async fn start(world: World, settings: NodeSettings) -> Result<Node, NodeError> {
        let lock = lock(&world).await?;
        let checked = Identity::check(&world, &settings).await;
        let (_, joining) = checked.inspect_err(|error| tell_corruption(&*world.observer, error))?;
        finish_swap(&world).await.inspect_err(|error| tell_corruption(&*world.observer, error))?;
        let recovered = recover(&world, &settings, joining, lock.clone()).await?;
        let node = Self::run(world, settings, recovered, lock).await?;
        if !node.is_clustered() {
            // Where this fails the handle is dropped, and with it everything that was started.
            node.wait_to_lead().await?;
        }
        Ok(node)
    }

    /// Opens the sound part of a log of one that [`start`](Node::start) refused for `damage`: it can be read, and takes
    /// no entries. The node changes nothing on disk, and ends once the folder is whole again.
    ///
    /// # Errors
    /// Where the damage is of another kind or leaves nothing that can be vouched for; where the disk fails.
    pub async fn open_sound(world: World, settings: NodeSettings, damage: &NodeError) -> Result<Node, NodeError> {
        if settings.cluster.is_some() || !damage.is_damage() {
            return Err(NodeError::Settings("only a log of one is shown where it is damaged".into()));
        }
        let lock = lock(&world).await?;
        Identity::check(&world, &settings).await?;
        let recovered = recover_sound(&world, &settings, damage, lock.clone()).await?;
        let node = Self::run(world.clone(), settings.clone(), recovered, lock).await?;
        let stop = node.handle.running.lock().await.stop_keeper.subscribe();
        tokio::spawn(end_when_whole(world, settings, node.handle.ledger.clone(), stop));
        Ok(node)
    }

    async fn run(
        world: World,
        settings: NodeSettings,
        recovered: Recovered,
        lock: FolderLock,
    ) -> Result<Node, NodeError> {
        let Recovered { ledger, log, machine, checkpoint } = recovered;
        let reads = Reads::new(ledger.clone(), log.journal_reader());
        let takes = ledger.read_only().is_none();
        let config = Arc::new(Config { enable_elect: takes && settings.cluster.is_none(), ..config(&settings)? });
        let (cosignatures, word) = cosign::cosigning();
        let links = Links::new(world.clone(), ledger.clone());
        let network = Network { links: links.clone(), word, log: log.reader() };
        let raft = Raft::new(settings.node, config, network, log, machine).await;
        let raft = raft.map_err(|fatal| NodeError::Failed(ledger.failure().unwrap_or(fatal.to_string())))?;
        tokio::spawn(watch_raft(raft.metrics(), ledger.clone()));

        let (stop_keeper, stop) = watch::channel(false);
        let keep = |cell| tokio::spawn(keeper::keep(cell, ledger.clone(), stop.clone(), lock));
        let keeper = checkpoint.map(keep);
        let (budget, observer) = (&settings.memory, &world.observer);
        let queue = Arc::new(Queue::new(settings.limits, budget, observer));
        let memory =
            Memory { requests: Account::new(REQUESTS, budget, observer), tails: Account::new(TAILS, budget, observer) };
        if takes {
            tokio::spawn(clock::watch(queue.clone(), stop.clone()));
        }
        if settings.cluster.is_some() {
            tokio::spawn(cosignatures.run(ledger.clone(), stop.clone()));
        }
        let (shrinks, holds, lends) = (ledger.clone(), queue.clone(), memory.clone());
        let changed = move || {
            shrinks.shrink();
            holds.shrink();
            lends.requests.budget_changed();
            lends.tails.budget_changed();
        };
        tokio::spawn(budget::follow(settings.memory.clone(), stop.clone(), changed));
        let leadership = Leadership::new(&raft, ledger.clone(), links.clone());
        let confirmations = Confirmations::start(raft.clone(), leadership.clone());
        let pulse = Pulse::new();
        if settings.cluster.is_some() {
            let (raft, ledger, links, pulse) = (raft.clone(), ledger.clone(), links.clone(), pulse.clone());
            tokio::spawn(Elections { raft, ledger, links, pulse }.run(stop));
        }
        let sequencer = Sequencer {
            raft: raft.clone(),
            leadership: leadership.clone(),
            ledger: ledger.clone(),
            queue: queue.clone(),
        };
        let sequencer = Some(tokio::spawn(sequencer.run()));
        let running = Mutex::new(Running { sequencer, keeper, stop_keeper });
        let (changing, appending) = (Arc::default(), Arc::default());
        Ok(Node {
            handle: Arc::new(Handle {
                ledger,
                raft,
                leadership,
                confirmations,
                queue,
                reads,
                memory,
                links,
                changing,
                appending,
                pulse,
                running,
            }),
        })
    }

    async fn wait_to_lead(&self) -> Result<(), NodeError> {
        let mut led = self.handle.ledger.led();
        let leads = async {
            tokio::select! {
                biased;
                why = self.failed() => Err(NodeError::Failed(why)),
                _ = led.wait_for(Option::is_some) => Ok(()),
            }
        };
        let seconds = LEADERSHIP_SECONDS_MAX;
        let late = NodeError::Deadline { what: "becoming the leader", seconds };
        patiently(seconds, leads).await.unwrap_or(Err(late))
    }

    /// Appends one entry. Returns once the entry is refused, or committed, applied and covered by a signed checkpoint;
    /// in a cluster, by one that a quorum cosigned.
    ///
    /// The wait has no deadline of its own: the sequencer's deadline for a batch bounds it. Dropping the future cancels
    /// nothing; the entry may still get into the log, and sending it again is safe.
    ///
    /// # Errors
    /// Where the entry got no outcome; see [`AppendError`] for what then holds.
    pub async fn append(&self, entry: SignedEntry) -> Result<Appended, AppendError> {
        let Handle { ledger, queue, leadership, .. } = &*self.handle;
        if let Some(why) = self.handle.reads.damage().await {
            return Err(AppendError::Damaged(why));
        }
        let led = leadership.check()?;
        let verified = match inspect(ledger, &entry, ledger.settings.limits.payload_bytes) {
            Ok(verified) => verified,
            Err(refused) => {
                notice(ledger, entry.entry(), &refused);
                return Ok(refused);
            }
        };
        let (answer, answered) = oneshot::channel();
        let digest = entry.digest();
        if let Err((error, queued)) = queue.push(Job { entry, digest, verified, answer }) {
            if let Some(queued) = queued {
                ledger.tell(LogEvent::LoadShed { queued });
            }
            return Err(error);
        }
        let appended = answered.await.unwrap_or_else(|_| Err(AppendError::Failed("the sequencer ended".into())))?;
        if let Appended::Counted { index } | Appended::Repeated { index } = appended {
            // What clients saw from earlier leaders was shorter than the log that this leader began with: all of that
            // log has to be shown, not only the entry.
            self.shown(led.size.max(index.0 + 1)).await?;
        }
        Ok(appended)
    }

    /// The sequence that this node takes next from a client in this epoch. A node that does not lead takes none: it
    /// returns `u64::MAX`, so that every entry is submitted and its client is told.
    pub(crate) fn expects(&self, client: &ClientId, epoch: Epoch) -> u64 {
        match self.handle.leadership.check() {
            Ok(_) => self.handle.ledger.with_sessions(|sessions| sessions.next(client, epoch)),
            Err(_) => u64::MAX,
        }
    }

    /// Waits until `size` leaves are shown to readers.
    pub(super) async fn shown(&self, size: u64) -> Result<(), AppendError> {
        let mut committed = self.handle.ledger.committed();
        match patiently(SHOWN_SECONDS_MAX, committed.wait_for(|committed| *committed >= size)).await {
            Some(Ok(_)) => Ok(()),
            _ => {
                mark!("shown-too-late");
                Err(AppendError::NoQuorum)
            }
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.handle.ledger
    }

    pub(super) fn shared_ledger(&self) -> &Arc<Ledger> {
        &self.handle.ledger
    }

    pub(super) fn raft(&self) -> &Raft<TypeConfig> {
        &self.handle.raft
    }

    /// The log's verifier key, as text.
    pub(crate) fn verifier(&self) -> String {
        self.handle.ledger.note_key().to_string()
    }

    pub(super) fn leadership(&self) -> &Leadership {
        &self.handle.leadership
    }

    pub(super) fn confirmations(&self) -> &Confirmations {
        &self.handle.confirmations
    }

    /// `Ok` where this node leads, as far as it knows; otherwise the error names the leader, if known.
    pub(crate) fn leads(&self) -> Result<(), AppendError> {
        self.handle.leadership.check().map(drop)
    }

    /// Why this life takes no entries, if it takes none: see [`open_sound`](Node::open_sound).
    pub fn read_only(&self) -> Option<&str> {
        self.handle.ledger.read_only()
    }

    /// How fresh the log is that this node shows.
    pub fn bound(&self) -> Bound {
        self.handle.ledger.bound()
    }

    pub(super) fn links(&self) -> &Arc<Links> {
        &self.handle.links
    }

    pub(super) fn changing(&self) -> &Arc<Mutex<()>> {
        &self.handle.changing
    }

    pub(super) fn appending(&self) -> &Arc<Mutex<()>> {
        &self.handle.appending
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.handle.pulse
    }

    /// Returns the error for a caller for whom there is no room, and reports the shed load.
    pub(crate) fn shed(&self) -> AppendError {
        let (busy, queued) = self.handle.queue.shed();
        self.handle.ledger.tell(LogEvent::LoadShed { queued });
        busy
    }

    /// Returns whether this node is a member of a cluster of several.
    pub(crate) fn is_clustered(&self) -> bool {
        self.handle.ledger.settings.cluster.is_some()
    }

    /// The memory accounts of the services in front of this node.
    pub(crate) fn memory(&self) -> &Memory {
        &self.handle.memory
    }

    /// Acts as if the clock had been seen to move.
    #[cfg(test)]
    pub(super) fn clock_moved(&self, by_ms: i64) {
        self.handle.queue.clock_moved(by_ms);
    }

    /// Number of committed leaves.
    pub fn committed(&self) -> u64 {
        *self.handle.ledger.committed().borrow()
    }

    /// Observes each growth of [`committed`](Node::committed); several may be observed as one.
    pub fn committed_changes(&self) -> watch::Receiver<u64> {
        self.handle.ledger.committed()
    }

    /// Frames from `from` on whose leaves are all among the first `size`, which are shown: at least one if there is
    /// one, and beyond that no more than `bytes_max` bytes.
    pub(super) async fn covered_frames(&self, from: u64, size: u64, bytes_max: usize) -> Result<Vec<Frame>, NodeError> {
        self.handle.reads.covered(from, size, bytes_max).await
    }

    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.handle.ledger.checkpoint().borrow().clone()
    }

    /// Proof that leaf `index` is in the log: everything in a receipt but the sequence that it answers. `consistency`
    /// is empty where `known_size` is 0, equal to the size of the checkpoint, or larger than the log.
    ///
    /// # Errors
    /// [`NodeError::PastEnd`] where no checkpoint covers it; corruption; a failing disk.
    pub async fn receipt(&self, index: Index, known_size: u64, repeated: bool) -> Result<wire::Receipt, NodeError> {
        self.handle.reads.receipt(index, known_size, repeated).await
    }

    /// Committed leaves from `start` on: at least one unless `start` is the size, at most `limit` (0 leaves the choice
    /// to the node) and never more than 1,024, and at most `bytes_max` bytes unless the first leaf alone is larger.
    ///
    /// # Errors
    /// [`NodeError::PastEnd`] where `start` is larger than the size; corruption; a failing disk.
    pub async fn read(&self, start: u64, limit: u32, bytes_max: usize) -> Result<Vec<Bytes>, NodeError> {
        self.handle.reads.read(start, limit, bytes_max).await
    }

    /// Audit path of a leaf in the tree of `size` leaves; `None` unless `index < size <= committed`.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        self.handle.reads.inclusion(index, size)
    }

    /// Consistency proof; `None` unless `old <= new <= committed`.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        self.handle.reads.consistency(old, new)
    }

    /// Stops the node: takes no new entries, answers everything accepted, stops Raft, keeps the last checkpoint, and
    /// releases the folder. Returns the number of committed leaves. Calling it again returns the same.
    ///
    /// # Errors
    /// [`NodeError::Failed`] where the node had failed; [`NodeError::Deadline`] where a step takes too long. It may be
    /// called again after the latter.
    pub async fn shut_down(&self) -> Result<u64, NodeError> {
        let Handle { ledger, queue, running, raft, .. } = &*self.handle;
        queue.close(AppendError::ShuttingDown);
        let mut running = running.lock().await;
        join("answering what was accepted", &mut running.sequencer).await?;
        let stopped = patiently(STOP_SECONDS_MAX, raft.shutdown()).await;
        stopped.ok_or(NodeError::Deadline { what: "stopping Raft", seconds: STOP_SECONDS_MAX })?.ok();
        running.stop_keeper.send_replace(true);
        join("keeping the checkpoint", &mut running.keeper).await?;
        match ledger.failure() {
            Some(why) => Err(NodeError::Failed(why)),
            None => Ok(self.committed()),
        }
    }

    /// Resolves with the reason once the node must end, and pends until then. The process must then end.
    pub async fn failed(&self) -> String {
        let mut failures = self.handle.ledger.failures();
        match failures.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // The ledger lives as long as this handle, so its sender is never gone.
            _ => pending().await,
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NodeSettings { log_id, node, .. } = &self.handle.ledger.settings;
        write!(f, "Node({node} of {}, {} leaves)", hex(log_id), self.committed())
    }
}

impl Drop for Handle {
    /// Ends the sequencer, which first serves what waits. Raft and the keeper end with their handles, and only then is
    /// the folder free.
    fn drop(&mut self) {
        self.queue.close(AppendError::ShuttingDown);
    }
}

/// Waits for a task to end. The task stays in place where the wait is dropped or takes too long.
async fn join(what: &'static str, task: &mut Option<JoinHandle<()>>) -> Result<(), NodeError> {
    if let Some(running) = task {
        let ended = patiently(STOP_SECONDS_MAX, running).await;
        let ended = ended.ok_or(NodeError::Deadline { what, seconds: STOP_SECONDS_MAX })?;
        *task = None;
        ended.map_err(|error| NodeError::Failed(format!("{what}: {error}")))?;
    }
    Ok(())
}

/// Configures Raft without snapshots, with its times in milliseconds. A log of one has nobody to wait for. In a cluster
/// of several, Raft's own timer starts no election (`election`), and no call ends by Raft's deadline (`runtime`). The
/// times then only decide how often an idle leader is heard (every three halves of the first), and for how long after
/// that no vote is given to another candidate (the last).
fn config(settings: &NodeSettings) -> Result<Config, NodeError> {
    let (heartbeat_interval, election_timeout_min, election_timeout_max) = match settings.cluster {
        None => (50, 150, 300),
        Some(_) => (250, 350, LEASE.as_millis() as u64),
    };
    let config = Config {
        cluster_name: hex(&settings.log_id),
        heartbeat_interval,
        election_timeout_min,
        election_timeout_max,
        snapshot_policy: SnapshotPolicy::Never,
        max_payload_entries: CALL_ENTRIES_MAX,
        ..Config::default()
    };
    config.validate().map_err(|error| NodeError::Settings(error.to_string()))
}

/// Ends the node when Raft ends by itself. Only Raft's end is believed; its metrics are not read as a sign of health.
async fn watch_raft(
    mut metrics: watch::Receiver<openraft::RaftMetrics<u64, super::types::Member>>,
    ledger: Arc<Ledger>,
) {
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        match state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return,
            Err(fatal) => return ledger.fail(format!("Raft ended: {fatal}")),
        }
        if metrics.changed().await.is_err() {
            return ledger.fail("Raft ended without a word".into());
        }
    }
}
