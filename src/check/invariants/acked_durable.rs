//! # acked-durable
//!
//! Every acknowledged entry is in the final log of a quorum, byte for byte, at the position that was told.
//!
//! **Where it comes from.** Durability, the D of Härder and Reuter's ACID (1983). In a replicated log it is Raft's
//! *Leader Completeness* (figure 3 of the paper) as a client can see it. An acknowledgement is the one thing that a
//! caller may build on, so it is the one thing that no failure may take back.
//!
//! **What it looks at.** Every append that was acknowledged before the final log was read. The entry must count there,
//! with the bytes that were submitted, at the position that was told, and on more than half of the servers. A server
//! that shows something else at that position, or anything behind it, has lost the entry. A server whose reading ends
//! before that position merely does not show the entry, as happens in a log of several servers that nobody leads;
//! `recovers` judges that. Even without a final log, a reader that finds another entry at a position that was told
//! contradicts the acknowledgement.
//!
//! **What leaves it idle.** Nothing was acknowledged, or fewer than a quorum of servers could be read to their end
//! after everything had healed: one server's word proves nothing about the others.
//!
//! **A corner that goes wrong.** The answer leaves before the bytes are on disk. That goes well for years, because a
//! killed process leaves its page cache behind; a power loss does not. Where the history shows lost writes and the last
//! sync before them, the violation names both. An append that came back "unknown" is never judged here.

use super::super::{
    cause,
    index::{Entry, Find, Index, Positions},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{What, same_bytes};

pub(super) fn check(index: &Index<'_>) -> Finding {
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
        Finding::Idle { why: index.why_no_log() }
    } else if index.finals.len() < index.quorum() {
        let (read, servers) = (index.finals.len(), index.history.header.servers.len());
        Finding::Idle { why: format!("only {read} of {servers} servers could be read to the end, which is no quorum") }
    } else {
        Finding::Holds { exercised: words::count(acked, "acknowledged entry", "acknowledged entries") }
    })
}

/// Reports finds that differ from the entry acknowledged at their position, and positions that were told twice.
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
    // These come after what was found: a position is mostly told twice because the entry that stood there was lost.
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
    // A reader that read before the answer was given was shown the entry that was lost, and not the one that took its
    // place.
    let (why, events) = match find.event < acked {
        true => cause::of_a_dirty_read(index, find),
        false => gone_with(index, entry, acked),
    };
    Violation::new(summary).because(why).shown_by(path(entry).chain([find.event]).chain(events))
}

