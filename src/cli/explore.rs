//! `gapless explore`: draws random scenarios, runs them, and keeps those that fail as files.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Exit, Home, Stop,
    causes::{self, Causes},
    interrupt,
    progress::Progress,
    run::Format,
    select::{self, Seeds, Shard},
    shrink::{self, Shrinker},
    told::{self, again, indent, name, told_as, word},
    values::{cores, duration},
    words::{counted, short},
};
use crate::{
    check::Verdict,
    explore::{
        Done, Limits, RUN_MAX, RunOutcome, RunRequest, Task,
        draw::{self, Subject},
        sweep,
    },
    marks::{Reached, Sum},
    report::{Layout, Palette, RunSummary, terminal, text::wrap},
    scenario,
};

/// Where failing scenarios are kept by default.
const KEEP: &str = "target/gapless/explored";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Draw the scenarios of these seeds, A..B (B is not drawn) [default: all from 0 on, until Ctrl-C or --max-time].
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Start no further run after this time.
    #[arg(long, value_name = "T", value_parser = duration)]
    max_time: Option<Duration>,
    /// How many runs to simulate at a time [default: one per core].
    #[arg(short, long)]
    jobs: Option<NonZeroUsize>,
    /// Stop at the first run that is violated or does not come to an end.
    #[arg(long)]
    until_fail: bool,
    /// Draw only the K-th of N equal shares of all seeds, to spread them over machines.
    #[arg(long, value_name = "K/N")]
    partition: Option<Shard>,
    /// Write each failing scenario to this folder, as an ordinary file [default: target/gapless/explored].
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// When the exploration is over, reduce one scenario of each kind of finding to the few steps that matter.
    #[arg(long)]
    shrink: bool,
    /// Also list the runs that hold.
    #[arg(short, long)]
    verbose: bool,
    /// Print the scenarios that the seeds draw, and run nothing.
    #[arg(long, requires = "seeds")]
    print: bool,
    /// Print what drawn scenarios may ask of the log, and why not more, and draw nothing.
    #[arg(long)]
    rules: bool,
    /// List the rare situations that a sweep counts, each with its meaning, and draw nothing.
    #[arg(long)]
    marks: bool,
    /// The format in which results are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Arguments {
    /// Returns the seeds that were asked for: the first one, and their number.
    fn seeds(&self) -> (u64, usize) {
        let range = self.seeds.as_ref().map_or(0..select::SEEDS_MAX, |seeds| seeds.0.clone());
        (range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX))
    }

    fn folder(&self) -> &Path {
        self.keep.as_deref().unwrap_or(Path::new(KEEP))
    }
}

/// Draws and runs scenarios and reports the results. The exit status is that of the worst run.
pub(super) fn explore(arguments: &Arguments, home: &Home, subject: &Subject, layout: Layout) -> Result<Exit, Stop> {
    if arguments.rules {
        tell_rules(subject, layout).or_else(super::closed)?;
        return Ok(Exit::Holds);
    }
    if arguments.marks {
        writeln!(io::stdout(), "{}", told::all_marks(&subject.explored.marks, layout)).or_else(super::closed)?;
        return Ok(Exit::Holds);
    }
    if arguments.shrink && arguments.format == Format::Json {
        return Err(Stop::With(Exit::Usage, shrink::FOR_PEOPLE.to_owned()));
    }
    let (first, count) = arguments.seeds();
    let shard = arguments.partition.unwrap_or(Shard { k: 1, n: 1 });
    let mine = shard.share(count);
    if mine == 0 {
        return Err(Stop::With(Exit::NothingSelected, "error: this share of the seeds is empty".to_owned()));
    }
    if let Err(error) = draw::draw(subject, first) {
        return Err(Stop::With(Exit::Usage, format!("error: nothing can be drawn for this log: {error}")));
    }
    if arguments.print {
        let seeds = (0..mine).map(|index| first + shard.index(index) as u64);
        print(subject, seeds).or_else(super::closed)?;
        return Ok(Exit::Holds);
    }
    // If a folder was named that cannot be written to, this is reported at once and not after hours.
    if let Some(folder) = &arguments.keep {
        make(folder)?;
    }
    let begun = Instant::now();
    let limits = Limits {
        jobs: arguments.jobs.map_or_else(cores, NonZeroUsize::get),
        run: RUN_MAX,
        until: arguments.max_time.and_then(|limit| begun.checked_add(limit)),
        cuts_off: false,
        interrupted: interrupt::asked,
    };
    let marks = Sum::new(&subject.explored.marks);
    let mut teller = Teller::new(arguments, layout, marks, mine, limits.jobs);
    interrupt::listen();
    teller.begin()?;
    let mut failed = None;
    let task = |index| task(arguments, home, subject, first + shard.index(index) as u64, layout);
    sweep(mine, limits, task, |task, done| match teller.tell(task, done) {
        Ok(passed) => passed || !arguments.until_fail,
        Err(stop) => {
            failed = Some(stop);
            false
        }
    });
    if let Some(stop) = failed {
        return Err(stop);
    }
    let found = std::mem::take(&mut teller.found);
    let exit = teller.end()?;
    if arguments.shrink {
        let mut shrinker = Shrinker::new(home, subject, layout, arguments.jobs, None, false);
        for (path, text, seed) in found {
            if interrupt::asked() {
                break;
            }
            // The scenario was run, so it is valid.
            if let Ok(scenario) = scenario::parse_for(&path, &text, &home.sizes) {
                shrinker.shrink(&scenario, seed, Some(shrunk(&path)))?;
            }
        }
    }
    Ok(exit)
}

