//! Appending: accepted once, delivered once, in order, whatever happens to the answers.

use futures::poll;
use tokio::time::Instant;
use tonic::Status;

use super::{log::Manner, *};
use crate::{leaf::Body, wire::refusal::Reason};

const BOTH: [Call; 2] = [Call::Append, Call::AppendStream];

async fn append_all(client: &AuditClient, from: usize, to: usize) -> Vec<Delivered> {
    let mut waiting = Vec::new();
    for n in from..to {
        waiting.push(client.submit(payload(n)).await.unwrap().delivered);
    }
    futures::future::join_all(waiting).await
}

#[test]
fn entries_are_delivered_in_order_each_with_a_verified_receipt() {
    for call in BOTH {
        let (disk, log) = (MemoryDisk::default(), FakeLog::new());
        live(&disk, &log, call, |life| async move {
            let client = life.open().await.unwrap();
            let delivered = append_all(&client, 0, 300).await;
            assert!(delivered.iter().all(|outcome| matches!(outcome, Delivered::Receipt(_))));
            assert!(client.outstanding().await.unwrap().is_empty());
            client.close(Duration::from_secs(1)).await.unwrap();
            assert_eq!(life.seen.count("receipt-verified"), 301, "the entry that opens the epoch too");
            assert_eq!(life.seen.count("retry"), 0);
        });
        assert_eq!(log.payloads(), (0..300).map(payload).collect::<Vec<_>>());
        assert_gapless(&log);
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_and_leaves_one_entry() {
    for call in BOTH {
        let (disk, log) = (MemoryDisk::default(), FakeLog::new());
        log.state().faults.extend([Fault::Pass, Fault::LoseAnswer, Fault::Pass, Fault::LoseAnswer]);
        live(&disk, &log, call, |life| async move {
            let client = life.open().await.unwrap();
            append_all(&client, 0, 3).await;
            assert!(life.seen.count("retry") >= 1);
        });
        assert_eq!(log.payloads(), (0..3).map(payload).collect::<Vec<_>>());
        assert_gapless(&log);
    }
}

#[test]
fn after_a_failure_the_window_goes_back_to_the_lowest_sequence() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().faults.extend([Fault::Pass, Fault::Pass, Fault::Fail(Status::unavailable("no leader"))]);
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 8).await;
    });
    let arrived = log.state().arrived.clone();
    assert_eq!(arrived, [0, 1, 2, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn calls_that_overtake_each_other_are_taken_up_again_without_a_retry() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().faults.extend([Fault::Pass, Fault::Refuse(Reason::SequenceGap, 1)]);
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 20).await;
    });
    assert_gapless(&log);
    assert_eq!(log.payloads().len(), 20);
}

#[test]
fn a_call_that_is_never_answered_ends_at_its_deadline() {
    for call in BOTH {
        let (disk, log) = (MemoryDisk::default(), FakeLog::new());
        log.state().faults.extend([Fault::Pass, Fault::Hang]);
        live(&disk, &log, call, |life| async move {
            let client = life.open().await.unwrap();
            append_all(&client, 0, 1).await;
            let late = |why: &str| why.contains("deadline-exceeded") || why.contains("imeout");
            let ended = life.seen.all().iter().any(|event| matches!(event, LogEvent::Retry { why, .. } if late(why)));
            assert!(ended, "{:?}", life.seen.all());
        });
        assert_eq!(log.payloads().len(), 1);
    }
}

/// tonic's own timer stops at the head of an answer.
#[test]
fn a_call_whose_answer_never_ends_is_over_at_its_deadline() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 1).await;
        let late = Duration::from_secs(3);
        life.log.state().manners.extend([Manner::Late(late), Manner::Unended]);
        let began = Instant::now();
        append_all(&client, 1, 3).await;
        // The answer to the first one, which comes meanwhile, gives the second one no more time.
        let (took, deadline) = (began.elapsed(), life.settings.deadlines.call);
        assert!(took >= deadline && took < deadline + late / 2, "{took:?}");
    });
    assert_gapless(&log);
}

#[test]
fn a_stream_on_which_nothing_is_owed_is_closed_and_the_next_entry_opens_another() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        for n in 0..3 {
            append_all(&client, n, n + 1).await;
            tokio::time::sleep(Duration::from_secs(90)).await;
        }
        assert_eq!(life.seen.count("retry"), 0);
        let streams =
            life.seen.all().into_iter().filter(
                |event| matches!(event, LogEvent::CallStarted { method, .. } if method.ends_with("AppendStream")),
            );
        assert_eq!(streams.count(), 3);
    });
}

