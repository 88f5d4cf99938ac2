//! A damaged replica of three is repaired from the other two, or waits, or is refused.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use gapless_world::{LogEvent, observer::Unobserved};
use openraft::Vote;
use tokio::time::{Instant, timeout};

use super::{
    super::{
        super::{
            budget::{MEMORY_DEFAULT, MEMORY_MIN, fixed},
            cluster_wire::{FetchRequest, Route},
            note::SigningKey,
            store::Frame,
        },
        AppendError, Node, NodeError,
        identity::{CHECKPOINT, VOTE},
        init, is_repairable,
        ledger::Ledger,
        repair::repair_from,
        types::{decode_frame, encode_vote},
    },
    bench::{Bench, Writer, append_all},
    flips::{Found, places},
    trio::{AT_ONCE, DAMAGED, Log, Others, Peer, Running, SEGMENT, Trio, entry, members, settings_of, started},
};

/// What a member gives in place of the truth.
type Lie = fn(&Log) -> Peer;
/// What happens to the files of the damaged member.
type Damage = fn(&Trio);

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_every_file_is_mended_by_a_second_copy_or_repaired_from_the_others() {
    let trio = Trio::new().await;
    let whole = trio.bench.disk.copy("");
    let sound = Found::at_start(&trio.bench).await.unwrap();
    // By file: starts that needed nothing, repairs that were done at once, repairs that had to wait until more was
    // shown.
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (path, bytes) in &whole {
        let path = path.to_str().unwrap();
        for at in places(Path::new(path), bytes.len()) {
            trio.bench.disk.restore("", &whole);
            trio.others.are([1, 2].map(|node| (node, trio.log.member(7))));
            trio.flip(path, at);
            let count = counts.entry(path).or_default();
            match Found::at_start(&trio.bench).await {
                Ok(found) => {
                    assert_eq!(found, sound, "byte {at} of {path}");
                    count[0] += 1;
                    continue;
                }
                Err(error) => assert!(is_repairable(&error, &trio.bench.settings), "byte {at} of {path}: {error}"),
            }
            match trio.is_repaired_at_once().await {
                true => count[1] += 1,
                false => {
                    // What is damaged was promised, and nobody shows it yet.
                    count[2] += 1;
                    trio.others.are([(1, Peer { confirmed: Some(7), ..trio.log.member(8) })]);
                    assert!(trio.is_repaired_at_once().await, "byte {at} of {path}");
                }
            }
            let found = Found::at_start(&trio.bench).await.unwrap();
            assert_eq!((found.identity, found.vote), (sound.identity, sound.vote), "byte {at} of {path}");
            assert_eq!((found.root, found.frames), (sound.root, sound.frames), "byte {at} of {path}");
            let (old, new) = (sound.checkpoint.as_ref().unwrap(), found.checkpoint.unwrap());
            assert!(new.checkpoint.size > old.checkpoint.size, "byte {at} of {path}");
            assert_eq!(found.leaves[..sound.leaves.len()], sound.leaves, "byte {at} of {path}");
        }
    }
    // Only what nobody shows has to wait: the last frame, and places where a damaged length hides where the last frame
    // is.
    let (last, lengths) = (trio.log.frames[7].body.len() + 25, 7 * 4);
    let tried = |from| places(Path::new(SEGMENT), whole[Path::new(SEGMENT)].len()).filter(|at| *at >= from).count();
    let markers = tried(4_096) - tried(12_288);
    let [mended, at_once, waited] = counts.remove(SEGMENT).unwrap();
    assert_eq!(waited, last + lengths, "{mended} mended, {at_once} at once");
    assert_eq!((mended, at_once), (markers, tried(0) - markers - waited), "the markers are two, the header is one");
    for (file, [mended, at_once, waited]) in counts {
        assert_eq!((mended, at_once, waited), (2 * 4096, 0, 0), "{file} has two slots");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_comes_back_only_with_as_much_as_its_disk_had_promised() {
    let trio = Trio::new().await;
    trio.spoil(7);
    assert!(!trio.is_repaired_at_once().await);
    let why = "it shows 7 entries, and this node had promised 8";
    assert_eq!(
        trio.stalls(),
        [format!("server-1: {why}; server-2: {why}")],
        "told once, though it asks again and again"
    );
    assert!(matches!(Found::at_start(&trio.bench).await, Err(error) if is_repairable(&error, &trio.bench.settings)));
    trio.others.are([(2, trio.log.member(8))]);
    assert!(trio.is_repaired_at_once().await);
    trio.holds(8).await;
    let (frames, leaves) = (8, trio.log.notes[7].checkpoint.size);
    let replaced = ["journal/segments", "checkpoint"].map(String::from).into();
    let told = LogEvent::ReplicaRepaired { frames, leaves, from: "server-2".into(), replaced };
    assert_eq!(trio.bench.events("replica-repaired"), [told]);
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_waits_goes_on_by_itself_when_a_member_shows_enough() {
    let trio = Trio::new().await;
    trio.spoil(7);
    let begun = Instant::now();
    let (repaired, ()) = tokio::join!(trio.repair(), async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        trio.others.are([(1, trio.log.member(8))]);
    });
    repaired.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3606), "{:?}", begun.elapsed());
    trio.holds(8).await;
}

