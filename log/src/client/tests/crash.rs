//! Crashes: at every single disk operation, with and without the page cache.

use super::*;
use crate::wire::refusal::Reason;

const EVENTS: usize = 6;

/// Opens, submits, delivers, dead-letters and closes. Returns what was accepted before the disk died.
async fn busy_life(life: Life) -> Vec<Bytes> {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let told = accepted.clone();
    let work = async move {
        let Ok(client) = life.open().await else { return };
        for n in 0..EVENTS {
            match client.submit(payload(n)).await {
                Ok(submission) => {
                    told.lock().unwrap().push(payload(n));
                    // Every other entry is awaited, so that both batches and single entries meet the crash.
                    if n % 2 == 0 {
                        submission.delivered.await;
                    }
                }
                Err(_) => return,
            }
        }
        let _ = client.close(Duration::from_secs(20)).await;
    };
    // A dead disk answers nothing: the life just stands still until its runtime is dropped.
    let _ = tokio::time::timeout(Duration::from_secs(60), work).await;
    let accepted = accepted.lock().unwrap();
    accepted.clone()
}

#[test]
fn a_crash_between_any_two_disk_operations_loses_and_doubles_nothing() {
    let log = FakeLog::new();
    let refusing = |log: &FakeLog| log.state().refuses.push((payload(3), Reason::Oversize));
    refusing(&log);
    let whole = MemoryDisk::default();
    assert_eq!(live(&whole, &log, Call::AppendStream, busy_life).len(), EVENTS);

    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        for at in 0..whole.operations() {
            let (disk, log) = (MemoryDisk::default(), FakeLog::new());
            refusing(&log);
            disk.die_at(at);
            let accepted = live(&disk, &log, Call::AppendStream, busy_life);
            let disk = disk.crash(unsynced);
            let dead: Vec<Bytes> = live(&disk, &log, Call::AppendStream, |life| async move {
                let client = life.open().await.unwrap();
                client.clone().close(Duration::from_secs(60)).await.unwrap();
                client.dead_letters().await.unwrap().iter().map(DeadLetter::payload).collect()
            });
            let logged = log.payloads();
            let place = format!("operation {at}, unsynced {unsynced:?}: log {logged:?}, dead {dead:?}");
            for payload in &accepted {
                assert!(logged.contains(payload) != dead.contains(payload), "{payload:?}: {place}");
            }
            for n in 0..EVENTS {
                let places = logged.iter().chain(&dead).filter(|found| **found == payload(n)).count();
                assert!(places <= 1, "event {n} is in {places} places: {place}");
            }
            assert_gapless(&log);
        }
    }
}

#[test]
fn a_restart_goes_on_in_its_epoch_and_a_lost_pointer_only_repeats() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    for start in [0, 3] {
        live(&disk, &log, Call::Append, |life| async move {
            let client = life.open().await.unwrap();
            for n in start..start + 3 {
                client.append(payload(n)).await.unwrap();
            }
            client.close(Duration::from_secs(1)).await.unwrap();
        });
        disk.remove_folder("outbox/acknowledged");
    }
    let epochs: std::collections::BTreeSet<_> = log.entries().iter().map(|entry| entry.entry().epoch).collect();
    assert_eq!(epochs.len(), 1);
    assert_eq!(log.payloads(), (0..6).map(payload).collect::<Vec<_>>());
    assert_gapless(&log);
}

#[test]
fn segments_of_delivered_entries_are_given_up_and_a_restart_goes_on_behind_them() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    let large = |n: usize| Bytes::from(vec![n as u8; PAYLOAD_BYTES_MAX]);
    for start in [0, 600] {
        live(&disk, &log, Call::AppendStream, |life| async move {
            let client = life.open().await.unwrap();
            for n in start..start + 600 {
                client.submit(large(n)).await.unwrap();
            }
            client.close(Duration::from_secs(60)).await.unwrap();
        });
        let segments = disk.names().iter().filter(|name| name.contains("entries-") && name.ends_with(".seg")).count();
        assert!(segments <= 2, "72 MB in segments of 16 MiB, all delivered: {:?}", disk.names());
    }
    assert_eq!(log.payloads(), (0..1200).map(large).collect::<Vec<_>>());
    assert_gapless(&log);
}

#[test]
fn an_outbox_that_lost_its_entries_opens_a_larger_epoch_of_unknown_past() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    for life in 0..2 {
        live(&disk, &log, Call::Append, |world| async move {
            let client = world.open().await.unwrap();
            client.append(payload(life)).await.unwrap();
            client.close(Duration::from_secs(1)).await.unwrap();
        });
        for name in disk.names().iter().filter(|name| name.contains("entries-")) {
            disk.remove_folder(name);
        }
    }
    let entries = log.entries();
    assert!(entries[2].entry().epoch > entries[0].entry().epoch);
    for opened in [&entries[0], &entries[2]] {
        let body = &opened.entry().body;
        assert!(matches!(body, crate::leaf::Body::EpochOpened { previous: None, .. }), "{body:?}");
    }
    assert_gapless(&log);
}

#[test]
fn another_clients_outbox_is_not_opened_and_neither_is_one_in_use() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |mut life| async move {
        let client = life.open().await.unwrap();
        assert!(matches!(life.open().await.err(), Some(ClientError::InUse)));
        client.close(Duration::from_secs(1)).await.unwrap();
        life.settings.name = ClientId::new("client-2").unwrap();
        assert!(life.open().await.is_err());
    });
}
