//! What a journal promises, one behaviour at a time, on a disk that loses, tears and fails.

use std::{path::Path, sync::Mutex};

use gapless_world::{LogEvent, Observer};

use super::{
    crash_disk::{CrashDisk, choices, now},
    segment::{Layout, Segment, encode_blocks},
    *,
};

const ID: [u8; 16] = [5; 16];
/// Where the frames of a new segment begin.
const FRAMES_AT: u64 = 3 * 4096;
const FIRST: &str = "log/segments/00000000000000000000.seg";

#[derive(Default)]
struct Told(Mutex<Vec<LogEvent>>);

impl Observer for Told {
    fn see(&self, event: LogEvent) {
        self.0.lock().unwrap().push(event);
    }
}

fn open_as(disk: &CrashDisk, told: &Arc<Told>, segment_bytes: u64) -> Result<Journal, StoreError> {
    let options = JournalOptions { segment_bytes, first_index: 0 };
    now(Journal::open(Arc::new(disk.clone()), told.clone(), Path::new("log"), ID, options))
}

pub(super) fn open(disk: &CrashDisk) -> Result<Journal, StoreError> {
    open_as(disk, &Arc::default(), FRAMES_AT + 16 * 1024)
}

/// Opens with segments so small that two frames of 100 bytes fill one.
pub(super) fn open_small(disk: &CrashDisk) -> Result<Journal, StoreError> {
    open_as(disk, &Arc::default(), FRAMES_AT + 200)
}

pub(super) fn frame(index: u64, bytes: usize) -> Frame {
    Frame { index, term: 1 + index / 4, kind: 7, body: vec![index as u8; bytes].into() }
}

pub(super) fn frames(from: u64, to: u64) -> Vec<Frame> {
    (from..to).map(|index| frame(index, 100)).collect()
}

fn write_synced(journal: &mut Journal, frames: &[Frame]) {
    for frame in frames {
        journal.write(std::slice::from_ref(frame)).unwrap();
        now(journal.sync()).unwrap();
    }
}

pub(super) fn read_all(journal: &Journal) -> Vec<Frame> {
    now(journal.read(journal.first_index(), u64::MAX, usize::MAX)).unwrap()
}

fn is_corrupt(opened: &Result<Journal, StoreError>) -> bool {
    matches!(opened, Err(StoreError::Corrupt { .. }))
}

#[test]
fn frames_are_read_before_and_behind_a_sync_and_behind_a_restart() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    assert_eq!((journal.first_index(), journal.last(), journal.next_index()), (0, None, 0));
    journal.write(&frames(0, 3)).unwrap();
    assert_eq!(read_all(&journal), frames(0, 3));
    now(journal.sync()).unwrap();
    journal.write(&frames(3, 6)).unwrap();
    assert_eq!(journal.last(), Some((5, 2)));
    assert_eq!(now(journal.read(2, 4, usize::MAX)).unwrap(), frames(2, 4));
    now(journal.sync()).unwrap();
    let reopened = open(&disk.crash(|_| 0)).unwrap();
    assert_eq!(read_all(&reopened), frames(0, 6));
    assert_eq!(reopened.last(), Some((5, 2)));
}

#[test]
fn a_read_stops_before_its_bytes_are_passed_but_gives_at_least_one_frame() {
    let disk = CrashDisk::default();
    let mut journal = open_small(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 7));
    assert_eq!(now(journal.read(1, 7, 0)).unwrap(), frames(1, 2));
    assert_eq!(now(journal.read(1, 7, 125)).unwrap(), frames(1, 2));
    assert_eq!(now(journal.read(1, 7, 4 * 125)).unwrap(), frames(1, 5));
    assert_eq!(now(journal.read(1, 7, 5 * 125 - 1)).unwrap(), frames(1, 5));
    assert_eq!(now(journal.read(7, 9, 1000)).unwrap(), []);
    assert_eq!(now(journal.read(3, 3, 1000)).unwrap(), []);
}

#[test]
fn full_segments_are_closed_and_read_across() {
    let disk = CrashDisk::default();
    let mut journal = open_small(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 9));
    assert!(disk.names().len() >= 4, "{:?}", disk.names());
    assert_eq!(read_all(&journal), frames(0, 9));
    assert_eq!(read_all(&open_small(&disk.crash(|_| 0)).unwrap()), frames(0, 9));
}

