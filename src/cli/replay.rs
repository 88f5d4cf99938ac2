//! `gapless replay`: simulates one run and prints its full timeline.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::{Exit, Home, Stop, closed, select};
use crate::{
    check::Verdict,
    explore::{RUN_MAX, RunOutcome, RunRequest, Scratch, run},
    history::{self, History},
    report::{self, Layout, Palette, RunSummary, terminal, text::wrap},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The scenario file, or its name.
    file: PathBuf,
    /// The seed of the run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Show only what happened on these hosts.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Write the history to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// Runs the scenario, then prints the timeline, the verdict and the hash.
pub(super) fn replay(arguments: &Arguments, home: &Home, layout: Layout) -> Result<Exit, Stop> {
    let scenarios = select::scenarios(home, std::slice::from_ref(&arguments.file), layout)?;
    let [scenario] = &scenarios[..] else {
        let message = format!("error: {} is not one scenario file: replay takes one", arguments.file.display());
        return Err(Stop::With(Exit::Usage, message));
    };
    let broken = |error: String| Stop::With(Exit::Internal, format!("error: {error}"));
    let scratch = Scratch::new().map_err(|error| broken(error.to_string()))?;
    let kept = arguments.history.clone().unwrap_or_else(|| scratch.path());
    let request = RunRequest {
        history: Some(kept.clone()),
        colour: layout.palette == Palette::Ansi,
        columns: layout.columns(),
        reproduce: home.reproduce(&scenario.path),
        ..RunRequest::new(scenario.path.clone(), select::text(scenario).to_string(), arguments.seed)
    };
    let (summary, screen) = match run(&request, RUN_MAX).map_err(|error| broken(error.to_string()))? {
        RunOutcome::Judged { summary, screen, .. } => (summary, screen),
        RunOutcome::Failed { error } => {
            // Show what happened until then, if anything did.
            if let Ok(history) = history::read(&kept).map(|history| of_hosts(history, &arguments.host)) {
                let timeline = report::timeline(&history, layout);
                writeln!(io::stdout(), "{}\n", timeline.trim_end()).or_else(closed)?;
            }
            return Err(broken(error));
        }
    };
    let history = history::read(&kept).map_err(|error| broken(error.to_string()))?;
    let history = of_hosts(history, &arguments.host);
    show(&history, &summary, &screen, layout).or_else(closed)?;
    Ok(match summary.judgement.verdict {
        Verdict::Holds => Exit::Holds,
        Verdict::Violated => Exit::Violated,
        Verdict::Inconclusive => Exit::Inconclusive,
    })
}

/// Keeps the events of these hosts, or of all hosts if none is named.
fn of_hosts(mut history: History, hosts: &[String]) -> History {
    history.events.retain(|event| hosts.is_empty() || hosts.iter().any(|host| **host == *event.host));
    history
}

fn show(history: &History, summary: &RunSummary, screen: &str, layout: Layout) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", report::timeline(history, layout).trim_end())?;
    writeln!(out, "\n{}", terminal::heading(layout).trim_end())?;
    writeln!(out, "{}", terminal::row(summary, layout).trim_end())?;
    if !screen.is_empty() {
        writeln!(out, "\n{}", screen.trim_end())?;
    }
    if let Some(connections) = terminal::connections(&summary.judgement) {
        writeln!(out, "{}", wrap(&connections, layout.columns()).join("\n"))?;
    }
    writeln!(out, "seed {} · hash {}", summary.seed, summary.hash)
}
