//! Decides the order in which the thread of a data folder does what was submitted to it.
//!
//! Changes happen in the order of their submission. A read sees every change that was submitted before it. But a change
//! need not wait for all reads that came first, only for those whose result it would alter; otherwise a caller with
//! many reads would hold up the sync that everybody's entries wait for. Reads whose answer nobody awaits any more are
//! skipped.
//!
//! This file is pure: it never touches a disk.

use std::collections::VecDeque;

/// At most this many reads may go before one change that does not concern them. Neither kind keeps the other waiting
/// for long.
const READS_BEFORE_A_CHANGE: usize = 4;

/// A read, as far as the order depends on it.
pub(super) trait Read {
    /// Returns whether anybody waits for it.
    fn is_awaited(&self) -> bool;
}

/// A change, as far as the order depends on it.
pub(super) trait Change<R> {
    /// Returns whether this read, which was submitted before, would find something else after the change.
    fn concerns(&self, read: &R) -> bool;
}

/// The operations that were submitted and are not done.
pub(super) struct Backlog<R, C> {
    reads: VecDeque<(u64, R)>,
    changes: VecDeque<(u64, C)>,
    submitted: u64,
    /// Reads done since the last change.
    reads_in_a_row: usize,
}

/// The next operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<R, C> {
    Read(R),
    Change(C),
}

impl<R: Read, C: Change<R>> Backlog<R, C> {
    pub(super) fn new() -> Self {
        Self { reads: VecDeque::new(), changes: VecDeque::new(), submitted: 0, reads_in_a_row: 0 }
    }

    pub(super) fn push(&mut self, next: Next<R, C>) {
        self.submitted += 1;
        match next {
            Next::Read(read) => self.reads.push_back((self.submitted, read)),
            Next::Change(change) => self.changes.push_back((self.submitted, change)),
        }
    }

    /// Takes out the next operation; `None` if none is left.
    pub(super) fn next(&mut self) -> Option<Next<R, C>> {
        while self.reads.front().is_some_and(|(_, read)| !read.is_awaited()) {
            self.reads.pop_front();
        }
        let change = self.changes.front();
        // Reads stand in order: if the first one came after the change, all of them did.
        let earlier = |submitted: u64| change.is_none_or(|(changed, _)| submitted < *changed);
        let first_is_earlier = self.reads.front().is_some_and(|(submitted, _)| earlier(*submitted));
        let concerned = || {
            let (_, change) = change?;
            self.reads.iter().position(|(at, read)| earlier(*at) && read.is_awaited() && change.concerns(read))
        };
        let read = match first_is_earlier {
            true if change.is_none() || self.reads_in_a_row < READS_BEFORE_A_CHANGE => Some(0),
            true => concerned(),
            false => None,
        };
        if let Some((_, read)) = read.and_then(|at| self.reads.remove(at)) {
            self.reads_in_a_row += 1;
            return Some(Next::Read(read));
        }
        self.reads_in_a_row = 0;
        self.changes.pop_front().map(|(_, change)| Next::Change(change))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    /// A read by its number, and whether it is awaited.
    #[derive(Debug, PartialEq, Eq)]
    struct Asked(u32, Rc<Cell<bool>>);

    impl Read for Asked {
        fn is_awaited(&self) -> bool {
            self.1.get()
        }
    }

    /// A change, and which reads it concerns.
    #[derive(Debug, PartialEq, Eq)]
    struct Made(&'static str, Vec<u32>);

    impl Change<Asked> for Made {
        fn concerns(&self, read: &Asked) -> bool {
            self.1.contains(&read.0)
        }
    }

    fn reads(backlog: &mut Backlog<Asked, Made>, numbers: std::ops::Range<u32>) -> Vec<Rc<Cell<bool>>> {
        let push = |number| {
            let awaited = Rc::new(Cell::new(true));
            backlog.push(Next::Read(Asked(number, awaited.clone())));
            awaited
        };
        numbers.map(push).collect()
    }

    fn change(backlog: &mut Backlog<Asked, Made>, name: &'static str, concerns: &[u32]) {
        backlog.push(Next::Change(Made(name, concerns.to_vec())));
    }

    /// Returns what is done, in order: reads by number, changes by name.
    fn done(backlog: &mut Backlog<Asked, Made>) -> Vec<String> {
        let told = |next| match next {
            Next::Read(Asked(number, _)) => number.to_string(),
            Next::Change(Made(name, _)) => name.to_owned(),
        };
        std::iter::from_fn(|| backlog.next().map(told)).collect()
    }

    #[test]
    fn a_sync_waits_for_a_few_reads_however_many_came_before_it() {
        let mut backlog = Backlog::new();
        reads(&mut backlog, 0..1_000);
        change(&mut backlog, "write", &[]);
        change(&mut backlog, "sync", &[]);
        let order = done(&mut backlog);
        assert_eq!(order.len(), 1_002);
        assert_eq!(order.iter().position(|done| done == "write"), Some(4));
        assert_eq!(order.iter().position(|done| done == "sync"), Some(9));
    }

    #[test]
    fn a_read_sees_what_was_submitted_before_it_and_nothing_that_would_change_it() {
        let mut backlog = Backlog::new();
        reads(&mut backlog, 0..8);
        change(&mut backlog, "cut", &[6, 7]);
        reads(&mut backlog, 8..10);
        change(&mut backlog, "write", &[9]);
        assert_eq!(done(&mut backlog), ["0", "1", "2", "3", "6", "7", "cut", "4", "5", "8", "9", "write"]);
    }

    #[test]
    fn a_read_that_nobody_awaits_is_not_done() {
        let mut backlog = Backlog::new();
        let awaited = reads(&mut backlog, 0..5);
        change(&mut backlog, "cut", &[1, 2]);
        [0, 1, 3].iter().for_each(|at: &usize| awaited[*at].set(false));
        assert_eq!(done(&mut backlog), ["2", "4", "cut"]);
    }

    #[test]
    fn without_reads_everything_happens_in_the_order_of_its_submission() {
        let mut backlog = Backlog::new();
        ["open", "write", "sync"].iter().for_each(|name| change(&mut backlog, name, &[]));
        assert_eq!(done(&mut backlog), ["open", "write", "sync"]);
    }
}
