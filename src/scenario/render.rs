//! Renders problems for a terminal: what is wrong, where, the line itself, a caret, the cure.
//!
//! This is pure: text in, text out, no colours and no terminal. Nothing of the file reaches the output as a control
//! character, and no line except the address is wider than 100 columns.

use std::{fmt::Write as _, ops::Range, path::Path};

use super::problem::{NOT_SHOWN, Problem, obeyed_by_terminals};

/// The widest line, in columns.
const COLUMNS: usize = 100;

/// A tab is shown as this many columns.
const TAB: usize = 4;

/// Renders all problems of one file, in the order given. The result is empty if there are no problems.
pub fn problems(path: &Path, text: &str, problems: &[Problem]) -> String {
    problems_within(path, text, problems, COLUMNS)
}

/// Does the same for fewer columns.
pub fn problems_within(path: &Path, text: &str, problems: &[Problem], columns: usize) -> String {
    let source = Source::new(text);
    let mut page = String::new();
    for problem in problems {
        one(&mut page, path, &source, problem, columns);
    }
    page
}

/// Returns the last line: `1 file, 3 errors, all shown`, with the exit status at the right edge. `not_shown` files have
/// more problems than [`PROBLEMS_MAX`](super::PROBLEMS_MAX); see [`all_shown`].
pub fn summary(files: usize, errors: usize, not_shown: usize, exit: u8) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let said = match (errors, not_shown) {
        (0, _) => format!("{}, no errors", plural(files, "file")),
        (_, 0) => format!("{}, {}, all shown", plural(files, "file"), plural(errors, "error")),
        _ => format!("{}, {} shown and more in {not_shown}", plural(files, "file"), plural(errors, "error")),
    };
    let exit = format!("exit {exit}");
    let room = COLUMNS.saturating_sub(exit.len()).max(said.len() + 1);
    format!("{said:<room$}{exit}\n")
}

/// Returns whether these are all problems of their file, or only the first [`PROBLEMS_MAX`](super::PROBLEMS_MAX).
pub fn all_shown(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.code != NOT_SHOWN)
}

fn one(page: &mut String, path: &Path, source: &Source<'_>, problem: &Problem, columns: usize) {
    let place = source.locate(&problem.span);
    let gutter = place.line.to_string().len();
    let header = format!("error[{}]: {}", problem.code, disarm(&problem.message));
    for (i, line) in wrap(&header, columns, columns - 2).iter().enumerate() {
        let _ = writeln!(page, "{}{line}", if i == 0 { "" } else { "  " });
    }
    let address = disarm(&path.display().to_string());
    let _ = writeln!(page, "{:gutter$}--> {address}:{}:{}", "", place.line, place.column);
    let room = columns.saturating_sub(gutter + 3);
    let shown = Shown::new(place.text, &place.marked, room);
    let _ = writeln!(page, "{}", format!("{} | {}", place.line, shown.text).trim_end());
    let edge = format!("{:gutter$} | ", "");
    let caret = format!("{:offset$}{}", "", "^".repeat(shown.width), offset = shown.offset);
    let note = disarm(&problem.note);
    let beside = room.saturating_sub(shown.offset + shown.width + 1);
    if width(&note) <= beside {
        let _ = writeln!(page, "{}", format!("{edge}{caret} {note}").trim_end());
    } else {
        let _ = writeln!(page, "{edge}{caret}");
        for line in wrap(&note, room, room) {
            let _ = writeln!(page, "{edge}{line}");
        }
    }
    if let Some(cure) = &problem.cure {
        let edge = format!("{:gutter$} = cure: ", "");
        let room = columns.saturating_sub(edge.len());
        for (i, line) in wrap(&disarm(cure), room, room).iter().enumerate() {
            let _ = if i == 0 {
                writeln!(page, "{edge}{line}")
            } else {
                writeln!(page, "{:indent$}{line}", "", indent = edge.len())
            };
        }
    }
}

/// A text with an index of its lines.
struct Source<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

/// The place of a problem.
struct Place<'t> {
    /// The line, from 1.
    line: usize,
    /// The column in characters, from 1.
    column: usize,
    /// The line without its end.
    text: &'t str,
    /// What is marked, in bytes of the line; a span over several lines is marked only on its first one.
    marked: Range<usize>,
}

impl<'t> Source<'t> {
    fn new(text: &'t str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Source { text, starts: std::iter::once(0).chain(newlines).collect() }
    }

    fn locate(&self, span: &Range<usize>) -> Place<'t> {
        let start = floor(self.text, span.start);
        let end = floor(self.text, span.end).max(start);
        let line = self.starts.partition_point(|begin| *begin <= start).max(1);
        let begin = self.starts[line - 1];
        let text = self.text[begin..].split('\n').next().unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        let marked = (start - begin).min(text.len())..(end - begin).min(text.len());
        let column = text[..marked.start].chars().count() + 1;
        Place { line, column, text, marked }
    }
}

/// Returns the nearest character boundary at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A line as it is shown, cut around the marked piece if it is too wide.
struct Shown {
    text: String,
    /// The columns before the caret.
    offset: usize,
    /// The columns under the caret, at least 1.
    width: usize,
}

