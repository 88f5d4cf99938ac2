//! A scenario written back as a file: canonical TOML, from which [`parse`](super::parse()) reads the same scenario.
//!
//! It serves `shrink` and `new`. Defaults are left out where that means the same, comments are gone, and nothing is
//! ever printed that would read back as something else.

use std::fmt::{self, Display, Write as _};

use crate::fault::{End, HostRef, Link, Need, Value};

use super::{
    model::{
        Call, EventPattern, Expect, LATENCY_DEFAULT, MEMORY_DEFAULT, SECTORS, SIZE_DEFAULT, Scenario, Start, Step,
        WALL_CLOCK_DEFAULT,
    },
    quantity::{print_duration, print_size},
};

impl Scenario {
    /// Returns the canonical text. Reading it gives this scenario again, apart from `path`, `source` and lines.
    pub fn print(&self) -> String {
        let mut page = Page::default();
        page.text("title", &self.title);
        if !self.story.is_empty() {
            page.story(&self.story);
        }
        if !self.seeds.is_empty() {
            let seeds: Vec<_> = self.seeds.iter().map(u64::to_string).collect();
            page.raw("seeds", format!("[{}]", seeds.join(", ")));
        }
        if let Some(known) = &self.known_violation {
            let (invariant, issue) = (quoted(known.invariant.name()), quoted(&known.issue));
            let saying =
                known.saying.as_ref().map(|saying| format!(", saying = {}", quoted(saying))).unwrap_or_default();
            page.raw("known-violation", format!("{{ invariant = {invariant}, issue = {issue}{saying} }}"));
        }
        page.header("[cluster]");
        page.raw("servers", self.cluster.servers);
        if self.cluster.latency != LATENCY_DEFAULT {
            page.text("latency", &print_duration(self.cluster.latency));
        }
        if let Some(before) = self.cluster.renew_before {
            page.text("renew-before", &print_duration(before));
        }
        if self.cluster.wall_clock != WALL_CLOCK_DEFAULT {
            page.raw("wall-clock", instant(self.cluster.wall_clock));
        }
        if self.cluster.memory != MEMORY_DEFAULT {
            page.text("memory", &print_size(self.cluster.memory));
        }
        if let Some(most) = self.cluster.payload_max {
            page.text("payload-max", &print_size(most));
        }
        if self.cluster.sector != SECTORS[0] {
            page.text("sector", &print_size(self.cluster.sector));
        }
        if let Some(most) = self.cluster.segment {
            page.text("segment", &print_size(most));
        }
        page.header("[workload]");
        page.raw("clients", self.workload.clients);
        page.text("appends", &self.workload.appends.to_string());
        if let Some((name, _)) = Call::NAMES.iter().skip(1).find(|(_, call)| *call == self.workload.call) {
            page.text("call", name);
        }
        if self.workload.size != SIZE_DEFAULT {
            page.text("size", &print_size(self.workload.size));
        }
        if let Some(every) = self.workload.oversize_every {
            page.raw("oversize-every", every);
        }
        page.text("for", &print_duration(self.workload.duration));
        self.steps.iter().for_each(|step| page.step(step));
        if self.expect != Expect::default() {
            page.expect(&self.expect);
        }
        page.0
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn header(&mut self, header: &str) {
        let _ = write!(self.0, "\n{header}\n");
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quoted(value));
    }

    /// Writes a story line by line, so that it stays readable.
    fn story(&mut self, story: &str) {
        let mut text = story.split('\n').map(escaped).collect::<Vec<_>>().join("\n");
        if text.starts_with('\n') {
            // TOML drops a newline that follows the opening quotes.
            text.insert(0, '\n');
        }
        let _ = writeln!(self.0, "story = \"\"\"{text}\"\"\"");
    }

    fn step(&mut self, step: &Step) {
        let fault = step.action.fault();
        self.header("[[step]]");
        if step.name != fault.name {
            self.text("name", &step.name);
        }
        self.text("action", fault.name);
        if let Some(on) = step.action.on() {
            self.raw("on", hosts(on));
        }
        match step.action.link() {
            Some(Link::Between(a, b)) => self.raw("between", format!("[{}, {}]", hosts(a), hosts(b))),
            Some(Link::OneWay { from, to }) => {
                self.raw("from", hosts(from));
                self.raw("to", hosts(to));
            }
            None => {}
        }
        for ((name, value), parameter) in step.action.values().iter().zip(fault.parameters) {
            match value {
                value if parameter.need == Need::Default(value.clone()) => {}
                Value::Flag(flag) => self.raw(name, flag),
                Value::Count(count) => self.raw(name, count),
                value => self.text(name, &value.to_string()),
            }
        }
        match &step.start {
            Start::At(at) => self.text("at", &print_duration(*at)),
            Start::After { moment, wait, since } => {
                self.text("after", &moment.to_string());
                if let Some(since) = since {
                    self.text("since", &since.to_string());
                }
                if !wait.is_zero() {
                    self.text("wait", &print_duration(*wait));
                }
            }
        }
        if let Some(length) = step.duration.filter(|length| fault.end != End::After(*length)) {
            self.text("for", &print_duration(length));
        }
    }

    fn expect(&mut self, expect: &Expect) {
        let default = Expect::default();
        self.header("[expect]");
        if expect.recovers_within != default.recovers_within {
            self.text("recovers-within", &print_duration(expect.recovers_within));
        }
        if let Some(blind) = expect.blind_at_most {
            self.text("blind-at-most", &print_duration(blind));
        }
        if expect.dead_letters != default.dead_letters {
            self.raw("dead-letters", expect.dead_letters);
        }
        if expect.acked_at_least != default.acked_at_least {
            self.raw("acked-at-least", expect.acked_at_least);
        }
        if let Some(most) = expect.connections_at_most {
            self.text("connections-at-most", &most.to_string());
        }
        for (key, patterns) in [("seen", &expect.seen), ("never", &expect.never), ("sometimes", &expect.sometimes)] {
            if !patterns.is_empty() {
                let lines: Vec<_> = patterns.iter().map(EventPattern::to_string).collect();
                self.raw(key, format!("[\n  {},\n]", lines.join(",\n  ")));
            }
        }
    }
}

/// Written as in a file: an inline table.
impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ event = {}", quoted(&self.event))?;
        if let Some(on) = &self.on {
            write!(f, ", on = {}", hosts(on))?;
        }
        if let Some(during) = &self.during {
            write!(f, ", during = {}", quoted(during))?;
        }
        if let Some(after) = &self.after {
            write!(f, ", after = {}", quoted(&after.to_string()))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ", reason = {}", quoted(reason))?;
        }
        f.write_str(" }")
    }
}

fn hosts(hosts: &[HostRef]) -> String {
    let names: Vec<_> = hosts.iter().map(|host| quoted(&host.to_string())).collect();
    match names.as_slice() {
        [one] => one.clone(),
        _ => format!("[{}]", names.join(", ")),
    }
}

/// Formats seconds since 1970 as a date; dates in a file are within this century.
fn instant(seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Escapes a text as a basic string of TOML 1.0.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(escaped, "\\u{:04X}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}
