//! Reads the steps of a scenario file, each by itself: its start, its length, and the parameters of its fault.
//!
//! The fault's entry in the catalogue says what a step may contain; nothing is decided here, so that a new fault needs
//! no change in this file. Whether the hosts, steps and events that a step names exist is checked later.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use gapless_world::LogEvent;
use toml::de::DeValue;

use super::{
    draft::{Draft, DraftStep},
    model::{Moment, STEPS_MAX, Start},
    problem::{quote, suggest},
    quantity::{LONGEST, MILLISECOND},
    walk::{LIST_MAX, Node, Problems, Table, too_many},
};
use crate::fault::{self, Action, ActsOn, End, Fault, Given, HostRef, Kind, Link, Need, Value};

/// The longest name of a step, in bytes.
const NAME_MAX: usize = 64;

/// Reads every `[[step]]`.
pub(super) fn read_steps(node: Node<'_>, draft: &mut Draft, problems: &mut Problems) {
    let Some(steps) = problems.array("step", node) else { return };
    too_many(steps.len(), STEPS_MAX, "steps", node, problems);
    for step in steps.iter().take(STEPS_MAX) {
        if let Some(table) = problems.table("[[step]]", step) {
            let step = read_step(table, problems);
            draft.steps.extend(step);
        }
    }
}

/// Reads a step. `None` only if there is not even a name to identify it.
fn read_step(mut table: Table<'_>, problems: &mut Problems) -> Option<DraftStep> {
    let header = table.span.clone();
    let action = table.need("action", "\"crash\"", problems);
    let word = action.and_then(|node| problems.string("action", node));
    let fault = word.and_then(fault::find);
    if let (Some(node), Some(word), None) = (action, word, fault) {
        let names: Vec<_> = fault::CATALOGUE.iter().map(|fault| fault.name).collect();
        problems.file(
            "unknown-action",
            node.span(),
            format!("there is no action {}", quote(word)),
            suggest(word, &names),
        );
    }
    let given_name = table.take("name");
    let name = given_name.and_then(|node| read_name(node, problems));
    let (start, start_span, since_span) = read_start(&mut table, problems);
    let (duration, has_for) = read_for(&mut table, fault, problems);
    let mut step = DraftStep {
        name_span: given_name.or(action).map_or(header.clone(), |node| node.span()),
        named: given_name.is_some(),
        name: name.or(word.map(str::to_owned)).unwrap_or_default(),
        fault,
        action: None,
        hosts: Vec::new(),
        place: header.clone(),
        start,
        start_span,
        since_span,
        duration,
        has_for,
        header,
    };
    match fault {
        Some(fault) => step.action = read_action(fault, &mut table, &mut step, problems),
        // Without knowing the action, a key is only unknown if no action has it.
        None => fault::CATALOGUE.iter().for_each(|fault| table.allow(&fault.keys())),
    }
    table.finish(problems);
    Some(step).filter(|step| !step.name.is_empty())
}

fn read_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let name = problems.text("name", node, false)?;
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if !letter || name.len() > NAME_MAX || !name.bytes().all(legal) {
        let message = format!("{} cannot be a name", quote(&name));
        let note = format!("1 to {NAME_MAX} of a-z, 0-9 and -, a letter first");
        problems.file("bad-name", node.span(), message, note);
        return None;
    }
    if name == "first" {
        let message = "a step cannot be called `first`: `first:EVENT` refers to events";
        problems.file("bad-name", node.span(), message, "choose another name");
    }
    Some(name)
}

type Started = (Option<Start>, Range<usize>, Range<usize>);

fn read_start(table: &mut Table<'_>, problems: &mut Problems) -> Started {
    let (at, after) = (table.take("at"), table.take("after"));
    let (wait, since) = (table.take("wait"), table.take("since"));
    let since_span = since.map_or(table.span.clone(), |node| node.span());
    let wait_length =
        wait.map_or(Some(Duration::ZERO), |node| problems.duration("wait", node, Duration::ZERO, LONGEST));
    let at_length = at.and_then(|node| problems.duration("at", node, Duration::ZERO, LONGEST));
    let moment = after.and_then(|node| read_moment("after", node, problems));
    let since_moment = since.and_then(|node| read_moment("since", node, problems));
    if after.is_none() {
        for (key, code, present) in
            [("wait", "wait-without-after", wait.is_some()), ("since", "since-without-after", since.is_some())]
        {
            if present {
                problems.file(code, table.key_span(key), format!("`{key}` without `after`"), "it narrows `after`");
            }
        }
    }
    if let (Some(since), Some(moment)) = (since, &moment)
        && !matches!(moment, Moment::First(_))
    {
        let message = "`since` narrows `first:EVENT`, and `after` is not one";
        problems.file("since-without-first", since.span(), message, "drop it, or write after = \"first:…\"");
    }
    match (at, after) {
        (Some(at), None) => (at_length.map(Start::At), at.span(), since_span),
        (None, Some(after)) => {
            let since_read = since.is_none() || since_moment.is_some();
            let start = moment.zip(wait_length).filter(|_| since_read);
            let start = start.map(|(moment, wait)| Start::After { moment, wait, since: since_moment });
            (start, after.span(), since_span)
        }
        (Some(_), Some(after)) => {
            let span = table.key_span("after");
            problems.file("start-twice", span, "a step begins either `at` or `after`, not both", "drop one of them");
            (None, after.span(), since_span)
        }
        (None, None) => {
            let message = "nothing says when this step begins";
            problems.file("start-missing", table.span.clone(), message, "add at = \"10s\", or after = \"STEP\"");
            (None, table.span.clone(), since_span)
        }
    }
}

