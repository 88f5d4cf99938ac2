//! The terminal: the table of a `run`, and the screen of one run.
//!
//! At most [`COLUMNS_MAX`] columns, and a screen of at most [`LINES_MAX`] lines: what, where, when, why, what else
//! held, what stayed unknown, and the line that reproduces it. Nothing is shown by colour alone.

use std::{fmt::Write as _, time::Duration};

use super::{
    Hints, Palette, RunSummary,
    text::{cut, limited, wrap},
    timeline::of_events,
};
use crate::{
    check::{self, Finding, Judgement, Unmet, Verdict, Violation, words},
    history::{History, Promise},
};

/// Widest line.
pub const COLUMNS_MAX: usize = 100;
/// Longest screen.
pub const LINES_MAX: usize = 44;
/// Where the scenario's column begins, and what stands below it.
const NAME_COLUMN: usize = 16;
const NAME_WIDTH: usize = 26;
/// Lines of a cause: it quotes the error of a process that could not start.
const WHY_LINES_MAX: usize = 6;
/// Reasons shown below one row.
const REASONS_MAX: usize = 4;

// ---- the table of a run ----

/// The table's heading.
pub fn heading(palette: Palette) -> String {
    let text = "  VERDICT       SCENARIO                    SIMULATED   WALL   ACKED  FAULTS BIT  LONGEST BLIND";
    palette.faint(text) + "\n"
}

/// One run's row, with its reasons below it where it does not hold.
pub fn row(run: &RunSummary, palette: Palette) -> String {
    let facts = &run.judgement.facts;
    let verdict = run.judgement.verdict;
    let blind = match &facts.longest_blind {
        Some((longest, client)) => format!("{:>8}  {client}", words::span(*longest)),
        None => format!("{:>8}", "-"),
    };
    let (bit, steps) = facts.faults_bit;
    let figures = format!(
        " {:<NAME_WIDTH$} {:>10} {:>6} {:>7}  {:<8} {blind}",
        cut(&run.scenario, NAME_WIDTH),
        words::span(run.simulated),
        run.wall.map_or("-".to_owned(), words::span),
        words::number(facts.acked),
        format!("{bit} of {steps}"),
    );
    let width = COLUMNS_MAX - (NAME_COLUMN - 1);
    let mut text = format!("  {} {}\n", verdict_cell(verdict, palette), cut(figures.trim_end(), width));
    let reasons = reasons(&run.judgement);
    for reason in reasons.iter().take(REASONS_MAX) {
        for (n, line) in wrap(&reason.text, COLUMNS_MAX - NAME_COLUMN - 2).into_iter().take(3).enumerate() {
            let _ = writeln!(text, "{:NAME_COLUMN$}{} {line}", "", if n == 0 { "└" } else { " " });
        }
        for line in reason.cure(COLUMNS_MAX - NAME_COLUMN - 2) {
            let _ = writeln!(text, "{:NAME_COLUMN$}  {line}", "");
        }
    }
    if reasons.len() > REASONS_MAX {
        let _ = writeln!(text, "{:NAME_COLUMN$}  … and {} more", "", reasons.len() - REASONS_MAX);
    }
    text
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
    /// A sentence.
    text: String,
    /// What to do about it.
    cure: Option<String>,
}

impl Reason {
    /// Lines that say what to do. What stands behind a dot is there to be pasted, so it is not broken.
    fn cure(&self, width: usize) -> Vec<String> {
        let Some(cure) = &self.cure else { return Vec::new() };
        let whole = format!("cure: {cure}");
        match whole.rsplit_once(" · ") {
            Some((cure, command)) if whole.chars().count() > width => {
                limited(wrap(cure, width), 2).into_iter().chain([cut(command, width)]).collect()
            }
            _ => limited(wrap(&whole, width), 2),
        }
    }
}