#[test]
fn the_smallest_and_the_largest_segment_are_rolled_and_hold_frames_larger_than_themselves() {
    let (smallest, largest) = SEGMENT_BYTES.into_inner();
    for (segment_bytes, body, count) in [(smallest, 1_000, 40), (smallest, 100_000, 4), (largest, 5_000_000, 15)] {
        let disk = CrashDisk::default();
        let mut journal = open_as(&disk, &Arc::default(), segment_bytes).unwrap();
        let all: Vec<Frame> = (0..count).map(|index| frame(index, body)).collect();
        write_synced(&mut journal, &all);
        assert!(read_all(&journal) == all, "segments of {segment_bytes} bytes");
        now(journal.truncate(2)).unwrap();
        write_synced(&mut journal, &all[2..]);
        let after = disk.crash(|_| 0);
        let segments = after.names().iter().filter(|name| name.ends_with(".seg")).count() as u64;
        let each = (segment_bytes - FRAMES_AT) / (body as u64 + 25) + 1; // the frame that fills it is still in it
        assert!(segments >= 2 && segments.abs_diff(count.div_ceil(each)) <= 1, "{segments} of {segment_bytes} bytes");
        assert!(read_all(&open_as(&after, &Arc::default(), segment_bytes).unwrap()) == all, "{segment_bytes} bytes");
    }
}

#[test]
fn what_is_written_while_a_segment_is_created_is_readable_and_becomes_durable() {
    let disk = CrashDisk::default();
    let mut journal = open_small(&disk).unwrap();
    journal.write(&frames(0, 3)).unwrap();
    let first = journal.sync();
    journal.write(&frames(3, 5)).unwrap();
    assert_eq!(read_all(&journal), frames(0, 5));
    let second = journal.sync();
    journal.write(&frames(5, 6)).unwrap();
    assert_eq!(read_all(&journal), frames(0, 6));
    drop(first);
    now(second).unwrap();
    assert_eq!(read_all(&journal), frames(0, 6));
    assert_eq!(read_all(&open_small(&disk.crash(|_| 0)).unwrap()), frames(0, 6));
}

#[test]
fn a_reader_sees_what_is_written_later() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    let reader = journal.reader();
    journal.write(&frames(0, 2)).unwrap();
    assert_eq!((reader.first_index(), reader.next_index()), (0, 2));
    assert_eq!(now(reader.clone().read(0, 9, 1000)).unwrap(), frames(0, 2));
}

#[test]
fn frames_out_of_order_and_frames_too_large_are_refused() {
    let mut journal = open(&CrashDisk::default()).unwrap();
    journal.write(&frames(0, 2)).unwrap();
    let refused = journal.write(&[frame(2, 1), frame(4, 1)]);
    assert!(matches!(refused, Err(StoreError::NotConsecutive { expected: 3, found: 4 })));
    let refused = journal.write(&[frame(2, FRAME_BYTES_MAX as usize)]);
    assert!(matches!(refused, Err(StoreError::Oversize { .. })));
    assert_eq!(journal.next_index(), 2);
}

#[test]
fn a_torn_tail_is_kept_aside_and_truncated_wherever_it_is_torn() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 3));
    let synced = disk.get(FIRST).len();
    journal.write(&frames(3, 6)).unwrap();
    let whole = disk.get(FIRST);
    for cut in synced..=whole.len() {
        for fill in [None, Some(0), Some(0xa5)] {
            let disk = disk.copy();
            let mut image = whole[..cut].to_vec();
            fill.into_iter().for_each(|byte| image.resize(whole.len() + 40, byte));
            disk.put(FIRST, image.clone());
            let told = Arc::<Told>::default();
            let mut journal = open_as(&disk, &told, 16 * 1024).unwrap();
            let kept = 3 + (cut - synced) / 125;
            assert_eq!(read_all(&journal), frames(0, kept as u64), "cut at {cut}, filled with {fill:?}");
            let end = synced + (kept - 3) * 125;
            let told = told.0.lock().unwrap();
            if end == image.len() {
                assert_eq!(*told, []);
            } else {
                let kept_as = format!("log/torn/00000000000000000000-{end}.torn");
                assert_eq!(disk.get(&kept_as), image[end..]);
                let (file, offset, bytes) = (FIRST.into(), end as u64, (image.len() - end) as u64);
                assert_eq!(*told, [LogEvent::TornTailTruncated { file, offset, bytes, kept_as }]);
            }
            write_synced(&mut journal, &frames(kept as u64, 8));
            assert_eq!(read_all(&open(&disk.crash(|_| 0)).unwrap()), frames(0, 8));
        }
    }
}

#[test]
fn two_torn_tails_at_one_place_are_both_kept() {
    let disk = CrashDisk::default();
    drop(open(&disk).unwrap());
    for tail in [b"one", b"two"] {
        let mut image = disk.get(FIRST);
        image.extend_from_slice(tail);
        disk.put(FIRST, image);
        drop(open(&disk).unwrap());
    }
    assert_eq!(disk.get("log/torn/00000000000000000000-12288.torn"), b"one");
    assert_eq!(disk.get("log/torn/00000000000000000000-12288-2.torn"), b"two");
}

