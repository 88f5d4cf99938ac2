//! The stage: the hosts of one run, each with its disk, its network, its certificate and its lives.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use gapless_world::{
    World, error_chain,
    renew::{GRACE, IssuerSettings, REPLACED, serve_issuer},
    tls::{Identity, TlsError},
};
use rand::Rng;
use tokio::sync::watch;

use super::{
    SimError,
    auditor::{Agenda, Auditor, Reading},
    authorities::{Authorities, LIFETIME},
    disk::SimDisk,
    net::{AddressBook, SimNet},
    operator::Operator,
    recorder::Recorder,
    roster::{HostKind, Roster, RosterEntry},
    told,
    workload::{ClientWorkload, OfferedLoad, Phase, Surges},
};
use crate::{
    fault::RevisionRole,
    history::{Down, Name, What},
    link::Links,
    scenario::{Call, Plan, Scenario},
    seam::{self, HostIndex},
    system::{AnySystem, Certificates, DataFolder, Host, Peer, ReplyFilter},
};

/// The port at which servers listen.
const PORT: u16 = 50051;

/// The port at which the issuer listens.
const ISSUER_PORT: u16 = 8443;

/// The streams from which the simulator's own choices are drawn: one each, so that no choice disturbs another.
pub(super) mod streams {
    pub(in crate::sim) const JITTER: u64 = 0x1000;
    pub(in crate::sim) const FLIPS: u64 = 0x2000;
    pub(in crate::sim) const DISKS: u64 = 0x3000; // plus the host's index
    pub(in crate::sim) const MISHAPS: u64 = 0x4000; // of disks; plus the host's index
    pub(in crate::sim) const READINGS: u64 = 0x5000; // of the auditor; plus 1 and a step's index for those around it
}

/// One host, as the director handles it.
pub(super) struct Actor {
    pub name: Name,
    pub index: HostIndex,
    pub kind: HostKind,
    pub disk: SimDisk,
    /// Whether it stands still, and its workload with it.
    pub still: Arc<AtomicBool>,
    pub flips: Arc<Mutex<Flips>>,
    /// The host's certificate files.
    pub certificates: Arc<Certificates>,
    /// The bytes that its software may use for queues and caches.
    pub memory: watch::Sender<u64>,
    /// The revisions that were deployed to it, the one in force last. Never empty.
    pub revisions: Arc<Mutex<Vec<RevisionRole>>>,
    /// How often the machine was replaced by an empty one.
    pub machine: Arc<AtomicU32>,
    /// Whether this life serves: its listener is bound, or its client came up.
    serves: Arc<AtomicBool>,
    life: Arc<AtomicU32>,
    stop: Arc<Mutex<watch::Sender<bool>>>,
    ended: Arc<AtomicBool>,
}

impl Actor {
    /// Returns the number of its present life, and whether that life serves.
    pub(super) fn life(&self) -> (u32, bool) {
        (self.life.load(Ordering::Relaxed), self.serves.load(Ordering::Relaxed))
    }
}

/// Part of what runs on a host: it notes when that ends, in whatever way.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bits to be flipped in a server's replies.
pub(super) struct Flips {
    /// The steps that flip bits: the time between two flips, and when the next one is due; and how many bits each has
    /// flipped.
    pub active: BTreeMap<usize, (Duration, Duration)>,
    pub done: BTreeMap<usize, u64>,
    luck: rand_chacha::ChaCha8Rng,
}

impl Flips {
    /// Flips one bit if a flip is due.
    fn flip(&mut self, bytes: &mut [u8]) -> bool {
        let now = seam::now();
        let Some((step, (every, due))) = self.active.iter_mut().find(|(_, (_, due))| *due <= now) else { return false };
        if bytes.is_empty() {
            return false;
        }
        *due = now + *every;
        *self.done.entry(*step).or_default() += 1;
        let bit = self.luck.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        true
    }
}

