//! # no-silent-corruption
//!
//! Every injected corruption is noticed before its bytes are served as true.
//!
//! **Where it comes from.** Disks return other bytes than were written, and do not report it (Bairavasundaram and
//! others, FAST 2008, counted such cases on production drives). Of eight distributed stores, most answered with what
//! they had read, lost it or spread it (Ganesan and others, FAST 2017). A log has what it takes to notice: a checksum
//! per frame, a marker of what was synced, a tree over everything.
//!
//! **What it looks at.** Each server from the moment at which damage on its disk can be read: bits rotted, or a power
//! loss showed that the disk had lied. From then on, whatever a reader is given by that server must be what was
//! written: the bytes that were submitted, and at each position the bytes that a sound server showed there. Where only
//! one server could have given them, the same goes for tails and followers. Nor may a server pass over the damage in
//! silence: a complete reading may end before a position that this server had shown earlier only if the server has
//! reported corruption since the damage, or ended with an error that names the damaged file or says what is wrong with
//! it (corrupt, damaged, a checksum, a hash). An end for any other reason does not report damage. A server that lost
//! the last entries that it had acknowledged may not know it; the leader's report of that (`member-lost-tail`) counts
//! as well, for the entries that it covers. A server has lost nothing if its newest start since it showed the entries
//! reports that it found all of them on its disk, though it may not show all of them yet. That start may also lie
//! before the damage.
//!
//! **What leaves it idle.** No disk of a server was damaged; or one was, and after that nobody read the server and it
//! noticed nothing. That is no fault of the run, unless the run was meant to be about damage; then its steps left no
//! evidence either.
//!
//! **A corner that goes wrong.** A start takes damage in the middle for a torn tail, and cuts off everything behind it.
//! A read trusts the length field of a frame and the checksum of the next one. A checksum is computed anew from what
//! was read, before anybody compared.

use std::collections::BTreeMap;

use bytes::Bytes;
use gapless_world::LogEvent;

use super::super::{
    index::{Find, Index, Source},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Found, Name, What};

/// Stems of the words by which an error says that what was read is not what was written.
const WORDS_OF_DAMAGE: [&str; 8] = ["corrupt", "damage", "checksum", "crc", "hash", "digest", "mismatch", "integrity"];

/// What is known of one server.
#[derive(Debug, Default)]
struct Server {
    /// The events that reported damage, in order.
    damaged: Vec<usize>,
    /// The first event since then by which the server showed that it had noticed something.
    noticed: Option<usize>,
    /// The number of readings of it after the damage, whether they reached the end or not.
    read_since: u64,
    /// The position behind the last one that it showed while it was sound, and the newest event that showed it.
    shown: Option<(u64, usize)>,
    /// How many leaves each start found on its disk, and the event that reports it.
    recovered: Vec<(usize, u64)>,
    /// How many leaves the server still holds according to a leader, and the event that reports it.
    lost_tail: Vec<(usize, u64)>,
}

impl Server {
    fn is_sound_at(&self, event: usize) -> bool {
        self.damaged.first().is_none_or(|damaged| *damaged > event)
    }

    /// Returns whether an error is about the damage, and not about anything else that may end a process.
    fn speaks_of_damage(&self, index: &Index<'_>, error: &str) -> bool {
        let error = error.to_lowercase();
        let named = |damaged: &usize| match &index.event(*damaged).what {
            What::Damaged { path, .. } => {
                let file = path.rsplit('/').next().unwrap_or(path).to_lowercase();
                !file.is_empty() && error.contains(&file)
            }
            _ => false,
        };
        !self.damaged.is_empty()
            && (WORDS_OF_DAMAGE.iter().any(|word| error.contains(word)) || self.damaged.iter().any(named))
    }

    /// Returns whether the newest start between two events found everything that the server had shown before them. What
    /// it does not show then is not lost: one member of several shows no more than what it knows a quorum to have
    /// cosigned.
    fn found_all(&self, [since, event]: [usize; 2], shown: u64) -> bool {
        let newest = self.recovered.iter().rfind(|(recovered, _)| *recovered < event);
        newest.is_some_and(|(recovered, leaves)| *recovered > since && *leaves >= shown)
    }

    /// Returns whether, before an event, a leader reported what is missing in a reading up to `end`. A report of a
    /// smaller loss does not count, unless the server's newest start found the rest.
    fn is_missed(&self, event: usize, end: u64) -> bool {
        let mut told = self.lost_tail.iter().filter(|(told, _)| *told < event);
        let damaged = self.damaged.first().copied().unwrap_or(event);
        told.any(|(_, holds)| *holds <= end || self.found_all([damaged, event], *holds))
    }

