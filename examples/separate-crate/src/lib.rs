//! A small audit log over gRPC and mutual TLS, as a team might have it in production. It knows nothing of gapless.

use std::{
    convert::Infallible,
    fs,
    io::{self, Read, Seek, Write},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http, tokio_stream},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

/// An event of the audit log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Who did something.
    #[prost(string, tag = "1")]
    pub actor: String,
    /// What was done.
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
}

/// The position of an event; in a request, the position from which on events are wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Position {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// An event with its position.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stored {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub event: Option<Event>,
}

const RECORD: &str = "/acme.audit.v1.Audit/Record";
const EXPORT: &str = "/acme.audit.v1.Audit/Export";

/// The place where the log is stored: one file to which records are appended.
pub trait Storage: Send + 'static {
    /// Returns all bytes of the file.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Writes at the end of the file. The bytes are on the disk when this returns.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file off after `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Storage for fs::File {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.rewind()?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)?;
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_all()
    }
}

/// The log: a sequence of frames. A frame is a length, a checksum and the bytes of a record.
struct Log<S> {
    storage: S,
    records: Vec<Vec<u8>>,
}

impl<S: Storage> Log<S> {
    fn open(mut storage: S) -> io::Result<Self> {
        let bytes = storage.read()?;
        let (mut records, mut whole) = (Vec::new(), 0);
        while let Some(record) = first_frame(&bytes[whole..]) {
            records.push(record.to_vec());
            whole += 12 + record.len();
        }
        storage.cut(whole as u64)?; // cuts off what a crash left half written
        Ok(Self { storage, records })
    }

    fn append(&mut self, record: Vec<u8>) -> io::Result<u64> {
        let mut frame = (record.len() as u32).to_le_bytes().to_vec();
        frame.extend(checksum(&record).to_le_bytes());
        frame.extend(&record);
        self.storage.append(&frame)?;
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

/// The gRPC service.
pub struct AuditServer<S>(Arc<Mutex<Log<S>>>);

impl<S> Clone for AuditServer<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Storage> AuditServer<S> {
    /// Opens the log that is stored there.
    pub fn open(storage: S) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Log::open(storage)?))))
    }

    fn with_log<T>(&self, work: impl FnOnce(&mut Log<S>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Storage> UnaryService<Event> for AuditServer<S> {
    type Response = Position;
    type Future = BoxFuture<Response<Position>, Status>;

    fn call(&mut self, request: Request<Event>) -> Self::Future {
        let record = prost::Message::encode_to_vec(request.get_ref());
        let stored = self.with_log(|log| log.append(record));
        Box::pin(async move { Ok(Response::new(Position { id: stored? })) })
    }
}

impl<S: Storage> ServerStreamingService<Position> for AuditServer<S> {
    type Response = Stored;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Stored, Status>>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Position>) -> Self::Future {
        let stored = |(id, record): (usize, &Vec<u8>)| match prost::Message::decode(&record[..]) {
            Ok(event) => Ok(Stored { id: id as u64, event: Some(event) }),
            Err(error) => Err(Status::data_loss(error.to_string())),
        };
        let from = usize::try_from(request.get_ref().id).unwrap_or(usize::MAX);
        let all: Vec<_> = self.with_log(|log| log.records.iter().enumerate().skip(from).map(stored).collect());
        Box::pin(async move { Ok(Response::new(tokio_stream::iter(all))) })
    }
}

impl<S> NamedService for AuditServer<S> {
    const NAME: &'static str = "acme.audit.v1.Audit";
}

impl<S: Storage> Service<http::Request<Body>> for AuditServer<S> {
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

/// A client of the log.
#[derive(Clone)]
pub struct AuditClient(tonic::client::Grpc<Channel>);

impl AuditClient {
    /// Returns a client that makes its calls over this channel.
    pub fn new(channel: Channel) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    /// Records an event, which is durable once this returns.
    pub async fn record(&self, event: Event) -> Result<Position, Status> {
        let mut grpc = self.ready().await?;
        let path = http::uri::PathAndQuery::from_static(RECORD);
        Ok(grpc.unary(Request::new(event), path, ProstCodec::default()).await?.into_inner())
    }

    /// Returns all events from a position on.
    pub async fn export(&self, from: Position) -> Result<tonic::Streaming<Stored>, Status> {
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

/// Returns the TLS settings of a server: the certificate that it shows, and whose clients it accepts.
pub fn server_tls(chain: &str, key: &str, ca: &str) -> ServerTlsConfig {
    ServerTlsConfig::new().identity(Identity::from_pem(chain, key)).client_ca_root(Certificate::from_pem(ca))
}

/// Returns the endpoint by which a client reaches the server of that name.
pub fn endpoint(
    uri: http::Uri,
    name: &str,
    (chain, key, ca): (&str, &str, &str),
) -> Result<Endpoint, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().domain_name(name).ca_certificate(Certificate::from_pem(ca));
    let endpoint = Endpoint::from(uri).tls_config(tls.identity(Identity::from_pem(chain, key)))?;
    // Only its silence shows that a firewall has forgotten a connection.
    Ok(endpoint
        .timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5)))
}
