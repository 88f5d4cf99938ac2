//! The JSON Schema (2020-12) of scenario files, for editors: completion, a text beside each key, and the first mistakes
//! while they are made.
//!
//! It is generated from the same sources that the parser uses: the catalogue of faults, the words for hosts, the names
//! of events and invariants. It states what can be stated about each place alone. Whether a step, a host or a moment
//! exists, and whether anything can happen at all, only `gapless check` knows; its verdict counts.

use gapless_world::LogEvent;
use serde_json::{Map, Value, json};

use super::{
    model::{Call, SECTORS, STEPS_MAX, Sizes},
    quantity::{print_duration, print_size},
    walk::{COUNT_MAX, LIST_MAX},
};
use crate::{
    fault::{ActsOn, CATALOGUE, End, Fault, HostRef, Kind, Need, PATH_BYTES_MAX, Parameter},
    history::Invariant,
};

/// The pattern of a length of time: units from large to small, each once.
const DURATION: &str = "([0-9]+h([0-9]+m)?([0-9]+s)?([0-9]+ms)?|[0-9]+m([0-9]+s)?([0-9]+ms)?|[0-9]+s([0-9]+ms)?|\
                        [0-9]+ms)";

/// The pattern of a path in a data folder, as far as a pattern can tell.
const PATH: &str = "^[!-.0-\\[\\]-~][!-\\[\\]-~]*$";

/// The pattern of the name of a step.
const STEP: &str = "[a-z][a-z0-9-]{0,63}";

/// Returns the schema as JSON text, for a log that accepts these sizes; the same for every call.
pub fn schema(sizes: &Sizes) -> String {
    let text = serde_json::to_string_pretty(&document(sizes));
    text.unwrap_or_default() + "\n"
}

fn document(sizes: &Sizes) -> Value {
    let mut document = table(
        "A scenario for gapless: the cluster, the workload, the steps, and what we expect to see.",
        &["title", "cluster", "workload"],
        vec![
            ("title", json!({ "type": "string", "minLength": 1, "maxLength": 200, "description": "One line." })),
            (
                "story",
                json!({ "type": "string", "description": "Why this scenario exists; several lines are welcome." }),
            ),
            ("cluster", cluster(sizes)),
            ("workload", workload(sizes)),
            ("step", json!({ "type": "array", "maxItems": STEPS_MAX, "items": step() })),
            ("expect", expect()),
            (
                "seeds",
                json!({
                    "type": "array", "maxItems": LIST_MAX, "items": { "type": "integer", "minimum": 0 },
                    "description": "Seeds that are always run too.",
                }),
            ),
            ("known-violation", known_violation()),
        ],
    );
    let head = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("gapless scenario")),
        ("$defs", definitions()),
    ];
    if let Some(object) = document.as_object_mut() {
        object.extend(head.map(|(key, value)| (key.to_owned(), value)));
    }
    document
}

/// Describes a closed table.
fn table(description: &str, required: &[&str], properties: Vec<(&str, Value)>) -> Value {
    let properties: Map<String, Value> = properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    json!({
        "type": "object", "description": description, "required": required, "properties": properties,
        "additionalProperties": false,
    })
}

fn definitions() -> Value {
    let hosts: Vec<&str> = HostRef::WORDS.iter().map(|(word, _)| *word).collect();
    let events = LogEvent::NAMES;
    json!({
        "duration": { "type": "string", "pattern": format!("^{DURATION}$"), "examples": ["90s", "1m30s", "250ms"] },
        "offset": { "type": "string", "pattern": format!("^[+-]{DURATION}$"), "examples": ["+75s", "-90s"] },
        "drift": { "type": "string", "pattern": "^[+-][0-9]+ppm$", "examples": ["+200ppm", "-150ppm"] },
        "size": { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB)$", "examples": ["256B", "16KiB", "1MiB"] },
        "rate": { "type": "string", "pattern": "^[0-9]+/[smh]$", "examples": ["60/s", "30/m"] },
        "step-name": { "type": "string", "pattern": format!("^{STEP}$") },
        "moment": {
            "type": "string",
            "pattern": format!("^(first:({})|{STEP}(:(begins|bites|[1-9][0-9]*))?)$", events.join("|")),
            "description": "STEP (it has ended), STEP:begins, STEP:bites (first evidence), STEP:2, or first:EVENT.",
        },
        "host": {
            "anyOf": [
                { "enum": hosts },
                { "type": "string", "pattern": format!("^(server-[1-9][0-9]*|client-[1-9][0-9]*|@{STEP})$") },
            ],
            "description": "A word for hosts; @STEP stands for the hosts that this step hit.",
        },
        "hosts": {
            "anyOf": [
                { "$ref": "#/$defs/host" },
                { "type": "array", "minItems": 1, "maxItems": LIST_MAX, "items": { "$ref": "#/$defs/host" } },
            ],
        },
        "event": { "enum": events },
        "pattern": pattern(),
    })
}

