//! Compares the last readings of the servers with each other, leaf by leaf, once everything has healed.
//!
//! Two checks use it: `append-only` asks whether any replica holds something else than the final log, `recovers`
//! whether any replica stayed behind it. Lengths are compared only where the log shows its leaves, because nothing here
//! can know what else a log may leave out of a reading; but a quorum must show what was acknowledged. A server that
//! could not be read at all is not judged here; `acked-durable` asks for a quorum of readable servers.

use sha2::{Digest as _, Sha256};

use super::{
    index::{Entry, Index, Reading},
    merkle,
    verdict::Violation,
    violations::Violations,
    words,
};
use crate::history::{Found, same_bytes};

/// The number of digits of a hash that are shown.
const HEX_SHOWN: usize = 16;

/// Returns the reading that is the final log, and the readings of the other servers.
fn readings<'i, 'h>(index: &'i Index<'h>) -> Option<(&'i Reading<'h>, impl Iterator<Item = &'i Reading<'h>>)> {
    let began = index.log.as_ref()?.began;
    let reading = |&n: &usize| &index.readings[n];
    let longest = index.finals.iter().map(reading).find(|reading| reading.began == began)?;
    Some((longest, index.finals.iter().map(reading).filter(move |other| other.began != began)))
}

/// Reports what replicas hold that the final log does not, at the first such position of each. Returns how many
/// replicas were compared.
pub(super) fn differing(index: &Index<'_>, violations: &mut Violations) -> u64 {
    let (Some(log), Some((longest, others))) = (&index.log, readings(index)) else { return 0 };
    let mut compared = 0;
    for replica in others {
        compared += 1;
        let differs = |&&find: &&usize| {
            let there = log.at(index.finds[find].found.position);
            there.is_some_and(|there| !same(index.finds[find].found, index.finds[there].found))
        };
        if let Some(&find) = replica.finds.iter().find(differs) {
            violations.add("replica", None, || differs_at(index, longest, replica, find));
        }
    }
    compared
}

fn same(one: &Found, other: &Found) -> bool {
    match (&one.leaf, &other.leaf) {
        (Some(one), Some(other)) => one == other,
        _ => same_bytes(&one.bytes, &other.bytes),
    }
}

/// Returns the hash of a find: that of its leaf in the log's tree, or that of its bytes if the log shows no leaves.
fn hash(found: &Found) -> String {
    let hash = match &found.leaf {
        Some(leaf) => merkle::leaf_hash(&leaf.0),
        None => Sha256::digest(&found.bytes).into(),
    };
    format!("{}…", &merkle::hex(&hash)[..HEX_SHOWN])
}

fn differs_at(index: &Index<'_>, longest: &Reading<'_>, replica: &Reading<'_>, find: usize) -> Violation {
    let here = &index.finds[find];
    let there = index.log.as_ref().and_then(|log| log.at(here.found.position)).map(|at| &index.finds[at]);
    let there_hash = there.map(|there| hash(there.found)).unwrap_or_default();
    let summary = format!(
        "at the end {} has {} at {}, where {} has {there_hash}.",
        replica.server,
        hash(here.found),
        here.found.position,
        longest.server,
    );
    Violation::new(summary).shown_by([here.event].into_iter().chain(there.map(|there| there.event)))
}

/// Reports replicas that are shorter than the final log. Returns how many replicas were compared.
pub(super) fn behind(index: &Index<'_>, violations: &mut Violations) -> u64 {
    let Some((longest, others)) = readings(index).filter(|_| index.merkle) else { return 0 };
    let mut compared = 0;
    for replica in others {
        compared += 1;
        if let Some(&lacking) = longest.finds.get(replica.finds.len()) {
            violations.add("behind", None, || stays_behind(index, longest, replica, lacking));
        }
    }
    compared
}

/// Reports acknowledged entries that too few servers show, or none, although nothing shows that they are lost. Where
/// the log shows its leaves, [`behind`] has already reported the former.
pub(super) fn unshown(index: &Index<'_>, violations: &mut Violations) {
    if index.finals.len() < index.quorum() {
        return;
    }
    for entry in &index.entries {
        let Some((acked, _)) = entry.acked().filter(|&(acked, _)| index.owed(acked)) else { continue };
        match entry.first.map(|find| index.finds[find].found.position) {
            None if entry.void.is_none() && index.is_merely_not_shown(acked) => {
                violations.add("unshown", Some(entry.id()), || not_shown(index, entry, acked));
            }
            Some(position)
                if !index.merkle
                    && (entry.copies as usize) < index.quorum()
                    && entry.copies as usize + index.ending_before(position) >= index.quorum() =>
            {
                violations.add("shown-by-few", Some(entry.id()), || shown_by_few(index, entry, acked, position));
            }
            _ => {}
        }
    }
}

fn not_shown(index: &Index<'_>, entry: &Entry<'_>, acked: usize) -> Violation {
    let summary = format!(
        "{} was acknowledged at {}, and at the end no server shows it, nor anything that was submitted later: it may be \
         lost, or the log no longer serves.",
        entry.id(),
        words::time(index.event(acked).at),
    );
    Violation::new(summary).shown_by(entry.submitted.map(|it| it.0).into_iter().chain([acked]))
}

