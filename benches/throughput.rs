//! How many entries a second three real servers take: processes, sockets on loopback, mutual TLS, a disk that is synced.
//!
//! Each row is a closed loop: so many clients, each with one entry of 256 bytes under way and the next one sent when its
//! answer has come. In the last row one client has 64 of them under way, from as many callers. `calls` speaks gRPC as a client in another language would: it signs its entries and verifies every
//! receipt, quorum and proofs included, and keeps nothing. `with an outbox` is the client of this crate, which has each
//! entry on its own disk before it sends it. Where `etcd` is on the PATH, three of its nodes (without TLS, and without
//! proofs) take turns with the log on the same disk.
//!
//! Servers and clients share one machine, so most rows end where the processor does. The last columns say who used it.
//!
//! `cargo bench --bench throughput`; words after `--` choose the rows whose name contains one of them. Nothing but
//! loopback is touched.

mod machine;

use std::{
    env, fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gapless::{
    audit::{
        client::{AuditClient, ClientSettings, Delivered, Known, Server, examine},
        leaf::{Body, ClientId, Entry, Epoch, Sequence},
        note::{CosignerKey, NoteKey, Policy, SigningKey},
        tls::Identity,
        wire::{AppendRequest, append_response::Outcome, audit_log_client::AuditLogClient},
    },
    world::{
        World,
        observer::Unobserved,
        real::{RealDisk, RealNet},
    },
};
use machine::{machine, median};
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SERVERS: usize = 3;
const PAYLOAD_BYTES: usize = 256;
const REPETITIONS: usize = 3;
/// Of each repetition, not counted and counted.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(6);
/// A server that does not answer by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who takes the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Calls,
    Outbox,
    Etcd,
}

/// How many clients, and how many entries each has under way.
const ROWS: &[(&str, System, usize, usize)] = &[
    ("gapless, calls, 64 clients", System::Calls, 64, 1),
    ("etcd, without TLS, 64 clients", System::Etcd, 64, 1),
    ("gapless, with an outbox, 64 clients", System::Outbox, 64, 1),
    ("gapless, calls, 1 client", System::Calls, 1, 1),
    ("etcd, without TLS, 1 client", System::Etcd, 1, 1),
    ("gapless, with an outbox, 1 client", System::Outbox, 1, 1),
    ("gapless, with an outbox, 1 client of 64", System::Outbox, 1, 64),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    print!("{}", machine());
    match tokio::runtime::Runtime::new().map_err(Failure::from).and_then(|runtime| runtime.block_on(table(&wanted))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn table(wanted: &[String]) -> Result<(), Failure> {
    println!(
        "{:<38} {:>10} {:>9} {:>9} {:>14} {:>14}",
        "", "entries/s", "p50", "p99", "servers, each", "clients, each"
    );
    let rows = ROWS.iter().filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word)));
    let rows: Vec<_> = rows.collect();
    let mut figures: Vec<Vec<Figures>> = rows.iter().map(|_| Vec::new()).collect();
    for _ in 0..REPETITIONS {
        for ((_, system, clients, at_once), figures) in rows.iter().zip(&mut figures) {
            figures.extend(measure(*system, *clients, *at_once).await?);
        }
    }
    for ((name, ..), figures) in rows.iter().zip(figures) {
        match figures.is_empty() {
            true => println!("{name:<38} {:>10}  `etcd` is not on the PATH", "-"),
            false => println!("{name:<38} {}", middle(&figures)),
        }
    }
    println!("\nmedians of {REPETITIONS} in turns, {} s each; an entry has {PAYLOAD_BYTES} bytes", MEASURED.as_secs());
    Ok(())
}

