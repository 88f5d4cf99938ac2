//! `gapless shrink`, and `--shrink` of `run` and `explore`: reduces a failing scenario to the few steps that matter.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Exit, Home, Stop, interrupt,
    progress::Progress,
    select,
    values::{cores, duration},
    words::{counted, short},
};
use crate::{
    explore::{
        Limits, RUN_MAX, RunRequest,
        draw::{self, Subject},
        shrink::{ShrinkError, Shrunk, SoFar, shrink},
    },
    report::{Layout, Palette, terminal, text::wrap},
    scenario::Scenario,
};

/// Where the result is written by default.
const FOLDER: &str = "target/gapless/shrunk";

/// Explains why `--shrink` and `--format json` exclude each other.
pub(super) const FOR_PEOPLE: &str = "error: `--shrink` prints for people, and `--format json` for programs\n\
                                     cure: drop one of them, or shrink single files with `gapless shrink`";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The failing scenario file, or its name.
    file: PathBuf,
    /// The seed under which it fails.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many runs to simulate at a time [default: one per core].
    #[arg(short, long)]
    jobs: Option<NonZeroUsize>,
    /// Stop after this time, and keep the smallest scenario that was found by then.
    #[arg(long, value_name = "T", value_parser = duration)]
    max_time: Option<Duration>,
    /// Write the result to this file [default: target/gapless/shrunk/NAME-SEED.toml].
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Reduces one scenario and writes the result.
pub(super) fn run(arguments: &Arguments, home: &Home, subject: &Subject, layout: Layout) -> Result<Exit, Stop> {
    let scenarios = select::scenarios(home, std::slice::from_ref(&arguments.file), layout)?;
    let [scenario] = &scenarios[..] else {
        let message = format!("error: {} is not one scenario file: shrink takes one", arguments.file.display());
        return Err(Stop::With(Exit::Usage, message));
    };
    interrupt::listen();
    let mut shrinker = Shrinker::new(home, subject, layout, arguments.jobs, arguments.max_time, true);
    let to = arguments.to.clone();
    shrinker.shrink(scenario, arguments.seed, to)
}

/// Reduces one scenario after the other, and reports those that are reduced to the same one only once.
pub(super) struct Shrinker<'a> {
    home: &'a Home,
    subject: &'a Subject,
    layout: Layout,
    jobs: usize,
    /// The limit for each scenario.
    max_time: Option<Duration>,
    /// Whether to show the text of the result, and not only its path.
    whole: bool,
    /// The results so far, without title and story, and the file of each.
    known: BTreeMap<String, PathBuf>,
}

impl<'a> Shrinker<'a> {
    pub(super) fn new(
        home: &'a Home,
        subject: &'a Subject,
        layout: Layout,
        jobs: Option<NonZeroUsize>,
        max_time: Option<Duration>,
        whole: bool,
    ) -> Self {
        let jobs = jobs.map_or_else(cores, NonZeroUsize::get);
        Self { home, subject, layout, jobs, max_time, whole, known: BTreeMap::new() }
    }

    /// Reduces a scenario, and writes and reports the result.
    pub(super) fn shrink(&mut self, scenario: &Scenario, seed: u64, to: Option<PathBuf>) -> Result<Exit, Stop> {
        let begun = Instant::now();
        let limits = Limits {
            jobs: self.jobs,
            run: RUN_MAX,
            until: self.max_time.and_then(|limit| begun.checked_add(limit)),
            cuts_off: true,
            interrupted: interrupt::asked,
        };
        let to = match to {
            Some(to) if to.exists() => {
                let message =
                    format!("error: {} exists and is not overwritten\ncure: name another file with --to", to.display());
                return Err(Stop::With(Exit::Usage, message));
            }
            Some(to) => to,
            None => Path::new(FOLDER).join(format!("{}-{seed}.toml", scenario.name())),
        };
        // The command that repeats the result uses the path that the result will have.
        let moved = scenario.clone().at_path(&to);
        let request = |text: String, seed: u64| RunRequest {
            colour: self.layout.palette == Palette::Ansi,
            columns: self.layout.columns(),
            reproduce: self.home.reproduce(&to),
            ..RunRequest::new(to.clone(), text, seed)
        };
        let progress = Progress::endless(io::stderr().is_terminal());
        let may = |scenario: &Scenario| draw::broken(self.subject, scenario).is_none();
        let told = |so_far: SoFar<'_>| {
            let steps = counted(so_far.best.steps.len(), "step");
            progress.step(&format!("{} · {steps} left", counted(so_far.runs, "run")));
        };
        let shrunk = shrink(&moved, seed, limits, request, may, told);
        progress.clear();
        match shrunk {
            Ok(shrunk) => {
                let exit = if !shrunk.minimal && interrupt::asked() { Exit::Interrupted } else { Exit::Holds };
                self.tell(scenario, seed, &to, &shrunk, begun.elapsed(), exit)?;
                Ok(exit)
            }
            Err(error @ ShrinkError::Stopped) => {
                let exit = if interrupt::asked() { Exit::Interrupted } else { Exit::NothingSelected };
                Err(Stop::With(exit, format!("error: {error}")))
            }
            Err(error @ ShrinkError::Holds) => {
                let message = format!("error: {} under seed {seed}: {error}", scenario.path.display());
                Err(Stop::With(Exit::NothingSelected, message))
            }
        }
    }

    fn tell(
        &mut self,
        before: &Scenario,
        seed: u64,
        to: &Path,
        shrunk: &Shrunk,
        took: Duration,
        exit: Exit,
    ) -> Result<(), Stop> {
        let mut out = io::stdout().lock();
        let line = format!(
            "{} seed {seed}, which breaks {}: {}, {}, {} → {}, {}, {}; {} in {}",
            before.name(),
            shrunk.failure,
            counted(before.steps.len(), "step"),
            counted(before.cluster.servers as usize, "server"),
            counted(before.workload.clients as usize, "client"),
            shrunk.scenario.steps.len(),
            shrunk.scenario.cluster.servers,
            shrunk.scenario.workload.clients,
            counted(shrunk.runs, "run"),
            short(took),
        );
        writeln!(out, "{}", wrap(&line, self.layout.columns()).join("\n"))?;
        let bare =
            Scenario { title: "t".to_owned(), story: String::new(), seeds: Vec::new(), ..shrunk.scenario.clone() };
        if let Some(same) = self.known.get(&bare.print()) {
            writeln!(out, "  the same as {}", same.display())?;
            return Ok(());
        }
        let text = shrunk.scenario.print();
        write(to, &text)?;
        self.known.insert(bare.print(), to.to_owned());
        if self.whole {
            writeln!(out, "\n{}", text.trim_end())?;
        }
        if !shrunk.screen.is_empty() {
            writeln!(out, "\n{}", shrunk.screen.trim_end())?;
        }
        let end = if shrunk.minimal { "nothing smaller fails alike" } else { "not tried to the end" };
        let line = format!("wrote {}: {end}", to.display());
        let line = if self.whole { terminal::with_exit(&line, exit as u8, self.layout) } else { line };
        writeln!(out, "{}", line.trim_end())?;
        Ok(())
    }
}

fn write(to: &Path, text: &str) -> Result<(), Stop> {
    let failed =
        |error: io::Error| Stop::With(Exit::Internal, format!("error: cannot write {}: {error}", to.display()));
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(to, text).map_err(failed)
}
