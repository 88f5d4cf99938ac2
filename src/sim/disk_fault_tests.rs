//! Tests disks that fail, fill up, slow down or lie. The clock stands at zero, as in the other tests of the disk.

use std::collections::BTreeSet;

use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::fault::DiskFault;

const AFTER: Duration = Duration::from_secs(1);
const STEP: usize = 3;
const SECTOR_BYTES: usize = 512;

fn disk(seed: u64) -> (SimDisk, Recorder) {
    let recorder = Recorder::new(vec!["harness".into()], false, true);
    let (luck, mishaps) = (seam::stream(seed, 1), seam::stream(seed, 2));
    (SimDisk::new("server-1".into(), recorder.clone(), SECTOR_BYTES, luck, mishaps), recorder)
}

fn now<T>(pending: Pending<T>) -> T {
    pending.now_or_never().expect("at once").expect("done")
}

fn errno<T>(pending: Pending<T>) -> Option<i32> {
    pending.now_or_never().expect("at once").err().and_then(|error| error.raw_os_error())
}

fn begin(disk: &SimDisk, fault: DiskFault, path: &str) {
    disk.begin_fault(STEP, fault, path, Duration::ZERO);
}

/// A file whose name is on the platter.
fn file(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    let file = now(disk.open(Path::new(name), OpenMode::Create));
    drop(disk.sync_folder(Path::new(name).parent().unwrap_or(Path::new(""))));
    disk.lock_state().settle(AFTER);
    file
}

/// Syncs a file and lets the time pass that the sync takes.
fn sync(disk: &SimDisk, file: &Arc<dyn File>) {
    drop(file.sync());
    disk.lock_state().settle(AFTER);
}

fn lose_power(disk: &SimDisk) {
    disk.lose_power(AFTER);
    disk.begin_life();
}

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    disk.contents().remove(Path::new(name)).expect("it is there")
}

fn damaged(recorder: &Recorder) -> Vec<(u64, u64, String)> {
    let events = recorder.finish().events;
    let damaged = events.into_iter().filter_map(|event| match event.what {
        What::Damaged { offset, bytes, fault, .. } => Some((offset, bytes, fault)),
        _ => None,
    });
    damaged.collect()
}

#[test]
fn what_a_failed_sync_covered_is_clean_and_gone_with_the_power_even_if_the_next_sync_succeeds() {
    let (disk, _) = disk(0);
    let file = file(&disk, "a");
    now(file.append("one".into()));
    sync(&disk, &file);
    begin(&disk, DiskFault::SyncError { nth: 1, onwards: false }, "");
    now(file.append("two".into()));
    sync(&disk, &file);
    assert_eq!(content(&disk, "a"), b"onetwo", "the page cache shows it");
    sync(&disk, &file);
    now(file.append("three".into()));
    sync(&disk, &file);
    assert_eq!(disk.lose_power(AFTER), 3, "told as lost");
    disk.begin_life();
    assert_eq!(content(&disk, "a"), b"one\0\0\0three");
    let said = disk.evidence(STEP, AFTER).expect("it bit");
    assert_eq!(said, "1 syncs failed, 3 bytes marked clean without having been written");
}

#[test]
fn the_nth_sync_of_these_files_fails_and_where_it_is_to_go_on_every_later_one() {
    for onwards in [false, true] {
        let (disk, recorder) = disk(0);
        let (log, other) = (file(&disk, "log"), file(&disk, "other"));
        begin(&disk, DiskFault::SyncError { nth: 2, onwards }, "log");
        let at_once = |name: &str| {
            let file = crate::system::DiskAtOnce::open_at_once(&disk, Path::new(name), OpenMode::Existing).expect("it");
            file.sync_at_once().err().and_then(|error| error.raw_os_error())
        };
        let failed: Vec<Option<i32>> = ["log", "other", "log", "other", "log"].map(at_once).to_vec();
        let last = onwards.then_some(5);
        assert_eq!(failed, [None, None, Some(5), None, last]);
        disk.end_fault(STEP, Duration::ZERO);
        assert_eq!(at_once("log"), None);
        let errors = recorder.finish().events;
        let errors = errors.iter().filter(|event| matches!(&event.what, What::Disk { error: Some(_), .. }));
        assert_eq!(errors.count(), 1 + usize::from(onwards), "told");
        drop((log, other));
    }
}

