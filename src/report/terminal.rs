//! The terminal: the table of a `run`, and the screen of one run.
//!
//! Nothing is wider than its [`Layout`], and a screen has at most [`LINES_MAX`] lines: what happened, where, when, why,
//! what else held, what stayed unknown, and the line that reproduces it. Nothing is shown by colour alone.

use std::{fmt::Write as _, time::Duration};

pub use super::COLUMNS_MAX;
use super::{
    Hints, Layout, Palette, RunSummary,
    text::{cut, fold, limited, wrap},
    timeline::of_events,
};
use crate::{
    check::{self, Finding, Judgement, Unmet, Verdict, Violation, words},
    history::{History, Invariant},
};

/// The most lines of a screen.
pub const LINES_MAX: usize = 44;
/// The columns of a line that are kept for its exit status.
const EXIT_WIDTH: usize = 12;
/// The column where the scenario begins, and everything below it.
const NAME_COLUMN: usize = 16;
/// The widest and the narrowest name.
const NAME_WIDTH: usize = 26;
const NAME_WIDTH_MIN: usize = 18;
/// The most lines of a cause, which quotes the error of a process that could not start.
const WHY_LINES_MAX: usize = 6;
/// The most reasons shown below one row.
const REASONS_MAX: usize = 4;

// ---- the table of a run ----

/// The figures of a row, each with the width of its column, in the order in which they are shown.
const SIMULATED: (&str, usize) = ("SIMULATED", 11);
const WALL: (&str, usize) = ("WALL", 7);
const ACKED: (&str, usize) = ("ACKED", 8);
const FAULTS_BIT: (&str, usize) = ("  FAULTS BIT", 12);
const LONGEST_BLIND: (&str, usize) = ("  LONGEST BLIND", 19);

/// The figures for which a row has room, and the width of its name.
struct Columns {
    name: usize,
    figures: Vec<(&'static str, usize)>,
}

impl Columns {
    fn of(layout: Layout) -> Columns {
        let mut room = layout.columns().saturating_sub(NAME_COLUMN + NAME_WIDTH_MIN);
        // The most informative figures are kept first; they are shown in their usual order.
        let mut kept = Vec::new();
        for figure in [FAULTS_BIT, LONGEST_BLIND, ACKED, SIMULATED, WALL] {
            if figure.1 <= room {
                room -= figure.1;
                kept.push(figure);
            }
        }
        let all = [SIMULATED, WALL, ACKED, FAULTS_BIT, LONGEST_BLIND];
        let figures = all.into_iter().filter(|figure| kept.contains(figure)).collect();
        Columns { name: NAME_WIDTH.min(NAME_WIDTH_MIN + room), figures }
    }
}

/// Returns the heading of the table.
pub fn heading(layout: impl Into<Layout>) -> String {
    let layout = layout.into();
    let columns = Columns::of(layout);
    let mut text =
        format!("  {:<width$}{:<name$}", "VERDICT", "SCENARIO", width = NAME_COLUMN - 2, name = columns.name);
    for (title, width) in columns.figures {
        let _ = if title.starts_with(' ') { write!(text, "{title:<width$}") } else { write!(text, "{title:>width$}") };
    }
    layout.palette.faint(text.trim_end()) + "\n"
}

/// Returns the row of one run, with its reasons below it if it does not hold.
pub fn row(run: &RunSummary, layout: impl Into<Layout>) -> String {
    let layout = layout.into();
    let reasons = reasons(&run.judgement);
    let mut text = figures(run, layout);
    let width = layout.columns() - NAME_COLUMN - 2;
    for reason in reasons.iter().take(REASONS_MAX) {
        for (n, line) in wrap(&reason.text, width).into_iter().take(lines_for(3, layout)).enumerate() {
            let _ = writeln!(text, "{:NAME_COLUMN$}{} {line}", "", if n == 0 { "└" } else { " " });
        }
        for line in reason.cure(width, lines_for(2, layout)) {
            let _ = writeln!(text, "{:NAME_COLUMN$}  {line}", "");
        }
    }
    if reasons.len() > REASONS_MAX {
        let _ = writeln!(text, "{:NAME_COLUMN$}  … and {} more", "", reasons.len() - REASONS_MAX);
    }
    text
}

fn figures(run: &RunSummary, layout: Layout) -> String {
    let (facts, columns) = (&run.judgement.facts, Columns::of(layout));
    let blind = match &facts.longest_blind {
        Some((longest, client)) => format!("{:>7}  {client}", words::span(*longest)),
        None => format!("{:>7}", "-"),
    };
    let (bitten, steps) = facts.faults_bit;
    let mut text = format!("{:<name$}", cut(&run.scenario, columns.name), name = columns.name);
    for figure in columns.figures {
        let width = figure.1;
        let _ = match figure {
            SIMULATED => write!(text, "{:>width$}", words::span(run.simulated)),
            WALL => write!(text, "{:>width$}", run.wall.map_or("-".to_owned(), words::span)),
            ACKED => write!(text, "{:>width$}", words::number(facts.acked)),
            FAULTS_BIT => write!(text, "  {:<rest$}", format!("{bitten} of {steps}"), rest = width - 2),
            _ => write!(text, "{blind}"),
        };
    }
    let verdict = verdict_cell(run.judgement.verdict, layout.palette);
    format!("  {verdict}  {}\n", cut(text.trim_end(), layout.columns() - NAME_COLUMN))
}

/// Returns the row of a run that did not come to an end, with its whole error.
pub fn failed(scenario: &str, seed: u64, error: &str, layout: impl Into<Layout>) -> String {
    let layout = layout.into();
    let width = layout.columns() - NAME_COLUMN;
    let mut text = format!("  {}\n", cut(&format!("{:<14}{scenario} seed {seed}", "FAILED"), layout.columns() - 2));
    for line in error.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').take(width / 4).collect();
        for line in fold(line, width - indent.len()) {
            let _ = writeln!(text, "{:NAME_COLUMN$}{indent}{line}", "");
        }
    }
    text
}

