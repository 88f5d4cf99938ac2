//! An outbox that was put back to an earlier state: it assigns sequences that the log has seen.

use super::*;
use crate::wire::refusal::Reason;

/// Events before the image, between the image and its return, and after that.
const BEFORE: usize = 3;
const FORGOTTEN: usize = 2;
const AFTER: usize = 4;

/// Too large for the log.
const OVERSIZE: usize = 1_000;

async fn submit(life: Life, numbers: impl Iterator<Item = usize>) -> Vec<Bytes> {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let told = accepted.clone();
    let work = async move {
        let Ok(client) = life.open().await else { return };
        for n in numbers {
            if client.submit(payload(n)).await.is_err() {
                return;
            }
            told.lock().unwrap().push(payload(n));
        }
        let _ = client.close(Duration::from_secs(20)).await;
    };
    // A dead disk answers nothing: the life just stands still until its runtime is dropped.
    let _ = tokio::time::timeout(Duration::from_secs(60), work).await;
    let accepted = accepted.lock().unwrap();
    accepted.clone()
}

/// Returns the log, the disk as it was put back, and what the log has of the time since the image.
fn put_back() -> (FakeLog, MemoryDisk) {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().refuses.push((payload(OVERSIZE), Reason::Oversize));
    live(&disk, &log, Call::AppendStream, |life| submit(life, 0..BEFORE));
    let image = disk.crash(Unsynced::Lost);
    live(&disk, &log, Call::AppendStream, |life| submit(life, BEFORE..BEFORE + FORGOTTEN));
    (log, image)
}

#[test]
fn an_outbox_that_was_put_back_stops_and_its_next_start_goes_on_in_a_new_epoch() {
    let (log, disk) = put_back();
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        let owed = client.submit(payload(100)).await.unwrap();
        let why = client.failed().await.unwrap();
        assert!(why.contains("sequence 4 of epoch ") && why.contains("a snapshot or a backup"), "{why}");
        assert_eq!(owed.delivered.await, Delivered::Owed);
        let refused = client.submit(payload(101)).await.unwrap_err().to_string();
        assert!(refused.contains("start again from the same folder"), "{refused}");
        assert_eq!((life.seen.count("outbox-rolled-back"), life.seen.count("dead-lettered")), (1, 0));
    });
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        client.append(payload(102)).await.unwrap();
        client.close(Duration::from_secs(20)).await.unwrap();
        assert_eq!(life.seen.count("outbox-rolled-back"), 0);
    });
    let mut expected: Vec<Bytes> = (0..BEFORE + FORGOTTEN).map(payload).collect();
    expected.extend([payload(100), payload(102)]);
    assert_eq!(log.payloads(), expected);
    let epochs: std::collections::BTreeSet<_> = log.entries().iter().map(|entry| entry.entry().epoch).collect();
    assert_eq!(epochs.len(), 2);
    assert_gapless(&log);
}

/// More entries at once than were forgotten: the log would take the last of them under their old sequences.
#[test]
fn nothing_is_sent_behind_a_sequence_that_is_taken() {
    for call in [Call::Append, Call::AppendStream] {
        let (log, disk) = put_back();
        let later = || (200..200 + 3 * FORGOTTEN).map(payload);
        live(&disk, &log, call, |life| async move {
            let client = life.open().await.unwrap();
            let submitted = futures::future::join_all(later().map(|payload| client.submit(payload))).await;
            assert!(submitted.iter().all(Result::is_ok));
            client.failed().await.unwrap();
        });
        live(&disk, &log, call, |life| submit(life, 0..0));
        assert_eq!(log.payloads()[BEFORE + FORGOTTEN..], later().collect::<Vec<_>>());
        assert_gapless(&log);
    }
}

/// Lets a client start with the log out of reach, and accept these events.
fn accept_unheard(disk: &MemoryDisk, log: &FakeLog, numbers: std::ops::Range<usize>) {
    live(disk, log, Call::AppendStream, |mut life| async move {
        life.settings.servers[0].address = REFUSING.to_owned();
        let client = life.open().await.unwrap();
        for n in numbers {
            client.submit(payload(n)).await.unwrap();
        }
    });
}