#[test]
fn reads_and_writes_fail_while_it_lasts_and_change_nothing() {
    for (reads, writes) in [(true, false), (false, true), (true, true)] {
        let (disk, _) = disk(0);
        let file = file(&disk, "a");
        now(file.append("kept".into()));
        begin(&disk, DiskFault::Error { reads, writes }, "");
        assert_eq!(errno(file.append("more".into())), writes.then_some(5));
        assert_eq!(errno(file.write_at(0, "more".into())), writes.then_some(5));
        assert_eq!(errno(file.truncate(8)), writes.then_some(5));
        assert_eq!(errno(file.read_at(0, 4)), reads.then_some(5));
        assert_eq!(now(file.len()), if writes { 4 } else { 8 });
        disk.end_fault(STEP, Duration::ZERO);
        assert_eq!(now(file.read_at(0, 4)), if writes { "kept" } else { "more" });
    }
}

#[test]
fn a_full_disk_takes_what_is_free_and_what_stands_in_the_place_of_something_else() {
    let (disk, _) = disk(0);
    let (a, b) = (file(&disk, "a"), file(&disk, "b"));
    now(a.append(vec![1; 100].into()));
    begin(&disk, DiskFault::Full { free: 10 }, "");
    now(b.append(vec![2; 8].into()));
    assert_eq!(errno(b.append(vec![2; 3].into())), Some(28), "three more do not fit");
    now(b.append(vec![2; 2].into()));
    now(a.write_at(50, vec![3; 50].into()));
    assert_eq!(errno(a.write_at(50, vec![3; 51].into())), Some(28));
    now(a.truncate(60));
    now(b.append(vec![2; 40].into()));
    assert_eq!(errno(b.append(vec![2; 1].into())), Some(28));
    disk.end_fault(STEP, Duration::ZERO);
    now(b.append(vec![2; 1000].into()));
    assert_eq!(disk.evidence(STEP, AFTER).expect("it bit"), "3 writes refused for want of room");
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_delays_syncs_and_reads_and_not_writes() {
    let (disk, _) = disk(0);
    let file = file(&disk, "a");
    begin(&disk, DiskFault::Slow { latency: Duration::from_millis(700) }, "");
    now(file.append("x".into()));
    let (read, synced) = (file.read_at(0, 1), file.sync());
    // The clock of the disk stands still here, so each wait is measured separately.
    let wait = async |pending: Pending<()>| {
        let began = tokio::time::Instant::now();
        pending.await.expect("done");
        began.elapsed()
    };
    assert_eq!(wait(Box::pin(async move { read.await.map(drop) })).await, Duration::from_millis(700));
    let held = Duration::from_millis(700)..Duration::from_millis(710);
    assert!(held.contains(&wait(synced).await));
    assert!(held.contains(&wait(disk.sync_folder(Path::new(""))).await));
    disk.end_fault(STEP, Duration::ZERO);
    let other = now(disk.open(Path::new("b"), OpenMode::Create));
    assert!(wait(other.sync()).await < Duration::from_millis(10));
    assert_eq!(disk.evidence(STEP, AFTER).expect("it bit"), "2 syncs and 1 reads held for 700ms");
}

#[test]
fn a_torn_write_shows_only_after_a_power_loss_and_is_put_right_at_the_end() {
    for seed in 0..50 {
        let (disk, recorder) = disk(seed);
        let file = file(&disk, "a");
        now(file.append(vec![b'o'; 700].into()));
        sync(&disk, &file);
        begin(&disk, DiskFault::TornWrite { nth: 1 }, "");
        now(file.write_at(512, vec![b'n'; 512].into())); // one sector: whole or not at all
        now(file.write_at(100, vec![b'x'; 1800].into()));
        sync(&disk, &file);
        let whole = content(&disk, "a");
        disk.begin_life();
        assert_eq!(content(&disk, "a"), whole, "a crash of the process shows nothing");
        assert_eq!(disk.evidence(STEP, AFTER), None);
        lose_power(&disk);
        let torn = content(&disk, "a");
        assert_eq!(torn.len(), whole.len(), "seed {seed}: the file had grown");
        let cut = torn.iter().zip(&whole).position(|(torn, whole)| torn != whole).expect("something is missing");
        assert!(cut.is_multiple_of(SECTOR_BYTES) && cut > 100, "seed {seed}: cut at {cut}");
        let before = |at: usize| {
            if at < 512 {
                b'o'
            } else if at < 1024 {
                b'n'
            } else {
                0
            }
        };
        assert!((cut..1900).all(|at| torn[at] == before(at)), "seed {seed}: what stood there before");
        assert_eq!(damaged(&recorder), [(cut as u64, (1900 - cut) as u64, "torn-write".to_owned())]);
        assert!(disk.evidence(STEP, AFTER).is_some_and(|said| said.contains("gone after a power loss")));
        disk.end_fault(STEP, AFTER);
        assert_eq!(content(&disk, "a"), whole);
        lose_power(&disk);
        assert_eq!(content(&disk, "a"), whole, "on the platter, too");
    }
}

#[test]
fn what_is_written_once_more_is_whole() {
    let (disk, recorder) = disk(1);
    let file = file(&disk, "a");
    begin(&disk, DiskFault::TornWrite { nth: 1 }, "");
    now(file.append(vec![b'x'; 2000].into()));
    sync(&disk, &file);
    now(file.write_at(0, vec![b'y'; 2000].into()));
    sync(&disk, &file);
    lose_power(&disk);
    assert_eq!(content(&disk, "a"), vec![b'y'; 2000]);
    assert!(damaged(&recorder).is_empty() && disk.evidence(STEP, AFTER).is_none());
}

#[test]
fn a_misdirected_write_damages_two_places_of_one_file_or_of_two() {
    for seed in 0..50 {
        let (disk, recorder) = disk(seed);
        let (big, small) = (file(&disk, "big"), file(&disk, "small"));
        now(big.append(vec![b'b'; 3000].into()));
        now(small.append(vec![b's'; 200].into()));
        sync(&disk, &big);
        sync(&disk, &small);
        let name = if seed % 2 == 0 { "big" } else { "small" };
        begin(&disk, DiskFault::MisdirectedWrite { nth: 1 }, name);
        let target = if seed % 2 == 0 { &big } else { &small };
        now(target.write_at(40, vec![b'n'; 100].into()));
        sync(&disk, target);
        assert_eq!(content(&disk, name)[40..140], [b'n'; 100], "the page cache shows what was meant");
        lose_power(&disk);
        let (big, small) = (content(&disk, "big"), content(&disk, "small"));
        assert_eq!((big.len(), small.len()), (3000, 200), "seed {seed}: none grew");
        assert!(content(&disk, name)[40..140].iter().all(|byte| *byte != b'n'), "seed {seed}: it is in its place");
        let landed = big.iter().position(|byte| *byte == b'n').expect("it landed");
        assert_eq!(landed % SECTOR_BYTES, 40, "seed {seed}: at {landed}");
        assert_eq!(damaged(&recorder).iter().map(|place| place.1).sum::<u64>(), 200, "seed {seed}");
        disk.end_fault(STEP, AFTER);
        assert!(!content(&disk, "big").contains(&b'n') || name == "big", "seed {seed}");
        assert_eq!(content(&disk, name)[40..140], [b'n'; 100], "seed {seed}: put right");
    }
}

#[test]
fn bits_rot_in_page_cache_and_platter_until_they_are_written_over_or_mended() {
    for seed in 0..50 {
        let (disk, recorder) = disk(seed);
        now(disk.create_folder(Path::new("journal")));
        let (a, other) = (file(&disk, "journal/a"), file(&disk, "other"));
        now(a.append(vec![0; 300].into()));
        now(other.append(vec![0; 300].into()));
        sync(&disk, &a);
        sync(&disk, &other);
        begin(&disk, DiskFault::BitRot { bits: 7 }, "journal/");
        let ones = |name: &str| content(&disk, name).iter().map(|byte| byte.count_ones()).sum::<u32>();
        assert_eq!((ones("journal/a"), ones("other")), (7, 0), "seed {seed}: in the page cache");
        lose_power(&disk);
        assert_eq!(ones("journal/a"), 7, "seed {seed}: on the platter");
        let places: BTreeSet<u64> = damaged(&recorder).iter().map(|place| place.0).collect();
        assert!(!places.is_empty() && places.len() <= 7, "seed {seed}: told at once, and once");
        now(a.write_at(0, vec![0; 150].into()));
        let left = ones("journal/a");
        assert!(left < 7 || places.iter().all(|at| *at >= 150), "seed {seed}");
        disk.end_fault(STEP, AFTER);
        assert_eq!(ones("journal/a"), 0, "seed {seed}");
        assert_eq!(disk.evidence(STEP, AFTER).expect("it bit"), "7 bits of `journal/a` flipped");
    }
}

#[test]
fn a_wiped_disk_is_empty_and_takes_new_files() {
    let (disk, _) = disk(0);
    now(disk.create_folder(Path::new("journal")));
    let old = now(disk.open(Path::new("journal/a"), OpenMode::Create));
    now(old.append("gone".into()));
    disk.lose_power(AFTER);
    disk.wipe();
    disk.begin_life();
    assert!(disk.contents().is_empty());
    assert!(disk.open(Path::new("journal/a"), OpenMode::Create).now_or_never().expect("at once").is_err(), "no folder");
    now(disk.open(Path::new("b"), OpenMode::CreateNew));
}

/// An operation on one of two files.
#[derive(Debug, Clone)]
enum Op {
    Write { file: usize, offset: u64, len: usize },
    Sync { file: usize },
    PowerLoss,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..2_usize, 0..3_000_u64, 1..1_500_usize).prop_map(|(file, offset, len)| Op::Write { file, offset, len }),
        4 => (0..2_usize).prop_map(|file| Op::Sync { file }),
        1 => Just(Op::PowerLoss),
    ]
}

