//! Text in a given width: cut, wrapped and limited, always with an ellipsis where something is missing.
//!
//! Widths count characters. What gapless prints is ASCII but for a few marks that are one column wide.

use super::terminal::COLUMNS_MAX;

/// At most `width` characters; an ellipsis shows that there was more.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Lines of at most `width` characters, broken at spaces; a longer word is cut.
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

/// The lines that fit, the last of them ending in an ellipsis where some do not.
pub(super) fn limited(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = format!("{} …", cut(last, COLUMNS_MAX - 16));
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
        assert_eq!(limited(vec!["a".to_owned(), "b".to_owned()], 1), ["a …"]);
    }
}
