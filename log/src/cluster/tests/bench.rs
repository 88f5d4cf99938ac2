//! What the tests share: a machine with its disk and its witness, and clients that sign.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{Listener, LogEvent, Net, Observer, Stream, World, net::BoxFuture};
use tokio::time::sleep;

use super::{
    super::{
        super::{
            budget::{MEMORY_DEFAULT, fixed},
            leaf::{Body, ClientId, Entry, Epoch, Index, Leaf, Sequence, SignedEntry},
            note::{Checkpoint, NoteKey, SigningKey},
            tree::{leaf_hash, verify_consistency, verify_inclusion},
            wire,
        },
        Appended, Limits, Node, NodeError, NodeSettings, init,
    },
    disk::TestDisk,
};

/// A machine: its disk outlives the node's lives.
pub(in crate::cluster) struct Bench {
    pub(in crate::cluster) disk: Arc<TestDisk>,
    pub(in crate::cluster) seen: Arc<Seen>,
    /// How often the machine has tried to reach another one.
    pub(in crate::cluster) dialled: Arc<AtomicUsize>,
    pub(in crate::cluster) settings: NodeSettings,
}

/// Remembers every event.
#[derive(Default)]
pub(in crate::cluster) struct Seen(Mutex<Vec<LogEvent>>);

impl Observer for Seen {
    fn see(&self, event: LogEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// Nobody can be reached, which is known after 10 ms.
struct NoNet {
    dialled: Arc<AtomicUsize>,
}

impl Net for NoNet {
    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(Duration::from_millis(10)).await;
            Err(io::ErrorKind::ConnectionRefused.into())
        })
    }
}

impl Bench {
    pub(in crate::cluster) fn new() -> Self {
        let settings = NodeSettings {
            origin: "log.example/audit".into(),
            log_id: [7; 16],
            node: 1,
            signing_key: Arc::new(SigningKey::from_seed(&[1; 32])),
            cluster: None,
            limits: Limits::default(),
            memory: fixed(MEMORY_DEFAULT),
        };
        Self { disk: TestDisk::new(), seen: Arc::default(), dialled: Arc::default(), settings }
    }

    pub(in crate::cluster) fn world(&self) -> World {
        World {
            disk: self.disk.clone(),
            net: Arc::new(NoNet { dialled: self.dialled.clone() }),
            observer: self.seen.clone(),
        }
    }

    pub(in crate::cluster) async fn init(&self) -> Result<(), NodeError> {
        init(&self.world(), &self.settings, &[]).await
    }

    pub(in crate::cluster) async fn start(&self) -> Result<Node, NodeError> {
        Node::start(self.world(), self.settings.clone()).await
    }

    /// A fresh member, started.
    pub(in crate::cluster) async fn started() -> (Self, Node) {
        let bench = Self::new();
        bench.init().await.unwrap();
        let node = bench.start().await.unwrap();
        (bench, node)
    }

    pub(in crate::cluster) fn key(&self) -> NoteKey {
        NoteKey { name: self.settings.origin.clone(), key: self.settings.signing_key.verifying_key() }
    }

    /// Verifies a receipt as a client does, and returns its checkpoint.
    pub(in crate::cluster) fn verify(&self, receipt: &wire::Receipt, known: Option<&Checkpoint>) -> Checkpoint {
        let checkpoint = Checkpoint::verify(&receipt.checkpoint, &self.key()).unwrap();
        let hashes = |proof: &[Bytes]| proof.iter().map(|hash| hash[..].try_into().unwrap()).collect::<Vec<_>>();
        let leaf = leaf_hash(&receipt.leaf);
        let (size, root) = (checkpoint.size, checkpoint.root);
        verify_inclusion(&leaf, receipt.index, size, &hashes(&receipt.inclusion), &root).unwrap();
        if let Some(known) = known {
            verify_consistency(known.size, size, &hashes(&receipt.consistency), &known.root, &root).unwrap();
        }
        checkpoint
    }

    pub(in crate::cluster) fn count(&self, name: &str) -> usize {
        self.seen.0.lock().unwrap().iter().filter(|event| event.name() == name).count()
    }

    pub(in crate::cluster) fn events(&self, name: &str) -> Vec<LogEvent> {
        self.seen.0.lock().unwrap().iter().filter(|event| event.name() == name).cloned().collect()
    }

    /// Waits until one more event of this name than `before` was seen.
    pub(in crate::cluster) async fn more_than(&self, before: usize, name: &str) {
        for _ in 0..10_000 {
            if self.count(name) > before {
                return;
            }
            sleep(Duration::from_micros(50)).await;
        }
        panic!("`{name}` was not seen");
    }
}

/// A client that signs its entries.
pub(in crate::cluster) struct Writer {
    name: ClientId,
    key: SigningKey,
    epoch: u64,
}

impl Writer {
    pub(in crate::cluster) fn new(name: &str, epoch: u64) -> Self {
        let seed = name.bytes().fold([epoch as u8; 32], |mut seed, byte| {
            seed.rotate_left(1);
            seed[0] ^= byte;
            seed
        });
        Self { name: ClientId::new(name).unwrap(), key: SigningKey::from_seed(&seed), epoch }
    }

    fn sign(&self, sequence: u64, body: Body, key: &SigningKey) -> SignedEntry {
        let (client, epoch) = (self.name.clone(), Epoch(self.epoch));
        Entry { client, epoch, sequence: Sequence(sequence), body }.sign(key)
    }

    pub(in crate::cluster) fn open(&self) -> SignedEntry {
        self.sign(0, Body::EpochOpened { key: self.key.verifying_key(), previous: None }, &self.key)
    }

    pub(in crate::cluster) fn event(&self, sequence: u64, payload: impl Into<Bytes>) -> SignedEntry {
        self.sign(sequence, Body::Event(payload.into()), &self.key)
    }

    /// An event that another key signed.
    pub(in crate::cluster) fn forged(&self, sequence: u64, payload: &'static str) -> SignedEntry {
        self.sign(sequence, Body::Event(payload.into()), &SigningKey::from_seed(&[99; 32]))
    }
}

/// Appends in order, and returns the indexes.
pub(in crate::cluster) async fn append_all(node: &Node, entries: impl IntoIterator<Item = SignedEntry>) -> Vec<u64> {
    let mut indexes = Vec::new();
    for entry in entries {
        match node.append(entry).await.unwrap() {
            Appended::Counted { index: Index(index) } => indexes.push(index),
            other => panic!("not counted: {other:?}"),
        }
    }
    indexes
}

/// All leaves of a node.
pub(in crate::cluster) async fn all_leaves(node: &Node) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    while (leaves.len() as u64) < node.committed() {
        let some = node.read(leaves.len() as u64, 0, 1 << 20).await.unwrap();
        assert!(!some.is_empty());
        leaves.extend(some.into_iter().map(|leaf| Leaf::decode(leaf).unwrap()));
    }
    leaves
}
