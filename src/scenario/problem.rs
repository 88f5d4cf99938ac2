//! One thing that is wrong with a scenario file: what, where, and the cure.
//!
//! A problem is data; [`render`](super::render) decides how it looks. Messages quote what the file says, and the file
//! may say anything, so quoting shortens the text and escapes what a terminal would obey.

use std::ops::Range;

/// One mistake. All problems of a file are reported at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind, kebab-case and stable: `unknown-key`.
    pub code: &'static str,
    /// What is wrong, as one lower-case sentence.
    pub message: String,
    /// The place in bytes of the text. May be empty.
    pub span: Range<usize>,
    /// The note under the caret; may be empty.
    pub note: String,
    /// How to put it right, if the note does not say so.
    pub cure: Option<String>,
}

impl Problem {
    /// Makes a problem without a cure.
    pub fn new(code: &'static str, span: Range<usize>, message: impl Into<String>, note: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), span, note: note.into(), cure: None }
    }

    /// Adds a cure.
    pub fn cured_by(mut self, cure: impl Into<String>) -> Problem {
        self.cure = Some(cure.into());
        self
    }
}

/// The most problems that are shown for one file; a last one says how many more there are.
pub const PROBLEMS_MAX: usize = 100;

/// The code of a last problem that stands for all problems that are not shown.
pub(super) const NOT_SHOWN: &str = "not-shown";

/// The most characters of the file that a message repeats.
const QUOTED_MAX: usize = 40;

/// Quotes a piece of the file in backticks, cut to a reasonable length and without control characters.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == QUOTED_MAX {
            quoted.push('…');
            break;
        }
        if obeyed_by_terminals(c) {
            quoted.extend(c.escape_unicode());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('`');
    quoted
}

/// Returns whether a character moves, hides or reorders text instead of showing something.
pub(super) fn obeyed_by_terminals(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns the candidate nearest to what was written, if it is near enough to be meant.
pub(super) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if written.len() > 100 {
        return None;
    }
    let length = written.chars().count();
    let allowed = (length / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(steps, _)| *steps > 0 && *steps <= allowed && *steps < length)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// Computes the edit distance in which a swap of two neighbours counts as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Suggests `did you mean X? (also A, B, C)`: the nearest candidate first, or all of them if none is near.
pub(crate) fn suggest(written: &str, candidates: &[&str]) -> String {
    /// How many other candidates are listed beside a near one; three times as many if there is none.
    const OTHERS_MAX: usize = 5;
    let near = nearest(written, candidates.iter().copied());
    let others_max = if near.is_some() { OTHERS_MAX } else { 3 * OTHERS_MAX };
    let others: Vec<_> = candidates.iter().copied().filter(|other| Some(*other) != near).collect();
    let more = if others.len() > others_max { ", …" } else { "" };
    let others = others.into_iter().take(others_max).collect::<Vec<_>>().join(", ");
    match near {
        Some(near) if others.is_empty() => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? (also {others}{more})"),
        None if others.is_empty() => "there is none".to_owned(),
        None => format!("known: {others}{more}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_what_was_meant() {
        assert_eq!(nearest("servrs", ["servers", "clients"]), Some("servers"));
        assert_eq!(nearest("partiton", ["partition", "pause"]), Some("partition"));
        assert_eq!(nearest("zebra", ["servers", "clients"]), None);
        assert_eq!(nearest("", ["a"]), None);
        assert_eq!(distance("abcd", "abdc"), 1);
    }

    #[test]
    fn quoting_disarms_the_terminal() {
        assert_eq!(quote("a\u{1b}[2J\u{202e}"), "`a\\u{1b}[2J\\u{202e}`");
        assert_eq!(quote(&"x".repeat(50)).chars().count(), 43);
    }
}