/// Returns how many lines are needed for what fits into `lines` at the widest.
fn lines_for(lines: usize, layout: Layout) -> usize {
    // Part of each line is indentation, which stays as wide as it is.
    (lines * (COLUMNS_MAX - NAME_COLUMN)).div_ceil(layout.columns() - NAME_COLUMN)
}

fn verdict_cell(verdict: Verdict, palette: Palette) -> String {
    palette.verdict(verdict, &format!("{:<12}", verdict_word(verdict)))
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Violated => "VIOLATED",
    }
}

/// Why a run does not hold.
struct Reason {
    /// The reason, as a sentence.
    text: String,
    /// What to do about it.
    cure: Option<String>,
}

impl Reason {
    /// Returns lines that say what to do. The part behind a dot is there to be pasted, so it is not broken.
    fn cure(&self, width: usize, most: usize) -> Vec<String> {
        let Some(cure) = &self.cure else { return Vec::new() };
        let whole = format!("cure: {cure}");
        match whole.rsplit_once(" · ") {
            Some((cure, command)) if whole.chars().count() > width => {
                limited(wrap(cure, width), most, width).into_iter().chain([cut(command, width)]).collect()
            }
            _ => limited(wrap(&whole, width), most, width),
        }
    }
}

/// Returns why a run does not hold: what was broken, else what was not shown.
fn reasons(judgement: &Judgement) -> Vec<Reason> {
    let headline = judgement.headline().map(|it| it.0);
    let mut violated: Vec<(Invariant, &[Violation])> = judgement.violated().collect();
    violated.sort_by_key(|(invariant, _)| Some(*invariant) != headline);
    let violated = violated.into_iter().map(|(invariant, violations)| {
        let others = violations.len() as u64 - 1;
        let more = if others > 0 {
            format!(" (and in {})", words::count(others, "other way", "other ways"))
        } else {
            String::new()
        };
        Reason { text: format!("{invariant}: {}{more}", violations[0].summary), cure: None }
    });
    let unmet = |it: &Unmet| Reason { text: unmet_line(it), cure: it.cure.clone() };
    let contradicted = judgement.unmet.iter().filter(|it| it.contradicted).map(unmet);
    let broken: Vec<Reason> = violated.chain(contradicted).collect();
    if judgement.verdict == Verdict::Violated {
        return broken;
    }
    let unseen = judgement.unmet.iter().filter(|it| !it.contradicted).map(unmet);
    let idle = judgement.findings.iter().filter_map(|(invariant, finding)| match finding {
        Finding::Idle { why } if !check::arises_only_under_faults(*invariant) => {
            Some(Reason { text: format!("{invariant} was not exercised: {why}"), cure: None })
        }
        _ => None,
    });
    broken.into_iter().chain(unseen).chain(idle).chain(judgement.remarks.iter().map(unmet)).collect()
}

