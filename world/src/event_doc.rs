//! The meaning of each event of the log, read from the comments beside it: one text for the code and for the terminal.
//!
//! The source of [`LogEvent`] is part of the program and is read by a small pure function. The function knows the few
//! shapes in which `rustfmt` leaves an enum, and a test checks it against every variant.

use std::sync::LazyLock;

use super::LogEvent;

/// One event, as its variant documents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDoc {
    /// The name of the event in scenario files.
    pub name: String,
    /// What the event means, in one paragraph.
    pub means: String,
    /// The fields of the event in their order, each with its Rust type.
    pub fields: Vec<(String, String)>,
    /// The end that reports it.
    pub told_by: ToldBy,
}

/// The end that reports an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldBy {
    /// Servers, about themselves: nobody outside can know it.
    Servers,
    /// Clients, and the auditor where it does what clients do.
    Clients,
    /// Either end, wherever it happens.
    Both,
}

impl ToldBy {
    /// Returns whether the event shows at a client, or at a proxy in front of it, so that it can be seen with any log.
    pub fn is_seen_outside(self) -> bool {
        self != ToldBy::Servers
    }

    /// Returns whether servers may report it.
    pub fn by_servers(self) -> bool {
        self != ToldBy::Clients
    }
}

/// Events in the sections for both ends that only servers report.
const SERVERS_ONLY: &[&str] = &["clock-anomaly"];

/// Fields that hold the reason of an event.
const REASONS: &[&str] = &["reason", "why", "status"];

static DOCS: LazyLock<Vec<EventDoc>> = LazyLock::new(|| read(include_str!("observer.rs")));

impl LogEvent {
    /// Returns what each event means, in the order of [`LogEvent::NAMES`].
    pub fn docs() -> &'static [EventDoc] {
        &DOCS
    }
}

impl EventDoc {
    /// Returns the event of this name.
    pub fn find(name: &str) -> Option<&'static EventDoc> {
        DOCS.iter().find(|doc| doc.name == name)
    }

    /// Returns the first sentence of what it means.
    pub fn summary(&self) -> &str {
        let ends = |at: &usize| self.means[at + 1..].is_empty() || self.means[at + 1..].starts_with(' ');
        let end = self.means.match_indices('.').map(|(at, _)| at).find(ends);
        end.map_or(&self.means, |at| &self.means[..at])
    }

    /// Returns the field that a pattern's `reason` is compared with, if the event has one.
    pub fn reason(&self) -> Option<&str> {
        self.fields.iter().map(|(name, _)| name.as_str()).find(|name| REASONS.contains(name))
    }
}

/// Reads the variants of the enum `LogEvent` in a source file.
fn read(source: &str) -> Vec<EventDoc> {
    let body = source.lines().skip_while(|line| !line.starts_with("pub enum LogEvent")).skip(1);
    let body = body.take_while(|line| !line.starts_with('}')).map(str::trim);
    let mut docs: Vec<EventDoc> = Vec::new();
    let (mut section, mut means, mut inside) = ("", String::new(), false);
    for line in body {
        if let Some(title) = line.strip_prefix("// ----") {
            section = title.trim_matches(['-', ' ']);
        } else if let Some(text) = line.strip_prefix("///") {
            if !inside {
                means.push_str(text);
            }
        } else if line.is_empty() || line.starts_with("//") || line.starts_with("#[") {
            continue;
        } else if inside {
            inside = !line.starts_with('}');
            let fields = docs.last_mut().map(|doc| &mut doc.fields);
            fields.into_iter().for_each(|fields| fields.extend(read_fields(line)));
        } else {
            let (variant, rest) = line.split_once([' ', ',']).unwrap_or((line, ""));
            let name = kebab(variant);
            inside = rest.contains('{') && !rest.contains('}');
            docs.push(EventDoc {
                told_by: told_by(section, &name),
                means: std::mem::take(&mut means).trim().to_owned(),
                fields: read_fields(rest.trim_start_matches(['{', ' ']).split('}').next().unwrap_or_default()),
                name,
            });
        }
    }
    docs
}

/// Reads the `name: type` pairs of a line. No type of an event has a comma in it.
fn read_fields(line: &str) -> Vec<(String, String)> {
    let pairs = line.split(',').filter_map(|pair| pair.split_once(':'));
    pairs.map(|(name, of)| (name.trim().replace('_', "-"), of.trim().to_owned())).collect()
}

