//! The child process of a run: takes one order, simulates it on a thread of its own, judges what happened, and leaves
//! the outcome in a file.
//!
//! It must be the first thing that `main` does: whatever ran before would be part of the run.

use std::{
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
    history::{self, History},
    marks::{self, Reached},
    report::{COLUMNS_MAX, Hints, Layout, Palette, RunSummary, terminal},
    scenario::{self, Scenario},
    seam,
    sim::{self, Options, Run, Unfinished},
    system::System,
};

/// Set in the environment of a child, to the process number of the parent whose order is its standard input.
pub(super) const ORDER: &str = "GAPLESS_ORDER";

/// What a child finds in its standard input; it leaves its [`Outcome`] there instead.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Desk<O> {
    pub(super) order: O,
    /// Real time that the run may take.
    pub(super) limit: Duration,
}

/// The simulating thread holds every host's futures; deep call chains of TLS and HTTP/2 in a debug build need room.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// One run that a child is to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Where the scenario was read from.
    pub path: PathBuf,
    /// Its text: a file that changes meanwhile does not matter.
    pub text: String,
    /// The seed.
    pub seed: u64,
    /// Write the whole history there, as JSON lines.
    pub history: Option<PathBuf>,
    /// Write a line per event and packet there.
    pub trail: Option<PathBuf>,
    /// Without history and hash, and so with nothing to judge: for measuring what they cost.
    pub bare: bool,
    /// Use colour in what is to be shown.
    pub colour: bool,
    /// In how many columns it is laid out.
    pub columns: usize,
    /// How the user would make this run again, with `{scenario}` and `{seed}` to be filled in.
    pub reproduce: String,
}

impl Order {
    /// A judged run of a scenario with this text, plainly shown and laid out in as many columns as there may be. It keeps nothing,
    /// and knows no command by which it is made again.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>, seed: u64) -> Order {
        Order {
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
pub enum Outcome {
    /// The run came to its end and was judged.
    Judged {
        /// The verdict and its reasons.
        summary: Box<RunSummary>,
        /// The violation, as a screen to show; empty where there is none.
        screen: String,
        /// Events judged.
        events: u64,
        /// Packets seen.
        packets: u64,
        /// What it took.
        took: Took,
        /// The rare situations that it came by.
        marks: Reached,
    },
    /// The run came to no end.
    Failed {
        /// Why, for people.
        error: String,
    },
}

/// What a run took, without the start of its process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Took {
    /// From the order to the end of the simulation: the file is read, hosts are built, and all that they do.
    pub simulating: Spent,
    /// The judgement of its history.
    pub judging: Spent,
    /// Processor time of the whole process until here, its start included.
    pub process: Duration,
}

/// A length of time, by two clocks. Both are alike where nobody else wants the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    /// On the wall.
    pub wall: Duration,
    /// On the processor.
    pub processor: Duration,
}

/// Carries out the order and ends the process, where this process is the child of a run. `system` makes the log under
/// test. Does nothing elsewhere.
pub fn become_worker_if_asked<S: System>(system: impl FnOnce() -> S + Send + 'static) {
    let Ok(parent) = std::env::var(ORDER) else { return };
    let code = match serve_order(&parent, system) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("gapless: the run's child process cannot work: {error}");
            1
        }
    };
    // Not by returning: destructors of the caller are not part of a run.
    process::exit(code);
}

fn serve_order<S: System>(parent: &str, system: impl FnOnce() -> S + Send + 'static) -> io::Result<()> {
    if !parent.parse().is_ok_and(seam::end_with_parent) {
        return Err(io::Error::other(format!("{ORDER} is `{parent}`, which is not our parent: unset it")));
    }
    let mut desk = scratch::handed_over()?;
    let Desk { order, limit }: Desk<Order> = serde_json::from_slice(&desk.tail(u64::MAX)?).map_err(io::Error::other)?;
    gapless_world::mark::listen();
    // Whoever holds the desk ends the process: one outcome, never two.
    let desk = Arc::new(Mutex::new(desk));
    // Born before the run, like the simulating thread itself. It must not read a clock while the run is on.
    let watch = thread::Builder::new().name("watch".to_owned());
    watch.spawn({
        let (desk, order) = (desk.clone(), order.clone());
        move || {
            thread::sleep(limit);
            let outcome = Outcome::Failed { error: overdue(&order, limit) };
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            process::exit(i32::from(leave(&mut desk, &outcome).is_err()));
        }
    })?;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| carry_out(order, system)))
        .unwrap_or_else(|_| Err(panicked("the judge")))
        .unwrap_or_else(|error| Outcome::Failed { error });
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

fn leave(desk: &mut Scratch, outcome: &Outcome) -> io::Result<()> {
    desk.fill(&serde_json::to_vec(outcome).map_err(io::Error::other)?)
}

