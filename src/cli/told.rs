//! What `run` and `explore` tell of their runs in the same words.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::words::{counted, short};
use crate::{
    check::Verdict,
    explore::Task,
    report::{Layout, terminal, text::wrap},
};

/// How many runs had this verdict, in the sum.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "hold",
        Verdict::Violated => "violated",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// How a run of this verdict is told together with others.
pub(super) fn told_as(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "hold",
        Verdict::Violated => "are violated",
        Verdict::Inconclusive => "are inconclusive",
    }
}

/// The name of a scenario: that of its file.
pub(super) fn name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// What is run, and the heading of the rows.
pub(super) fn heading(what: &str, layout: Layout) -> String {
    let what = format!("gapless {} · {what}", env!("CARGO_PKG_VERSION"));
    format!("{}\n{}", wrap(&what, layout.columns()).join("\n"), terminal::heading(layout).trim_end())
}

/// A run that came to no end, for programs.
pub(super) fn failed(task: &Task, error: &str) -> serde_json::Value {
    serde_json::json!({
        "scenario": name(&task.order.path),
        "file": task.order.path.display().to_string(),
        "seed": task.order.seed,
        "error": error,
    })
}

/// The command that makes a run again.
pub(super) fn again(task: &Task) -> String {
    format!("again: {}", task.order.reproduce.replace("{seed}", &task.order.seed.to_string()))
}

/// Text below a row.
pub(super) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("                {line}")).collect::<Vec<_>>().join("\n")
}

/// Runs that had a cause in common.
pub(super) fn cause(cause: &str, layout: Layout) -> String {
    format!("  {}", wrap(&format!("… {cause}"), layout.columns() - 4).join("\n    "))
}

/// The sum of all runs.
pub(super) fn sum(runs: usize, begun: Instant, simulated: Duration, parts: &[String]) -> String {
    let (runs, took) = (counted(runs, "run"), short(begun.elapsed()));
    format!("{runs} in {took}, {} simulated: {}", short(simulated), parts.join(", "))
}
