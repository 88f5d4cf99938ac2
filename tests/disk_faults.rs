//! Each fault of a disk against the toy, to see its exact semantics: what fails, what is kept, what a power loss shows. The
//! toy appends a line per entry and syncs three of four; it closes a connection over which an append or a sync failed.

mod toy;

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use gapless::{
    explore,
    history::{DiskOp, Down, What},
};
use libtest_mimic::{Arguments, Failed, Trial};

use toy::{IN_FLIGHT, Seen, Toy, check};

gapless::define_seam!();

const SECOND: Duration = Duration::from_secs(1);

/// A power loss three seconds after the step has begun.
const THEN_THE_POWER: &str = "[[step]]\nname = \"power\"\naction = \"power-loss\"\non = \"server-1\"\n\
                              after = \"it:begins\"\nwait = \"3s\"\nfor = \"1s\"";

/// What failed at the server: when, the number of the entry, the error's number.
fn failed(seen: &Seen, what: &str) -> Vec<(Duration, u64, i32)> {
    let failures = seen.marks().filter_map(|(at, mark)| {
        let (number, errno) = mark.strip_prefix(what)?.trim_start().split_once(" failed: ")?;
        Some((at, number.parse().ok()?, errno.parse().ok()?))
    });
    failures.collect()
}

/// How many bytes that nobody wrote the server found, start by start.
fn odd(seen: &Seen) -> Vec<u64> {
    let told = seen.marks().filter_map(|(_, mark)| mark.strip_prefix("odd ")?.strip_suffix(" bytes"));
    told.filter_map(|bytes| bytes.parse().ok()).collect()
}

/// The numbers that the last reading found.
fn found(seen: &Seen) -> BTreeSet<u64> {
    seen.found_at_last()
}

/// When damage was told, and how many bytes; and the same of what was mended.
fn damaged(seen: &Seen) -> Vec<(Duration, u64)> {
    let told = seen.history.events.iter().filter_map(|event| match event.what {
        What::Damaged { bytes, .. } => Some((event.at, bytes)),
        _ => None,
    });
    told.collect()
}

fn mended(seen: &Seen) -> Vec<(Duration, u64)> {
    let told = seen.history.events.iter().filter_map(|event| match event.what {
        What::Mended { bytes, .. } => Some((event.at, bytes)),
        _ => None,
    });
    told.collect()
}

fn power_went(seen: &Seen) -> Duration {
    let down = |what: &What| *what == What::Down { how: Down::PowerLoss };
    seen.history.events.iter().find(|event| down(&event.what)).map(|event| event.at).unwrap_or_default()
}

fn a_failed_sync_leaves_clean_pages_that_the_next_power_loss_takes() -> Result<(), Failed> {
    let step = "action = \"fsync-error\"\non = \"server-1\"\nnth = 3\nat = \"3s\"\n";
    let alone = Seen::of(step)?;
    let [(at, number, errno)] = failed(&alone, "sync")[..] else {
        return check(false, "not one sync failed", &alone);
    };
    check(errno == 5 && at >= alone.began(), "another error, or too early", &alone)?;
    check(alone.acked(alone.began(), Duration::MAX) > 100, "later syncs do not succeed", &alone)?;
    check(found(&alone).contains(&number), "without a power loss the page cache has it", &alone)?;
    check(alone.evidence().starts_with("1 syncs failed, "), "no evidence", &alone)?;
    let dark = Seen::of(&format!("{step}{THEN_THE_POWER}"))?;
    check(failed(&dark, "sync").len() == 1, "not the same sync", &dark)?;
    check(!found(&dark).contains(&number), "the platter has it", &dark)?;
    check(odd(&dark).iter().any(|odd| *odd > 200), "no zeroes where it should stand", &dark)
}

