//! A server on a test bench: a real node, real TLS and HTTP/2, and a network in memory between them.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{
    Listener, LogEvent, Net, Observer, Stream, World,
    net::BoxFuture,
    real::RealDisk,
    tls::{self, Identity, Issuer},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use super::disk::Switch;
use crate::{
    budget::{MEMORY_DEFAULT, MEMORY_MIN, fixed},
    cluster::{self, ClusterSettings, Limits, MemberSettings, Node, NodeSettings},
    leaf::{Body, ClientId, Entry, Epoch, Sequence},
    meddled::Meddled,
    note::{NoteKey, SigningKey},
    serve::{ServeError, ServeSettings, serve},
    wire::{AppendRequest, audit_log_client::AuditLogClient},
};

const ORIGIN: &str = "log.example/test";
pub(super) const LONG_AGO: i64 = 1_000_000_000;
pub(super) const FAR_AWAY: i64 = 4_000_000_000;

/// A connection, and the address that it comes from.
type Incoming = (DuplexStream, String);

/// Maps names to listeners, as one host sees them.
#[derive(Clone, Default)]
pub(super) struct MemoryNet {
    listeners: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Incoming>>>>,
    host: String,
    deaf: Arc<AtomicBool>,
}

/// One end of a connection.
struct Hearing {
    stream: DuplexStream,
    deaf: Arc<AtomicBool>,
}

struct MemoryListener(mpsc::UnboundedReceiver<Incoming>);

impl MemoryNet {
    /// Returns the same network as another host sees it.
    pub(super) fn from(&self, host: &str) -> MemoryNet {
        MemoryNet { listeners: self.listeners.clone(), host: host.to_owned(), deaf: Arc::default() }
    }