    fn noticed_by(&self, event: usize) -> bool {
        self.noticed.is_some_and(|noticed| noticed < event)
    }
}

/// The servers of a run, by name.
type Servers<'h> = BTreeMap<&'h Name, Server>;

/// What sound servers first showed at each position, and the event.
type Truth<'h> = BTreeMap<u64, (&'h Bytes, usize)>;

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut servers = servers(index);
    let damages: u64 = servers.values().map(|server| server.damaged.len() as u64).sum();
    if damages == 0 {
        return Finding::Idle { why: "no disk of a server was damaged".to_owned() };
    }
    let truth = truth(index, &servers);
    let mut violations = Violations::default();
    served(index, &servers, &truth, &mut violations);
    passed_over(index, &mut servers, &mut violations);
    let told = |server: &&Server| server.noticed.is_some() || !server.lost_tail.is_empty();
    let noticed = servers.values().filter(told).count() as u64;
    let read: u64 = servers.values().map(|server| server.read_since).sum();
    let exercised = || {
        let places = words::count(damages, "damaged place", "damaged places");
        let servers = words::count(noticed, "server", "servers");
        format!("{places}; {servers} noticed, {} followed", words::count(read, "reading", "readings"))
    };
    violations.or_held(noticed + read, exercised, "nobody read the damaged server, and it noticed nothing")
}

fn servers<'h>(index: &Index<'h>) -> Servers<'h> {
    let mut servers: Servers<'_> = index.history.header.servers.iter().map(|name| (name, Server::default())).collect();
    for (at, event) in index.history.events.iter().enumerate() {
        if let What::Log { event: LogEvent::MemberLostTail { member, holds, .. } } = &event.what
            && servers.contains_key(&event.host)
            && let Some(server) = servers.get_mut(&Name::from(member.as_str()))
        {
            if !server.is_sound_at(at) {
                server.lost_tail.push((at, *holds));
            }
            continue;
        }
        let Some(server) = servers.get_mut(&event.host) else { continue };
        match &event.what {
            What::Damaged { .. } => server.damaged.push(at),
            What::Log { event: LogEvent::CorruptionFound { .. } } if !server.is_sound_at(at) => {
                server.noticed.get_or_insert(at);
            }
            What::Log { event: LogEvent::LogRecovered { leaves, .. } } => server.recovered.push((at, *leaves)),
            What::Failed { error } if server.speaks_of_damage(index, error) => {
                server.noticed.get_or_insert(at);
            }
            _ => {}
        }
    }
    servers
}

/// Returns the server that gave something to a reader, where that is certain.
fn giver<'h>(index: &Index<'h>, source: Source) -> Option<&'h Name> {
    match (source, index.history.header.servers.as_slice()) {
        (Source::Reading(reading), _) => Some(index.readings[reading].server),
        (Source::Follower, [only]) => Some(only),
        (Source::Follower, _) => None,
    }
}

/// Returns what a position holds, as the reader got it.
fn content(found: &Found) -> &Bytes {
    found.leaf.as_ref().map_or(&found.bytes, |leaf| &leaf.0)
}

fn truth<'h>(index: &Index<'h>, servers: &Servers<'_>) -> Truth<'h> {
    let mut truth = Truth::new();
    for Find { event, found, source, .. } in &index.finds {
        let found: &'h Found = found;
        let sound = giver(index, *source).and_then(|name| servers.get(name)).is_some_and(|it| it.is_sound_at(*event));
        if sound {
            truth.entry(found.position).or_insert((content(found), *event));
        }
    }
    truth
}

/// Reports damaged bytes that somebody was given.
fn served(index: &Index<'_>, servers: &Servers<'_>, truth: &Truth<'_>, violations: &mut Violations) {
    for find in &index.finds {
        let Some(name) = giver(index, find.source) else { continue };
        let Some(server) = servers.get(name).filter(|server| !server.is_sound_at(find.event)) else { continue };
        let position = find.found.position;
        let shown = truth.get(&position).filter(|(bytes, _)| *bytes != content(find.found));
        let entry = find.entry.map(|entry| &index.entries[entry]);
        let submitted = entry.and_then(|entry| entry.submitted).filter(|(_, bytes)| **bytes != find.found.bytes);
        if let Some(other) = shown.map(|(_, event)| *event).or(submitted.map(|(event, _)| event)) {
            let entry = entry.map(|entry| entry.id());
            violations.add("served", entry, || gave(index, (name, server), position, [find.event, other]));
        }
    }
    let [only] = index.history.header.servers.as_slice() else { return };
    let Some(server) = servers.get(only) else { return };
    for (event, position, leaf) in index.leaves.iter().filter(|(event, ..)| !server.is_sound_at(*event)) {
        if let Some((bytes, other)) = truth.get(position)
            && bytes != leaf
        {
            violations.add("served", None, || gave(index, (only, server), *position, [*event, *other]));
        }
    }
}

