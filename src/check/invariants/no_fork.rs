//! # no-fork
//!
//! No two signed checkpoints of one size have different roots.
//!
//! **Where it comes from.** The split view of RFC 6962, section 7.3 ("misbehaving logs"), which witnesses exist to
//! detect (C2SP `tlog-witness`). In Raft's terms, *Leader Completeness* and *State Machine Safety* exclude it: two
//! leaders that each signed a different history.
//!
//! **What it looks at.** Every checkpoint that anybody signed, kept, read or was given in a receipt, at any time. Notes
//! are parsed here, from their text: what the event says beside a note is not believed.
//!
//! **What leaves it idle.** Nobody ever saw a checkpoint.
//!
//! **A corner that goes wrong.** A leader that is cut off goes on to sign what its followers never stored. After the
//! cut the log is whole again and every reader sees one history; but somewhere a client holds a checkpoint that can
//! never be reconciled with it. So signing counts, not only reading: a fork that nobody was shown yet is a fork.

use std::collections::BTreeMap;

use super::super::{
    index::Index,
    merkle::{self, Hash},
    note,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    let mut first: BTreeMap<u64, (Hash, usize)> = BTreeMap::new();
    let mut seen = 0;
    let checkpoints = index.checkpoints.iter().filter_map(|it| it.stated().map(|(size, root)| (size, root, it.event)));
    for (size, root, event) in checkpoints.chain(in_receipts(index)) {
        seen += 1;
        let (known, known_event) = *first.entry(size).or_insert((root, event));
        if known != root {
            violations.add("fork", None, || fork(index, size, (known_event, &known), (event, &root)));
        }
    }
    let exercised = || {
        let sizes = words::count(first.len() as u64, "size", "sizes");
        format!("{} of {sizes}", words::count(seen, "checkpoint", "checkpoints"))
    };
    violations.or_held(seen, exercised, "nobody saw a checkpoint")
}

/// Returns the checkpoints inside receipts: size, root, event.
fn in_receipts(index: &Index<'_>) -> impl Iterator<Item = (u64, Hash, usize)> {
    index.receipts.iter().filter_map(|receipt| {
        let note = note::parse(&receipt.decoded.as_ref().ok()?.checkpoint).ok()?;
        Some((note.size, note.root, receipt.event))
    })
}

fn fork(index: &Index<'_>, size: u64, one: (usize, &Hash), other: (usize, &Hash)) -> Violation {
    let told = |(event, root): (usize, &Hash)| {
        let event = index.event(event);
        format!("{}… at {} on {}", &merkle::hex(root)[..12], words::time(event.at), event.host)
    };
    let leaves = words::count(size, "leaf", "leaves");
    let summary = format!("two checkpoints of {leaves} have different roots: {}, and {}.", told(one), told(other));
    let leads = |event: &crate::history::Event| event.what.name() == "leader-change";
    let changes = (one.0.min(other.0)..one.0.max(other.0)).filter(|&at| leads(index.event(at)));
    Violation::new(summary).shown_by([one.0, other.0].into_iter().chain(changes.take(6)))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        check::{note::tests::Signer, testing::Story, wire},
        history::{Invariant, What},
    };
    use gapless_world::LogEvent;

    fn signed(size: u64, root: u8) -> What {
        let note = Signer::new("log.example", 1).note(size, &[root; 32]);
        What::Log { event: LogEvent::CheckpointSigned { size, root: String::new(), note } }
    }

    #[test]
    fn one_root_for_each_size_holds_and_no_checkpoint_is_idle() {
        let mut story = Story::new();
        assert!(matches!(story.finding(Invariant::NoFork), Finding::Idle { .. }));
        story.says("server-1", signed(3, 1)).says("server-2", signed(3, 1)).says("server-1", signed(4, 2));
        let Finding::Holds { exercised } = story.finding(Invariant::NoFork) else { panic!("a fork") };
        assert_eq!(exercised, "3 checkpoints of 2 sizes");
    }

    #[test]
    fn two_roots_for_one_size_are_a_fork_whoever_saw_them() {
        let mut story = Story::new();
        story.at(1_000).says("server-1", signed(3, 1));
        story.at(2_000).says("client-1", What::CheckpointRead { reading: 0, size: 3, root: "02".repeat(32) });
        let violation = story.violation(Invariant::NoFork);
        assert_eq!(
            violation.summary,
            "two checkpoints of 3 leaves have different roots: 010101010101… at 1.000s on server-1, and \
             020202020202… at 2.000s on client-1."
        );
        assert_eq!(violation.events, [0, 1]);
    }

    #[test]
    fn a_receipt_is_a_witness_too() {
        let mut story = Story::new();
        let checkpoint = Signer::new("log.example", 1).note(3, &[7; 32]);
        let receipt = wire::Receipt { checkpoint, ..Default::default() }.encode_to_vec().into();
        let event = LogEvent::ReceiptVerified { epoch: 0, sequence: 0, index: 0, receipt };
        story.says("server-1", signed(3, 1)).says("client-1", What::Log { event });
        assert!(matches!(story.finding(Invariant::NoFork), Finding::Violated(_)));
    }
}
