//! Each fault of the catalogue against a toy, to see its exact semantics: what passes, what waits, what is lost, who is
//! told. Those of disks are in `disk_faults`.

mod toy;

use std::{process::ExitCode, time::Duration};

use gapless::{
    check::WallClocks,
    explore,
    history::{StepEvent, What},
};
use libtest_mimic::{Arguments, Failed, Trial};

use toy::{EPOCH, IN_FLIGHT, PATIENCE, Seen, Toy, check, nanoseconds};

gapless::define_seam!();

fn a_partition_stalls_and_then_everything_flows_in_order() -> Result<(), Failed> {
    let seen = Seen::of("action = \"partition\"\nbetween = [\"clients\", \"servers\"]\nat = \"3s\"\nfor = \"1s\"")?;
    let (began, ended) = (seen.began(), seen.ended());
    check(seen.arrived(began + IN_FLIGHT, ended).is_empty(), "something passed", &seen)?;
    check(seen.count("connected") == 1, "the connection did not survive", &seen)?;
    let all = seen.arrived(Duration::ZERO, Duration::MAX);
    check(all.is_sorted() && all.len() > 190, "not everything came, or not in order", &seen)?;
    check(seen.evidence().contains("bytes stalled"), "no evidence", &seen)
}

fn a_one_way_partition_leaves_the_other_way_alone() -> Result<(), Failed> {
    let seen = Seen::of("action = \"partition\"\nfrom = \"servers\"\nto = \"clients\"\nat = \"3s\"\nfor = \"1s\"")?;
    let (began, ended) = (seen.began(), seen.ended());
    check(!seen.arrived(began, ended).is_empty(), "requests did not pass", &seen)?;
    check(seen.acked(began + IN_FLIGHT, ended) == 0, "an answer passed", &seen)?;
    check(seen.evidence().contains("bytes stalled"), "no evidence", &seen)
}

fn a_blackhole_swallows_and_the_connection_is_dead_afterwards() -> Result<(), Failed> {
    let seen = Seen::of("action = \"blackhole\"\nbetween = [\"clients\", \"servers\"]\nat = \"3s\"\nfor = \"1s\"")?;
    let (began, ended) = (seen.began(), seen.ended());
    check(seen.arrived(began + IN_FLIGHT, ended + PATIENCE / 4).is_empty(), "something passed", &seen)?;
    check(seen.count("client lost patience") >= 1, "the client was told", &seen)?;
    check(seen.count("client saw ConnectionReset") + seen.count("client saw the end") == 0, "a RST or FIN", &seen)?;
    check(seen.count("connected") == 2, "the dead connection came back to life", &seen)?;
    check(seen.evidence().contains("bytes swallowed"), "no evidence", &seen)
}

fn refuse_stops_new_connections_only() -> Result<(), Failed> {
    let quiet = Seen::of("action = \"refuse\"\nbetween = [\"clients\", \"servers\"]\nat = \"3s\"\nfor = \"2s\"")?;
    check(quiet.count("connected") == 1 && quiet.evidence().is_empty(), "open connections felt it", &quiet)?;
    let seen = Seen::of(
        "action = \"refuse\"\nbetween = [\"clients\", \"servers\"]\nat = \"3s\"\nfor = \"2s\"\n\
         [[step]]\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"4s\"",
    )?;
    check(seen.count("client saw ConnectionRefused") > 1, "not refused", &seen)?;
    check(seen.count("connected") == 2, "not connected again", &seen)?;
    check(seen.evidence().contains("connections refused"), "no evidence", &seen)
}

