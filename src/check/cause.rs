//! Finds out why something went wrong, as far as the history shows it: one sentence, and the events that show it.
//!
//! Checks ask for the first violation of a kind only, so each question here may scan the whole history.

use super::{
    index::{Entry, Find, Index, Source},
    words,
};
use crate::history::{DiskOp, Down, Event, Name, What};

/// A cause in words, with the events that show it.
pub(super) type Cause = (String, Vec<usize>);

/// A life that ends this soon after its start has never served.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Returns what last happened to a host's disk before `at`, as a phrase with "it" for the host.
pub(super) fn what_befell(index: &Index<'_>, host: &Name, at: usize) -> Option<Cause> {
    let of_host = |n: &usize| index.event(*n).host == *host;
    let last = (0..at).rev().filter(of_host).find(|&n| takes(&index.event(n).what))?;
    let loss = gravest_at(index, last);
    let (text, mut events) = loss_of(index, loss, usize::MAX);
    events.push(loss);
    Some((format!("it {}", text.replacen("lost ", "had lost ", 1)), events))
}

/// Returns whether an event took something from a disk.
pub(super) fn takes(what: &What) -> bool {
    match what {
        What::Lost { bytes, torn, .. } => *bytes > 0 || *torn > 0,
        What::LostName { .. } | What::Damaged { .. } | What::Wiped {} | What::Rewound { .. } => true,
        _ => false,
    }
}

/// Of everything that one instant took from one disk, returns the event that explains most: damage to synced bytes, a
/// lost name, bytes that a failed sync had covered, and else the most bytes.
pub(super) fn gravest_at(index: &Index<'_>, loss: usize) -> usize {
    let Event { at, host, .. } = index.event(loss);
    let together = |n: &usize| {
        let event = index.event(*n);
        event.at == *at && event.host == *host && takes(&event.what)
    };
    let weight = |n: &usize| match &index.event(*n).what {
        What::Damaged { bytes, .. } => (4, *bytes),
        What::LostName { bytes, .. } => (3, *bytes),
        What::Lost { path, bytes, .. } if failed_sync(index, host, path, *n).is_some() => (2, *bytes),
        What::Lost { bytes, .. } => (1, *bytes),
        _ => (5, 0),
    };
    let near = loss.saturating_sub(1_000)..(loss + 1_000).min(index.history.events.len());
    // Of equals, the first is taken.
    near.filter(together).rev().max_by_key(weight).unwrap_or(loss)
}

/// Returns the last sync of a file before `at` that failed.
fn failed_sync(index: &Index<'_>, host: &Name, path: &str, at: usize) -> Option<usize> {
    (0..at).rev().find(|&n| {
        let event = index.event(n);
        matches!(&event.what, What::Disk { op: DiskOp::Sync, path: synced, error: Some(_), .. } if synced == path)
            && event.host == *host
    })
}

/// Returns the last sync of a file before `at` that succeeded.
fn last_sync(index: &Index<'_>, host: &Name, path: &str, at: usize) -> Option<usize> {
    (0..at).rev().find(|&n| {
        let event = index.event(n);
        matches!(&event.what, What::Disk { op: DiskOp::Sync, path: synced, error: None, .. } if synced == path)
            && event.host == *host
    })
}

/// Returns what a loss took, as a phrase without its subject, and what else shows it. `promised` is the answer that was
/// given too early, if there was one.
pub(super) fn loss_of(index: &Index<'_>, loss: usize, promised: usize) -> Cause {
    let Event { at, host, what } = index.event(loss);
    let when = words::time(*at);
    match what {
        What::LostName { path, made, bytes } => {
            let bytes = match bytes {
                0 => String::new(),
                bytes => format!(" and the {} behind it", words::count(*bytes, "byte", "bytes")),
            };
            let made = words::time(*made);
            let text = format!(
                "lost the name `{path}`{bytes} at {when}: its folder was not synced since the name was made at {made}"
            );
            (text, Vec::new())
        }
        What::Lost { path, bytes, torn } => {
            let bytes = match (*bytes, *torn) {
                (0, torn) => words::count(torn, "torn byte", "torn bytes"),
                (bytes, _) => words::count(bytes, "unsynced byte", "unsynced bytes"),
            };
            let lost = format!("lost {bytes} of `{path}` at {when}");
            if let Some(failed) = failed_sync(index, host, path, loss) {
                let Event { at, what, .. } = index.event(failed);
                let why = what.reason().unwrap_or("an error");
                let failed_at = words::time(*at);
                let text = format!("{lost}, among them what its failed sync at {failed_at} ({why}) had covered");
                return (text, vec![failed]);
            }
            let synced = last_sync(index, host, path, promised.min(loss));
            let last = match (synced.map(|synced| words::time(index.event(synced).at)), promised == usize::MAX) {
                (None, true) => return (lost, Vec::new()),
                (Some(synced), true) => format!("its last sync of it was at {synced}"),
                (None, false) => "it had synced nothing before the answer".to_owned(),
                (Some(synced), false) => format!("its last sync before the answer was at {synced}"),
            };
            (format!("{lost}; {last}"), synced.into_iter().collect())
        }
        What::Damaged { path, bytes, fault, .. } => {
            let bytes = words::count(*bytes, "synced byte", "synced bytes");
            (format!("had {bytes} of `{path}` damaged by {fault}, which showed at {when}"), Vec::new())
        }
        What::Wiped {} => (format!("was wiped at {when}"), Vec::new()),
        What::Rewound { to } => {
            (format!("was put back at {when} to what it had held at {}", words::time(*to)), Vec::new())
        }
        _ => (format!("lost something at {when}"), Vec::new()),
    }
}