fn gave(index: &Index<'_>, (name, server): (&Name, &Server), position: u64, shown_by: [usize; 2]) -> Violation {
    let at = words::time(index.event(shown_by[0]).at);
    let summary = format!("{name} gave out position {position} at {at} with other bytes than were written.");
    let damage = server.damaged.iter().copied().filter(|damage| *damage < shown_by[0]);
    Violation::new(summary).because(cause(index, server)).shown_by(shown_by.into_iter().chain(damage))
}

/// Reports complete readings that end before what the same server had shown, without a word from that server.
fn passed_over(index: &Index<'_>, servers: &mut Servers<'_>, violations: &mut Violations) {
    for reading in &index.readings {
        let Some(server) = servers.get_mut(reading.server) else { continue };
        let last = reading.finds.iter().map(|find| &index.finds[*find]).max_by_key(|find| find.found.position);
        let end = last.map_or(0, |find| find.found.position.saturating_add(1));
        if server.is_sound_at(reading.began) {
            if let Some(find) = last.filter(|find| server.is_sound_at(find.event))
                && server.shown.is_none_or(|(shown, _)| shown <= end)
            {
                server.shown = Some((end, find.event));
            }
            continue;
        }
        server.read_since += 1;
        let Some((shown, event)) = server.shown.filter(|(shown, _)| *shown > end) else { continue };
        // A reading may have waited for a server that was down, and that reported at its next start what it had found.
        let ended = reading.ended.unwrap_or(reading.began);
        let told = server.noticed_by(ended) || server.is_missed(ended, end);
        if reading.complete && !told && !server.found_all([event, ended], shown) {
            violations.add("passed-over", None, || {
                let (name, gone) = (reading.server, words::count(shown - end, "position", "positions"));
                let at = words::time(index.event(reading.began).at);
                let summary = format!(
                    "{name} no longer had {gone} at {at} that it had shown before its disk was damaged, and it had not \
                     said a word about it."
                );
                let events = [reading.began, event].into_iter().chain(server.damaged.iter().copied());
                Violation::new(summary).because(cause(index, server)).shown_by(events)
            });
        }
    }
}

