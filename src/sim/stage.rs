//! The stage: the hosts of one run, each with its disk, its network, its certificate and its lives.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use rand::Rng;
use tokio::sync::watch;

use super::{
    SimError,
    auditor::{Auditor, Reading},
    disk::SimDisk,
    net::{AddressBook, SimNet},
    recorder::Recorder,
    workload::{Phase, Workload},
};
use crate::{
    audit::{
        calls::error_chain,
        tls::{Identity, Issuer},
    },
    history::{Down, Name, What},
    link::Links,
    scenario::{Call, Plan, Scenario},
    seam::{self, HostIndex},
    system::{Host, Peer, ReplyFilter, System},
    world::World,
};

/// Where servers listen.
const PORT: u16 = 50051;

/// Wall clock at simulated time zero: 2026-01-01T00:00:00Z.
pub(super) const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Certificates last for longer than any run, unless a step says otherwise.
const CERTIFICATE_DAYS: i64 = 90;

/// What the simulator's own choices are drawn from: one stream each, so that no choice disturbs another.
pub(super) mod streams {
    pub(in crate::sim) const JITTER: u64 = 0x1000;
    pub(in crate::sim) const FLIPS: u64 = 0x2000;
    pub(in crate::sim) const DISKS: u64 = 0x3000; // plus the host's index
}

/// What kind of host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
    Auditor,
}

/// One host, as the director handles it.
pub(super) struct Actor {
    pub name: Name,
    pub index: HostIndex,
    pub role: Role,
    pub disk: SimDisk,
    /// Stands still: its workload, too.
    pub still: Arc<AtomicBool>,
    pub flips: Arc<Mutex<Flips>>,
    life: Arc<AtomicU32>,
    stop: Arc<Mutex<watch::Sender<bool>>>,
    ended: Arc<AtomicBool>,
}

/// Part of what runs on a host: says so when it runs no more, however it ended.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bits to be flipped in a server's replies.
pub(super) struct Flips {
    /// Steps that flip: from one flip to the next, when the next one is due, and how many were flipped.
    pub active: BTreeMap<usize, (Duration, Duration)>,
    pub done: BTreeMap<usize, u64>,
    luck: rand_chacha::ChaCha8Rng,
}

impl Flips {
    /// Flips one bit if it is time.
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
    /// Set whenever what runs on some host comes to an end.
    pub ended: Arc<AtomicBool>,
    pub workloads: Vec<Workload>,
    pub phase: watch::Sender<Phase>,
    pub auditor: Auditor,
    pub order: watch::Sender<Reading>,
}

impl Stage {
    /// Builds the hosts of a plan and starts them.
    pub(super) fn build<S: System>(
        mut system: S,
        scenario: &Scenario,
        plan: &Plan,
        recorder: Recorder,
    ) -> Result<(Self, Arc<S>), SimError> {
        let servers: Vec<Name> = plan.servers.iter().map(|name| name.as_str().into()).collect();
        let clients: Vec<Name> = plan.clients.iter().map(|name| name.as_str().into()).collect();
        system.prepare(&servers, &clients).map_err(|error| SimError::Prepare(error_chain(&*error)))?;
        let system = Arc::new(system);

        let links = Links::new(seam::stream(plan.seed, streams::JITTER), Arc::new(recorder.clone()));
        let mut sim = turmoil::Builder::new()
            .epoch(UNIX_EPOCH + EPOCH)
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
        let every = (scenario.workload.duration / 4).max(Duration::from_secs(10));
        let auditor = Auditor::new(recorder.clone(), orders, every);
        let mut maker = Maker::new(scenario, plan, &servers, recorder.clone(), links.clone(), &mut sim)?;
        let ended = maker.ended.clone();

        let mut actors = Vec::new();
        for name in &servers {
            let (actor, make) = maker.actor(name, Role::Server)?;
            start_server(&mut sim, &actor, make, system.clone(), recorder.clone());
            actors.push(actor);
        }
        let mut workloads = Vec::new();
        for (n, name) in (0_u32..).zip(&clients) {
            let (actor, make) = maker.actor(name, Role::Client)?;
            let share = (n, u32::try_from(clients.len()).unwrap_or(u32::MAX));
            let size = usize::try_from(scenario.workload.size).unwrap_or(usize::MAX);
            let interval = scenario.workload.appends.interval();
            let still = actor.still.clone();
            let workload = Workload::new(name.clone(), share, interval, size, recorder.clone(), phases.clone(), still);
            start_client(&mut sim, &actor, make, system.clone(), recorder.clone(), workload.clone());
            workloads.push(workload);
            actors.push(actor);
        }
        let (actor, make) = maker.actor(&"auditor".into(), Role::Auditor)?;
        start_auditor(&mut sim, &actor, make, system.clone(), recorder.clone(), auditor.clone());
        actors.push(actor);
        Ok((Self { sim, recorder, links, actors, ended, workloads, phase, auditor, order }, system))
    }

