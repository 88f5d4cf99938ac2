//! `gapless run`: simulates scenarios, one line each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    ops::Range,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Exit, Home, Stop,
    causes::{self, Causes},
    interrupt,
    progress::Progress,
    select::{self, Seeds, Shard},
    shrink::{self, Shrinker},
    told::{self, again, indent, name, told_as, word},
    values::{cores, duration},
    words::counted,
};
use crate::{
    check::Verdict,
    explore::{Limits, RUN_MAX, RunOutcome, RunRequest, Task, draw::Subject, sweep},
    marks::{Reached, Sum},
    report::{
        Layout, Palette, RunSummary, terminal,
        text::{fold, wrap},
    },
    scenario::Scenario,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario files, names of scenarios, or folders of them [default: all scenarios].
    paths: Vec<PathBuf>,
    /// The seed to run [default: 0, and those that a scenario itself lists].
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds to run, A..B (B is not run).
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// How many runs to simulate at a time [default: one per core].
    #[arg(short, long)]
    jobs: Option<NonZeroUsize>,
    /// Run only the K-th of N equal shares of all runs, to spread them over machines.
    #[arg(long, value_name = "K/N")]
    partition: Option<Shard>,
    /// Stop at the first run that does not hold. Without --seeds, try one seed after the other, from 0 or from --seed
    /// on, until a run does not hold; each seed is run for all scenarios before the next one.
    #[arg(long)]
    until_fail: bool,
    /// Start no further run after this time.
    #[arg(long, value_name = "T", value_parser = duration)]
    max_time: Option<Duration>,
    /// Run everything twice, and compare the hashes of all packets and events.
    #[arg(long)]
    check_determinism: bool,
    /// When all runs are over, reduce the scenarios of violated runs to the few steps that matter.
    #[arg(long)]
    shrink: bool,
    /// Print which rare situations the runs reached, and which no run reached (`explore --marks` lists them all).
    #[arg(long)]
    marks: bool,
    /// Also list the scenarios that hold, and print the hash of each run.
    #[arg(short, long)]
    verbose: bool,
    /// Write the history of each run to this folder, as JSON lines.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The format in which results are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    Human,
    /// One JSON object for each run.
    Json,
}

