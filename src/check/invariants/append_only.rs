//! # append-only
//!
//! Of any two checkpoints or reads ever seen by anyone, the smaller is a prefix of the larger. The entry at an index
//! never changes.
//!
//! **Where it comes from.** This promise gives a transparency log its name: RFC 6962, section 1 and section 2.1.2
//! (consistency), and the same in RFC 9162. For a replicated log it is Raft's *Log Matching* together with *State
//! Machine Safety* (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 3): no two
//! servers ever apply different entries at one index.
//!
//! **What it looks at.** Every reading of every server, complete or not, at any time; everything that followers were
//! given; every leaf that a client read. Any two of them that cover the same position must agree in its bytes, and in
//! the whole leaf where the log shows leaves. At the end, once everything has healed, every server that can be read is
//! compared with the final log leaf by leaf. Then comes every checkpoint that anybody signed, kept or read: a
//! checkpoint of size *n* must carry the root of the first *n* leaves of the final log (RFC 6962, section 2.1). The
//! roots of all sizes are computed in one pass, by code that is not the log's own.
//!
//! **What leaves it idle.** Nobody ever read anything, and no checkpoint can be compared. Checkpoints are compared only
//! where the final log shows its leaves from position 0 on.
//!
//! **A corner that goes wrong.** A server loses its unsynced tail in a power loss, and the next entry gets the index of
//! one that a reader has already seen. The final log is flawless. Only a comparison of what was read *before* with what
//! is read *after* shows the change, so each early reading is kept, however short. And a log that shrank below a
//! checkpoint is a violation even if nobody ever read the lost leaves: the signature stands for them.

use super::super::{
    index::{Checkpoint, Find, Index, Positions},
    merkle::{self, Hash},
    replicas,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::same_bytes;

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    let seen = same_everywhere(index, &mut violations);
    replicas::differing(index, &mut violations);
    let roots = roots_of_final_log(index, &mut violations);
    let exercised = || {
        let readers = words::count(index.readings.len() as u64, "reading", "readings");
        let roots = words::count(roots, "checkpoint", "checkpoints");
        format!("{} seen in {readers} and by followers, {roots}", words::count(seen, "position", "positions"))
    };
    violations.or_held(seen + roots, exercised, "nobody read the log and no checkpoint could be compared")
}

/// Compares everything that was seen at each position with what was seen there first. Returns how much was seen.
fn same_everywhere(index: &Index<'_>, violations: &mut Violations) -> u64 {
    let mut first = Positions::new(index.finds.len());
    for (n, find) in index.finds.iter().enumerate() {
        if let Some(known) = first.known_or(find.found.position, n)
            && !agree(&index.finds[known], find)
        {
            violations.add("changed", None, || changed(index, &index.finds[known], find));
        }
    }
    for &(event, position, leaf) in &index.leaves {
        let known = first.at(position).map(|known| &index.finds[known]);
        if let Some((known, had)) = known.and_then(|known| Some((known, known.found.leaf.as_ref()?)))
            && !same_bytes(&had.0, leaf)
        {
            violations.add("changed", None, || leaf_changed(index, known.event, event, position));
        }
    }
    let mut read = Positions::new(index.leaves.len());
    for (n, &(event, position, leaf)) in index.leaves.iter().enumerate() {
        if let Some(known) = read.known_or(position, n)
            && !same_bytes(index.leaves[known].2, leaf)
        {
            violations.add("changed", None, || leaf_changed(index, index.leaves[known].0, event, position));
        }
    }
    (index.finds.len() + index.leaves.len()) as u64
}

fn agree(one: &Find<'_>, other: &Find<'_>) -> bool {
    let leaves = match (&one.found.leaf, &other.found.leaf) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    leaves && one.entry == other.entry && same_bytes(&one.found.bytes, &other.found.bytes)
}

fn changed(index: &Index<'_>, before: &Find<'_>, after: &Find<'_>) -> Violation {
    let what = |find: &Find<'_>| match find.entry {
        Some(entry) => index.entries[entry].id().to_string(),
        None => words::count(find.found.bytes.len() as u64, "byte", "bytes"),
    };
    let at = |find: &Find<'_>| words::time(index.event(find.event).at);
    let differently = if what(before) == what(after) { " with other bytes" } else { "" };
    let summary = format!(
        "position {} held {} at {} ({}) and {}{differently} at {} ({}).",
        before.found.position,
        what(before),
        at(before),
        index.reader(before),
        what(after),
        at(after),
        index.reader(after),
    );
    let entries = [before, after].into_iter().filter_map(|find| find.entry).map(|entry| index.entries[entry].id());
    Violation::new(summary).of(entries).shown_by([before.event, after.event])
}

fn leaf_changed(index: &Index<'_>, before: usize, after: usize, position: u64) -> Violation {
    let at = |event: usize| format!("{} on {}", words::time(index.event(event).at), index.event(event).host);
    let summary =
        format!("the leaf at {position} that was seen at {} is not the one seen at {}.", at(before), at(after));
    Violation::new(summary).shown_by([before, after])
}