impl Shown {
    fn new(line: &str, marked: &Range<usize>, room: usize) -> Shown {
        let (before, rest) = line.split_at(marked.start);
        let (middle, after) = rest.split_at(marked.end - marked.start);
        let (before, middle, after) = (visible(before), visible(middle), visible(after));
        // An empty mark still needs a column for its caret, also at the end of the line.
        let whole = width(&before) + width(&middle).max(1) + width(&after);
        if whole <= room {
            let (offset, columns) = (width(&before), width(&middle).max(1));
            return Shown { text: before + &middle + &after, offset, width: columns };
        }
        /// The least part of a cut line that stands before the caret.
        const BEFORE: usize = 30;
        let middle = shorten(&middle, room.saturating_sub(BEFORE + 2).max(1));
        let left = room.saturating_sub(width(&middle).max(1) + 2);
        let before_room = left.saturating_sub(width(&after)).max(left.min(BEFORE));
        let before = keep_end(&before, before_room);
        let offset = width(&before);
        let columns = width(&middle).max(1);
        let after = shorten(&after, room.saturating_sub(offset + width(&middle)));
        Shown { text: before + &middle + &after, offset, width: columns }
    }
}

/// Returns the beginning of a text, at most `room` wide, with a sign that something is missing.
fn shorten(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used + 1 > room {
            break;
        }
        short.push(c);
    }
    if room > 0 {
        short.push('…');
    }
    short
}

/// Returns the end of a text, at most `room` wide, with a sign that something is missing.
fn keep_end(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = Vec::new();
    let mut used = 1;
    for c in text.chars().rev() {
        used += char_width(c);
        if used > room {
            break;
        }
        kept.push(c);
    }
    if room > 0 {
        kept.push('…');
    }
    kept.into_iter().rev().collect()
}

/// Breaks a text at spaces; a word that alone is too wide is cut.
fn wrap(text: &str, first: usize, others: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let room = if lines.len() == 1 { first } else { others };
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                *line = shorten(word, room);
                continue;
            }
            if width(line) + 1 + width(word) <= room {
                line.push(' ');
                line.push_str(word);
                continue;
            }
        }
        lines.push(shorten(word, others));
    }
    lines
}

/// Returns a piece of the file with tabs as spaces and nothing that a terminal obeys.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\t' => shown.push_str(&" ".repeat(TAB)),
            c if obeyed_by_terminals(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Does the same for messages, in which a newline becomes a space.
fn disarm(text: &str) -> String {
    visible(&text.replace('\n', " "))
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Returns the columns of a character: 0 for combining marks, 2 for East Asian wide ones and emoji, else 1. The short
/// table follows Unicode's East Asian Width (UAX #11): a character that it misses shifts a caret, no more.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str, span: Range<usize>, note: &str) -> String {
        problems(Path::new("a.toml"), text, &[Problem::new("wrong", span, "it is wrong", note)])
    }

    #[test]
    fn the_caret_stands_under_wide_characters_and_tabs() {
        let text = "\tk = \"漢é\" x";
        let at = text.find('x').expect("there is one");
        assert_eq!(
            shown(text, at..at + 1, "here"),
            "error[wrong]: it is wrong\n --> a.toml:1:11\n1 |     k = \"漢é\" x\n  |               ^ here\n"
        );
    }

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        let page = shown("a = \"\u{1b}[2J\"", 4..10, "\u{202e}note");
        assert!(page.contains("\\u{1b}[2J") && page.contains("\\u{202e}note"));
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("key = [{}\"here\"{}]", "\"x\", ".repeat(60), ", \"y\"".repeat(60));
        let at = text.find("\"here\"").expect("there is one");
        let page = shown(&text, at..at + 6, "this one");
        assert!(page.lines().all(|line| width(line) <= COLUMNS), "{page}");
        assert!(page.contains("\"here\"") && page.contains('…'), "{page}");
    }

    #[test]
    fn a_caret_behind_a_line_that_fills_the_columns_is_still_within_them() {
        let text = "x".repeat(COLUMNS - 4);
        let page = shown(&text, text.len()..text.len(), "");
        assert!(page.lines().all(|line| width(line) <= COLUMNS), "{page}");
    }

    #[test]
    fn the_summary_counts_and_ends_with_the_status() {
        assert_eq!(summary(1, 3, 0, 3).trim_end().len(), COLUMNS);
        assert!(summary(1, 3, 0, 3).starts_with("1 file, 3 errors, all shown "));
        assert!(summary(2, 0, 0, 0).starts_with("2 files, no errors "));
    }

    proptest! {
        #[test]
        fn any_span_in_any_text_is_shown_within_the_columns(
            text in "(?s).{0,300}", start in 0usize..400, length in 0usize..400, note in "(?s).{0,200}"
        ) {
            let page = shown(&text, start..start + length, &note);
            for line in page.lines() {
                prop_assert!(width(line) <= COLUMNS, "{}: {}", width(line), line);
                prop_assert!(!line.chars().any(obeyed_by_terminals));
            }
        }
    }
}