#[test]
fn a_server_that_is_down_is_passed_over_for_the_next() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |mut life| async move {
        let down = Server { address: REFUSING.to_owned(), tls_name: "server-2".to_owned() };
        life.settings.servers.insert(0, down);
        let client = life.open().await.unwrap();
        append_all(&client, 0, 3).await;
        assert_eq!((life.seen.count("retry"), life.seen.count("parked")), (1, 0));
    });
    assert_gapless(&log);
}

#[test]
fn what_a_server_asks_to_wait_is_waited() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    let mut busy = Status::resource_exhausted("full");
    busy.metadata_mut().insert("grpc-retry-pushback-ms", "4321".parse().unwrap());
    log.state().faults.push_back(Fault::Fail(busy));
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 1).await;
        let waits: Vec<u64> = (life.seen.all().iter())
            .filter_map(|event| match event {
                LogEvent::Retry { wait_ms, .. } => Some(*wait_ms),
                _ => None,
            })
            .collect();
        assert_eq!(waits, [4321]);
    });
}

#[test]
fn what_only_somebody_can_cure_is_parked_once_and_resumes() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    for _ in 0..3 {
        log.state().faults.push_back(Fault::Fail(Status::permission_denied("not you")));
    }
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 2).await;
        assert_eq!((life.seen.count("parked"), life.seen.count("resumed")), (1, 1));
        assert_eq!(life.seen.count("retry"), 3);
    });
    assert_eq!(log.payloads().len(), 2);
}

#[test]
fn a_dead_letter_keeps_the_bytes_and_closes_the_slot() {
    for call in BOTH {
        let (disk, log) = (MemoryDisk::default(), FakeLog::new());
        log.state().refuses.push((payload(1), Reason::Malformed));
        live(&disk, &log, call, |life| async move {
            let client = life.open().await.unwrap();
            let delivered = append_all(&client, 0, 4).await;
            assert!(matches!(&delivered[1], Delivered::DeadLetter { reason } if reason.starts_with("malformed")));
            client.clone().close(Duration::from_secs(5)).await.unwrap();
            let letters = client.dead_letters().await.unwrap();
            assert_eq!(letters.iter().map(DeadLetter::payload).collect::<Vec<_>>(), [payload(1)]);
            assert_eq!(life.seen.count("dead-lettered"), 1);
        });
        assert_eq!(log.payloads(), [payload(0), payload(2), payload(3)]);
        assert_gapless(&log);
        assert!(matches!(log.entries()[2].entry().body, Body::DeadLettered { .. }));
    }
}

/// A crash, or a sync that failed, may come after a dead letter is kept and before it is reported.
#[test]
fn a_dead_letter_whose_place_is_still_open_is_told_of_by_the_next_life() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().refuses.push((payload(0), Reason::Malformed));
    // The entry that opens the epoch passes; the one that closes the slot is never answered.
    log.state().faults.extend([Fault::Pass, Fault::Pass, Fault::Hang]);
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 1).await;
        assert_eq!(life.seen.count("dead-lettered"), 1);
    });
    for told in [1, 0] {
        live(&disk, &log, Call::Append, |life| async move {
            let client = life.open().await.unwrap();
            assert_eq!(life.seen.count("dead-lettered"), told, "once its place is closed, it is past");
            client.close(Duration::from_secs(60)).await.unwrap();
        });
    }
}

#[test]
fn a_dead_letter_whose_slot_is_taken_in_the_log_is_kept_and_left() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    let refused = |reason| Fault::Refuse(reason, 2);
    log.state().faults.extend([Fault::Pass, refused(Reason::Oversize), refused(Reason::SequenceReused)]);
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        let delivered = append_all(&client, 0, 1).await;
        assert!(matches!(delivered[0], Delivered::DeadLetter { .. }));
        client.clone().close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(client.dead_letters().await.unwrap().len(), 1);
    });
}

#[test]
fn an_oversize_payload_is_refused_before_anything_is_written() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        client.submit(Bytes::from(vec![0; PAYLOAD_BYTES_MAX])).await.unwrap();
        let refused = client.submit(Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1])).await.unwrap_err();
        assert!(refused.to_string().contains("61440"), "{refused}");
        assert_eq!(life.seen.count("entry-accepted"), 1);
    });
}

