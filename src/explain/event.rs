//! The page of an event: what it means, what it carries, which hosts report it, and what causes it.

use std::fmt::Write as _;

use gapless_world::{EventDoc, ToldBy};

use super::{COLUMNS_MAX, lower, paragraph, plain};
use crate::{
    fault::CATALOGUE,
    scenario::{happens_anyway, reasons},
};

/// Returns the page of an event, or `None` if no event has this name.
pub(super) fn page(name: &str) -> Option<String> {
    let doc = EventDoc::find(name)?;
    let mut page = paragraph(&format!("{name}: {}", lower(&plain(doc.summary()))));
    let mut section = |title: &str, text: String| {
        let _ = write!(page, "\n{title}\n{text}");
    };
    section("What it means", paragraph(&plain(&doc.means)));
    section("What it carries", fields(doc));
    section("Who reports it", paragraph(told_by(doc.told_by)));
    section("What causes it", paragraph(&causes(name)));
    section("In a scenario", example(doc));
    Some(page)
}

fn fields(doc: &EventDoc) -> String {
    if doc.fields.is_empty() {
        return "no fields\n".to_owned();
    }
    let mut text = String::new();
    let widest = doc.fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, of) in &doc.fields {
        let _ = writeln!(text, "  {name:<widest$}  {}", in_words(of));
    }
    let Some(field) = doc.reason() else { return text };
    let known: Vec<_> = reasons(&doc.name).into_iter().map(|(word, _)| word).collect();
    let known = if known.is_empty() { String::new() } else { format!(". It is one of: {}", known.join(", ")) };
    text + &paragraph(&format!("The `reason` of a pattern must equal `{field}` as a whole{known}."))
}

fn in_words(of: &str) -> &str {
    match of {
        "String" => "text",
        "Bytes" => "bytes",
        "bool" => "yes or no",
        "u16" | "u32" | "u64" | "usize" => "a number",
        "i32" | "i64" => "a number with a sign",
        "Direction" => "`request` or `response`",
        other => other,
    }
}

fn told_by(who: ToldBy) -> &'static str {
    match who {
        ToldBy::Servers => "Servers. It cannot be seen from outside, so only a log that reports it has this event.",
        ToldBy::Clients => "Clients, and the auditor if it does the same. It can be seen at a client of any log.",
        ToldBy::Both => {
            "Servers and clients, each for its own end. It can be seen at a client of any log, or at a proxy."
        }
    }
}

fn causes(name: &str) -> String {
    let able: Vec<_> = CATALOGUE.iter().filter(|fault| fault.causes.contains(&name)).map(|fault| fault.name).collect();
    match (happens_anyway(name), able.is_empty()) {
        (true, true) => "Every run, or the workload alone.".to_owned(),
        (true, false) => format!("Every run, or the workload alone. Faults cause it too: {}.", able.join(", ")),
        (false, true) => "No fault of the catalogue. Only `never` can name it.".to_owned(),
        (false, false) => format!("These faults: {}.", able.join(", ")),
    }
}

/// Returns a line that can be pasted under `[expect]`.
fn example(doc: &EventDoc) -> String {
    let able = happens_anyway(&doc.name) || CATALOGUE.iter().any(|fault| fault.causes.contains(&doc.name.as_str()));
    let on = match doc.told_by {
        ToldBy::Servers => ", on = \"servers\"",
        ToldBy::Clients => ", on = \"clients\"",
        ToldBy::Both => "",
    };
    let reason = reasons(&doc.name).first().map(|(word, _)| format!(", reason = \"{word}\"")).unwrap_or_default();
    let line = format!("  {} = [{{ event = \"{}\"{on}{reason} }}]\n", if able { "seen" } else { "never" }, doc.name);
    debug_assert!(line.len() <= COLUMNS_MAX, "an example is one line");
    line
}