#[test]
fn a_length_beyond_the_limit_is_damage() {
    let disk = CrashDisk::default();
    write_synced(&mut open(&disk).unwrap(), &frames(0, 2));
    drop(open(&disk).unwrap());
    let whole = disk.get(FIRST);
    for length in [0u32, 20, FRAME_BYTES_MAX + 1, u32::MAX] {
        let disk = disk.copy();
        let mut image = whole.clone();
        image[FRAMES_AT as usize..FRAMES_AT as usize + 4].copy_from_slice(&length.to_be_bytes());
        disk.put(FIRST, image);
        assert!(is_corrupt(&open(&disk)), "{length}");
        let mut image = whole.clone();
        image.extend_from_slice(&length.to_be_bytes());
        disk.put(FIRST, image);
        assert_eq!(read_all(&open(&disk).unwrap()), frames(0, 2), "{length}");
    }
}

/// Three segments with two, two and one frames, all below a marker.
fn three_segments() -> CrashDisk {
    let disk = CrashDisk::default();
    write_synced(&mut open_small(&disk).unwrap(), &frames(0, 5));
    drop(open_small(&disk).unwrap());
    assert_eq!(disk.names().len(), 3, "{:?}", disk.names());
    disk
}

#[test]
fn a_flipped_byte_at_or_below_the_marker_is_noticed_and_nothing_is_changed() {
    let original = three_segments();
    for name in original.names() {
        let whole = original.get(&name);
        for at in 0..whole.len() {
            let disk = original.copy();
            let mut image = whole.clone();
            image[at] ^= 1 << (at % 8);
            disk.put(&name, image.clone());
            let told = Arc::<Told>::default();
            let opened = open_as(&disk, &told, FRAMES_AT + 200);
            if (4096..12288).contains(&at) {
                // A crash may leave a damaged marker slot, and the other one may suffice. The frames are all there.
                assert!(is_corrupt(&opened) || read_all(&opened.unwrap()) == frames(0, 5), "{name} at {at}");
                continue;
            }
            assert!(is_corrupt(&opened), "{name} at {at}");
            assert!(matches!(told.0.lock().unwrap().as_slice(), [LogEvent::CorruptionFound { .. }]));
            assert_eq!(disk.names(), original.names());
            assert_eq!(disk.get(&name), image);
        }
    }
}

#[test]
fn a_segment_shorter_than_its_marker_is_corrupt() {
    let original = three_segments();
    for name in original.names() {
        let whole = original.get(&name);
        for len in 0..whole.len() {
            let disk = original.copy();
            disk.put(&name, whole[..len].to_vec());
            assert!(is_corrupt(&open_small(&disk)), "{name} cut to {len}");
        }
    }
}

#[test]
fn both_markers_damaged_are_corruption() {
    let disk = three_segments();
    let name = disk.names()[2].clone();
    let mut image = disk.get(&name);
    image[4200] ^= 1;
    image[9000] ^= 1;
    disk.put(&name, image);
    assert!(is_corrupt(&open_small(&disk)));
}

#[test]
fn segments_that_are_missing_or_exchanged_are_corruption() {
    let original = three_segments();
    let names = original.names();
    let disk = original.copy();
    disk.take(&names[1]);
    assert!(is_corrupt(&open_small(&disk)));
    let disk = original.copy();
    disk.put(&names[1], original.get(&names[2]));
    assert!(is_corrupt(&open_small(&disk)));

    // The same indices with other frames, of another life of the same journal.
    let other = CrashDisk::default();
    let changed: Vec<Frame> = frames(0, 5).into_iter().map(|frame| Frame { term: 9, ..frame }).collect();
    write_synced(&mut open_small(&other).unwrap(), &changed);
    let disk = original.copy();
    disk.put(&names[1], other.get(&names[1]));
    assert!(is_corrupt(&open_small(&disk)));
}

#[test]
fn files_of_another_journal_or_format_are_told_apart_from_damage() {
    let disk = three_segments();
    let options = JournalOptions::default();
    let other = Journal::open(Arc::new(disk.clone()), Arc::new(Told::default()), Path::new("log"), [6; 16], options);
    assert!(matches!(now(other), Err(StoreError::WrongIdentity { .. })));
    let mut image = disk.get(FIRST);
    image[11] = 3;
    let crc = crc32c::crc32c(&image[..4092]);
    image[4092..4096].copy_from_slice(&crc.to_be_bytes());
    disk.put(FIRST, image);
    assert!(matches!(open_small(&disk), Err(StoreError::UnknownVersion { found: 3, known: 2, .. })));
}

