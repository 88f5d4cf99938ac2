//! Tests what the simulated disk keeps and what it may lose. Without a simulation the clock stands at zero: a power
//! loss at zero comes before any sync under way has completed, one a second later comes after all of them.

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

const BEFORE: Duration = Duration::ZERO;
const AFTER: Duration = Duration::from_secs(1);

fn disk(seed: u64) -> SimDisk {
    disk_with_sectors(512, seed)
}

fn disk_with_sectors(bytes: usize, seed: u64) -> SimDisk {
    let recorder = Recorder::new(vec!["harness".into()], false, true);
    SimDisk::new("server-1".into(), recorder, bytes, seam::stream(seed, 1), seam::stream(seed, 2))
}

fn now<T>(pending: Pending<T>) -> T {
    pending.now_or_never().expect("at once").expect("done")
}

/// A file whose name is on the platter.
fn file(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    let file = now(disk.open(Path::new(name), OpenMode::Create));
    drop(disk.sync_folder(Path::new("")));
    disk.lose_power(AFTER);
    disk.begin_life();
    file
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.contents().remove(Path::new(name))
}

/// Counts for how many of a hundred seeds something is true.
fn often(mut so: impl FnMut(u64) -> bool) -> usize {
    (0..100).filter(|seed| so(*seed)).count()
}

#[test]
fn what_was_synced_is_never_lost_and_what_was_not_may_be() {
    let synced = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("synced".into()));
        drop(file.sync());
        now(file.append("loose".into()));
        disk.lose_power(AFTER);
        content(&disk, "a").is_some_and(|bytes| bytes.starts_with(b"synced"))
    });
    assert_eq!(synced, 100);
    let kept = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("loose".into()));
        disk.lose_power(AFTER);
        content(&disk, "a").is_some_and(|bytes| bytes == b"loose")
    });
    assert!((10..90).contains(&kept), "{kept}");
}

#[test]
fn a_sync_under_way_promises_nothing() {
    let lost = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("loose".into()));
        drop(file.sync());
        disk.lose_power(BEFORE);
        content(&disk, "a") != Some(b"loose".to_vec())
    });
    assert!((10..90).contains(&lost), "{lost}");
}

#[test]
fn a_write_may_be_torn_or_have_holes_and_the_loss_is_told() {
    let mut holes = 0;
    let torn = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append(vec![b'x'; 2000].into()));
        let lost = disk.lose_power(AFTER);
        let left = content(&disk, "a").unwrap_or_default();
        let kept = left.iter().filter(|byte| **byte == b'x').count();
        assert!(left.iter().all(|byte| matches!(byte, b'x' | 0)), "seed {seed}: bytes that nobody wrote");
        assert_eq!(lost, 2000 - kept as u64, "seed {seed}");
        assert_eq!(disk.lose_power(AFTER), lost, "told again");
        holes += usize::from(kept < left.len() && kept > 0);
        kept > 0 && kept < 2000
    });
    assert!((5..80).contains(&torn), "{torn}");
    assert!(holes > 0, "a file never grew before its data came");
}

/// Returns what is left of a file of `old` bytes after some in the middle were rewritten and the power went.
fn rewritten(sector: usize, seed: u64) -> Vec<u8> {
    let disk = disk_with_sectors(sector, seed);
    let file = file(&disk, "a");
    now(file.append(vec![b'o'; 8_192].into()));
    drop(file.sync());
    disk.lose_power(AFTER);
    disk.begin_life();
    now(file.write_at(1_024, vec![b'n'; 512].into()));
    disk.lose_power(AFTER);
    content(&disk, "a").expect("its name is durable")
}

#[test]
fn a_torn_rewrite_takes_its_whole_sector_where_sectors_are_large_and_no_neighbour_where_they_are_small() {
    let neighbours = |content: &[u8]| [&content[..1_024], &content[1_536..]].concat();
    let small = often(|seed| neighbours(&rewritten(512, seed)).iter().any(|byte| *byte != b'o'));
    assert_eq!(small, 0);
    let large = often(|seed| {
        let content = rewritten(4_096, seed);
        assert!(content[4_096..].iter().all(|byte| *byte == b'o'), "seed {seed}: another sector was struck");
        let gone = content[..4_096].iter().all(|byte| *byte == 0);
        let whole = neighbours(&content).iter().all(|byte| *byte == b'o');
        assert!(gone || whole, "seed {seed}: half a sector");
        gone
    });
    assert!((5..95).contains(&large), "{large}");
}