fn with_onwards_every_later_sync_fails_until_the_end() -> Result<(), Failed> {
    let seen =
        Seen::of("action = \"fsync-error\"\non = \"server-1\"\nnth = 4\nonwards = true\nat = \"3s\"\nfor = \"2s\"")?;
    let failures = failed(&seen, "sync");
    check(failures.len() > 5, "too few failed", &seen)?;
    let within = |(at, ..): &(Duration, u64, i32)| *at >= seen.began() && *at <= seen.ended() + IN_FLIGHT;
    check(failures.iter().all(within), "one failed outside of the step", &seen)?;
    check(seen.acked(seen.ended() + SECOND, Duration::MAX) > 50, "it did not end", &seen)?;
    let told = seen.history.events.iter().filter(
        |event| matches!(&event.what, What::Disk { op: DiskOp::Sync, error: Some(why), .. } if why.contains("os error 5")),
    );
    check(told.count() == failures.len(), "not all of them are in the history", &seen)
}

fn another_file_is_not_struck() -> Result<(), Failed> {
    let seen = Seen::of("action = \"fsync-error\"\non = \"server-1\"\npath = \"lag\"\nat = \"3s\"\nfor = \"2s\"")?;
    check(failed(&seen, "sync").is_empty() && seen.evidence().is_empty(), "a sync failed", &seen)
}

fn writes_fail_while_the_disk_has_errors() -> Result<(), Failed> {
    let seen = Seen::of("action = \"disk-error\"\non = \"server-1\"\naccess = \"writes\"\nat = \"3s\"\nfor = \"2s\"")?;
    let failures = failed(&seen, "append");
    check(failures.len() > 20 && failures.iter().all(|(.., errno)| *errno == 5), "writes did not fail", &seen)?;
    check(seen.acked(seen.began() + IN_FLIGHT, seen.ended()) == 0, "a write did not fail", &seen)?;
    let gone = failures.iter().all(|(_, number, _)| !found(&seen).contains(number));
    check(gone, "a write that failed was done", &seen)?;
    check(seen.acked(seen.ended() + SECOND, Duration::MAX) > 50, "it did not end", &seen)?;
    check(seen.evidence().starts_with("0 reads and "), "no evidence", &seen)
}

fn reads_fail_and_a_start_that_needs_them_fails_until_they_do_not() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"disk-error\"\non = \"server-1\"\naccess = \"reads\"\nat = \"3s\"\nfor = \"4s\"\n\
         [[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"4s\"\nfor = \"500ms\"",
    )?;
    let failures = seen.history.events.iter().filter(|event| matches!(event.what, What::Failed { .. })).count();
    check((1..=4).contains(&failures), "the starts did not fail", &seen)?;
    check(failed(&seen, "append").is_empty(), "a write failed", &seen)?;
    check(seen.acked(seen.began() + IN_FLIGHT, seen.began() + SECOND) > 5, "what needs no read went on", &seen)?;
    check(seen.acked(seen.ended() + 2 * SECOND, Duration::MAX) > 10, "it did not end", &seen)
}

fn a_full_disk_takes_what_is_free_and_no_more() -> Result<(), Failed> {
    let seen = Seen::of("action = \"disk-full\"\non = \"server-1\"\nfree = \"2KiB\"\nat = \"3s\"\nfor = \"2s\"")?;
    let failures = failed(&seen, "append");
    check(failures.iter().all(|(.., errno)| *errno == 28), "another error", &seen)?;
    let first = failures.first().map(|(at, ..)| *at).unwrap_or_default();
    let fitted = seen.arrived(seen.began(), first).len();
    check((7..=9).contains(&fitted), "2 KiB hold seven lines of 256 bytes, and the one that did not fit", &seen)?;
    check(seen.acked(first + IN_FLIGHT, seen.ended()) == 0, "the disk was not full", &seen)?;
    check(seen.acked(seen.ended() + SECOND, Duration::MAX) > 50, "it did not end", &seen)?;
    check(seen.evidence().contains("refused for want of room"), "no evidence", &seen)
}