    /// From this call on, nothing comes back to this host over the connections that it made.
    pub(super) fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

impl Net for MemoryNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap().insert(address.to_owned(), incoming);
        Box::pin(async { Ok(Box::new(MemoryListener(accepted)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let from = format!("{}:40000", self.host);
        let sent = self.listeners.lock().unwrap().get(address).is_some_and(|to| to.send((far, from)).is_ok());
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let near = Hearing { stream: near, deaf: self.deaf.clone() };
        Box::pin(async move { sent.then(|| Box::new(near) as Box<dyn Stream>).ok_or_else(refused) })
    }
}

impl AsyncRead for Hearing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.deaf.load(Ordering::SeqCst) {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Hearing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some((stream, from)) => Ok((Box::new(stream) as Box<dyn Stream>, from)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> String {
        "memory".to_owned()
    }
}

/// Remembers the events that it is told.
#[derive(Default)]
pub(super) struct Heard {
    events: Mutex<Vec<LogEvent>>,
    more: Notify,
}

impl Observer for Heard {
    fn see(&self, event: LogEvent) {
        self.events.lock().unwrap().push(event);
        self.more.notify_waiters();
    }
}

impl Heard {
    pub(super) async fn wait_for(&self, wanted: impl Fn(&LogEvent) -> bool) -> LogEvent {
        let waiting = async {
            loop {
                let more = self.more.notified();
                if let Some(found) = self.events.lock().unwrap().iter().find(|event| wanted(event)) {
                    return found.clone();
                }
                more.await;
            }
        };
        timeout(Duration::from_secs(10), waiting).await.expect("the event comes")
    }

    pub(super) fn all(&self) -> Vec<LogEvent> {
        self.events.lock().unwrap().clone()
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().map(LogEvent::name).collect()
    }
}

/// A running server, and all that is needed to talk to it.
pub(super) struct Bench {
    _folder: tempfile::TempDir,
    /// Breaks the disk.
    pub(super) disk: Switch,
    pub(super) net: MemoryNet,
    pub(super) heard: Arc<Heard>,
    pub(super) issuer: Issuer,
    pub(super) renew: watch::Sender<Identity>,
    pub(super) log_key: NoteKey,
    world: World,
    node: NodeSettings,
    stop: Option<oneshot::Sender<()>>,
    pub(super) served: JoinHandle<Result<u64, ServeError>>,
}

impl Bench {
    pub(super) async fn new() -> Bench {
        Bench::with(|_| ()).await
    }

    pub(super) async fn with(adjust: impl FnOnce(&mut ServeSettings)) -> Bench {
        Bench::of(|_| Vec::new(), adjust).await
    }

    /// A bench with the smallest budget that there may be.
    pub(super) async fn small(adjust: impl FnOnce(&mut ServeSettings)) -> Bench {
        let small = |node: &mut NodeSettings| {
            node.memory = fixed(MEMORY_MIN);
            Vec::new()
        };
        Bench::of(small, adjust).await
    }

    /// The first member of three, without any trace of the others.
    pub(super) async fn member(adjust: impl FnOnce(&mut ServeSettings)) -> Bench {
        Bench::of(|node| clustered(node, &[1, 2, 3]), adjust).await
    }

    /// A cluster that has one member left, with this much memory.
    pub(super) async fn alone(memory: u64) -> Bench {
        let alone = |node: &mut NodeSettings| {
            node.memory = fixed(memory);
            clustered(node, &[1])
        };
        let bench = Bench::of(alone, |_| ()).await;
        bench.heard.wait_for(|event| event.name() == "leader-change").await;
        bench
    }

    /// A bench of a node whose settings differ from those of a log of one, and of these members.
    async fn of(
        other: impl FnOnce(&mut NodeSettings) -> Vec<MemberSettings>,
        adjust: impl FnOnce(&mut ServeSettings),
    ) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let net = MemoryNet::default();
        let heard = Arc::new(Heard::default());
        let (switch, real) = (Switch::default(), Arc::new(RealDisk::open(folder.path()).unwrap()));
        let disk = Arc::new(Meddled::new(real, switch.clone()));
        let world = World { disk, net: Arc::new(net.clone()), observer: heard.clone() };
        let signing_key = Arc::new(SigningKey::from_seed(&[7; 32]));
        let log_key = NoteKey { name: ORIGIN.to_owned(), key: signing_key.verifying_key() };
        let mut settings = NodeSettings {
            origin: ORIGIN.to_owned(),
            log_id: [1; 16],
            cluster: None,
            node: 1,
            signing_key,
            limits: Limits::default(),
            memory: fixed(MEMORY_DEFAULT),
        };
        let members = other(&mut settings);
        cluster::init(&world, &settings, &members).await.unwrap();
        let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
        let identity = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
        let (renew, identity) = watch::channel(identity);
        drop(identity);
        let served = tokio::spawn(async { Ok(0) });
        let mut bench = Bench {
            _folder: folder,
            disk: switch,
            net,
            heard,
            issuer,
            renew,
            log_key,
            world,
            node: settings,
            stop: None,
            served,
        };
        bench.start(adjust).await;
        bench
    }

    /// Starts the server on its folder; it must not be running.
    pub(super) async fn start(&mut self, adjust: impl FnOnce(&mut ServeSettings)) {
        self.heard.events.lock().unwrap().clear();
        let node = Node::start(self.world.clone(), self.node.clone()).await.unwrap();
        let mut settings = ServeSettings::new(&[1; 16], 1, "server-1:50051", self.renew.subscribe());
        adjust(&mut settings);
        let (stop, stopped) = oneshot::channel();
        self.served = tokio::spawn(serve(self.world.clone(), node, settings, async { _ = stopped.await }));
        self.stop = Some(stop);
        self.heard.wait_for(|event| event.name() == "server-started").await;
    }

    pub(super) fn client(&self, name: &str) -> Identity {
        self.issuer.issue(name, 3, LONG_AGO, FAR_AWAY).unwrap()
    }

    pub(super) async fn channel(&self, identity: &Identity) -> Result<Channel, tonic::transport::Error> {
        channel(&self.net, identity).await
    }

    pub(super) async fn connect(&self, name: &str) -> AuditLogClient<Channel> {
        AuditLogClient::new(self.channel(&self.client(name)).await.unwrap())
    }

    /// Stops the server and returns the size of the log.
    pub(super) async fn stop(&mut self) -> u64 {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(Duration::from_secs(20), &mut self.served).await.expect("it stops").unwrap().unwrap()
    }
}

/// Makes a node the first of these members.
fn clustered(node: &mut NodeSettings, members: &[u64]) -> Vec<MemberSettings> {
    let cosigner = |node: u64| Arc::new(SigningKey::from_seed(&[10 + node as u8; 32]));
    let nothing = Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() };
    node.cluster = Some(ClusterSettings { identity: nothing.fixed(), cosigner: cosigner(1), contacts: Vec::new() });
    let member = |node: &u64| MemberSettings {
        node: *node,
        name: format!("server-{node}"),
        address: format!("server-{node}:50051"),
        cosigner: cosigner(*node).verifying_key(),
    };
    members.iter().map(member).collect()
}

/// A connection to `server-1`.
pub(super) async fn channel(net: &MemoryNet, identity: &Identity) -> Result<Channel, tonic::transport::Error> {
    connected(net, identity, Endpoint::from_static("http://server-1:50051")).await
}

/// A connection over which next to nothing of a response goes before it is read.
pub(super) async fn slowly(net: &MemoryNet, identity: &Identity) -> Channel {
    let endpoint = Endpoint::from_static("http://server-1:50051").initial_stream_window_size(1_024);
    connected(net, identity, endpoint).await.unwrap()
}

async fn connected(
    net: &MemoryNet,
    identity: &Identity,
    endpoint: Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    let (net, config) = (net.clone(), tls::client_config(identity).unwrap());
    let connector = tower::service_fn(move |_| {
        let (net, config) = (net.clone(), config.clone());
        async move {
            let stream = net.connect("server-1:50051").await?;
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(ServerName::try_from("server-1").unwrap(), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connector).await
}

/// Writes the entries of one client, from sequence 0 on.
pub(super) struct Author {
    client: ClientId,
    key: SigningKey,
}

impl Author {
    pub(super) fn new(name: &str) -> Author {
        Author { client: ClientId::new(name).unwrap(), key: SigningKey::from_seed(&[9; 32]) }
    }

    pub(super) fn request(&self, sequence: u64) -> AppendRequest {
        let body = match sequence {
            0 => Body::EpochOpened { key: self.key.verifying_key(), previous: None },
            n => Body::Event(Bytes::from(format!("event {n}"))),
        };
        self.saying(sequence, body)
    }

    pub(super) fn saying(&self, sequence: u64, body: Body) -> AppendRequest {
        let entry =
            Entry { client: self.client.clone(), epoch: Epoch(1), sequence: Sequence(sequence), body }.sign(&self.key);
        AppendRequest { entry: entry.bytes().clone(), known_size: 0 }
    }
}