pub(super) fn read_moment(key: &str, node: Node<'_>, problems: &mut Problems) -> Option<Moment> {
    let text = problems.string(key, node)?;
    if let Some(event) = text.strip_prefix("first:") {
        return read_event(event, node.span(), problems).map(Moment::First);
    }
    let Some((step, what)) = text.split_once(':') else { return Some(Moment::Ended(text.to_owned())) };
    let step = step.to_owned();
    match what {
        "begins" => return Some(Moment::Begins(step)),
        "bites" => return Some(Moment::Bites(step)),
        _ => {}
    }
    let digits = what.bytes().all(|b| b.is_ascii_digit()) && !what.starts_with('0');
    match what.parse() {
        Ok(n) if digits => Some(Moment::Nth(step, n)),
        _ => {
            let message = format!("{} is not a moment", quote(text));
            let note = "write STEP (it has ended), STEP:begins, STEP:bites, STEP:2 or first:EVENT";
            problems.file("unknown-moment", node.span(), message, note);
            None
        }
    }
}

pub(super) fn read_event(event: &str, span: Range<usize>, problems: &mut Problems) -> Option<String> {
    if !LogEvent::NAMES.contains(&event) {
        let message = format!("no event is called {}", quote(event));
        problems.file("unknown-event", span, message, suggest(event, LogEvent::NAMES));
        return None;
    }
    Some(event.to_owned())
}

/// Returns the length of the step, and whether the file gives one.
fn read_for(table: &mut Table<'_>, fault: Option<&'static Fault>, problems: &mut Problems) -> (Option<Duration>, bool) {
    let Some(node) = table.take("for") else {
        let default = fault.and_then(|fault| match fault.end {
            End::After(length) => Some(length),
            End::Instant | End::Healed => None,
        });
        return (default, false);
    };
    if let Some(fault) = fault.filter(|fault| fault.end == End::Instant) {
        let message = format!("`{}` happens at one instant and has no end", fault.name);
        problems.file("for-on-endless", table.key_span("for"), message, "drop `for`");
        return (None, true);
    }
    (problems.duration("for", node, MILLISECOND, LONGEST), true)
}

fn read_action(
    fault: &'static Fault,
    table: &mut Table<'_>,
    step: &mut DraftStep,
    problems: &mut Problems,
) -> Option<Action> {
    let wait = match &step.start {
        Some(Start::After { wait, .. }) => Some(*wait),
        Some(Start::At(_)) | None => None,
    };
    let mut given = Given { length: step.duration, wait, ..Given::default() };
    match fault.acts_on {
        ActsOn::Hosts { .. } => {
            let node = table.need("on", "\"server-1\"", problems);
            step.place = node.map_or(step.place.clone(), |node| node.span());
            given.on = node.and_then(|node| read_hosts("on", node, &mut step.hosts, problems));
        }
        ActsOn::Links { one_way } => given.link = read_link(fault, one_way, table, step, problems),
        ActsOn::Workload => {}
    }
    let values = read_values(fault, table, problems);
    given.values = values?;
    if let Some(Err(broken)) = fault.rule.map(|rule| rule(&given)) {
        problems.file(broken.code, table.key_span(broken.key), broken.text, broken.cure);
        return None;
    }
    fault.action(&given)
}

fn read_values(
    fault: &'static Fault,
    table: &mut Table<'_>,
    problems: &mut Problems,
) -> Option<BTreeMap<&'static str, Value>> {
    let mut values = BTreeMap::new();
    let mut complete = true;
    for parameter in fault.parameters {
        let value = match &parameter.need {
            Need::Required => table.need(parameter.name, &example(parameter.kind), problems),
            Need::Default(default) => {
                values.insert(parameter.name, default.clone());
                table.take(parameter.name)
            }
        };
        match value.map(|node| problems.value(parameter.name, node, parameter.kind)) {
            Some(Some(value)) => {
                values.insert(parameter.name, value);
            }
            Some(None) => complete = false,
            None => complete &= parameter.need != Need::Required,
        }
    }
    complete.then_some(values)
}