fn cause(index: &Index<'_>, server: &Server) -> Option<String> {
    let first = index.event(*server.damaged.first()?);
    let What::Damaged { path, bytes, fault, .. } = &first.what else { return None };
    let bytes = words::count(*bytes, "byte", "bytes");
    Some(format!("{fault} damaged {bytes} of `{path}` on {} at {}", first.host, words::time(first.at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Event, Invariant},
    };

    fn damage(path: &str) -> What {
        What::Damaged { path: path.to_owned(), offset: 700, bytes: 1, fault: "bit-rot".to_owned() }
    }

    fn noticed() -> What {
        let what = "the checksum of frame 3 does not hold".to_owned();
        What::Log { event: LogEvent::CorruptionFound { file: "journal/0.seg".to_owned(), offset: 700, what } }
    }

    /// Two entries that everybody has read, and a server whose disk is damaged at 2 s.
    fn story() -> Story {
        let mut story = Story::new();
        story.history.header.promises.kept.push(Invariant::NoSilentCorruption);
        story.at(100).submits("client-1", 0).submits("client-1", 1);
        let both = both(&story);
        story.at(1_000).reads("server-1", false, &both).reads("server-2", false, &both);
        story.at(2_000).says("server-1", damage("journal/0.seg"));
        story.at(3_000);
        story
    }

    fn both(story: &Story) -> [Found; 2] {
        [story.find(0, "client-1", 0), story.find(1, "client-1", 1)]
    }

    fn rotten(story: &Story) -> [Found; 2] {
        let mut found = both(story);
        let mut bytes = found[1].bytes.to_vec();
        bytes[0] ^= 4;
        found[1].bytes = bytes.into();
        found
    }

    fn found(story: &Story) -> Finding {
        story.finding(Invariant::NoSilentCorruption)
    }

    #[test]
    fn a_run_without_damage_is_idle_and_so_is_damage_that_nobody_touched() {
        let mut story = story();
        assert!(matches!(found(&story), Finding::Idle { why } if why.contains("nobody read the damaged server")));
        story.history.events.retain(|Event { what, .. }| !matches!(what, What::Damaged { .. }));
        let why = "no disk of a server was damaged".to_owned();
        assert_eq!(found(&story), Finding::Idle { why });
        story.says("client-1", damage("outbox/0.seg"));
        assert!(matches!(found(&story), Finding::Idle { .. }), "a client serves nobody");
    }

    #[test]
    fn damage_that_was_noticed_or_not_touched_by_what_was_read_holds() {
        let mut noticing = story();
        noticing.says("server-1", noticed());
        assert!(matches!(found(&noticing), Finding::Holds { .. }));
        let mut reading = story();
        let right = both(&reading);
        reading.reads("server-1", true, &right);
        let exercised = "1 damaged place; 0 servers noticed, 1 reading followed".to_owned();
        assert_eq!(found(&reading), Finding::Holds { exercised });
    }

    #[test]
    fn damaged_bytes_that_were_given_out_are_a_violation_even_if_they_were_noticed() {
        for told in [false, true] {
            let mut story = story();
            if told {
                story.says("server-1", noticed());
            }
            let wrong = rotten(&story);
            story.reads("server-1", false, &wrong);
            let violation = story.violation(Invariant::NoSilentCorruption);
            assert!(violation.summary.contains("server-1 gave out position 1 at 3.000s"), "{}", violation.summary);
            assert!(violation.why.is_some_and(|why| why.contains("bit-rot damaged 1 byte of `journal/0.seg`")));
        }
    }

    #[test]
    fn bytes_that_were_submitted_are_compared_where_no_sound_server_showed_the_position() {
        let mut story = story();
        story.submits("client-1", 2);
        let mut late = story.find(2, "client-1", 2);
        late.bytes = "something else".into();
        let mut wrong = both(&story).to_vec();
        wrong.push(late);
        story.reads("server-1", false, &wrong);
        assert!(matches!(found(&story), Finding::Violated(_)));
    }

    #[test]
    fn what_another_server_gives_out_is_not_the_damaged_ones_doing() {
        let mut story = story();
        let (right, wrong) = (both(&story), rotten(&story));
        story.reads("server-1", false, &right).reads("server-3", false, &wrong);
        assert!(matches!(found(&story), Finding::Holds { .. }));
    }

    #[test]
    fn a_tail_counts_where_only_one_server_could_have_fed_it() {
        let mut story = story();
        let wrong = rotten(&story);
        story.says("client-2", What::Followed { found: wrong[1].clone() }).says("server-1", noticed());
        assert!(matches!(found(&story), Finding::Holds { .. }), "it could have been any of three");
        story.history.header.servers.truncate(1);
        assert!(matches!(found(&story), Finding::Violated(_)));
    }

    #[test]
    fn a_leaf_that_a_client_read_counts_too() {
        let mut story = Story::new();
        story.history.header.promises.kept = vec![Invariant::NoSilentCorruption];
        story.history.header.servers.truncate(1);
        story.at(1_000).reads("server-1", false, &[Story::leaf(0, "leaf")]);
        story.at(2_000).says("server-1", damage("journal/0.seg")).says("server-1", noticed());
        story.at(3_000).says("client-1", Story::leaf_read(0, "leaf"));
        assert!(matches!(found(&story), Finding::Holds { .. }));
        story.says("client-1", Story::leaf_read(0, "lead"));
        assert!(matches!(found(&story), Finding::Violated(_)));
    }

    #[test]
    fn a_server_that_drops_what_it_had_shown_has_to_say_so() {
        let mut silent = story();
        let first = [both(&silent)[0].clone()];
        silent.reads("server-1", true, &first);
        let violation = silent.violation(Invariant::NoSilentCorruption);
        assert!(violation.summary.contains("no longer had 1 position at 3.000s"), "{}", violation.summary);
        let failed = |error: &str| What::Failed { error: error.to_owned() };
        for word in [noticed(), failed("Checksum of frame 3 is wrong"), failed("0.seg: cannot be read past byte 700")] {
            let mut saying = story();
            saying.says("server-1", word).reads("server-1", true, &first);
            assert!(matches!(found(&saying), Finding::Holds { .. }));
        }
        let mut elsewhere = story();
        elsewhere.says("server-1", failed("0.0.0.0:50051: address in use")).reads("server-1", true, &first);
        assert!(matches!(found(&elsewhere), Finding::Violated(_)), "an end for another reason is no word about damage");
    }

    /// A leader's report about another server.
    fn lost_tail(member: &str, holds: u64) -> What {
        let member = member.to_owned();
        What::Log { event: LogEvent::MemberLostTail { node: 1, member, holds, acknowledged: 2 } }
    }

    #[test]
    fn what_a_leader_told_that_a_server_has_lost_is_no_secret_for_as_much_as_it_told() {
        let read_after = |words: &[What]| {
            let mut story = story();
            let first = [both(&story)[0].clone()];
            for word in words {
                let teller = if matches!(word, What::Log { event: LogEvent::LogRecovered { .. } }) {
                    "server-1"
                } else {
                    "server-2"
                };
                story.says(teller, word.clone());
            }
            story.reads("server-1", true, &first);
            found(&story)
        };
        let recovered = |leaves| What::Log { event: LogEvent::LogRecovered { frames: 1, leaves } };
        let exercised = "1 damaged place; 1 server noticed, 1 reading followed".to_owned();
        assert_eq!(read_after(&[lost_tail("server-1", 1)]), Finding::Holds { exercised });
        assert!(matches!(read_after(&[lost_tail("server-3", 1)]), Finding::Violated(_)), "about another server");
        assert!(matches!(read_after(&[lost_tail("server-1", 2)]), Finding::Violated(_)), "it lost more than that");
        let held = [recovered(2), lost_tail("server-1", 2)];
        assert!(matches!(read_after(&held), Finding::Holds { .. }), "it does not show all yet that it holds");

        let mut late = story();
        let first = [both(&late)[0].clone()];
        late.reads("server-1", true, &first).says("server-2", lost_tail("server-1", 1));
        assert!(matches!(found(&late), Finding::Violated(_)), "told only afterwards");
        let mut early = story();
        early.history.events.insert(0, Event { what: lost_tail("server-1", 1), ..early.history.events[0].clone() });
        early.history.events[0].host = "server-2".into();
        early.reads("server-1", true, &first);
        assert!(matches!(found(&early), Finding::Violated(_)), "told before there was any damage");
    }

    #[test]
    fn a_start_that_found_everything_does_not_yet_have_to_show_it() {
        let recovered = |leaves| What::Log { event: LogEvent::LogRecovered { frames: 1, leaves } };
        let read_after = |leaves: &[u64]| {
            let mut story = story();
            let first = [both(&story)[0].clone()];
            for leaves in leaves {
                story.says("server-1", recovered(*leaves));
            }
            story.reads("server-1", true, &first);
            found(&story)
        };
        assert!(matches!(read_after(&[2]), Finding::Holds { .. }));
        assert!(matches!(read_after(&[1]), Finding::Violated(_)), "the start had dropped one");
        assert!(matches!(read_after(&[2, 1]), Finding::Violated(_)), "the newest start counts");
    }

    #[test]
    fn a_start_before_the_damage_counts_as_long_as_nothing_more_was_shown_behind_it() {
        let recovered = What::Log { event: LogEvent::LogRecovered { frames: 1, leaves: 2 } };
        for shown_again in [false, true] {
            let mut story = Story::new();
            story.history.header.promises.kept.push(Invariant::NoSilentCorruption);
            story.at(100).submits("client-1", 0).submits("client-1", 1);
            let both = both(&story);
            story.at(1_000).reads("server-1", false, &both);
            story.at(1_500).says("server-1", recovered.clone());
            if shown_again {
                story.at(1_600).reads("server-1", false, &both);
            }
            story.at(2_000).says("server-1", damage("journal/0.seg"));
            story.at(3_000).reads("server-1", true, &both[..1]);
            let is_held = matches!(found(&story), Finding::Holds { .. });
            assert_eq!(is_held, !shown_again, "what it showed in that life, it must not drop without a word");
        }
    }

    #[test]
    fn a_server_that_comes_up_while_it_is_read_has_said_so_in_time() {
        let mut story = story();
        let first = [both(&story)[0].clone()];
        let mut reading = story.clone();
        reading.reads("server-1", true, &first);
        let (began, rest) = reading.history.events[story.history.events.len()..].split_first().expect("a reading");
        story.history.events.push(began.clone());
        story.says("server-1", noticed());
        story.history.events.extend_from_slice(rest);
        assert!(matches!(found(&story), Finding::Holds { .. }));
    }
}
