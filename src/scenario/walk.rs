//! Reads values out of a TOML tree that may be wrong anywhere.
//!
//! Each reader returns what it could read and files a problem for what it could not, so that one pass finds every
//! mistake. Readers never stop the walk, and nothing here knows what a scenario is.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, obeyed_by_terminals, quote, suggest},
    quantity::{self, QuantityError, print_duration, print_size},
};
use crate::fault::{Kind, PATH_BYTES_MAX, Rate, Value, path_problem};

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

/// A value with its place.
pub(super) type Node<'a> = &'a Spanned<DeValue<'a>>;

/// A table from which keys are taken one by one; what is left at the end is unknown.
pub(super) struct Table<'a> {
    /// The place at which a missing key is reported: the header, or the braces.
    pub(super) span: Range<usize>,
    what: &'static str,
    entries: &'a DeTable<'a>,
    known: BTreeSet<&'static str>,
}

impl<'a> Table<'a> {
    /// Makes a table that errors call `what` (`[workload]`).
    pub(super) fn new(what: &'static str, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Table { span, what, entries, known: BTreeSet::new() }
    }

    /// Returns the value of a key, if it is there. The key counts as known from then on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.insert(key);
        self.entries.get(key)
    }

    /// Counts keys as known without reading them.
    pub(super) fn allow(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Returns the place of a key itself.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Returns the value of a key that must be there.
    pub(super) fn need(&mut self, key: &'static str, example: &str, problems: &mut Problems) -> Option<Node<'a>> {
        let value = self.take(key);
        if value.is_none() {
            let message = format!("{} needs `{key}`", self.what);
            problems.file("missing-key", self.span.clone(), message, format!("add {key} = {example}"));
        }
        value
    }

    /// Files a problem for every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        #[cfg(test)]
        remember_keys(self.what, &self.known);
        let known: Vec<_> = self.known.iter().copied().collect();
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.known.contains(key.get_ref().as_ref())) {
            let message = format!("{} has no key {}", self.what, quote(key.get_ref()));
            problems.file("unknown-key", key.span(), message, suggest(key.get_ref(), &known));
        }
    }
}

impl Problems {
    /// Files a problem that needs no cure beyond its note.
    pub(super) fn file(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        note: impl Into<String>,
    ) {
        self.0.push(Problem::new(code, span, message, note));
    }

    /// Reads a table.
    pub(super) fn table<'a>(&mut self, what: &'static str, node: Node<'a>) -> Option<Table<'a>> {
        match node.get_ref() {
            DeValue::Table(entries) => Some(Table::new(what, node.span(), entries)),
            other => self.wrong_type(node, other, what, "a table"),
        }
    }