    /// The host of that name.
    pub(super) fn actor(&self, name: &str) -> Option<&Actor> {
        self.actors.iter().find(|actor| &*actor.name == name)
    }

    /// Kills a host. With `dark`, its power goes: nobody is told, and what was not synced may be lost. Answers the bytes
    /// lost, or `None` where it was down already.
    pub(super) fn kill(&mut self, name: &Name, dark: bool, now: Duration) -> Option<u64> {
        let actor = self.actors.iter().find(|actor| actor.name == *name)?;
        if !self.sim.is_host_running(&**name) {
            return None;
        }
        let mut lost = 0;
        if dark {
            self.links.darken(name);
            lost = actor.disk.lose_power(now);
        }
        seam::driving(actor.index);
        self.sim.crash(&**name);
        seam::driving(seam::DRIVER);
        self.recorder.unsilence(name);
        let how = if dark { Down::PowerLoss } else { Down::Crash };
        self.recorder.record_at(now, name, What::Down { how });
        self.mourn(name, now);
        Some(lost)
    }

    /// Asks a host to stop by itself.
    pub(super) fn ask_to_stop(&self, name: &Name) {
        if let Some(actor) = self.actor(name) {
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
        actor.disk.begin_life();
        seam::driving(actor.index);
        self.sim.bounce(&**name);
        seam::driving(seam::DRIVER);
    }

    /// A client is down: whoever waited for it will not get an answer.
    pub(super) fn mourn(&self, name: &Name, now: Duration) {
        for workload in self.workloads.iter().filter(|workload| workload.client() == name) {
            workload.died(now);
        }
    }
}

/// Makes a new life's `Host`, inside the host's runtime.
type MakeHost = Arc<dyn Fn() -> Host>;

struct Maker<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    peers: Arc<[Peer]>,
    recorder: Recorder,
    links: Links,
    book: AddressBook,
    issuer: Issuer,
    next: HostIndex,
    ended: Arc<AtomicBool>,
}

impl<'a> Maker<'a> {
    fn new(
        scenario: &'a Scenario,
        plan: &'a Plan,
        servers: &[Name],
        recorder: Recorder,
        links: Links,
        sim: &mut turmoil::Sim<'static>,
    ) -> Result<Self, SimError> {
        let everybody = plan.servers.iter().chain(&plan.clients).map(String::as_str).chain(["auditor"]);
        // Asking for a name is what gives it its address.
        let book = everybody.map(|name| (sim.lookup(name), name.into())).collect();
        let (from, until) = validity();
        let issuer = Issuer::new("gapless simulation", from, until).map_err(|e| SimError::Prepare(e.to_string()))?;
        let peers = servers.iter().map(|name| Peer::new(name.clone(), PORT)).collect();
        Ok(Self {
            scenario,
            plan,
            peers,
            recorder,
            links,
            book: Arc::new(book),
            issuer,
            next: 1,
            ended: Arc::default(),
        })
    }