/// Returns a path for the reduced scenario, beside the file that fails.
fn shrunk(path: &Path) -> PathBuf {
    let named = |n: u64| match n {
        1 => path.with_file_name(format!("{}-shrunk.toml", name(path))),
        n => path.with_file_name(format!("{}-shrunk-{n}.toml", name(path))),
    };
    (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1))
}

fn make(folder: &Path) -> Result<(), Stop> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Stop::With(Exit::Internal, format!("error: cannot make {}: {error}", folder.display())))
}

fn task(arguments: &Arguments, home: &Home, subject: &Subject, seed: u64, layout: Layout) -> Task {
    // A seed that cannot be drawn is reported as a failed run, because an empty file is no scenario. The first seed was
    // tried before.
    let text = draw::draw(subject, seed).map(|scenario| scenario.source.to_string()).unwrap_or_default();
    let path = free(arguments.folder(), seed, &text);
    let request = RunRequest {
        colour: layout.palette == Palette::Ansi,
        columns: layout.columns(),
        reproduce: home.reproduce(&path),
        ..RunRequest::new(path, text, seed)
    };
    Task { request, twice: false }
}

/// Returns where this text is kept. It never replaces a different text, which another build may have drawn or a user
/// may have edited.
fn free(folder: &Path, seed: u64, text: &str) -> PathBuf {
    let named = |n: u64| match n {
        1 => folder.join(format!("explored-{seed}.toml")),
        n => folder.join(format!("explored-{seed}-{n}.toml")),
    };
    let other = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|kept| kept != text);
    (1..).map(named).find(|path| !other(path)).unwrap_or_else(|| named(1))
}

/// Prints whole files, one after the other.
fn print(subject: &Subject, seeds: impl Iterator<Item = u64>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (nth, seed) in seeds.enumerate() {
        let text = draw::draw(subject, seed).map_err(io::Error::other)?;
        write!(out, "{}{}", if nth == 0 { "" } else { "\n" }, text.source)?;
    }
    Ok(())
}

/// Prints what may be asked of the log, what is not asked of it, and why.
fn tell_rules(subject: &Subject, layout: Layout) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut say = |name: &str, text: &str| {
        let lines = wrap(text, layout.columns() - 4);
        writeln!(out, "{name}\n    {}", lines.join("\n    "))
    };
    for rule in draw::rules(subject) {
        say(rule.name, rule.reason)?;
    }
    for (fault, why) in &subject.left_out {
        say(&format!("never {}", fault.name), why)?;
    }
    let faults: Vec<&str> = subject.faults.iter().map(|fault| fault.name).collect();
    say(&counted(faults.len(), "fault"), &faults.join(", "))
}