fn unmet_line(unmet: &Unmet) -> String {
    match unmet.line {
        Some(line) => format!("{} (line {line})", unmet.text),
        None => unmet.text.clone(),
    }
}

/// Returns a sentence with the exit status at the right end of its line.
pub fn with_exit(text: &str, exit: u8, layout: impl Into<Layout>) -> String {
    let columns = layout.into().columns();
    let exit = format!("exit {exit}");
    let mut lines = wrap(text, columns);
    let last = lines.pop().unwrap_or_default();
    let room = columns.saturating_sub(EXIT_WIDTH);
    match last.chars().count() <= room {
        true => lines.push(format!("{last:<room$}{exit}")),
        // The exit status gets a line of its own.
        false => lines.extend([last, format!("{:room$}{exit}", "")]),
    }
    lines.join("\n")
}

/// Returns the line below the table. `wall` is the real time for all runs together, if it was measured.
pub fn footer(runs: &[RunSummary], wall: Option<Duration>, exit: u8, layout: impl Into<Layout>) -> String {
    let simulated = runs.iter().fold(Duration::ZERO, |sum, run| sum.saturating_add(run.simulated));
    let total = |verdict| runs.iter().filter(|run| run.judgement.verdict == verdict).count();
    let parts: Vec<String> = [
        (total(Verdict::Holds), if total(Verdict::Holds) == 1 { "holds" } else { "hold" }),
        (total(Verdict::Violated), "violated"),
        (total(Verdict::Inconclusive), "inconclusive"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let wall = wall.map(|wall| format!(" in {}", words::span(wall))).unwrap_or_default();
    let runs = words::count(runs.len() as u64, "run", "runs");
    let left = format!("{runs}{wall}, {} simulated: {}", words::span(simulated), parts.join(", "));
    with_exit(&left, exit, layout) + "\n"
}

/// Returns the whole table. Runs that hold are counted, not listed, beyond the first `holds_shown`.
pub fn table(
    runs: &[RunSummary],
    holds_shown: usize,
    wall: Option<Duration>,
    exit: u8,
    layout: impl Into<Layout>,
) -> String {
    let layout = layout.into();
    let mut text = heading(layout);
    let mut hold = 0;
    for run in runs {
        hold += usize::from(run.judgement.verdict == Verdict::Holds);
        if run.judgement.verdict != Verdict::Holds || hold <= holds_shown {
            text.push_str(&row(run, layout));
        }
    }
    if hold > holds_shown {
        let _ = writeln!(text, "  … {} more hold (-v lists them)", hold - holds_shown);
    }
    text + &footer(runs, wall, exit, layout)
}

// ---- the screen of one run ----

/// Shows everything about one run on one screen; the first violation is shown in full.
pub fn screen(run: &RunSummary, history: &History, hints: &Hints, layout: impl Into<Layout>) -> String {
    let layout = layout.into();
    let judgement = &run.judgement;
    let first = judgement.headline();
    let mut text = headline(run, first.map(|it| it.0), layout);
    match first {
        Some((_, violation)) => tell(&mut text, violation, history, layout),
        None => {
            let unmet = judgement.unmet.iter().find(|it| it.contradicted);
            for reason in reasons(judgement).iter().take(6) {
                paragraph(&mut text, "  ", &reason.text, 2, layout);
                for line in reason.cure(layout.columns() - 4, lines_for(2, layout)) {
                    let _ = writeln!(text, "    {line}");
                }
            }
            text.push_str(&of_events(history, unmet.map_or(&[], |it| &it.events), layout));
        }
    }
    sections(&mut text, run, first.map(|it| it.0), hints, layout);
    text
}

fn headline(run: &RunSummary, invariant: Option<Invariant>, layout: Layout) -> String {
    let what = invariant.map(|invariant| format!("{invariant}    ")).unwrap_or_default();
    let verdict = verdict_word(run.judgement.verdict);
    let (whole, palette) = (format!("{}    seed {}", run.file, run.seed), layout.palette);
    let room = layout.columns().saturating_sub(verdict.len() + 2 + what.len());
    let verdict = palette.verdict(run.judgement.verdict, verdict);
    // Readers look for the file and the seed: both get a line if there is no room beside the verdict.
    if whole.chars().count() <= room || layout.columns() == COLUMNS_MAX {
        return format!("{verdict}  {}{}\n", palette.strong(&what), cut(&whole, room));
    }
    format!("{verdict}  {}\n  {}\n", palette.strong(what.trim_end()), cut(&whole, layout.columns() - 2))
}

fn tell(text: &mut String, violation: &Violation, history: &History, layout: Layout) {
    paragraph(text, "  ", &violation.summary, 4, layout);
    text.push_str(&of_events(history, &violation.events, layout));
    if let Some(why) = &violation.why {
        section(text, "why", why, WHY_LINES_MAX, layout);
    }
}

/// Returns what else there is to say, each part under its word.
fn sections(text: &mut String, run: &RunSummary, told: Option<Invariant>, hints: &Hints, layout: Layout) {
    let judgement = &run.judgement;
    let mut holds: Vec<String> = Vec::new();
    let (mut idle, mut declined) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
    for (invariant, finding) in &judgement.findings {
        match finding {
            Finding::Holds { .. } if *invariant == Invariant::Recovers => holds.push(recovers(judgement)),
            Finding::Holds { .. } => holds.push(invariant.to_string()),
            Finding::Idle { why } => idle.push(format!("{invariant}: {why}")),
            // Several invariants may be declined for one reason, which is then shown once.
            Finding::Declined { why } => match declined.iter_mut().find(|(known, _)| known == why) {
                Some((_, promises)) => promises.push(invariant.name()),
                None => declined.push((why, vec![invariant.name()])),
            },
            Finding::Violated(_) => {}
        }
    }
    let declined: Vec<String> =
        declined.into_iter().map(|(why, promises)| format!("{}: {why}", promises.join(", "))).collect();
    let also =
        judgement.violated().filter(|(invariant, _)| Some(*invariant) != told).map(|(invariant, _)| invariant.name());
    let also: Vec<&str> = also.collect();
    section(text, "also", &prefixed("violated: ", &also.join(", ")), 2, layout);
    section(text, "holds", &holds.join(", "), 3, layout);
    section(text, "unknown", &unknown(judgement), 2, layout);
    section(text, "connects", &connections(judgement).unwrap_or_default(), 1, layout);
    // An inconclusive run has already named all of this above, as it has contradicted expectations if no violation was
    // shown.
    if judgement.verdict == Verdict::Violated {
        let unmet = judgement.unmet.iter().filter(|it| told.is_some() || !it.contradicted);
        section(text, "unmet", &unmet.map(unmet_line).collect::<Vec<_>>().join(" · "), 2, layout);
        section(text, "idle", &idle.join(" · "), 4, layout);
    }
    section(text, "not judged", &declined.join(" · "), 3, layout);
    for (word, hint) in [("reproduce", &hints.reproduce), ("shrink", &hints.shrink), ("report", &hints.report)] {
        if let Some(hint) = hint {
            // This is never wrapped or cut: it is there to be pasted.
            let _ = writeln!(text, "  {} {hint}", layout.palette.faint(&format!("{word:<10}")));
        }
    }
}

fn recovers(judgement: &Judgement) -> String {
    let after = judgement.facts.recovered_after.map(|after| format!(" ({})", words::span(after)));
    format!("recovers{}", after.unwrap_or_default())
}

fn unknown(judgement: &Judgement) -> String {
    let unknown = &judgement.facts.unknown;
    if unknown.total == 0 {
        return String::new();
    }
    format!(
        "{} had no answer: {} in the log, {} never appeared; both are allowed",
        words::count(unknown.total, "append", "appends"),
        words::number(unknown.found),
        words::number(unknown.never),
    )
}

/// Describes what the busiest host did.
pub fn connections(judgement: &Judgement) -> Option<String> {
    let (count, host) = judgement.facts.most_connections.as_ref()?;
    Some(format!("{} opened at most {} in one second", host, words::count(*count, "connection", "connections")))
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// Writes a section with its word in front; nothing if the section is empty.
fn section(text: &mut String, word: &str, body: &str, lines_max: usize, layout: Layout) {
    const INDENT: usize = 13;
    if body.is_empty() {
        return;
    }
    let width = layout.columns() - INDENT;
    for (n, line) in limited(wrap(body, width), lines_for(lines_max, layout), width).into_iter().enumerate() {
        let word = if n == 0 { word } else { "" };
        let _ = writeln!(text, "  {} {line}", layout.palette.faint(&format!("{word:<10}")));
    }
}

fn paragraph(text: &mut String, indent: &str, body: &str, lines_max: usize, layout: Layout) {
    let width = layout.columns() - indent.len();
    for line in limited(wrap(body, width), lines_for(lines_max, layout), width) {
        let _ = writeln!(text, "{indent}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Untouched, testing::Story},
        history::{DiskOp, Down, StepEvent, What},
        report::timeline::timeline,
    };

    fn run(story: &Story, scenario: &str) -> RunSummary {
        let judgement = story.judge();
        RunSummary {
            scenario: scenario.to_owned(),
            file: format!("scenarios/{scenario}.toml"),
            seed: 7,
            simulated: judgement.facts.simulated,
            judgement,
            wall: Some(Duration::from_millis(1_430)),
            hash: "00ff".to_owned(),
        }
    }

    fn hints() -> Hints {
        Hints { reproduce: Some("gapless replay scenarios/x.toml --seed 7".to_owned()), ..Hints::default() }
    }

    fn healthy() -> Story {
        let mut story = Story::healthy();
        story.history.header.promises.kept.retain(|invariant| *invariant != Invariant::Authentic);
        story.history.header.promises.declined.push((Invariant::Authentic, "events are not signed yet".to_owned()));
        story
    }

    /// A batch was answered before it was synced, and then the power went.
    fn violated() -> Story {
        let mut story = Story::new();
        let step = |event| What::Step { step: "power-loss".into(), event };
        let sync = What::Disk { op: DiskOp::Sync, path: "log/00".to_owned(), bytes: 310, error: None };
        story.at(41_190).says("server-1", sync);
        for number in 417..420 {
            story.at(41_198).submits("client-2", number);
        }
        for number in 417..420 {
            story.at(41_207).acked("client-2", number, None);
        }
        story.at(41_208).says("harness", step(StepEvent::Begins { hosts: vec!["server-1".into()] }));
        story.says("server-1", What::Down { how: Down::PowerLoss });
        story.says("server-1", What::Lost { path: "log/00".to_owned(), bytes: 3_120, torn: 0 });
        story.at(49_208).says("server-1", What::Up { life: 2 });
        story.says("harness", step(StepEvent::Ended { evidence: Some("3 120 bytes lost".to_owned()) }));
        story.says("harness", What::Healed {}).at(49_655).submits("client-2", 420).submits("client-2", 421);
        story.at(49_700).acked("client-2", 420, None).unknown("client-2", 421);
        story.at(90_000).says("harness", What::Settled { quiet: true });
        let found = [story.find(0, "client-2", 420)];
        story.reads_everywhere(&found);
        story
    }

    fn inconclusive() -> Story {
        let mut story = healthy();
        let step = |event| What::Step { step: "clock-jump".into(), event };
        story.at(100_001).says("harness", step(StepEvent::Begins { hosts: vec!["server-3".into()] }));
        story.at(100_002).says("harness", step(StepEvent::Ended { evidence: None }));
        let fault = crate::fault::find("clock-jump").expect("in the catalogue");
        let (action, what, cure) = (fault.name.to_owned(), fault.untouched.to_owned(), fault.cure.to_owned());
        story.catalogue.insert("clock-jump".into(), Untouched { action, what, cure, line: 18, may_end: true });
        story
    }

    fn fits(text: &str) {
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{text}");
        assert!(text.lines().count() <= LINES_MAX, "{text}");
    }

    #[test]
    fn the_table_of_a_run() {
        let runs = [
            run(&healthy(), "three-fourteen"),
            run(&inconclusive(), "clock-jump-on-a-follower-with-a-long-name"),
            run(&violated(), "power-loss-in-a-batch"),
            run(&healthy(), "renewal-cut-off"),
        ];
        let table = table(&runs, 1, Some(Duration::from_millis(19_600)), 100, Palette::Plain);
        fits(&table);
        insta::assert_snapshot!(table);
    }

    #[test]
    fn table_screen_and_timeline_fit_the_columns_that_there_are() {
        let (story, other) = (violated(), inconclusive());
        let runs = [run(&story, "power-loss-in-a-batch"), run(&other, "clock-jump-on-a-follower-with-a-long-name")];
        for columns in [40, 60, 80] {
            let layout = Layout::new(Palette::Plain, columns);
            let table = table(&runs, 0, Some(Duration::from_millis(19_600)), 100, layout);
            let screen = screen(&runs[0], &story.history, &Hints::default(), layout);
            let timeline = timeline(&story.history, layout);
            for line in table.lines().chain(screen.lines()).chain(timeline.lines()) {
                // A command to be pasted is never broken, only cut.
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
            if columns == 60 {
                insta::assert_snapshot!(format!("{table}\n{screen}"));
            }
        }
    }

    #[test]
    fn a_run_that_failed_says_why_to_the_last_word() {
        let error = "the run did not end within 300s of real time: server-1 never yields, at 41.2s of simulated time\n   \
                     0: acme::flusher::spin at /src/acme/a/rather/deep/folder/of/sources/flusher.rs:117\n\
                     cure: await something in that loop";
        let told = failed("a-scenario-with-a-name-that-is-long", 12, error, Layout::new(Palette::Plain, 60));
        assert!(told.lines().all(|line| line.chars().count() <= 60), "{told}");
        insta::assert_snapshot!(told);
    }

    #[test]
    fn the_screen_of_a_run_that_holds() {
        let story = healthy();
        let screen = screen(&run(&story, "three-fourteen"), &story.history, &hints(), Palette::Plain);
        fits(&screen);
        insta::assert_snapshot!(screen);
    }

    #[test]
    fn the_screen_of_a_violation() {
        let story = violated();
        let screen = screen(&run(&story, "power-loss-in-a-batch"), &story.history, &hints(), Palette::Plain);
        fits(&screen);
        insta::assert_snapshot!(screen);
    }

    #[test]
    fn the_screen_of_an_inconclusive_run() {
        let story = inconclusive();
        let screen = screen(&run(&story, "clock-jump"), &story.history, &hints(), Palette::Plain);
        fits(&screen);
        insta::assert_snapshot!(screen);
    }

    #[test]
    fn the_timeline_of_a_replay() {
        insta::assert_snapshot!(timeline(&violated().history, Palette::Plain));
    }

    #[test]
    fn colours_change_no_word() {
        let story = violated();
        let run = run(&story, "power-loss-in-a-batch");
        let painted = screen(&run, &story.history, &hints(), Palette::Ansi) + &row(&run, Palette::Ansi);
        let mut plain = String::new();
        let mut rest = painted.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = after.split_once('m').expect("an escape ends").1;
        }
        plain.push_str(rest);
        assert_eq!(plain, screen(&run, &story.history, &hints(), Palette::Plain) + &row(&run, Palette::Plain));
    }

    #[test]
    fn a_summary_crosses_a_process_boundary_as_json() {
        let run = run(&violated(), "power-loss-in-a-batch");
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<RunSummary>(&text).unwrap(), run);
    }
}