fn isolate_cuts_from_everybody() -> Result<(), Failed> {
    let seen = Seen::of("action = \"isolate\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"")?;
    check(seen.arrived(seen.began() + IN_FLIGHT, seen.ended()).is_empty(), "something passed", &seen)?;
    check(seen.count("connected") == 1, "the connection did not survive", &seen)?;
    check(seen.evidence().contains("bytes stalled"), "no evidence", &seen)
}

fn a_reset_is_seen_at_both_ends() -> Result<(), Failed> {
    let seen = Seen::of("action = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"3s\"")?;
    check(seen.count("client saw ConnectionReset") == 1, "the client saw no reset", &seen)?;
    check(seen.count("server saw ConnectionReset") == 1, "the server saw no reset", &seen)?;
    check(seen.count("connected") == 2, "not connected again", &seen)?;
    check(seen.evidence() == "1 connections reset", "wrong evidence", &seen)
}

fn latency_is_added_and_order_kept() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"latency\"\nbetween = [\"clients\", \"servers\"]\ndelay = \"200ms\"\njitter = \"50ms\"\nat = \"3s\"\nfor = \"2s\"",
    )?;
    let during = seen.latencies(seen.began() + IN_FLIGHT, seen.ended() - Duration::from_secs(1));
    let before = seen.latencies(Duration::ZERO, seen.began() - IN_FLIGHT);
    let slow = during.iter().all(|took| *took >= Duration::from_millis(400));
    check(slow && !during.is_empty(), "an answer came too early", &seen)?;
    check(before.iter().all(|took| *took < Duration::from_millis(100)), "slow without a fault", &seen)?;
    check(seen.arrived(Duration::ZERO, Duration::MAX).is_sorted(), "out of order", &seen)?;
    check(seen.evidence().contains("bytes delayed"), "no evidence", &seen)
}