    fn actor(&mut self, name: &Name, role: Role) -> Result<(Actor, MakeHost), SimError> {
        let index = self.next;
        self.next += 1;
        let (from, until) = validity();
        let identity: Identity =
            self.issuer.issue(name, index as u64 + 1, from, until).map_err(|e| SimError::Prepare(e.to_string()))?;
        let luck = seam::stream(self.plan.seed, streams::DISKS + index as u64);
        let flips = Flips {
            active: BTreeMap::new(),
            done: BTreeMap::new(),
            luck: seam::stream(self.plan.seed, streams::FLIPS + index as u64),
        };
        let actor = Actor {
            name: name.clone(),
            index,
            role,
            disk: SimDisk::new(name.clone(), self.recorder.clone(), luck),
            still: Arc::default(),
            flips: Arc::new(Mutex::new(flips)),
            life: Arc::default(),
            stop: Arc::new(Mutex::new(watch::Sender::new(false))),
            ended: self.ended.clone(),
        };
        let world = World {
            disk: Arc::new(actor.disk.clone()),
            net: Arc::new(SimNet::new(name.clone(), self.links.clone(), self.book.clone())),
            observer: self.recorder.observer(),
        };
        let call: Call = self.scenario.workload.call;
        let (stop, life, recorder) = (actor.stop.clone(), actor.life.clone(), self.recorder.clone());
        let (name, servers, flips) = (name.clone(), self.peers.clone(), actor.flips.clone());
        let make: MakeHost = Arc::new(move || {
            let fresh = watch::Sender::new(false);
            let stopped = fresh.subscribe();
            *stop.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
            recorder.record(What::Up { life: life.fetch_add(1, Ordering::Relaxed) + 1 });
            let (noted, flips) = (recorder.clone(), flips.clone());
            let reply_filter: ReplyFilter =
                Arc::new(move |bytes| flips.lock().unwrap_or_else(PoisonError::into_inner).flip(bytes));
            Host {
                name: name.clone(),
                servers: servers.clone(),
                listen: format!("0.0.0.0:{PORT}"),
                world: world.clone(),
                identity: identity.clone(),
                call,
                stop: stopped,
                record: Arc::new(move |what| noted.record(what)),
                reply_filter: (role == Role::Server).then_some(reply_filter),
            }
        });
        Ok((actor, make))
    }
}

fn validity() -> (i64, i64) {
    let now = i64::try_from(EPOCH.as_secs()).unwrap_or(i64::MAX);
    (now - 3600, now + CERTIFICATE_DAYS * 24 * 3600)
}

fn start_server<S: System>(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<S>,
    recorder: Recorder,
) {
    let (index, ended) = (actor.index, actor.ended.clone());
    seam::driving(index);
    sim.host(&*actor.name, move || {
        seam::enter_host(index);
        let ending = Ending(ended.clone());
        let (host, system, recorder) = (make(), system.clone(), recorder.clone());
        async move {
            let _ending = ending;
            match system.serve(host).await {
                Ok(()) => recorder.record(What::Down { how: Down::Stop }),
                Err(error) => recorder.record(What::Failed { error: error_chain(&*error) }),
            }
            Ok(())
        }
    });
    seam::driving(seam::DRIVER);
}

fn start_client<S: System>(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<S>,
    recorder: Recorder,
    workload: Workload,
) {
    let (index, ended) = (actor.index, actor.ended.clone());
    seam::driving(index);
    sim.host(&*actor.name, move || {
        seam::enter_host(index);
        let ending = Ending(ended.clone());
        let (host, system, workload, recorder) = (make(), system.clone(), workload.clone(), recorder.clone());
        async move {
            let _ending = ending;
            let stop = host.stop_requested();
            tokio::select! {
                biased;
                () = stop => recorder.record(What::Down { how: Down::Stop }),
                () = workload.run(async || system.client(host.clone()).await) => {}
            }
            Ok(())
        }
    });
    seam::driving(seam::DRIVER);
}

fn start_auditor<S: System>(
    sim: &mut turmoil::Sim<'static>,
    actor: &Actor,
    make: MakeHost,
    system: Arc<S>,
    recorder: Recorder,
    auditor: Auditor,
) {
    let (index, ended) = (actor.index, actor.ended.clone());
    seam::driving(index);
    sim.host(&*actor.name, move || {
        seam::enter_host(index);
        let ending = Ending(ended.clone());
        let (host, system, auditor, recorder) = (make(), system.clone(), auditor.clone(), recorder.clone());
        async move {
            let _ending = ending;
            let stop = host.stop_requested();
            tokio::select! {
                biased;
                () = stop => recorder.record(What::Down { how: Down::Stop }),
                () = auditor.run(system, host) => {}
            }
            Ok(())
        }
    });
    seam::driving(seam::DRIVER);
}
