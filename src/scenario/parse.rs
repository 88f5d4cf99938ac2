//! From the text of a scenario file to a [`Scenario`], or to everything that is wrong with it.
//!
//! There are two passes over one tree: here each table is read by itself; then [`validate`](super::validate) checks
//! what only the whole can answer (whether this step exists, whether this event can happen). Both file every problem
//! that they meet, so that an engineer can fix a file in one go. Nothing here touches the disk.

use std::{collections::BTreeSet, ops::Range, path::Path, time::Duration};

use gapless_world::{EventDoc, LogEvent};
use toml::de::DeTable;

use super::{
    draft::{Draft, DraftPattern, Lines},
    model::{
        Call, Cluster, EventPattern, Expect, KnownViolation, LATENCY_DEFAULT, MEMORY_DEFAULT, SECTORS, SIZE_DEFAULT,
        Scenario, Sizes, WALL_CLOCK_DEFAULT, Workload,
    },
    problem::{NOT_SHOWN, PROBLEMS_MAX, Problem, quote, suggest},
    quantity::{LONGEST, MILLISECOND, print_size},
    reasons::reasons,
    step::{read_event, read_hosts, read_moment, read_steps},
    validate::validate,
    walk::{COUNT_MAX, LIST_MAX, Node, Problems, Table, too_many},
};
use crate::history::Invariant;

/// The largest scenario file, in bytes (1 MiB).
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Reads the text of a scenario file for any log; `path` is only remembered.
///
/// # Errors
///
/// Every problem of the file, in the order of the file; at least one, at most [`PROBLEMS_MAX`].
pub fn parse(path: &Path, text: &str) -> Result<Scenario, Vec<Problem>> {
    parse_for(path, text, &Sizes::default())
}

/// Does the same for a log that accepts these sizes.
///
/// # Errors
///
/// The same as those of [`parse`].
pub fn parse_for(path: &Path, text: &str, sizes: &Sizes) -> Result<Scenario, Vec<Problem>> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} (1 MiB) are read", text.len());
        return Err(vec![Problem::new("too-many", 0..0, message, "split it: one file per incident")]);
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    let syntax: Vec<Problem> = syntax.iter().map(|error| syntax_problem(text, error)).collect();
    let mut draft = Draft { lines: Lines::new(text), ..Draft::default() };
    let mut problems = Problems::default();
    read_document(root.get_ref(), sizes, &mut draft, &mut problems);
    validate(&draft, sizes, &mut problems);
    let mut problems = join(text, syntax, problems.0);
    if problems.is_empty() {
        if let Some(scenario) = draft.finish(path, text) {
            return Ok(scenario);
        }
        problems.push(Problem::new(
            "missing-key",
            0..0,
            "the scenario is not complete",
            "see the examples in scenarios/",
        ));
    }
    Err(problems)
}

fn read_document(root: &DeTable<'_>, sizes: &Sizes, draft: &mut Draft, problems: &mut Problems) {
    let mut top = Table::new("a scenario", 0..0, root);
    if let Some(node) = top.need("title", "\"…\" as the first line", problems) {
        draft.title = problems.text("title", node, false);
        if draft.title.as_ref().is_some_and(|title| title.trim().is_empty() || title.chars().count() > 200) {
            problems.file("out-of-range", node.span(), "`title` is empty or too long", "1 to 200 characters");
        }
    }
    if let Some(node) = top.take("story") {
        draft.story = problems.text("story", node, true).unwrap_or_default();
    }
    if let Some(node) = top.need("cluster", "… : [cluster] with servers = 1", problems) {
        read_cluster(node, sizes, draft, problems);
    }
    if let Some(node) = top.need("workload", "… : [workload] with clients, appends, for", problems) {
        read_workload(node, sizes, draft, problems);
    }
    if let Some(node) = top.take("step") {
        read_steps(node, draft, problems);
    }
    if let Some(node) = top.take("expect") {
        read_expect(node, draft, problems);
    }
    if let Some(node) = top.take("seeds") {
        let seeds = problems.array("seeds", node).unwrap_or_default();
        too_many(seeds.len(), LIST_MAX, "seeds", node, problems);
        draft.seeds = seeds.iter().filter_map(|seed| problems.count("seeds", seed, 0..=COUNT_MAX)).collect();
    }
    if let Some(node) = top.take("known-violation") {
        draft.known_violation = read_known_violation(node, problems);
    }
    top.finish(problems);
}