fn a_crash_is_told_to_peers_and_keeps_the_page_cache() -> Result<(), Failed> {
    let seen = Seen::of("action = \"crash\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"")?;
    let told = seen.count("client saw ConnectionReset") + seen.count("client saw the end");
    check(told >= 1, "the client was not told", &seen)?;
    check(seen.count("client saw ConnectionRefused") >= 1, "a dead process answered", &seen)?;
    check(!seen.history.events.iter().any(|e| matches!(e.what, What::Lost { .. })), "bytes were lost", &seen)?;
    check(seen.count("found 0 bytes") == 1, "the page cache was lost", &seen)?;
    check(seen.evidence().contains("died while it ran"), "no evidence", &seen)
}

fn a_power_loss_tells_nobody_and_keeps_what_was_synced() -> Result<(), Failed> {
    let seen = Seen::of("action = \"power-loss\"\non = \"server-1\"\nat = \"3s\"\nfor = \"3s\"")?;
    let dark = seen.marks().filter(|(at, _)| (seen.began()..seen.ended()).contains(at));
    let told = dark.filter(|(_, mark)| mark.contains("ConnectionReset") || mark.contains("the end")).count();
    check(told == 0, "a host without power sent a FIN or RST", &seen)?;
    check(seen.count("client lost patience") >= 1, "the client did not have to find out by itself", &seen)?;
    // Three of four entries were synced before they were answered: each of those is found.
    let synced = |n: &u64| n % 4 != 3;
    let before: Vec<u64> = seen.arrived(Duration::ZERO, seen.began() - IN_FLIGHT).into_iter().filter(synced).collect();
    let found = seen.found_at_last();
    check(before.iter().all(|n| found.contains(n)), "a synced entry was lost", &seen)?;
    check(seen.evidence().contains("went dark"), "no evidence", &seen)
}

fn a_restart_asks_first() -> Result<(), Failed> {
    let seen = Seen::of("action = \"restart\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"")?;
    check(seen.count("stops by itself") == 1, "it was not asked", &seen)?;
    check(seen.evidence().contains("stopped by itself"), "no evidence", &seen)?;
    check(seen.acked(seen.ended(), Duration::MAX) > 50, "it did not come back", &seen)
}

fn churn_crashes_again_and_again() -> Result<(), Failed> {
    let seen =
        Seen::of("action = \"churn\"\non = \"server-1\"\nevery = \"2s\"\ndown = \"500ms\"\nat = \"1s\"\nfor = \"7s\"")?;
    let lives = seen.history.events.iter().filter(|e| &*e.host == "server-1" && matches!(e.what, What::Up { .. }));
    check(lives.count() == 5, "wrong number of lives", &seen)?;
    check(seen.evidence() == "4 crashes", "wrong evidence", &seen)?;
    check(seen.acked(seen.ended(), Duration::MAX) > 10, "it did not come back", &seen)
}

fn a_pause_stands_still_and_then_goes_on() -> Result<(), Failed> {
    let seen = Seen::of("action = \"pause\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"")?;
    check(seen.arrived(seen.began() + IN_FLIGHT, seen.ended()).is_empty(), "a paused host heard something", &seen)?;
    check(seen.acked(seen.began() + IN_FLIGHT, seen.ended()) == 0, "a paused host said something", &seen)?;
    check(seen.count("connected") == 1, "the connection did not survive", &seen)?;
    check(!seen.evidence().is_empty(), "no evidence", &seen)
}

fn a_bit_flips_in_a_reply() -> Result<(), Failed> {
    let seen = Seen::of("action = \"bit-flip\"\non = \"server-1\"\nevery = \"1s\"\nat = \"3s\"\nfor = \"3s\"")?;
    check(seen.evidence().contains("replies with a flipped bit"), "no evidence", &seen)
}

fn a_certificate_ends_at_the_moment_of_its_step_and_nothing_is_swapped() -> Result<(), Failed> {
    let step = "action = \"cert-expire\"\non = \"client-1\"\nat = \"3s\"";
    let seen = Seen::of(&format!("{step}\nreconnect = true"))?;
    let installed = seen.installed("client-1");
    let first_connection = seen.marks().find(|(_, mark)| mark.starts_with("shows ")).map(|(at, _)| at);
    let before = installed.iter().filter(|(at, _)| Some(*at) < first_connection).count();
    check(installed.len() == 2 && before == 2, "it was not issued before it was first shown", &seen)?;
    let shows = format!("shows client-1 until {}", seen.began().as_secs() - 1);
    check(seen.count(&shows) == 2, "it does not end at the moment", &seen)?;
    check(seen.count("client saw ConnectionReset") == 1, "not reset", &seen)?;
    check(seen.bites() == "connections with a certificate that had ended: 1 opened", "wrong evidence", &seen)?;
    // Nobody connects again, and so nobody meets it.
    let quiet = Seen::of(step)?;
    check(quiet.count("connected") == 1 && quiet.bites().is_empty(), "it bit nobody and says it did", &quiet)
}

fn a_certificate_that_ends_after_a_moment_is_installed_at_that_moment() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"cert-expire\"\non = \"client-1\"\nafter = \"mark\"\nwait = \"3s\"\nreconnect = true\n\
         [[step]]\nname = \"mark\"\naction = \"reset\"\nbetween = [\"clients\", \"servers\"]\nat = \"2s\"",
    )?;
    let began = seen.history.events.iter().find_map(|event| match &event.what {
        What::Step { step, event: StepEvent::Begins { .. } } if &**step == "it" => Some(event.at),
        _ => None,
    });
    let began = began.unwrap_or_default();
    let installed = seen.installed("client-1");
    let at = installed.last().map(|(at, _)| *at).unwrap_or_default();
    let early = Duration::from_secs(3);
    check(installed.len() == 2 && at + early <= began + IN_FLIGHT && at + early + IN_FLIGHT >= began, "when", &seen)?;
    let shows = format!("shows client-1 until {}", began.as_secs() - 1);
    check(seen.count(&shows) == 2, "shown after the mark, and after its end", &seen)
}

fn a_fresh_certificate_is_valid_from_its_moment_on() -> Result<(), Failed> {
    let seen = Seen::of("action = \"cert-rotate\"\non = \"client-1\"\nat = \"3s\"\nreconnect = true")?;
    let installed = seen.installed("client-1");
    let fresh = installed.last().is_some_and(|(at, what)| {
        let now = EPOCH + i64::try_from(at.as_secs()).unwrap_or_default();
        *at == seen.began() && matches!(what, What::Certificate { not_before, .. } if *not_before == now)
    });
    check(installed.len() == 2 && fresh, "it is backdated, or came at another time", &seen)?;
    check(seen.bites() == "connections with the fresh certificate: 1 opened", "wrong evidence", &seen)
}

fn a_wrong_certificate_is_wrong_in_its_way_until_the_step_ends() -> Result<(), Failed> {
    type Wrong = fn(&What, i64) -> bool;
    let ways: [(&str, Wrong); 4] = [
        ("name", |it, _| matches!(it, What::Certificate { name, .. } if name != "client-1")),
        ("issuer", |it, _| matches!(it, What::Certificate { authority, trusts, .. } if !trusts.contains(authority))),
        ("not-yet-valid", |it, now| matches!(it, What::Certificate { not_before, .. } if *not_before > now)),
        ("key-usage", |it, _| matches!(it, What::Certificate { for_clients: false, for_servers: true, .. })),
    ];
    for (wrong, is_wrong) in ways {
        let seen = Seen::of(&format!(
            "action = \"cert-mismatch\"\non = \"client-1\"\nwrong = \"{wrong}\"\nreconnect = true\nat = \"3s\"\nfor = \"2s\""
        ))?;
        let installed = seen.installed("client-1");
        let now = |at: Duration| EPOCH + i64::try_from(at.as_secs()).unwrap_or_default();
        let wrongs: Vec<bool> = installed.iter().map(|(at, what)| is_wrong(what, now(*at))).collect();
        check(wrongs == [false, true, false], &format!("{wrong}: {wrongs:?}"), &seen)?;
        check(installed[1].0 == seen.began() && installed[2].0 == seen.ended(), "when", &seen)?;
        let said = "connections with the wrong certificate: 1 opened";
        check(seen.evidence() == said && seen.bites() == said, "wrong evidence", &seen)?;
    }
    Ok(())
}

fn an_authority_is_replaced_in_three_phases_or_at_once() -> Result<(), Failed> {
    let step = "action = \"ca-rotate\"\non = [\"servers\", \"clients\"]\nreconnect = true\nat = \"3s\"";
    let phases = |seen: &Seen, host: &str| -> Vec<(String, usize)> {
        let said = seen.installed(host).into_iter().filter_map(|(_, what)| match what {
            What::Certificate { authority, trusts, .. } => Some((authority.clone(), trusts.len())),
            _ => None,
        });
        said.collect()
    };
    let (old, new) = (|n| ("authority 1".to_owned(), n), |n| ("authority 2".to_owned(), n));
    let seen = Seen::of(&format!("{step}\noverlap = \"1500ms\""))?;
    for host in ["server-1", "client-1"] {
        let expected = [old(1), old(2), new(2), new(1)];
        check(phases(&seen, host) == expected, &format!("{host}: {:?}", phases(&seen, host)), &seen)?;
    }
    check(seen.ended() - seen.began() == Duration::from_secs(3), "it did not last for two overlaps", &seen)?;
    check(seen.bites().starts_with("connections with a certificate of the new authority"), "no evidence", &seen)?;
    let seen = Seen::of(step)?;
    check(phases(&seen, "client-1") == [old(1), new(1)], "not at once", &seen)?;
    check(seen.bites().starts_with("connections with a certificate of the new authority"), "no evidence", &seen)
}

/// What every fault of a clock keeps to: monotonic time is not touched, and the history says what the wall clock showed.
fn check_clocks(seen: &Seen) -> Result<(), Failed> {
    let looks = seen.clocks();
    let (first, ..) = looks.first().copied().ok_or("nobody looked at the clocks")?;
    let untouched = looks.iter().all(|(at, _, monotonic)| *monotonic == nanoseconds(*at - first));
    check(untouched && looks.len() > 190, "monotonic time was touched", seen)?;
    let told = WallClocks::of(&seen.history);
    let settings =
        |at: &Duration| seen.history.events.iter().any(|e| e.at == *at && matches!(e.what, What::Clock { .. }));
    let differs = looks.iter().find(|(at, wall, _)| !settings(at) && told.nanoseconds("server-1", *at) != *wall);
    check(differs.is_none(), "the history tells of another clock", seen)
}

fn a_clock_skew_is_a_constant_and_is_lifted() -> Result<(), Failed> {
    let seen = Seen::of("action = \"clock-skew\"\non = \"server-1\"\noffset = \"-90s\"\nat = \"3s\"\nfor = \"2s\"")?;
    check_clocks(&seen)?;
    let (began, ended) = (seen.began(), seen.ended());
    let all = |from, to, wrong: i128| seen.wrong_by(from, to).iter().all(|(_, by)| *by == wrong);
    check(all(Duration::ZERO, began, 0), "wrong before it began", &seen)?;
    check(all(began + IN_FLIGHT, ended, -90_000_000_000), "not wrong by 90 s", &seen)?;
    check(all(ended + IN_FLIGHT, Duration::MAX, 0), "not lifted", &seen)?;
    let read = seen.wrong_by(began, ended).len();
    check(read > 30, "nobody looked", &seen)?;
    let evidence = format!("{read} readings of a wall clock that was up to -90000 ms wrong");
    check(seen.evidence() == evidence, "other evidence", &seen)
}

fn a_clock_drifts_at_its_rate_from_its_offset() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"clock-drift\"\non = \"servers\"\noffset = \"+75s\"\ndrift = \"+200ppm\"\nat = \"3s\"\nfor = \"4s\"",
    )?;
    check_clocks(&seen)?;
    let (began, ended) = (seen.began(), seen.ended());
    let drifted = |(at, by): &(Duration, i128)| *by == 75_000_000_000 + nanoseconds(*at - began) * 200 / 1_000_000;
    let during = seen.wrong_by(began + IN_FLIGHT, ended);
    check(during.len() > 60 && during.iter().all(drifted), "another rate or offset", &seen)?;
    check(seen.wrong_by(ended + IN_FLIGHT, Duration::MAX).iter().all(|(_, by)| *by == 0), "not lifted", &seen)?;
    check(seen.evidence().ends_with("up to +75000 ms wrong"), "no evidence", &seen)
}

