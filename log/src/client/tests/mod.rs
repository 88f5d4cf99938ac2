//! The client against a log in memory, over a network and a disk in memory, in time that does not pass.
//!
//! Each life of a client has a runtime of its own: dropping it is the crash of the process, with everything in it.

mod append;
mod crash;
mod disk;
mod log;
mod memory;
mod operator;
mod reading;
mod receipts;
mod rollback;
mod tls;

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use disk::{MemoryDisk, Unsynced};
use gapless_world::{Listener, LogEvent, Net, Observer, Server, Stream, net::BoxFuture, tls::Issuer};
use log::{FakeLog, Fault};
use tokio::{io::DuplexStream, sync::mpsc, sync::watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server as TonicServer;
use tower::util::MapResponseLayer;

use super::*;
use crate::{dial::Expiring, leaf::ClientId, wire::audit_log_server::AuditLogServer};

const LONG_AGO: i64 = 1_000_000_000;
const FAR_AWAY: i64 = 4_000_000_000;

/// An address at which nobody listens.
const REFUSING: &str = "server-2:50051";

/// Remembers every event.
#[derive(Clone, Default)]
struct Witnessed(Arc<Mutex<Vec<LogEvent>>>);

impl Observer for Witnessed {
    fn see(&self, event: LogEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Witnessed {
    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.name() == name).count()
    }

    fn all(&self) -> Vec<LogEvent> {
        self.0.lock().unwrap().clone()
    }
}

/// Connects to the server that accepts at the other end of the channel.
#[derive(Clone)]
struct DuplexNet(mpsc::UnboundedSender<io::Result<DuplexStream>>);

impl Net for DuplexNet {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        if address == REFUSING {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let sent = self.0.send(Ok(theirs)).map_err(|_| io::ErrorKind::ConnectionRefused.into());
        Box::pin(async move { sent.map(|()| Box::new(ours) as Box<dyn Stream>) })
    }
}

/// What one life of a client runs in.
struct Life {
    world: World,
    seen: Witnessed,
    log: FakeLog,
    settings: ClientSettings,
}

fn identity() -> Identity {
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    issuer.issue("client-1", 2, LONG_AGO, FAR_AWAY).unwrap()
}

fn settings(log: &FakeLog, call: Call) -> ClientSettings {
    let name = ClientId::new("client-1").unwrap();
    let server = Server { address: "server-1:50051".to_owned(), tls_name: "server-1".to_owned() };
    ClientSettings { call, ..ClientSettings::new(name, vec![server], identity(), log.note_key()) }
}

/// Runs one life in a runtime of its own, against a server without TLS.
fn live<T, F: Future<Output = T>>(disk: &MemoryDisk, log: &FakeLog, call: Call, life: impl FnOnce(Life) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (connections, accepted) = mpsc::unbounded_channel();
    let seen = Witnessed::default();
    let world =
        World { disk: Arc::new(disk.clone()), net: Arc::new(DuplexNet(connections)), observer: Arc::new(seen.clone()) };
    runtime.block_on(async {
        let mut server = TonicServer::builder().layer(MapResponseLayer::new(log::withhold_end));
        let server = server.add_service(AuditLogServer::new(log.clone()));
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(accepted)));
        let life = life(Life { world, seen, log: log.clone(), settings: settings(log, call) });
        tokio::time::timeout(Duration::from_secs(3_600), life).await.expect("a life ends")
    })
}

impl Life {
    async fn open(&self) -> Result<AuditClient, ClientError> {
        let (dial, credentials) = self.plain();
        AuditClient::open_with(self.world.clone(), self.settings.clone(), dial, Arc::new(credentials)).await
    }

    /// Returns once the client has said that it needs somebody.
    async fn seen_parked(&self) {
        while self.seen.count("parked") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn reader(&self) -> LogReader {
        let (dial, credentials) = self.plain();
        LogReader::connect_with(self.world.clone(), (&self.settings).into(), dial, credentials).unwrap()
    }

    fn tail(&self, from: u64) -> Tail {
        let (dial, credentials) = self.plain();
        Tail::new_with(self.world.clone(), (&self.settings).into(), from, dial, credentials).unwrap()
    }

    /// Dials without TLS.
    fn plain(&self) -> (Dial, watch::Sender<Arc<Credentials>>) {
        let world = self.world.clone();
        let dial: Dial = Arc::new(move |server, condition, _| {
            let world = world.clone();
            Box::pin(async move {
                let stream = world.net.connect(&server.address).await?;
                Ok(Box::new(Expiring::new(stream, None, server.tls_name, world.observer, condition)) as _)
            })
        });
        (dial, watch::Sender::new(Credentials::new(&self.settings.identity).unwrap()))
    }
}

fn payload(n: usize) -> Bytes {
    Bytes::from(format!("event {n}"))
}

/// Asserts that every sequence of every epoch is in the log once, in order.
fn assert_gapless(log: &FakeLog) {
    let mut next = std::collections::BTreeMap::new();
    for entry in log.entries() {
        let next = next.entry(entry.entry().epoch).or_insert(0);
        assert_eq!(entry.entry().sequence.0, *next);
        *next += 1;
    }
}
