//! Several runs at a time, reported in the order in which they were asked for.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    determinism::{Difference, run_again},
    process::{RunError, run_unless},
    worker::{RunOutcome, RunRequest},
};

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct Task {
    /// What to run.
    pub request: RunRequest,
    /// Whether to run it twice and compare the runs.
    pub twice: bool,
}

/// The result of a task, and how long it took.
pub struct Done {
    /// The outcome.
    pub outcome: Result<RunOutcome, RunError>,
    /// The difference, if the task was run twice and the runs differ.
    pub difference: Option<Difference>,
    /// The real time, of both runs together.
    pub wall: Duration,
}

/// The limits of a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The number of runs at a time.
    pub jobs: usize,
    /// The real time for one run.
    pub run: Duration,
    /// No run begins after this time.
    pub until: Option<Instant>,
    /// Whether runs that are in progress at `until` are killed. Otherwise they come to their end.
    pub cuts_off: bool,
    /// Called again and again. Once it returns true, no further run begins, and those in progress are killed.
    pub interrupted: fn() -> bool,
}

/// How often a sweep checks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes the runs from 0 to below `total`, each as `task` describes it when its turn comes, and calls `each` in that
/// order. If `each` returns `false`, no further run begins, and those in progress are killed. If the sweep is
/// interrupted, `each` is called for all runs that have come to their end, even if an earlier run has not.
pub fn sweep(
    total: usize,
    limits: Limits,
    task: impl Fn(usize) -> Task + Sync,
    mut each: impl FnMut(&Task, Done) -> bool,
) {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let late = || limits.until.is_some_and(|until| Instant::now() >= until);
    let (sender, done) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..limits.jobs.clamp(1, total.max(1)) {
            let (sender, next, stop, task) = (sender.clone(), &next, &stop, &task);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && !late() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total {
                        return;
                    }
                    let task = task(index);
                    let done = make(&task, limits.run, stop);
                    if sender.send((index, task, done)).is_err() {
                        return;
                    }
                }
            });
        }
        // Now only the workers hold the channel, so it ends with the last of them.
        drop(sender);
        let mut early: BTreeMap<usize, (Task, Done)> = BTreeMap::new();
        let mut told = 0;
        loop {
            if (limits.interrupted)() || (limits.cuts_off && late()) {
                stop.store(true, Ordering::Relaxed);
            }
            let (index, task, result) = match done.recv_timeout(LOOK_EVERY) {
                Ok(done) => done,
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                // The last worker has ended.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            // The run has no outcome, because it was killed or never begun.
            if matches!(result.outcome, Err(RunError::Stopped)) {
                continue;
            }
            early.insert(index, (task, result));
            while let Some((task, result)) = early.remove(&told) {
                if !each(&task, result) {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                told += 1;
            }
        }
        for (task, result) in early.into_values() {
            if !each(&task, result) {
                return;
            }
        }
    });
}

fn make(task: &Task, limit: Duration, stop: &AtomicBool) -> Done {
    let begun = Instant::now();
    let outcome = run_unless(&task.request, limit, stop);
    let difference = match &outcome {
        Ok(first) if task.twice => run_again(&task.request, first, limit, stop),
        _ => None,
    };
    // A task that was stopped before its second run must not be reported as if both runs had been alike.
    let half = task.twice && difference.is_none() && stop.load(Ordering::Relaxed);
    let outcome = if half { Err(RunError::Stopped) } else { outcome };
    Done { outcome, difference, wall: begun.elapsed() }
}