fn a_drift_that_nobody_could_notice_leaves_no_evidence() -> Result<(), Failed> {
    let seen = Seen::of("action = \"clock-drift\"\non = \"servers\"\ndrift = \"-100ppm\"\nat = \"3s\"\nfor = \"4s\"")?;
    check_clocks(&seen)?;
    let worst = seen.wrong_by(seen.began(), seen.ended()).iter().map(|(_, by)| *by).min().unwrap_or_default();
    check((-400_000..-380_000).contains(&worst), "another rate", &seen)?;
    check(seen.evidence().is_empty(), "evidence of less than a millisecond", &seen)
}

fn jumps_add_up_and_each_is_lifted_alone() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"clock-jump\"\non = \"server-1\"\nby = \"-1h\"\nat = \"3s\"\nfor = \"4s\"\n\
         [[step]]\nname = \"forward\"\naction = \"clock-jump\"\non = \"server-1\"\nby = \"+10s\"\nat = \"4s\"\nfor = \"1s\"",
    )?;
    check_clocks(&seen)?;
    let ((began, ended), (forward, back)) = (seen.span("it"), seen.span("forward"));
    for (from, to, wrong) in [
        (Duration::ZERO, began, 0),
        (began, forward, -3_600_000_000_000_i128),
        (forward, back, -3_590_000_000_000),
        (back, ended, -3_600_000_000_000),
        (ended, Duration::MAX, 0),
    ] {
        let from = if from.is_zero() { from } else { from + IN_FLIGHT };
        let found = seen.wrong_by(from, to);
        check(!found.is_empty() && found.iter().all(|(_, by)| *by == wrong), &format!("not {wrong}"), &seen)?;
    }
    check(seen.evidence().ends_with("up to -3600000 ms wrong"), "no evidence", &seen)
}

