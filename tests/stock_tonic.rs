//! A log over stock tonic with the defaults of its TLS, which resume sessions: once both certificates have ended, a
//! channel that reconnects shows none, is asked for none, and is served. `trusted-peers` must condemn that, and must have
//! nothing against the same log with a client that makes its channel anew and so has nothing to resume.

#[path = "toy/run.rs"]
mod run;

use std::{
    convert::Infallible,
    path::Path,
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use gapless::{
    check::{Finding, Verdict},
    explore,
    history::Name,
    report::RunSummary,
    system::{Client, Entry, Failure, Findings, Host, Invariant, Outcome, Peer, Promises, System},
    world::{File, OpenMode, Stream},
};
use hyper_util::rt::TokioIo;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig, server::Connected,
    },
};
use tonic_prost::ProstCodec;

gapless::define_seam!();

/// What clients call over. A run says so by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channels {
    /// One channel, which connects again by itself, as tonic means it.
    Kept,
    /// A new channel for each call, whose TLS remembers nothing.
    Renewed,
}

struct Stock(Channels);

const PATIENCE: Duration = Duration::from_secs(2);

impl System for Stock {
    type Client = Caller;

    fn promises(&self) -> Promises {
        let why = "it is here for its certificates only".to_owned();
        Promises {
            kept: vec![Invariant::TrustedPeers, Invariant::NoPhantoms],
            declined: Vec::new(),
            may_repeat: Some(why),
        }
    }

    fn prepare(&mut self, _servers: &[Name], clients: &[Name]) -> Result<(), Failure> {
        self.0 = if clients.len() == 1 { Channels::Kept } else { Channels::Renewed };
        Ok(())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let file = host.world().disk.open(Path::new("log"), OpenMode::Create).await?;
        host.world().disk.sync_folder(Path::new("")).await?;
        let shown = host.identity();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&shown.chain_pem, &shown.key_pem))
            .client_ca_root(Certificate::from_pem(&shown.ca_pem));
        let listener = host.world().net.listen(host.listen_address()).await?;
        let incoming = futures::stream::unfold(listener, |mut listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| Io(stream));
            Some((accepted, listener))
        });
        let serving = Server::builder().tls_config(tls)?.add_service(Log(file));
        serving.serve_with_incoming_shutdown(incoming, host.stop_requested()).await?;
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<Caller, Failure> {
        let kept = channel(&host, &host.servers()[0])?;
        Ok(Caller { host, kept: (self.0 == Channels::Kept).then_some(kept) })
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        let all = call(channel(&auditor, server)?, "/stock.Log/Read", Bytes::new()).await?;
        for (position, line) in (0..).zip(all.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())) {
            found.entry(position, line.to_vec());
        }
        Ok(())
    }
}

fn channel(host: &Host, server: &Peer) -> Result<Channel, Failure> {
    let shown = host.identity();
    let tls = ClientTlsConfig::new()
        .domain_name(server.name())
        .identity(Identity::from_pem(&shown.chain_pem, &shown.key_pem))
        .ca_certificate(Certificate::from_pem(&shown.ca_pem));
    let (net, address) = (host.world().net.clone(), server.address());
    let endpoint = Endpoint::from_shared(format!("https://{}", server.name()))?.tls_config(tls)?;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (net, address) = (net.clone(), address.clone());
        async move { Ok::<_, std::io::Error>(TokioIo::new(net.connect(&address).await?)) }
    })))
}

async fn call(channel: Channel, path: &'static str, bytes: Bytes) -> Result<Bytes, Failure> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let codec = ProstCodec::<Bytes, Bytes>::default();
    Ok(grpc.unary(Request::new(bytes), http::uri::PathAndQuery::from_static(path), codec).await?.into_inner())
}

struct Caller {
    host: Host,
    kept: Option<Channel>,
}