/// What keeps a run whose time is up.
fn overdue(order: &Order, limit: Duration) -> String {
    let standing = seam::standing();
    let so_far = format!("the run did not end within {limit:?} of real time");
    let Some(host) = standing.host else {
        return format!(
            "{so_far}; it had come to {:?} of simulated time\ncure: a shorter workload, or fewer hosts",
            standing.at
        );
    };
    let plan = scenario::parse(&order.path, &order.text).map(|scenario| scenario::plan(&scenario, order.seed));
    let hosts = plan.map_or_else(|_| Vec::new(), |plan| sim::hosts(&plan));
    let name = hosts.get(host).map_or("a host", |name| name);
    format!(
        "{so_far}: {name} never yields, at {:?} of simulated time\n{}\ncure: await something in that loop",
        standing.at, standing.place
    )
}

fn carry_out<S: System>(order: Order, system: impl FnOnce() -> S + Send + 'static) -> Result<Outcome, String> {
    let thread = thread::Builder::new().name("simulation".to_owned()).stack_size(STACK_BYTES);
    let begun = Instant::now();
    let thread = thread.spawn({
        let order = order.clone();
        move || {
            let system = system();
            let marks = system.explored().marks;
            let (scenario, run) = simulate(&order, system)?;
            Ok((scenario, run, marks, seam::processor_time()))
        }
    });
    let joined = thread.map_err(|error| format!("no thread to simulate on: {error}"))?.join();
    // Nobody simulates any more, so this thread may look at the clock again.
    seam::disarm();
    let wall = begun.elapsed();
    let simulated = joined.unwrap_or_else(|_| Err((panicked("the simulator"), None)));
    let (scenario, run, marks, processor) = match simulated {
        Ok(simulated) => simulated,
        Err((error, history)) => {
            let kept = history.map_or(Ok(()), |history| keep(&order, &history, None));
            return Err(kept.err().map_or(error.clone(), |why| format!("{error}\nits history was not kept: {why}")));
        }
    };
    keep(&order, &run.history, run.trail.as_deref())?;
    let (judgement, judging) = spent(|| check::judge(&run.history, &expectations(&scenario)));
    let summary = RunSummary {
        scenario: run.history.header.scenario.clone(),
        file: order.path.display().to_string(),
        seed: order.seed,
        judgement,
        simulated: run.simulated,
        wall: None,
        hash: run.hash,
    };
    let screen = screen(&order, &run.history, &summary);
    let events = run.history.events.len() as u64;
    let took = Took { simulating: Spent { wall, processor }, judging, process: seam::processor_time_of_process() };
    let (packets, marks) = (run.packets, marks::reached(&marks));
    Ok(Outcome::Judged { summary: Box::new(summary), screen, events, packets, took, marks })
}

fn panicked(who: &str) -> String {
    format!("{who} itself panicked\n{}", sim::panicked().unwrap_or_default())
}

/// What `work` gives, and what it took. Never on a thread that simulates: its clocks are not those of the world.
fn spent<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let (wall, processor) = (Instant::now(), seam::processor_time());
    let result = work();
    (result, Spent { wall: wall.elapsed(), processor: seam::processor_time().saturating_sub(processor) })
}

/// Why a run came to no end, and what happened until then.
type Unended = (String, Option<Box<History>>);

fn simulate<S: System>(order: &Order, system: S) -> Result<(Scenario, Run), Unended> {
    let scenario = scenario::parse_for(&order.path, &order.text, &system.sizes()).map_err(|problems| {
        (format!("{} has {} errors: run `gapless check`", order.path.display(), problems.len()), None)
    })?;
    let plan = scenario::plan(&scenario, order.seed);
    let options = Options { trail: order.trail.is_some(), bare: order.bare };
    let run = sim::simulate(system, &scenario, &plan, options)
        .map_err(|Unfinished { error, history }| (error.to_string(), history))?;
    Ok((scenario, run))
}

fn keep(order: &Order, history: &History, trail: Option<&[String]>) -> Result<(), String> {
    if let Some(path) = &order.history {
        history::write(path, history).map_err(|error| error.to_string())?;
    }
    if let (Some(path), Some(trail)) = (&order.trail, trail) {
        fs::write(path, trail.join("\n")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn screen(order: &Order, history: &History, summary: &RunSummary) -> String {
    if summary.judgement.verdict != check::Verdict::Violated {
        return String::new();
    }
    let reproduce = order.reproduce.replace("{scenario}", &summary.scenario).replace("{seed}", &order.seed.to_string());
    let palette = if order.colour { Palette::Ansi } else { Palette::Plain };
    terminal::screen(
        summary,
        history,
        &Hints { reproduce: Some(reproduce), ..Hints::default() },
        Layout::new(palette, order.columns),
    )
}
