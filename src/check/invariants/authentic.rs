//! # authentic
//!
//! Signatures verify. Every entry was submitted by the client that it names. Nobody altered bytes.
//!
//! **Where it comes from.** Non-repudiation, as audit logs mean it (Schneier and Kelsey, "Secure Audit Logs to Support
//! Computer Forensics", 1999; Crosby and Wallach, 2009), with current formats: C2SP `signed-note` and
//! `tlog-checkpoint`, and inclusion proofs of RFC 6962 verified by the algorithm of RFC 9162, section 2.1.3.2.
//!
//! **What it looks at.** Every receipt that a client accepted, by its exact bytes: the note inside must be signed with
//! the log's key, the leaf must be included under the note's root at the index that was told, and the leaf must contain
//! the bytes that the client accepted, as must every leaf that anybody found. Where an entry was refused for good, the
//! leaf that closes its slot must contain the SHA-256 of those bytes instead. A client that was put back to an earlier
//! state has forgotten what it accepted since, and gives the same slots to other entries; its later receipts are not
//! compared with what it forgot. Every note that anybody signed or kept must be signed with the log's key. And
//! everything that anybody found: an entry of the workload must have exactly the bytes that were submitted, and the
//! client under whose name the log counts it must be the one that submitted it. All of this is verified by code that is
//! not the log's own.
//!
//! **What leaves it idle.** Nobody found an entry of the workload, and no receipt or checkpoint was seen.
//!
//! **A corner that goes wrong.** A server with an older schema takes an entry, decodes it, encodes it again to store
//! it, and drops the field that it did not know. Every signature over the *stored* bytes verifies. Only a comparison
//! with what left the client shows the change.

use std::collections::BTreeMap;

use bytes::Bytes;
use gapless_world::LogEvent;
use sha2::{Digest as _, Sha256};

use super::super::{
    forgotten::Forgotten,
    index::{AcceptedReceipt, Find, Index},
    merkle,
    note::{self, Note, Seen, Verifier},
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Name, What, same_bytes};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    let found = entries_found(index, &mut violations);
    let Some(key) = &index.history.header.log_key else {
        let exercised = || format!("the bytes of {} found", words::count(found, "entry", "entries"));
        return violations.or_held(found, exercised, "nobody found an entry of the workload");
    };
    let verifier = match Verifier::parse(key) {
        Ok(verifier) => verifier,
        Err(why) => {
            return violations.or(Finding::Idle { why: format!("the log's key `{key}` cannot be read: {why}") });
        }
    };
    let mut seen = Seen::default();
    notes(index, &verifier, &mut seen, &mut violations);
    receipts(index, &verifier, &mut seen, &mut violations);
    let (receipts, notes) = (index.receipts.len() as u64, seen.len() as u64);
    let exercised = || {
        format!(
            "the bytes of {} found, {}, {}",
            words::count(found, "entry", "entries"),
            words::count(receipts, "receipt", "receipts"),
            words::count(notes, "signed checkpoint", "signed checkpoints"),
        )
    };
    violations.or_held(found + receipts + notes, exercised, "nobody found an entry, a receipt or a checkpoint")
}

/// Compares the entries found with what was submitted and with what left the outbox, and checks their names.
fn entries_found(index: &Index<'_>, violations: &mut Violations) -> u64 {
    let mut found = 0;
    let outbox = outbox(index);
    for find in &index.finds {
        let Some(entry) = find.entry.map(|entry| &index.entries[entry]) else { continue };
        found += 1;
        if let Some((submitted, bytes)) = entry.submitted
            && !find.found.bytes.is_empty()
            && !same_bytes(&find.found.bytes, bytes)
        {
            violations.add("altered", Some(entry.id()), || altered(index, find, submitted, bytes));
        }
        if let (Some(leaf), Some(accepted)) = (&find.found.leaf, find.entry.and_then(|entry| outbox.get(&entry)))
            && !accepted.iter().any(|(_, payload)| contains(&leaf.0, payload))
        {
            violations.add("re-encoded", Some(entry.id()), || {
                let summary = format!(
                    "{} finds {} at position {} without the exact bytes that {} had accepted: somebody changed them \
                     or encoded them again.",
                    index.reader(find),
                    entry.id(),
                    find.found.position,
                    entry.client,
                );
                Violation::new(summary).shown_by(accepted.iter().map(|it| it.0).chain([find.event]))
            });
        }
        if let Some((client, _, _)) = &find.found.numbered
            && client != entry.client
        {
            violations.add("another's", Some(entry.id()), || {
                let (id, position) = (entry.id(), find.found.position);
                let summary = format!("{id} stands at position {position} under the name of {client}.");
                Violation::new(summary).shown_by(entry.submitted.map(|it| it.0).into_iter().chain([find.event]))
            });
        }
    }
    found
}

