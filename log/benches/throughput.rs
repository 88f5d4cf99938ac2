//! How many entries per second three real servers take: processes, sockets on loopback, mutual TLS, and a disk that is
//! synced.
//!
//! Each row is a closed loop of a number of clients. Each client has one entry of 256 bytes under way, and sends the
//! next one when its response has come. In two rows, a client has several entries under way, from as many callers.
//! `calls` speaks gRPC as a client in another language would: it signs its entries, verifies every receipt, quorum and
//! proofs included, and keeps nothing. `with an outbox` is the client of this crate, which has each entry on its own
//! disk before it sends it. If `etcd` is on the PATH, three of its nodes (without TLS, and without proofs) take turns
//! with the log on the same disk, and each row says the ratio of the log's entries per second to etcd's, with as many
//! entries under way.
//!
//! Servers and clients share one machine, so the processor limits most rows, and each row says who used it. A machine
//! that is busy with other things may lose a leader in the middle of a row; the repetition is then made again.
//!
//! `cargo bench -p gapless-log --bench throughput`; words after `--` select the rows whose name contains one of them,
//! and `--write` puts the rows into `docs/speed.md`. Nothing but loopback is touched.

mod machine;
mod page;
mod real;

use std::{
    env, fs, io,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gapless_log::{
    client::{AuditClient, ClientSettings, Delivered, Known, examine},
    leaf::{Body, ClientId, Entry, Epoch, Sequence},
    note::{CosignerKey, NoteKey, Policy, SigningKey},
    wire::{AppendRequest, append_response::Outcome, audit_log_client::AuditLogClient},
};
use gapless_world::{
    Server, World,
    observer::Unobserved,
    real::{RealDisk, RealNet},
    tls::Identity,
};
use machine::{machine, median};
use page::{Asked, Rows, grouped};
use real::{Failure, Log, Process, folder, ports, processor_of};
use tokio::{task::JoinSet, time::timeout_at};
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

const SERVERS: usize = 3;
const PAYLOAD_BYTES: usize = 256;
const REPETITIONS: usize = 3;
/// Attempts at one repetition.
const ATTEMPTS: usize = 3;
/// The two parts of each repetition: the first one is not counted, the second one is.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(6);
/// A server that has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// The system that takes the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Calls,
    Outbox,
    Etcd,
}

struct Row {
    name: &'static str,
    system: System,
    clients: usize,
    /// Entries that each client has under way.
    at_once: usize,
}

impl Row {
    const fn new(name: &'static str, system: System, clients: usize, at_once: usize) -> Row {
        Row { name, system, clients, at_once }
    }

    /// Returns whether this row can be compared with a row of etcd's: as many entries are under way.
    fn is_beside(&self, etcd: &Row) -> bool {
        etcd.system == System::Etcd && etcd.clients * etcd.at_once == self.clients * self.at_once
    }
}

const ROWS: &[Row] = &[
    Row::new("64 clients, calls that sign and verify", System::Calls, 64, 1),
    Row::new("64 clients, etcd without TLS", System::Etcd, 64, 1),
    Row::new("64 clients with an outbox", System::Outbox, 64, 1),
    Row::new("64 clients with an outbox, 8 callers each", System::Outbox, 64, 8),
    Row::new("one client, calls that sign and verify", System::Calls, 1, 1),
    Row::new("one client, etcd without TLS", System::Etcd, 1, 1),
    Row::new("one client with an outbox", System::Outbox, 1, 1),
    Row::new("one client with an outbox, 64 callers", System::Outbox, 1, 64),
];

