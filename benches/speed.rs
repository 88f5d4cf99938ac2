//! How fast gapless is, as two tables: what a run costs the machine, and what takes simulated time. Each row has what
//! was measured, the floor that it should never fall under, and the aim.
//!
//! Every figure is the median of several repetitions, and what is compared with each other takes turns, so that a busy
//! machine slows both alike. A run is one thread, so each of its figures is given twice: by the wall, which floors and
//! aims speak of, and by the processor, which is what the wall would show if nobody else wanted that core. Nothing here
//! judges by a clock: a slow machine prints a slow table and that is all. Only a run that fails, or that does not hold,
//! ends the program with an error.
//!
//! `cargo bench --bench speed` prints all rows; words after `--` choose the rows whose name contains one of them, and
//! `--write` puts the rows into `docs/speed.md`.

mod distance;
#[path = "../log/benches/machine/mod.rs"]
mod machine;
#[path = "../log/benches/page/mod.rs"]
mod page;
mod price;
#[path = "../log/benches/real/mod.rs"]
mod real;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use gapless::{
    check::Verdict,
    explore::{
        self, Limits, RunOutcome, RunRequest, Spent, Task, Took,
        draw::{self, Subject},
    },
    report::RunSummary,
    scenario,
    system::AuditLog,
};

use machine::{cores, machine, median};
use page::{Asked, Rows, grouped};

gapless::define_seam!();

/// No run of this table takes longer, on any machine that somebody would wait for.
const LIMIT: Duration = Duration::from_secs(600);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    explore::become_worker_if_asked(AuditLog::default);
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<(), Failure> {
    let asked = Asked::of(env::args().skip(1))?;
    let described = machine::described();
    let named = |table, rows: &'static [Row]| Rows::new(table, rows.iter().map(|row| row.name));
    let mut tables = [named(page::SPEED, COSTS), named(page::SIMULATED, SIMULATED)];
    asked.check(&tables, &described)?;
    print!("{}", machine(&format!("gapless {}", gapless::build_id())));
    let mut failed = Vec::new();
    for (table, rows) in tables.iter_mut().zip([COSTS, SIMULATED]) {
        for row in rows {
            if !asked.wants(&table.table, row.name) {
                continue;
            }
            match (row.measure)() {
                Ok(Measured { figures, how }) => {
                    let ends = [row.floor.to_owned(), row.aim.to_owned(), how];
                    table.came(row.name, figures.into_iter().chain(ends).collect());
                }
                Err(error) => {
                    table.came_to_nothing(row.name, "FAILED", &error.to_string());
                    failed.push(row.name);
                }
            }
        }
    }
    asked.write(&tables, &described)?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("these rows failed, for the reasons above: {}", failed.join("; ")).into())
    }
}

struct Row {
    name: &'static str,
    floor: &'static str,
    aim: &'static str,
    measure: fn() -> Result<Measured, Failure>,
}

impl Row {
    const fn new(
        name: &'static str,
        floor: &'static str,
        aim: &'static str,
        measure: fn() -> Result<Measured, Failure>,
    ) -> Row {
        Row { name, floor, aim, measure }
    }
}

/// The figures of a row, in the order of the columns of its table, and how they were made.
struct Measured {
    figures: Vec<String>,
    how: String,
}

impl Measured {
    fn timed(wall: String, processor: String, how: String) -> Measured {
        Measured { figures: vec![wall, processor], how }
    }

    fn simulated(figure: String, how: String) -> Measured {
        Measured { figures: vec![figure], how }
    }
}

/// What a run costs the machine.
const COSTS: &[Row] = &[
    Row::new("a run with history, hash and checks, over one without", "1.25 ×", "1.15 ×", cost),
    Row::new("one server, three clients, 50 appends/s, all checked", "30 s/s", "100 s/s", || {
        pace(&cluster(1, "50/s", "60s"))
    }),
    Row::new("three servers, three clients, the same", "30 s/s", "100 s/s", || pace(&cluster(3, "50/s", "60s"))),
    Row::new("one server, quiet: 1 append/min", "400 s/s", "1,000 s/s", || pace(&cluster(1, "1/m", "10m"))),
    Row::new("three servers, quiet: 1 append/min", "400 s/s", "1,000 s/s", || pace(&cluster(3, "1/m", "10m"))),
    Row::new("starting a run: process, certificates, cluster", "30 ms", "15 ms", start),
    Row::new("judging a history of 1,000,000 events", "2 s", "1 s", judging),
    Row::new("an append simulated over one made for real, one server", "-", "-", || price::simulated_over_real(1)),
    Row::new("an append simulated over one made for real, three servers", "-", "-", || price::simulated_over_real(3)),
    Row::new("the whole `scenarios/` folder, one seed each", "60 s", "20 s", folder),
    Row::new("runs of `explore` per hour of one core", "700/h", "-", exploring),
];