fn a_slow_disk_delays_what_is_synced_and_nothing_else() -> Result<(), Failed> {
    let seen = Seen::of("action = \"slow-disk\"\non = \"server-1\"\nlatency = \"150ms\"\nat = \"3s\"\nfor = \"3s\"")?;
    let slow = seen.latencies(seen.began(), seen.ended() - SECOND);
    check(slow.iter().any(|took| *took >= Duration::from_millis(150)), "nothing took longer", &seen)?;
    let before = seen.latencies(Duration::ZERO, seen.began() - SECOND);
    check(before.iter().all(|took| *took < Duration::from_millis(50)), "it was slow before", &seen)?;
    let after = seen.latencies(seen.ended() + 3 * SECOND, Duration::MAX);
    check(!after.is_empty() && after.iter().all(|took| *took < Duration::from_millis(50)), "it did not end", &seen)?;
    check(failed(&seen, "sync").is_empty(), "a sync failed", &seen)?;
    check(seen.evidence().contains("held for 150ms"), "no evidence", &seen)
}

fn a_torn_write_shows_after_the_power_loss_and_is_put_right_at_the_end() -> Result<(), Failed> {
    let step = "action = \"torn-write\"\non = \"server-1\"\npath = \"log\"\nat = \"3s\"\nfor = \"6s\"\n";
    let seen = Seen::of(&format!("{step}{THEN_THE_POWER}"))?;
    let [(at, bytes)] = damaged(&seen)[..] else { return check(false, "not one place is damaged", &seen) };
    check(at == power_went(&seen), "it showed before, or later", &seen)?;
    check((1..300).contains(&bytes), "more than one line was torn", &seen)?;
    check(odd(&seen).last() == Some(&bytes), "the server found something else", &seen)?;
    check(failed(&seen, "sync").is_empty(), "a sync failed", &seen)?;
    check(mended(&seen) == [(seen.span("it").1, bytes)], "it was not put right at the end", &seen)?;
    check(seen.evidence().contains(&format!("{bytes} synced bytes of `log` were gone")), "no evidence", &seen)?;
    let crash = step.to_owned() + "[[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"6s\"\nfor = \"1s\"";
    let crashed = Seen::of(&crash)?;
    check(damaged(&crashed).is_empty() && odd(&crashed) == [0, 0], "a crash showed it", &crashed)?;
    check(crashed.evidence().is_empty(), "evidence without a power loss", &crashed)
}

fn bits_rot_at_once_and_are_put_right_at_the_end() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"bit-rot\"\non = \"server-1\"\nbits = 200\nat = \"3s\"\nfor = \"5s\"\n\
         [[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"5s\"\nfor = \"1s\"",
    )?;
    check(!damaged(&seen).is_empty(), "nothing is damaged", &seen)?;
    check(damaged(&seen).iter().all(|(at, _)| *at == seen.span("it").0), "not at the step's beginning", &seen)?;
    let odd = odd(&seen).last().copied().unwrap_or_default();
    check((10..=200).contains(&odd), "the page cache shows nothing of it", &seen)?;
    check(mended(&seen).iter().all(|(at, _)| *at == seen.span("it").1), "not put right at the end", &seen)?;
    check(mended(&seen).len() == damaged(&seen).len(), "not all of it was put right", &seen)?;
    check(seen.evidence().contains("200 bits of `log` flipped"), "no evidence", &seen)
}

fn a_misdirected_write_is_missing_in_one_place_and_stands_in_another() -> Result<(), Failed> {
    let seen = Seen::of(&format!(
        "action = \"misdirected-write\"\non = \"server-1\"\nnth = 2\nat = \"3s\"\nfor = \"6s\"\n{THEN_THE_POWER}"
    ))?;
    let places = damaged(&seen);
    check(places.len() == 2 && places.iter().all(|(at, _)| *at == power_went(&seen)), "not two places then", &seen)?;
    check(odd(&seen).last().is_some_and(|odd| (200..300).contains(odd)), "no zeroes in its place", &seen)?;
    check(failed(&seen, "sync").is_empty() && failed(&seen, "append").is_empty(), "somebody was told", &seen)?;
    check(mended(&seen).len() == 2, "not put right", &seen)?;
    check(seen.evidence().contains("were others after a power loss"), "no evidence", &seen)
}