fn shown_by_few(index: &Index<'_>, entry: &Entry<'_>, acked: usize, position: u64) -> Violation {
    let ends = |&&reading: &&usize| index.end_of(reading) <= position;
    let behind: Vec<&str> =
        index.finals.iter().filter(ends).map(|&reading| &**index.readings[reading].server).collect();
    let on = words::count(entry.copies.into(), "server shows", "servers show");
    let summary = format!(
        "{} was acknowledged at {}, and at the end {on} it at {position}: the readings of {} end before it.",
        entry.id(),
        words::time(index.event(acked).at),
        behind.join(" and "),
    );
    let first = entry.first.map(|find| index.finds[find].event);
    Violation::new(summary).shown_by(entry.submitted.map(|it| it.0).into_iter().chain([acked]).chain(first))
}

fn stays_behind(index: &Index<'_>, longest: &Reading<'_>, replica: &Reading<'_>, lacking: usize) -> Violation {
    let lacking = &index.finds[lacking];
    let leaves = |reading: &Reading<'_>| words::count(reading.finds.len() as u64, "leaf", "leaves");
    let last = match replica.finds.last() {
        Some(&last) => format!("its last is {}", hash(index.finds[last].found)),
        None => "it has none".to_owned(),
    };
    let summary = format!(
        "at the end {} shows {} and {} {}: the first that it lacks is {} at {}, and {last}.",
        replica.server,
        leaves(replica),
        longest.server,
        leaves(longest),
        hash(lacking.found),
        lacking.found.position,
    );
    Violation::new(summary).shown_by([index.healed, Some(replica.began), Some(lacking.event)].into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Finding, testing::Story},
        history::Invariant,
    };

    fn leaves(leaves: &[&str]) -> Vec<Found> {
        (0..).zip(leaves).map(|(position, leaf)| Story::leaf(position, leaf)).collect()
    }

    /// Servers that show these leaves. Nothing else goes wrong: the only entry was refused.
    fn settled(servers: [&[&str]; 3]) -> Story {
        let mut story = Story::new();
        story.at(1_000).says("harness", crate::history::What::Healed {});
        story.at(2_000).submits("client-1", 0).at(2_100).refused("client-1", 0);
        story.at(50_000);
        for (server, found) in ["server-1", "server-2", "server-3"].into_iter().zip(servers) {
            story.reads(server, true, &leaves(found));
        }
        story
    }

    fn told(story: &Story, invariant: Invariant) -> Vec<String> {
        match story.finding(invariant) {
            Finding::Violated(violations) => violations.into_iter().map(|violation| violation.summary).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn replicas_that_are_the_same_hold() {
        let story = settled([&["a", "b"]; 3]);
        assert_eq!(told(&story, Invariant::AppendOnly), Vec::<String>::new());
        assert_eq!(told(&story, Invariant::Recovers), Vec::<String>::new());
    }

    #[test]
    fn a_replica_with_another_leaf_is_named_with_index_and_both_hashes() {
        let told = told(&settled([&["a", "b", "c"], &["a", "x", "y"], &["a", "b", "c"]]), Invariant::AppendOnly);
        let (x, b) = (hash(&Story::leaf(1, "x")), hash(&Story::leaf(1, "b")));
        assert_ne!(x, b);
        let (one, other) = (format!("at the end server-2 has {x} at 1, where server-1 has {b}."), "position 1 held");
        assert!(told.iter().any(|said| said.contains(&one)) && told[0].contains(other), "{told:?}");
    }

    #[test]
    fn a_replica_that_stays_behind_is_named_with_the_first_leaf_that_it_lacks() {
        let told = told(&settled([&["a", "b", "c"], &["a", "b", "c"], &["a"]]), Invariant::Recovers);
        let (a, b) = (hash(&Story::leaf(0, "a")), hash(&Story::leaf(1, "b")));
        let said = format!(
            "at the end server-3 shows 1 leaf and server-1 3 leaves: the first that it lacks is {b} at 1, and its last is {a}."
        );
        assert_eq!(told, [said]);
    }

    #[test]
    fn a_server_that_was_read_again_is_taken_at_its_last_word() {
        let mut story = settled([&["a", "b"], &["a", "b"], &["a"]]);
        story.at(51_000).reads("server-3", true, &leaves(&["a", "b"]));
        assert_eq!(told(&story, Invariant::Recovers), Vec::<String>::new());
    }

    #[test]
    fn a_log_that_shows_no_leaves_is_not_measured() {
        let mut story = Story::new();
        story.at(1_000).says("harness", crate::history::What::Healed {});
        story.at(2_000).submits("client-1", 0).at(2_100).acked("client-1", 0, None);
        let found = [story.find(0, "client-1", 0)];
        story.at(50_000).reads("server-1", true, &found).reads("server-2", true, &found).reads("server-3", true, &[]);
        assert_eq!(told(&story, Invariant::Recovers), Vec::<String>::new());
    }
}