fn main() -> ExitCode {
    match tokio::runtime::Runtime::new().map_err(Failure::from).and_then(|runtime| runtime.block_on(bench())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The outcome of a row: a repetition for each round (none of etcd if it is not installed), or the reason for its
/// failure.
type Came = Result<Vec<Figures>, Failure>;

async fn bench() -> Result<(), Failure> {
    let asked = Asked::of(env::args().skip(1))?;
    let described = machine::described();
    let mut table = [Rows::new(page::THROUGHPUT, ROWS.iter().map(|row| row.name))];
    asked.check(&table, &described)?;
    print!("{}", machine(concat!("gapless-log ", env!("CARGO_PKG_VERSION"))));
    let rows: Vec<&Row> = ROWS.iter().filter(|row| asked.wants(&page::THROUGHPUT, row.name)).collect();
    let mut came: Vec<Came> = rows.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..REPETITIONS {
        for (row, came) in rows.iter().zip(&mut came) {
            let Ok(figures) = came else { continue };
            match repetition(row).await {
                Ok(more) => figures.extend(more),
                Err(why) => *came = Err(why),
            }
        }
    }
    let [shown] = &mut table;
    show(&rows, &came, shown);
    println!("\nmedians of {REPETITIONS} in turns, {} s each; an entry has {PAYLOAD_BYTES} bytes", MEASURED.as_secs());
    asked.write(&table, &described)?;
    match came.iter().filter(|it| it.is_err()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} rows failed, for the reasons above", rows.len()).into()),
    }
}

fn show(rows: &[&Row], came: &[Came], table: &mut Rows) {
    for (row, figures) in rows.iter().zip(came) {
        match figures {
            Err(why) => table.came_to_nothing(row.name, "FAILED", &why.to_string()),
            Ok(figures) if figures.is_empty() => table.came_to_nothing(row.name, "-", "`etcd` is not on the PATH"),
            Ok(figures) => {
                let etcd = rows.iter().zip(came).find(|(other, _)| row.is_beside(other));
                let etcd = etcd.and_then(|(_, came)| came.as_ref().ok());
                let beside = match row.system {
                    System::Etcd => Some(Etcd::version()),
                    _ => etcd.and_then(|etcd| ratio(figures, etcd)),
                };
                table.came(row.name, cells(figures, beside));
            }
        }
    }
}

/// Makes one repetition, and makes it again if the cluster changed its leader meanwhile.
async fn repetition(row: &Row) -> Result<Option<Figures>, Failure> {
    for _ in 1..ATTEMPTS {
        match measure(row).await {
            Err(why) => println!("{}: once more: {why}", row.name),
            measured => return measured,
        }
    }
    measure(row).await
}

/// Makes one repetition; `None` if this machine does not have the system.
async fn measure(row: &Row) -> Result<Option<Figures>, Failure> {
    let Row { system, clients, at_once, .. } = *row;
    if system == System::Etcd {
        let Some(etcd) = Etcd::start()? else { return Ok(None) };
        let leader = etcd.leader().await?;
        let callers = (0..clients).map(|n| Put::new(&leader, n)).collect::<Result<Vec<_>, _>>()?;
        return drive(callers, &etcd.processes).await.map(Some);
    }
    let log = Log::start(Path::new(env!("CARGO_BIN_EXE_gapless-log")), SERVERS, clients)?;
    let leader = log.leader().await?;
    match system {
        System::Calls => {
            let mut callers = Vec::new();
            for n in 0..clients {
                callers.push(log.caller(n, &leader).await?);
            }
            drive(callers, &log.processes).await.map(Some)
        }
        _ => {
            let mut callers = Vec::new();
            for n in 0..clients {
                let client = log.client(n).await?;
                callers.extend(std::iter::repeat_n(client, at_once));
            }
            drive(callers, &log.processes).await.map(Some)
        }
    }
}

// ---- the loop ----

/// Sends one entry and waits until it is known to be durable.
trait Caller: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The results of one repetition.
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time per entry.
    servers_us: f64,
    clients_us: f64,
}

async fn drive<C: Caller>(callers: Vec<C>, servers: &[Process]) -> Result<Figures, Failure> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURED;
    // Whatever fails, no caller goes on into the next repetition.
    let mut loops: JoinSet<_> = callers.into_iter().map(|caller| run(caller, begin, end)).collect();
    tokio::time::sleep_until(begin.into()).await;
    let before = (Process::all(servers)?, processor_of("self")?);
    tokio::time::sleep_until(end.into()).await;
    let after = (Process::all(servers)?, processor_of("self")?);
    let mut latencies = Vec::new();
    let late = |_| format!("an entry had no answer within {PATIENCE:?}");
    while let Some(each) = timeout_at((end + PATIENCE).into(), loops.join_next()).await.map_err(late)? {
        latencies.extend(each??);
    }
    latencies.sort();
    let count = latencies.len() as f64;
    let at = |share: f64| latencies.get((count * share) as usize).map_or(0.0, |it| it.as_secs_f64() * 1e3);
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / count;
    Ok(Figures {
        per_second: count / MEASURED.as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        servers_us: each(after.0 - before.0),
        clients_us: each(after.1 - before.1),
    })
}

/// Returns the latencies of what was sent from `begin` on and answered before `end`.
async fn run<C: Caller>(mut caller: C, begin: Instant, end: Instant) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        caller.call().await?;
        let answered = Instant::now();
        if sent >= begin && answered < end {
            latencies.push(answered - sent);
        }
    }
}