fn a_wiped_host_comes_back_with_an_empty_disk_and_nobody_is_told() -> Result<(), Failed> {
    let seen = Seen::of("action = \"wipe\"\non = \"server-1\"\nat = \"4s\"\nfor = \"1s\"")?;
    let sizes: Vec<&str> = seen.marks().map(|(_, mark)| mark).filter(|mark| mark.starts_with("found ")).collect();
    check(sizes == ["found 0 bytes", "found 0 bytes"], "it found something", &seen)?;
    check(seen.history.events.iter().any(|event| event.what == What::Wiped {}), "not in the history", &seen)?;
    check(power_went(&seen) == seen.began(), "it did not go dark", &seen)?;
    check(seen.count("client saw ConnectionReset") + seen.count("client saw the end") == 0, "a RST or FIN", &seen)?;
    check(seen.acked(seen.ended() + 3 * SECOND, Duration::MAX) > 10, "it did not serve again", &seen)?;
    let first = found(&seen).first().copied().unwrap_or_default();
    check(first > 50, "something of before is there", &seen)?;
    check(seen.evidence().contains("of 1 files were wiped from its disk"), "no evidence", &seen)
}

fn a_rewound_host_forgets_what_came_after_the_image_and_nobody_is_told() -> Result<(), Failed> {
    let seen = Seen::of("action = \"rewind\"\non = \"server-1\"\nat = \"3s\"\nfor = \"3s\"\ndown = \"500ms\"")?;
    let (image, struck) = (seen.began(), power_went(&seen));
    check((2_990..=3_010).contains(&(struck - image).as_millis()), "not put back after `for`", &seen)?;
    let put_back: Vec<(Duration, &What)> = seen.history.events.iter().map(|event| (event.at, &event.what)).collect();
    check(put_back.contains(&(struck, &What::Rewound { to: image })), "not in the history", &seen)?;
    check(seen.acked(image, struck) > 50, "it did not serve until then", &seen)?;
    let (found, tick) = (found(&seen), Duration::from_millis(20));
    // Every fourth entry waits for the sync of the next one.
    let before = seen.arrived(Duration::ZERO, image - SECOND);
    check(before.len() > 20 && before.iter().all(|number| found.contains(number)), "more than that is gone", &seen)?;
    let forgotten = seen.arrived(image + tick, struck);
    check(forgotten.len() > 50 && !forgotten.iter().any(|number| found.contains(number)), "not forgotten", &seen)?;
    check(seen.count("client saw ConnectionReset") + seen.count("client saw the end") == 0, "a RST or FIN", &seen)?;
    check((490..=520).contains(&(seen.ended() - struck).as_millis()), "not down for `down`", &seen)?;
    check(seen.acked(seen.ended(), Duration::MAX) > 10, "it did not serve again", &seen)?;
    check(seen.evidence().contains("1 files changed"), "no evidence", &seen)
}

fn one_seed_is_one_run() -> Result<(), Failed> {
    let step = format!("action = \"misdirected-write\"\non = \"server-1\"\nat = \"3s\"\n{THEN_THE_POWER}");
    let (first, second) = (Seen::under(7, &step)?, Seen::under(7, &step)?);
    check(first.history == second.history && first.hash == second.hash, "one seed, two runs", &first)
}

macro_rules! trials {
    ($($test:ident,)*) => { vec![$(Trial::test(stringify!($test), $test)),*] };
}

fn main() -> ExitCode {
    explore::become_worker_if_asked(|| Toy);
    let trials = trials![
        a_failed_sync_leaves_clean_pages_that_the_next_power_loss_takes,
        with_onwards_every_later_sync_fails_until_the_end,
        another_file_is_not_struck,
        writes_fail_while_the_disk_has_errors,
        reads_fail_and_a_start_that_needs_them_fails_until_they_do_not,
        a_full_disk_takes_what_is_free_and_no_more,
        a_slow_disk_delays_what_is_synced_and_nothing_else,
        a_torn_write_shows_after_the_power_loss_and_is_put_right_at_the_end,
        bits_rot_at_once_and_are_put_right_at_the_end,
        a_misdirected_write_is_missing_in_one_place_and_stands_in_another,
        a_wiped_host_comes_back_with_an_empty_disk_and_nobody_is_told,
        a_rewound_host_forgets_what_came_after_the_image_and_nobody_is_told,
        one_seed_is_one_run,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