/// Describes a place that follows one of the definitions, with its meaning here.
fn of(definition: &str, description: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}"), "description": description })
}

fn count(min: u64, max: u64, description: &str) -> Value {
    let mut value = json!({ "type": "integer", "minimum": min, "description": description });
    if max != COUNT_MAX {
        value["maximum"] = max.into();
    }
    value
}

fn cluster(sizes: &Sizes) -> Value {
    let (least, most) = (print_size(*sizes.segment.start()), print_size(*sizes.segment.end()));
    table(
        "The cluster that the harness builds.",
        &["servers"],
        vec![
            ("servers", count(1, 9, "How many servers.")),
            ("latency", of("duration", "The network's own latency one way between any two hosts. Default 5ms.")),
            (
                "renew-before",
                of(
                    "duration",
                    "Every host asks the host `issuer` for a new certificate this long before its own ends.",
                ),
            ),
            (
                "wall-clock",
                json!({
                    "type": "string", "format": "date-time",
                    "description": "The wall clock at the start, a TOML date without quotes: 2026-03-29T03:12:30Z.",
                }),
            ),
            ("memory", of("size", "Bytes for all queues and caches of a process together. Default 64MiB.")),
            (
                "payload-max",
                of(
                    "size",
                    &format!("The largest payload that servers take, 64B to {}.", print_size(sizes.payload_max)),
                ),
            ),
            (
                "sector",
                json!({
                    "enum": SECTORS.map(print_size),
                    "description": "Bytes that a disk writes whole or not at all. Default 512B.",
                }),
            ),
            (
                "segment",
                of("size", &format!("The size past which a file of a log or an outbox is closed, {least} to {most}.")),
            ),
        ],
    )
}

fn workload(sizes: &Sizes) -> Value {
    let calls: Vec<&str> = Call::NAMES.iter().map(|(name, _)| *name).collect();
    let size = format!("Bytes of each payload, 64B to {}. Default 256B.", print_size(sizes.entry_max));
    table(
        "What the clients do.",
        &["clients", "appends", "for"],
        vec![
            ("clients", count(1, 64, "How many clients.")),
            ("appends", of("rate", "Offered by all clients together, whether or not the log keeps up.")),
            ("for", of("duration", "How long, counted from the first acknowledgement of every client.")),
            ("call", json!({ "enum": calls, "description": "The call that appends entries. Default append." })),
            ("size", of("size", &size)),
            ("oversize-every", count(2, COUNT_MAX, "Every nth entry of each client is larger than `payload-max`.")),
        ],
    )
}

fn known_violation() -> Value {
    let issue = json!({ "type": "string", "pattern": "^https?://", "description": "Where it is discussed." });
    let saying = json!({
        "type": "string", "minLength": 1, "maxLength": 200,
        "description": "Text that the violation's sentence contains; without it, any violation of the invariant.",
    });
    let names: Vec<_> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
    table(
        "A known violation: it is shown and does not count. That it no longer happens does count.",
        &["invariant", "issue"],
        vec![("invariant", json!({ "enum": names })), ("issue", issue), ("saying", saying)],
    )
}

fn expect() -> Value {
    let patterns = |description: &str| {
        let items = json!({ "$ref": "#/$defs/pattern" });
        json!({ "type": "array", "maxItems": LIST_MAX, "items": items, "description": description })
    };
    table(
        "What we expect to see. The invariants always apply; they are not written here.",
        &[],
        vec![
            (
                "recovers-within",
                of("duration", "After the final heal each client's appends succeed within this time. Default 30s."),
            ),
            ("blind-at-most", of("duration", "The longest time that one client may go without an acknowledgement.")),
            ("dead-letters", count(0, COUNT_MAX, "How many dead letters there may be in all. Default 0.")),
            ("acked-at-least", count(0, COUNT_MAX, "How many appends of each client are acknowledged. Default 1.")),
            (
                "connections-at-most",
                of(
                    "rate",
                    "How many connections any one server or client may open within any such period, from t = 0 on.",
                ),
            ),
            ("seen", patterns("Seen in every run.")),
            ("never", patterns("Seen in no run.")),
            ("sometimes", patterns("Seen at least once in a sweep; not judged in a single run.")),
        ],
    )
}