/// What takes simulated time.
const SIMULATED: &[Row] = &[
    Row::new("a leader of three is lost, 5 ms apart", "2 s", "2 s", || distance::failover(5)),
    Row::new("a leader of three is lost, 50 ms apart", "-", "-", || distance::failover(50)),
    Row::new("a leader of three is lost, 100 ms apart", "-", "-", || distance::failover(100)),
    Row::new("one client, a log of one 5 ms away", "2,000/s", "2,000/s", || distance::one_client(5)),
    Row::new("one client, a log of one 50 ms away", "2,000/s", "2,000/s", || distance::one_client(50)),
    Row::new("one client, a log of one 100 ms away", "2,000/s", "2,000/s", || distance::one_client(100)),
    Row::new("three servers 5 ms apart, 256 B", "-", "-", || distance::three_servers(5, 256)),
    Row::new("three servers 50 ms apart, 256 B", "-", "-", || distance::three_servers(50, 256)),
    Row::new("three servers 100 ms apart, 256 B", "-", "-", || distance::three_servers(100, 256)),
    Row::new("three servers 150 ms apart, 256 B", "-", "-", || distance::three_servers(150, 256)),
    Row::new("three servers 5 ms apart, 16 KiB", "-", "-", || distance::three_servers(5, 16 * 1024)),
    Row::new("three servers 50 ms apart, 16 KiB", "-", "-", || distance::three_servers(50, 16 * 1024)),
    Row::new("three servers 100 ms apart, 16 KiB", "-", "-", || distance::three_servers(100, 16 * 1024)),
    Row::new("three servers 150 ms apart, 16 KiB", "-", "-", || distance::three_servers(150, 16 * 1024)),
    Row::new("three servers, 64 clients, a sync takes 5 ms longer", "3,000/s", "3,000/s", slow_syncs),
];

// ---- rows ----

/// The same workload and seed with everything and with nothing, in turns.
fn cost() -> Result<Measured, Failure> {
    const PAIRS: usize = 9;
    let text = cluster(1, "50/s", "60s");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for n in 0..=PAIRS {
        let full = held(&order(&text))?;
        let bare = ran(&RunRequest { bare: true, ..order(&text) })?;
        if full.summary.simulated != bare.summary.simulated {
            return Err("the two runs are not the same run".into());
        }
        if n > 0 {
            // The first pair only warms the caches.
            with.push(whole(full.took));
            without.push(bare.took.simulating);
        }
    }
    let ratio = |by: fn(&Spent) -> Duration| {
        let pairs = with.iter().zip(&without);
        format!("{:.2} ×", median(pairs.map(|(a, b)| by(a).as_secs_f64() / by(b).as_secs_f64()).collect()))
    };
    let [a, b] = [&with, &without].map(|side| milliseconds(median(side.iter().map(processor_seconds).collect())));
    let how = format!("median of {PAIRS} pairs in turns, the same run in all of them; on the processor {a} over {b}");
    Ok(Measured::timed(ratio(|spent| spent.wall), ratio(|spent| spent.processor), how))
}

/// Simulated seconds per second of one core.
fn pace(text: &str) -> Result<Measured, Failure> {
    const REPETITIONS: usize = 7;
    let runs: Vec<Run> = (0..REPETITIONS).map(|_| held(&order(text))).collect::<Result<_, _>>()?;
    let run = runs.last().ok_or("no repetition")?;
    let scenario = scenario::parse(Path::new("speed.toml"), text)
        .map_err(|problems| format!("{} errors in the scenario", problems.len()))?;
    let simulated = run.summary.simulated.as_secs_f64();
    let pace = |by: fn(&Spent) -> Duration| {
        let took = runs.iter().map(|run| by(&whole(run.took)).as_secs_f64()).collect();
        format!("{} s/s", grouped(simulated / median(took)))
    };
    let how = format!(
        "median of {REPETITIONS}; {simulated:.1} s simulated, tick {} ms, {} events, {} packets",
        scenario::plan(&scenario, SEED).tick.as_millis(),
        grouped(run.events as f64),
        grouped(run.packets as f64),
    );
    Ok(Measured::timed(pace(|spent| spent.wall), pace(|spent| spent.processor), how))
}

/// The shortest run there is, from outside: an upper bound, for it also simulates, settles and is judged.
fn start() -> Result<Measured, Failure> {
    const REPETITIONS: usize = 15;
    let text = cluster(1, "1/h", "1s");
    let (mut wall, mut processor, mut simulated) = (Vec::new(), Vec::new(), Duration::ZERO);
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        let run = ran(&order(&text))?;
        wall.push(begun.elapsed().as_secs_f64());
        processor.push(run.took.process.as_secs_f64());
        simulated = run.summary.simulated;
    }
    let how = format!(
        "median of {REPETITIONS}; from outside, a whole run of {:.1} s, settling and verdict included",
        simulated.as_secs_f64()
    );
    Ok(Measured::timed(milliseconds(median(wall)), milliseconds(median(processor)), how))
}

