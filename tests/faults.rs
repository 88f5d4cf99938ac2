//! Each fault of the catalogue against a toy, to see its exact semantics: what passes, what waits, what is lost, who is
//! told. The toy is a log over bare TCP, a line per entry, so that nothing between it and the fault hides anything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use gapless::{
    explore::{self, Order, Outcome as Ran, RUN_MAX},
    history::{self, History, Moment, What},
    system::{Client, Entry, Failure, Findings, Host, Outcome, Peer, Promise, Promises, System},
    world::{File, OpenMode, Stream},
};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Mutex,
    time::timeout,
};

gapless::define_seam!();

/// A log over bare TCP. It syncs every entry but those that say `nosync`.
struct Toy;

struct Caller {
    host: Host,
    line: Mutex<Option<BufReader<Box<dyn Stream>>>>,
}

/// An append ends by then.
const PATIENCE: Duration = Duration::from_secs(2);

impl System for Toy {
    type Client = Caller;

    fn promises(&self) -> Promises {
        Promises { kept: vec![Promise::NoPhantoms], declined: Vec::new(), may_repeat: Some("a toy".to_owned()) }
    }

    fn can_suffer(&self, _fault: &str) -> Result<(), std::borrow::Cow<'static, str>> {
        Ok(())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let disk = host.world().disk.clone();
        let file = disk.open(Path::new("log"), OpenMode::Create).await?;
        disk.sync_folder(Path::new("")).await?;
        let kept = file.len().await?;
        host.mark(&format!("found {kept} bytes"));
        let mut listener = host.world().net.listen(host.listen_address()).await?;
        let mut stop = Box::pin(host.stop_requested());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    host.mark("stops by itself");
                    return Ok(());
                }
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    tokio::spawn(talk(host.clone(), file.clone(), stream));
                }
            }
        }
    }

    async fn client(&self, host: Host) -> Result<Caller, Failure> {
        Ok(Caller { host, line: Mutex::new(None) })
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        let mut stream = BufReader::new(auditor.world().net.connect(&server.address()).await?);
        stream.write_all(b"READ\n").await?;
        let mut position = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 || line == "END\n" {
                return Ok(());
            }
            found.entry(position, line.trim_end().as_bytes().to_vec());
            position += 1;
        }
    }
}

/// One connection of the server.
async fn talk(host: Host, file: Arc<dyn File>, stream: Box<dyn Stream>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(0) => return host.mark("server saw the end"),
            Err(error) => return host.mark(&format!("server saw {:?}", error.kind())),
            Ok(_) => {}
        }
        let mut reply = if line == "READ\n" {
            let Ok(bytes) = file.read_at(0, usize::MAX / 2).await else { return };
            [bytes.as_ref(), b"END\n"].concat()
        } else {
            host.mark(&format!("got {}", number(&line)));
            let Ok(offset) = file.append(line.clone().into()).await else { return };
            // Every fourth entry stays in the page cache.
            if number(&line) % 4 != 3 && file.sync().await.is_err() {
                return;
            }
            format!("ok {offset}\n").into_bytes()
        };
        if let Some(filter) = host.reply_filter()
            && !line.starts_with("READ")
        {
            filter(&mut reply);
        }
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

fn number(line: &str) -> u64 {
    let digits = line.split_once('#').map_or("", |(_, rest)| rest);
    digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default()
}

impl Client for Caller {
    async fn append(&self, entry: &Entry) -> Outcome {
        let mut line = self.line.lock().await;
        let result = timeout(PATIENCE, self.call(&mut line, entry)).await;
        match result {
            Ok(Ok(reply)) if reply.starts_with("ok ") => Outcome::Acked { at: None },
            Ok(Ok(reply)) if reply.is_empty() => {
                *line = None;
                self.host.mark("client saw the end");
                Outcome::Unknown { why: "the end".to_owned() }
            }
            Ok(Ok(reply)) => Outcome::Unknown { why: format!("{reply:?} is no answer") },
            Ok(Err(error)) => {
                *line = None;
                self.host.mark(&format!("client saw {:?}", error.kind()));
                Outcome::Unknown { why: error.to_string() }
            }
            Err(_) => {
                self.host.mark("client lost patience");
                *line = None;
                Outcome::Unknown { why: "no answer".to_owned() }
            }
        }
    }
}