#[test]
fn what_is_appended_takes_nothing_else_with_it_whatever_the_sector() {
    for sector in [512, 4_096] {
        for seed in 0..50 {
            let disk = disk_with_sectors(sector, seed);
            let file = file(&disk, "a");
            now(file.append(vec![b'o'; 700].into()));
            drop(file.sync());
            disk.lose_power(AFTER);
            disk.begin_life();
            now(file.append(vec![b'n'; 700].into()));
            disk.lose_power(AFTER);
            let content = content(&disk, "a").expect("its name is durable");
            assert!(content[..700].iter().all(|byte| *byte == b'o'), "seed {seed}, sectors of {sector}");
        }
    }
}

#[test]
fn a_crash_of_the_process_alone_loses_nothing() {
    let disk = disk(0);
    let file = file(&disk, "a");
    now(file.append("loose".into()));
    disk.begin_life();
    assert_eq!(content(&disk, "a"), Some(b"loose".to_vec()));
}

#[test]
fn a_rename_without_a_folder_sync_happened_or_did_not_but_never_by_half() {
    let happened = often(|seed| {
        let disk = disk(seed);
        let old = file(&disk, "marker");
        now(old.append("old".into()));
        drop(old.sync());
        let new = file(&disk, "marker.new");
        now(new.append("new".into()));
        drop(new.sync());
        now(disk.rename(Path::new("marker.new"), Path::new("marker")));
        disk.lose_power(AFTER);
        let (marker, spare) = (content(&disk, "marker"), content(&disk, "marker.new"));
        match marker.as_deref() {
            Some(b"new") => assert_eq!(spare, None, "seed {seed}: it has both names"),
            Some(b"old") => assert_eq!(spare.as_deref(), Some(&b"new"[..]), "seed {seed}: it has no name"),
            other => panic!("seed {seed}: the marker is {other:?}"),
        }
        spare.is_none()
    });
    assert!((20..80).contains(&happened), "{happened}");
}

#[test]
fn a_rename_that_was_synced_stays() {
    let disk = disk(0);
    let new = file(&disk, "a.new");
    now(new.append("new".into()));
    drop(new.sync());
    now(disk.rename(Path::new("a.new"), Path::new("a")));
    drop(disk.sync_folder(Path::new("")));
    disk.lose_power(AFTER);
    assert_eq!(disk.contents().into_iter().collect::<Vec<_>>(), [(PathBuf::from("a"), b"new".to_vec())]);
}

#[test]
fn a_removal_that_was_not_synced_happened_or_brings_back_only_what_was_synced() {
    let back = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("synced".into()));
        drop(file.sync());
        disk.lose_power(AFTER);
        disk.begin_life();
        now(file.truncate(0));
        now(disk.remove(Path::new("a")));
        assert_eq!(content(&disk, "a"), None);
        disk.lose_power(AFTER);
        let Some(bytes) = content(&disk, "a") else { return false };
        assert!(bytes == b"synced" || bytes.is_empty(), "seed {seed}: {bytes:?}");
        let durable = disk
            .lock_state()
            .files
            .iter()
            .all(|file| file.changes.is_empty() && file.content.bytes == file.durable.bytes);
        assert!(durable, "seed {seed}: the page cache survived");
        true
    });
    assert!((20..80).contains(&back), "{back}");
}

#[test]
fn a_removal_that_was_synced_stays_so_and_one_lets_no_rename_come_undone() {
    for seed in 0..20 {
        let disk = disk(seed);
        let (gone, kept) = (file(&disk, "gone"), file(&disk, "old"));
        now(kept.append("kept".into()));
        drop((gone.sync(), kept.sync()));
        now(disk.remove(Path::new("gone")));
        drop(disk.sync_folder(Path::new("")));
        disk.lose_power(AFTER);
        disk.begin_life();
        now(disk.rename(Path::new("old"), Path::new("new")));
        disk.lose_power(AFTER);
        assert_eq!(content(&disk, "gone"), None, "seed {seed}");
        let names = [content(&disk, "old"), content(&disk, "new")];
        assert_eq!(names.into_iter().flatten().collect::<Vec<_>>(), [b"kept"], "seed {seed}");
    }
}

/// A folder with a synced file; the folder itself is synced or not.
fn folder_with_a_file(seed: u64, synced: bool) -> SimDisk {
    let disk = disk(seed);
    now(disk.create_folder(Path::new("deep/er")));
    let file = now(disk.open(Path::new("deep/er/a"), OpenMode::Create));
    now(file.append("synced".into()));
    drop((file.sync(), disk.sync_folder(Path::new("deep/er")), disk.sync_folder(Path::new("deep"))));
    if synced {
        drop(disk.sync_folder(Path::new("")));
    }
    disk.lose_power(AFTER);
    disk.begin_life();
    disk
}