fn pattern() -> Value {
    table(
        "An event, narrowed by the keys that are given.",
        &["event"],
        vec![
            ("event", of("event", "Its name; `gapless list events` says what each event means.")),
            ("on", of("hosts", "The hosts that report it.")),
            ("by", of("hosts", "Another word for `on`.")),
            ("during", of("step-name", "While this step lasts.")),
            ("after", of("moment", "At or after this moment.")),
            ("reason", json!({ "type": "string", "description": "With this reason, compared as a whole." })),
        ],
    )
}

/// The keys that every step may have.
const OF_EVERY_STEP: &[&str] = &["action", "name", "at", "after", "wait", "since", "for"];

fn step() -> Value {
    let actions: Vec<&str> = CATALOGUE.iter().map(|fault| fault.name).collect();
    let mut properties = vec![
        ("action", json!({ "enum": actions, "description": "What happens; `gapless explain ACTION` has a page." })),
        ("name", of("step-name", "Default: the action.")),
        ("at", of("duration", "Begins this long after the first acknowledgement of every client.")),
        ("after", of("moment", "Begins when this moment comes.")),
        ("wait", of("duration", "Begins this much later; only with `after`.")),
        ("since", of("moment", "The moment counts only from this one on; only with after = \"first:EVENT\".")),
        ("for", of("duration", "How long. Without it: until the final heal.")),
        ("on", of("hosts", "The hosts that it strikes.")),
        ("between", between()),
        ("from", of("hosts", "Only what this end sends.")),
    ];
    // Other keys differ from action to action, so each is described where its action is known.
    let others = CATALOGUE.iter().flat_map(|fault| fault.keys());
    for key in others {
        if !properties.iter().any(|(known, _)| *known == key) {
            properties.push((key, json!({})));
        }
    }
    let mut step = table("One thing that happens.", &["action"], properties);
    step["oneOf"] = json!([{ "required": ["at"] }, { "required": ["after"] }]);
    step["dependentRequired"] = json!({ "wait": ["after"], "since": ["after"] });
    step["allOf"] = CATALOGUE.iter().map(|fault| of_fault(fault)).collect();
    step
}

fn between() -> Value {
    json!({
        "type": "array", "minItems": 2, "maxItems": 2, "items": { "$ref": "#/$defs/hosts" },
        "description": "Two ends, each a host or a list of hosts: both ways.",
    })
}

/// Describes what a step of this fault has, for steps of that action.
fn of_fault(fault: &Fault) -> Value {
    let keys: Vec<&str> = OF_EVERY_STEP.iter().copied().chain(fault.keys()).collect();
    let keys: Vec<&str> = keys.into_iter().filter(|key| *key != "for" || fault.end != End::Instant).collect();
    let mut properties: Map<String, Value> = fault.parameters.iter().map(of_parameter).collect();
    let required = fault.parameters.iter().filter(|it| it.need == Need::Required).map(|it| it.name);
    let mut required: Vec<&str> = required.collect();
    let mut then = json!({ "description": fault.summary, "propertyNames": { "enum": keys } });
    match fault.acts_on {
        ActsOn::Hosts { .. } => required.push("on"),
        ActsOn::Links { one_way: false } => required.push("between"),
        ActsOn::Links { one_way: true } => {
            properties.insert("to".to_owned(), of("hosts", "Only what this end receives."));
            then["oneOf"] = json!([{ "required": ["between"] }, { "required": ["from", "to"] }]);
        }
        ActsOn::Workload => {}
    }
    then["required"] = json!(required);
    then["properties"] = properties.into();
    json!({ "if": { "properties": { "action": { "const": fault.name } }, "required": ["action"] }, "then": then })
}