/// A segment in the layout of earlier releases, with all frames below its marker.
fn narrow(frames: &[Frame]) -> Vec<u8> {
    let mut segment = Segment::of(Layout::Narrow, 0, 0);
    let mut bytes = bytes::BytesMut::new();
    for frame in frames {
        let encoded = frame.encode(&mut bytes);
        segment.push(encoded, frame.term);
    }
    segment.synced = segment.end();
    [&encode_blocks(ID, &segment)[..], &bytes[..]].concat()
}

#[test]
fn a_segment_of_an_earlier_layout_is_read_and_written_as_it_is_and_the_next_one_is_new() {
    let disk = CrashDisk::default();
    let image = narrow(&frames(0, 2));
    assert_eq!((image.len(), &image[8..12]), (1536 + 2 * 125, &[0, 0, 0, 1][..]));
    disk.put(FIRST, image);
    let options = 1536 + 3 * 125;
    let mut journal = open_as(&disk, &Arc::default(), options).unwrap();
    assert_eq!(read_all(&journal), frames(0, 2));
    write_synced(&mut journal, &frames(2, 6));
    drop(journal);
    let first = disk.get(FIRST);
    assert_eq!((first.len(), &first[8..12]), (1536 + 4 * 125, &[0, 0, 0, 1][..]));
    let disk = disk.crash(|_| 0);
    assert_eq!(disk.get(&disk.names()[1])[8..12], [0, 0, 0, 2]);
    assert_eq!(read_all(&open_as(&disk, &Arc::default(), options).unwrap()), frames(0, 6));
    let mut image = first;
    image[1536 + 150] ^= 1;
    disk.put(FIRST, image);
    assert!(is_corrupt(&open_as(&disk, &Arc::default(), options)));
}

/// A drive with sectors of 4 KiB that loses its power while it writes one may lose all of that sector.
#[test]
fn a_sector_that_is_lost_while_a_marker_is_written_costs_nothing_that_was_synced() {
    for sector in [1, 2] {
        let disk = CrashDisk::default();
        let mut journal = open(&disk).unwrap();
        write_synced(&mut journal, &frames(0, 4));
        drop(journal);
        let mut image = disk.get(FIRST);
        image[sector * 4096..(sector + 1) * 4096].fill(0xff);
        disk.put(FIRST, image);
        assert_eq!(read_all(&open(&disk).unwrap()), frames(0, 4), "sector {sector}");
    }
}

#[test]
fn damage_under_a_running_journal_is_noticed_by_the_read() {
    let disk = CrashDisk::default();
    let told = Arc::<Told>::default();
    let mut journal = open_as(&disk, &told, FRAMES_AT + 200).unwrap();
    write_synced(&mut journal, &frames(0, 5));
    let mut image = disk.get(FIRST);
    image[FRAMES_AT as usize + 150] ^= 1;
    disk.put(FIRST, image);
    assert!(matches!(now(journal.read(0, 5, 1000)), Err(StoreError::Corrupt { .. })));
    assert!(matches!(told.0.lock().unwrap().as_slice(), [LogEvent::CorruptionFound { .. }]));
    assert_eq!(now(journal.read(2, 5, 1000)).unwrap(), frames(2, 5));
}

#[test]
fn a_failed_sync_poisons_the_journal_for_good() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 2));
    journal.write(&frames(2, 3)).unwrap();
    disk.fail_next_sync();
    assert!(matches!(now(journal.sync()), Err(StoreError::Io { .. })));
    assert!(matches!(journal.write(&frames(3, 4)), Err(StoreError::Poisoned)));
    assert!(matches!(now(journal.sync()), Err(StoreError::Poisoned)));
    assert!(matches!(now(journal.read(0, 3, 1000)), Err(StoreError::Poisoned)));
    assert!(matches!(now(journal.truncate(0)), Err(StoreError::Poisoned)));
    assert!(matches!(now(journal.forget_before(2)), Err(StoreError::Poisoned)));
    assert_eq!(read_all(&open(&disk.crash(|_| 0)).unwrap()), frames(0, 2));
}

#[test]
fn a_failed_sync_is_not_forgotten_with_its_future() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.write(&frames(0, 1)).unwrap();
    disk.fail_next_sync();
    drop(journal.sync());
    journal.write(&frames(1, 2)).unwrap();
    assert!(matches!(now(journal.sync()), Err(StoreError::Io { .. })));
    assert!(matches!(now(journal.sync()), Err(StoreError::Poisoned)));
}