/// The first entry that is accepted after the return may be one of an earlier life than the one that is refused.
#[test]
fn starts_before_the_first_refusal_cost_nothing() {
    for call in [Call::Append, Call::AppendStream] {
        let (log, disk) = put_back();
        for life in 1..=3 {
            accept_unheard(&disk, &log, 100 * life..100 * life + 2 * FORGOTTEN);
        }
        live(&disk, &log, call, |life| async move {
            life.open().await.unwrap().failed().await.unwrap();
            assert_eq!(life.seen.count("dead-lettered"), 0);
        });
        live(&disk, &log, call, |life| submit(life, 0..0));
        let later: Vec<Bytes> = (1..=3).flat_map(|life| 100 * life..100 * life + 2 * FORGOTTEN).map(payload).collect();
        assert_eq!(log.payloads()[BEFORE + FORGOTTEN..], later);
        assert_gapless(&log);
    }
}

/// An application that goes back as well may say the same again before it says anything else.
#[test]
fn events_that_are_said_again_are_the_ones_that_the_log_has() {
    for call in [Call::Append, Call::AppendStream] {
        for again in 1..=FORGOTTEN {
            let (log, disk) = put_back();
            let later: Vec<Bytes> = (BEFORE..BEFORE + again).chain(300..300 + 3 * FORGOTTEN).map(payload).collect();
            let submitted = later.clone();
            live(&disk, &log, call, |life| async move {
                let client = life.open().await.unwrap();
                let submitted = submitted.into_iter().map(|payload| client.submit(payload));
                assert!(futures::future::join_all(submitted).await.iter().all(Result::is_ok));
                // With all of them said again, no sequence is taken.
                if again < FORGOTTEN {
                    client.failed().await.unwrap();
                } else {
                    client.close(Duration::from_secs(20)).await.unwrap();
                }
                assert_eq!(life.seen.count("dead-lettered"), 0);
            });
            live(&disk, &log, call, |life| submit(life, 0..0));
            assert_eq!(log.payloads()[BEFORE..BEFORE + again], later[..again]);
            assert_eq!(log.payloads()[BEFORE + FORGOTTEN..], later[again..], "{again} said again");
            assert_gapless(&log);
        }
    }
}

#[test]
fn an_outbox_that_is_put_back_to_its_note_opens_the_same_epoch_again() {
    let (log, disk) = put_back();
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        client.submit(payload(100)).await.unwrap();
        client.failed().await.unwrap();
    });
    let image = disk.crash(Unsynced::Lost);
    live(&disk, &log, Call::AppendStream, |life| submit(life, 0..0));
    let logged = log.payloads();
    assert_eq!(logged.last(), Some(&payload(100)));
    live(&image, &log, Call::AppendStream, |life| submit(life, 0..0));
    assert_eq!(log.payloads(), logged);
}

#[test]
fn wherever_the_new_epoch_is_cut_off_nothing_is_lost_or_doubled() {
    for too_large in [0, 1] {
        let later: Vec<usize> = (0..AFTER).map(|n| if n == too_large { OVERSIZE } else { 100 + n }).collect();
        cut_off_everywhere(&later);
    }
}

fn cut_off_everywhere(later: &[usize]) {
    let later = || later.iter().copied();
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        for at in 0.. {
            let (log, disk) = put_back();
            let first = live(&disk, &log, Call::AppendStream, |life| submit(life, later()));
            disk.die_at(disk.operations() + at);
            let second = live(&disk, &log, Call::AppendStream, |life| submit(life, 200..202));
            let whole = second.len() == 2 && log.payloads().contains(&payload(201));
            let disk = disk.crash(unsynced);
            let dead: Vec<Bytes> = live(&disk, &log, Call::AppendStream, |life| async move {
                let client = life.open().await.unwrap();
                client.clone().close(Duration::from_secs(60)).await.unwrap();
                client.dead_letters().await.unwrap().iter().map(DeadLetter::payload).collect()
            });
            let logged = log.payloads();
            let place = format!("operation {at}, unsynced {unsynced:?}: log {logged:?}, dead {dead:?}");
            assert_eq!(dead.iter().filter(|it| **it != payload(OVERSIZE)).count(), 0, "{place}");
            for payload in first.iter().chain(&second) {
                let places = logged.iter().chain(&dead).filter(|found| *found == payload).count();
                assert_eq!(places, 1, "{payload:?}: {place}");
            }
            assert_gapless(&log);
            if whole {
                assert!(at > 10, "the new epoch takes more operations than that");
                break;
            }
        }
    }
}