impl Client for Caller {
    async fn append(&self, entry: &Entry) -> Outcome {
        let calling = async {
            let channel = match &self.kept {
                Some(kept) => kept.clone(),
                None => channel(&self.host, &self.host.servers()[0])?,
            };
            call(channel, "/stock.Log/Append", entry.bytes().clone()).await
        };
        match timeout(PATIENCE, calling).await {
            Ok(Ok(_)) => Outcome::Acked { at: None },
            Ok(Err(error)) => Outcome::Unknown { why: error.to_string() },
            Err(_) => Outcome::Unknown { why: "no answer".to_owned() },
        }
    }
}

/// The server: a line per entry.
#[derive(Clone)]
struct Log(Arc<dyn File>);

impl tonic::server::NamedService for Log {
    const NAME: &'static str = "stock.Log";
}

impl tower::Service<http::Request<Body>> for Log {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method { file: self.0.clone(), appends: request.uri().path().ends_with("Append") };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Bytes, Bytes>::default());
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct Method {
    file: Arc<dyn File>,
    appends: bool,
}

impl tonic::server::UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (file, appends) = (self.file.clone(), self.appends);
        Box::pin(async move {
            let failed = |error: std::io::Error| Status::internal(error.to_string());
            if !appends {
                return Ok(Response::new(file.read_at(0, usize::MAX / 2).await.map_err(failed)?));
            }
            file.append([&request.into_inner()[..], b"\n"].concat().into()).await.map_err(failed)?;
            file.sync().await.map_err(failed)?;
            Ok(Response::new(Bytes::new()))
        })
    }
}

/// A stream as tonic wants it.
struct Io(Box<dyn Stream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

// ---- the runs ----

/// Certificates of both ends end, and that very moment their connections are reset.
fn judged(clients: u32, seed: u64) -> Result<RunSummary, Failed> {
    let text = format!(
        "title = \"stock\"\n[cluster]\nservers = 1\n[workload]\nclients = {clients}\nappends = \"20/s\"\nfor = \"20s\"\n\
         [[step]]\nname = \"expiry\"\naction = \"cert-expire\"\non = [\"servers\", \"clients\"]\nat = \"5s\"\n\
         reconnect = true\n"
    );
    Ok(run::judged(&run::request(text, seed))?.0)
}

fn finding(summary: &RunSummary) -> Result<&Finding, Failed> {
    let mut findings = summary.judgement.findings.iter();
    Ok(&findings.find(|(invariant, _)| *invariant == Invariant::TrustedPeers).ok_or("not judged")?.1)
}

fn resumption_lets_ended_certificates_in_and_is_condemned() -> Result<(), Failed> {
    for seed in 0..3 {
        let summary = judged(1, seed)?;
        let Finding::Violated(violations) = finding(&summary)? else {
            return Err(format!("seed {seed}: {:?}", summary.judgement).into());
        };
        let why = violations[0].why.clone().unwrap_or_default();
        if summary.judgement.verdict != Verdict::Violated || !why.contains("which had ended") {
            return Err(format!("seed {seed}: {violations:?}").into());
        }
    }
    Ok(())
}

/// The same certificates, the same reset: so what the first test condemns does come from resumed sessions.
fn without_a_session_to_resume_nothing_gets_through_and_nothing_is_condemned() -> Result<(), Failed> {
    for seed in 0..3 {
        let (kept, renewed) = (judged(1, seed)?, judged(2, seed)?);
        let acked = |summary: &RunSummary| summary.judgement.facts.acked;
        let holds = matches!(finding(&renewed)?, Finding::Holds { .. });
        // A quarter of the entries comes before the reset.
        if !holds || acked(&kept) < 350 || acked(&renewed) > 150 {
            let (kept, renewed) = (acked(&kept), acked(&renewed));
            return Err(format!("seed {seed}: {kept} acknowledged over one channel, {renewed} over new ones").into());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    explore::become_worker_if_asked(|| Stock(Channels::Kept));
    type Test = fn() -> Result<(), Failed>;
    let tests: [(&str, Test); 2] = [
        (
            "resumption_lets_ended_certificates_in_and_is_condemned",
            resumption_lets_ended_certificates_in_and_is_condemned,
        ),
        (
            "without_a_session_to_resume_nothing_gets_through_and_nothing_is_condemned",
            without_a_session_to_resume_nothing_gets_through_and_nothing_is_condemned,
        ),
    ];
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, *test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