/// Returns why something that a server showed is gone: what the server's disk has lost since, which the server had
/// shown before it was synced.
pub(super) fn of_a_dirty_read(index: &Index<'_>, find: &Find<'_>) -> (Option<String>, Vec<usize>) {
    let servers = &index.history.header.servers;
    let server = match (find.source, servers.as_slice()) {
        (Source::Reading(reading), _) => index.readings[reading].server,
        (Source::Follower, [only]) => only,
        (Source::Follower, _) => return (None, Vec::new()),
    };
    let lost = |&n: &usize| {
        let Event { host, what, .. } = index.event(n);
        host == server && takes(what)
    };
    let Some(loss) = (find.event..index.history.events.len()).find(lost) else { return (None, Vec::new()) };
    let loss = gravest_at(index, loss);
    let (text, mut events) = loss_of(index, loss, usize::MAX);
    events.push(loss);
    let shown = words::time(index.event(find.event).at);
    let unsynced = match index.event(loss).what {
        What::Lost { .. } => format!(", and what it had shown at {shown} was not synced then"),
        _ => format!(", and had shown it at {shown}"),
    };
    (Some(format!("{server} {text}{unsynced}")), events)
}

/// Returns what may have let an entry be recorded again: the first server that went down between submission and answer.
pub(super) fn of_a_repeat(index: &Index<'_>, entry: &Entry<'_>) -> (Option<String>, Vec<usize>) {
    let Some((submitted, _)) = entry.submitted else { return (None, Vec::new()) };
    let answered = entry.returned.map(|it| it.0);
    let until = answered.unwrap_or(index.history.events.len());
    let servers = &index.history.header.servers;
    let went_down = |&n: &usize| {
        let Event { host, what, .. } = index.event(n);
        matches!(what, What::Down { .. } | What::Failed { .. }) && servers.contains(host)
    };
    let Some(down) = (submitted..until).find(went_down) else { return (None, Vec::new()) };
    let Event { at, host, what } = index.event(down);
    let how = match what {
        What::Down { how: Down::Crash } => "crashed",
        What::Down { how: Down::PowerLoss } => "lost its power",
        What::Down { how: Down::Stop } => "stopped",
        What::Down { how: Down::Killed } => "was killed, for it did not stop,",
        _ => "ended by itself",
    };
    let answer = match answered {
        Some(answered) => format!("its answer at {}", words::time(index.event(answered).at)),
        None => "an answer".to_owned(),
    };
    let submitted = words::time(index.event(submitted).at);
    let why = format!("{host} {how} at {}, between its submission at {submitted} and {answer}", words::time(*at));
    (Some(why), vec![down])
}

/// Returns the server that was not up at `until` because one life after another ended with an error.
pub(super) fn server_that_fails(index: &Index<'_>, until: usize) -> (Option<String>, Vec<usize>) {
    let servers = index.history.header.servers.iter();
    let worst = servers.filter_map(|server| failures(index, server, until)).max_by_key(|fails| fails.times);
    let Some(Failures { first, last, times, at_once }) = worst else { return (None, Vec::new()) };
    let Event { host, what, .. } = index.event(last);
    let error = what.reason().unwrap_or("no reason was given").trim_end_matches('.');
    let what = if at_once { "failed to start" } else { "ended by itself" };
    let from = words::time(index.event(first).at);
    let how_often = match times {
        1 => format!("at {from}"),
        times => format!("{times} times from {from} on, the last time at {}", words::time(index.event(last).at)),
    };
    let befell = what_befell(index, host, first);
    let (cause, mut events) =
        befell.map_or((String::new(), Vec::new()), |(text, events)| (format!("; {text}"), events));
    events.extend([first, last]);
    (Some(format!("{host} {what} {how_often}: {error}{cause}")), events)
}

/// Consecutive lives of one server that ended with an error.
struct Failures {
    first: usize,
    last: usize,
    times: u64,
    /// None of them lasted.
    at_once: bool,
}

fn failures(index: &Index<'_>, server: &Name, until: usize) -> Option<Failures> {
    let mut failures: Option<Failures> = None;
    let mut up = None;
    for (n, event) in index.history.events[..until].iter().enumerate().filter(|(_, event)| event.host == *server) {
        match &event.what {
            What::Up { .. } => up = Some(event.at),
            What::Failed { .. } => {
                let at_once = up.take().is_some_and(|up| event.at.saturating_sub(up) < AT_ONCE);
                let before = failures.get_or_insert(Failures { first: n, last: n, times: 0, at_once: true });
                before.last = n;
                before.times += 1;
                before.at_once &= at_once;
            }
            What::Down { .. } => (failures, up) = (None, None),
            _ => {}
        }
        // A life that lasts longer than `AT_ONCE` has come up.
        if up.is_some_and(|up| event.at.saturating_sub(up) > AT_ONCE) {
            failures = None;
        }
    }
    let lasts =
        up.is_some_and(|up| index.event(until.min(index.history.events.len() - 1)).at.saturating_sub(up) > AT_ONCE);
    failures.filter(|_| !lasts)
}