/// Why a run does not hold: what was broken, else what was not shown.
fn reasons(judgement: &Judgement) -> Vec<Reason> {
    let headline = judgement.headline().map(|it| it.0);
    let mut violated: Vec<(Promise, &[Violation])> = judgement.violated().collect();
    violated.sort_by_key(|(promise, _)| Some(*promise) != headline);
    let violated = violated.into_iter().map(|(promise, violations)| {
        let others = violations.len() as u64 - 1;
        let more = if others > 0 {
            format!(" (and in {})", words::count(others, "other way", "other ways"))
        } else {
            String::new()
        };
        Reason { text: format!("{promise}: {}{more}", violations[0].summary), cure: None }
    });
    let unmet = |it: &Unmet| Reason { text: unmet_line(it), cure: it.cure.clone() };
    let contradicted = judgement.unmet.iter().filter(|it| it.contradicted).map(unmet);
    let broken: Vec<Reason> = violated.chain(contradicted).collect();
    if judgement.verdict == Verdict::Violated {
        return broken;
    }
    let unseen = judgement.unmet.iter().filter(|it| !it.contradicted).map(unmet);
    let idle = judgement.findings.iter().filter_map(|(promise, finding)| match finding {
        Finding::Idle { why } if !check::arises_only_under_faults(*promise) => {
            Some(Reason { text: format!("{promise} was not exercised: {why}"), cure: None })
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

/// The line below the table. `wall` is the time for all runs together, where somebody measured it.
pub fn footer(runs: &[RunSummary], wall: Option<Duration>, exit: u8) -> String {
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
    format!("{left:<87} exit {exit}\n")
}

/// The whole table. Runs that hold are counted, not listed, beyond the first `holds_shown`.
pub fn table(runs: &[RunSummary], holds_shown: usize, wall: Option<Duration>, exit: u8, palette: Palette) -> String {
    let mut text = heading(palette);
    let mut hold = 0;
    for run in runs {
        hold += usize::from(run.judgement.verdict == Verdict::Holds);
        if run.judgement.verdict != Verdict::Holds || hold <= holds_shown {
            text.push_str(&row(run, palette));
        }
    }
    if hold > holds_shown {
        let _ = writeln!(text, "  … {} more hold (-v lists them)", hold - holds_shown);
    }
    text + &footer(runs, wall, exit)
}

// ---- the screen of one run ----

/// All about one run on one screen; the first violation is told in full.
pub fn screen(run: &RunSummary, history: &History, hints: &Hints, palette: Palette) -> String {
    let judgement = &run.judgement;
    let first = judgement.headline();
    let mut text = headline(run, first.map(|it| it.0), palette);
    match first {
        Some((_, violation)) => tell(&mut text, violation, history, palette),
        None => {
            let unmet = judgement.unmet.iter().find(|it| it.contradicted);
            for reason in reasons(judgement).iter().take(6) {
                paragraph(&mut text, "  ", &reason.text, 2);
                for line in reason.cure(COLUMNS_MAX - 4) {
                    let _ = writeln!(text, "    {line}");
                }
            }
            text.push_str(&of_events(history, unmet.map_or(&[], |it| &it.events), palette));
        }
    }
    sections(&mut text, run, first.map(|it| it.0), hints, palette);
    text
}

fn headline(run: &RunSummary, promise: Option<Promise>, palette: Palette) -> String {
    let what = promise.map(|promise| format!("{promise}    ")).unwrap_or_default();
    let verdict = verdict_word(run.judgement.verdict);
    let room = COLUMNS_MAX - verdict.len() - 2 - what.len();
    let rest = cut(&format!("{}    seed {}", run.file, run.seed), room);
    let verdict = palette.verdict(run.judgement.verdict, verdict);
    format!("{verdict}  {}{rest}\n", palette.strong(&what))
}

fn tell(text: &mut String, violation: &Violation, history: &History, palette: Palette) {
    paragraph(text, "  ", &violation.summary, 4);
    text.push_str(&of_events(history, &violation.events, palette));
    if let Some(why) = &violation.why {
        section(text, "why", why, WHY_LINES_MAX, palette);
    }
}

/// What else is to be said, each under its word.
fn sections(text: &mut String, run: &RunSummary, told: Option<Promise>, hints: &Hints, palette: Palette) {
    let judgement = &run.judgement;
    let mut holds: Vec<String> = Vec::new();
    let (mut idle, mut declined) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
    for (promise, finding) in &judgement.findings {
        match finding {
            Finding::Holds { .. } if *promise == Promise::Recovers => holds.push(recovers(judgement)),
            Finding::Holds { .. } => holds.push(promise.to_string()),
            Finding::Idle { why } => idle.push(format!("{promise}: {why}")),
            // Several may be declined for one reason: it is said once.
            Finding::Declined { why } => match declined.iter_mut().find(|(known, _)| known == why) {
                Some((_, promises)) => promises.push(promise.name()),
                None => declined.push((why, vec![promise.name()])),
            },
            Finding::Violated(_) => {}
        }
    }
    let declined: Vec<String> =
        declined.into_iter().map(|(why, promises)| format!("{}: {why}", promises.join(", "))).collect();
    let also = judgement.violated().filter(|(promise, _)| Some(*promise) != told).map(|(promise, _)| promise.name());
    let also: Vec<&str> = also.collect();
    section(text, "also", &prefixed("violated: ", &also.join(", ")), 2, palette);
    section(text, "holds", &holds.join(", "), 3, palette);
    section(text, "unknown", &unknown(judgement), 2, palette);
    // An inconclusive run has named all this above already, and a contradicted expectation too if nothing else is told.
    if judgement.verdict == Verdict::Violated {
        let unmet = judgement.unmet.iter().filter(|it| told.is_some() || !it.contradicted);
        section(text, "unmet", &unmet.map(unmet_line).collect::<Vec<_>>().join(" · "), 2, palette);
        section(text, "idle", &idle.join(" · "), 4, palette);
    }
    section(text, "not judged", &declined.join(" · "), 3, palette);
    for (word, hint) in [("reproduce", &hints.reproduce), ("shrink", &hints.shrink), ("report", &hints.report)] {
        if let Some(hint) = hint {
            // Never wrapped or cut: it is there to be pasted.
            let _ = writeln!(text, "  {} {hint}", palette.faint(&format!("{word:<10}")));
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

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// A section with its word in front; nothing where it has nothing to say.
fn section(text: &mut String, word: &str, body: &str, lines_max: usize, palette: Palette) {
    const INDENT: usize = 13;
    if body.is_empty() {
        return;
    }
    for (n, line) in limited(wrap(body, COLUMNS_MAX - INDENT), lines_max).into_iter().enumerate() {
        let word = if n == 0 { word } else { "" };
        let _ = writeln!(text, "  {} {line}", palette.faint(&format!("{word:<10}")));
    }
}

fn paragraph(text: &mut String, indent: &str, body: &str, lines_max: usize) {
    for line in limited(wrap(body, COLUMNS_MAX - indent.len()), lines_max) {
        let _ = writeln!(text, "{indent}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Untouched, testing::Story},
        history::{DiskOp, Down, Moment, What},
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
        story.history.header.promises.kept.retain(|promise| *promise != Promise::Authentic);
        story.history.header.promises.declined.push((Promise::Authentic, "events are not signed yet".to_owned()));
        story
    }

    /// A batch was answered before it was synced, and then the power went.
    fn violated() -> Story {
        let mut story = Story::new();
        let step = |moment| What::Step { step: "power-loss".into(), moment };
        let sync = What::Disk { op: DiskOp::Sync, path: "log/00".to_owned(), bytes: 310, error: None };
        story.at(41_190).says("server-1", sync);
        for number in 417..420 {
            story.at(41_198).submits("client-2", number);
        }
        for number in 417..420 {
            story.at(41_207).acked("client-2", number, None);
        }
        story.at(41_208).says("harness", step(Moment::Begins { hosts: vec!["server-1".into()] }));
        story.says("server-1", What::Down { how: Down::PowerLoss });
        story.says("server-1", What::Lost { path: "log/00".to_owned(), bytes: 3_120, torn: 0 });
        story.at(49_208).says("server-1", What::Up { life: 2 });
        story.says("harness", step(Moment::Ended { evidence: Some("3 120 bytes lost".to_owned()) }));
        story.says("harness", What::Healed {}).at(49_655).submits("client-2", 420).submits("client-2", 421);
        story.at(49_700).acked("client-2", 420, None).unknown("client-2", 421);
        story.at(90_000).says("harness", What::Settled { quiet: true });
        let found = [story.find(0, "client-2", 420)];
        story.reads_everywhere(&found);
        story
    }

    fn inconclusive() -> Story {
        let mut story = healthy();
        let step = |moment| What::Step { step: "clock-jump".into(), moment };
        story.at(100_001).says("harness", step(Moment::Begins { hosts: vec!["server-3".into()] }));
        story.at(100_002).says("harness", step(Moment::Ended { evidence: None }));
        let fault = crate::fault::find("clock-jump").expect("in the catalogue");
        let (action, what, cure) = (fault.name.to_owned(), fault.untouched.to_owned(), fault.cure.to_owned());
        story.expect.steps.insert("clock-jump".into(), Untouched { action, what, cure, line: 18, may_end: true });
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
