//! Marks of rare situations: places in log, client and harness that a search for failures has to reach.
//!
//! A run that holds has shown nothing about the code that it never entered. So the places that matter and are seldom
//! reached bear a name, `mark!("torn-tail-cut")`, and every sweep reports how often each of them was reached, and which
//! were never reached. A mark is no event: it is in no history and in no hash, and nothing in a run can depend on it.
//!
//! Each package has a table of its marks, which [`marks!`](crate::marks!) makes in its module `marks`, and
//! [`mark!`](crate::mark!) looks a name up in the table of the package in which it stands.
//!
//! The cost where nobody listens, which is always so in production: one relaxed load of one byte that is never written,
//! and a branch that is not taken; a condition beside the name is not evaluated there. The name becomes a number at
//! compile time, and a name that is not in the table does not compile. Where a run of the harness listens, a mark costs
//! one more relaxed addition.
//!
//! The counters belong to the process, not to a thread: a run has a process of its own, in which the judge works on
//! another thread than the simulation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A rare situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The part of the program where it comes up, in one or two words.
    pub room: &'static str,
    /// Its unique name, in kebab-case.
    pub name: &'static str,
    /// What has happened when the mark is reached, in one sentence.
    pub meaning: &'static str,
}

/// The marks of one package, and how often each was reached in this process.
#[derive(Debug)]
pub struct Table {
    marks: &'static [Mark],
    counts: &'static [AtomicU64],
}

impl Table {
    /// Makes a table with a counter for each of its marks; [`marks!`](crate::marks!) calls this.
    pub const fn new(marks: &'static [Mark], counts: &'static [AtomicU64]) -> Table {
        assert!(marks.len() == counts.len(), "each mark has one counter");
        Table { marks, counts }
    }

    /// Returns its marks, by room.
    pub fn marks(&self) -> &'static [Mark] {
        self.marks
    }

    /// Increments the counter of the mark with this number.
    #[doc(hidden)]
    pub fn count(&self, number: usize) {
        // The counters are read after the thread that counts was joined, so no order is needed.
        self.counts[number].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often each mark was reached in this process; marks that were never reached are left out.
    pub fn reached(&self) -> impl Iterator<Item = (&'static Mark, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.marks.iter().zip(counts).filter(|(_, times)| *times > 0)
    }
}

/// Makes the table of a package's marks, in the module `marks` at its root: the names of each room with their meanings.
///
/// ```
/// mod marks {
///     gapless_world::marks! {
///         "store" {
///             "torn-tail-cut": "A start cut off what a crash had left of writes that no sync had covered.",
///         }
///     }
/// }
///
/// fn main() {
///     gapless_world::mark!("torn-tail-cut");
///     assert_eq!(marks::TABLE.marks()[0].room, "store");
///     assert_eq!(marks::TABLE.reached().count(), 0, "nobody listens");
/// }
/// ```
#[macro_export]
macro_rules! marks {
    ($($room:literal { $($name:literal: $meaning:literal,)+ })+) => {
        /// Every mark of this package: the rooms in the order in which an entry meets them, and by name within a room.
        pub const MARKS: &[$crate::mark::Mark] =
            &[$($($crate::mark::Mark { room: $room, name: $name, meaning: $meaning }),+),+];

        /// How often each of these marks was reached in this process.
        pub static TABLE: $crate::mark::Table = {
            static COUNTS: [::std::sync::atomic::AtomicU64; MARKS.len()] =
                [const { ::std::sync::atomic::AtomicU64::new(0) }; MARKS.len()];
            $crate::mark::Table::new(MARKS, &COUNTS)
        };
    };
}

/// Counts that this place of the code was reached: a rare situation of the package's [table](crate::marks!), by its
/// name; with a condition, only where that is true. The condition is evaluated only where somebody listens, so it must
/// have no effects.
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "the table is that of the package in which the mark stands")]
macro_rules! mark {
    ($name:literal $(, $when:expr)?) => {
        if $crate::mark::is_heard() $(&& $when)? {
            const NUMBER: usize = $crate::mark::number(crate::marks::MARKS, $name);
            crate::marks::TABLE.count(NUMBER);
        }
    };
}

/// Whether somebody listens to the marks of this process.
static IS_HEARD: AtomicBool = AtomicBool::new(false);

/// Returns the place of a mark in its table. The compiler evaluates this and refuses a name that is not there.
#[doc(hidden)]
pub const fn number(marks: &[Mark], name: &str) -> usize {
    let mut at = 0;
    while at < marks.len() {
        if is_same(marks[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no mark has this name: add it to the table in `marks`, with what it means")
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

/// Returns whether somebody listens.
#[inline]
#[doc(hidden)]
pub fn is_heard() -> bool {
    IS_HEARD.load(Ordering::Relaxed)
}

/// Counts the marks of this process from now on, until it ends.
pub fn listen() {
    IS_HEARD.store(true, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::{MARKS, TABLE};

    #[test]
    fn a_name_becomes_its_place_in_the_table() {
        for (at, mark) in MARKS.iter().enumerate() {
            assert_eq!(number(MARKS, mark.name), at);
        }
        assert!(std::panic::catch_unwind(|| number(MARKS, "no-such-mark")).is_err());
        assert!(std::panic::catch_unwind(|| number(MARKS, "renewed-in-tim")).is_err());
    }

    #[test]
    fn where_nobody_listens_nothing_is_counted_and_no_condition_looked_at() {
        mark!("renewed-in-time");
        mark!("renewed-in-time", unreachable!("a condition is evaluated for nobody"));
        assert!(!is_heard());
        assert_eq!(TABLE.reached().count(), 0);
    }

    #[test]
    fn each_mark_is_counted_by_itself_and_as_often_as_it_is_reached() {
        static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
        let table = Table::new(&MARKS[..3], &COUNTS);
        assert_eq!(table.reached().count(), 0);
        for number in [2, 0, 2] {
            table.count(number);
        }
        assert_eq!(table.reached().collect::<Vec<_>>(), [(&MARKS[0], 1), (&MARKS[2], 2)]);
    }
}