#[test]
fn a_folder_that_was_not_synced_may_be_gone_with_all_that_was_synced_in_it() {
    let gone = often(|seed| {
        let disk = folder_with_a_file(seed, false);
        let there = content(&disk, "deep/er/a");
        let listed = now_or_why(disk.list(Path::new("deep/er")));
        match &there {
            Some(bytes) => assert_eq!((&bytes[..], listed.expect("listed")), (&b"synced"[..], vec!["a".to_owned()])),
            None => assert_eq!(listed.expect_err("gone").kind(), io::ErrorKind::NotFound, "seed {seed}"),
        }
        let told = disk.recorder.finish().events.into_iter().map(|event| event.what);
        let told: Vec<What> = told.filter(|what| matches!(what, What::Lost { .. } | What::LostName { .. })).collect();
        let lost = What::LostName { path: "deep".to_owned(), made: Duration::ZERO, bytes: 6 };
        assert_eq!(told, if there.is_none() { vec![lost] } else { vec![] }, "seed {seed}");
        there.is_none()
    });
    assert!((20..80).contains(&gone), "{gone}");
    assert_eq!(often(|seed| content(&folder_with_a_file(seed, true), "deep/er/a").is_none()), 0);
}

fn now_or_why<T>(pending: Pending<T>) -> io::Result<T> {
    pending.now_or_never().expect("at once")
}

