//! Colours, or none. The caller knows whether a terminal wants them (`NO_COLOR`, a pipe).

use crate::check::Verdict;

/// How text is highlighted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Palette {
    /// Plain text.
    #[default]
    Plain,
    /// ANSI escapes (ECMA-48 SGR), the eight basic colours only, so that every theme can show them.
    Ansi,
}

impl Palette {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Palette::Plain => text.to_owned(),
            Palette::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    pub(super) fn verdict(self, verdict: Verdict, text: &str) -> String {
        let code = match verdict {
            Verdict::Holds => "32",
            Verdict::Inconclusive => "33",
            Verdict::Violated => "1;31",
        };
        self.paint(code, text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}