#[tokio::test(start_paused = true)]
async fn the_sound_tail_of_the_own_log_is_kept_where_nobody_shows_it_yet() {
    let trio = Trio::new().await;
    trio.spoil(3);
    trio.others.are([(1, trio.log.member(6))]);
    assert!(trio.is_repaired_at_once().await);
    trio.holds(8).await;
    let kept = Found::at_start(&trio.bench).await.unwrap().checkpoint.unwrap();
    assert_eq!(kept, trio.log.notes[5], "of the tail nobody has signed anything");
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_was_never_committed_holds_nothing_up() {
    let trio = Trio::new().await;
    // The member went on by itself in an older term, with three frames that the others never had.
    let writer = Writer::new("a", 1);
    let astray = (0..3).map(|at| vec![writer.event(2 + at, "astray")]);
    let own = Log::new(
        &trio.log.frames[0],
        [vec![], vec![writer.open(), writer.event(1, "one")]].into_iter().chain(astray).collect(),
    );
    let trio = {
        let bench = Bench { settings: settings_of(DAMAGED), ..Bench::new() };
        init(&bench.world(), &bench.settings, &members()).await.unwrap();
        let Trio { log, others, .. } = trio;
        let trio = Trio { bench, log, others };
        trio.write(&own.frames[1..], 3).await;
        trio
    };
    trio.spoil(2);
    trio.others.are([(1, trio.log.member(4))]);
    assert!(trio.is_repaired_at_once().await, "{:?}", trio.stalls());
    trio.holds(4).await;
}

/// Node 1 led first, and was followed by node 2 in the same term: what only node 1 wrote was never committed.
#[tokio::test(start_paused = true)]
async fn a_tail_of_the_first_leader_of_a_term_holds_nothing_up_where_a_second_one_led_it() {
    let trio = Trio::new().await;
    let writer = Writer::new("a", 1);
    let of = |words: &[&'static str]| {
        let begun = [vec![], vec![writer.open(), writer.event(1, "one")]];
        let rest = (2..).zip(words).map(|(at, word)| vec![writer.event(at, *word)]);
        begun.into_iter().chain(rest).collect::<Vec<_>>()
    };
    let first = &trio.log.frames[0];
    let own = Log::new(first, of(&["astray", "astray", "astray"]));
    let log = Log::led_by(2, first, of(&["common"]));
    let bench = Bench { settings: settings_of(DAMAGED), ..Bench::new() };
    init(&bench.world(), &bench.settings, &members()).await.unwrap();
    let trio = Trio { bench, log, others: Others::default() };
    trio.write(&own.frames[1..], 1).await;
    trio.spoil(3);
    trio.others.are([(1, trio.log.member(4))]);
    assert!(trio.is_repaired_at_once().await, "{:?}", trio.stalls());
    trio.holds(4).await;
    assert_eq!(Found::at_start(&trio.bench).await.unwrap().vote, Some(Vote::new(1, 2)));
}

#[tokio::test(start_paused = true)]
async fn what_a_member_gives_that_does_not_hold_is_refused_and_the_next_one_is_asked() {
    let liars: [(&str, Lie); 7] = [
        ("another entry", |log| {
            let writer = Writer::new("a", 1);
            let mut peer = log.member(7);
            let (frame, _) = {
                let ledger = Ledger::new(settings_of(1), Arc::new(Unobserved));
                log.frames[..3].iter().for_each(|frame| drop(ledger.append(decode_frame(frame).unwrap().0)));
                ledger.append(entry(1, 3, vec![writer.event(2, "forged 2"), writer.event(3, "forged 3")]))
            };
            peer.frames[3] = frame;
            peer
        }),
        ("an entry left out", |log| {
            let mut peer = log.member(7);
            peer.frames.remove(3);
            peer
        }),
        ("a body of garbage", |log| {
            let mut peer = log.member(7);
            peer.frames[4].body = Bytes::from_static(b"garbage");
            peer
        }),
        ("fewer frames than its checkpoint covers", |log| Peer { frames: log.frames[..5].to_vec(), ..log.member(7) }),
        ("more frames than its checkpoint covers", |log| Peer { frames: log.frames[..8].to_vec(), ..log.member(7) }),
        ("a checkpoint that nobody cosigned", |log| {
            let alone = log.notes[6].checkpoint.sign(&Bench::new().settings.signing_key);
            Peer { note: alone, ..log.member(7) }
        }),
        ("a checkpoint under another key", |log| Peer {
            note: log.notes[6].checkpoint.sign(&SigningKey::from_seed(&[9; 32])),
            ..log.member(7)
        }),
    ];
    for (what, lie) in liars {
        let trio = Trio::new().await;
        trio.spoil(3);
        trio.others.are([(1, lie(&trio.log))]);
        assert!(!trio.is_repaired_at_once().await, "{what}");
        trio.others.are([(1, lie(&trio.log)), (2, trio.log.member(7))]);
        assert!(trio.is_repaired_at_once().await, "{what}: {:?}", trio.stalls());
        trio.holds(8).await;
        let from = trio.bench.events("replica-repaired");
        assert!(matches!(&from[..], [LogEvent::ReplicaRepaired { from, .. }] if from == "server-2"), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_extend_the_own_checkpoint_is_refused_whoever_signed_it() {
    let trio = Trio::new().await;
    let writer = Writer::new("a", 1);
    let rest = (0..8).map(|at| match at {
        0 => vec![],
        1 => vec![writer.open()],
        at => vec![writer.event(at - 1, "of another history"), writer.event(at, "of another history")],
    });
    let fork = Log::new(&trio.log.frames[0], rest.collect());
    trio.spoil(3);
    trio.others.are([1, 2].map(|node| (node, fork.member(9))));
    assert!(!trio.is_repaired_at_once().await);
    assert!(trio.stalls()[0].contains("not the one of which this node kept a checkpoint"), "{:?}", trio.stalls());
}

#[tokio::test(start_paused = true)]
async fn where_the_own_log_cannot_say_where_it_ended_a_leader_has_to_say_how_far_it_is_committed() {
    let damages: [(&str, Damage); 4] = [
        ("no segment", |trio| trio.bench.disk.restore("journal", &BTreeMap::new())),
        ("no marker", |trio| [4_096, 8_192].into_iter().for_each(|at| trio.flip(SEGMENT, at))),
        ("no checkpoint", |trio| trio.bench.disk.restore(CHECKPOINT, &BTreeMap::new())),
        ("both slots of the checkpoint", |trio| [0, 4096].into_iter().for_each(|at| trio.flip(CHECKPOINT, at))),
    ];
    for (what, damage) in damages {
        let trio = Trio::new().await;
        damage(&trio);
        let error = Found::at_start(&trio.bench).await.unwrap_err();
        assert!(is_repairable(&error, &trio.bench.settings), "{what}: {error}");
        trio.others.are([(1, trio.log.member(8))]);
        assert!(!trio.is_repaired_at_once().await, "{what}");
        let leader = |shown: usize, confirmed| Peer { confirmed: Some(confirmed), ..trio.log.member(shown) };
        trio.others.are([(1, leader(7, 7))]);
        assert!(!trio.is_repaired_at_once().await, "{what}: entry 7 is committed and nobody shows it");
        trio.others.are([(1, leader(8, 7))]);
        assert!(trio.is_repaired_at_once().await, "{what}: {:?}", trio.stalls());
        trio.holds(8).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_identity_or_its_vote_nothing_is_repaired() {
    for at in [0, 4096] {
        let trio = Trio::new().await;
        trio.spoil(3);
        trio.flip(VOTE, at);
        trio.others.are([(1, trio.log.member(8))]);
        assert!(trio.is_repaired_at_once().await, "one slot of two");
    }
    for missing in [false, true] {
        let trio = Trio::new().await;
        trio.spoil(3);
        match missing {
            true => trio.bench.disk.restore(VOTE, &BTreeMap::new()),
            false => [0, 4096].into_iter().for_each(|at| trio.flip(VOTE, at)),
        }
        assert!(matches!(trio.repair().await, Err(NodeError::VoteLost(_))));
        let trio = Trio::new().await;
        trio.spoil(3);
        match missing {
            true => trio.bench.disk.restore("identity", &BTreeMap::new()),
            false => [0, 4096].into_iter().for_each(|at| trio.flip("identity", at)),
        }
        let refused = trio.repair().await.unwrap_err();
        assert!(matches!(refused, NodeError::NotInitialised | NodeError::Store(_)), "{refused}");
        assert!(!is_repairable(&refused, &trio.bench.settings));
    }
    let trio = Trio::new().await;
    trio.spoil(3);
    trio.store(VOTE, encode_vote(&Vote::new(1, 1))).await;
    assert!(
        matches!(trio.repair().await, Err(NodeError::VoteLost(why)) if why.contains("term 1")),
        "older than the log"
    );
}

#[tokio::test(start_paused = true)]
async fn the_vote_follows_to_the_term_of_what_was_fetched() {
    let writer = Writer::new("a", 1);
    let rest = vec![vec![], vec![writer.open()], vec![], vec![], vec![writer.event(1, "one")]];
    let trio = Trio::with(rest, 3, 6).await;
    // The member was away when terms 2 and 3 began.
    let bench = Bench { settings: settings_of(DAMAGED), ..Bench::new() };
    init(&bench.world(), &bench.settings, &members()).await.unwrap();
    let trio = Trio { bench, ..trio };
    trio.write(&trio.log.frames[1..3], 3).await;
    trio.spoil(1);
    assert!(trio.is_repaired_at_once().await);
    trio.holds(6).await;
    assert_eq!(Found::at_start(&trio.bench).await.unwrap().vote, Some(Vote::new(3, 1)));
}

#[tokio::test(start_paused = true)]
async fn wherever_the_power_goes_during_a_repair_the_next_one_finishes_it() {
    let damaged = Trio::new().await;
    damaged.spoil(3);
    let files = damaged.bench.disk.copy("");
    for operations in 0.. {
        let mut finished = true;
        for keeps in [false, true] {
            let trio = Trio {
                bench: Bench { settings: settings_of(DAMAGED), ..Bench::new() },
                others: Others::default(),
                log: damaged.log.clone(),
            };
            for folder in ["journal/segments", "journal/torn"] {
                gapless_world::Disk::create_folder(&*trio.bench.disk, Path::new(folder)).await.unwrap();
            }
            trio.bench.disk.restore("", &files);
            trio.others.are([(1, trio.log.member(7))]);
            trio.bench.disk.dies_after(operations);
            finished &= trio.repair().await.is_ok();
            trio.bench.disk.power_loss(keeps);
            if let Err(error) = Node::start(trio.bench.world(), trio.bench.settings.clone()).await.map(drop) {
                assert!(is_repairable(&error, &trio.bench.settings), "power gone after {operations}: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(trio.is_repaired_at_once().await, "power gone after {operations}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            trio.holds(8).await;
            let aside = trio.bench.disk.copy("damaged-1");
            assert_eq!(aside[Path::new("damaged-1").join(SEGMENT).as_path()], files[Path::new(SEGMENT)]);
            assert!(trio.bench.disk.copy("repaired").is_empty() && trio.bench.disk.copy("swap").is_empty());
        }
        if finished {
            assert!(operations > 20, "the power never went in the middle: only {operations} operations");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_member_gives_what_it_shows_to_members_alone() {
    let trio = Trio::new().await;
    trio.spoil(3);
    let (_bench, node) = started(1, &trio.log, 7, fixed(MEMORY_DEFAULT)).await;
    let route = |from, to| Some(Route { log_id: vec![7; 16].into(), from, to, ..Route::default() });
    let fetch = async |from, confirm| {
        let asked = FetchRequest { route: route(3, 1), from, confirm };
        node.fetch("server-3", asked).await.unwrap().0
    };
    let all = fetch(0, true).await;
    assert_eq!(all.frames.into_iter().map(Frame::from).collect::<Vec<_>>(), trio.log.frames[..7]);
    assert_eq!((all.checkpoint, all.confirmed), (trio.log.notes[6].note.clone(), None), "it does not lead");
    assert_eq!(fetch(7, false).await.frames, []);
    let code = |from, to, caller| {
        let asked = node.fetch(caller, FetchRequest { route: route(from, to), from: 0, confirm: false });
        async { asked.await.map(|_| ()).unwrap_err().code() }
    };
    assert_eq!(code(3, 1, "client-1").await, tonic::Code::PermissionDenied);
    assert_eq!(code(3, 2, "server-3").await, tonic::Code::FailedPrecondition);
    repair_from(&Running(node), &trio.bench.world(), &trio.bench.settings).await.unwrap();
    trio.holds(8).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_the_membership_asks_those_of_its_settings_whose_keys_it_does_not_know() {
    let trio = Trio::new().await;
    trio.spoil(0);
    let (_bench, node) = started(1, &trio.log, 7, fixed(MEMORY_DEFAULT)).await;
    let (world, running) = (trio.bench.world(), Running(node));
    let repaired = timeout(AT_ONCE, repair_from(&running, &world, &trio.bench.settings));
    repaired.await.expect("it need not wait").unwrap();
    trio.holds(8).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_meets_damage_ends_a_member_so_that_its_next_start_repairs_it() {
    let trio = Trio::new().await;
    let (bench, node) = started(1, &trio.log, 7, fixed(0)).await;
    let other = Trio { bench, ..trio };
    other.spoil(3);
    // Leaf 2 stands in entry 2, the first two leaves before it.
    assert!(node.read(1, 1, 1 << 20).await.is_ok() && node.read(4, 1, 1 << 20).await.is_err());
    assert!(node.failed().await.contains("damage"), "it says why");
    assert!(other.bench.count("corruption-found") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_log_of_one_that_found_damage_serves_what_verifies_and_takes_nothing_more() {
    let mut bench = Bench::new();
    // Nothing stays in memory, so that reads come from the disk.
    bench.settings.memory = fixed(MEMORY_MIN);
    bench.init().await.unwrap();
    let node = bench.start().await.unwrap();
    let billing = Writer::new("billing", 1);
    let events = (1..40).map(|sequence| billing.event(sequence, vec![sequence as u8; 30 * 1024]));
    append_all(&node, [billing.open()].into_iter().chain(events)).await;
    let sound = bench.disk.copy("journal");
    let mut rotten = sound.clone();
    rotten.values_mut().for_each(|bytes| bytes[100 * 1024] ^= 1);
    bench.disk.restore("journal", &rotten);
    let mut served = 0;
    for index in 0..node.committed() {
        served += u64::from(node.read(index, 1, 1 << 20).await.is_ok());
    }
    assert_eq!(served, node.committed() - 1, "all but the damaged one");
    let refused = node.append(billing.event(40, "more")).await;
    assert!(matches!(&refused, Err(AppendError::Damaged(why)) if why.contains("checksum")), "{refused:?}");
    bench.disk.restore("journal", &sound);
    append_all(&node, [billing.event(40, "more")]).await;
    let error = NodeError::Corrupt("anything".into());
    assert!(!is_repairable(&error, &bench.settings), "nobody else has it");
}
