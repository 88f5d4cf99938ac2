//! Marks of rare situations: places in log, client and harness that a search for failures has to come by.
//!
//! A run that holds has shown nothing of the code that it never entered. So the places that matter and are seldom reached
//! bear a name, `mark!("torn-tail-cut")`, and every sweep says how often each of them was reached, and which never. A mark
//! is no event: it is in no history and in no hash, and nothing in a run can depend on it.
//!
//! What it costs: where nobody listens, which is always so in production, one relaxed load of one byte that is never
//! written, and a branch that is not taken; a condition beside the name is not evaluated there. The name becomes a number
//! when the code is compiled, and one that is not in the [table](MARKS) does not compile. Where a run of the harness
//! listens, it is one more relaxed addition.
//!
//! The counters belong to the process, not to a thread: a run has a process of its own, in which its judge works on another
//! thread than the simulation.

mod table;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

pub use table::MARKS;

/// A rare situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where it comes up, as the rooms of the table are called.
    pub room: &'static str,
    /// Its name, kebab-case, which no other one has.
    pub name: &'static str,
    /// What has happened when it is reached, in one sentence.
    pub meaning: &'static str,
}

/// The rooms of the table that are the harness's own, whatever log is tested.
const OF_HARNESS: [&str; 3] = ["faults", "simulation", "judging"];

impl Mark {
    /// Whether it is a situation of the harness, and not of this crate's log.
    pub fn is_of_harness(&self) -> bool {
        OF_HARNESS.contains(&self.room)
    }
}

/// Marks that this place of the code was reached: a rare situation of the [table](crate::mark::MARKS), by its name; with a
/// condition, only where that is true. The condition is evaluated only where somebody listens, so it must have no effects.
macro_rules! mark {
    ($name:literal) => {
        if $crate::mark::is_heard() {
            const NUMBER: usize = $crate::mark::number($name);
            $crate::mark::count(NUMBER);
        }
    };
    ($name:literal, $when:expr) => {
        if $crate::mark::is_heard() && $when {
            const NUMBER: usize = $crate::mark::number($name);
            $crate::mark::count(NUMBER);
        }
    };
}

/// Who hears of marks, and how often each was reached.
struct Listener {
    is_heard: AtomicBool,
    counts: [AtomicU64; MARKS.len()],
}

/// That of this process.
static LISTENER: Listener = Listener::new();

impl Listener {
    const fn new() -> Listener {
        Listener { is_heard: AtomicBool::new(false), counts: [const { AtomicU64::new(0) }; MARKS.len()] }
    }

    fn count(&self, number: usize) {
        // Read by whoever has joined the thread that counts: no order is needed.
        self.counts[number].fetch_add(1, Ordering::Relaxed);
    }

    fn reached(&self) -> Reached {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let reached = MARKS.iter().zip(counts).filter(|(_, times)| *times > 0);
        Reached(reached.map(|(mark, times)| (mark.name.to_owned(), times)).collect())
    }
}