fn read_cluster(node: Node<'_>, sizes: &Sizes, draft: &mut Draft, problems: &mut Problems) {
    let Some(mut table) = problems.table("[cluster]", node) else { return };
    let servers = table.need("servers", "1", problems).and_then(|node| problems.count("servers", node, 1..=9));
    let latency = table.take("latency");
    let latency = latency
        .map_or(Some(LATENCY_DEFAULT), |node| problems.duration("latency", node, MILLISECOND, Duration::from_secs(10)));
    let renew_before = table.take("renew-before").map(|node| {
        let read = problems.duration("renew-before", node, Duration::from_secs(5), LONGEST);
        read.unwrap_or(Duration::from_secs(30))
    });
    let wall_clock =
        table.take("wall-clock").map_or(Some(WALL_CLOCK_DEFAULT), |node| problems.instant("wall-clock", node));
    let memory =
        table.take("memory").map_or(Some(MEMORY_DEFAULT), |node| problems.size("memory", node, 64 << 10, 1 << 30));
    draft.servers = servers.and_then(|servers| u32::try_from(servers).ok());
    let payload_max = table.take("payload-max");
    draft.payload_max_span = payload_max.map(|node| node.span());
    let payload_max = payload_max.and_then(|node| problems.size("payload-max", node, 64, sizes.payload_max));
    let sector = table.take("sector").map_or(Some(SECTORS[0]), |node| read_sector(node, problems));
    let (least, most) = (*sizes.segment.start(), *sizes.segment.end());
    let segment = table.take("segment").and_then(|node| problems.size("segment", node, least, most));
    if let (Some(servers), Some(latency), Some(wall_clock), Some(memory), Some(sector)) =
        (draft.servers, latency, wall_clock, memory, sector)
    {
        let cluster = Cluster { servers, latency, renew_before, wall_clock, memory, payload_max, sector, segment };
        draft.cluster = Some(cluster);
    }
    table.finish(problems);
}

fn read_sector(node: Node<'_>, problems: &mut Problems) -> Option<u64> {
    let bytes = problems.size("sector", node, SECTORS[0], SECTORS[SECTORS.len() - 1])?;
    if !SECTORS.contains(&bytes) {
        let message = format!("no disk has sectors of {}", print_size(bytes));
        let all: Vec<String> = SECTORS.iter().map(|bytes| format!("\"{}\"", print_size(*bytes))).collect();
        problems.file("out-of-range", node.span(), message, format!("write {}", all.join(" or ")));
        return None;
    }
    Some(bytes)
}

fn read_workload(node: Node<'_>, sizes: &Sizes, draft: &mut Draft, problems: &mut Problems) {
    let Some(mut table) = problems.table("[workload]", node) else { return };
    let clients = table.need("clients", "4", problems).and_then(|node| problems.count("clients", node, 1..=64));
    let appends = table.need("appends", "\"40/s\"", problems).and_then(|node| problems.rate("appends", node));
    let work = table.need("for", "\"60s\"", problems);
    let work = work.and_then(|node| problems.duration("for", node, Duration::from_secs(1), LONGEST));
    let call = table.take("call").map_or(Some(Call::default()), |node| read_call(node, problems));
    let size = table.take("size").map_or(Some(SIZE_DEFAULT), |node| problems.size("size", node, 64, sizes.entry_max));
    let oversize = table.take("oversize-every");
    draft.oversize_span = oversize.map(|node| node.span());
    let oversize_every = oversize.and_then(|node| problems.count("oversize-every", node, 2..=COUNT_MAX));
    draft.clients = clients.and_then(|clients| u32::try_from(clients).ok());
    draft.work = work;
    if let (Some(clients), Some(appends), Some(duration), Some(call), Some(size)) =
        (draft.clients, appends, work, call, size)
    {
        draft.workload = Some(Workload { clients, appends, duration, call, size, oversize_every });
    }
    table.finish(problems);
}