fn told_by(section: &str, name: &str) -> ToldBy {
    match section {
        "a server's life" | "the write path" => ToldBy::Servers,
        _ if SERVERS_ONLY.contains(&name) => ToldBy::Servers,
        "a client's decisions" => ToldBy::Clients,
        _ => ToldBy::Both,
    }
}

fn kebab(variant: &str) -> String {
    let mut name = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    /// Returns any value of a field's type, as JSON.
    fn some_value(of: &str) -> Value {
        match of {
            "String" => json!("word"),
            "Bytes" => json!(""),
            "bool" => json!(true),
            "Direction" => json!("request"),
            of if of.starts_with("Vec<") => json!([]),
            of if of.starts_with("Option<") => Value::Null,
            _ => json!(1),
        }
    }

    #[test]
    fn every_event_is_found_with_all_its_fields() {
        let names: Vec<&str> = LogEvent::docs().iter().map(|doc| doc.name.as_str()).collect();
        assert_eq!(names, LogEvent::NAMES, "the docs are in the order of the names");
        for doc in LogEvent::docs() {
            assert!(doc.means.ends_with('.') && !doc.summary().is_empty(), "{}: {:?}", doc.name, doc.means);
            let mut object: Map<String, Value> =
                doc.fields.iter().map(|(field, of)| (field.clone(), some_value(of))).collect();
            object.insert("event".to_owned(), doc.name.as_str().into());
            // serde demands every field and knows every name, so a match shows that the docs are complete.
            let event: LogEvent =
                serde_json::from_value(object.clone().into()).unwrap_or_else(|error| panic!("{}: {error}", doc.name));
            assert_eq!(event.name(), doc.name);
            let written = serde_json::to_value(&event).unwrap();
            let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
            assert_eq!(keys, object.keys().collect::<Vec<_>>(), "{}", doc.name);
            if doc.reason().is_some() {
                let reason = event.reason();
                assert_eq!(reason, Some("word"), "{} tells a reason that no pattern can ask for", doc.name);
            }
        }
    }

    #[test]
    fn every_section_of_the_enum_says_who_tells_its_events() {
        let titles = include_str!("observer.rs").lines().filter_map(|line| line.trim().strip_prefix("// ----"));
        for title in titles.map(|title| title.trim_matches(['-', ' '])) {
            let known = ["a server's life", "the write path", "connections", "resources", "a client's decisions"];
            assert!(known.contains(&title) || title.starts_with("calls:"), "who tells the events of `{title}`?");
        }
        let told_by = |name| EventDoc::find(name).unwrap().told_by;
        assert_eq!(told_by("batch-synced"), ToldBy::Servers);
        assert_eq!(told_by("handshake-refused"), ToldBy::Both);
        assert_eq!(told_by("retry"), ToldBy::Clients);
    }

    #[test]
    fn a_variant_is_read_however_it_is_laid_out() {
        let source = "\
/// All of them.
pub enum LogEvent {
    // ---- the write path ----
    /// One thing, v1.2 of it. And
    /// more.
    #[serde(rename = \"x\")]
    OneThing { node: u64, some_what: String },
    /// Nothing in it.
    Empty {},

    // ---- a client's decisions ----
    /// Several lines.
    Long {
        /// Which.
        call: u64,
        #[serde(with = \"base64_bytes\")]
        bytes: Bytes,
    },
}
enum Other { Ignored }
";
        let docs = read(source);
        let fields = |n: usize| docs[n].fields.iter().map(|(name, of)| format!("{name} {of}")).collect::<Vec<_>>();
        assert_eq!(docs.iter().map(|doc| doc.name.as_str()).collect::<Vec<_>>(), ["one-thing", "empty", "long"]);
        assert_eq!(
            (docs[0].means.as_str(), docs[0].summary()),
            ("One thing, v1.2 of it. And more.", "One thing, v1.2 of it")
        );
        assert_eq!((fields(0), fields(1)), (vec!["node u64".to_owned(), "some-what String".to_owned()], vec![]));
        assert_eq!(fields(2), ["call u64", "bytes Bytes"]);
        assert_eq!((docs[0].told_by, docs[2].told_by), (ToldBy::Servers, ToldBy::Clients));
    }
}