/// One repetition; none where there is no such system on this machine.
async fn measure(system: System, clients: usize, at_once: usize) -> Result<Option<Figures>, Failure> {
    if system == System::Etcd {
        let Some(etcd) = Etcd::start()? else { return Ok(None) };
        let leader = etcd.leader().await?;
        let callers = (0..clients).map(|n| Put::new(&leader, n)).collect::<Result<Vec<_>, _>>()?;
        return drive(callers, &etcd.processes).await.map(Some);
    }
    let log = Log::start(clients)?;
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

/// Somebody who sends one entry and waits until it is known to be durable.
trait Caller: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What one repetition came to.
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
    let loops: Vec<_> = callers.into_iter().map(|caller| tokio::spawn(run(caller, begin, end))).collect();
    tokio::time::sleep_until(begin.into()).await;
    let before = (Process::all(servers)?, processor_of("self")?);
    tokio::time::sleep_until(end.into()).await;
    let after = (Process::all(servers)?, processor_of("self")?);
    let mut latencies = Vec::new();
    for each in loops {
        latencies.extend(each.await??);
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

/// Latencies of what was sent from `begin` on and answered before `end`.
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

fn middle(figures: &[Figures]) -> String {
    let of = |what: fn(&Figures) -> f64| median(figures.iter().map(what).collect());
    format!(
        "{:>10.0} {:>6.1} ms {:>6.1} ms {:>11.0} µs {:>11.0} µs",
        of(|it| it.per_second),
        of(|it| it.p50_ms),
        of(|it| it.p99_ms),
        of(|it| it.servers_us),
        of(|it| it.clients_us)
    )
}

// ---- processes ----

/// A server; killed when it is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Process)
    }

    fn all(processes: &[Process]) -> Result<Duration, Failure> {
        processes.iter().map(|Process(child)| processor_of(&child.id().to_string())).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor time of a process: fields 14 and 15 of proc(5), `utime` and `stime`, in hundredths of a second.
fn processor_of(pid: &str) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no command in /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Ports that are free, all held until the last is found, so that they differ.
fn ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|it| Ok(it.local_addr()?.port())).collect()
}

/// A folder on the disk of the build, which is more of a disk than the one for temporary files may be.
fn folder() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

// ---- the log ----

/// Three servers of one log, and certificates for its clients.
struct Log {
    // First: they end before their folder goes.
    processes: Vec<Process>,
    folder: tempfile::TempDir,
    addresses: Vec<String>,
}

impl Log {
    fn start(clients: usize) -> Result<Log, Failure> {
        let (folder, ports) = (folder()?, ports(SERVERS)?);
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster");
        for n in 1..=SERVERS {
            let text = fs::read_to_string(examples.join(format!("server-{n}.toml")))?;
            let text =
                (1..).zip(&ports).fold(text, |text, (n, port)| text.replace(&format!("5006{n}"), &port.to_string()));
            fs::write(folder.path().join(format!("server-{n}.toml")), text)?;
        }
        let verb = |verb: &str, n: usize| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gapless-log"));
            command.arg(verb).arg("--config").arg(folder.path().join(format!("server-{n}.toml")));
            command.env_remove("RUST_LOG");
            command
        };
        for n in 1..=SERVERS {
            done(&mut verb("cosigner", n))?;
        }
        done(verb("init", 1).arg("--with-certificates").arg("client-0"))?;
        for n in 2..=SERVERS {
            done(&mut verb("init", n))?;
            done(verb("certify", n).arg("--server"))?;
        }
        if clients > 1 {
            done(verb("certify", 1).args((1..clients).map(|n| format!("client-{n}"))))?;
        }
        let processes = (1..=SERVERS).map(|n| Process::start(&mut verb("serve", n))).collect::<Result<_, _>>()?;
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Log { processes, folder, addresses })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("var").join(name)
    }

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

    /// A channel to one server, as client `n`.
    async fn channel(&self, n: usize, server: usize) -> Result<Channel, Failure> {
        let Identity { chain_pem, key_pem, ca_pem } = self.identity(n)?;
        let tls = ClientTlsConfig::new()
            .domain_name(format!("server-{}", server + 1))
            .ca_certificate(Certificate::from_pem(ca_pem))
            .identity(tonic::transport::Identity::from_pem(chain_pem, key_pem));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.addresses[server]))?.tcp_nodelay(true);
        Ok(endpoint.tls_config(tls)?.connect().await?)
    }

    /// The server that takes entries.
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

fn done(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
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

/// Three nodes of etcd, as they come.
struct Etcd {
    processes: Vec<Process>,
    _folder: tempfile::TempDir,
    clients: Vec<u16>,
}

impl Etcd {
    /// `None` where it is not installed.
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

    /// The port of the node that leads.
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

/// A client of etcd that puts under one key after the other.
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

/// What is needed of etcd's contract: etcd 3, `api/etcdserverpb/rpc.proto`.
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