fn a_slow_reader_reads_so_many_bytes_a_second() -> Result<(), Failed> {
    let seen = Seen::of("action = \"slow-reader\"\non = \"server-1\"\nbytes = \"1KiB\"\nat = \"3s\"\nfor = \"4s\"")?;
    let (began, ended) = (seen.began(), seen.ended());
    // Lines of 257 bytes each, 20 a second; four seconds have room for 15.9 of them.
    let arrived = seen.arrived(began + IN_FLIGHT, ended).len();
    check((14..=17).contains(&arrived), &format!("{arrived} entries came instead of 16"), &seen)?;
    check(seen.arrived(ended, ended + Duration::from_secs(1)).len() > 30, "not at full speed again", &seen)?;
    let all = seen.arrived(Duration::ZERO, Duration::MAX);
    check(all.is_sorted() && all.len() > 190, "not everything came, or not in order", &seen)?;
    check(seen.count("connected") == 1, "the connection did not survive", &seen)?;
    let waited = seen.evidence();
    let waited = waited.split_once(" bytes waited for the reader").and_then(|(bytes, _)| bytes.parse().ok());
    // The first tenth of a second's worth of each line comes at once, and the other 155 bytes wait.
    check(waited.is_some_and(|bytes: u64| (14 * 155..=17 * 155).contains(&bytes)), "other evidence", &seen)
}

