//! The child process of a run. It takes one request, simulates the run on a separate thread, judges what happened, and
//! leaves the outcome in a file.
//!
//! `main` must do this first, because anything that ran before would become part of the run.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    expectations::expectations,
    scratch::{self, Scratch},
};
use crate::{
    check,
    history::{self, History, StepEvent, What},
    marks::{self, Reached},
    report::{COLUMNS_MAX, Hints, Layout, Palette, RunSummary, terminal},
    scenario::{self, Scenario},
    seam,
    sim::{self, Options, Run, Unfinished},
    system::{AnySystem, System},
};

/// The environment variable that tells a child the process number of its parent, whose request is the child's standard
/// input.
pub(super) const PARENT: &str = "GAPLESS_ORDER";

/// What a child finds in its standard input. It leaves its [`RunOutcome`] in the same place.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Desk<R> {
    pub(super) request: R,
    /// The real time that the run may take.
    pub(super) limit: Duration,
}

/// The stack of the simulating thread. This thread polls the futures of every host, and the deep call chains of TLS and
/// HTTP/2 in a debug build need room.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// One run that a child is to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRequest {
    /// Where the scenario was read from.
    pub path: PathBuf,
    /// Its text, so that a change of the file in the meantime does not matter.
    pub text: String,
    /// The seed.
    pub seed: u64,
    /// Write the whole history to this file, as JSON lines.
    pub history: Option<PathBuf>,
    /// Write a line for each event and packet to this file.
    pub trail: Option<PathBuf>,
    /// Run without history and hash, and so with nothing to judge. This serves to measure their cost.
    pub bare: bool,
    /// Use colour in the output.
    pub colour: bool,
    /// The number of columns of the output.
    pub columns: usize,
    /// The command with which the user repeats this run, with `{scenario}` and `{seed}` to be filled in.
    pub reproduce: String,
}

impl RunRequest {
    /// Returns the request of a judged run of a scenario with this text, with plain output in the largest number of
    /// columns. The run keeps no files, and has no command with which it is repeated.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>, seed: u64) -> RunRequest {
        RunRequest {
            path: path.into(),
            text: text.into(),
            seed,
            history: None,
            trail: None,
            bare: false,
            colour: false,
            columns: COLUMNS_MAX,
            reproduce: String::new(),
        }
    }
}

/// What a child leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// The run came to its end and was judged.
    Judged {
        /// The verdict and its reasons.
        summary: Box<RunSummary>,
        /// The violation, as a screen to show; empty if there is none.
        screen: String,
        /// The number of events that were judged.
        events: u64,
        /// The number of packets that were seen.
        packets: u64,
        /// The time that it took.
        took: Took,
        /// The rare situations that it reached.
        marks: Reached,
        /// When each step began that did, since the workload began. Steps are named as in the scenario.
        begins: BTreeMap<String, Duration>,
    },
    /// The run did not come to an end.
    Failed {
        /// Why, for people.
        error: String,
    },
}

/// The time that a run took, without the start of its process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Took {
    /// From the request to the end of the simulation: reading the file, building the hosts, and everything that they
    /// do.
    pub simulating: Spent,
    /// Judging its history.
    pub judging: Spent,
    /// The processor time of the whole process up to this point, its start included.
    pub process: Duration,
}

/// A length of time by two clocks. Both are alike if nothing else uses the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    /// By the wall clock.
    pub wall: Duration,
    /// By the clock of the processor.
    pub processor: Duration,
}

/// If this process is the child of a run, carries out the request and ends the process. Otherwise does nothing.
/// `system` creates the log under test.
pub fn become_worker_if_asked<S: System>(system: impl FnOnce() -> S + Send + 'static) {
    become_any_worker_if_asked(Box::new(|| Box::new(system())));
}

/// Creates the log under test.
type Create = Box<dyn FnOnce() -> Box<dyn AnySystem> + Send>;

fn become_any_worker_if_asked(create: Create) {
    let Ok(parent) = std::env::var(PARENT) else { return };
    let code = match serve_request(&parent, create) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("gapless: the run's child process cannot work: {error}");
            1
        }
    };
    // The function does not return, because destructors of the caller are not part of a run.
    process::exit(code);
}

fn serve_request(parent: &str, create: Create) -> io::Result<()> {
    if !parent.parse().is_ok_and(seam::end_with_parent) {
        return Err(io::Error::other(format!("{PARENT} is `{parent}`, which is not our parent: unset it")));
    }
    let mut desk = scratch::handed_over()?;
    let Desk { request, limit }: Desk<RunRequest> =
        serde_json::from_slice(&desk.tail(u64::MAX)?).map_err(io::Error::other)?;
    gapless_world::mark::listen();
    // The thread that holds the desk ends the process, so there is never more than one outcome.
    let desk = Arc::new(Mutex::new(desk));
    // This thread is started before the run, like the simulating thread itself. It must not read a clock during the
    // run.
    let watch = thread::Builder::new().name("watch".to_owned());
    watch.spawn({
        let (desk, request) = (desk.clone(), request.clone());
        move || {
            thread::sleep(limit);
            let outcome = RunOutcome::Failed { error: overdue(&request, limit) };
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            process::exit(i32::from(leave(&mut desk, &outcome).is_err()));
        }
    })?;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| carry_out(request, create)))
        .unwrap_or_else(|_| Err(panicked("the judge")))
        .unwrap_or_else(|error| RunOutcome::Failed { error });
    let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
    let left = leave(&mut desk, &outcome);
    process::exit(match left {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("gapless: the run's outcome cannot be handed over: {error}");
            1
        }
    });
}