/// Compares every checkpoint with the root of as many leaves of the final log. Returns how many were compared.
fn roots_of_final_log(index: &Index<'_>, violations: &mut Violations) -> u64 {
    let Some(log) = index.log.as_ref().filter(|_| index.merkle) else { return 0 };
    let mut checkpoints: Vec<(u64, Hash, &Checkpoint<'_>)> =
        index.checkpoints.iter().filter_map(|it| it.stated().map(|(size, root)| (size, root, it))).collect();
    checkpoints.sort_by_key(|it| (it.0, it.2.event));
    let mut compared = 0;
    let mut checkpoints = checkpoints.into_iter().peekable();
    let mut range = merkle::Range::default();
    let mut leaves = log.finds().map(|find| index.finds[find].found);
    loop {
        let mut root = None;
        while let Some((_, stated, checkpoint)) = checkpoints.next_if(|it| it.0 == range.size()) {
            compared += 1;
            let root = *root.get_or_insert_with(|| range.root());
            if root != stated {
                violations.add("root", None, || other_root(index, checkpoint, &stated, &root));
            }
        }
        // A hole or a leaf that is not shown ends what can be recomputed; faithful-reads names the hole.
        let next = leaves.next().filter(|found| found.position == range.size());
        let Some(leaf) = next.and_then(|found| found.leaf.as_ref()) else { break };
        range.push(merkle::leaf_hash(&leaf.0));
    }
    let whole = range.size() == log.finds().len() as u64;
    for (size, _, checkpoint) in checkpoints.filter(|it| whole && index.owed(it.2.event)) {
        compared += 1;
        violations.add("shrank", None, || shrank(index, checkpoint, size, range.size()));
    }
    compared
}

fn other_root(index: &Index<'_>, checkpoint: &Checkpoint<'_>, stated: &Hash, root: &Hash) -> Violation {
    let event = index.event(checkpoint.event);
    let summary = format!(
        "the checkpoint of {} at {} on {} has the root {}…, the first {} of the final log have {}….",
        words::count(checkpoint.size, "leaf", "leaves"),
        words::time(event.at),
        event.host,
        &merkle::hex(stated)[..12],
        checkpoint.size,
        &merkle::hex(root)[..12],
    );
    Violation::new(summary).shown_by([checkpoint.event])
}

fn shrank(index: &Index<'_>, checkpoint: &Checkpoint<'_>, size: u64, end: u64) -> Violation {
    let event = index.event(checkpoint.event);
    let summary = format!(
        "a checkpoint of {} was seen at {} on {}, and at the end the log has {}.",
        words::count(size, "leaf", "leaves"),
        words::time(event.at),
        event.host,
        words::number(end),
    );
    let began = index.log.as_ref().map(|log| log.began);
    Violation::new(summary).shown_by([checkpoint.event].into_iter().chain(began))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{merkle::tests::by_definition, testing::Story},
        history::{Invariant, What},
    };

    fn finding(story: &Story) -> Finding {
        story.finding(Invariant::AppendOnly)
    }

    fn checkpoint(size: usize, leaves: &[&str]) -> What {
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf.as_bytes())).collect();
        What::CheckpointRead { reading: 0, size: size as u64, root: merkle::hex(&by_definition(&hashes)) }
    }

    #[test]
    fn prefixes_of_one_log_hold_and_nothing_read_is_idle() {
        assert!(matches!(finding(&Story::healthy()), Finding::Holds { .. }));
        assert!(matches!(finding(&Story::new()), Finding::Idle { .. }));
    }

    #[test]
    fn a_position_that_changed_between_two_readings_is_named_with_both() {
        let mut story = Story::new();
        let before = [story.find(0, "client-1", 0), story.find(1, "client-1", 1)];
        story.at(1_000).reads("server-1", false, &before);
        let after = [story.find(0, "client-1", 0), story.find(1, "client-1", 2)];
        story.at(2_000).reads_everywhere(&after);
        let violation = story.violation(Invariant::AppendOnly);
        assert_eq!(
            violation.summary,
            "position 1 held client-1 #1 at 1.000s (the reading of server-1) and client-1 #2 at 2.000s \
             (the reading of server-1). It happened 3 times in all."
        );
        assert_eq!(violation.events.len(), 2);
    }

    #[test]
    fn a_follower_that_saw_other_bytes_is_a_witness() {
        let mut story = Story::healthy();
        let mut found = story.find(0, "client-1", 0);
        found.bytes = bytes::Bytes::from_static(b"other");
        story.says("client-2", What::Followed { found });
        assert!(story.violation(Invariant::AppendOnly).summary.contains("with other bytes"));
    }

    #[test]
    fn checkpoints_have_the_roots_of_the_final_leaves() {
        let log = |checkpoints: &[What]| {
            let mut story = Story::new();
            for checkpoint in checkpoints {
                story.says("client-1", checkpoint.clone());
            }
            let leaves = ["a", "b", "c"].into_iter().enumerate();
            let found: Vec<_> = leaves.map(|(n, leaf)| Story::leaf(n as u64, leaf)).collect();
            story.at(5_000).reads_everywhere(&found);
            story
        };
        let good = [checkpoint(0, &[]), checkpoint(2, &["a", "b"]), checkpoint(3, &["a", "b", "c"])];
        assert!(matches!(finding(&log(&good)), Finding::Holds { .. }));
        let forged = log(&[checkpoint(2, &["a", "x"])]).violation(Invariant::AppendOnly);
        assert!(forged.summary.contains("has the root"), "{forged:?}");
        let shrank = log(&[checkpoint(4, &["a", "b", "c", "d"])]).violation(Invariant::AppendOnly);
        assert_eq!(
            shrank.summary,
            "a checkpoint of 4 leaves was seen at 0.000s on client-1, and at the end the log has 3."
        );
    }

    #[test]
    fn a_leaf_that_a_client_read_must_stay() {
        let mut story = Story::new();
        story.says("client-1", Story::leaf_read(0, "a")).says("client-2", Story::leaf_read(0, "b"));
        assert!(matches!(finding(&story), Finding::Violated(_)));
        let mut story = Story::new();
        story.says("client-1", Story::leaf_read(0, "a")).at(5).reads_everywhere(&[Story::leaf(0, "b")]);
        assert!(matches!(finding(&story), Finding::Violated(_)));
    }
}
