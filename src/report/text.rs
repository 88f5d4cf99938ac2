//! Fits text into a given width: cut, wrapped and limited, always with an ellipsis where something is missing.
//!
//! Widths count characters. What gapless prints is ASCII except for a few marks that are one column wide.

/// Returns at most `width` characters; an ellipsis shows that there was more.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Wraps text into lines of at most `width` characters, broken at spaces; a longer word is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let word = cut(word, width);
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used + 1 + length <= width => {
                line.push(' ');
                line.push_str(&word);
                used += 1 + length;
            }
            _ => {
                lines.push(word);
                used = length;
            }
        }
    }
    lines
}

/// Does the same but cuts nothing: a longer word goes on in the next line. This is for text that must be read to its
/// end.
pub(crate) fn fold(text: &str, width: usize) -> Vec<String> {
    let longest = |word: &str| word.chars().count() > width;
    let mut broken = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let characters: Vec<char> = word.chars().collect();
        let pieces = if longest(word) { characters.chunks(width.max(1)) } else { characters.chunks(characters.len()) };
        for piece in pieces {
            broken.extend(piece);
            broken.push(' ');
        }
    }
    wrap(&broken, width)
}

/// Fits text that was laid out for [`COLUMNS_MAX`](super::COLUMNS_MAX) columns into fewer: paragraphs are filled anew,
/// and text in columns goes on below its last column.
pub(crate) fn refit(text: &str, columns: usize) -> String {
    if columns >= super::COLUMNS_MAX {
        return text.to_owned();
    }
    let mut fitted = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(first) = lines.next() {
        let mut whole = first.to_owned();
        let plain = |line: &str| !line.is_empty() && !line.starts_with(' ');
        // A line goes on if the first word of the next line would not have fitted on it.
        while let Some(next) = lines.next_if(|next| plain(next) && plain(&whole) && goes_on(&whole, next)) {
            whole.push(' ');
            whole.push_str(next);
        }
        for line in hang(&whole, columns) {
            fitted.push_str(&line);
            fitted.push('\n');
        }
    }
    fitted
}

/// Returns whether a paragraph goes on from one line to the next. Text wrapped by hand is a little shorter than it
/// could be.
fn goes_on(line: &str, next: &str) -> bool {
    const SLACK: usize = 14;
    let last = line.chars().count() % (super::COLUMNS_MAX + 1);
    let word = next.split(' ').next().unwrap_or_default().chars().count();
    line.chars().count() > super::COLUMNS_MAX || last + 1 + word + SLACK > super::COLUMNS_MAX
}

/// Lets a line go on, where it has to, below the column in which its text stands.
fn hang(line: &str, columns: usize) -> Vec<String> {
    let indent = line.chars().take_while(|c| *c == ' ').count();
    let text: Vec<char> = line.chars().collect();
    // The text stands behind the last run of spaces that separates two columns.
    let column = (indent..text.len().saturating_sub(1))
        .filter(|at| text[*at] == ' ' && text[*at + 1] != ' ' && *at > indent && text[*at - 1] == ' ')
        .map(|at| at + 1)
        .rfind(|at| *at < columns / 2)
        .unwrap_or(indent);
    let head: String = text[..column].iter().collect();
    let rest: String = text[column..].iter().collect();
    let mut lines = fold(&rest, columns - column).into_iter();
    let first = lines.next().map_or_else(|| head.trim_end().to_owned(), |first| format!("{head}{first}"));
    std::iter::once(first).chain(lines.map(|line| format!("{:column$}{line}", ""))).collect()
}

/// Returns the lines that fit, the last of them ending in an ellipsis if some do not. `width` is the width of a line.
pub(super) fn limited(mut lines: Vec<String>, most: usize, width: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = format!("{} …", cut(last, width.saturating_sub(2)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_wrapped_by_characters() {
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüßä", 4), "äöü…");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(limited(vec!["a".to_owned(), "b".to_owned()], 1, 7), ["a …"]);
    }

    #[test]
    fn what_has_to_be_read_to_its_end_is_never_cut() {
        assert_eq!(fold("see /a/long/path now", 6), ["see", "/a/lon", "g/path", "now"]);
    }

    #[test]
    fn a_page_is_filled_anew_where_there_are_fewer_columns() {
        let sentence = "Nothing is lost that was synced before, and what was not is lost whole or in part, as it";
        let page = format!(
            "Title\n{sentence}\nhappens. So it is.\n\n  for       how long it lasts, if it does not last until the end\n"
        );
        let fitted = refit(&page, 48);
        assert!(fitted.lines().all(|line| line.chars().count() <= 48), "{fitted}");
        insta::assert_snapshot!(fitted);
        assert_eq!(refit(&page, 100), page);
    }
}