/// Everything that one run consists of.
pub(super) struct Stage {
    pub sim: turmoil::Sim<'static>,
    pub recorder: Recorder,
    pub links: Links,
    pub actors: Vec<Actor>,
    /// Set whenever what runs on some host ends.
    pub ended: Arc<AtomicBool>,
    pub workloads: Vec<ClientWorkload>,
    pub surges: Surges,
    pub phase: watch::Sender<Phase>,
    pub auditor: Auditor,
    pub operator: Operator,
    pub order: watch::Sender<Reading>,
    pub agenda: watch::Sender<Agenda>,
    pub authorities: Authorities,
}

impl Stage {
    /// Builds the hosts of a roster and starts them, in its order.
    pub(super) fn build(
        mut system: Box<dyn AnySystem>,
        scenario: &Scenario,
        plan: &Plan,
        roster: &Roster,
        recorder: Recorder,
    ) -> Result<(Self, Arc<dyn AnySystem>), SimError> {
        let (servers, clients) = (roster.names_of(HostKind::Server), roster.names_of(HostKind::Client));
        system.prepare(&servers, &clients).map_err(|error| SimError::Prepare(error_chain(&*error)))?;
        let system: Arc<dyn AnySystem> = system.into();

        let links = Links::new(seam::stream(plan.seed, streams::JITTER), Arc::new(recorder.clone()));
        let mut sim = turmoil::Builder::new()
            .epoch(UNIX_EPOCH + epoch(scenario))
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(u32::MAX.into()))
            .min_message_latency(scenario.cluster.latency)
            .max_message_latency(scenario.cluster.latency * 3 / 2)
            .tcp_capacity(65_536)
            .enable_random_order()
            .rng_seed(plan.seed)
            .build();

        let (phase, phases) = watch::channel(Phase::WarmUp);
        let (order, orders) = watch::channel(Reading::Sometimes);
        let (agenda, wanted) = watch::channel(Agenda::new());
        let every = (scenario.workload.duration / 4).max(Duration::from_secs(10));
        let operator = Operator::new(recorder.clone());
        let luck = seam::stream(plan.seed, streams::READINGS);
        let auditor = Auditor::new(recorder.clone(), (orders, wanted), (every, luck), operator.clone());
        let mut maker = Maker::new(scenario, plan, roster, recorder.clone(), links.clone(), &mut sim)?;
        let ended = maker.ended.clone();