    /// Reads the items of an array.
    pub(super) fn array<'a>(&mut self, key: &str, node: Node<'a>) -> Option<&'a [Spanned<DeValue<'a>>]> {
        match node.get_ref() {
            DeValue::Array(items) => Some(items),
            other => self.wrong_type(node, other, key, "an array"),
        }
    }

    /// Reads a string of one line or more, without anything that a terminal would obey. `\r\n` becomes `\n`.
    pub(super) fn text(&mut self, key: &str, node: Node<'_>, lines: bool) -> Option<String> {
        let text = self.string(key, node)?.replace("\r\n", "\n");
        let bad = |c: &char| obeyed_by_terminals(*c) && !(lines && matches!(c, '\n' | '\t'));
        if let Some(bad) = text.chars().find(bad) {
            let message = format!("`{key}` holds a control character, U+{:04X}", u32::from(bad));
            self.file("control-character", node.span(), message, "take it out");
            return None;
        }
        Some(text)
    }

    /// Reads a string as it is.
    pub(super) fn string<'a>(&mut self, key: &str, node: Node<'a>) -> Option<&'a str> {
        match node.get_ref() {
            DeValue::String(text) => Some(text),
            other => self.wrong_type(node, other, key, "a string"),
        }
    }

    /// Reads a bare number within inclusive bounds.
    pub(super) fn count(&mut self, key: &str, node: Node<'_>, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(written) = node.get_ref() else {
            return self.wrong_type(node, node.get_ref(), key, "a bare number, since it counts something");
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        let number = number.and_then(|number| u64::try_from(number).ok()).filter(|number| bounds.contains(number));
        if number.is_none() {
            let message = format!("`{key}` is out of range: {}", quote(&written.to_string()));
            let note = match *bounds.end() {
                COUNT_MAX => format!("at least {}, and no more than 63 bits", bounds.start()),
                end => format!("from {} to {end}", bounds.start()),
            };
            self.file("out-of-range", node.span(), message, note);
        }
        number
    }

    /// Reads a length of time within inclusive bounds.
    pub(super) fn duration(&mut self, key: &str, node: Node<'_>, min: Duration, max: Duration) -> Option<Duration> {
        let example = "write \"60s\", \"1m30s\" or \"250ms\"";
        let text = self.quantity(node, key, "duration", example, |number| match number {
            Some(n) if n > 0 && n % 60 == 0 => format!("write \"{n}s\" or \"{}m\"", n / 60),
            Some(n) => format!("write \"{n}s\" or \"{n}ms\""),
            None => example.to_owned(),
        })?;
        let length = self.check(quantity::duration(text), node, text, "length of time", example)?;
        let range = (print_duration(min), print_duration(max));
        self.within(key, node, text, (min..=max).contains(&length), range).then_some(length)
    }

    /// Reads a rate.
    pub(super) fn rate(&mut self, key: &str, node: Node<'_>) -> Option<Rate> {
        let example = "write \"60/s\" or \"30/m\"";
        let text = self.quantity(node, key, "rate", example, |number| match number {
            Some(n) => format!("write \"{n}/s\" or \"{n}/m\""),
            None => example.to_owned(),
        })?;
        match Rate::read(text) {
            Err(why @ (QuantityError::Zero | QuantityError::TooFast)) => {
                let message = format!("`{key}` is out of range: {why}");
                let note = format!("from 1/h to {}/s", Rate::PER_SECOND_MAX);
                self.file("out-of-range", node.span(), message, note);
                None
            }
            read => self.check(read, node, text, "rate", example),
        }
    }

    /// Reads a date with time and offset, as seconds since 1970; it must be of this century.
    pub(super) fn instant(&mut self, key: &str, node: Node<'_>) -> Option<i64> {
        let example = "write 2026-03-29T03:12:30Z, without quotes";
        let DeValue::Datetime(written) = node.get_ref() else {
            return self.wrong_type(node, node.get_ref(), key, "a date with time and offset: 2026-03-29T03:12:30Z");
        };
        let format = &time::format_description::well_known::Rfc3339;
        let seconds = time::OffsetDateTime::parse(&written.to_string(), format).map(|at| at.unix_timestamp());
        match seconds {
            Ok(seconds) if (946_684_800..4_102_444_800).contains(&seconds) => Some(seconds),
            Ok(_) => {
                self.file("out-of-range", node.span(), format!("`{key}` is out of range"), "from 2000 to 2099");
                None
            }
            Err(_) => {
                self.file("bad-quantity", node.span(), format!("`{key}` has no time or no offset"), example);
                None
            }
        }
    }

    /// Reads a number of bytes within inclusive bounds.
    pub(super) fn size(&mut self, key: &str, node: Node<'_>, min: u64, max: u64) -> Option<u64> {
        let example = "write \"256B\" or \"16KiB\"";
        let text = self.quantity(node, key, "size", example, |number| match number {
            Some(n) => format!("write \"{n}B\" or \"{n}KiB\""),
            None => example.to_owned(),
        })?;
        let bytes = self.check(quantity::size(text), node, text, "size", example)?;
        self.within(key, node, text, (min..=max).contains(&bytes), (print_size(min), print_size(max))).then_some(bytes)
    }

    /// Reads a value of the kind that a fault's parameter takes.
    pub(super) fn value(&mut self, key: &str, node: Node<'_>, kind: Kind) -> Option<Value> {
        match kind {
            Kind::Duration { min, max } => self.duration(key, node, min, max).map(Value::Duration),
            Kind::Offset { most } => self.offset(key, node, most).map(Value::Offset),
            Kind::Drift { most } => self.drift(key, node, most).map(Value::Drift),
            Kind::Size { min, max } => self.size(key, node, min, max).map(Value::Size),
            Kind::Rate => self.rate(key, node).map(Value::Rate),
            Kind::Word(words) => self.word(key, node, words).map(Value::Word),
            Kind::Flag => match node.get_ref() {
                DeValue::Boolean(flag) => Some(Value::Flag(*flag)),
                other => self.wrong_type(node, other, key, "true or false"),
            },
            Kind::Count { min, max } => self.count(key, node, min..=max).map(Value::Count),
            Kind::Path => self.path(key, node).map(Value::Path),
        }
    }

    /// Reads a selection of a host's files: the beginning of a path in its data folder, or the name of a file.
    fn path(&mut self, key: &str, node: Node<'_>) -> Option<String> {
        let text = self.string(key, node)?;
        if let Some(why) = path_problem(text) {
            let message = format!("`{key}` cannot be {}: {why}", quote(text));
            let note =
                format!("write \"journal/\" or a file's name, at most {PATH_BYTES_MAX} bytes; drop it for all files");
            self.file("bad-path", node.span(), message, note);
            return None;
        }
        Some(text.to_owned())
    }

    /// Reads a length of time with its sign, in milliseconds.
    fn offset(&mut self, key: &str, node: Node<'_>, most: Duration) -> Option<i64> {
        let example = "write \"+75s\" (ahead) or \"-90s\" (behind)";
        let text = self.quantity(node, key, "length of time", example, |_| example.to_owned())?;
        let ms = self.check(quantity::offset(text), node, text, "length of time with a sign", example)?;
        let fits = u128::from(ms.unsigned_abs()) <= most.as_millis();
        let most = print_duration(most);
        self.within(key, node, text, fits, (format!("-{most}"), format!("+{most}"))).then_some(ms)
    }

    /// Reads parts per million with their sign.
    fn drift(&mut self, key: &str, node: Node<'_>, most: i32) -> Option<i32> {
        let example = "write \"+200ppm\" (fast) or \"-150ppm\" (slow)";
        let text = self.quantity(node, key, "drift", example, |_| example.to_owned())?;
        let ppm = self.check(quantity::drift(text), node, text, "drift", example)?;
        let fits = ppm.unsigned_abs() <= most.unsigned_abs();
        self.within(key, node, text, fits, (format!("-{most}ppm"), format!("+{most}ppm"))).then_some(ppm)
    }

    /// Reads one of some words.
    fn word(
        &mut self,
        key: &str,
        node: Node<'_>,
        words: &'static [(&'static str, &'static str)],
    ) -> Option<&'static str> {
        let text = self.string(key, node)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(word, _)| *word);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("`{key}` cannot be {}", quote(text));
            self.file("unknown-word", node.span(), message, suggest(text, &known));
        }
        found
    }

    /// Returns the text of a quantity; for a bare number it files a problem that says what to write instead.
    fn quantity<'a>(
        &mut self,
        node: Node<'a>,
        key: &str,
        what: &str,
        example: &str,
        hint: impl Fn(Option<u64>) -> String,
    ) -> Option<&'a str> {
        /// A number above this is not repeated with a unit: nobody means it.
        const PLAUSIBLE_MAX: u64 = 999_999_999;
        let plausible = |number: &u64| *number <= PLAUSIBLE_MAX;
        match node.get_ref() {
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                let number = text.parse().ok().filter(plausible);
                self.file("no-unit", node.span(), format!("a {what} needs a unit"), hint(number));
                None
            }
            DeValue::String(text) => Some(text),
            DeValue::Integer(number) => {
                let number = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(plausible);
                self.file("no-unit", node.span(), format!("a {what} needs a unit"), hint(number));
                None
            }
            DeValue::Float(_) => {
                self.file("no-unit", node.span(), format!("a {what} needs a unit"), example);
                None
            }
            other => self.wrong_type(node, other, key, "a string with a unit"),
        }
    }

    fn check<T>(
        &mut self,
        read: Result<T, QuantityError>,
        node: Node<'_>,
        text: &str,
        what: &str,
        example: &str,
    ) -> Option<T> {
        read.map_err(|why| {
            let code = match why {
                QuantityError::NoUnit => "no-unit",
                QuantityError::NoSign => "no-sign",
                _ => "bad-quantity",
            };
            self.file(code, node.span(), format!("{} is not a {what}: {why}", quote(text)), example);
        })
        .ok()
    }

    fn within(&mut self, key: &str, node: Node<'_>, text: &str, fits: bool, range: (String, String)) -> bool {
        if !fits {
            let message = format!("`{key}` is out of range: {}", quote(text));
            self.file("out-of-range", node.span(), message, format!("from {} to {}", range.0, range.1));
        }
        fits
    }

    /// Files a problem that says what was expected here.
    pub(super) fn wrong_type<T>(
        &mut self,
        node: Node<'_>,
        found: &DeValue<'_>,
        key: &str,
        expected: &str,
    ) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a bare number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let name = if key.starts_with('[') { key.to_owned() } else { format!("`{key}`") };
        self.file("wrong-type", node.span(), format!("{name} cannot be {found}"), format!("expected {expected}"));
        None
    }
}