#[test]
fn a_full_outbox_makes_callers_wait_and_drops_nothing() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    for _ in 0..4 {
        log.state().faults.push_back(Fault::Fail(Status::unavailable("down")));
    }
    live(&disk, &log, Call::AppendStream, |mut life| async move {
        life.settings.outbox_entries_max = 3;
        let client = life.open().await.unwrap();
        append_all(&client, 0, 12).await;
        assert!(life.seen.count("outbox-full") > 0);
    });
    assert_eq!(log.payloads(), (0..12).map(payload).collect::<Vec<_>>());
}

/// The queue has two places, and its owner takes both entries at once: one place goes to the caller that waits, which
/// has yet to be polled again, and the other is free when a fourth caller comes.
#[test]
fn a_caller_that_comes_while_another_one_is_being_let_in_stands_behind_it() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        let mut client = life.open().await.unwrap();
        let (submits, mut queue) = mpsc::channel(2);
        client.submits = submits;
        let [mut first, mut second, mut third, mut fourth] = [0, 1, 2, 3].map(|n| Box::pin(client.submit(payload(n))));
        for caller in [&mut first, &mut second, &mut third] {
            assert!(poll!(caller).is_pending());
        }
        let mut taken = vec![queue.recv().await.unwrap().payload, queue.recv().await.unwrap().payload];
        assert!(poll!(&mut fourth).is_pending(), "the third was here before it");
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending(), "nothing is durable yet");
        taken.extend([queue.recv().await.unwrap().payload, queue.recv().await.unwrap().payload]);
        assert_eq!(taken, [0, 1, 2, 3].map(payload));
    });
}

#[test]
fn dropped_futures_and_handles_lose_nothing_that_was_accepted() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    live(&disk, &log, Call::AppendStream, |life| async move {
        life.log.state().faults.extend((0..3).map(|_| Fault::Fail(Status::unavailable("down"))));
        let client = life.open().await.unwrap();
        for n in 0..5 {
            drop(client.submit(payload(n)).await.unwrap());
        }
        assert_eq!(client.outstanding().await.unwrap().len(), 5);
        drop(client);
        let client = life.open().await.unwrap();
        client.close(Duration::from_secs(60)).await.unwrap();
    });
    assert_eq!(log.payloads(), (0..5).map(payload).collect::<Vec<_>>());
    assert_gapless(&log);
}

#[test]
fn closing_in_vain_says_how_many_are_owed_and_callers_are_told() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().faults.push_back(Fault::Hang);
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        let submission = client.submit(payload(0)).await.unwrap();
        let other = client.clone();
        let closed = client.close(Duration::from_millis(5)).await;
        assert!(matches!(closed, Err(ClientError::StillOwed { entries: 2 })), "{closed:?}");
        assert_eq!(submission.delivered.await, Delivered::Owed);
        assert!(matches!(other.submit(payload(1)).await, Err(ClientError::Closed)));
    });
}

#[test]
fn a_failed_sync_stops_the_client_and_accepts_nothing_more() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    let failing = disk.clone();
    live(&disk, &log, Call::AppendStream, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 1).await;
        failing.fail_syncs();
        let refused = client.submit(payload(1)).await;
        assert!(matches!(refused, Err(ClientError::Stopped(_))), "{refused:?}");
        assert!(client.failed().await.is_some());
        assert!(matches!(client.submit(payload(2)).await, Err(ClientError::Stopped(_))));
    });
}

#[test]
fn every_call_that_started_is_told_to_have_ended_with_the_bytes_it_carried() {
    let (disk, log) = (MemoryDisk::default(), FakeLog::new());
    log.state().faults.extend([Fault::Pass, Fault::Fail(Status::aborted("again"))]);
    live(&disk, &log, Call::Append, |life| async move {
        let client = life.open().await.unwrap();
        append_all(&client, 0, 4).await;
        client.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(life.seen.count("call-started"), life.seen.count("call-ended"));
        let entry = life.log.entries()[1].bytes().clone();
        let carried = life.seen.all().into_iter().any(|event| {
            matches!(event, LogEvent::CallMessage { bytes, .. } if bytes.windows(entry.len()).any(|part| part == entry))
        });
        assert!(carried);
    });
}
