//! Runs that fail for the same cause are reported once: the first in full, the others by their seeds.
//!
//! A cause is a sentence without its figures: `server-1 lost 2 309 bytes at 5.336s` and
//! `server-3 lost 84 bytes at 9.002s` count as the same cause. Two causes that read alike would be taken for one, so
//! each scenario is kept apart, and so is each invariant.

use std::path::{Path, PathBuf};

use super::words::counted;
use crate::report::RunSummary;

/// The runs with one cause.
struct Group {
    file: PathBuf,
    key: String,
    /// How these runs ended, as a verb: `are violated`, `are inconclusive`, `failed`.
    ended: &'static str,
    /// The seeds, in the order in which they were reported; the first was reported in full.
    seeds: Vec<u64>,
}

/// The failures so far, by cause, in the order in which each cause was first met.
#[derive(Default)]
pub(super) struct Causes(Vec<Group>);

impl Causes {
    /// Notes a run that does not hold. Returns whether its cause is new.
    pub(super) fn note(&mut self, file: &Path, seed: u64, ended: &'static str, cause: &str) -> bool {
        let key = without_figures(cause);
        let known = self.0.iter_mut().find(|group| group.key == key && group.ended == ended && group.file == file);
        match known {
            Some(group) => {
                group.seeds.push(seed);
                false
            }
            None => {
                self.0.push(Group { file: file.to_owned(), key, ended, seeds: vec![seed] });
                true
            }
        }
    }

    /// Returns a paragraph for each cause that more than one run has.
    pub(super) fn told(&self) -> Vec<String> {
        let repeated = self.0.iter().filter(|group| group.seeds.len() > 1);
        let tell = |group: &Group| {
            let mut seeds = group.seeds.clone();
            seeds.sort_unstable();
            let name = group.file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            let (runs, first) = (counted(group.seeds.len(), "run"), group.seeds[0]);
            format!("{runs} of {name} {} for one cause, shown for seed {first}: seeds {}", group.ended, ranges(&seeds))
        };
        repeated.map(tell).collect()
    }
}

/// Returns what is reported first about a run that does not hold.
pub(super) fn cause_of(summary: &RunSummary) -> String {
    let judgement = &summary.judgement;
    if let Some((invariant, violation)) = judgement.headline() {
        // The number of entries that are affected is another figure; the sentences behind the first only list them.
        let summary = violation.summary.split(". ").next().unwrap_or_default();
        return format!("{invariant}: {}", violation.why.as_deref().unwrap_or(summary));
    }
    let unmet = judgement.unmet.iter().find(|unmet| unmet.contradicted).or_else(|| judgement.unmet.first());
    unmet.map_or_else(String::new, |unmet| unmet.text.clone())
}

/// Returns the text with every figure, and every span of time regardless of its units, replaced by one mark.
fn without_figures(text: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut bare = String::new();
        for c in word.chars() {
            match c {
                '0'..='9' if bare.ends_with('#') => {}
                '0'..='9' => bare.push('#'),
                c => bare.push(c),
            }
        }
        let bare = bare.replace("#.#", "#");
        let is_figure = |word: &str| matches!(word.trim_end_matches([',', ';', '.', ':']), "#" | "#s" | "#m" | "#h");
        match kept.last_mut() {
            // `7 888` and `1m 19s` are one figure in two words.
            Some(last) if is_figure(last) && is_figure(&bare) => *last = bare,
            _ => kept.push(bare),
        }
    }
    let time = |word: String| word.replace("#m", "#s").replace("#h", "#s");
    kept.into_iter().map(|word| if word.starts_with('#') { time(word) } else { word }).collect::<Vec<_>>().join(" ")
}

/// Returns sorted numbers as `1 to 5, 7, 9 to 12`.
fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number.checked_sub(1) == Some(*last) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let tell = |&(first, last): &(u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    runs.iter().map(tell).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_one_sentence_whatever_its_figures() {
        let causes = [
            "server-1 lost 2 309 unsynced bytes of `journal/0000.seg` at 5.336s; its last sync was at 5.067s",
            "server-3 lost 84 unsynced bytes of `journal/0017.seg` at 1m 19s; its last sync was at 1h 02m",
        ];
        let [one, other] = causes.map(without_figures);
        assert_eq!(one, other);
        assert_eq!(one, "server-# lost # unsynced bytes of `journal/#.seg` at #s; its last sync was at #s");
        assert_ne!(one, without_figures("server-1 lost 2 309 unsynced bytes of `vote` at 5.336s"));
    }

    #[test]
    fn causes_are_kept_apart_by_file_by_ending_and_by_text() {
        let mut causes = Causes::default();
        let (a, b) = (Path::new("x/a.toml"), Path::new("x/b.toml"));
        let new = [
            causes.note(a, 3, "are violated", "lost 1 byte"),
            causes.note(a, 4, "are violated", "lost 2 byte"),
            causes.note(a, 5, "failed", "lost 3 byte"),
            causes.note(b, 3, "are violated", "lost 1 byte"),
            causes.note(a, 6, "are violated", "kept 1 byte"),
            causes.note(a, 5, "are violated", "lost 9 byte"),
            causes.note(a, 9, "are violated", "lost 9 byte"),
        ];
        assert_eq!(new, [true, false, true, true, true, false, false]);
        assert_eq!(causes.told(), ["4 runs of a are violated for one cause, shown for seed 3: seeds 3 to 5, 9"]);
    }

    #[test]
    fn seeds_are_told_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 5, 8, 9, u64::MAX]), format!("1 to 3, 5, 8, 9, {}", u64::MAX));
        assert_eq!(ranges(&[0]), "0");
    }
}