        let (mut actors, mut workloads) = (Vec::new(), Vec::new());
        let (surges, load) = (Surges::default(), OfferedLoad::of(scenario));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        for host in roster.hosts() {
            let (actor, make) = maker.actor(host)?;
            match host.kind {
                HostKind::Server => start_server(&mut sim, &actor, make, system.clone(), recorder.clone()),
                HostKind::Client => {
                    let share = (number(workloads.len()), number(clients.len()));
                    let (still, orders) = (actor.still.clone(), (phases.clone(), surges.clone()));
                    let workload = ClientWorkload::new(host.name.clone(), share, load, recorder.clone(), orders, still);
                    start_client(&mut sim, &actor, make, system.clone(), recorder.clone(), workload.clone());
                    workloads.push(workload);
                }
                HostKind::Auditor => {
                    start_auditor(&mut sim, &actor, make, system.clone(), recorder.clone(), auditor.clone());
                }
                HostKind::Issuer => {
                    let settings = maker.issuer_settings(actor.certificates.installed());
                    start_issuer(&mut sim, &actor, make, settings, recorder.clone());
                }
            }
            actors.push(actor);
        }
        let authorities = maker.authorities;
        let stage = Self {
            sim,
            recorder,
            links,
            actors,
            ended,
            workloads,
            surges,
            phase,
            auditor,
            operator,
            order,
            agenda,
            authorities,
        };
        Ok((stage, system))
    }

    /// Replaces the identity that is installed at a host.
    pub(super) fn install(&self, name: &Name, identity: Identity, why: &str, now: Duration) {
        if let Some(actor) = self.actor(name) {
            actor.certificates.install(identity, why, &|what| self.recorder.record_at(now, name, what));
        }
    }

    /// Returns the host with that name.
    pub(super) fn actor(&self, name: &str) -> Option<&Actor> {
        self.actors.iter().find(|actor| &*actor.name == name)
    }

    /// Ends the process of a host. If its power goes, nobody is told, and what was not synced may be lost. Returns the
    /// bytes lost, or `None` if the host was already down.
    pub(super) fn kill(&mut self, name: &Name, how: Down, now: Duration) -> Option<u64> {
        let actor = self.actors.iter().find(|actor| actor.name == *name)?;
        if !self.sim.is_host_running(&**name) {
            return None;
        }
        let mut lost = 0;
        if how == Down::PowerLoss {
            self.links.darken(name);
            lost = actor.disk.lose_power(now);
        }
        seam::driving(actor.index);
        self.sim.crash(&**name);
        seam::driving(seam::DRIVER);
        self.recorder.unsilence(name);
        self.recorder.record_at(now, name, What::Down { how });
        self.mourn(name, now);
        Some(lost)
    }

    /// Asks a host to stop by itself.
    pub(super) fn ask_to_stop(&self, name: &Name, now: Duration) {
        if let Some(actor) = self.actor(name) {
            self.recorder.record_at(now, name, What::StopRequested {});
            actor.stop.lock().unwrap_or_else(PoisonError::into_inner).send_replace(true);
        }
    }

    /// Starts a host that is down.
    pub(super) fn start(&mut self, name: &Name) {
        let Some(actor) = self.actors.iter().find(|actor| actor.name == *name) else { return };
        if self.sim.is_host_running(&**name) {
            return;
        }
        self.links.lighten(name);
        // Its power may have failed while it was down.
        self.recorder.unsilence(name);
        actor.disk.begin_life();
        seam::driving(actor.index);
        self.sim.bounce(&**name);
        seam::driving(seam::DRIVER);
    }

    /// Ends the appends of a client that is down: nobody will get an answer to them.
    pub(super) fn mourn(&self, name: &Name, now: Duration) {
        for workload in self.workloads.iter().filter(|workload| workload.client() == name) {
            workload.died(now);
        }
    }
}

fn prepare(error: TlsError) -> SimError {
    SimError::Prepare(error.to_string())
}

/// Makes the `Host` of a new life, inside the host's runtime.
type MakeHost = Arc<dyn Fn() -> Host>;

struct Maker<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    peers: Arc<[Peer]>,
    recorder: Recorder,
    links: Links,
    book: AddressBook,
    connections: Arc<AtomicU64>,
    authorities: Authorities,
    ended: Arc<AtomicBool>,
}

impl<'a> Maker<'a> {
    fn new(
        scenario: &'a Scenario,
        plan: &'a Plan,
        roster: &Roster,
        recorder: Recorder,
        links: Links,
        sim: &mut turmoil::Sim<'static>,
    ) -> Result<Self, SimError> {
        // Looking up a name is what assigns its address.
        let book = roster.hosts().iter().map(|host| (sim.lookup(&*host.name), host.name.clone())).collect();
        let authorities = Authorities::new(scenario.cluster.wall_clock).map_err(prepare)?;
        let peers = roster.names_of(HostKind::Server).into_iter().map(|name| Peer::new(name, PORT)).collect();
        Ok(Self {
            scenario,
            plan,
            peers,
            recorder,
            links,
            book: Arc::new(book),
            connections: Arc::default(),
            authorities,
            ended: Arc::default(),
        })
    }