fn a_surge_offers_more_on_top_and_numbers_stay_dense() -> Result<(), Failed> {
    let seen = Seen::of("action = \"surge\"\nappends = \"40/s\"\nat = \"3s\"\nfor = \"2s\"")?;
    let (began, ended) = (seen.began(), seen.ended());
    let count = |from, to| seen.submitted(from, to).len();
    check((118..=122).contains(&count(began, ended)), "not 60 a second while it lasts", &seen)?;
    let second = Duration::from_secs(1);
    check((19..=21).contains(&count(began - second, began)), "more before it began", &seen)?;
    check((19..=21).contains(&count(ended + IN_FLIGHT, ended + IN_FLIGHT + second)), "more after it ended", &seen)?;
    let all = seen.submitted(Duration::ZERO, Duration::MAX);
    check(all.iter().copied().eq(0..all.len() as u64), "a number is missing or doubled", &seen)?;
    let offered = seen.evidence();
    let offered = offered.strip_suffix(" appends offered on top").and_then(|n| n.parse::<u64>().ok());
    check(offered.is_some_and(|n| (79..=81).contains(&n)), "other evidence", &seen)
}

fn memory_pressure_shrinks_the_budget_while_the_program_runs() -> Result<(), Failed> {
    let seen =
        Seen::of("action = \"memory-pressure\"\non = \"servers\"\nbudget = \"1MiB\"\nat = \"3s\"\nfor = \"2s\"")?;
    let budgets: Vec<(Duration, &str)> =
        seen.marks().filter_map(|(at, mark)| Some((at, mark.strip_prefix("budget ")?))).collect();
    let values: Vec<&str> = budgets.iter().map(|(_, bytes)| *bytes).collect();
    check(values == ["67108864", "1048576", "67108864"], "other budgets", &seen)?;
    let (began, ended) = (seen.began(), seen.ended());
    let prompt = |at: Duration, since: Duration| at >= since && at < since + IN_FLIGHT;
    check(prompt(budgets[1].0, began) && prompt(budgets[2].0, ended), "not at once", &seen)?;
    let told = seen.history.events.iter().filter(|event| &*event.host == "server-1");
    let told: Vec<u64> = told
        .filter_map(|event| match event.what {
            What::Memory { budget } => Some(budget),
            _ => None,
        })
        .collect();
    check(told == [64 << 20, 1 << 20, 64 << 20], "the history tells of other budgets", &seen)?;
    // The toy tells nothing of its memory: no more can be known than that it was told.
    check(seen.evidence() == "server-1 was told of its budget", "other evidence", &seen)
}

fn an_upgrade_stops_and_starts_at_the_revision() -> Result<(), Failed> {
    let seen = Seen::of("action = \"upgrade\"\non = \"server-1\"\nto = \"next\"\nat = \"3s\"")?;
    check(seen.revisions("server") == ["current", "next"], "the software was told otherwise", &seen)?;
    check(seen.runs("server-1") == ["current", "next"], "the history says otherwise", &seen)?;
    check(seen.revisions("client") == ["current"], "another host was touched", &seen)?;
    check(seen.count("stops by itself") == 1, "it was not asked", &seen)?;
    check(seen.evidence() == "server-1 stopped by itself; server-1 serves at `next`", "wrong evidence", &seen)?;
    check(seen.count("found 0 bytes") == 1, "the disk was not kept", &seen)?;
    check(seen.acked(seen.ended(), Duration::MAX) > 50, "it did not come back", &seen)
}

fn an_upgraded_host_keeps_its_revision_over_a_crash() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"upgrade\"\non = \"clients\"\nto = \"previous\"\nat = \"2s\"\n\
         [[step]]\naction = \"crash\"\non = \"clients\"\nat = \"6s\"\nfor = \"1s\"",
    )?;
    check(seen.revisions("client") == ["current", "previous", "previous"], "it forgot", &seen)?;
    check(seen.revisions("server") == ["current"], "another host was touched", &seen)?;
    check(seen.evidence().contains("client-1 serves at `previous`"), "no evidence", &seen)
}

