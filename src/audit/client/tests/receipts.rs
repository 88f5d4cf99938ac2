//! Bad receipts: none of them lets an entry go.

use super::*;
use crate::audit::{
    leaf::{Body, Content, Entry, Leaf},
    note::{Checkpoint, NoteKey, Policy, SigningKey},
    tree::{Tree, leaf_hash},
    wire::{AppendResponse, append_response::Outcome},
};

/// Opens a client against a log whose answers are changed, submits, and sees that the entry stays and why.
fn stays(what: &str, tamper: impl Fn(&mut crate::audit::wire::Receipt) + Send + Sync + 'static) -> Witnessed {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        for n in 0..5 {
            client.append(payload(n)).await.unwrap();
        }
        life.log.tamper(move |answer: &mut AppendResponse| {
            if let Some(Outcome::Receipt(receipt)) = &mut answer.outcome {
                tamper(receipt);
            }
        });
        let mut submission = client.submit(payload(5)).await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(30), &mut submission.delivered).await;
        assert!(early.is_err(), "{what}: {early:?}");
        assert_eq!(client.outstanding().await.unwrap(), [payload(5)], "{what}");
        assert!(life.seen.count("receipt-rejected") > 0, "{what}: {:?}", life.seen.all());
        life.log.state().tamper = None;
        assert!(matches!(submission.delivered.await, Delivered::Receipt(_)), "{what}");
        assert_eq!(life.log.payloads().len(), 6, "{what}: sent again, never twice in the log");
        life.seen
    })
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

#[test]
fn a_flipped_byte_in_any_field_keeps_the_entry() {
    stays("index", |receipt| receipt.index ^= 1);
    stays("leaf", |receipt| receipt.leaf = flip(&receipt.leaf, receipt.leaf.len() - 1));
    stays("leaf head", |receipt| receipt.leaf = flip(&receipt.leaf, 3));
    stays("note", |receipt| receipt.checkpoint = receipt.checkpoint.replacen('\n', "\n1", 1));
    stays("inclusion", |receipt| receipt.inclusion[0] = flip(&receipt.inclusion[0], 31));
    stays("consistency", |receipt| receipt.consistency[0] = flip(&receipt.consistency[0], 0));
}

#[test]
fn a_missing_or_misshapen_proof_keeps_the_entry() {
    stays("no inclusion", |receipt| receipt.inclusion.clear());
    stays("no consistency", |receipt| receipt.consistency.clear());
    stays("short hash", |receipt| receipt.inclusion[0].truncate(31));
    stays("long proof", |receipt| receipt.consistency = vec![Bytes::from(vec![0; 32]); 200]);
}

#[test]
fn the_leaf_of_another_entry_keeps_the_entry() {
    let first: Arc<Mutex<Option<Bytes>>> = Arc::default();
    stays("other leaf", move |receipt| {
        let mut first = first.lock().unwrap();
        let mut leaf = Leaf::decode(receipt.leaf.clone()).unwrap();
        leaf.content = Content::LeaderStarted { node: 1 };
        receipt.leaf = first.get_or_insert(leaf.encode()).clone();
    });
}

#[test]
fn a_checkpoint_by_another_key_keeps_the_entry() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        let right = std::mem::replace(&mut life.log.state().key, SigningKey::from_seed(&[8; 32]));
        let mut submission = client.submit(payload(1)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut submission.delivered).await.is_err());
        assert!(life.seen.count("receipt-rejected") > 1);
        life.log.state().key = right;
        assert!(matches!(submission.delivered.await, Delivered::Receipt(_)));
    });
}

/// A log that lost what it had acknowledged, one way or another, gets no further entry out of the outbox.
fn parks(after: impl Fn(&FakeLog), why: &str) {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        for n in 0..6 {
            client.append(payload(n)).await.unwrap();
        }
        client.close(Duration::from_secs(1)).await.unwrap();
    });
    after(&log);
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        let mut submission = client.submit(payload(6)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(120), &mut submission.delivered).await.is_err());
        assert_eq!(client.outstanding().await.unwrap(), [payload(6)]);
        let told: Vec<LogEvent> =
            life.seen.all().into_iter().filter(|event| matches!(event, LogEvent::Parked { .. })).collect();
        assert!(matches!(&told[..], [LogEvent::Parked { why: told }] if told.contains(why)), "{told:?}");
    });
}