/// Runs the scenarios and reports the results. The exit status is that of the worst run.
pub(super) fn run(
    arguments: &Arguments,
    home: &Home,
    subject: &dyn Fn() -> Subject,
    layout: Layout,
) -> Result<Exit, Stop> {
    if arguments.shrink && arguments.format == Format::Json {
        return Err(Stop::With(Exit::Usage, shrink::FOR_PEOPLE.to_owned()));
    }
    let scenarios = select::scenarios(home, &arguments.paths, layout)?;
    let all = Runs::asked_for(&scenarios, arguments);
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
        cuts_off: false,
        interrupted: interrupt::asked,
    };
    let subject = (arguments.marks || arguments.shrink).then(subject);
    let marks = Sum::new(subject.as_ref().map_or(&[], |subject| &subject.explored.marks));
    let mut teller = Teller::new(arguments, scenarios.len(), layout, marks, (mine, limits.jobs));
    interrupt::listen();
    teller.begin()?;
    let mut failed = None;
    let task = |index| {
        let (scenario, seed) = all.get(shard.index(index));
        task(arguments, home, &scenarios[scenario], seed, layout)
    };
    sweep(mine, limits, task, |task, done| match teller.tell(task, done) {
        Ok(holds) => holds || !arguments.until_fail,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let found = std::mem::take(&mut teller.found);
    let exit = teller.end()?;
    if let Some(subject) = subject.filter(|_| arguments.shrink && !found.is_empty()) {
        let mut shrinker = Shrinker::new(home, &subject, layout, arguments.jobs, None, false);
        for (path, seed) in found {
            if let Some(scenario) = scenarios.iter().find(|scenario| scenario.path == path)
                && !interrupt::asked()
            {
                shrinker.shrink(scenario, seed, None)?;
            }
        }
    }
    Ok(exit)
}

/// All runs that were asked for, by number: scenario by scenario, each with its seeds. The runs are computed, because
/// those of a sweep may not fit into memory as tasks.
struct Runs {
    /// For each scenario: the number of its first run, the range of seeds, and further seeds that the scenario itself
    /// lists.
    scenarios: Vec<(usize, Range<u64>, Vec<u64>)>,
    len: usize,
    /// If set, the seeds that scenarios list come first, and then each seed of the range for all scenarios before the
    /// next.
    seed_by_seed: bool,
}

impl Runs {
    fn asked_for(scenarios: &[Scenario], arguments: &Arguments) -> Self {
        let range = arguments.seeds.as_ref().map(|seeds| seeds.0.clone());
        match (range, arguments.until_fail) {
            (range, false) => Self::new(scenarios, range, arguments.seed),
            (range, true) => {
                let from = arguments.seed.unwrap_or(0);
                let range = range.unwrap_or(from..from.saturating_add(select::SEEDS_MAX));
                Self { seed_by_seed: true, ..Self::new(scenarios, Some(range), None) }
            }
        }
    }

    fn new(scenarios: &[Scenario], range: Option<Range<u64>>, one: Option<u64>) -> Self {
        let range = range.unwrap_or(if one.is_some() { 0..0 } else { 0..1 });
        let mut runs = Self { scenarios: Vec::new(), len: 0, seed_by_seed: false };
        for scenario in scenarios {
            // A single seed is run alone; otherwise the seeds that the scenario itself lists are run as well.
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

    /// Returns the index of the scenario, and the seed, of a run below `len`.
    fn get(&self, run: usize) -> (usize, u64) {
        if self.seed_by_seed {
            return self.get_seed_by_seed(run);
        }
        let scenario = self.scenarios.partition_point(|(first, ..)| *first <= run) - 1;
        let (first, range, further) = &self.scenarios[scenario];
        let n = (run - first) as u64;
        let in_range = range.end - range.start;
        let seed = if n < in_range { range.start + n } else { further[(n - in_range) as usize] };
        (scenario, seed)
    }

    fn get_seed_by_seed(&self, mut run: usize) -> (usize, u64) {
        for (scenario, (_, _, further)) in self.scenarios.iter().enumerate() {
            match further.get(run) {
                Some(seed) => return (scenario, *seed),
                None => run -= further.len(),
            }
        }
        let count = self.scenarios.len();
        (run % count, self.scenarios[run % count].1.start + (run / count) as u64)
    }
}

fn task(arguments: &Arguments, home: &Home, scenario: &Scenario, seed: u64, layout: Layout) -> Task {
    let file = |folder: &PathBuf| folder.join(format!("{}-{seed}.history.jsonl", report_name(&scenario.path)));
    let request = RunRequest {
        history: arguments.report.as_ref().map(file),
        colour: layout.palette == Palette::Ansi,
        columns: layout.columns(),
        reproduce: home.reproduce(&scenario.path),
        ..RunRequest::new(scenario.path.clone(), select::text(scenario).to_string(), seed)
    };
    Task { request, twice: arguments.check_determinism }
}

/// Returns a file name that no two scenarios of one command share: the folders are part of it.
fn report_name(path: &Path) -> String {
    let parts = path.with_extension("");
    let parts = parts.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Prints results as they come, one line per scenario, and the totals at the end.
struct Teller<'a> {
    arguments: &'a Arguments,
    layout: Layout,
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
    /// Scenarios of which a remark was shown: a sweep shows only the first one.
    remarked: BTreeSet<String>,
    sometimes: BTreeMap<(String, usize, String), u64>,
    /// The rare situations that the runs reached.
    marks: Sum,
    causes: Causes,
    /// The first run of each cause that is violated, or that did not come to an end.
    found: Vec<(PathBuf, u64)>,
}

impl<'a> Teller<'a> {
    fn new(
        arguments: &'a Arguments,
        scenarios: usize,
        layout: Layout,
        marks: Sum,
        (total, jobs): (usize, usize),
    ) -> Self {
        let shown = io::stderr().is_terminal() && arguments.format == Format::Human;
        Self {
            arguments,
            layout,
            progress: Progress::new(total, shown),
            begun: Instant::now(),
            total,
            jobs,
            scenarios,
            sweep: arguments.seeds.is_some() || arguments.until_fail,
            tally: BTreeMap::new(),
            simulated: Duration::ZERO,
            runs: 0,
            differences: 0,
            hidden: 0,
            remarked: BTreeSet::new(),
            sometimes: BTreeMap::new(),
            marks,
            causes: Causes::default(),
            found: Vec::new(),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.arguments.format == Format::Json {
            return Ok(());
        }
        let (seeds, runs) = (&self.arguments.seeds, counted(self.total, "run"));
        let (seeds, runs) = match (seeds, self.arguments.seed.unwrap_or(0)) {
            (Some(Seeds(range)), _) => (format!("seeds {}..{}", range.start, range.end), runs),
            (None, from) if self.arguments.until_fail => {
                (format!("seeds from {from} on"), "until one fails".to_owned())
            }
            (None, seed) => (format!("seed {seed}"), runs),
        };
        let (scenarios, workers) = (counted(self.scenarios, "scenario"), counted(self.jobs, "worker"));
        self.say(&told::heading(&format!("{scenarios} · {seeds} · {runs} · {workers}"), self.layout))
    }

    fn say(&self, text: &str) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{}", text.trim_end_matches('\n')))
    }

    /// Reports a run. Returns whether it holds.
    fn tell(&mut self, task: &Task, done: crate::explore::Done) -> io::Result<bool> {
        self.progress.step("");
        self.runs += 1;
        let wall = done.wall;
        let difference = done.difference.map(|difference| difference.text);
        let same = difference.is_none();
        self.differences += usize::from(!same);
        if let (Some(text), Format::Human) = (&difference, self.arguments.format) {
            self.say(&format!(
                "  DIFFERS       {} seed {}\n{}",
                name(&task.request.path),
                task.request.seed,
                indent(text)
            ))?;
        }
        match done.outcome {
            Ok(RunOutcome::Judged { mut summary, screen, marks, .. }) => {
                summary.wall = Some(wall);
                self.marks.add(&marks);
                self.judged(task, &summary, (&screen, &marks), difference)?;
                return Ok(same && summary.judgement.verdict == Verdict::Holds);
            }
            Ok(RunOutcome::Failed { error }) => self.failed(task, &error, difference)?,
            Err(error) => self.failed(task, &error.to_string(), difference)?,
        }
        Ok(false)
    }

    fn judged(
        &mut self,
        task: &Task,
        summary: &RunSummary,
        (screen, marks): (&str, &Reached),
        difference: Option<String>,
    ) -> io::Result<()> {
        self.simulated += summary.simulated;
        let verdict = summary.judgement.verdict;
        *self.tally.entry(word(verdict)).or_default() += 1;
        for hit in &summary.judgement.sometimes {
            let key = (name(&task.request.path), hit.line, hit.text.clone());
            *self.sometimes.entry(key).or_default() += hit.hits;
        }
        if self.arguments.format == Format::Json {
            let mut line = told::json(summary, Some(marks).filter(|_| self.arguments.marks))?;
            if let (Some(text), Some(line)) = (difference, line.as_object_mut()) {
                line.insert("difference".to_owned(), text.into());
            }
            return writeln!(io::stdout(), "{line}");
        }
        // A sweep reports only trouble; otherwise every run is reported.
        let remarked = !summary.judgement.remarks.is_empty() && self.remarked.insert(name(&task.request.path));
        if verdict == Verdict::Holds && self.sweep && !self.arguments.verbose && !remarked {
            self.hidden += 1;
            return Ok(());
        }
        let cause = causes::cause_of(summary);
        let holds = verdict == Verdict::Holds;
        let new = holds || self.causes.note(&task.request.path, summary.seed, told_as(verdict), &cause);
        if new && verdict == Verdict::Violated {
            self.found.push((task.request.path.clone(), summary.seed));
        }
        // A cause that was met before is reported at the end, together with its other runs.
        if !new && !self.arguments.verbose {
            return Ok(());
        }
        self.say(&terminal::row(summary, self.layout))?;
        if self.arguments.verbose {
            self.say(&format!("                seed {} hash {}", summary.seed, summary.hash))?;
            if let Some(connections) = terminal::connections(&summary.judgement) {
                self.say(&indent(&wrap(&connections, self.layout.columns() - 16).join("\n")))?;
            }
        }
        if verdict == Verdict::Inconclusive {
            self.say(&indent(&again(task)))?;
        }
        // A screen ends with the line that reproduces the run.
        if screen.is_empty() || !new { Ok(()) } else { self.say(&format!("\n{screen}\n ")) }
    }

    fn failed(&mut self, task: &Task, error: &str, difference: Option<String>) -> io::Result<()> {
        *self.tally.entry("failed").or_default() += 1;
        if self.arguments.format == Format::Json {
            let mut line = told::failed(task, error);
            if let (Some(text), Some(line)) = (difference, line.as_object_mut()) {
                line.insert("difference".to_owned(), text.into());
            }
            return writeln!(io::stdout(), "{line}");
        }
        if self.causes.note(&task.request.path, task.request.seed, "failed", error) {
            self.found.push((task.request.path.clone(), task.request.seed));
        } else if !self.arguments.verbose {
            return Ok(());
        }
        self.say(&terminal::failed(&name(&task.request.path), task.request.seed, error, self.layout))?;
        self.say(&indent(&again(task)))
    }

    fn end(mut self) -> io::Result<Exit> {
        self.progress.clear();
        let exit = self.exit();
        if self.arguments.format == Format::Json {
            return Ok(exit);
        }
        for cause in self.causes.told() {
            self.say(&told::cause(&cause, self.layout))?;
        }
        if self.hidden > 0 {
            self.say(&format!("  … {} hold (-v lists them)", counted(self.hidden, "run")))?;
        }
        if self.sweep {
            let never = std::mem::take(&mut self.sometimes).into_iter().filter(|(_, hits)| *hits == 0);
            for ((scenario, line, text), _) in never {
                let note = format!("note: {scenario}:{line}: in none of these runs: {text}");
                self.say(&format!("  {}", fold(&note, self.layout.columns() - 4).join("\n    ")))?;
            }
        }
        if self.arguments.marks {
            self.say(&told::marks(&self.marks, self.layout))?;
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
            parts.extend(self.why_skipped(skipped));
        }
        let line = told::sum(self.runs, self.begun, self.simulated, &parts);
        self.say(&terminal::with_exit(&line, exit as u8, self.layout))?;
        Ok(exit)
    }

    /// Returns what to say about runs that were asked for and are not reported.
    fn why_skipped(&self, skipped: usize) -> Option<String> {
        // Without a range of seeds, no number of runs was asked for.
        let counted = self.arguments.seeds.is_some() || !self.arguments.until_fail;
        if interrupt::asked() {
            return Some(if counted { format!("{skipped} not run (interrupted)") } else { "interrupted".to_owned() });
        }
        let failed = self.tally.keys().any(|verdict| *verdict != word(Verdict::Holds)) || self.differences > 0;
        if self.arguments.until_fail && failed {
            return counted.then(|| format!("{skipped} not run (--until-fail)"));
        }
        Some(if counted { format!("{skipped} not begun (--max-time)") } else { "ended by --max-time".to_owned() })
    }

    fn exit(&self) -> Exit {
        let has = |verdict| self.tally.contains_key(verdict);
        if interrupt::asked() && self.runs < self.total {
            Exit::Interrupted
        } else if has("violated") {
            Exit::Violated
        } else if has("failed") || self.differences > 0 {
            Exit::Internal
        } else if has("inconclusive") {
            Exit::Inconclusive
        } else if self.runs == 0 {
            // Nothing was run because of --max-time, so nothing was shown to hold.
            Exit::NothingSelected
        } else {
            Exit::Holds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(seeds: &str) -> Scenario {
        let text = format!(
            "title = \"t\"\nseeds = [{seeds}]\n[cluster]\nservers = 1\n[workload]\nclients = 1\nappends = \"1/s\"\n\
             for = \"9s\"\n"
        );
        crate::scenario::parse(Path::new("t.toml"), &text).expect("sound")
    }

    #[test]
    fn runs_go_scenario_by_scenario_with_the_seeds_that_each_names() {
        let runs = Runs::new(&[scenario("7, 3"), scenario("")], Some(2..4), None);
        let all: Vec<_> = (0..runs.len()).map(|run| runs.get(run)).collect();
        assert_eq!(all, [(0, 2), (0, 3), (0, 7), (1, 2), (1, 3)]);
    }

    #[test]
    fn until_one_fails_named_seeds_come_first_and_then_each_seed_for_all() {
        let runs = Runs::new(&[scenario("7, 3"), scenario(""), scenario("9")], Some(2..4), None);
        let runs = Runs { seed_by_seed: true, ..runs };
        let all: Vec<_> = (0..runs.len()).map(|run| runs.get(run)).collect();
        assert_eq!(all, [(0, 7), (2, 9), (0, 2), (1, 2), (2, 2), (0, 3), (1, 3), (2, 3)]);
    }
}
