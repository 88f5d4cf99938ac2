//! One seed is one run: makes a run again and names the first event or packet that differs.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    process::{RunError, run_unless},
    scratch::Scratch,
    worker::{RunOutcome, RunRequest},
};

/// How two runs of one seed differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A text for people: the two hashes and, if it could be found, the first line that differs.
    pub text: String,
}

/// Makes the run of `first` again. Returns `None` if both runs are the same to the byte.
pub fn check_determinism(request: &RunRequest, first: &RunOutcome, limit: Duration) -> Option<Difference> {
    run_again(request, first, limit, &AtomicBool::new(false))
}

/// Does the same as [`check_determinism`], but gives up as soon as `stop` is set.
pub(super) fn run_again(
    request: &RunRequest,
    first: &RunOutcome,
    limit: Duration,
    stop: &AtomicBool,
) -> Option<Difference> {
    let second = match run_unless(request, limit, stop) {
        Ok(second) => second,
        Err(RunError::Stopped) => return None,
        Err(error) => return Some(Difference { text: format!("the second run did not come to an end: {error}") }),
    };
    let (a, b) = (mark(first), mark(&second));
    if a == b {
        return None;
    }
    let place = first_difference(request, limit, stop).unwrap_or_else(|| match stop.load(Ordering::Relaxed) {
        true => "the place was not found: the search for it was stopped".to_owned(),
        false => "two further runs agreed with each other, so the place could not be found".to_owned(),
    });
    Some(Difference { text: format!("one seed, two runs: {a}, then {b}\n{place}") })
}

fn mark(outcome: &RunOutcome) -> String {
    match outcome {
        RunOutcome::Judged { summary, .. } => summary.hash.clone(),
        RunOutcome::Failed { error } => error.clone(),
    }
}

/// Runs twice with a trail of every event and packet, and compares the trails line by line.
fn first_difference(request: &RunRequest, limit: Duration, stop: &AtomicBool) -> Option<String> {
    let trails = [Scratch::new().ok()?, Scratch::new().ok()?];
    for trail in &trails {
        let request = RunRequest { trail: Some(trail.path()), ..request.clone() };
        run_unless(&request, limit, stop).ok()?;
    }
    let (mut a, mut b) = (lines(trails[0].path())?, lines(trails[1].path())?);
    let mut last = String::new();
    for n in 1_u64.. {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (x, y) if x == y => last = x.unwrap_or_default(),
            (x, y) => {
                let show = |line: Option<String>| cut(&line.unwrap_or_else(|| "(nothing: it ended)".to_owned()));
                return Some(format!(
                    "first difference at line {n} of the trail\n  before  {}\n  first   {}\n  second  {}",
                    cut(&last),
                    show(x),
                    show(y)
                ));
            }
        }
    }
    None
}

fn lines(path: PathBuf) -> Option<impl Iterator<Item = String>> {
    Some(BufReader::new(File::open(path).ok()?).lines().map_while(Result::ok))
}

fn cut(line: &str) -> String {
    const SHOWN: usize = 400;
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