/// Prints failures as they come, and the totals at the end.
struct Teller<'a> {
    arguments: &'a Arguments,
    layout: Layout,
    progress: Progress,
    begun: Instant,
    total: usize,
    jobs: usize,
    tally: BTreeMap<&'static str, usize>,
    runs: usize,
    simulated: Duration,
    /// The number of steps that left evidence, and the number of all steps.
    bitten: (u64, u64),
    /// The rare situations that the runs reached.
    marks: Sum,
    causes: Causes,
    kept: usize,
    /// The first run of each cause: path, text and seed.
    found: Vec<(PathBuf, String, u64)>,
}

impl<'a> Teller<'a> {
    fn new(arguments: &'a Arguments, layout: Layout, marks: Sum, total: usize, jobs: usize) -> Self {
        let shown = io::stderr().is_terminal() && arguments.format == Format::Human;
        let bounded = arguments.seeds.is_some();
        Self {
            arguments,
            layout,
            progress: if bounded { Progress::new(total, shown) } else { Progress::endless(shown) },
            begun: Instant::now(),
            total,
            jobs,
            tally: BTreeMap::new(),
            runs: 0,
            simulated: Duration::ZERO,
            bitten: (0, 0),
            marks,
            causes: Causes::default(),
            kept: 0,
            found: Vec::new(),
        }
    }

    fn begin(&self) -> io::Result<()> {
        if self.arguments.format == Format::Json {
            return Ok(());
        }
        let seeds = match (&self.arguments.seeds, self.arguments.max_time) {
            (Some(Seeds(range)), _) => format!("seeds {}..{} · {}", range.start, range.end, counted(self.total, "run")),
            (None, Some(limit)) => format!("seeds from 0 on · for {}", short(limit)),
            (None, None) => "seeds from 0 on · until Ctrl-C".to_owned(),
        };
        let workers = counted(self.jobs, "worker");
        self.say(&told::heading(&format!("exploring · {seeds} · {workers}"), self.layout))
    }