/// What outboxes accepted for each entry: events and payloads, by the entry's number in the index.
fn outbox<'h>(index: &Index<'h>) -> BTreeMap<usize, Vec<(usize, &'h Bytes)>> {
    let mut payloads: BTreeMap<usize, Vec<(usize, &'h Bytes)>> = BTreeMap::new();
    for &(event, _, entry) in &index.accepted {
        if let crate::history::What::Log { event: LogEvent::EntryAccepted { entry: payload, .. } } =
            &index.event(event).what
        {
            payloads.entry(entry).or_default().push((event, payload));
        }
    }
    payloads
}

fn altered(index: &Index<'_>, find: &Find<'_>, submitted: usize, bytes: &Bytes) -> Violation {
    let id = find.entry.map(|entry| index.entries[entry].id());
    let name = id.as_ref().map(ToString::to_string).unwrap_or_default();
    let got = &find.found.bytes;
    let at = got.iter().zip(bytes.iter()).position(|(one, other)| one != other).unwrap_or(got.len().min(bytes.len()));
    let summary = format!(
        "{name} was submitted with {} and {} found {} at position {}; they differ from byte {at} on.",
        words::count(bytes.len() as u64, "byte", "bytes"),
        index.reader(find),
        words::number(got.len() as u64),
        find.found.position,
    );
    Violation::new(summary).of(id).shown_by([submitted, find.event])
}

/// Verifies every note that was signed or kept.
fn notes(index: &Index<'_>, verifier: &Verifier, seen: &mut Seen, violations: &mut Violations) {
    let read: Vec<&Note<'_>> = index.checkpoints.iter().filter_map(|it| it.note.as_ref()?.as_ref().ok()).collect();
    let mut judged = seen.all_signed(verifier, &read).into_iter();
    for checkpoint in &index.checkpoints {
        let signed = match checkpoint.note {
            None => continue,
            Some(Err(why)) => Err(why.to_owned()),
            Some(Ok(_)) => judged.next().unwrap_or_else(|| Err("it was passed over".to_owned())),
        };
        if let Err(why) = signed {
            violations.add("note", None, || {
                let event = index.event(checkpoint.event);
                let (at, host) = (words::time(event.at), &event.host);
                let leaves = words::count(checkpoint.size, "leaf", "leaves");
                let summary = format!("the checkpoint of {leaves} at {at} on {host} is no proof: {why}.");
                Violation::new(summary).shown_by([checkpoint.event])
            });
        }
    }
}

/// Verifies every receipt and checks its leaf against what its client had accepted.
fn receipts(index: &Index<'_>, verifier: &Verifier, seen: &mut Seen, violations: &mut Violations) {
    let accepted = accepted(index);
    for receipt in &index.receipts {
        let host = &index.event(receipt.event).host;
        let owed = accepted.get(&(host, receipt.slot.0, receipt.slot.1));
        let owed = owed.and_then(|all| all.iter().rev().find(|owed| owed.holds_at(receipt.event)));
        if let Err(why) = verify(receipt, verifier, seen, owed.map(|it| &it.bytes)) {
            violations.add("receipt", None, || {
                let (at, (epoch, sequence)) = (words::time(index.event(receipt.event).at), receipt.slot);
                let summary = format!("{host} took a receipt for epoch {epoch}, sequence {sequence} at {at}: {why}.");
                Violation::new(summary).shown_by(owed.map(|it| it.event).into_iter().chain([receipt.event]))
            });
        }
    }
}

/// Client, epoch and sequence.
type Slot<'h> = (&'h Name, u64, u64);