/// Checks one acknowledged entry against the final log.
fn look_for(index: &Index<'_>, entry: &Entry<'_>, acked: usize, told: Option<u64>, violations: &mut Violations) {
    let at = || words::time(index.event(acked).at);
    let Some(first) = entry.first.map(|find| &index.finds[find]) else {
        let kind = if entry.void.is_some() { "void" } else { "lost" };
        if entry.void.is_none() && index.is_merely_not_shown(acked) {
            return; // `recovers` reports it
        }
        violations.add(kind, Some(entry.id()), || lost(index, entry, acked));
        return;
    };
    let position = first.found.position;
    let shown = || path(entry).chain([first.event]);
    if let Some((_, bytes)) = entry.submitted
        && !first.found.bytes.is_empty()
        && !same_bytes(&first.found.bytes, bytes)
    {
        violations.add("bytes", Some(entry.id()), || {
            let summary = format!("{} was acknowledged at {} and has other bytes at {position}.", entry.id(), at());
            Violation::new(summary).shown_by(shown())
        });
    }
    // An entry that was recorded twice stands at the position told, too: that it stands there twice is for
    // `at-most-once`.
    let stands_at = |told| entry.times > 1 && index.stands_at(entry, told);
    if told.is_some_and(|told| told != position && !stands_at(told)) {
        violations.add("position", Some(entry.id()), || {
            let told = told.unwrap_or_default();
            let summary = format!("{} was acknowledged at {} as {told} and stands at {position}.", entry.id(), at());
            Violation::new(summary).shown_by(shown())
        });
    }
    let (read, copies) = (index.finals.len(), entry.copies as usize);
    let lost = || copies + index.ending_before(position) < index.quorum() || !index.promises_to_recover();
    if read >= index.quorum() && copies < index.quorum() && lost() {
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
    let (why, events) = gone_with(index, entry, acked);
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

/// The events of the entry itself.
fn path(entry: &Entry<'_>) -> impl Iterator<Item = usize> {
    let events = [entry.submitted.map(|it| it.0), entry.accepted, entry.returned.map(|it| it.0)];
    events.into_iter().flatten()
}

/// Returns why an acknowledged entry may be gone: the first damage to synced bytes on a server after the entry was
/// submitted; failing that, the first loss of unsynced bytes, of a name, or of everything. It scans the history, so
/// callers ask only for the first violation of a kind.
fn gone_with(index: &Index<'_>, entry: &Entry<'_>, acked: usize) -> (Option<String>, Vec<usize>) {
    let events = &index.history.events;
    let from = entry.submitted.map_or(acked, |it| it.0);
    let on_server = |&at: &usize| index.history.header.servers.contains(&events[at].host);
    let after = || (from..events.len()).filter(on_server);
    let damage = after().find(|&at| matches!(events[at].what, What::Damaged { .. }));
    let Some(gone) = damage.or_else(|| after().find(|&at| cause::takes(&events[at].what))) else {
        return (None, Vec::new());
    };
    let gone = cause::gravest_at(index, gone);
    let host = &events[gone].host;
    let (loss, shown) = cause::loss_of(index, gone, acked);
    let of_host = |at: &usize| events[*at].host == *host;
    let down = (from..gone).rev().filter(of_host).find(|&at| matches!(events[at].what, What::Down { .. }));
    let up = (gone..events.len()).filter(of_host).find(|&at| matches!(events[at].what, What::Up { .. }));
    (Some(format!("{host} {loss}")), [Some(gone), down, up].into_iter().flatten().chain(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{DiskOp, Down, Found, Invariant},
    };

    /// Three entries are acknowledged as positions 0 to 2; the final log holds `found`.
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
        let Finding::Holds { exercised } = story.finding(Invariant::AckedDurable) else { panic!("not held") };
        assert_eq!(exercised, "3 acknowledged entries");
    }

    #[test]
    fn nothing_acknowledged_and_too_few_readings_are_idle() {
        assert!(matches!(Story::new().finding(Invariant::AckedDurable), Finding::Idle { .. }));
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, None);
        assert!(matches!(story.finding(Invariant::AckedDurable), Finding::Idle { .. }));
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads("server-1", true, &found);
        let Finding::Idle { why } = story.finding(Invariant::AckedDurable) else { panic!("not idle") };
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
        story.at(2_000).submits("client-1", 3);
        let found = [story.find(0, "client-1", 0), story.find(5, "client-1", 3)];
        story.at(9_000).reads("server-1", true, &found);
        story.history.header.servers.truncate(1);
        let violation = story.violation(Invariant::AckedDurable);
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
        story.history.header.servers.truncate(1);
        story.at(9_000).reads("server-1", true, &[]);
        let why = "server-1 had 62 synced bytes of `log/0` damaged by torn-write, which showed at 1.010s";
        assert_eq!(story.violation(Invariant::AckedDurable).why.as_deref(), Some(why));
    }

    #[test]
    fn other_bytes_other_positions_and_void_entries_are_not_durable() {
        let altered = log(|story| {
            let mut found = first(story, 3);
            found[1].bytes = bytes::Bytes::from_static(b"other");
            found
        });
        let summary = altered.violation(Invariant::AckedDurable).summary;
        assert_eq!(summary, "client-1 #1 was acknowledged at 1.001s and has other bytes at 1.");
        let void = log(|story| {
            let mut found = first(story, 3);
            found[2].counts = false;
            found
        });
        let summary = void.violation(Invariant::AckedDurable).summary;
        assert_eq!(summary, "client-1 #2 was acknowledged at 1.002s and stands at 2 as void: it does not count.");
        let swapped = log(|story| vec![story.find(0, "client-1", 1), story.find(1, "client-1", 0)]);
        let summary = swapped.violation(Invariant::AckedDurable).summary;
        assert!(summary.starts_with("client-1 #0 was acknowledged at 1.000s as position 0, where"), "{summary}");
    }

    /// client-1 #0 is acknowledged, then #1 is submitted; at the end the servers show these entries.
    fn shown(servers: [&[u64]; 3]) -> Story {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).acked("client-1", 0, None);
        story.at(2_000).submits("client-1", 1);
        for (server, numbers) in ["server-1", "server-2", "server-3"].into_iter().zip(servers) {
            let found = (0..).zip(numbers).map(|(at, number)| story.find(at, "client-1", *number));
            let found: Vec<Found> = found.collect();
            story.at(9_000).reads(server, true, &found);
        }
        story
    }

    #[test]
    fn servers_that_have_something_else_or_more_without_it_have_lost_it() {
        let told = |story: Story| story.violation(Invariant::AckedDurable).summary;
        assert_eq!(
            told(shown([&[0], &[1], &[1]])),
            "client-1 #0 was acknowledged at 1.000s and is on 1 server of the 3 that were read; a quorum is 2."
        );
        let nowhere = "client-1 #0 was acknowledged at 1.000s and is in nobody's log at the end.";
        assert_eq!(told(shown([&[1], &[1], &[1]])), nowhere, "what was submitted later is there");
        let mut one = shown([&[], &[], &[]]);
        one.history.header.servers.truncate(1);
        assert_eq!(told(one), nowhere, "the only server is the log");
    }

    #[test]
    fn what_servers_merely_do_not_show_is_no_loss_and_they_do_not_recover() {
        let few = "client-1 #0 was acknowledged at 1.000s, and at the end 1 server shows it at 0: the readings of \
                   server-2 and server-3 end before it.";
        let none = "client-1 #0 was acknowledged at 1.000s, and at the end no server shows it, nor anything that was \
                    submitted later: it may be lost, or the log no longer serves.";
        let cases: [([&[u64]; 3], &str); 2] = [([&[0, 1], &[], &[]], few), ([&[], &[], &[]], none)];
        for (servers, told) in cases {
            let story = shown(servers);
            assert!(matches!(story.finding(Invariant::AckedDurable), Finding::Holds { .. }), "{told}");
            let Finding::Violated(all) = story.finding(Invariant::Recovers) else { panic!("it recovers: {told}") };
            assert!(all.iter().any(|violation| violation.summary == told), "{all:?}");
            let mut careless = story.clone();
            careless.history.header.promises.kept.retain(|invariant| *invariant != Invariant::Recovers);
            let lost = matches!(careless.finding(Invariant::AckedDurable), Finding::Violated(_));
            assert!(lost, "where nobody is held to `recovers`, it must not go unsaid: {told}");
        }
    }

    #[test]
    fn an_entry_that_was_recorded_twice_stands_where_it_was_told() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0).acked("client-1", 0, Some(1));
        let found = [story.find(0, "client-1", 0), story.find(1, "client-1", 0)];
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::AckedDurable), Finding::Holds { .. }));
        assert!(matches!(story.finding(Invariant::AtMostOnce), Finding::Violated(_)));
    }

    #[test]
    fn an_early_reading_contradicts_even_without_a_final_log() {
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, Some(0));
        let found = [story.find(0, "client-2", 5)];
        story.at(2_000).reads("server-1", false, &found);
        assert!(matches!(story.finding(Invariant::AckedDurable), Finding::Violated(_)));
    }

    #[test]
    fn unknown_outcomes_are_held_to_nothing() {
        let mut story = log(|story| first(story, 3));
        story.history.events.truncate(6);
        story.submits("client-1", 3).unknown("client-1", 3);
        let found = first(&story, 3);
        story.at(9_000).reads_everywhere(&found);
        assert!(matches!(story.finding(Invariant::AckedDurable), Finding::Holds { .. }));
    }

    #[test]
    fn a_sync_that_failed_and_a_name_that_was_lost_are_the_cause_before_anything_smaller() {
        let lost = |path: &str, bytes| What::Lost { path: path.to_owned(), bytes, torn: 0 };
        let acked = |losses: &[What]| {
            let mut story = Story::new();
            story.history.header.servers.truncate(1);
            let (op, error) = (DiskOp::Sync, Some("Input/output error (os error 5)".to_owned()));
            let failed = What::Disk { op, path: "log/0".to_owned(), bytes: 64, error };
            story.at(900).says("server-1", failed);
            story.at(1_000).submits("client-1", 0).acked("client-1", 0, None).at(1_010);
            losses.iter().for_each(|loss| _ = story.says("server-1", loss.clone()));
            story.at(9_000).reads("server-1", true, &[]);
            story.violation(Invariant::AckedDurable).why.expect("a cause")
        };
        assert_eq!(
            acked(&[lost("checkpoint", 512), lost("log/0", 64)]),
            "server-1 lost 64 unsynced bytes of `log/0` at 1.010s, among them what its failed sync at 0.900s (Input/output \
             error (os error 5)) had covered"
        );
        let name = What::LostName { path: "log/1".to_owned(), made: std::time::Duration::from_secs(1), bytes: 9 };
        assert_eq!(
            acked(&[lost("log/0", 64), name]),
            "server-1 lost the name `log/1` and the 9 bytes behind it at 1.010s: its folder was not synced since the name \
             was made at 1.000s"
        );
    }

    #[test]
    fn whoever_read_before_the_answer_was_shown_what_was_lost() {
        let mut story = Story::new();
        story.history.header.servers.truncate(1);
        story.at(900).submits("client-2", 5);
        let dirty = [story.find(0, "client-2", 5)];
        story.at(1_000).reads("server-1", false, &dirty);
        story.at(1_060).says("server-1", What::Lost { path: "log/0".to_owned(), bytes: 64, torn: 0 });
        story.at(2_000).submits("client-1", 0).acked("client-1", 0, Some(0));
        let found = [story.find(0, "client-1", 0)];
        story.at(9_000).reads("server-1", true, &found);
        let why =
            "server-1 lost 64 unsynced bytes of `log/0` at 1.060s, and what it had shown at 1.000s was not synced then";
        assert_eq!(story.violation(Invariant::AckedDurable).why.as_deref(), Some(why));
    }
}
