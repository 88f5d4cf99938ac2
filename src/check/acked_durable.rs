//! # acked-durable
//!
//! Whatever was acknowledged is in the final log of a quorum, byte for byte, at the position that was told.
//!
//! **Where it comes from.** Durability, the D of Härder and Reuter's ACID (1983); in a replicated log it is Raft's
//! *Leader Completeness* (figure 3 of the paper) as a client can see it. An acknowledgement is the one thing a caller
//! may build on, so it is the one thing that no failure may take back.
//!
//! **What it looks at.** Every append that came back acknowledged before the final log was read. It must count there,
//! with the bytes that were submitted, at the index told, and on more than half of the servers. Even without a final
//! log, whoever finds another entry at a position that was told contradicts the acknowledgement.
//!
//! **What leaves it idle.** Nothing was acknowledged, or fewer than a quorum of servers could be read to their end
//! after everything had healed: one server's word proves nothing about the others.
//!
//! **A corner that goes wrong.** The answer leaves before the bytes are on disk. It goes well for years, because a
//! killed process leaves its page cache behind; a power loss does not. Where the history shows writes that were lost,
//! and the last sync before, the violation says so. An append that came back "unknown" is never held to anything here.

use super::{
    index::{Entry, Find, Index, Positions},
    no_gaps::no_final_log,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{DiskOp, What};

pub(super) fn judge(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    let mut acked = 0;
    contradicted(index, &mut violations);
    for entry in &index.entries {
        let Some((event, told)) = entry.acked() else { continue };
        acked += 1;
        if index.owed(event) {
            look_for(index, entry, event, told, &mut violations);
        }
    }
    violations.or(if acked == 0 {
        Finding::Idle { why: "nothing was acknowledged".to_owned() }
    } else if index.log.is_none() {
        Finding::Idle { why: no_final_log(index) }
    } else if index.finals.len() < index.quorum() {
        let (read, servers) = (index.finals.len(), index.history.header.servers.len());
        Finding::Idle { why: format!("only {read} of {servers} servers could be read to the end, which is no quorum") }
    } else {
        Finding::Holds { exercised: words::count(acked, "acknowledged entry", "acknowledged entries") }
    })
}

/// Whoever finds, at a position that was told, something else than what was acknowledged there.
fn contradicted(index: &Index<'_>, violations: &mut Violations) {
    let mut told = Positions::new(index.finds.len());
    let mut twice = Vec::new();
    for (n, entry) in index.entries.iter().enumerate() {
        let Some((acked, Some(position))) = entry.acked() else { continue };
        if let Some(other) = told.known_or(position, n) {
            twice.push((entry, &index.entries[other], acked, position));
        }
    }
    for find in &index.finds {
        let Some(known) = told.at(find.found.position) else { continue };
        if find.entry != Some(known) {
            let entry = &index.entries[known];
            violations.add("elsewhere", Some(entry.id()), || elsewhere(index, entry, find));
        }
    }
    // Told after what was found: a position is mostly told twice because what stood there was lost.
    for (entry, other, acked, position) in twice {
        violations.add("told-twice", Some(entry.id()), || {
            let summary = format!("{} and {} were both told position {position}.", other.id(), entry.id());
            Violation::new(summary).of([other.id()]).shown_by(other.acked().map(|it| it.0).into_iter().chain([acked]))
        });
    }
}

fn elsewhere(index: &Index<'_>, entry: &Entry<'_>, find: &Find<'_>) -> Violation {
    let acked = entry.acked().map(|it| it.0).unwrap_or_default();
    let holds = find.entry.map_or("something else".to_owned(), |other| index.entries[other].id().to_string());
    let summary = format!(
        "{} was acknowledged at {} as position {}, where {} finds {holds}.",
        entry.id(),
        words::time(index.event(acked).at),
        find.found.position,
        index.reader(find),
    );
    let (why, events) = cause(index, entry, acked);
    Violation::new(summary).because(why).shown_by(path(entry).chain([find.event]).chain(events))
}

/// Holds one acknowledged entry against the final log.
fn look_for(index: &Index<'_>, entry: &Entry<'_>, acked: usize, told: Option<u64>, violations: &mut Violations) {
    let at = || words::time(index.event(acked).at);
    let Some(first) = entry.first.map(|find| &index.finds[find]) else {
        let kind = if entry.void.is_some() { "void" } else { "lost" };
        violations.add(kind, Some(entry.id()), || lost(index, entry, acked));
        return;
    };
    let position = first.found.position;
    let shown = || path(entry).chain([first.event]);
    if let Some((_, bytes)) = entry.submitted
        && !first.found.bytes.is_empty()
        && first.found.bytes != *bytes
    {
        violations.add("bytes", Some(entry.id()), || {
            let summary = format!("{} was acknowledged at {} and has other bytes at {position}.", entry.id(), at());
            Violation::new(summary).shown_by(shown())
        });
    }
    if told.is_some_and(|told| told != position) {
        violations.add("position", Some(entry.id()), || {
            let told = told.unwrap_or_default();
            let summary = format!("{} was acknowledged at {} as {told} and stands at {position}.", entry.id(), at());
            Violation::new(summary).shown_by(shown())
        });
    }
    let read = index.finals.len();
    if read >= index.quorum() && (entry.copies as usize) < index.quorum() {
        violations.add("quorum", Some(entry.id()), || {
            let on = words::count(entry.copies.into(), "server", "servers");
            let summary = format!(
                "{} was acknowledged at {} and is on {on} of the {read} that were read; a quorum is {}.",
                entry.id(),
                at(),
                index.quorum(),
            );
            Violation::new(summary).shown_by(shown())
        });
    }
}

fn lost(index: &Index<'_>, entry: &Entry<'_>, acked: usize) -> Violation {
    let at = words::time(index.event(acked).at);
    let (why, events) = cause(index, entry, acked);
    let void = entry.void.map(|find| &index.finds[find]);
    let summary = match void {
        Some(find) => {
            let position = find.found.position;
            format!("{} was acknowledged at {at} and stands at {position} as void: it does not count.", entry.id())
        }
        None => format!("{} was acknowledged at {at} and is in nobody's log at the end.", entry.id()),
    };
    Violation::new(summary).because(why).shown_by(path(entry).chain(void.map(|find| find.event)).chain(events))
}

/// The entry's own events.
fn path(entry: &Entry<'_>) -> impl Iterator<Item = usize> {
    let events = [entry.submitted.map(|it| it.0), entry.accepted, entry.returned.map(|it| it.0)];
    events.into_iter().flatten()
}

/// Why an acknowledged entry may be gone: the first damage to synced bytes on a server after it was submitted; else the
/// first loss of unsynced bytes, or wipe, with the last sync there before the answer. Scans the history, so it is asked
/// for the first of a kind only.
fn cause(index: &Index<'_>, entry: &Entry<'_>, acked: usize) -> (Option<String>, Vec<usize>) {
    let events = &index.history.events;
    let servers = &index.history.header.servers;
    let from = entry.submitted.map_or(acked, |it| it.0);
    let damage = |&at: &usize| matches!(events[at].what, What::Damaged { .. }) && servers.contains(&events[at].host);
    let damage = (from..events.len()).find(damage);
    let gone = (from..events.len()).find(|&at| {
        let what = &events[at].what;
        matches!(what, What::Lost { bytes, torn, .. } if *bytes > 0 || *torn > 0) && servers.contains(&events[at].host)
            || matches!(what, What::Wiped {}) && servers.contains(&events[at].host)
    });
    let Some(gone) = damage.or(gone) else { return (None, Vec::new()) };
    let host = &events[gone].host;
    // Of the file that lost something: others may have been synced since.
    let synced = (0..acked.min(gone)).rev().find(|&at| match (&events[at].what, &events[gone].what) {
        (What::Disk { op: DiskOp::Sync, path, error: None, .. }, What::Lost { path: lost, .. }) => {
            events[at].host == *host && path == lost
        }
        _ => false,
    });
    let down = (from..gone).rev().find(|&at| events[at].host == *host && matches!(events[at].what, What::Down { .. }));
    let up = (gone..events.len()).find(|&at| events[at].host == *host && matches!(events[at].what, What::Up { .. }));
    let when = words::time(events[gone].at);
    let why = match &events[gone].what {
        What::Lost { path, bytes, .. } => {
            let bytes = words::count(*bytes, "unsynced byte", "unsynced bytes");
            let last = synced.map(|at| words::time(events[at].at));
            let last = last.map_or("it had synced nothing before the answer".to_owned(), |at| {
                format!("its last sync before the answer was at {at}")
            });
            format!("{host} lost {bytes} of `{path}` at {when}; {last}")
        }
        What::Damaged { path, bytes, fault, .. } => {
            let bytes = words::count(*bytes, "synced byte", "synced bytes");
            format!("{fault} damaged {bytes} of `{path}` on {host}, which showed at {when}")
        }
        _ => format!("{host} was wiped at {when}"),
    };
    (Some(why), [Some(gone), synced, down, up].into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Found, Promise},
    };

    /// Three entries acknowledged as positions 0 to 2, and this final log.
    fn log(found: impl Fn(&Story) -> Vec<Found>) -> Story {
        let mut story = Story::new();
        for number in 0..3 {
            story.at(1_000 + number).submits("client-1", number).acked("client-1", number, Some(number));
        }
        let found = found(&story);
        story.at(9_000).reads_everywhere(&found);
        story
    }

    fn first(story: &Story, count: u64) -> Vec<Found> {
        (0..count).map(|n| story.find(n, "client-1", n)).collect()
    }

    #[test]
    fn what_was_acknowledged_and_is_there_holds() {
        let story = log(|story| first(story, 3));
        let Finding::Holds { exercised } = story.finding(Promise::AckedDurable) else { panic!("not held") };
        assert_eq!(exercised, "3 acknowledged entries");
    }

    #[test]
    fn nothing_acknowledged_and_too_few_readings_are_idle() {
        assert!(matches!(Story::new().finding(Promise::AckedDurable), Finding::Idle { .. }));
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, None);
        assert!(matches!(story.finding(Promise::AckedDurable), Finding::Idle { .. }));
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads("server-1", true, &found);
        let Finding::Idle { why } = story.finding(Promise::AckedDurable) else { panic!("not idle") };
        assert_eq!(why, "only 1 of 3 servers could be read to the end, which is no quorum");
    }

    #[test]
    fn lost_entries_are_named_with_the_power_loss_that_took_them() {
        let mut story = Story::new();
        let sync = |path: &str| What::Disk { op: DiskOp::Sync, path: path.to_owned(), bytes: 9, error: None };
        story.at(990).says("server-1", sync("log/0"));
        story.at(995).says("server-1", sync("another"));
        for number in 0..3 {
            story.at(1_000 + number).submits("client-1", number).acked("client-1", number, Some(number));
        }
        story.at(1_010).says("server-1", What::Down { how: Down::PowerLoss });
        story.says("server-1", What::Lost { path: "log/0".to_owned(), bytes: 3_120, torn: 0 });
        let found = first(&story, 1);
        story.at(9_000).reads_everywhere(&found);
        let violation = story.violation(Promise::AckedDurable);
        assert_eq!(
            violation.summary,
            "client-1 #1 was acknowledged at 1.001s and is in nobody's log at the end. Also client-1 #2."
        );
        let why =
            "server-1 lost 3 120 unsynced bytes of `log/0` at 1.010s; its last sync before the answer was at 0.990s";
        assert_eq!(violation.why.as_deref(), Some(why));
        assert_eq!(violation.entries.len(), 2);
        assert_eq!(violation.events, [0, 4, 5, 8, 9]);
    }

    #[test]
    fn a_disk_that_lied_is_named_before_what_nobody_was_promised() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).acked("client-1", 0, Some(0));
        story.at(1_010).says("server-1", What::Lost { path: "checkpoint".to_owned(), bytes: 512, torn: 0 });
        let (path, fault) = ("log/0".to_owned(), "torn-write".to_owned());
        story.says("server-1", What::Damaged { path, offset: 1_024, bytes: 62, fault });
        story.at(9_000).reads_everywhere(&[]);
        let why = "torn-write damaged 62 synced bytes of `log/0` on server-1, which showed at 1.010s";
        assert_eq!(story.violation(Promise::AckedDurable).why.as_deref(), Some(why));
    }

    #[test]
    fn other_bytes_other_positions_and_void_entries_are_not_durable() {
        let altered = log(|story| {
            let mut found = first(story, 3);
            found[1].bytes = bytes::Bytes::from_static(b"other");
            found
        });
        let summary = altered.violation(Promise::AckedDurable).summary;
        assert_eq!(summary, "client-1 #1 was acknowledged at 1.001s and has other bytes at 1.");
        let void = log(|story| {
            let mut found = first(story, 3);
            found[2].counts = false;
            found
        });
        let summary = void.violation(Promise::AckedDurable).summary;
        assert_eq!(summary, "client-1 #2 was acknowledged at 1.002s and stands at 2 as void: it does not count.");
        let swapped = log(|story| vec![story.find(0, "client-1", 1), story.find(1, "client-1", 0)]);
        let summary = swapped.violation(Promise::AckedDurable).summary;
        assert!(summary.starts_with("client-1 #0 was acknowledged at 1.000s as position 0, where"), "{summary}");
    }

    #[test]
    fn one_server_is_no_quorum() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).acked("client-1", 0, None);
        let found = first(&story, 1);
        story.at(9_000).reads("server-1", true, &found).reads("server-2", true, &[]).reads("server-3", true, &[]);
        let summary = story.violation(Promise::AckedDurable).summary;
        assert_eq!(
            summary,
            "client-1 #0 was acknowledged at 1.000s and is on 1 server of the 3 that were read; a quorum is 2."
        );
    }

    #[test]
    fn an_early_reading_contradicts_even_without_a_final_log() {
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, Some(0));
        let found = [story.find(0, "client-2", 5)];
        story.at(2_000).reads("server-1", false, &found);
        assert!(matches!(story.finding(Promise::AckedDurable), Finding::Violated(_)));
    }

    #[test]
    fn unknown_outcomes_are_held_to_nothing() {
        let mut story = log(|story| first(story, 3));
        story.history.events.truncate(6);
        story.submits("client-1", 3).unknown("client-1", 3);
        let found = first(&story, 3);
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Promise::AckedDurable), Finding::Holds { .. }));
    }
}
