//! A damaged replica of three on its machine, and what the other two give for its repair, honestly or not.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{LogEvent, observer::Unobserved, tls::Identity as Certificate};
use openraft::{CommittedLeaderId, EntryPayload, LogId, Vote};
use tokio::{sync::watch, time::timeout};

use super::{
    super::{
        super::{
            cluster_wire::{FetchRequest, FetchResponse},
            leaf::SignedEntry,
            note::SigningKey,
            store::{Cell, Frame, Journal, JournalOptions},
        },
        ClusterSettings, Contact, MemberSettings, Node, NodeError, NodeSettings, SignedCheckpoint,
        identity::{CHECKPOINT, JOURNAL, VOTE},
        init,
        ledger::Ledger,
        network::Links,
        repair::{Source, repair_from},
        types::{Batch, Member, Proposal, RaftEntry, decode_frame, encode_vote},
    },
    bench::{Bench, Writer},
    flips::Found,
};

/// The node whose disk is damaged.
pub(super) const DAMAGED: u64 = 3;
/// Longer than any repair takes if it does not have to wait.
pub(super) const AT_ONCE: Duration = Duration::from_secs(3);

pub(super) fn cosigner(node: u64) -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed(&[10 + node as u8; 32]))
}

pub(super) fn settings_of(node: u64) -> NodeSettings {
    let nothing = Certificate { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() };
    let contact = |node| Contact { node, name: format!("server-{node}"), address: format!("server-{node}:1") };
    let contacts = (1..=3).map(contact).collect();
    let cluster = Some(ClusterSettings { identity: nothing.fixed(), cosigner: cosigner(node), contacts });
    NodeSettings { node, cluster, ..Bench::new().settings }
}

pub(super) fn members() -> Vec<MemberSettings> {
    let member = |node| MemberSettings {
        node,
        name: format!("server-{node}"),
        address: format!("server-{node}:1"),
        cosigner: cosigner(node).verifying_key(),
    };
    (1..=3).map(member).collect()
}

pub(super) fn entry(term: u64, index: u64, entries: Vec<SignedEntry>) -> RaftEntry {
    let log_id = LogId::new(CommittedLeaderId::new(term, 1), index);
    let payload = match entries.is_empty() {
        true => EntryPayload::Blank,
        false => EntryPayload::Normal(Proposal::Batch(Batch { vouched: term, entries: entries.into() })),
    };
    RaftEntry { log_id, payload }
}

/// A log as the cluster has it: its frames, and after each a checkpoint that a quorum cosigned.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) frames: Vec<Frame>,
    pub(super) notes: Vec<SignedCheckpoint>,
}

impl Log {
    /// After the first frame of a folder, one frame per list of entries; an empty list stands for a new leader.
    pub(super) fn new(first: &Frame, rest: Vec<Vec<SignedEntry>>) -> Log {
        Log::led_by(1, first, rest)
    }

    /// The same, by a leader other than node 1.
    pub(super) fn led_by(leader: u64, first: &Frame, rest: Vec<Vec<SignedEntry>>) -> Log {
        let ledgers = [1, 2].map(|node| Ledger::new(settings_of(node), Arc::new(Unobserved)));
        let mut log = Log { frames: Vec::new(), notes: Vec::new() };
        let mut term = 0;
        let rest = (1..).zip(rest).map(|(index, entries)| {
            term += u64::from(entries.is_empty());
            let log_id = LogId::new(CommittedLeaderId::new(term, leader), index);
            RaftEntry { log_id, ..entry(term, index, entries) }
        });
        for entry in std::iter::once(decode_frame(first).unwrap().0).chain(rest) {
            let frames = ledgers.each_ref().map(|ledger| ledger.append(entry.clone()).0);
            ledgers.iter().for_each(Ledger::synced);
            ledgers[0].sign(ledgers[0].size());
            let SignedCheckpoint { checkpoint, note } = ledgers[0].signed().borrow().clone().unwrap();
            let lines = ledgers.each_ref().map(|ledger| ledger.cosignature(&checkpoint));
            log.notes.push(SignedCheckpoint { checkpoint, note: note + &lines.concat() });
            log.frames.push(frames[0].clone());
        }
        log
    }

    /// What a member gives that shows the first `shown` frames.
    pub(super) fn member(&self, shown: usize) -> Peer {
        let (frames, note) = (self.frames[..shown].to_vec(), self.notes[shown - 1].note.clone());
        Peer { frames, note, confirmed: None }
    }
}

/// What another member gives, two frames at a time.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) frames: Vec<Frame>,
    pub(super) note: String,
    pub(super) confirmed: Option<u64>,
}

/// The other members, by node; a missing one does not answer.
#[derive(Default)]
pub(super) struct Others(Mutex<BTreeMap<u64, Peer>>);

impl Others {
    pub(super) fn are(&self, peers: impl IntoIterator<Item = (u64, Peer)>) {
        *self.0.lock().unwrap() = peers.into_iter().collect();
    }
}

impl Source for Others {
    async fn fetch(&self, node: u64, member: &Member, from: u64, confirm: bool) -> Result<FetchResponse, String> {
        assert_eq!(
            (member.name.clone(), member.address.clone()),
            (format!("server-{node}"), format!("server-{node}:1"))
        );
        let peers = self.0.lock().unwrap();
        let Peer { frames, note, confirmed } = peers.get(&node).ok_or("no answer")?;
        let given = frames.iter().skip(from as usize).take(2).cloned().map(Into::into);
        let confirmed = confirmed.filter(|_| confirm);
        Ok(FetchResponse { frames: given.collect(), checkpoint: note.clone(), confirmed })
    }
}