fn leave(desk: &mut Scratch, outcome: &RunOutcome) -> io::Result<()> {
    desk.fill(&serde_json::to_vec(outcome).map_err(io::Error::other)?)
}

/// Returns what is holding up a run whose time is up.
fn overdue(request: &RunRequest, limit: Duration) -> String {
    let standing = seam::standing();
    let so_far = format!("the run did not end within {limit:?} of real time");
    if standing.is_over {
        return format!(
            "{so_far}; its {:?} of simulated time were over, and it was being judged\ncure: a shorter workload",
            standing.at
        );
    }
    let Some(host) = standing.host else {
        return format!(
            "{so_far}; it had come to {:?} of simulated time\ncure: a shorter workload, or fewer hosts",
            standing.at
        );
    };
    let plan = scenario::parse(&request.path, &request.text).map(|scenario| scenario::plan(&scenario, request.seed));
    let hosts = plan.map_or_else(|_| Vec::new(), |plan| sim::hosts(&plan));
    let name = hosts.get(host).map_or("a host", |name| name);
    format!(
        "{so_far}: {name} never yields, at {:?} of simulated time\n{}\ncure: await something in that loop",
        standing.at, standing.place
    )
}

fn carry_out(request: RunRequest, create: Create) -> Result<RunOutcome, String> {
    let thread = thread::Builder::new().name("simulation".to_owned()).stack_size(STACK_BYTES);
    let begun = Instant::now();
    let thread = thread.spawn({
        let request = request.clone();
        move || {
            let _here = seam::Interruptible::here();
            let system = create();
            let marks = system.explored().marks;
            let (scenario, run) = simulate(&request, system)?;
            Ok((scenario, run, marks, seam::processor_time()))
        }
    });
    let joined = thread.map_err(|error| format!("no thread to simulate on: {error}"))?.join();
    // The simulation is over, so this thread may read the clock again.
    seam::disarm();
    let wall = begun.elapsed();
    let simulated = joined.unwrap_or_else(|_| Err((panicked("the simulator"), None)));
    let (scenario, run, marks, processor) = match simulated {
        Ok(simulated) => simulated,
        Err((error, history)) => {
            let kept = history.map_or(Ok(()), |history| keep(&request, &history, None));
            return Err(kept.err().map_or(error.clone(), |why| format!("{error}\nits history was not kept: {why}")));
        }
    };
    keep(&request, &run.history, run.trail.as_deref())?;
    let (judgement, judging) = spent(|| check::judge(&run.history, &expectations(&scenario)));
    let summary = RunSummary {
        scenario: run.history.header.scenario.clone(),
        file: request.path.display().to_string(),
        seed: request.seed,
        judgement,
        simulated: run.simulated,
        wall: None,
        hash: run.hash,
    };
    let screen = screen(&request, &run.history, &summary);
    let events = run.history.events.len() as u64;
    let took = Took { simulating: Spent { wall, processor }, judging, process: seam::processor_time_of_process() };
    let (packets, marks, begins) = (run.packets, marks::reached(&marks), begins(&run.history));
    Ok(RunOutcome::Judged { summary: Box::new(summary), screen, events, packets, took, marks, begins })
}

/// Returns when each step began, since the workload began.
fn begins(history: &History) -> BTreeMap<String, Duration> {
    let began = history.events.iter().find(|event| matches!(event.what, What::Began {}));
    let began = began.map(|event| event.at).unwrap_or_default();
    let begins = history.events.iter().filter_map(|event| match &event.what {
        What::Step { step, event: StepEvent::Begins { .. } } => {
            Some((step.to_string(), event.at.saturating_sub(began)))
        }
        _ => None,
    });
    begins.collect()
}

fn panicked(who: &str) -> String {
    format!("{who} itself panicked\n{}", sim::panicked().unwrap_or_default())
}

/// Returns the result of `work`, and the time that it took. This must not be called on a thread that simulates, whose
/// clocks are not those of the real world.
fn spent<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let (wall, processor) = (Instant::now(), seam::processor_time());
    let result = work();
    (result, Spent { wall: wall.elapsed(), processor: seam::processor_time().saturating_sub(processor) })
}

/// Why a run did not come to an end, and what happened until then.
type Unended = (String, Option<Box<History>>);

fn simulate(request: &RunRequest, system: Box<dyn AnySystem>) -> Result<(Scenario, Run), Unended> {
    let scenario = scenario::parse_for(&request.path, &request.text, &system.sizes()).map_err(|problems| {
        (format!("{} has {} errors: run `gapless check`", request.path.display(), problems.len()), None)
    })?;
    let plan = scenario::plan(&scenario, request.seed);
    let options = Options { trail: request.trail.is_some(), bare: request.bare };
    let run = sim::simulate(system, &scenario, &plan, options)
        .map_err(|Unfinished { error, history }| (error.to_string(), history))?;
    Ok((scenario, run))
}

fn keep(request: &RunRequest, history: &History, trail: Option<&[String]>) -> Result<(), String> {
    if let Some(path) = &request.history {
        history::write(path, history).map_err(|error| error.to_string())?;
    }
    if let (Some(path), Some(trail)) = (&request.trail, trail) {
        fs::write(path, trail.join("\n")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn screen(request: &RunRequest, history: &History, summary: &RunSummary) -> String {
    if summary.judgement.verdict != check::Verdict::Violated {
        return String::new();
    }
    let reproduce =
        request.reproduce.replace("{scenario}", &summary.scenario).replace("{seed}", &request.seed.to_string());
    let palette = if request.colour { Palette::Ansi } else { Palette::Plain };
    terminal::screen(
        summary,
        history,
        &Hints { reproduce: Some(reproduce), ..Hints::default() },
        Layout::new(palette, request.columns),
    )
}