/// Returns an example of a value of this kind, as it is written.
fn example(kind: Kind) -> String {
    let text = match kind {
        Kind::Duration { .. } => "100ms",
        Kind::Offset { .. } => "-90s",
        Kind::Drift { .. } => "+200ppm",
        Kind::Size { .. } => "1MiB",
        Kind::Rate => "500/s",
        Kind::Word(words) => words.first().map_or("", |(word, _)| word),
        Kind::Flag => return "true".to_owned(),
        Kind::Count { min, .. } => return min.to_string(),
        Kind::Path => "journal/",
    };
    format!("\"{text}\"")
}

fn read_link(
    fault: &Fault,
    one_way: bool,
    table: &mut Table<'_>,
    step: &mut DraftStep,
    problems: &mut Problems,
) -> Option<Link> {
    let between = table.take("between");
    let (from, to) = if one_way { (table.take("from"), table.take("to")) } else { (None, None) };
    if let Some(node) = between {
        step.place = node.span();
        if from.or(to).is_some() {
            let key = if from.is_some() { "from" } else { "to" };
            let message = format!("`between` is both ways, `{key}` is one way");
            problems.file("link-twice", table.key_span(key), message, "drop one of them");
        }
        return read_between(node, &mut step.hosts, problems);
    }
    if from.is_none() && to.is_none() {
        let one_way = if one_way { ", or from = \"…\" and to = \"…\" for one way" } else { "" };
        let message = format!("`{}` acts on a link: it needs two ends", fault.name);
        let note = format!("add between = [\"clients\", \"servers\"]{one_way}");
        problems.file("missing-key", table.span.clone(), message, note);
        return None;
    }
    let from = table.need("from", "\"servers\"", problems);
    let to = table.need("to", "\"clients\"", problems);
    step.place = from.or(to).map_or(step.place.clone(), |node| node.span());
    let from = from.and_then(|node| read_hosts("from", node, &mut step.hosts, problems));
    let to = to.and_then(|node| read_hosts("to", node, &mut step.hosts, problems));
    Some(Link::OneWay { from: from?, to: to? })
}

fn read_between(node: Node<'_>, hosts: &mut Vec<(HostRef, Range<usize>)>, problems: &mut Problems) -> Option<Link> {
    let ends = problems.array("between", node)?;
    let [a, b] = ends else {
        let message = format!("`between` has two ends, not {}", ends.len());
        problems.file("wrong-type", node.span(), message, "write [\"clients\", [\"server-1\", \"server-2\"]]");
        return None;
    };
    let a = read_hosts("between", a, hosts, problems);
    let b = read_hosts("between", b, hosts, problems);
    Some(Link::Between(a?, b?))
}

/// One host word, or a list of them.
pub(super) fn read_hosts(
    key: &str,
    node: Node<'_>,
    hosts: &mut Vec<(HostRef, Range<usize>)>,
    problems: &mut Problems,
) -> Option<Vec<HostRef>> {
    let single = std::slice::from_ref(node);
    let list = match node.get_ref() {
        DeValue::String(_) => single,
        DeValue::Array(list) => list,
        other => return problems.wrong_type(node, other, key, "a host or a list of hosts"),
    };
    if list.is_empty() {
        problems.file("empty-selection", node.span(), format!("`{key}` names nobody"), "name at least one host");
        return None;
    }
    too_many(list.len(), LIST_MAX, "hosts", node, problems);
    let mut read = Vec::new();
    let mut whole = true;
    for item in list.iter().take(LIST_MAX) {
        match problems.string(key, item).and_then(|word| read_host(word, item.span(), problems)) {
            Some(host) if read.contains(&host) => {
                problems.file("duplicate-name", item.span(), format!("`{host}` is named twice"), "drop one of them");
            }
            Some(host) => {
                hosts.push((host.clone(), item.span()));
                read.push(host);
            }
            None => whole = false,
        }
    }
    whole.then_some(read)
}

fn read_host(word: &str, span: Range<usize>, problems: &mut Problems) -> Option<HostRef> {
    let host = HostRef::read(word);
    if host.is_none() {
        let mut names: Vec<_> = HostRef::WORDS.iter().map(|(name, _)| *name).collect();
        names.extend(["server-1", "client-1"]);
        problems.file("unknown-host", span, format!("nothing is called {}", quote(word)), suggest(word, &names));
    }
    host
}
