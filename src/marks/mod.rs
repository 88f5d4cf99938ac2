//! The rare situations that runs reached: the totals of [marks](mod@gapless_world::mark) that a sweep reports.
//!
//! Each package has a table of its own. The [table](TABLE) in this module is that of the harness, which counts for
//! every log under test. A log names its own tables in [`Explored::marks`](crate::system::Explored::marks).

mod table;

use std::collections::BTreeMap;

use gapless_world::mark::{Mark, Table};
use serde::{Deserialize, Serialize};

pub use table::{MARKS, TABLE};

/// Returns how often each mark of those tables and of the harness was reached in this process. Marks that were not
/// reached are left out.
pub(crate) fn reached(of_log: &[&Table]) -> Reached {
    let tables = of_log.iter().copied().chain([&TABLE]);
    Reached(tables.flat_map(Table::reached).map(|(mark, times)| (mark.name.to_owned(), times)).collect())
}

/// Returns every mark of those tables, and after them those of the harness.
pub fn all(of_log: &[&Table]) -> Vec<&'static Mark> {
    of_log.iter().copied().chain([&TABLE]).flat_map(Table::marks).collect()
}

/// How often marks were reached in one run, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached(pub BTreeMap<String, u64>);

/// How often marks were reached in many runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The marks that count, in the order in which they are reported.
    marks: Vec<&'static Mark>,
    /// By the position of the mark in `marks`: how many runs reached it, and how often in total.
    of: BTreeMap<usize, (u64, u64)>,
}

impl Sum {
    /// Creates the totals of no runs, with the marks of those tables and of the harness.
    pub fn new(of_log: &[&Table]) -> Sum {
        Sum { marks: all(of_log), of: BTreeMap::new() }
    }

    /// Adds a run. Names that are in no table are ignored.
    pub fn add(&mut self, run: &Reached) {
        for (at, mark) in self.marks.iter().enumerate() {
            if let Some(times) = run.0.get(mark.name) {
                let (runs, all) = self.of.entry(at).or_default();
                (*runs, *all) = (*runs + 1, all.saturating_add(*times));
            }
        }
    }

    /// Returns every mark that counts, with the number of runs that reached it and how often they did so in total.
    pub fn all(&self) -> impl Iterator<Item = (&'static Mark, u64, u64)> {
        self.marks.iter().enumerate().map(|(at, mark)| {
            let (runs, times) = self.of.get(&at).copied().unwrap_or_default();
            (*mark, runs, times)
        })
    }

    /// Returns how many different marks were reached.
    pub fn count(&self) -> usize {
        self.of.len()
    }

    /// Returns the marks that no run reached.
    pub fn never(&self) -> impl Iterator<Item = &'static Mark> {
        self.all().filter(|(_, runs, _)| *runs == 0).map(|(mark, ..)| mark)
    }

    /// Returns at most `most` of the marks that the fewest runs reached, each with the number of these runs.
    pub fn rarest(&self, most: usize) -> Vec<(&'static Mark, u64)> {
        let mut reached: Vec<_> =
            self.all().filter(|(_, runs, _)| *runs > 0).map(|(mark, runs, _)| (mark, runs)).collect();
        reached.sort_by_key(|(mark, runs)| (*runs, mark.name));
        reached.truncate(most);
        reached
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    const OF_LOG: [&Table; 2] = [&gapless_log::marks::TABLE, &gapless_world::marks::TABLE];

    /// Returns every source file of the packages, except the one that defines marks.
    fn sources() -> Vec<(PathBuf, String)> {
        let mut folders: Vec<PathBuf> =
            ["src", "log/src", "world/src"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).into();
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("world/src/mark.rs") {
                    found.push((path.clone(), fs::read_to_string(path).expect("readable")));
                }
            }
        }
        found
    }

    #[test]
    fn every_mark_of_the_table_stands_at_one_place_of_the_code() {
        let named = regex::Regex::new(r#"mark!\(\s*"([^"]*)""#).expect("sound");
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, text) in sources() {
            for found in named.captures_iter(&text) {
                places.entry(found[1].to_owned()).or_default().push(path.display().to_string());
            }
        }
        for mark in all(&OF_LOG) {
            let places = places.remove(mark.name).unwrap_or_default();
            assert_eq!(places.len(), 1, "`{}` stands at {places:?}: a mark is one place", mark.name);
        }
        assert!(places.is_empty(), "the table does not have {places:?}");
    }

    #[test]
    fn the_table_is_sorted_by_room_and_says_what_each_means() {
        let word = regex::Regex::new("^[a-z]+(-[a-z]+)*$").expect("sound");
        let marks = all(&OF_LOG);
        let names: BTreeSet<&str> = marks.iter().map(|mark| mark.name).collect();
        assert_eq!(names.len(), marks.len(), "a name is there twice");
        let mut rooms: Vec<&str> = marks.iter().map(|mark| mark.room).collect();
        rooms.dedup();
        assert_eq!(rooms.len(), rooms.iter().collect::<BTreeSet<_>>().len(), "a room is there twice: {rooms:?}");
        for pair in marks.windows(2) {
            assert!(pair[0].room != pair[1].room || pair[0].name < pair[1].name, "{} is out of order", pair[1].name);
        }
        for Mark { name, meaning, .. } in marks {
            assert!(word.is_match(name), "{name}");
            let is_sentence = meaning.starts_with(|first: char| first.is_uppercase()) && meaning.ends_with('.');
            assert!(is_sentence && meaning.len() > 30 && !meaning.contains(". "), "{name}: {meaning}");
        }
    }

    #[test]
    fn sums_count_runs_and_times_and_name_what_was_never_reached() {
        let [one, two, three] = [0, 1, 2].map(|at| all(&OF_LOG)[at].name);
        let run =
            |counts: &[(&str, u64)]| Reached(counts.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect());
        let mut sum = Sum::new(&OF_LOG);
        sum.add(&run(&[(one, 3), (two, 1)]));
        sum.add(&run(&[(one, 4), ("of-another-build", 9)]));
        sum.add(&run(&[(three, u64::MAX)]));
        sum.add(&run(&[(three, 2)]));
        sum.add(&run(&[(three, 2)]));
        let told: Vec<_> = sum.all().take(3).map(|(mark, runs, times)| (mark.name, runs, times)).collect();
        assert_eq!(told, [(one, 2, 7), (two, 1, 1), (three, 3, u64::MAX)]);
        let rarest: Vec<_> = sum.rarest(2).into_iter().map(|(mark, runs)| (mark.name, runs)).collect();
        assert_eq!(rarest, [(two, 1), (one, 2)]);
        assert_eq!((sum.count(), sum.never().count()), (3, all(&OF_LOG).len() - 3));
        assert!(sum.never().all(|mark| ![one, two, three].contains(&mark.name)));
    }

    #[test]
    fn of_another_log_only_the_marks_of_the_harness_count() {
        let (log, harness) = (all(&OF_LOG)[0], &MARKS[0]);
        let mut sum = Sum::new(&[]);
        sum.add(&Reached([log, harness].map(|mark| (mark.name.to_owned(), 1)).into()));
        assert_eq!((sum.count(), sum.all().count()), (1, MARKS.len()));
        assert_eq!(sum.rarest(9), [(harness, 1)]);
    }
}