/// Real histories of about a million events and of about a quarter of that, judged in turns.
fn judging() -> Result<Measured, Failure> {
    const PAIRS: usize = 3;
    const EVENTS: u64 = 1_000_000;
    let pilot = held(&order(&cluster(1, "500/s", "10s")))?;
    let length = (EVENTS * 10).div_ceil(pilot.events.max(1)) + 1;
    let (large, small) = (cluster(1, "500/s", &format!("{length}s")), cluster(1, "500/s", &format!("{}s", length / 4)));
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        pairs.push((held(&order(&large))?, held(&order(&small))?));
    }
    let (large, small) = pairs.last().ok_or("no repetition")?;
    // Of one event; a history has a few more or fewer of them than it was to have.
    let each = |run: &Run, by: fn(&Spent) -> Duration| by(&run.took.judging).as_secs_f64() / run.events as f64;
    let scaled = |by: fn(&Spent) -> Duration| {
        format!("{:.2} s", median(pairs.iter().map(|(large, _)| each(large, by) * EVENTS as f64).collect()))
    };
    let growth = pairs.iter().map(|(large, small)| each(large, |it| it.processor) / each(small, |it| it.processor));
    let how = format!(
        "median of {PAIRS} pairs in turns, scaled from {} events; one of them costs {:.2} × what one of {} does",
        grouped(large.events as f64),
        median(growth.collect()),
        grouped(small.events as f64)
    );
    Ok(Measured::timed(scaled(|spent| spent.wall), scaled(|spent| spent.processor), how))
}

/// Every scenario file once, on all cores.
fn folder() -> Result<Measured, Failure> {
    const REPETITIONS: usize = 3;
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let task = |path: &PathBuf| {
        let order = RunRequest { path: path.clone(), ..order(&fs::read_to_string(path)?) };
        Ok(Task { request: order, twice: false })
    };
    let tasks: Vec<Task> = files.iter().map(task).collect::<io::Result<_>>()?;
    let (mut wall, mut processor, mut simulated) = (Vec::new(), Vec::new(), Duration::ZERO);
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        let (mut worked, mut failed) = (Duration::ZERO, Ok(()));
        simulated = Duration::ZERO;
        let limits = Limits { jobs: cores(), run: LIMIT, until: None, cuts_off: false, interrupted: || false };
        explore::sweep(
            tasks.len(),
            limits,
            |index| tasks[index].clone(),
            |task, done| {
                match done.outcome.map_err(Failure::from).and_then(Run::of).and_then(Run::not_violated) {
                    Ok(run) => {
                        simulated += run.summary.simulated;
                        worked += run.took.process;
                    }
                    Err(error) => failed = Err(format!("{}: {error}", task.request.path.display())),
                }
                failed.is_ok()
            },
        );
        failed?;
        wall.push(begun.elapsed().as_secs_f64());
        processor.push(worked.as_secs_f64());
    }
    let how = format!(
        "median of {REPETITIONS}; {} files, {} s simulated, on {} cores",
        tasks.len(),
        grouped(simulated.as_secs_f64()),
        cores()
    );
    let told = |times| format!("{:.1} s", median(times));
    Ok(Measured::timed(told(wall), told(processor), how))
}

/// Scenarios that `explore` draws, one after the other, each judged and then without anything to judge.
fn exploring() -> Result<Measured, Failure> {
    const RUNS: u64 = 32;
    let subject = Subject::of(&AuditLog::default());
    let (mut wall, mut bare_wall, mut processor, mut bare_processor) = Default::default();
    let mut simulated = Duration::ZERO;
    for seed in 0..RUNS {
        let scenario = draw::draw(&subject, seed)?;
        let judged = RunRequest::new(scenario.path.clone(), scenario.print(), seed);
        let bare = RunRequest { bare: true, ..judged.clone() };
        let timed = |order: &RunRequest, wall: &mut Duration, processor: &mut Duration| -> Result<Run, Failure> {
            let begun = Instant::now();
            let run = ran(order)?.not_violated()?;
            *wall += begun.elapsed();
            *processor += run.took.process;
            Ok(run)
        };
        simulated += timed(&judged, &mut wall, &mut processor)?.summary.simulated;
        timed(&bare, &mut bare_wall, &mut bare_processor)?;
    }
    let rate = |took: Duration| format!("{}/h", grouped(RUNS as f64 * 3_600.0 / took.as_secs_f64()));
    let how = format!(
        "seeds 0..{RUNS}, {} s simulated, processes included; without judging {} by the wall, {} by the processor",
        grouped(simulated.as_secs_f64()),
        rate(bare_wall),
        rate(bare_processor)
    );
    Ok(Measured::timed(rate(wall), rate(processor), how))
}