fn of_parameter(parameter: &Parameter) -> (String, Value) {
    let Parameter { name, kind, need, means } = parameter;
    let default = match need {
        Need::Default(crate::fault::Value::Path(path)) if path.is_empty() => String::new(),
        Need::Default(value) => format!(", default {value}"),
        Need::Required => String::new(),
    };
    let between = |from: String, to: String| format!("{means} ({from} to {to}{default})");
    let value = match *kind {
        Kind::Duration { min, max } => of("duration", &between(print_duration(min), print_duration(max))),
        Kind::Offset { .. } => of("offset", means),
        Kind::Drift { most } => of("drift", &between(format!("-{most}ppm"), format!("+{most}ppm"))),
        Kind::Size { min, max } => of("size", &between(print_size(min), print_size(max))),
        Kind::Rate => of("rate", means),
        Kind::Flag => json!({ "type": "boolean", "description": format!("{means}{default}") }),
        Kind::Count { min, max } => count(min, max, &between(min.to_string(), max.to_string())),
        Kind::Path => json!({
            "type": "string", "minLength": 1, "maxLength": PATH_BYTES_MAX, "pattern": PATH, "description": means,
            "examples": ["journal/"],
        }),
        Kind::Word(words) => {
            let choices: Vec<_> =
                words.iter().map(|(word, means)| json!({ "const": word, "description": means })).collect();
            json!({ "oneOf": choices, "description": means })
        }
    };
    ((*name).to_owned(), value)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::{Path, PathBuf},
    };

    use proptest::{prelude::*, string::string_regex};
    use regex::Regex;

    use super::*;
    use crate::{
        scenario::{
            discover, parse,
            quantity::{drift, duration, offset, size},
            walk::known_keys,
        },
        system::{AuditLog, System as _},
    };

    const HERE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn the_committed_schema_is_the_generated_one() {
        let committed = fs::read_to_string(Path::new(HERE).join("schema/scenario.json")).expect("schema/scenario.json");
        let committed: Value = serde_json::from_str(&committed).expect("JSON");
        assert!(
            committed == document(&AuditLog::default().sizes()),
            "stale: run `cargo run -- schema > schema/scenario.json`"
        );
    }

    /// As much of a validator as this schema needs, in the terms of the specification. An unknown keyword fails the
    /// test, so that nothing is ignored.
    struct Validator(Value);

    impl Validator {
        fn errors(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
            let mut errors = Vec::new();
            let keywords = schema.as_object().expect("a schema is an object");
            for (keyword, wanted) in keywords {
                errors.extend(self.keyword(keywords, keyword, wanted, value, at));
            }
            errors
        }

        fn holds(&self, schema: &Value, value: &Value) -> bool {
            self.errors(schema, value, "").is_empty()
        }

        fn keyword(
            &self,
            schema: &Map<String, Value>,
            keyword: &str,
            wanted: &Value,
            value: &Value,
            at: &str,
        ) -> Vec<String> {
            let wrong = |bad: bool| if bad { vec![format!("{at}: {value} breaks {keyword} {wanted}")] } else { vec![] };
            let keys = || value.as_object().into_iter().flat_map(|object| object.keys());
            let list = || wanted.as_array().expect("a list");
            let has = |key: &Value| value.get(key.as_str().expect("a key")).is_some();
            match keyword {
                "$schema" | "$defs" | "title" | "description" | "examples" | "then" => vec![],
                "$ref" => {
                    let pointer = wanted.as_str().and_then(|name| name.strip_prefix('#')).expect("a local reference");
                    self.errors(self.0.pointer(pointer).expect("it leads somewhere"), value, at)
                }
                "type" => wrong(match wanted.as_str().expect("one type") {
                    "object" => !value.is_object(),
                    "array" => !value.is_array(),
                    "string" => !value.is_string(),
                    "integer" => !value.is_i64() && !value.is_u64(),
                    "boolean" => !value.is_boolean(),
                    other => panic!("type {other}"),
                }),
                "enum" => wrong(!list().contains(value)),
                "const" => wrong(wanted != value),
                "pattern" => {
                    let pattern = Regex::new(wanted.as_str().expect("a pattern")).expect("a pattern");
                    wrong(value.as_str().is_some_and(|text| !pattern.is_match(text)))
                }
                "format" => wrong(!value.as_str().is_some_and(|text| text.contains('T'))),
                "minLength" => {
                    wrong(value.as_str().is_some_and(|s| (s.chars().count() as u64) < wanted.as_u64().unwrap()))
                }
                "maxLength" => {
                    wrong(value.as_str().is_some_and(|s| s.chars().count() as u64 > wanted.as_u64().unwrap()))
                }
                "minimum" => wrong(value.as_i64().is_some_and(|n| n < wanted.as_i64().unwrap())),
                "maximum" => wrong(value.as_i64().is_some_and(|n| n > wanted.as_i64().unwrap())),
                "minItems" => wrong(value.as_array().is_some_and(|a| (a.len() as u64) < wanted.as_u64().unwrap())),
                "maxItems" => wrong(value.as_array().is_some_and(|a| a.len() as u64 > wanted.as_u64().unwrap())),
                "required" => wrong(value.is_object() && !list().iter().all(has)),
                "additionalProperties" => {
                    let known = schema["properties"].as_object().expect("beside properties");
                    wrong(keys().any(|key| !known.contains_key(key)))
                }
                "propertyNames" => wrong(keys().any(|key| !self.holds(wanted, &json!(key)))),
                "dependentRequired" => {
                    let rules = wanted.as_object().expect("rules");
                    wrong(rules.iter().any(|(key, others)| {
                        value.get(key).is_some() && !others.as_array().expect("a list").iter().all(has)
                    }))
                }
                "properties" => {
                    let known = wanted.as_object().expect("properties").iter();
                    let known = known.filter_map(|(key, schema)| Some((key, schema, value.get(key)?)));
                    known.flat_map(|(key, schema, value)| self.errors(schema, value, &format!("{at}.{key}"))).collect()
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten().enumerate();
                    items.flat_map(|(n, item)| self.errors(wanted, item, &format!("{at}[{n}]"))).collect()
                }
                "allOf" => list().iter().flat_map(|schema| self.errors(schema, value, at)).collect(),
                "anyOf" => wrong(!list().iter().any(|schema| self.holds(schema, value))),
                "oneOf" => wrong(list().iter().filter(|schema| self.holds(schema, value)).count() != 1),
                "if" if self.holds(wanted, value) => self.errors(&schema["then"], value, at),
                "if" => vec![],
                other => panic!("the schema uses `{other}`, which this validator does not know"),
            }
        }
    }

    /// Converts a TOML file into what an editor's validator is given.
    fn json_of(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(flag) => flag.into(),
            toml::Value::Datetime(at) => at.to_string().into(),
            toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
            toml::Value::Table(table) => {
                Value::Object(table.into_iter().map(|(key, value)| (key, json_of(value))).collect())
            }
        }
    }

    fn errors(text: &str) -> Vec<String> {
        let schema = document(&Sizes::default());
        let value = json_of(toml::Value::Table(toml::from_str(text).expect("TOML")));
        Validator(schema.clone()).errors(&schema, &value, "")
    }

    #[test]
    fn every_shipped_file_follows_the_schema() {
        let folders = ["scenarios", "src/cli/templates"].map(|folder| Path::new(HERE).join(folder));
        let mut files: Vec<PathBuf> = discover(&folders).expect("some");
        files.push(Path::new(HERE).join("examples/deploy-at-noon.toml"));
        for file in files {
            let text = fs::read_to_string(&file).expect("read");
            assert_eq!(errors(&text), [""; 0], "{}", file.display());
        }
    }

    /// Returns a file with one step, otherwise without mistakes.
    fn with(step: &str) -> String {
        format!(
            "title = \"t\"\n[cluster]\nservers = 1\nrenew-before = \"30s\"\nwall-clock = 2026-03-29T03:12:30Z\n\
             [workload]\nclients = 1\nappends = \"5/s\"\nfor = \"2m\"\n[[step]]\n{step}\n"
        )
    }

    #[test]
    fn what_is_wrong_with_one_place_alone_is_seen_by_the_schema_as_by_the_parser() {
        let right = [
            "action = \"crash\"\non = [\"server-1\", \"any-client\"]\nat = \"1m30s\"\nfor = \"1s\"",
            "action = \"refuse\"\nfrom = \"clients\"\nto = \"servers\"\nafter = \"first:leader-change\"",
            "action = \"clock-drift\"\non = \"issuer\"\ndrift = \"-150ppm\"\noffset = \"-1m30s\"\nat = \"1s\"",
            "action = \"upgrade\"\non = \"servers\"\nto = \"next\"\nat = \"1s\"",
            "action = \"surge\"\nappends = \"50/m\"\nat = \"1s\"\nfor = \"1s\"",
        ];
        for step in right {
            assert_eq!(errors(&with(step)), [""; 0], "{step}");
            assert_eq!(parse(Path::new("a.toml"), &with(step)).map(|_| ()), Ok(()), "{step}");
        }
        let wrong = [
            "action = \"crahs\"\non = \"server-1\"\nat = \"1s\"",
            "action = \"crash\"\nat = \"1s\"",
            "action = \"crash\"\non = \"servrs\"\nat = \"1s\"",
            "action = \"crash\"\non = []\nat = \"1s\"",
            "action = \"crash\"\non = \"server-1\"",
            "action = \"crash\"\non = \"server-1\"\nat = \"1s\"\nafter = \"x\"",
            "action = \"crash\"\non = \"server-1\"\nat = \"1s\"\nwait = \"1s\"",
            "action = \"crash\"\non = \"server-1\"\nat = 1",
            "action = \"crash\"\non = \"server-1\"\nat = \"1s1m\"",
            "action = \"crash\"\non = \"server-1\"\nat = \"1s\"\ndelay = \"1s\"",
            "action = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"1s\"\nfor = \"1s\"",
            "action = \"reset\"\nfrom = \"clients\"\nto = \"servers\"\nat = \"1s\"",
            "action = \"partition\"\nbetween = [\"clients\"]\nat = \"1s\"",
            "action = \"partition\"\nfrom = \"clients\"\nat = \"1s\"",
            "action = \"upgrade\"\non = \"servers\"\nto = \"newest\"\nat = \"1s\"",
            "action = \"upgrade\"\non = \"servers\"\nat = \"1s\"",
            "action = \"clock-skew\"\non = \"servers\"\noffset = \"90s\"\nat = \"1s\"",
            "action = \"crash\"\non = \"server-1\"\nafter = \"first:lunch\"",
        ];
        for step in wrong {
            assert_ne!(errors(&with(step)), [""; 0], "{step}");
            assert!(parse(Path::new("a.toml"), &with(step)).is_err(), "{step}");
        }
    }

    /// Returns the keys of a table of the schema.
    fn keys(of: &Value) -> BTreeSet<String> {
        of["properties"].as_object().expect("a table").keys().cloned().collect()
    }

    #[test]
    fn the_schema_has_the_keys_that_the_parser_reads_and_no_others() {
        let rest = "[expect]\nseen = [{ event = \"retry\" }]\n[known-violation]\ninvariant = \"no-gaps\"\n\
                    issue = \"https://x\"\n";
        let of = |action: &str| {
            known_keys(|| drop(parse(Path::new("a.toml"), &(with(&format!("action = \"{action}\"")) + rest))))
        };
        let document = document(&Sizes::default());
        let properties = &document["properties"];
        let read = of("crash");
        let expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::from([
            ("a scenario", keys(&document)),
            ("[cluster]", keys(&properties["cluster"])),
            ("[workload]", keys(&properties["workload"])),
            ("[expect]", keys(&properties["expect"])),
            ("`known-violation`", keys(&properties["known-violation"])),
            ("an event pattern", keys(&document["$defs"]["pattern"])),
        ]);
        for (table, keys) in expected {
            assert_eq!(read.get(table), Some(&keys), "{table}");
        }
        let step = &properties["step"]["items"];
        let mut all = BTreeSet::new();
        for (fault, of_fault) in CATALOGUE.iter().zip(step["allOf"].as_array().expect("one for each")) {
            let mut read = of(fault.name).remove("[[step]]").expect("a step was read");
            all.extend(read.iter().cloned());
            if fault.end == End::Instant {
                // The parser reads the key to say why it is wrong.
                read.remove("for");
            }
            let names = of_fault["then"]["propertyNames"]["enum"].as_array().expect("names");
            assert_eq!(names.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), read);
        }
        assert_eq!(keys(step), all);
    }

    fn pattern_of(definition: &str) -> String {
        let pattern =
            document(&Sizes::default())["$defs"][definition]["pattern"].as_str().expect("a pattern").to_owned();
        pattern.trim_start_matches('^').trim_end_matches('$').replace("[0-9]+", "[0-9]{1,4}")
    }

    proptest! {
        #[test]
        fn whatever_a_pattern_lets_through_is_such_a_quantity(
            length in string_regex(&pattern_of("duration")).unwrap(), far in string_regex(&pattern_of("offset")).unwrap(),
            ppm in string_regex(&pattern_of("drift")).unwrap(), bytes in string_regex(&pattern_of("size")).unwrap(),
        ) {
            use crate::scenario::QuantityError::Zero;
            prop_assert!(duration(&length).is_ok(), "{}", length);
            prop_assert!(matches!(offset(&far), Ok(_) | Err(Zero)), "{}", far);
            prop_assert!(matches!(drift(&ppm), Ok(_) | Err(Zero)), "{}", ppm);
            prop_assert!(size(&bytes).is_ok(), "{}", bytes);
        }
    }
}
