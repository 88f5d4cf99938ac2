//! An audit log of another project under gapless: a plain tonic service with its own TLS, its own store, and a
//! mistake.
//!
//! The log is fast, because it acknowledges an entry as soon as the entry is in the page cache, and syncs only
//! once a second. If the power fails, the log loses what it has acknowledged and not yet synced. gapless finds that:
//!
//! ```console
//! $ cargo run --example your_own_log -- --gapless run
//! ```
//!
//! The upper half is the log as it would be in production, written by hand so that no code has to be generated.
//! The lower half is all that gapless needs to know about it.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use gapless::{Client, Entry, Failure, Found, Host, Invariant, Outcome, Peer, Promises, System};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http, tokio_stream},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

// ---- the log: messages, store, service, client ----

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(string, tag = "1")]
    actor: String,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

/// The position of an event; in a request, the position from which on events are wanted.
#[derive(Clone, PartialEq, prost::Message)]
struct Position {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    event: Option<Event>,
}

const RECORD: &str = "/acme.audit.v1.Audit/Record";
const EXPORT: &str = "/acme.audit.v1.Audit/Export";

/// The store: one file of frames. A frame is a length, a checksum and the bytes of a record.
struct Store {
    file: gapless::File,
    records: Vec<Vec<u8>>,
}

impl Store {
    /// Reads the records of the file, and cuts off what a crash left half written.
    fn open(mut file: gapless::File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut records, mut whole) = (Vec::new(), 0);
        while let Some(record) = first_frame(&bytes[whole..]) {
            records.push(record.to_vec());
            whole += 12 + record.len();
        }
        file.set_len(whole as u64)?;
        file.sync_all()?;
        Ok(Self { file, records })
    }

    fn append(&mut self, record: Vec<u8>) -> io::Result<u64> {
        let mut frame = (record.len() as u32).to_le_bytes().to_vec();
        frame.extend(checksum(&record).to_le_bytes());
        frame.extend(&record);
        self.file.write_all(&frame)?;
        // The mistake: `self.file.sync_data()?` is missing here, before the entry is acknowledged.
        self.records.push(record);
        Ok(self.records.len() as u64 - 1)
    }
}

fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let sum = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    bytes.get(12..12 + len).filter(|record| checksum(record) == sum)
}

/// Returns the FNV-1a hash.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[derive(Clone)]
struct Audit(Arc<Mutex<Store>>);

impl Audit {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs once a second. That is often enough, as long as nothing goes wrong.
    async fn sync_now_and_then(self) -> io::Result<()> {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.store().file.sync_data()?;
        }
    }
}

impl UnaryService<Event> for Audit {
    type Response = Position;
    type Future = BoxFuture<Response<Position>, Status>;

    fn call(&mut self, request: Request<Event>) -> Self::Future {
        let stored = self.store().append(prost::Message::encode_to_vec(request.get_ref()));
        Box::pin(async move { Ok(Response::new(Position { id: stored? })) })
    }
}

impl ServerStreamingService<Position> for Audit {
    type Response = Stored;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Stored, Status>>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Position>) -> Self::Future {
        let stored = |(id, record): (usize, &Vec<u8>)| match prost::Message::decode(&record[..]) {
            Ok(event) => Ok(Stored { id: id as u64, event: Some(event) }),
            Err(error) => Err(Status::data_loss(error.to_string())),
        };
        let from = usize::try_from(request.get_ref().id).unwrap_or(usize::MAX);
        let all: Vec<_> = self.store().records.iter().enumerate().skip(from).map(stored).collect();
        Box::pin(async move { Ok(Response::new(tokio_stream::iter(all))) })
    }
}

impl NamedService for Audit {
    const NAME: &'static str = "acme.audit.v1.Audit";
}

impl Service<http::Request<Body>> for Audit {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let audit = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                RECORD => Grpc::new(ProstCodec::default()).unary(audit, request).await,
                EXPORT => Grpc::new(ProstCodec::default()).server_streaming(audit, request).await,
                _ => Status::unimplemented("no such call").into_http(),
            })
        })
    }
}

struct AuditClient(tonic::client::Grpc<Channel>);

impl AuditClient {
    async fn record(&self, event: Event) -> Result<Position, Status> {
        let mut grpc = self.ready().await?;
        let path = http::uri::PathAndQuery::from_static(RECORD);
        Ok(grpc.unary(Request::new(event), path, ProstCodec::default()).await?.into_inner())
    }

    async fn export(&self, from: Position) -> Result<tonic::Streaming<Stored>, Status> {
        let mut grpc = self.ready().await?;
        let path = http::uri::PathAndQuery::from_static(EXPORT);
        Ok(grpc.server_streaming(Request::new(from), path, ProstCodec::default()).await?.into_inner())
    }

    async fn ready(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }
}

// ---- what gapless needs to know about it ----

struct Acme;

impl System for Acme {
    type Client = AuditClient;

    fn promises(&self) -> Promises {
        Promises::of_an_append_only_log().without(Invariant::NoGaps, "clients append concurrently, without numbers")
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let id = host.identity();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&id.chain_pem, &id.key_pem))
            .client_ca_root(Certificate::from_pem(&id.ca_pem));
        let audit = Audit(Arc::new(Mutex::new(Store::open(host.disk().append_to("audit.log")?)?)));
        tokio::spawn(audit.clone().sync_now_and_then());
        let server = Server::builder().tls_config(tls)?.add_service(audit);
        server.serve_with_incoming_shutdown(host.listen()?, host.stop_requested()).await?;
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<AuditClient, Failure> {
        dial(&host, &host.servers()[0])
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Found) -> Result<(), Failure> {
        let mut stored = dial(&auditor, server)?.export(Position { id: 0 }).await?;
        while let Some(Stored { id, event }) = stored.message().await? {
            found.entry(id, event.unwrap_or_default().body);
        }
        Ok(())
    }
}

impl Client for AuditClient {
    async fn append(&self, entry: &Entry) -> Outcome {
        let event = Event { actor: entry.client().to_owned(), body: entry.bytes().to_vec() };
        match self.record(event).await {
            Ok(done) => Outcome::acked(done.id),
            Err(status) => status.into(), // unknown: it may have been written
        }
    }
}

fn dial(host: &Host, to: &Peer) -> Result<AuditClient, Failure> {
    let id = host.identity();
    let tls = ClientTlsConfig::new()
        .domain_name(to.name())
        .ca_certificate(Certificate::from_pem(&id.ca_pem))
        .identity(Identity::from_pem(&id.chain_pem, &id.key_pem));
    let endpoint = Endpoint::from(to.uri()).timeout(Duration::from_secs(5)).tls_config(tls)?;
    Ok(AuditClient(tonic::client::Grpc::new(endpoint.connect_with_connector_lazy(host.connector()))))
}

gapless::main!(Acme, "examples/your-own-log");
