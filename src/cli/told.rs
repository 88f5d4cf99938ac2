//! The texts with which both `run` and `explore` report their runs.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use gapless_world::mark::{Mark, Table};

use super::words::{counted, short};
use crate::{
    check::Verdict,
    explore::Task,
    marks::{self, Reached, Sum},
    report::{Layout, RunSummary, terminal, text::wrap},
};

/// Returns the word for this verdict in the totals.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "hold",
        Verdict::Violated => "violated",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Returns the words for this verdict where several runs are reported together.
pub(super) fn told_as(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "hold",
        Verdict::Violated => "are violated",
        Verdict::Inconclusive => "are inconclusive",
    }
}

/// Returns the name of a scenario, which is that of its file.
pub(super) fn name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// Returns what is run, and the heading of the rows.
pub(super) fn heading(what: &str, layout: Layout) -> String {
    let what = format!("gapless {} · {what}", env!("CARGO_PKG_VERSION"));
    format!("{}\n{}", wrap(&what, layout.columns()).join("\n"), terminal::heading(layout).trim_end())
}

/// Returns a run that did not come to an end, for programs.
pub(super) fn failed(task: &Task, error: &str) -> serde_json::Value {
    serde_json::json!({
        "scenario": name(&task.request.path),
        "file": task.request.path.display().to_string(),
        "seed": task.request.seed,
        "error": error,
    })
}

/// Returns a run that was judged, for programs, with the marks that it reached if they are wanted.
pub(super) fn json(summary: &RunSummary, marks: Option<&Reached>) -> io::Result<serde_json::Value> {
    let mut line = serde_json::to_value(summary)?;
    if let (Some(marks), Some(line)) = (marks, line.as_object_mut()) {
        line.insert("marks".to_owned(), serde_json::to_value(marks)?);
    }
    Ok(line)
}

/// Returns the command that repeats a run.
pub(super) fn again(task: &Task) -> String {
    format!("again: {}", task.request.reproduce.replace("{seed}", &task.request.seed.to_string()))
}

/// Indents text that stands below a row.
pub(super) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("                {line}")).collect::<Vec<_>>().join("\n")
}

/// Returns the line about runs that had a cause in common.
pub(super) fn cause(cause: &str, layout: Layout) -> String {
    format!("  {}", wrap(&format!("… {cause}"), layout.columns() - 4).join("\n    "))
}

/// How many of the marks that the fewest runs reached are named in the totals.
const RAREST: usize = 5;

/// Returns a summary of the rare situations: how many the runs reached, the rarest of these, and those that no run
/// reached.
pub(super) fn marks(sum: &Sum, layout: Layout) -> String {
    let (all, reached) = (sum.all().count(), sum.count());
    let mut text = format!("{reached} of {all} reached");
    let rarest: Vec<String> = sum.rarest(RAREST).iter().map(|(mark, runs)| format!("{} {runs}", mark.name)).collect();
    if !rarest.is_empty() {
        text.push_str(&format!("; in the fewest runs: {}", rarest.join(", ")));
    }
    let never: Vec<&str> = sum.never().map(|mark| mark.name).collect();
    let part = |label: &str, text: &str| {
        let lines = wrap(text, layout.columns() - LABEL);
        format!("  {label:<9}{}", lines.join(&format!("\n{:LABEL$}", "")))
    };
    let marks = part("marks", &text);
    if never.is_empty() { marks } else { format!("{marks}\n{}", part("never", &never.join(", "))) }
}

/// The columns before the text about marks in the totals.
const LABEL: usize = 11;

/// Returns every mark with its meaning, by room. The marks of the log come before those of the harness.
pub(super) fn all_marks(of_log: &[&Table], layout: Layout) -> String {
    let mut lines = Vec::new();
    let mut room = "";
    for Mark { room: of, name, meaning } in marks::all(of_log) {
        if room != *of {
            room = of;
            lines.push(format!("{}{room}", if lines.is_empty() { "" } else { "\n" }));
        }
        let told = wrap(meaning, layout.columns() - 6).join("\n      ");
        lines.push(format!("  {name}\n      {told}"));
    }
    lines.join("\n")
}

/// Returns the totals of all runs.
pub(super) fn sum(runs: usize, begun: Instant, simulated: Duration, parts: &[String]) -> String {
    let (runs, took) = (counted(runs, "run"), short(begun.elapsed()));
    format!("{runs} in {took}, {} simulated: {}", short(simulated), parts.join(", "))
}