#[test]
fn a_failed_write_surfaces_in_the_sync_and_poisons() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    disk.fail_next_write();
    journal.write(&frames(0, 1)).unwrap();
    assert!(matches!(now(journal.sync()), Err(StoreError::Io { doing: "write", .. })));
    assert!(matches!(now(journal.sync()), Err(StoreError::Poisoned)));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_is_believed() {
    let disk = CrashDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.write(&frames(0, 2)).unwrap();
    disk.fail_next_sync();
    assert!(now(journal.sync()).is_err());
    drop(journal);
    // The process ends, the machine does not: reads show frames that are not on the disk.
    let reopened = open(&disk).unwrap();
    assert_eq!(read_all(&reopened), frames(0, 2));
    assert_eq!(read_all(&open(&disk.crash(|_| 0)).unwrap()), frames(0, 2));
}

#[test]
fn frames_are_cut_across_segments_and_written_anew() {
    for from in 0..=6 {
        let disk = CrashDisk::default();
        let mut journal = open_small(&disk).unwrap();
        write_synced(&mut journal, &frames(0, 5));
        journal.write(&frames(5, 6)).unwrap();
        now(journal.truncate(from)).unwrap();
        assert_eq!(read_all(&journal), frames(0, from));
        assert_eq!(journal.next_index(), from);
        assert_eq!(read_all(&open_small(&disk.crash(|_| 0)).unwrap()), frames(0, from), "{from}");
        let anew: Vec<Frame> = frames(from, 9).into_iter().map(|frame| Frame { term: 9, ..frame }).collect();
        write_synced(&mut journal, &anew);
        let expected = [frames(0, from), anew].concat();
        assert_eq!(read_all(&journal), expected);
        assert_eq!(read_all(&open_small(&disk.crash(|_| 0)).unwrap()), expected, "{from}");
    }
}

#[test]
fn whole_segments_are_forgotten_and_the_newest_stays() {
    let disk = CrashDisk::default();
    let mut journal = open_small(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 5));
    now(journal.forget_before(1)).unwrap();
    assert_eq!(journal.first_index(), 0);
    now(journal.forget_before(3)).unwrap();
    assert_eq!(journal.first_index(), 2);
    assert!(matches!(now(journal.read(1, 3, 1000)), Err(StoreError::Outside { index: 1, first: 2, next: 5 })));
    assert!(matches!(now(journal.truncate(1)), Err(StoreError::Outside { .. })));
    let reopened = open_small(&disk.crash(|_| 0)).unwrap();
    assert_eq!(read_all(&reopened), frames(2, 5));
    now(journal.forget_before(u64::MAX)).unwrap();
    assert_eq!(read_all(&journal), frames(4, 5));
}

#[test]
fn a_change_that_is_broken_off_poisons_until_the_journal_is_opened_again() {
    let disk = CrashDisk::default();
    let mut journal = open_small(&disk).unwrap();
    write_synced(&mut journal, &frames(0, 5));
    disk.die_at(disk.operations() + 3);
    assert!(matches!(now(journal.truncate(0)), Err(StoreError::Io { .. })));
    assert!(matches!(journal.write(&frames(0, 1)), Err(StoreError::Poisoned)));
    assert!(matches!(now(journal.sync()), Err(StoreError::Poisoned)));
}

#[test]
fn a_journal_can_be_owned_by_any_task() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    fn is_sync<T: Sync + Clone>(_: &T) {}
    let disk = CrashDisk::default();
    let mut journal = is_send(open(&disk).unwrap());
    is_sync(&journal.reader());
    now(is_send(journal.truncate(0))).unwrap();
    now(is_send(journal.forget_before(0))).unwrap();
    let options = JournalOptions::default();
    let opening = Journal::open(Arc::new(disk.clone()), Arc::new(Told::default()), Path::new("other"), ID, options);
    now(is_send(opening)).unwrap();
    let mut cell = now(is_send(Cell::open(Arc::new(disk), Path::new("cell")))).unwrap();
    now(is_send(cell.store("x".into()))).unwrap();
}

#[test]
fn the_remains_of_an_unfinished_segment_never_get_its_name() {
    for dies_at in 0..16 {
        for seed in 0..64 {
            let disk = CrashDisk::default();
            disk.put(&format!("{FIRST}.new"), vec![0xa5; 700]);
            disk.die_at(dies_at);
            drop(open(&disk));
            let disk = disk.crash(choices(seed));
            assert_eq!(read_all(&open(&disk).unwrap()), [], "step {dies_at}, seed {seed}");
            assert_eq!(disk.names(), [FIRST]);
        }
    }
}