impl Caller {
    async fn call(&self, line: &mut Option<BufReader<Box<dyn Stream>>>, entry: &Entry) -> std::io::Result<String> {
        if line.is_none() {
            let address = self.host.servers()[0].address();
            *line = Some(BufReader::new(self.host.world().net.connect(&address).await?));
            self.host.mark("connected");
        }
        let stream = line.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        stream.write_all(entry.bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut reply = Vec::new();
        stream.read_until(b'\n', &mut reply).await?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }
}

// ---- the runs ----

/// What a run of one step showed.
struct Seen {
    history: History,
    hash: String,
}

impl Seen {
    /// Simulates ten seconds of twenty appends a second by one client, with one step.
    fn of(step: &str) -> Result<Self, Failed> {
        Self::under(1, step)
    }

    fn under(seed: u64, step: &str) -> Result<Self, Failed> {
        let text = format!(
            "title = \"toy\"\n[cluster]\nservers = 1\n[workload]\nclients = 1\nappends = \"20/s\"\nfor = \"10s\"\n\
             [[step]]\nname = \"it\"\n{step}\n"
        );
        let name = step.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
        let kept = std::env::temp_dir().join(format!("gapless-faults-{}-{seed}-{name}.jsonl", std::process::id()));
        let order = Order {
            path: PathBuf::from("toy.toml"),
            text,
            seed,
            history: Some(kept.clone()),
            trail: None,
            bare: false,
            colour: false,
            reproduce: String::new(),
        };
        let ran = explore::run(&order, RUN_MAX);
        let history = history::read(&kept);
        let _ = std::fs::remove_file(&kept);
        match ran.map_err(|error| error.to_string())? {
            Ran::Failed { error } => Err(error.into()),
            Ran::Judged { summary, .. } => {
                Ok(Self { history: history.map_err(|error| error.to_string())?, hash: summary.hash })
            }
        }
    }

    fn marks(&self) -> impl Iterator<Item = (Duration, &str)> {
        self.history.events.iter().filter_map(|event| match &event.what {
            What::Marked { mark } => Some((event.at, mark.as_str())),
            _ => None,
        })
    }

    fn count(&self, mark: &str) -> usize {
        self.marks().filter(|(_, said)| *said == mark).count()
    }

    fn moment(&self, wanted: fn(&Moment) -> bool) -> Option<Duration> {
        self.history.events.iter().find_map(|event| match &event.what {
            What::Step { moment, .. } if wanted(moment) => Some(event.at),
            _ => None,
        })
    }

    fn began(&self) -> Duration {
        self.moment(|moment| matches!(moment, Moment::Begins { .. })).unwrap_or_default()
    }

    fn ended(&self) -> Duration {
        self.moment(|moment| matches!(moment, Moment::Ended { .. })).unwrap_or(Duration::MAX)
    }

    fn evidence(&self) -> String {
        let ended = self.history.events.iter().find_map(|event| match &event.what {
            What::Step { step, moment: Moment::Ended { evidence } } if &**step == "it" => evidence.clone(),
            _ => None,
        });
        ended.unwrap_or_default()
    }

    /// Entries that reached the server between two times.
    fn arrived(&self, from: Duration, to: Duration) -> Vec<u64> {
        let got = self.marks().filter(|(at, _)| (from..to).contains(at));
        got.filter_map(|(_, mark)| mark.strip_prefix("got ")?.parse().ok()).collect()
    }

    fn acked(&self, from: Duration, to: Duration) -> usize {
        let acked = |what: &What| matches!(what, What::Returned { outcome: Outcome::Acked { .. }, .. });
        self.history.events.iter().filter(|event| (from..to).contains(&event.at) && acked(&event.what)).count()
    }

    /// Times from an entry's submission to its acknowledgement, for those submitted between two times.
    fn latencies(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let mut sent = BTreeMap::new();
        let mut took = Vec::new();
        for event in &self.history.events {
            match &event.what {
                What::Submitted { entry, .. } => {
                    sent.insert(entry.number, event.at);
                }
                What::Returned { entry, outcome: Outcome::Acked { .. } } => {
                    let at = sent[&entry.number];
                    if (from..to).contains(&at) {
                        took.push(event.at - at);
                    }
                }
                _ => {}
            }
        }
        took
    }
}

/// Bytes that were on their way when a step began may still arrive.
const IN_FLIGHT: Duration = Duration::from_millis(30);

fn check(holds: bool, what: &str, seen: &Seen) -> Result<(), Failed> {
    if holds {
        return Ok(());
    }
    let marks: Vec<String> = seen.marks().map(|(at, mark)| format!("{at:?} {mark}")).collect();
    Err(format!("{what}\nevidence: {}\nmarks:\n{}", seen.evidence(), marks.join("\n")).into())
}

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
    let found: Vec<u64> = seen
        .history
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Found { found, .. } => found.entry.as_ref().map(|entry| entry.number),
            _ => None,
        })
        .collect();
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
        ("one_seed_is_one_run", one_seed_is_one_run),
    ];
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, *test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
