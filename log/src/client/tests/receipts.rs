//! Bad receipts: none of them lets an entry go.

use tokio::time::Instant;

use super::*;
use crate::{
    leaf::{Body, Content, Entry, Leaf},
    note::{Checkpoint, NoteKey, Policy, SigningKey},
    tree::{Tree, leaf_hash},
    wire::{AppendResponse, append_response::Outcome},
};

/// Opens a client against a log whose answers are changed, submits, and asserts that the entry stays, and why.
fn stays(what: &str, tamper: impl Fn(&mut crate::wire::Receipt) + Send + Sync + 'static) -> Witnessed {
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

/// Asserts that a log that lost what it had acknowledged, one way or another, gets no further entry out of the outbox.
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
        // Until the deadline of this one, all others are queued: then they are in flight together, and each answer
        // needs a proof that links it to the one before.
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
    let rolled_back = known::extends(&tree(9, 1), &tree(8, 1), &[]);
    assert_eq!(rolled_back, Err(Rejection::RolledBack { known: 9, found: 8 }));
    let forked = known::extends(&tree(9, 1), &tree(9, 2), &[]);
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
    let receipt = crate::wire::Receipt {
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

/// Returns how often the client asked for proofs of consistency.
fn proofs_asked(seen: &Witnessed) -> usize {
    let asks = |event: &LogEvent| matches!(event, LogEvent::CallStarted { method, .. } if method.ends_with("GetConsistencyProof"));
    seen.all().iter().filter(|event| asks(event)).count()
}

/// Delivers entries that are all in flight at once, and returns how often proofs were asked for and checkpoints kept.
fn in_one_flight(entries: usize, further_max: usize) -> (usize, usize) {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().proofs_further_max = further_max;
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        let before = (proofs_asked(&life.seen), life.seen.count("checkpoint-kept"));
        let mut waiting = Vec::new();
        // Until this one fails, all others are queued behind it.
        life.log.state().faults.push_back(Fault::Fail(tonic::Status::unavailable("not yet")));
        for n in 1..=entries {
            waiting.push(client.submit(payload(n)).await.unwrap().delivered);
        }
        for delivered in waiting {
            assert!(matches!(delivered.await, Delivered::Receipt(_)));
        }
        assert_eq!(life.log.payloads(), (0..=entries).map(payload).collect::<Vec<_>>());
        (proofs_asked(&life.seen) - before.0, life.seen.count("checkpoint-kept") - before.1)
    })
}

#[test]
fn whatever_has_arrived_is_settled_together_by_one_proof_and_one_sync() {
    let (proofs, kept) = in_one_flight(100, usize::MAX);
    assert!(proofs > 0, "each answer has a tree of its own: without a proof a fork could hide between two of them");
    assert!(proofs < 20 && kept < 20, "{proofs} proofs and {kept} syncs for 100 entries");
}

#[test]
fn a_server_that_gives_fewer_proofs_than_were_asked_for_is_asked_for_the_rest() {
    for (further_max, most) in [(0, 100), (3, 60)] {
        let (proofs, kept) = in_one_flight(100, further_max);
        assert!((20..=most).contains(&proofs) && kept < 40, "{further_max}: {proofs} proofs, {kept} syncs");
    }
}

/// From a far server each answer takes a round trip: proofs requested one after the other would come more slowly than
/// entries.
#[test]
fn what_a_server_of_an_earlier_revision_gives_one_by_one_is_asked_for_side_by_side() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().proofs_further_max = 0;
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        life.log.state().proof_takes = Duration::from_millis(500);
        let began = Instant::now();
        let mut waiting = Vec::new();
        for n in 1..=200 {
            waiting.push(client.submit(payload(n)).await.unwrap().delivered);
        }
        assert!(futures::future::join_all(waiting).await.iter().all(|it| matches!(it, Delivered::Receipt(_))));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "200 steps in {took:?}");
    });
}

#[test]
fn a_log_that_places_entries_out_of_order_is_found_out_also_after_a_restart() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        // The first of the next two entries is lost on its way, and the second one is placed where it came.
        life.log.state().misplaces = true;
        life.log.state().faults.push_back(Fault::Fail(tonic::Status::unavailable("not yet")));
        let (first, mut second) = tokio::join!(client.submit(payload(1)), client.submit(payload(2)));
        assert!(matches!(first.unwrap().delivered.await, Delivered::Receipt(_)));
        let delivered = &mut second.as_mut().unwrap().delivered;
        assert!(tokio::time::timeout(Duration::from_secs(60), delivered).await.is_err());
        assert_eq!(client.outstanding().await.unwrap(), [payload(2)]);
        assert_eq!(life.seen.count("parked"), 1);
    });
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), life.seen_parked()).await.is_ok());
        assert_eq!(client.outstanding().await.unwrap(), [payload(2)], "what was kept says where the last one stands");
        let said =
            |event: &LogEvent| matches!(event, LogEvent::ReceiptRejected { why, .. } if why.contains("out of order"));
        assert!(life.seen.all().iter().any(said), "{:?}", life.seen.all());
    });
}

#[test]
fn a_kept_checkpoint_that_is_missing_stops_the_client_until_somebody_says_that_it_is_lost() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(0)).await.unwrap();
        client.close(Duration::from_secs(1)).await.unwrap();
    });
    disk.remove_folder("outbox/checkpoint");
    live(&disk, &log, Call::Append, |life| async move {
        for _ in 0..2 {
            let refused = life.open().await.err().map(|why| why.to_string()).unwrap_or_default();
            assert!(refused.contains("outbox/checkpoint") && refused.contains("outbox/checkpoint-lost"), "{refused}");
        }
        let consent = std::path::Path::new("outbox/checkpoint-lost");
        life.world.disk.open(consent, gapless_world::OpenMode::CreateNew).await.unwrap();
        let client = life.open().await.unwrap();
        client.append(payload(1)).await.unwrap();
        client.close(Duration::from_secs(1)).await.unwrap();
    });
    assert_eq!(log.payloads(), [payload(0), payload(1)]);
    disk.remove_folder("outbox/checkpoint");
    live(&disk, &log, Call::Append, |life| async move {
        assert!(life.open().await.is_err(), "one word is good for one loss");
    });
}