fn read_call(node: Node<'_>, problems: &mut Problems) -> Option<Call> {
    let word = problems.string("call", node)?;
    let call = Call::NAMES.iter().find(|(name, _)| *name == word).map(|(_, call)| *call);
    if call.is_none() {
        let names: Vec<_> = Call::NAMES.iter().map(|(name, _)| *name).collect();
        problems.file("unknown-call", node.span(), format!("there is no call {}", quote(word)), suggest(word, &names));
    }
    call
}

fn read_known_violation(node: Node<'_>, problems: &mut Problems) -> Option<KnownViolation> {
    let mut table = problems.table("`known-violation`", node)?;
    let invariant = table.need("invariant", "\"no-gaps\"", problems);
    let invariant = invariant.and_then(|node| {
        let word = problems.string("invariant", node)?;
        let invariant = Invariant::named(word);
        if invariant.is_none() {
            let names: Vec<_> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
            let message = format!("no invariant is called {}", quote(word));
            problems.file("unknown-invariant", node.span(), message, suggest(word, &names));
        }
        invariant
    });
    let issue = table.need("issue", "\"https://…\"", problems).and_then(|node| {
        let address = problems.text("issue", node, false)?;
        if !address.starts_with("https://") && !address.starts_with("http://") {
            problems.file("not-an-address", node.span(), "`issue` is not an address", "write \"https://…\"");
        }
        Some(address)
    });
    let saying = table.take("saying").and_then(|node| problems.text("saying", node, false));
    table.finish(problems);
    Some(KnownViolation { invariant: invariant?, issue: issue?, saying })
}

fn read_expect(node: Node<'_>, draft: &mut Draft, problems: &mut Problems) {
    let Some(mut table) = problems.table("[expect]", node) else { return };
    let mut expect = Expect::default();
    if let Some(node) = table.take("recovers-within") {
        let read = problems.duration("recovers-within", node, MILLISECOND, LONGEST);
        expect.recovers_within = read.unwrap_or(expect.recovers_within);
    }
    if let Some(node) = table.take("blind-at-most") {
        expect.blind_at_most = problems.duration("blind-at-most", node, MILLISECOND, LONGEST);
    }
    if let Some(node) = table.take("dead-letters") {
        expect.dead_letters = problems.count("dead-letters", node, 0..=COUNT_MAX).unwrap_or_default();
    }
    if let Some(node) = table.take("acked-at-least") {
        expect.acked_at_least = problems.count("acked-at-least", node, 0..=COUNT_MAX).unwrap_or_default();
    }
    if let Some(node) = table.take("connections-at-most") {
        expect.connections_at_most = problems.rate("connections-at-most", node);
    }
    for list in ["seen", "never", "sometimes"] {
        let Some(node) = table.take(list) else { continue };
        let patterns = problems.array(list, node).unwrap_or_default();
        too_many(patterns.len(), LIST_MAX, "patterns", node, problems);
        for node in patterns.iter().take(LIST_MAX) {
            let pattern = read_pattern(list, node, &draft.lines, problems);
            draft.patterns.extend(pattern);
        }
    }
    table.finish(problems);
    draft.expect = expect;
}