    fn say(&self, text: &str) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{}", text.trim_end_matches('\n')))
    }

    /// Reports a run. Returns whether it passed. An inconclusive run passes: in a drawn scenario, some step may find
    /// nothing to strike.
    fn tell(&mut self, task: &Task, done: Done) -> Result<bool, Stop> {
        self.runs += 1;
        let wall = done.wall;
        let passed = match done.outcome {
            Ok(RunOutcome::Judged { mut summary, screen, marks, .. }) => {
                summary.wall = Some(wall);
                self.marks.add(&marks);
                self.judged(task, &summary, &screen, &marks)?
            }
            Ok(RunOutcome::Failed { error }) => self.failed(task, &error)?,
            Err(error) => self.failed(task, &error.to_string())?,
        };
        let found = self.count("violated") + self.count("failed");
        self.progress.step(&format!(
            "{} · {} simulated · {}",
            counted(self.runs, "run"),
            short(self.simulated),
            counted(found, "finding")
        ));
        Ok(passed)
    }

    fn judged(&mut self, task: &Task, summary: &RunSummary, screen: &str, marks: &Reached) -> Result<bool, Stop> {
        self.simulated += summary.simulated;
        let (bitten, steps) = summary.judgement.facts.faults_bit;
        self.bitten = (self.bitten.0 + u64::from(bitten), self.bitten.1 + u64::from(steps));
        let verdict = summary.judgement.verdict;
        *self.tally.entry(word(verdict)).or_default() += 1;
        let passed = verdict != Verdict::Violated;
        if !passed {
            self.keep(task)?;
        }
        let new = passed || self.note(task, told_as(verdict), &causes::cause_of(summary));
        if self.arguments.format == Format::Json {
            self.json(task, told::json(summary, Some(marks))?, passed)?;
            return Ok(passed);
        }
        if self.arguments.verbose || (new && !passed) {
            self.say(&terminal::row(summary, self.layout))?;
        }
        if new && !passed {
            self.say(&format!("\n{screen}\n  kept as   {}\n ", task.request.path.display()))?;
        }
        Ok(passed)
    }

    /// Reports a run that did not come to an end: a panic, a hang, or a leak past the simulation. This is a finding
    /// too.
    fn failed(&mut self, task: &Task, error: &str) -> Result<bool, Stop> {
        *self.tally.entry("failed").or_default() += 1;
        self.keep(task)?;
        if self.arguments.format == Format::Json {
            self.json(task, told::failed(task, error), false)?;
        } else if self.note(task, "failed", error) || self.arguments.verbose {
            self.say(&terminal::failed(&name(&task.request.path), task.request.seed, error, self.layout))?;
            self.say(&indent(&format!("kept as {}\n{}", task.request.path.display(), again(task))))?;
        }
        Ok(false)
    }

    fn json(&self, task: &Task, mut line: serde_json::Value, passed: bool) -> io::Result<()> {
        if let (false, Some(line)) = (passed, line.as_object_mut()) {
            line.insert("kept".to_owned(), task.request.path.display().to_string().into());
        }
        writeln!(io::stdout(), "{line}")
    }

    fn note(&mut self, task: &Task, ended: &'static str, cause: &str) -> bool {
        // All drawn scenarios count as one here: only the cause matters.
        let new = self.causes.note(Path::new("explored"), task.request.seed, ended, cause);
        if new {
            self.found.push((task.request.path.clone(), task.request.text.clone(), task.request.seed));
        }
        new
    }

    fn keep(&mut self, task: &Task) -> Result<(), Stop> {
        let path = &task.request.path;
        make(self.arguments.folder())?;
        std::fs::write(path, &task.request.text)
            .map_err(|error| Stop::With(Exit::Internal, format!("error: cannot write {}: {error}", path.display())))?;
        self.kept += 1;
        Ok(())
    }

    fn count(&self, verdict: &str) -> usize {
        self.tally.get(verdict).copied().unwrap_or_default()
    }

    fn end(self) -> io::Result<Exit> {
        self.progress.clear();
        let exit = self.exit();
        if self.arguments.format == Format::Json {
            return Ok(exit);
        }
        for cause in self.causes.told() {
            self.say(&told::cause(&cause, self.layout))?;
        }
        if self.kept > 0 {
            self.say(&format!("  {} kept in {}", counted(self.kept, "scenario"), self.arguments.folder().display()))?;
        }
        if self.runs > 0 {
            self.say(&told::marks(&self.marks, self.layout))?;
        }
        let mut parts: Vec<String> = self.tally.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
        parts.push(format!("{} of {} bit", self.bitten.0, counted(self.bitten.1 as usize, "step")));
        parts.extend(self.why_ended());
        let line = told::sum(self.runs, self.begun, self.simulated, &parts);
        self.say(&terminal::with_exit(&line, exit as u8, self.layout))?;
        Ok(exit)
    }

    /// Returns what ended the exploration before the last seed.
    fn why_ended(&self) -> Option<String> {
        let found = self.count("violated") + self.count("failed") > 0;
        let why = match () {
            () if self.runs >= self.total => return None,
            () if interrupt::asked() => "interrupted",
            () if self.arguments.until_fail && found => "ended by --until-fail",
            () => "ended by --max-time",
        };
        let left = self.total - self.runs;
        Some(if self.arguments.seeds.is_some() { format!("{left} not run ({why})") } else { why.to_owned() })
    }

    fn exit(&self) -> Exit {
        if interrupt::asked() && self.runs < self.total {
            Exit::Interrupted
        } else if self.count("violated") > 0 {
            Exit::Violated
        } else if self.count("failed") > 0 {
            Exit::Internal
        } else if self.runs == 0 {
            Exit::NothingSelected
        } else if self.count(word(Verdict::Holds)) == 0 {
            // No run has shown anything.
            Exit::Inconclusive
        } else {
            Exit::Holds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_kept_over_no_other_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |seed, text| free(folder.path(), seed, text).strip_prefix(folder.path()).expect("below").to_owned();
        assert_eq!(named(7, "a"), Path::new("explored-7.toml"));
        std::fs::write(folder.path().join("explored-7.toml"), "a").expect("written");
        assert_eq!(named(7, "a"), Path::new("explored-7.toml"));
        assert_eq!(named(7, "b"), Path::new("explored-7-2.toml"));
        std::fs::write(folder.path().join("explored-7-2.toml"), "c").expect("written");
        assert_eq!((named(7, "b"), named(7, "c")), ("explored-7-3.toml".into(), "explored-7-2.toml".into()));
    }
}