    fn actor(&mut self, host: &RosterEntry) -> Result<(Actor, MakeHost), SimError> {
        let RosterEntry { name, kind, index } = host;
        let identity = match kind {
            HostKind::Issuer => self.authorities.issuers_own(name),
            HostKind::Server | HostKind::Client | HostKind::Auditor => self.authorities.initial(name),
        };
        let noted = |what| self.recorder.record_at(Duration::ZERO, name, what);
        let certificates = Arc::new(Certificates::new(identity.map_err(prepare)?, &noted));
        let luck = seam::stream(self.plan.seed, streams::DISKS + *index as u64);
        let mishaps = seam::stream(self.plan.seed, streams::MISHAPS + *index as u64);
        let sector = usize::try_from(self.scenario.cluster.sector).unwrap_or(usize::MAX);
        let flips = Flips {
            active: BTreeMap::new(),
            done: BTreeMap::new(),
            luck: seam::stream(self.plan.seed, streams::FLIPS + *index as u64),
        };
        let actor = Actor {
            name: name.clone(),
            index: *index,
            kind: *kind,
            disk: SimDisk::new(name.clone(), self.recorder.clone(), sector, luck, mishaps),
            still: Arc::default(),
            flips: Arc::new(Mutex::new(flips)),
            certificates,
            memory: watch::Sender::new(self.scenario.cluster.memory),
            revisions: Arc::new(Mutex::new(vec![RevisionRole::Current])),
            machine: Arc::default(),
            serves: Arc::default(),
            life: Arc::default(),
            stop: Arc::new(Mutex::new(watch::Sender::new(false))),
            ended: self.ended.clone(),
        };
        let make = self.lives_of(&actor);
        Ok((actor, make))
    }

    /// The disk, network and observer of a host.
    fn world_of(&self, actor: &Actor) -> World {
        let (name, links, book) = (actor.name.clone(), self.links.clone(), self.book.clone());
        let (recorder, connections) = (self.recorder.clone(), self.connections.clone());
        World {
            disk: Arc::new(actor.disk.clone()),
            net: Arc::new(SimNet::new(name, links, book, recorder, connections, actor.serves.clone())),
            observer: self.recorder.observer(),
        }
    }

    /// Makes the `Host` of each of a host's lives.
    fn lives_of(&self, actor: &Actor) -> MakeHost {
        let (kind, world) = (actor.kind, self.world_of(actor));
        let disk = DataFolder(Arc::new(actor.disk.clone()));
        let call: Call = self.scenario.workload.call;
        let (stop, life, recorder) = (actor.stop.clone(), actor.life.clone(), self.recorder.clone());
        let (name, servers, flips) = (actor.name.clone(), self.peers.clone(), actor.flips.clone());
        let (issuer, memory, certificates) = (self.renewal(), actor.memory.clone(), actor.certificates.clone());
        let payload_max = self.scenario.cluster.payload_max.and_then(|bytes| usize::try_from(bytes).ok());
        let segment = self.scenario.cluster.segment;
        let (revisions, serves, machine) = (actor.revisions.clone(), actor.serves.clone(), actor.machine.clone());
        Arc::new(move || {
            let fresh = watch::Sender::new(false);
            let stopped = fresh.subscribe();
            *stop.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
            serves.store(false, Ordering::Relaxed);
            recorder.record(What::Up { life: life.fetch_add(1, Ordering::Relaxed) + 1 });
            certificates.begin_life();
            let revision = revisions.lock().unwrap_or_else(PoisonError::into_inner).last().copied();
            let revision = revision.unwrap_or(RevisionRole::Current);
            if matches!(kind, HostKind::Server | HostKind::Client) {
                recorder.record(What::Runs { revision: revision.word().to_owned() });
            }
            let (noted, flips) = (recorder.clone(), flips.clone());
            let reply_filter: ReplyFilter =
                Arc::new(move |bytes| flips.lock().unwrap_or_else(PoisonError::into_inner).flip(bytes));
            Host {
                name: name.clone(),
                servers: servers.clone(),
                listen: format!("0.0.0.0:{PORT}"),
                world: world.clone(),
                disk: disk.clone(),
                certificates: certificates.clone(),
                issuer: issuer.clone(),
                call,
                memory: memory.clone(),
                payload_max,
                segment,
                stop: stopped,
                record: Arc::new(move |what| noted.record(what)),
                reply_filter: (kind == HostKind::Server).then_some(reply_filter),
                revision,
                machine: machine.load(Ordering::Relaxed),
            }
        })
    }