/// What the leaf of a slot must hold.
struct Owed {
    /// The event by which the client accepted the entry.
    event: usize,
    /// The payload, or its SHA-256 if the entry was refused for good.
    bytes: Bytes,
    refused: bool,
    /// The event by which the client forgot it. A client that was put back to an earlier state gives the same slot to
    /// another entry, and its receipt may come although the client could not say that it accepted that one.
    forgotten: Option<usize>,
}

impl Owed {
    /// Returns whether this is what the slot must hold for a receipt of this event.
    fn holds_at(&self, event: usize) -> bool {
        self.event < event && self.forgotten.is_none_or(|forgotten| event < forgotten)
    }
}

/// What the leaf of each slot must hold, for each time when a client accepted an entry for it, in order.
fn accepted<'h>(index: &Index<'h>) -> BTreeMap<Slot<'h>, Vec<Owed>> {
    let forgotten = Forgotten::of(index);
    let mut accepted: BTreeMap<Slot<'h>, Vec<Owed>> = BTreeMap::new();
    for (at, event) in index.history.events.iter().enumerate() {
        match &event.what {
            What::Log { event: LogEvent::EntryAccepted { epoch, sequence, entry } } => {
                let forgotten = forgotten.when(index, &event.host, at);
                let owed = Owed { event: at, bytes: entry.clone(), refused: false, forgotten };
                accepted.entry((&event.host, *epoch, *sequence)).or_default().push(owed);
            }
            // A client that starts again may report a dead letter a second time.
            What::Log { event: LogEvent::DeadLettered { epoch, sequence, .. } } => {
                let slot = accepted.get_mut(&(&event.host, *epoch, *sequence));
                if let Some(owed) = slot.and_then(|all| all.last_mut()).filter(|it| !it.refused && it.holds_at(at)) {
                    owed.bytes = Bytes::copy_from_slice(&Sha256::digest(&owed.bytes[..]));
                    owed.refused = true;
                }
            }
            _ => {}
        }
    }
    accepted
}

fn verify(receipt: &AcceptedReceipt, verifier: &Verifier, seen: &mut Seen, owed: Option<&Bytes>) -> Result<(), String> {
    let decoded = receipt.decoded.as_ref().map_err(|error| format!("it is not a receipt: {error}"))?;
    let note = note::parse(&decoded.checkpoint).map_err(|why| format!("its checkpoint is malformed: {why}"))?;
    seen.signed(verifier, &note).map_err(|why| format!("its checkpoint is no proof: {why}"))?;
    if decoded.index != receipt.index {
        return Err(format!("it is for index {}, the client took it for {}", decoded.index, receipt.index));
    }
    let proof: Option<Vec<merkle::Hash>> = decoded.inclusion.iter().map(|hash| hash[..].try_into().ok()).collect();
    let proof = proof.ok_or("its proof has a hash that is not 32 bytes long")?;
    if !merkle::includes(&note.root, note.size, decoded.index, &merkle::leaf_hash(&decoded.leaf), &proof) {
        return Err(format!("its leaf is not included at index {} of {} leaves", decoded.index, note.size));
    }
    match owed {
        Some(entry) if !contains(&decoded.leaf, entry) => Err("its leaf does not hold the accepted bytes".to_owned()),
        _ => Ok(()),
    }
}