/// The damaged member with its machine, the log of the cluster, and the other members.
pub(super) struct Trio {
    pub(super) bench: Bench,
    pub(super) log: Log,
    pub(super) others: Others,
}

impl Trio {
    /// Eight frames; the folder's own checkpoint covers six, and the others show seven.
    pub(super) async fn new() -> Trio {
        let writer = Writer::new("a", 1);
        let batches = (0..4).map(|at| match at {
            0 => vec![writer.open(), writer.event(1, "one")],
            at => vec![writer.event(2 * at, format!("event {at}")), writer.event(2 * at + 1, "and one more")],
        });
        let rest = std::iter::once(Vec::new()).chain(batches).chain([Vec::new(), vec![writer.event(8, "eight")]]);
        Trio::with(rest.collect(), 6, 7).await
    }

    pub(super) async fn with(rest: Vec<Vec<SignedEntry>>, kept: usize, shown: usize) -> Trio {
        let bench = Bench { settings: settings_of(DAMAGED), ..Bench::new() };
        init(&bench.world(), &bench.settings, &members()).await.unwrap();
        let first = open_journal(&bench).await.read(0, 1, usize::MAX).await.unwrap().remove(0);
        let log = Log::new(&first, rest);
        let trio = Trio { bench, others: Others::default(), log };
        trio.write(&trio.log.frames[1..], kept).await;
        trio.others.are([1, 2].map(|node| (node, trio.log.member(shown))));
        trio
    }

    /// Writes frames after those that are there, each synced on its own, then the vote and a checkpoint.
    pub(super) async fn write(&self, frames: &[Frame], kept: usize) {
        let mut journal = open_journal(&self.bench).await;
        for frame in frames {
            journal.write(std::slice::from_ref(frame)).unwrap();
            journal.sync().await.unwrap();
        }
        drop(journal);
        let last = decode_frame(frames.last().unwrap()).unwrap().0.log_id.leader_id;
        self.store(VOTE, encode_vote(&Vote::new(last.term, last.node_id))).await;
        self.store(CHECKPOINT, self.log.notes[kept - 1].note.clone().into_bytes().into()).await;
        // A start makes the markers durable, as a running node does with its next sync.
        Found::at_start(&self.bench).await.unwrap();
    }

    pub(super) async fn store(&self, cell: &str, value: Bytes) {
        Cell::open(self.bench.disk.clone(), Path::new(cell)).await.unwrap().store(value).await.unwrap();
    }

    pub(super) fn flip(&self, path: &str, at: usize) {
        let mut files = self.bench.disk.copy(path);
        files.values_mut().for_each(|bytes| bytes[at] ^= 1 << (at % 8));
        self.bench.disk.restore(path, &files);
    }

    /// Flips a bit in the body of a frame.
    pub(super) fn spoil(&self, index: usize) {
        let before: usize = self.log.frames[..index].iter().map(|frame| frame.body.len() + 25).sum();
        self.flip(SEGMENT, 12_288 + before + 40);
    }

    pub(super) async fn repair(&self) -> Result<(), NodeError> {
        repair_from(&self.others, &self.bench.world(), &self.bench.settings).await
    }

    /// Returns whether the repair ends without having to wait for anybody.
    pub(super) async fn is_repaired_at_once(&self) -> bool {
        let repaired = timeout(AT_ONCE, self.repair()).await;
        repaired.map(Result::unwrap).is_ok()
    }

    pub(super) fn stalls(&self) -> Vec<String> {
        let why = |event| match event {
            LogEvent::RepairStalled { why } => why,
            other => panic!("{other:?}"),
        };
        self.bench.events("repair-stalled").into_iter().map(why).collect()
    }

    /// Starts the log, and compares it with the first `frames` frames of that of the cluster.
    pub(super) async fn holds(&self, frames: usize) {
        let found = Found::at_start(&self.bench).await.unwrap();
        assert_eq!(found.frames, frames as u64);
        assert_eq!(found.root, self.log.notes[frames - 1].checkpoint.root);
    }
}

pub(super) const SEGMENT: &str = "journal/segments/00000000000000000000.seg";

pub(super) async fn open_journal(bench: &Bench) -> Journal {
    let world = bench.world();
    let options = JournalOptions::default();
    let log_id = bench.settings.log_id;
    Journal::open(world.disk, world.observer, Path::new(JOURNAL), log_id, options).await.unwrap()
}

/// Members that really run, without a network: they are called directly.
pub(super) struct Running(pub(super) Node);

impl Source for Running {
    async fn fetch(&self, node: u64, member: &Member, from: u64, confirm: bool) -> Result<FetchResponse, String> {
        let nobody = Arc::new(Ledger::new(settings_of(DAMAGED), Arc::new(Unobserved)));
        let route = Some(Links::new(Bench::new().world(), nobody).route(node, member));
        let answer = self.0.fetch("server-3", FetchRequest { route, from, confirm }).await;
        answer.map(|(answer, _)| answer).map_err(|status| status.to_string())
    }
}

/// A sound member with the whole log, started; it shows what its own checkpoint covers.
pub(super) async fn started(node: u64, log: &Log, kept: usize, memory: watch::Receiver<u64>) -> (Bench, Node) {
    let bench = Bench { settings: settings_of(node), ..Bench::new() };
    init(&bench.world(), &bench.settings, &members()).await.unwrap();
    let mut trio = Trio { bench, log: log.clone(), others: Others::default() };
    trio.write(&log.frames[1..], kept).await;
    // The share of this budget for leaves is next to nothing: reads come from the disk.
    trio.bench.settings.memory = memory;
    let node = trio.bench.start().await.unwrap();
    (trio.bench, node)
}
