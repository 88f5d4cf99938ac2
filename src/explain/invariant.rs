//! The page of an invariant: the Markdown of the opening comment of its check, as plain text.

use super::{lower, paragraph, plain};

/// Returns the page: the statement, then each section under its title.
pub(super) fn page(name: &str, markdown: &str) -> String {
    let mut page = format!("{name}: an invariant, judged in every run of a log that promises it\n");
    for text in paragraphs(markdown) {
        page.push('\n');
        match title(&text) {
            Some((title, rest)) => {
                page.push_str(title.trim_end_matches('.'));
                page.push('\n');
                page.push_str(&paragraph(&plain(rest)));
            }
            None => page.push_str(&paragraph(&plain(&text))),
        }
    }
    page
}

/// Returns the first sentence of the statement.
pub(super) fn summary(markdown: &str) -> String {
    let statement = paragraphs(markdown).into_iter().next().unwrap_or_default();
    let end = statement.find(". ").unwrap_or(statement.trim_end_matches('.').len());
    lower(&plain(&statement[..end]))
}

/// Returns the paragraphs, each on one line, without the heading.
fn paragraphs(markdown: &str) -> Vec<String> {
    let blocks = markdown.split("\n\n").map(|block| block.split_whitespace().collect::<Vec<_>>().join(" "));
    blocks.filter(|block| !block.is_empty() && !block.starts_with('#')).collect()
}

/// Splits `**Title.** text`.
fn title(text: &str) -> Option<(&str, &str)> {
    let (title, rest) = text.strip_prefix("**")?.split_once("**")?;
    Some((title, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_plain_text() {
        let markdown =
            "# whole\n\nNothing is *ever* lost,\nsee [`Index`]. Nothing.\n\n**Where it comes from.** A\npaper.\n";
        assert_eq!(
            page("whole", markdown),
            "whole: an invariant, judged in every run of a log that promises it\n\nNothing is ever lost, see `Index`. \
             Nothing.\n\nWhere it comes from\nA paper.\n"
        );
        assert_eq!(summary(markdown), "nothing is ever lost, see `Index`");
    }
}