#[test]
fn a_name_that_a_power_loss_takes_is_told_with_when_it_was_made_although_every_byte_was_synced() {
    let gone = often(|seed| {
        let disk = disk(seed);
        let file = now(disk.open(Path::new("journal"), OpenMode::Create));
        now(file.append("synced".into()));
        drop(file.sync());
        disk.lose_power(AFTER);
        let told = disk.recorder.finish().events.into_iter().map(|event| event.what);
        let told: Vec<What> = told.filter(|what| matches!(what, What::Lost { .. } | What::LostName { .. })).collect();
        let lost = What::LostName { path: "journal".to_owned(), made: Duration::ZERO, bytes: 6 };
        let there = content(&disk, "journal").is_some();
        assert_eq!(told, if there { vec![] } else { vec![lost] }, "seed {seed}");
        !there
    });
    assert!((20..80).contains(&gone), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn a_dark_disk_never_answers() {
    let disk = disk(0);
    let file = file(&disk, "a");
    let under_way = file.sync();
    disk.lose_power(BEFORE);
    let patience = Duration::from_secs(3600);
    assert!(tokio::time::timeout(patience, under_way).await.is_err());
    assert!(tokio::time::timeout(patience, file.sync()).await.is_err());
    assert!(tokio::time::timeout(patience, file.append("x".into())).await.is_err());
    assert!(tokio::time::timeout(patience, disk.open(Path::new("b"), OpenMode::Create)).await.is_err());
    disk.begin_life();
    assert_eq!(now(file.len()), 0, "what was submitted in the dark took effect");
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_syncs_and_then_lets_them_go() {
    let disk = disk(0);
    let file = file(&disk, "a");
    assert_eq!(disk.pause(true, BEFORE), 0);
    let mut sync = file.sync();
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut sync).await.is_err());
    assert_eq!(disk.pause(false, Duration::from_secs(60)), 1, "one sync was held");
    tokio::time::timeout(Duration::from_secs(1), sync).await.expect("goes on").expect("done");
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_held_is_durable_once_that_was_answered() {
    for seed in 0..20 {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("before".into()));
        let before = file.sync();
        disk.pause(true, BEFORE);
        now(file.append(", and meanwhile".into()));
        let meanwhile = file.sync();
        disk.pause(false, AFTER);
        before.await.expect("synced");
        meanwhile.await.expect("synced");
        disk.lose_power(AFTER);
        assert_eq!(content(&disk, "a"), Some(b"before, and meanwhile".to_vec()), "seed {seed}");
    }
}

#[test]
fn nothing_becomes_durable_while_the_host_stands_still() {
    let lost = often(|seed| {
        let disk = disk(seed);
        let file = file(&disk, "a");
        now(file.append("loose".into()));
        drop(file.sync());
        disk.pause(true, BEFORE);
        disk.lose_power(AFTER);
        content(&disk, "a") != Some(b"loose".to_vec())
    });
    assert!(lost > 10, "{lost}");
}

#[test]
fn the_lock_is_exclusive_and_does_not_outlive_the_process() {
    let disk = disk(0);
    let held = now(disk.lock());
    let second = disk.lock().now_or_never().expect("at once");
    assert!(second.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    disk.begin_life();
    let mine = now(disk.lock());
    drop(held); // of the former life
    assert!(disk.lock().now_or_never().expect("at once").is_err());
    drop(mine);
    now(disk.lock());
}

#[derive(Debug, Clone)]
enum Op {
    Append(u8, usize),
    WriteAt(u64, u8, usize),
    Truncate(u64),
    Sync,
    PowerLoss { syncs_completed: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1_u8.., 1_usize..1500).prop_map(|(byte, len)| Op::Append(byte, len)),
        3 => (0_u64..3000, 1_u8.., 1_usize..1500).prop_map(|(at, byte, len)| Op::WriteAt(at, byte, len)),
        1 => (0_u64..3000).prop_map(Op::Truncate),
        3 => Just(Op::Sync),
        2 => any::<bool>().prop_map(|syncs_completed| Op::PowerLoss { syncs_completed }),
    ]
}

/// What an honest disk may show after a power loss, written down in the plainest way.
#[derive(Default)]
struct Model {
    /// The bytes that completed syncs have made durable.
    durable: Vec<u8>,
    /// The changes since then, oldest first, and how many of them a sync was asked for.
    loose: Vec<Op>,
    asked: usize,
}

impl Model {
    fn change(&mut self, op: &Op) {
        self.loose.push(op.clone());
    }

    fn complete(&mut self) {
        for op in self.loose.drain(..self.asked) {
            apply(&op, &mut self.durable);
        }
        self.asked = 0;
    }

    /// Returns whether each byte is the durable one, or one that some loose change would have put there.
    fn allows(&self, content: &[u8]) -> bool {
        let shortest = self.loose.iter().filter_map(|op| match op {
            Op::Truncate(len) => Some(*len as usize),
            _ => None,
        });
        let shortest = shortest.min().unwrap_or(usize::MAX);
        content.len() >= shortest.min(self.durable.len())
            && content.iter().enumerate().all(|(at, byte)| {
                let durable = self.durable.get(at).copied().unwrap_or(0);
                let cut = at >= shortest || at >= self.durable.len();
                *byte == durable || (cut && *byte == 0) || self.loose.iter().any(|op| puts(op, at) == Some(*byte))
            })
    }
}

/// Applies a change. The offset of an `Append` is resolved before it gets here.
fn apply(op: &Op, to: &mut Vec<u8>) {
    match op {
        Op::WriteAt(at, byte, len) => {
            let (start, end) = (*at as usize, *at as usize + len);
            to.resize(to.len().max(end), 0);
            to[start..end].fill(*byte);
        }
        Op::Truncate(len) => to.resize(*len as usize, 0),
        Op::Append(..) | Op::Sync | Op::PowerLoss { .. } => {}
    }
}

fn puts(op: &Op, at: usize) -> Option<u8> {
    match op {
        Op::WriteAt(start, byte, len) => (*start as usize..*start as usize + len).contains(&at).then_some(*byte),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_content_is_one_that_the_syncs_allow(
        seed in any::<u64>(), ops in prop::collection::vec(op(), 1..40)
    ) {
        let disk = disk(seed);
        let file = file(&disk, "a");
        let (mut model, mut cache) = (Model::default(), Vec::new());
        for op in ops {
            let op = match op {
                Op::Append(byte, len) => {
                    let at = now(file.append(vec![byte; len].into()));
                    prop_assert_eq!(at as usize, cache.len());
                    Op::WriteAt(at, byte, len)
                }
                Op::WriteAt(at, byte, len) => {
                    now(file.write_at(at, vec![byte; len].into()));
                    op
                }
                Op::Truncate(len) => {
                    now(file.truncate(len));
                    op
                }
                Op::Sync => {
                    drop(file.sync());
                    model.asked = model.loose.len();
                    continue;
                }
                Op::PowerLoss { syncs_completed } => {
                    disk.lose_power(if syncs_completed { AFTER } else { BEFORE });
                    disk.begin_life();
                    if syncs_completed {
                        model.complete();
                    }
                    cache = content(&disk, "a").expect("its name is durable");
                    prop_assert!(model.allows(&cache), "not allowed: {:?}", cache);
                    model = Model { durable: cache.clone(), ..Model::default() };
                    continue;
                }
            };
            apply(&op, &mut cache);
            model.change(&op);
            let seen = content(&disk, "a");
            prop_assert_eq!(seen.as_ref(), Some(&cache), "a process sees its own writes");
        }
    }
}

// ---- the disk without waiting ----

fn folder(disk: &SimDisk) -> crate::system::DataFolder {
    crate::system::DataFolder(Arc::new(disk.clone()))
}

#[test]
fn a_std_style_sync_is_durable_when_it_returns_and_a_write_before_it_is_not() {
    use std::io::Write;
    let kept = often(|seed| {
        let disk = disk(seed);
        let mut file = folder(&disk).append_to("log").expect("created");
        file.write_all(b"synced").expect("written");
        file.sync_data().expect("synced");
        file.write_all(b"loose").expect("written");
        disk.lose_power(BEFORE);
        let content = content(&disk, "log").expect("its name is durable");
        assert!(content.starts_with(b"synced"), "{content:?}");
        content == b"syncedloose"
    });
    assert!((10..90).contains(&kept), "{kept}");
}

#[test]
fn a_std_style_sync_covers_what_an_asynchronous_one_has_under_way() {
    let disk = disk(1);
    let waiting = file(&disk, "a");
    now(waiting.append("first".into()));
    drop(waiting.sync());
    folder(&disk).open("a").expect("there").sync_all().expect("synced");
    disk.lose_power(BEFORE);
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"first"[..]));
}

