//! `gapless run`: simulates scenarios, one line each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    ops::Range,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    Exit, Home, Stop,
    progress::Progress,
    select::{self, Seeds, Shard},
    words::{counted, short},
};
use crate::{
    check::Verdict,
    explore::{Limits, Order, Outcome, RUN_MAX, Task, sweep},
    report::{Palette, RunSummary, terminal},
    scenario::Scenario,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario files, their names, or folders of them [default: all scenarios].
    paths: Vec<PathBuf>,
    /// The seed [default: 0, and those that a scenario names itself].
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds, A..B (B is not run).
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// How many runs at a time [default: one per core].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Only the K-th of N equal shares of all runs, to spread them over machines.
    #[arg(long, value_name = "K/N")]
    partition: Option<Shard>,
    /// Begin no further run after this time.
    #[arg(long, value_name = "T", value_parser = duration)]
    max_time: Option<Duration>,
    /// Run everything twice and compare the hashes of all packets and events.
    #[arg(long)]
    check_determinism: bool,
    /// Also list the scenarios that hold, with the hash of each run.
    #[arg(short, long)]
    verbose: bool,
    /// Write each run's history there, as JSON lines.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object per run.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::scenario::duration(text).map_err(|error| error.to_string())
}

/// Runs and tells; the exit status is that of the worst run.
pub(super) fn run(arguments: &Arguments, home: &Home, colour: bool) -> Result<Exit, Stop> {
    let scenarios = select::scenarios(home, &arguments.paths)?;
    let all = Runs::new(&scenarios, arguments.seeds.as_ref().map(|seeds| seeds.0.clone()), arguments.seed);
    let shard = arguments.partition.unwrap_or(Shard { k: 1, n: 1 });
    let mine = shard.share(all.len());
    if mine == 0 {
        return Err(Stop::With(Exit::NothingSelected, "error: this share of the runs is empty".to_owned()));
    }
    if let Some(folder) = &arguments.report {
        std::fs::create_dir_all(folder)
            .map_err(|error| Stop::With(Exit::Internal, format!("error: cannot make {}: {error}", folder.display())))?;
    }
    let begun = Instant::now();
    let limits = Limits {
        jobs: arguments.jobs.map_or_else(cores, NonZeroUsize::get),
        run: RUN_MAX,
        // A time beyond what the clock can hold is no limit.
        until: arguments.max_time.and_then(|limit| begun.checked_add(limit)),
    };
    let mut teller = Teller::new(arguments, scenarios.len(), colour, mine, limits.jobs);
    teller.begin()?;
    let mut failed = None;
    let task = |index| {
        let (scenario, seed) = all.get(shard.index(index));
        task(arguments, home, &scenarios[scenario], seed, colour)
    };
    sweep(mine, limits, task, |task, done| match teller.tell(task, done) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(teller.end()?),
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// All runs that were asked for, by their number: scenario by scenario, each with its seeds. A sweep may have more than
/// would fit into memory as tasks.
struct Runs {
    /// Per scenario: its first run's number, the range of seeds, and further seeds that it names itself.
    scenarios: Vec<(usize, Range<u64>, Vec<u64>)>,
    len: usize,
}

impl Runs {
    fn new(scenarios: &[Scenario], range: Option<Range<u64>>, one: Option<u64>) -> Self {
        let range = range.unwrap_or(if one.is_some() { 0..0 } else { 0..1 });
        let mut runs = Self { scenarios: Vec::new(), len: 0 };
        for scenario in scenarios {
            // One seed is that one alone; otherwise those that the scenario names itself come too.
            let further: Vec<u64> = match one {
                Some(seed) => vec![seed],
                None => scenario.seeds.iter().copied().filter(|seed| !range.contains(seed)).collect(),
            };
            let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).saturating_add(further.len());
            runs.scenarios.push((runs.len, range.clone(), further));
            runs.len = runs.len.saturating_add(count);
        }
        runs
    }

    fn len(&self) -> usize {
        self.len
    }

    /// Index of the scenario, and the seed, of a run below `len`.
    fn get(&self, run: usize) -> (usize, u64) {
        let scenario = self.scenarios.partition_point(|(first, ..)| *first <= run) - 1;
        let (first, range, further) = &self.scenarios[scenario];
        let n = (run - first) as u64;
        let in_range = range.end - range.start;
        let seed = if n < in_range { range.start + n } else { further[(n - in_range) as usize] };
        (scenario, seed)
    }
}

fn task(arguments: &Arguments, home: &Home, scenario: &Scenario, seed: u64, colour: bool) -> Task {
    let file = |folder: &PathBuf| folder.join(format!("{}-{seed}.history.jsonl", report_name(&scenario.path)));
    let order = Order {
        path: scenario.path.clone(),
        text: select::text(scenario).to_string(),
        seed,
        history: arguments.report.as_ref().map(file),
        trail: None,
        bare: false,
        colour,
        reproduce: home.reproduce(&scenario.path),
    };
    Task { order, twice: arguments.check_determinism }
}

/// A file name that two scenarios of one command never share: the folders are part of it.
fn report_name(path: &Path) -> String {
    let parts = path.with_extension("");
    let parts = parts.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Prints results as they come, one line per scenario, and the sum in the end.
struct Teller<'a> {
    arguments: &'a Arguments,
    palette: Palette,
    progress: Progress,
    begun: Instant,
    total: usize,
    jobs: usize,
    scenarios: usize,
    sweep: bool,
    tally: BTreeMap<&'static str, usize>,
    simulated: Duration,
    runs: usize,
    differences: usize,
    hidden: usize,
    /// Scenarios with a remark that was shown: a sweep shows the first.
    remarked: BTreeSet<String>,
    sometimes: BTreeMap<(String, usize, String), u64>,
}

impl<'a> Teller<'a> {
    fn new(arguments: &'a Arguments, scenarios: usize, colour: bool, total: usize, jobs: usize) -> Self {
        let shown = io::stderr().is_terminal() && arguments.format == Format::Human;
        Self {
            arguments,
            palette: if colour { Palette::Ansi } else { Palette::Plain },
            progress: Progress::new(total, shown),
            begun: Instant::now(),
            total,
            jobs,
            scenarios,
            sweep: arguments.seeds.is_some(),
            tally: BTreeMap::new(),
            simulated: Duration::ZERO,
            runs: 0,
            differences: 0,
            hidden: 0,
            remarked: BTreeSet::new(),
            sometimes: BTreeMap::new(),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.arguments.format == Format::Json {
            return Ok(());
        }
        let seeds = match (&self.arguments.seeds, self.arguments.seed) {
            (Some(Seeds(range)), _) => format!("seeds {}..{}", range.start, range.end),
            (None, seed) => format!("seed {}", seed.unwrap_or(0)),
        };
        let runs = counted(self.total, "run");
        let what = format!(
            "gapless {} · {} · {seeds} · {runs} · {}",
            env!("CARGO_PKG_VERSION"),
            counted(self.scenarios, "scenario"),
            counted(self.jobs, "worker"),
        );
        self.say(&format!("{what}\n{}", terminal::heading(self.palette).trim_end()))
    }

    fn say(&self, text: &str) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{}", text.trim_end_matches('\n')))
    }

    fn tell(&mut self, task: &Task, done: crate::explore::Done) -> io::Result<()> {
        self.progress.step();
        self.runs += 1;
        let wall = done.wall;
        let difference = done.difference.map(|difference| difference.text);
        self.differences += usize::from(difference.is_some());
        if let (Some(text), Format::Human) = (&difference, self.arguments.format) {
            self.say(&format!("  DIFFERS       {} seed {}\n{}", name(task), task.order.seed, indent(text)))?;
        }
        match done.outcome {
            Ok(Outcome::Judged { mut summary, screen, .. }) => {
                summary.wall = Some(wall);
                self.judged(task, &summary, &screen, difference)
            }
            Ok(Outcome::Failed { error }) => self.failed(task, &error, difference),
            Err(error) => self.failed(task, &error.to_string(), difference),
        }
    }

    fn judged(
        &mut self,
        task: &Task,
        summary: &RunSummary,
        screen: &str,
        difference: Option<String>,
    ) -> io::Result<()> {
        self.simulated += summary.simulated;
        let verdict = summary.judgement.verdict;
        *self.tally.entry(word(verdict)).or_default() += 1;
        for hit in &summary.judgement.sometimes {
            let key = (name(task), hit.line, hit.text.clone());
            *self.sometimes.entry(key).or_default() += hit.hits;
        }
        if self.arguments.format == Format::Json {
            let mut line = serde_json::to_value(summary).map_err(io::Error::other)?;
            if let (Some(text), Some(line)) = (difference, line.as_object_mut()) {
                line.insert("difference".to_owned(), text.into());
            }
            return writeln!(io::stdout(), "{line}");
        }
        // A sweep tells of trouble; each run of a few is told.
        let remarked = !summary.judgement.remarks.is_empty() && self.remarked.insert(name(task));
        if verdict == Verdict::Holds && self.sweep && !self.arguments.verbose && !remarked {
            self.hidden += 1;
            return Ok(());
        }
        self.say(&terminal::row(summary, self.palette))?;
        if self.arguments.verbose {
            self.say(&format!("                seed {} hash {}", summary.seed, summary.hash))?;
        }
        if verdict == Verdict::Inconclusive {
            self.say(&again(task))?;
        }
        // A screen ends with the line that reproduces it.
        if screen.is_empty() { Ok(()) } else { self.say(&format!("\n{screen}\n ")) }
    }

    fn failed(&mut self, task: &Task, error: &str, difference: Option<String>) -> io::Result<()> {
        *self.tally.entry("failed").or_default() += 1;
        if self.arguments.format == Format::Json {
            let mut line = serde_json::json!({
                "scenario": name(task),
                "file": task.order.path.display().to_string(),
                "seed": task.order.seed,
                "error": error,
            });
            if let (Some(text), Some(line)) = (difference, line.as_object_mut()) {
                line.insert("difference".to_owned(), text.into());
            }
            return writeln!(io::stdout(), "{line}");
        }
        let mark = "FAILED";
        self.say(&format!("  {mark}        {} seed {}\n{}", name(task), task.order.seed, indent(error)))?;
        self.say(&again(task))
    }

    fn end(mut self) -> io::Result<Exit> {
        self.progress.clear();
        let exit = self.exit();
        if self.arguments.format == Format::Json {
            return Ok(exit);
        }
        if self.hidden > 0 {
            self.say(&format!("  … {} hold (-v lists them)", counted(self.hidden, "run")))?;
        }
        if self.sweep {
            let never = std::mem::take(&mut self.sometimes).into_iter().filter(|(_, hits)| *hits == 0);
            for ((scenario, line, text), _) in never {
                self.say(&format!("  note: {scenario}:{line}: in none of these runs: {text}"))?;
            }
        }
        let skipped = self.total - self.runs;
        let mut parts: Vec<String> = self.tally.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
        if self.arguments.check_determinism {
            parts.push(match self.differences {
                0 => "every run twice, all hashes identical".to_owned(),
                n => format!("{n} NOT DETERMINISTIC"),
            });
        }
        if skipped > 0 {
            parts.push(format!("{skipped} not begun (--max-time)"));
        }
        let line = format!(
            "{} in {}, {} simulated: {}",
            counted(self.runs, "run"),
            short(self.begun.elapsed()),
            short(self.simulated),
            parts.join(", ")
        );
        self.say(&format!("{line:<86} exit {}", exit as u8))?;
        Ok(exit)
    }

    fn exit(&self) -> Exit {
        let has = |verdict| self.tally.contains_key(verdict);
        if has("violated") {
            Exit::Violated
        } else if has("failed") || self.differences > 0 {
            Exit::Internal
        } else if has("inconclusive") {
            Exit::Inconclusive
        } else if self.runs == 0 {
            // Nothing was run (--max-time), so nothing was shown to hold.
            Exit::NothingSelected
        } else {
            Exit::Holds
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "hold",
        Verdict::Violated => "violated",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn name(task: &Task) -> String {
    task.order.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// The command that makes a run again, below its row.
fn again(task: &Task) -> String {
    indent(&format!("again: {}", task.order.reproduce.replace("{seed}", &task.order.seed.to_string())))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("                {line}")).collect::<Vec<_>>().join("\n")
}