/// Formats the medians; what stands beside them comes before who else used the processor.
fn cells(figures: &[Figures], beside: Option<String>) -> Vec<String> {
    let of = |what: fn(&Figures) -> f64| median(figures.iter().map(what).collect());
    let clients = format!("the clients take {} µs for each", grouped(of(|it| it.clients_us)));
    vec![
        grouped(of(|it| it.per_second)),
        format!("{:.1} ms", of(|it| it.p50_ms)),
        format!("{:.1} ms", of(|it| it.p99_ms)),
        format!("{} µs", grouped(of(|it| it.servers_us))),
        beside.into_iter().chain([clients]).collect::<Vec<_>>().join("; "),
    ]
}

/// Formats the median of the ratios to etcd's entries in the same rounds, if there were some.
fn ratio(figures: &[Figures], etcd: &[Figures]) -> Option<String> {
    let ratios: Vec<f64> = figures.iter().zip(etcd).map(|(own, etcd)| own.per_second / etcd.per_second).collect();
    if ratios.is_empty() { None } else { Some(format!("{:.2} × as many as etcd", median(ratios))) }
}

// ---- the log ----

impl Log {
    fn text(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.file(name))
    }

    fn trust(&self) -> Result<(NoteKey, Policy), Failure> {
        let cosigner = |n| Ok(self.text(&format!("server-{n}/cosigner.vkey"))?.trim().parse::<CosignerKey>()?);
        let cosigners = (1..=SERVERS).map(cosigner).collect::<Result<_, Failure>>()?;
        Ok((self.text("log.vkey")?.trim().parse()?, Policy::majority(cosigners)))
    }

    fn identity(&self, n: usize) -> io::Result<Identity> {
        Ok(Identity {
            chain_pem: self.text(&format!("server-1/client-{n}.pem"))?,
            key_pem: self.text(&format!("server-1/client-{n}.key"))?,
            ca_pem: self.text("ca.pem")?,
        })
    }

    /// Opens a channel to one server, as client `n`.
    async fn channel(&self, n: usize, server: usize) -> Result<Channel, Failure> {
        let Identity { chain_pem, key_pem, ca_pem } = self.identity(n)?;
        let tls = ClientTlsConfig::new()
            .domain_name(format!("server-{}", server + 1))
            .ca_certificate(Certificate::from_pem(ca_pem))
            .identity(tonic::transport::Identity::from_pem(chain_pem, key_pem));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.addresses[server]))?.tcp_nodelay(true);
        Ok(endpoint.tls_config(tls)?.connect().await?)
    }

    /// Returns the server that takes entries.
    async fn leader(&self) -> Result<usize, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            for server in 0..SERVERS {
                let Ok(channel) = self.channel(0, server).await else { continue };
                let mut caller = self.caller_over(channel, 0, Epoch(1))?;
                if caller.open().await.is_ok() {
                    return Ok(server);
                }
            }
            if Instant::now() > until {
                return Err("none of the servers leads".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn caller(&self, n: usize, leader: &usize) -> Result<Raw, Failure> {
        let mut caller = self.caller_over(self.channel(n, *leader).await?, n, Epoch(2))?;
        caller.open().await?;
        Ok(caller)
    }

    fn caller_over(&self, channel: Channel, n: usize, epoch: Epoch) -> Result<Raw, Failure> {
        let (log_key, policy) = self.trust()?;
        let name = ClientId::new(&format!("client-{n}"))?;
        let calls = AuditLogClient::new(channel);
        Ok(Raw { calls, name, key: SigningKey::generate(), epoch, next: 0, known: Known::nothing(), log_key, policy })
    }

    async fn client(&self, n: usize) -> Result<AuditClient, Failure> {
        let servers = (1..).zip(&self.addresses);
        let servers = servers.map(|(n, address)| Server { address: address.clone(), tls_name: format!("server-{n}") });
        let (log_key, policy) = self.trust()?;
        let name = ClientId::new(&format!("client-{n}"))?;
        let settings = ClientSettings::new(name, servers.collect(), self.identity(n)?, log_key);
        let disk = Arc::new(RealDisk::create(&self.file(&format!("outbox-{n}")))?);
        let world = World { disk, net: Arc::new(RealNet), observer: Arc::new(Unobserved) };
        let mut client = AuditClient::open(world, ClientSettings { policy, ..settings }).await?;
        client.call().await?;
        Ok(client)
    }
}

/// A client without an outbox: it signs and verifies, and keeps nothing.
struct Raw {
    calls: AuditLogClient<Channel>,
    name: ClientId,
    key: SigningKey,
    epoch: Epoch,
    next: u64,
    known: Known,
    log_key: NoteKey,
    policy: Policy,
}

impl Raw {
    async fn open(&mut self) -> Result<(), Failure> {
        let previous = (self.epoch.0 > 1).then(|| (Epoch(self.epoch.0 - 1), Sequence(0)));
        self.send(Body::EpochOpened { key: self.key.verifying_key(), previous }).await
    }

    async fn send(&mut self, body: Body) -> Result<(), Failure> {
        let entry = Entry { client: self.name.clone(), epoch: self.epoch, sequence: Sequence(self.next), body };
        let entry = entry.sign(&self.key);
        let request = AppendRequest { entry: entry.bytes().clone(), known_size: self.known.size };
        let answer = self.calls.append(request).await?.into_inner();
        let Some(Outcome::Receipt(receipt)) = answer.outcome else {
            return Err(format!("refused: {:?}", answer.outcome).into());
        };
        let examined = examine(&receipt, &entry, &self.log_key, &self.policy, &self.known)?;
        self.known = Known::from(&examined.accept(&self.known, &[])?.checkpoint);
        self.next += 1;
        Ok(())
    }
}

impl Caller for Raw {
    async fn call(&mut self) -> Result<(), Failure> {
        self.send(Body::Event(payload())).await
    }
}

impl Caller for AuditClient {
    async fn call(&mut self) -> Result<(), Failure> {
        match self.append(payload()).await? {
            Delivered::Receipt(_) => Ok(()),
            other => Err(format!("not delivered: {other:?}").into()),
        }
    }
}

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; PAYLOAD_BYTES])
}