/// Appends that were acknowledged, by a second of simulated time: batches have to carry the load.
fn slow_syncs() -> Result<Measured, Failure> {
    const SECONDS: u64 = 10;
    const OFFERED: u64 = 4_000;
    let text = format!(
        "title = \"for measuring\"\n[cluster]\nservers = 3\n[workload]\nclients = 64\nappends = \"{OFFERED}/s\"\n\
         for = \"{SECONDS}s\"\n[[step]]\naction = \"slow-disk\"\non = \"servers\"\nlatency = \"5ms\"\nat = \"0s\"\n"
    );
    let run = held(&order(&text))?;
    let facts = &run.summary.judgement.facts;
    let (blind, _) = facts.longest_blind.clone().ok_or("no client was ever without an answer")?;
    // All of them are acknowledged, the last ones this much after the load has ended at most. Those from before t = 0
    // do not count.
    let rate = facts.acked.min(SECONDS * OFFERED) as f64 / (SECONDS as f64 + blind.as_secs_f64());
    let [offered, acked] = [OFFERED, facts.acked].map(|count| grouped(count as f64));
    let how = format!("one run: {offered}/s offered for {SECONDS} s, {acked} acknowledged with those before");
    Ok(Measured::simulated(format!("{}/s", grouped(rate)), how))
}

// ---- runs ----

const SEED: u64 = 1;

/// A scenario in which nothing fails.
fn cluster(servers: u32, appends: &str, length: &str) -> String {
    format!(
        "title = \"for measuring\"\n[cluster]\nservers = {servers}\n[workload]\nclients = 3\nappends = \"{appends}\"\n\
         for = \"{length}\"\n"
    )
}

fn order(text: &str) -> RunRequest {
    RunRequest::new("speed.toml", text, SEED)
}

/// A run that came to its end.
struct Run {
    summary: RunSummary,
    events: u64,
    packets: u64,
    took: Took,
}

impl Run {
    fn of(outcome: RunOutcome) -> Result<Run, Failure> {
        match outcome {
            RunOutcome::Judged { summary, events, packets, took, .. } => {
                Ok(Run { summary: *summary, events, packets, took })
            }
            RunOutcome::Failed { error } => Err(error.into()),
        }
    }

    /// A run in which everything holds: a figure of another would be that of something else.
    fn held(self) -> Result<Run, Failure> {
        let judgement = &self.summary.judgement;
        match judgement.verdict {
            Verdict::Holds => Ok(self),
            other => {
                let violated = judgement.violated().map(|(promise, _)| promise.name()).collect::<Vec<_>>();
                Err(format!("the verdict is {other:?}: {violated:?} {:?}", judgement.unmet).into())
            }
        }
    }

    fn not_violated(self) -> Result<Run, Failure> {
        match self.summary.judgement.verdict {
            Verdict::Violated => Err("the run is violated, so its time means nothing".into()),
            Verdict::Holds | Verdict::Inconclusive => Ok(self),
        }
    }
}

fn ran(order: &RunRequest) -> Result<Run, Failure> {
    Run::of(explore::run(order, LIMIT)?)
}

fn held(order: &RunRequest) -> Result<Run, Failure> {
    ran(order)?.held()
}

/// The same under so many seeds, on all cores; each is held.
fn seeded(text: &str, seeds: u64) -> Result<Vec<Run>, Failure> {
    let (mut runs, mut failed) = (Vec::new(), Ok(()));
    let limits = Limits { jobs: cores(), run: LIMIT, until: None, cuts_off: false, interrupted: || false };
    let task = |seed: usize| Task { request: RunRequest { seed: seed as u64, ..order(text) }, twice: false };
    explore::sweep(usize::try_from(seeds)?, limits, task, |task, done| {
        match done.outcome.map_err(Failure::from).and_then(Run::of).and_then(Run::held) {
            Ok(run) => runs.push(run),
            Err(error) => failed = Err(format!("seed {}: {error}", task.request.seed)),
        }
        failed.is_ok()
    });
    failed?;
    Ok(runs)
}

fn whole(took: Took) -> Spent {
    Spent {
        wall: took.simulating.wall + took.judging.wall,
        processor: took.simulating.processor + took.judging.processor,
    }
}

// ---- figures ----

fn processor_seconds(spent: &Spent) -> f64 {
    spent.processor.as_secs_f64()
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1_000.0)
}