fn a_host_that_is_down_at_its_turn_comes_up_upgraded() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"upgrade\"\non = \"server-1\"\nto = \"next\"\nat = \"4s\"\n\
         [[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"3s\"\nfor = \"3s\"",
    )?;
    check(seen.revisions("server") == ["current", "next"], "not upgraded, or started twice", &seen)?;
    check(seen.count("stops by itself") == 0, "it was down and was asked to stop", &seen)?;
    check(
        seen.arrived(seen.began(), seen.began() + Duration::from_millis(1900)).is_empty(),
        "it came up early",
        &seen,
    )?;
    check(seen.evidence() == "server-1 serves at `next`", "wrong evidence", &seen)
}

fn a_host_that_is_down_until_the_heal_is_upgraded_by_it() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"upgrade\"\non = \"server-1\"\nto = \"next\"\nat = \"4s\"\n\
         [[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"3s\"",
    )?;
    check(seen.revisions("server") == ["current", "next"], "not upgraded", &seen)?;
    check(seen.evidence() == "server-1 serves at `next`", "wrong evidence", &seen)
}

fn a_rolling_upgrade_goes_from_host_to_host() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"rolling-upgrade\"\non = [\"servers\", \"clients\"]\nto = \"next\"\npause = \"2s\"\nat = \"2s\"",
    )?;
    check(seen.revisions("server") == ["current", "next"], "the server's revision", &seen)?;
    check(seen.revisions("client") == ["current", "next"], "the client's revision", &seen)?;
    let first = seen.step_event(|event| matches!(event, StepEvent::Nth { n: 1 })).unwrap_or_default();
    let second = seen.step_event(|event| matches!(event, StepEvent::Nth { n: 2 })).unwrap_or_default();
    let stopped = |host: &str| {
        let down = |what: &What| matches!(what, What::Down { .. });
        let event = seen.history.events.iter().find(|event| &*event.host == host && down(&event.what));
        event.map(|event| event.at).unwrap_or_default()
    };
    check(first > stopped("server-1"), "the first one was counted before it served", &seen)?;
    check(stopped("client-1") >= first + Duration::from_secs(2), "the pause was not kept", &seen)?;
    check(second > stopped("client-1") && seen.ended() >= second, "the end came too early", &seen)?;
    check(seen.evidence().ends_with("client-1 serves at `next`"), "wrong evidence", &seen)
}

fn a_rollback_goes_back_by_one() -> Result<(), Failed> {
    let seen = Seen::of(
        "action = \"rollback\"\non = [\"servers\", \"clients\"]\nat = \"6s\"\n\
         [[step]]\naction = \"upgrade\"\non = \"server-1\"\nto = \"next\"\nat = \"2s\"",
    )?;
    check(seen.revisions("server") == ["current", "next", "current"], "the server's revision", &seen)?;
    check(seen.revisions("client") == ["current", "current"], "what was never upgraded is restarted as it is", &seen)?;
    check(seen.evidence().contains("server-1 serves at `current`"), "no evidence", &seen)
}

fn a_revision_that_the_log_does_not_have_is_refused() -> Result<(), Failed> {
    let step = "action = \"upgrade\"\non = \"server-1\"\nto = \"breaking\"\nat = \"3s\"";
    let Err(refused) = Seen::of(step) else { return Err("it ran".into()) };
    let said = refused.message().unwrap_or_default().to_owned();
    match said.contains("step `it` cannot be performed: this log has no revision `breaking`, only `previous`") {
        true => Ok(()),
        false => Err(said.into()),
    }
}

fn one_seed_is_one_run() -> Result<(), Failed> {
    let step = "action = \"power-loss\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"";
    let (first, second, other) = (Seen::under(7, step)?, Seen::under(7, step)?, Seen::under(8, step)?);
    check(first.history == second.history && first.hash == second.hash, "one seed, two runs", &first)?;
    check(first.hash != other.hash, "two seeds, one run", &first)
}