proptest! {
    #[test]
    fn a_liar_that_is_mended_has_lost_nothing_that_was_synced(
        seed: u64, ops in proptest::collection::vec(any_op(), 1..40), nth in 1..6_u64, kind in 0..3_usize,
    ) {
        let (disk, _) = disk(seed);
        let files = [file(&disk, "a"), file(&disk, "b")];
        let fault = match kind {
            0 => DiskFault::TornWrite { nth },
            1 => DiskFault::MisdirectedWrite { nth },
            _ => DiskFault::BitRot { bits: nth },
        };
        for file in &files {
            now(file.append(vec![0; 2_000].into()));
            sync(&disk, file);
        }
        begin(&disk, fault, "");
        // Every write is synced before the power goes, so that nothing depends on luck.
        let mut truth = [vec![0; 2_000], vec![0; 2_000]];
        for (n, op) in ops.iter().enumerate() {
            match op {
                Op::Write { file, offset, len } => {
                    let bytes = vec![n as u8 + 1; *len];
                    now(files[*file].write_at(*offset, bytes.clone().into()));
                    let end = *offset as usize + len;
                    let grown = truth[*file].len().max(end);
                    truth[*file].resize(grown, 0);
                    truth[*file][*offset as usize..end].copy_from_slice(&bytes);
                }
                Op::Sync { file } => sync(&disk, &files[*file]),
                Op::PowerLoss => {
                    files.iter().for_each(|file| sync(&disk, file));
                    lose_power(&disk);
                }
            }
        }
        files.iter().for_each(|file| sync(&disk, file));
        lose_power(&disk);
        disk.end_fault(STEP, AFTER);
        prop_assert_eq!([content(&disk, "a"), content(&disk, "b")], truth);
    }
}