/// The place of a mark in the table; evaluated by the compiler, which refuses a name that is not there.
pub(crate) const fn number(name: &str) -> usize {
    let mut at = 0;
    while at < MARKS.len() {
        if is_same(MARKS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no mark has this name: add it to src/mark/table.rs, with what it means")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether somebody listens.
#[inline]
pub(crate) fn is_heard() -> bool {
    LISTENER.is_heard.load(Ordering::Relaxed)
}

/// Counts a mark once more.
pub(crate) fn count(number: usize) {
    LISTENER.count(number);
}

/// From now on the marks of this process are counted, until it ends.
pub(crate) fn listen() {
    LISTENER.is_heard.store(true, Ordering::Relaxed);
}

/// How often each mark was reached in this process; those that were not are left out.
pub(crate) fn reached() -> Reached {
    LISTENER.reached()
}

/// How often marks were reached in one run, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached(pub BTreeMap<String, u64>);

/// How often marks were reached in many runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The marks of the log count as well, and not those of the harness alone.
    with_log: bool,
    /// By the mark's number: the runs that reached it, and how often they did so together.
    of: BTreeMap<usize, (u64, u64)>,
}

impl Sum {
    /// Of no run yet. `with_log` says that the log under test is the one of this crate, which has marks, too.
    pub fn new(with_log: bool) -> Sum {
        Sum { with_log, of: BTreeMap::new() }
    }

    /// Adds a run. Names that are in no table are passed over.
    pub fn add(&mut self, run: &Reached) {
        for (at, mark) in MARKS.iter().enumerate() {
            if let Some(times) = run.0.get(mark.name).filter(|_| self.counts(mark)) {
                let (runs, all) = self.of.entry(at).or_default();
                (*runs, *all) = (*runs + 1, all.saturating_add(*times));
            }
        }
    }

    fn counts(&self, mark: &Mark) -> bool {
        self.with_log || mark.is_of_harness()
    }

    /// Every mark that counts, in the order of the table, with the runs that reached it and how often they did so together.
    pub fn all(&self) -> impl Iterator<Item = (&'static Mark, u64, u64)> {
        MARKS.iter().enumerate().filter(|(_, mark)| self.counts(mark)).map(|(at, mark)| {
            let (runs, times) = self.of.get(&at).copied().unwrap_or_default();
            (mark, runs, times)
        })
    }

    /// How many different marks were reached.
    pub fn count(&self) -> usize {
        self.of.len()
    }

    /// The marks that no run reached.
    pub fn never(&self) -> impl Iterator<Item = &'static Mark> {
        self.all().filter(|(_, runs, _)| *runs == 0).map(|(mark, ..)| mark)
    }

    /// The marks that the fewest runs reached, at most `most` of them, with how many runs did.
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

    /// Every source file of the crate but this one.
    fn sources() -> Vec<(PathBuf, String)> {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("src/mark.rs") {
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
        for mark in MARKS {
            let places = places.remove(mark.name).unwrap_or_default();
            assert_eq!(places.len(), 1, "`{}` stands at {places:?}: a mark is one place", mark.name);
        }
        assert!(places.is_empty(), "the table does not have {places:?}");
    }

    #[test]
    fn the_table_is_sorted_by_room_and_says_what_each_means() {
        let word = regex::Regex::new("^[a-z]+(-[a-z]+)*$").expect("sound");
        let names: BTreeSet<&str> = MARKS.iter().map(|mark| mark.name).collect();
        assert_eq!(names.len(), MARKS.len(), "a name is there twice");
        let mut rooms: Vec<&str> = MARKS.iter().map(|mark| mark.room).collect();
        rooms.dedup();
        assert_eq!(rooms.len(), rooms.iter().collect::<BTreeSet<_>>().len(), "a room is there twice: {rooms:?}");
        for pair in MARKS.windows(2) {
            assert!(pair[0].room != pair[1].room || pair[0].name < pair[1].name, "{} is out of order", pair[1].name);
        }
        for Mark { name, meaning, .. } in MARKS {
            assert!(word.is_match(name), "{name}");
            let is_sentence = meaning.starts_with(|first: char| first.is_uppercase()) && meaning.ends_with('.');
            assert!(is_sentence && meaning.len() > 30 && !meaning.contains(". "), "{name}: {meaning}");
        }
    }

    #[test]
    fn a_name_becomes_its_place_in_the_table() {
        for (at, mark) in MARKS.iter().enumerate() {
            assert_eq!(number(mark.name), at);
        }
        assert!(std::panic::catch_unwind(|| number("no-such-mark")).is_err());
        assert!(std::panic::catch_unwind(|| number("torn-tail-cu")).is_err());
    }

    #[test]
    fn where_nobody_listens_nothing_is_counted_and_no_condition_looked_at() {
        mark!("torn-tail-cut");
        mark!("torn-tail-cut", unreachable!("a condition is evaluated for nobody"));
        assert!(!is_heard());
        assert_eq!(reached(), Reached::default());
    }

    #[test]
    fn each_mark_is_counted_by_itself_and_as_often_as_it_is_reached() {
        let listener = Listener::new();
        let [one, two] = ["torn-tail-cut", "duplicate-answered"].map(|name| (name.to_owned(), number(name)));
        assert_eq!(listener.reached(), Reached::default());
        for number in [one.1, two.1, one.1] {
            listener.count(number);
        }
        assert_eq!(listener.reached(), Reached([(one.0, 2), (two.0, 1)].into()));
    }

    #[test]
    fn sums_count_runs_and_times_and_name_what_was_never_reached() {
        let [one, two, three] = [MARKS[0].name, MARKS[1].name, MARKS[2].name];
        let run =
            |counts: &[(&str, u64)]| Reached(counts.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect());
        let mut sum = Sum::new(true);
        sum.add(&run(&[(one, 3), (two, 1)]));
        sum.add(&run(&[(one, 4), ("of-another-build", 9)]));
        sum.add(&run(&[(three, u64::MAX)]));
        sum.add(&run(&[(three, 2)]));
        sum.add(&run(&[(three, 2)]));
        let told: Vec<_> = sum.all().take(3).map(|(mark, runs, times)| (mark.name, runs, times)).collect();
        assert_eq!(told, [(one, 2, 7), (two, 1, 1), (three, 3, u64::MAX)]);
        let rarest: Vec<_> = sum.rarest(2).into_iter().map(|(mark, runs)| (mark.name, runs)).collect();
        assert_eq!(rarest, [(two, 1), (one, 2)]);
        assert_eq!((sum.count(), sum.never().count()), (3, MARKS.len() - 3));
        assert!(sum.never().all(|mark| ![one, two, three].contains(&mark.name)));
    }

    #[test]
    fn of_another_log_only_the_marks_of_the_harness_count() {
        let (log, harness) = (MARKS[0], MARKS[MARKS.len() - 1]);
        let mut sum = Sum::new(false);
        sum.add(&Reached([log, harness].map(|mark| (mark.name.to_owned(), 1)).into()));
        assert!(harness.is_of_harness() && sum.count() == 1 && sum.all().all(|(mark, ..)| mark.is_of_harness()));
        assert!(OF_HARNESS.iter().all(|room| sum.all().any(|(mark, ..)| mark.room == *room)));
        assert_eq!(sum.rarest(9), [(&MARKS[MARKS.len() - 1], 1)]);
    }
}
