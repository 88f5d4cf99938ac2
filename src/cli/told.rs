//! What `run` and `explore` tell of their runs in the same words.

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

/// A run that was judged, for programs, with the marks that it came by where they are wanted.
pub(super) fn json(summary: &RunSummary, marks: Option<&Reached>) -> io::Result<serde_json::Value> {
    let mut line = serde_json::to_value(summary)?;
    if let (Some(marks), Some(line)) = (marks, line.as_object_mut()) {
        line.insert("marks".to_owned(), serde_json::to_value(marks)?);
    }
    Ok(line)
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

/// So many of the marks that the fewest runs reached are named in the sum.
const RAREST: usize = 5;

/// The rare situations that runs came by: how many of them, the rarest, and those that no run reached.
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

/// Columns before what a sum says of marks.
const LABEL: usize = 11;

/// Every mark with what it means, by room; those of the log before those of the harness.
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

/// The sum of all runs.
pub(super) fn sum(runs: usize, begun: Instant, simulated: Duration, parts: &[String]) -> String {
    let (runs, took) = (counted(runs, "run"), short(begun.elapsed()));
    format!("{runs} in {took}, {} simulated: {}", short(simulated), parts.join(", "))
}
