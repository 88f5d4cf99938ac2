//! The simulator: the hosts of a scenario on turmoil, with clocks and entropy at the seam, simulated disks and links,
//! and a director that makes the plan happen.
//!
//! A run takes a process of its own (see [`crate::explore`]): tokio and related crates keep counters per process, so
//! the second run in one process would differ from the first.

mod auditor;
mod authorities;
mod canonical;
mod contents;
mod director;
mod disk;
mod net;
mod operator;
mod recorder;
mod roster;
mod stage;
mod workload;

use std::{
    error::Error,
    io, panic,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use disk::SimDisk;
pub use recorder::Recorder;

use director::Director;
use gapless_world::error_chain;
use roster::{HostKind, Roster};
use stage::Stage;

use crate::{
    history::{Header, History, Name},
    scenario::{Plan, Scenario},
    seam,
    system::AnySystem,
};

/// Returns why software under test ended, with all causes. The kind of an io error is added where its text says less,
/// as when the text is only an address.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error_chain(error);
    let mut next = Some(error);
    while let Some(error) = next {
        let kind =
            error.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_none()).map(io::Error::kind);
        if let Some(kind) = kind.filter(|kind| *kind != io::ErrorKind::Other) {
            let kind = kind.to_string();
            if !text.contains(&kind) {
                text.push_str(&format!(" ({kind})"));
            }
        }
        next = error.source();
    }
    text
}

/// How a run is recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep a line per event and packet, to find the first one that differs between two runs.
    pub trail: bool,
    /// Leave out history and hash; only for measuring what they cost.
    pub bare: bool,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// Everything that happened.
    pub history: History,
    /// BLAKE3 over all events and packets, in hex.
    pub hash: String,
    /// The number of packets.
    pub packets: u64,
    /// A line per event and packet, if asked for.
    pub trail: Option<Vec<String>>,
    /// The simulated length.
    pub simulated: Duration,
}

/// Why a run did not come to an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// The libc seam could not be armed.
    #[error(transparent)]
    Seam(#[from] seam::ArmError),
    /// The system could not be prepared.
    #[error("the log under test could not be prepared: {0}")]
    Prepare(String),
    /// Some task panicked.
    #[error("a task panicked at {at:?} of simulated time\n{panic}")]
    Panicked {
        /// When it panicked.
        at: Duration,
        /// The message and the place.
        panic: String,
    },
    /// Something reached past the simulation, so the run could not be replayed.
    #[error("not replayable: {leak}\ncure: keep threads, blocking calls and real I/O out of a simulated host")]
    Leak {
        /// What it was, and where in the code.
        leak: String,
    },
    /// The clients never got their first acknowledgement.
    #[error("steady state was never reached: after {waited:?} {missing} had no append acknowledged; {hint}")]
    NotWarm {
        /// The simulated time waited.
        waited: Duration,
        /// The clients without an acknowledgement.
        missing: String,
        /// The last thing that went wrong.
        hint: String,
    },
    /// The scenario asks for a cluster that this system cannot form.
    #[error(
        "the scenario asks for {asked} servers, and this log runs on {most} at most\ncure: write `servers = {most}` \
         under [cluster]"
    )]
    TooManyServers {
        /// The number in the scenario.
        asked: u32,
        /// The most that the system can form.
        most: u32,
    },
    /// The scenario asks for what this system cannot do.
    #[error("step `{step}` cannot be performed: {why}")]
    Unsupported {
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
}

/// A run that did not come to an end.
#[derive(Debug)]
pub struct Unfinished {
    /// The reason.
    pub error: SimError,
    /// What happened until then; `None` if the run did not even begin.
    pub history: Option<Box<History>>,
}

impl From<SimError> for Unfinished {
    fn from(error: SimError) -> Self {
        Unfinished { error, history: None }
    }
}

/// Simulates one run on this thread. The process must simulate nothing else, before or after.
///
/// # Errors
/// If the run does not come to an end; see [`SimError`]. Everything else is in the history.
pub(crate) fn simulate(
    system: Box<dyn AnySystem>,
    scenario: &Scenario,
    plan: &Plan,
    options: Options,
) -> Result<Run, Unfinished> {
    let roster = Roster::of(plan);
    let names = roster.names();
    seam::arm(plan.seed, names.len(), stage::epoch(scenario)).map_err(SimError::from)?;
    watch_panics();
    let promises = system.promises();
    if scenario.cluster.servers > system.servers_max() {
        let (asked, most) = (scenario.cluster.servers, system.servers_max());
        return Err(SimError::TooManyServers { asked, most }.into());
    }
    for step in &plan.steps {
        let name = step.action.name();
        if let Err(why) = system.can_suffer(name) {
            return Err(SimError::Unsupported { step: step.name.clone(), why: why.into_owned() }.into());
        }
    }
    for step in &plan.steps {
        let Some(to) = step.action.revision().filter(|to| !system.revisions().contains(&to.word())) else {
            continue;
        };
        let known = system.revisions().join("`, `");
        let why = format!("this log has no revision `{}`, only `{known}`\ncure: name one of those", to.word());
        return Err(SimError::Unsupported { step: step.name.clone(), why }.into());
    }
    let recorder = Recorder::new(names, options.trail, !options.bare);
    let (stage, system) = Stage::build(system, scenario, plan, &roster, recorder.clone())?;
    let header = Header {
        format: 1,
        scenario: scenario.name().to_owned(),
        seed: plan.seed,
        build: crate::build_id().to_owned(),
        epoch: scenario.cluster.wall_clock,
        tick: plan.tick,
        servers: roster.names_of(HostKind::Server),
        clients: roster.names_of(HostKind::Client),
        promises,
        log_key: system.log_key(),
        recovers_within: scenario.expect.recovers_within,
    };
    let mut director = Director::new(scenario, plan, stage);
    let directed = director.direct();
    let simulated = director.now();
    drop(director);
    let recorded = recorder.finish();
    let history = History { header, events: recorded.events };
    match directed {
        Ok(()) => Ok(Run { history, hash: recorded.hash, packets: recorded.packets, trail: recorded.trail, simulated }),
        Err(error) => Err(Unfinished { error, history: Some(Box::new(history)) }),
    }
}

/// Returns all hosts of a run, by their index in the seam: the harness itself, servers, clients, the auditor, and the
/// issuer if there is one.
pub fn hosts(plan: &Plan) -> Vec<Name> {
    Roster::of(plan).names()
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Watches for panics: tokio catches those of spawned tasks, but a run in which one happened has failed all the same.
fn watch_panics() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let owned = || payload.downcast_ref::<String>().map(String::as_str);
        let message = payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("a panic without a message");
        let place = info.location().map_or_else(String::new, |at| format!("  at {}:{}", at.file(), at.line()));
        PANIC.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("  {message}\n{place}"));
    }));
}

/// Returns the first panic so far.
pub(crate) fn panicked() -> Option<String> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