// ---- etcd ----

/// Three nodes of etcd with default settings.
struct Etcd {
    processes: Vec<Process>,
    _folder: tempfile::TempDir,
    clients: Vec<u16>,
}

impl Etcd {
    /// Starts the nodes; `None` if etcd is not installed.
    fn start() -> Result<Option<Etcd>, Failure> {
        let there = env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|path| path.join("etcd").is_file());
        if !there {
            return Ok(None);
        }
        let (folder, ports) = (folder()?, ports(SERVERS * 2)?);
        let (clients, peers) = ports.split_at(SERVERS);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = (1..).zip(peers).map(|(n, port)| format!("node-{n}={}", url(port))).collect();
        let start = |n: usize| {
            let (client, peer) = (url(&clients[n]), url(&peers[n]));
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("node-{}", n + 1), "--data-dir"]);
            command.arg(folder.path().join(n.to_string()));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
            Process::start(&mut command)
        };
        let processes = (0..SERVERS).map(start).collect::<Result<_, _>>()?;
        Ok(Some(Etcd { processes, clients: clients.to_vec(), _folder: folder }))
    }

    /// Returns which etcd it is: `etcd --version` begins with `etcd Version: 3.4.23`.
    fn version() -> String {
        let said = Command::new("etcd").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let version = said.lines().find_map(|line| line.strip_prefix("etcd Version: "));
        format!("etcd {}", version.unwrap_or("of an unknown version").trim())
    }

    /// Returns the port of the node that leads.
    async fn leader(&self) -> Result<u16, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            for port in &self.clients {
                let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
                let Ok(channel) = endpoint.connect().await else { continue };
                let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
                let status: Result<StatusResponse, Failure> = unary(&mut Grpc::new(channel), path, Empty {}).await;
                let own = |status: &StatusResponse| status.header.as_ref().map_or(0, |header| header.member_id);
                if status.is_ok_and(|status| status.leader != 0 && status.leader == own(&status)) {
                    return Ok(*port);
                }
            }
            if Instant::now() > until {
                return Err("none of etcd's nodes leads".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A client of etcd that puts a value under one key after the other.
struct Put {
    calls: Grpc<Channel>,
    client: usize,
    next: u64,
}

impl Put {
    fn new(leader: &u16, client: usize) -> Result<Put, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{leader}"))?.tcp_nodelay(true);
        Ok(Put { calls: Grpc::new(endpoint.connect_lazy()), client, next: 0 })
    }
}

impl Caller for Put {
    async fn call(&mut self) -> Result<(), Failure> {
        self.next += 1;
        let key = format!("client-{}/{}", self.client, self.next).into();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        unary(&mut self.calls, path, PutRequest { key, value: payload() }).await.map(|PutResponse {}| ())
    }
}

async fn unary<Q, A>(calls: &mut Grpc<Channel>, path: PathAndQuery, request: Q) -> Result<A, Failure>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    calls.ready().await?;
    Ok(calls.unary(tonic::Request::new(request), path, ProstCodec::default()).await?.into_inner())
}

/// The needed part of etcd's contract: etcd 3, `api/etcdserverpb/rpc.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}