fn read_pattern(list: &'static str, node: Node<'_>, lines: &Lines, problems: &mut Problems) -> Option<DraftPattern> {
    let mut table = problems.table("an event pattern", node)?;
    let event = table.need("event", "\"retry\"", problems).and_then(|node| {
        let word = problems.string("event", node)?;
        read_event(word, node.span(), problems)
    });
    let mut hosts = Vec::new();
    let (on, by) = (table.take("on"), table.take("by"));
    if on.is_some() && by.is_some() {
        problems.file("duplicate-key", table.key_span("by"), "`by` is another word for `on`", "drop one of them");
    }
    let on = on.or(by).and_then(|node| read_hosts("on", node, &mut hosts, problems));
    let during = table.take("during");
    let after = table.take("after");
    let (during_span, after_span) = (span_of(during, &table), span_of(after, &table));
    let during = during.and_then(|node| problems.string("during", node)).map(str::to_owned);
    let after = after.and_then(|node| read_moment("after", node, problems));
    let reason = table.take("reason");
    let reason_span = span_of(reason, &table);
    let reason = reason.and_then(|node| problems.text("reason", node, false));
    table.finish(problems);
    let event = event?;
    if let Some(reason) = &reason {
        read_reason(&event, reason, reason_span, problems);
    }
    let line = lines.of(node.span().start);
    let pattern = EventPattern { event, on, during, after, reason, line };
    Some(DraftPattern { list, pattern, span: node.span(), hosts, during_span, after_span })
}

/// Checks that the event can give this reason at all.
fn read_reason(event: &str, reason: &str, span: Range<usize>, problems: &mut Problems) {
    if EventDoc::find(event).is_some_and(|doc| doc.reason().is_none()) {
        let able = LogEvent::docs().iter().filter(|doc| doc.reason().is_some());
        let able: Vec<_> = able.map(|doc| doc.name.as_str()).collect();
        let message = format!("`{event}` gives no reason");
        problems.file("no-reason", span, message, format!("these do: {}", able.join(", ")));
        return;
    }
    let known: Vec<_> = reasons(event).into_iter().map(|(word, _)| word).collect();
    if !known.is_empty() && !known.contains(&reason) {
        let message = format!("`{event}` never tells the reason {}", quote(reason));
        problems.file("unknown-reason", span, message, suggest(reason, &known));
    }
}

fn span_of(node: Option<Node<'_>>, table: &Table<'_>) -> Range<usize> {
    node.map_or(table.span.clone(), |node| node.span())
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let span = span.start.min(text.len())..span.end.min(text.len());
    if error.message() == "duplicate key" {
        return Problem::new("duplicate-key", span, "this key was already given", "drop one of them");
    }
    let message: String = error.message().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Problem::new("syntax", span, message, "not TOML from here on")
}

/// Puts both kinds in the order of the file. What the TOML parser had to guess after a syntax error justifies no
/// further complaints: problems on the broken lines are left out, and so are those about something that may only seem
/// to be missing.
fn join(text: &str, syntax: Vec<Problem>, rest: Vec<Problem>) -> Vec<Problem> {
    const OF_ABSENCE: &[&str] = &[
        "missing-key",
        "start-missing",
        "wait-without-after",
        "since-without-after",
        "unknown-step",
        "cannot-happen",
        "circle",
    ];
    let lines = Lines::new(text);
    let broken: BTreeSet<_> = syntax.iter().map(|problem| lines.of(problem.span.start)).collect();
    let mut all = syntax;
    all.extend(rest.into_iter().filter(|problem| {
        let on_broken_line = broken.contains(&lines.of(problem.span.start));
        broken.is_empty() || !(on_broken_line || OF_ABSENCE.contains(&problem.code))
    }));
    all.sort_by_key(|problem| problem.span.start);
    all.dedup();
    if all.len() > PROBLEMS_MAX {
        let more = all.len() - (PROBLEMS_MAX - 1);
        let at = all[PROBLEMS_MAX - 1].span.clone();
        all.truncate(PROBLEMS_MAX - 1);
        all.push(Problem::new(NOT_SHOWN, at, format!("{more} more problems are not shown"), "mend the others first"));
    }
    all
}