/// The most patterns in one list of `[expect]`, hosts in one list, and seeds in one file.
pub(super) const LIST_MAX: usize = 1_000;

/// Files a problem if a list is longer than `max`.
pub(super) fn too_many(count: usize, max: usize, what: &str, node: Node<'_>, problems: &mut Problems) {
    if count > max {
        let message = format!("{count} {what} are too many");
        problems.file("too-many", node.span(), message, format!("at most {max}"));
    }
}

/// The largest bare number: the largest integer that TOML holds everywhere.
pub(super) const COUNT_MAX: u64 = i64::MAX as u64;

/// The keys that were read from each table, for the test that compares them with the schema.
#[cfg(test)]
type Keys = std::collections::BTreeMap<&'static str, BTreeSet<String>>;

#[cfg(test)]
thread_local! {
    static KEYS: std::cell::RefCell<Keys> = const { std::cell::RefCell::new(Keys::new()) };
}

#[cfg(test)]
fn remember_keys(table: &'static str, keys: &BTreeSet<&'static str>) {
    KEYS.with_borrow_mut(|known| known.entry(table).or_default().extend(keys.iter().map(|key| (*key).to_owned())));
}

/// Returns the keys that `reading` asked for, by table.
#[cfg(test)]
pub(super) fn known_keys(reading: impl FnOnce()) -> Keys {
    KEYS.take();
    reading();
    KEYS.take()
}