fn main() -> ExitCode {
    explore::become_worker_if_asked(|| Toy);
    type Test = fn() -> Result<(), Failed>;
    let tests: &[(&str, Test)] = &[
        (
            "a_partition_stalls_and_then_everything_flows_in_order",
            a_partition_stalls_and_then_everything_flows_in_order,
        ),
        ("a_one_way_partition_leaves_the_other_way_alone", a_one_way_partition_leaves_the_other_way_alone),
        (
            "a_blackhole_swallows_and_the_connection_is_dead_afterwards",
            a_blackhole_swallows_and_the_connection_is_dead_afterwards,
        ),
        ("refuse_stops_new_connections_only", refuse_stops_new_connections_only),
        ("isolate_cuts_from_everybody", isolate_cuts_from_everybody),
        ("a_reset_is_seen_at_both_ends", a_reset_is_seen_at_both_ends),
        ("latency_is_added_and_order_kept", latency_is_added_and_order_kept),
        ("a_crash_is_told_to_peers_and_keeps_the_page_cache", a_crash_is_told_to_peers_and_keeps_the_page_cache),
        ("a_power_loss_tells_nobody_and_keeps_what_was_synced", a_power_loss_tells_nobody_and_keeps_what_was_synced),
        ("a_restart_asks_first", a_restart_asks_first),
        ("churn_crashes_again_and_again", churn_crashes_again_and_again),
        ("a_pause_stands_still_and_then_goes_on", a_pause_stands_still_and_then_goes_on),
        ("a_bit_flips_in_a_reply", a_bit_flips_in_a_reply),
        (
            "a_certificate_ends_at_the_moment_of_its_step_and_nothing_is_swapped",
            a_certificate_ends_at_the_moment_of_its_step_and_nothing_is_swapped,
        ),
        (
            "a_certificate_that_ends_after_a_moment_is_installed_at_that_moment",
            a_certificate_that_ends_after_a_moment_is_installed_at_that_moment,
        ),
        ("a_fresh_certificate_is_valid_from_its_moment_on", a_fresh_certificate_is_valid_from_its_moment_on),
        (
            "a_wrong_certificate_is_wrong_in_its_way_until_the_step_ends",
            a_wrong_certificate_is_wrong_in_its_way_until_the_step_ends,
        ),
        ("an_authority_is_replaced_in_three_phases_or_at_once", an_authority_is_replaced_in_three_phases_or_at_once),
        ("a_clock_skew_is_a_constant_and_is_lifted", a_clock_skew_is_a_constant_and_is_lifted),
        ("a_clock_drifts_at_its_rate_from_its_offset", a_clock_drifts_at_its_rate_from_its_offset),
        ("a_drift_that_nobody_could_notice_leaves_no_evidence", a_drift_that_nobody_could_notice_leaves_no_evidence),
        ("jumps_add_up_and_each_is_lifted_alone", jumps_add_up_and_each_is_lifted_alone),
        ("a_slow_reader_reads_so_many_bytes_a_second", a_slow_reader_reads_so_many_bytes_a_second),
        ("a_surge_offers_more_on_top_and_numbers_stay_dense", a_surge_offers_more_on_top_and_numbers_stay_dense),
        (
            "memory_pressure_shrinks_the_budget_while_the_program_runs",
            memory_pressure_shrinks_the_budget_while_the_program_runs,
        ),
        ("an_upgrade_stops_and_starts_at_the_revision", an_upgrade_stops_and_starts_at_the_revision),
        ("an_upgraded_host_keeps_its_revision_over_a_crash", an_upgraded_host_keeps_its_revision_over_a_crash),
        ("a_host_that_is_down_at_its_turn_comes_up_upgraded", a_host_that_is_down_at_its_turn_comes_up_upgraded),
        ("a_host_that_is_down_until_the_heal_is_upgraded_by_it", a_host_that_is_down_until_the_heal_is_upgraded_by_it),
        ("a_rolling_upgrade_goes_from_host_to_host", a_rolling_upgrade_goes_from_host_to_host),
        ("a_rollback_goes_back_by_one", a_rollback_goes_back_by_one),
        ("a_revision_that_the_log_does_not_have_is_refused", a_revision_that_the_log_does_not_have_is_refused),
        ("one_seed_is_one_run", one_seed_is_one_run),
    ];
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, *test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