#[test]
fn a_std_style_file_reads_writes_and_seeks_as_that_of_std() {
    use std::io::{Read, Seek, SeekFrom, Write};
    let folder = folder(&disk(1));
    let mut file = folder.create("a").expect("created");
    file.write_all(b"hello world").expect("written");
    assert_eq!(file.seek(SeekFrom::End(-5)).expect("sought"), 6);
    file.write_all(b"W").expect("written");
    let mut rest = String::new();
    file.read_to_string(&mut rest).expect("read");
    assert_eq!((rest.as_str(), file.len().expect("known")), ("orld", 11));
    assert_eq!(file.read(&mut [0; 4]).expect("read"), 0, "at the end");
    assert_eq!(file.seek(SeekFrom::Current(-12)).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    file.set_len(5).expect("cut");
    file.write_all_at(b"J", 0).expect("written");
    let mut all = [0; 9];
    assert_eq!(file.read_at(&mut all, 0).expect("read"), 5);
    assert_eq!(&all[..5], b"Jello");
    // Appending goes to the end, whatever was read before, and clones share their position.
    let appended = folder.append_to("a").expect("opened");
    (&appended).read_exact(&mut [0; 2]).expect("read");
    (&appended).write_all(b"!").expect("written");
    assert_eq!((&appended.try_clone().expect("cloned")).stream_position().expect("known"), 6);
    assert_eq!(content_of(&folder, "a"), "Jello!");
    assert_eq!(folder.open("b").map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
}

fn content_of(folder: &crate::system::DataFolder, name: &str) -> String {
    std::io::read_to_string(folder.open(name).expect("there")).expect("read")
}

#[test]
fn names_in_a_std_style_folder_are_durable_after_its_sync() {
    let disk = disk(1);
    let folder = folder(&disk);
    folder.create_folder("deep/er").expect("created");
    folder.create("deep/er/new").expect("created").sync_all().expect("synced");
    folder.sync_folder("deep/er").expect("synced");
    folder.rename("deep/er/new", "deep/er/old").expect("renamed");
    for synced in ["deep/er", "deep", ""] {
        folder.sync_folder(synced).expect("synced");
    }
    disk.lose_power(BEFORE);
    disk.begin_life();
    assert_eq!(folder.list("deep/er").expect("there"), ["old"]);
    folder.remove("deep/er/old").expect("removed");
    assert_eq!(folder.append_to("nowhere/a").map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
}

#[test]
fn without_power_a_std_style_file_answers_with_an_error_and_changes_nothing() {
    use std::io::Write;
    let disk = disk(1);
    let mut file = folder(&disk).append_to("log").expect("created");
    disk.lose_power(BEFORE);
    for refused in [file.write_all(b"late"), file.sync_data(), file.set_len(7), folder(&disk).sync_folder("")] {
        assert!(refused.expect_err("dark").to_string().contains("lost its power"));
    }
    assert!(folder(&disk).open("log").is_err() && folder(&disk).append_to("log").is_err());
    disk.begin_life();
    assert_eq!(file.len().expect("known"), 0);
}