#[test]
fn a_server_that_came_back_and_cannot_prove_yet_is_asked_again_soon() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        // Until its deadline all others are queued: then they are in flight together, and each answer needs a proof from
        // the one before.
        life.log.state().faults.push_back(Fault::Hang);
        life.log.state().proofs_refused = 1;
        let mut waiting = Vec::new();
        for n in 1..9 {
            waiting.push(client.submit(payload(n)).await.unwrap().delivered);
        }
        for delivered in waiting {
            assert!(matches!(delivered.await, Delivered::Receipt(_)));
        }
        assert_eq!(life.log.state().proofs_refused, 0, "nobody asked");
        assert_eq!(life.seen.count("parked"), 0);
        assert_eq!(life.seen.count("retry"), 2);
    });
}

#[test]
fn a_log_that_was_rolled_back_gets_no_entry_and_parks_the_client() {
    parks(|log| log.roll_back(3), "rolled back");
}

#[test]
fn a_log_that_was_wiped_gets_no_entry_and_parks_the_client() {
    parks(FakeLog::wipe, "lost acknowledged entries");
}

#[test]
fn a_smaller_tree_is_a_rollback_and_another_root_of_the_same_size_is_a_fork() {
    let tree = |size, fill| Known { size, root: [fill; 32] };
    let rolled_back = super::receipt::extends(&tree(9, 1), &tree(8, 1), &[]);
    assert_eq!(rolled_back, Err(Rejection::RolledBack { known: 9, found: 8 }));
    let forked = super::receipt::extends(&tree(9, 1), &tree(9, 2), &[]);
    assert_eq!(forked, Err(Rejection::Forked { size: 9 }));
    assert!(rolled_back.unwrap_err().needs_a_cure() && forked.unwrap_err().needs_a_cure());
}

#[test]
fn a_fork_between_two_answers_in_flight_is_noticed() {
    let key = SigningKey::from_seed(&[7; 32]);
    let note_key = NoteKey { name: "log.example".to_owned(), key: key.verifying_key() };
    let body = Body::Event(payload(0));
    let client = ClientId::new("client-1").unwrap();
    let entry = Entry { client, epoch: Epoch(1), sequence: Sequence(1), body }.sign(&key);
    let leaf = Leaf { term: 1, raft_index: 1, position: 0, content: Content::Entry(entry.clone()) }.encode();
    // Two trees that share their first leaf, which is all that was known when the entry was sent.
    let tree = |leaves: &[&[u8]]| {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
        tree
    };
    let (signed, kept) = (tree(&[b"first", &leaf, b"third"]), tree(&[b"first", b"other"]));
    let known = |tree: &Tree, size| Known { size, root: tree.root_at(size).unwrap() };
    let wire = |proof: Vec<[u8; 32]>| proof.iter().map(|hash| Bytes::copy_from_slice(hash)).collect::<Vec<_>>();
    let receipt = crate::audit::wire::Receipt {
        index: 1,
        leaf,
        checkpoint: Checkpoint { origin: note_key.name.clone(), size: 3, root: known(&signed, 3).root }.sign(&key),
        inclusion: wire(signed.inclusion(1, 3).unwrap()),
        consistency: wire(signed.consistency(1, 3).unwrap()),
        repeated: false,
    };
    let examined = || examine(&receipt, &entry, &note_key, &Policy::default(), &known(&signed, 1)).unwrap();
    assert_eq!(examined().missing(&known(&signed, 1)), None);
    assert_eq!(examined().missing(&known(&kept, 2)), Some((2, 3)));
    for proof in [signed.consistency(2, 3).unwrap(), Vec::new()] {
        assert!(matches!(examined().accept(&known(&kept, 2), &proof), Err(Rejection::Inconsistent { .. })));
    }
    let honest = signed.consistency(2, 3).unwrap();
    assert!(examined().accept(&known(&signed, 2), &honest).is_ok());
    let other_third = tree(&[b"first", b"other", b"third"]);
    assert_eq!(examined().accept(&known(&other_third, 3), &[]), Err(Rejection::Forked { size: 3 }));
}

#[test]
fn answers_in_flight_are_proven_to_extend_each_other_by_a_call_of_its_own() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        let submissions = [client.submit(payload(0)).await.unwrap(), client.submit(payload(1)).await.unwrap()];
        for submission in submissions {
            assert!(matches!(submission.delivered.await, Delivered::Receipt(_)));
        }
        let asked = life.seen.all().into_iter().filter(
            |event| matches!(event, LogEvent::CallStarted { method, .. } if method.ends_with("GetConsistencyProof")),
        );
        assert!(asked.count() > 0);
    });
}
