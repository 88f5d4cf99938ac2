//! How a user calls the command line, and where its scenarios are.

use std::path::{Path, PathBuf};

use crate::scenario::Sizes;

/// What differs between the command line of `gapless` and that of a user's test binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// What a user types before the verb: `gapless`, or `cargo test --test survives -- --gapless`.
    pub command: String,
    /// The single word under which a shell can complete the command line: `gapless`, or the name of the test.
    pub name: String,
    /// The folder that is used if none is named, and in which the name of a scenario is looked up.
    pub scenarios: PathBuf,
    /// Whether scenarios of the folder are called by their names. Otherwise they are called by their paths.
    pub by_name: bool,
    /// The sizes that the log under test takes.
    pub sizes: Sizes,
}

impl Home {
    /// Returns the home of the program `gapless`, which tests a log with these sizes: `scenarios/` in the current
    /// folder.
    pub fn gapless(sizes: Sizes) -> Self {
        Self {
            command: "gapless".to_owned(),
            name: "gapless".to_owned(),
            scenarios: PathBuf::from("scenarios"),
            by_name: false,
            sizes,
        }
    }

    /// Returns the path for a word of the command line, which is the name of a scenario in the folder, or a path.
    pub(super) fn path(&self, word: &Path) -> PathBuf {
        let mut named = self.scenarios.join(word).into_os_string();
        named.push(".toml");
        let named = PathBuf::from(named);
        if named.is_file() { named } else { word.to_owned() }
    }

    /// Returns the word by which a user names this file, quoted for a shell.
    pub(super) fn word(&self, path: &Path) -> String {
        let named = path.strip_prefix(&self.scenarios).ok().filter(|_| self.by_name);
        let word = named.map_or_else(|| path.to_owned(), |name| name.with_extension(""));
        quoted(&word.display().to_string())
    }

    /// Returns the command that repeats a run of this file, to be pasted. The run fills in `{seed}`.
    pub(crate) fn reproduce(&self, path: &Path) -> String {
        format!("{} replay {} --seed {{seed}}", self.command, self.word(path))
    }
}

/// Quotes a text so that a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | '@' | '=');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(scenarios: &Path) -> Home {
        let command = "cargo test --test survives -- --gapless".to_owned();
        Home {
            command,
            name: "survives".to_owned(),
            scenarios: scenarios.to_owned(),
            by_name: true,
            ..Home::gapless(Sizes::default())
        }
    }

    #[test]
    fn a_path_with_a_space_is_pasted_as_one_word() {
        let home = Home::gapless(Sizes::default());
        assert_eq!(home.reproduce(Path::new("a/b-1.toml")), "gapless replay a/b-1.toml --seed {seed}");
        assert_eq!(home.reproduce(Path::new("it's $x.toml")), "gapless replay 'it'\\''s $x.toml' --seed {seed}");
    }

    #[test]
    fn gapless_tells_scenarios_by_path_and_a_test_binary_its_own_by_name() {
        let path = Path::new("tests/scenarios/tls/expired.toml");
        let by_name = mine(Path::new("tests/scenarios")).reproduce(path);
        assert_eq!(by_name, "cargo test --test survives -- --gapless replay tls/expired --seed {seed}");
        let elsewhere = mine(Path::new("tests/scenarios")).word(Path::new("other/x.toml"));
        assert_eq!(elsewhere, "other/x.toml");
        let gapless = Home { scenarios: "tests/scenarios".into(), ..Home::gapless(Sizes::default()) };
        assert_eq!(gapless.reproduce(path), "gapless replay tests/scenarios/tls/expired.toml --seed {seed}");
    }

    #[test]
    fn a_name_is_looked_up_in_the_folder_and_any_other_word_is_a_path() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("tls")).expect("made");
        std::fs::write(folder.path().join("tls/v1.2.toml"), "").expect("written");
        let home = mine(folder.path());
        assert_eq!(home.path(Path::new("tls/v1.2")), folder.path().join("tls/v1.2.toml"));
        assert_eq!(home.path(Path::new("tls/v1.2.toml")), Path::new("tls/v1.2.toml"));
        assert_eq!(home.path(Path::new("tls")), Path::new("tls"));
        assert_eq!(home.word(&home.path(Path::new("tls/v1.2"))), "tls/v1.2");
    }
}