fn contains(leaf: &[u8], entry: &[u8]) -> bool {
    // A leaf ends soon after its payload, so a search from the back finds it at once; most places differ in the first
    // byte.
    let Some(first) = entry.first() else { return true };
    leaf.windows(entry.len()).rev().any(|window| window.first() == Some(first) && window == entry)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        check::{merkle::tests as tree, note::tests::Signer, testing::Story, wire},
        history::{Invariant, RunClock},
    };

    fn signer() -> Signer {
        Signer::new("log.example", 1)
    }

    /// client-1 #0 is accepted, with a receipt for it as leaf 1 of 3, changed by `spoil`.
    fn receipt(spoil: impl FnOnce(&mut wire::Receipt)) -> Story {
        let mut story = Story::new();
        story.history.header.log_key = Some(signer().vkey());
        story.submits("client-1", 0).accepts("client-1", 0);
        let leaf: Bytes = [b"envelope", &Story::bytes("client-1", 0)[..], b"signature"].concat().into();
        let leaves = [merkle::leaf_hash(b"a"), merkle::leaf_hash(&leaf), merkle::leaf_hash(b"c")];
        let mut receipt = wire::Receipt {
            index: 1,
            leaf,
            checkpoint: signer().note(3, &tree::by_definition(&leaves)),
            inclusion: tree::path(1, &leaves).into_iter().map(|hash| hash.to_vec().into()).collect(),
        };
        spoil(&mut receipt);
        let receipt = receipt.encode_to_vec().into();
        let event = LogEvent::ReceiptVerified { epoch: 1, sequence: 0, index: 1, receipt };
        story.at(2_000).says("client-1", What::Log { event });
        story
    }

    fn why(spoil: impl FnOnce(&mut wire::Receipt)) -> String {
        let summary = receipt(spoil).violation(Invariant::Authentic).summary;
        let told = "client-1 took a receipt for epoch 1, sequence 0 at 2.000s: ";
        summary.strip_prefix(told).expect("the receipt is named").to_owned()
    }

    #[test]
    fn a_receipt_that_verifies_holds() {
        let Finding::Holds { exercised } = receipt(|_| ()).finding(Invariant::Authentic) else { panic!("not held") };
        assert_eq!(exercised, "the bytes of 0 entries found, 1 receipt, 1 signed checkpoint");
    }

    #[test]
    fn each_part_of_a_receipt_is_verified() {
        let signature = why(|it| it.checkpoint = Signer::new("log.example", 2).note(3, &[0; 32]));
        assert_eq!(signature, "its checkpoint is no proof: `log.example` has not signed it.");
        let proof = why(|it| it.inclusion.truncate(1));
        assert_eq!(proof, "its leaf is not included at index 1 of 3 leaves.");
        assert_eq!(why(|it| it.index = 2), "it is for index 2, the client took it for 1.");
        assert_eq!(
            why(|it| it.checkpoint.clear()),
            "its checkpoint is malformed: it has no empty line before its signatures."
        );
    }

    #[test]
    fn a_leaf_that_holds_another_entry_is_no_receipt() {
        let other = why(|it| {
            it.leaf = Bytes::from_static(b"another entry");
            let leaves = [merkle::leaf_hash(b"a"), merkle::leaf_hash(&it.leaf), merkle::leaf_hash(b"c")];
            it.checkpoint = signer().note(3, &tree::by_definition(&leaves));
        });
        assert_eq!(other, "its leaf does not hold the accepted bytes.");
    }

    #[test]
    fn a_client_that_was_put_back_may_fill_a_slot_with_an_entry_that_it_could_not_say_it_accepted() {
        let put_back_to = |to| {
            let mut story = Story::new();
            story.history.header.log_key = Some(signer().vkey());
            story.at(1_000).submits("client-1", 0).accepts("client-1", 0);
            story.at(1_500).says("client-1", What::Rewound { to: RunClock::from_millis(to) });
            let leaves = [merkle::leaf_hash(b"a"), merkle::leaf_hash(b"another entry")];
            let receipt = wire::Receipt {
                index: 1,
                leaf: Bytes::from_static(b"another entry"),
                checkpoint: signer().note(2, &tree::by_definition(&leaves)),
                inclusion: tree::path(1, &leaves).into_iter().map(|hash| hash.to_vec().into()).collect(),
            };
            let receipt = receipt.encode_to_vec().into();
            let event = LogEvent::ReceiptVerified { epoch: 1, sequence: 0, index: 1, receipt };
            story.at(2_000).says("client-1", What::Log { event });
            story.finding(Invariant::Authentic)
        };
        assert!(matches!(put_back_to(900), Finding::Holds { .. }), "it has forgotten the first one");
        assert!(matches!(put_back_to(1_100), Finding::Violated(_)), "it still knows the first one");
    }

    #[test]
    fn a_leaf_holds_the_very_bytes_that_the_outbox_accepted() {
        let found = |leaf: Vec<u8>| {
            let mut story = Story::new();
            story.submits("client-1", 0);
            let payload: Bytes = [b"new field", &Story::bytes("client-1", 0)[..]].concat().into();
            let event = LogEvent::EntryAccepted { epoch: 1, sequence: 0, entry: payload };
            story.says("client-1", What::Log { event });
            let mut found = story.find(4, "client-1", 0);
            found.leaf = Some(crate::system::Findings::leaf(leaf.into()));
            story.at(9_000).reads("server-1", true, &[found]);
            story
        };
        let own = Story::bytes("client-1", 0);
        assert!(matches!(
            found([b"head new field", &own[..], b"tail"].concat()).finding(Invariant::Authentic),
            Finding::Holds { .. }
        ));
        // The workload's own bytes are there; the field that an older revision did not know is not.
        let summary = found([b"head ", &own[..], b"tail"].concat()).violation(Invariant::Authentic).summary;
        assert_eq!(
            summary,
            "the reading of server-1 finds client-1 #0 at position 4 without the exact bytes that client-1 had accepted: \
             somebody changed them or encoded them again."
        );
    }

    #[test]
    fn the_leaf_of_a_closed_slot_holds_the_digest_of_what_was_refused() {
        let closed = |leaf: Bytes| {
            let mut story = receipt(|it| {
                it.leaf = leaf;
                let leaves = [merkle::leaf_hash(b"a"), merkle::leaf_hash(&it.leaf), merkle::leaf_hash(b"c")];
                it.checkpoint = signer().note(3, &tree::by_definition(&leaves));
                it.inclusion = tree::path(1, &leaves).into_iter().map(|hash| hash.to_vec().into()).collect();
            });
            let event = LogEvent::DeadLettered { epoch: 1, sequence: 0, reason: "oversize".to_owned() };
            let told = What::Log { event };
            story.says("client-1", told.clone()).says("client-1", What::Up { life: 2 }).says("client-1", told);
            story.finding(Invariant::Authentic)
        };
        let refused = Story::bytes("client-1", 0);
        let digest = [b"closes", &Sha256::digest(&refused)[..]].concat();
        assert!(matches!(closed(digest.into()), Finding::Holds { .. }));
        assert!(matches!(closed(refused), Finding::Violated(_)), "what was refused is in the log");
    }

    #[test]
    fn found_bytes_and_names_are_those_of_the_submission() {
        assert!(matches!(Story::healthy().finding(Invariant::Authentic), Finding::Holds { .. }));
        assert!(matches!(Story::new().finding(Invariant::Authentic), Finding::Idle { .. }));
        let mut story = Story::new();
        story.submits("client-1", 0);
        let mut found = story.find(4, "client-1", 0);
        let mut bytes = found.bytes.to_vec();
        bytes[3] ^= 1;
        found.bytes = bytes.into();
        let mut named = story.clone();
        story.at(9_000).reads("server-1", true, std::slice::from_ref(&found));
        let summary = story.violation(Invariant::Authentic).summary;
        assert!(summary.ends_with("at position 4; they differ from byte 3 on."), "{summary}");
        let mut found = named.find(4, "client-1", 0);
        found.numbered = Some(("client-2".into(), 1, 0));
        named.reads("server-1", true, &[found]);
        let summary = named.violation(Invariant::Authentic).summary;
        assert_eq!(summary, "client-1 #0 stands at position 4 under the name of client-2.");
    }
}