    /// Returns how hosts renew their certificates, if the scenario asks for it.
    fn renewal(&self) -> Option<(Peer, Arc<str>, Duration)> {
        let (before, issuer) = (self.scenario.cluster.renew_before?, self.plan.issuer.as_deref()?);
        Some((Peer::new(issuer.into(), ISSUER_PORT), self.authorities.root_pem().into(), before))
    }

    fn issuer_settings(&self, identity: Identity) -> IssuerSettings {
        let listen = format!("0.0.0.0:{ISSUER_PORT}");
        let authority = self.authorities.in_force();
        IssuerSettings { listen, identity, authority, lifetime: LIFETIME, grace: GRACE, replaced: REPLACED }
    }
}

/// Returns the true wall clock at simulated time zero, since 1970.
pub(super) fn epoch(scenario: &Scenario) -> Duration {
    // The date of a scenario is in this century or the last years of the one before.
    Duration::from_secs(u64::try_from(scenario.cluster.wall_clock).unwrap_or(0))
}

/// Starts a host. Each of its lives begins with `live`, as that host.
fn start<F>(sim: &mut turmoil::Sim<'static>, actor: &Actor, live: impl Fn() -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let (index, ended) = (actor.index, actor.ended.clone());
    seam::driving(index);
    sim.host(&*actor.name, move || {
        seam::enter_host(index);
        let ending = Ending(ended.clone());
        let life = live();
        async move {
            let _ending = ending;
            life.await;
            Ok(())
        }
    });
    seam::driving(seam::DRIVER);
}

fn start_server(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<dyn AnySystem>,
    recorder: Recorder,
) {
    start(sim, actor, move || {
        let (host, system, recorder) = (make(), system.clone(), recorder.clone());
        async move {
            match system.serve(host).await {
                Ok(()) => recorder.record(What::Down { how: Down::Stop }),
                Err(error) => recorder.record(What::Failed { error: told(&*error) }),
            }
        }
    });
}

fn start_client(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<dyn AnySystem>,
    recorder: Recorder,
    workload: ClientWorkload,
) {
    let serves = actor.serves.clone();
    start(sim, actor, move || {
        let (host, system, workload, recorder) = (make(), system.clone(), workload.clone(), recorder.clone());
        let serves = serves.clone();
        async move {
            let stop = host.stop_requested();
            tokio::select! {
                biased;
                () = stop => recorder.record(What::Down { how: Down::Stop }),
                () = workload.run(async || {
                    let client = system.client(host.clone()).await?;
                    serves.store(true, Ordering::Relaxed);
                    Ok(client)
                }) => {}
            }
        }
    });
}

fn start_auditor(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<dyn AnySystem>,
    recorder: Recorder,
    auditor: Auditor,
) {
    start(sim, actor, move || {
        let (host, system, auditor, recorder) = (make(), system.clone(), auditor.clone(), recorder.clone());
        async move {
            let stop = host.stop_requested();
            tokio::select! {
                biased;
                () = stop => recorder.record(What::Down { how: Down::Stop }),
                () = auditor.run(system, host) => {}
            }
        }
    });
}

/// Starts the issuer, which belongs to the harness, whatever the log under test is.
fn start_issuer(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    settings: IssuerSettings,
    recorder: Recorder,
) {
    start(sim, actor, move || {
        let (host, settings, recorder) = (make(), settings.clone(), recorder.clone());
        async move {
            match serve_issuer(host.world().clone(), settings, host.stop_requested()).await {
                Ok(()) => recorder.record(What::Down { how: Down::Stop }),
                Err(error) => recorder.record(What::Failed { error: told(&error) }),
            }
        }
    });
}
