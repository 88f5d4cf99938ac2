//! The judge against logs that each have just one flaw: every one must be accused of what is wrong with it, with its
//! cause, and the sound one of nothing.

#[path = "toy/run.rs"]
mod run;

use std::{
    collections::BTreeSet,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gapless::{
    check::{Verdict, Violation},
    explore::{self, RunRequest},
    history::{self, Name, What},
    report::{Palette, RunSummary, terminal},
    system::{Client, Entry, Failure, Findings, Host, Invariant, Outcome, Peer, Promises, System},
    world::{File, LogEvent, OpenMode, Stream},
};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{sleep, timeout},
};

use run::{POWER_LOSS, says};

gapless::define_seam!();

/// What is wrong with the log. A run says so by the number of its clients, the one thing that reaches a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Waits at its end for clients that never go away.
    NeverStops,
    /// Records again what a client sends again.
    Repeats,
    /// Ends with an error at its twentieth entry.
    EndsByItself,
    /// Takes what a power loss left half written for corrupt, and does not start.
    TakesTornForCorrupt,
    /// Never syncs the folder in which its file stands.
    ForgetsItsFolder,
    /// Shows readers what is in the page cache only, and syncs now and then.
    ShowsTheUnsynced,
    /// Goes on after a sync that failed.
    IgnoresFailedSyncs,
    /// Binds its address twice.
    ListensTwice,
    /// Tells of corruption that is none.
    CriesWolf,
    /// All servers but the first show its newest entry long after it does.
    CatchesUpLate,
}

const FLAWS: [Flaw; 11] = [
    Flaw::None,
    Flaw::NeverStops,
    Flaw::Repeats,
    Flaw::EndsByItself,
    Flaw::TakesTornForCorrupt,
    Flaw::ForgetsItsFolder,
    Flaw::ShowsTheUnsynced,
    Flaw::IgnoresFailedSyncs,
    Flaw::ListensTwice,
    Flaw::CriesWolf,
    Flaw::CatchesUpLate,
];

/// Until so long after the beginning of the run, one does that catches up late.
const LATE: Duration = Duration::from_secs(45);

/// A log over bare TCP, a line per entry: synced before it is answered and before it is shown, each once.
struct Toy(Flaw);

struct Caller {
    host: Host,
    /// How often it sends an entry before it gives up.
    tries: u32,
    line: tokio::sync::Mutex<Option<BufReader<Box<dyn Stream>>>>,
}

/// What the connections of one life of the server share.
struct Shared {
    flaw: Flaw,
    host: Host,
    file: Arc<dyn File>,
    /// Entries that the file holds.
    known: Mutex<BTreeSet<String>>,
    /// Bytes of the file that are synced.
    synced: AtomicU64,
    open: AtomicUsize,
    since: tokio::time::Instant,
    fatal: tokio::sync::Notify,
}

/// How often a log syncs that does not do so for each entry.
const SYNC_EVERY_MS: u64 = 200;

const ANSWER_MAX: Duration = Duration::from_secs(2);

impl System for Toy {
    type Client = Caller;

    fn promises(&self) -> Promises {
        Promises::of_an_append_only_log().without(Invariant::NoGaps, "clients append concurrently, without numbers")
    }

    fn prepare(&mut self, _servers: &[Name], clients: &[Name]) -> Result<(), Failure> {
        self.0 = FLAWS[clients.len() - 1];
        Ok(())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let (shared, mut listener) =
            (start(self.0, &host).await?, host.world().net.listen(host.listen_address()).await?);
        if self.0 == Flaw::ListensTwice {
            host.world().net.listen(host.listen_address()).await?;
        }
        let mut stop = Box::pin(host.stop_requested());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = shared.fatal.notified() => return Err("entry twenty is one too many".into()),
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        shared.open.fetch_add(1, Ordering::Relaxed);
                        let _ = talk(&shared, stream).await;
                        shared.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        }
        while self.0 == Flaw::NeverStops && shared.open.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        // What somebody waits for at this moment; a machine that stands still does it later.
        _ = shared.file.sync().await;
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<Caller, Failure> {
        // Where an entry that was shown is to be missed, nobody sends it again.
        let tries = if self.0 == Flaw::ShowsTheUnsynced { 1 } else { 20 };
        Ok(Caller { host, tries, line: tokio::sync::Mutex::new(None) })
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        let first = &auditor.servers()[0];
        let lines = run::lines(&auditor, if self.0 == Flaw::CatchesUpLate { first } else { server }).await?;
        let began = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let is_late = server.name() != first.name() && SystemTime::now() < began + LATE;
        let shown = lines.len() - usize::from(is_late && !lines.is_empty());
        (0..).zip(&lines[..shown]).for_each(|(position, line)| found.entry(position, line.clone()));
        Ok(())
    }
}

/// Opens the file, cuts off what a power loss left half written, and reads the rest.
async fn start(flaw: Flaw, host: &Host) -> Result<Arc<Shared>, Failure> {
    let disk = &host.world().disk;
    let file = disk.open(Path::new("log"), OpenMode::Create).await?;
    if flaw != Flaw::ForgetsItsFolder {
        disk.sync_folder(Path::new("")).await?;
    }
    let bytes = file.read_at(0, usize::MAX / 2).await?;
    let whole = |line: &&[u8]| line.ends_with(b"\n") && line.starts_with(b"gapless:") && !line.contains(&0);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').take_while(whole).collect();
    let len = lines.iter().map(|line| line.len() as u64).sum();
    if len < bytes.len() as u64 {
        if flaw == Flaw::TakesTornForCorrupt {
            return Err(format!("log: line {} is corrupt, restore it from a backup", lines.len()).into());
        }
        file.truncate(len).await?;
        file.sync().await?;
    }
    if flaw == Flaw::CriesWolf {
        let (file, what) = ("log".to_owned(), "a checksum does not hold".to_owned());
        host.world().observer.see(LogEvent::CorruptionFound { file, offset: 0, what });
    }
    let known = Mutex::new(lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect());
    let (synced, open, fatal) = (AtomicU64::new(len), AtomicUsize::new(0), tokio::sync::Notify::new());
    Ok(Arc::new(Shared {
        flaw,
        host: host.clone(),
        file,
        known,
        synced,
        open,
        since: tokio::time::Instant::now(),
        fatal,
    }))
}

/// One connection of the server.
async fn talk(shared: &Shared, stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line == "READ\n" {
            let shown = match shared.flaw {
                Flaw::ShowsTheUnsynced => usize::MAX / 2,
                _ => usize::try_from(shared.synced.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            };
            stream.write_all(&shared.file.read_at(0, shown).await?).await?;
            stream.write_all(b"END\n").await?;
            continue;
        }
        append(shared, line).await?;
        stream.write_all(b"ok\n").await?;
    }
}

async fn append(shared: &Shared, line: String) -> std::io::Result<()> {
    let known = {
        let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.insert(line.clone());
        if shared.flaw == Flaw::EndsByItself && known.len() == 20 {
            shared.fatal.notify_one();
        }
        known.len() == before
    };
    if !known || shared.flaw == Flaw::Repeats {
        let len = line.len() as u64;
        let end = shared.file.append(line.into()).await? + len;
        if matches!(shared.flaw, Flaw::ShowsTheUnsynced | Flaw::TakesTornForCorrupt) {
            let into = shared.since.elapsed().as_millis() as u64 % SYNC_EVERY_MS;
            sleep(Duration::from_millis(SYNC_EVERY_MS - into)).await;
        }
        match shared.file.sync().await {
            Err(error) if shared.flaw != Flaw::IgnoresFailedSyncs => return Err(error),
            _ => _ = shared.synced.fetch_max(end, Ordering::Relaxed),
        }
        if shared.flaw == Flaw::Repeats {
            // Its replica in another town is told before the client is.
            sleep(Duration::from_millis(40)).await;
        }
    } else {
        shared.file.sync().await?; // the first attempt may not have come so far
    }
    shared.host.mark("answered");
    Ok(())
}

impl Client for Caller {
    /// Sends again until it is answered, as clients do.
    async fn append(&self, entry: &Entry) -> Outcome {
        let mut line = self.line.lock().await;
        for _ in 0..self.tries {
            if let Ok(Ok(reply)) = timeout(ANSWER_MAX, self.call(&mut line, entry)).await
                && reply == "ok\n"
            {
                return Outcome::acked(None);
            }
            *line = None;
            sleep(Duration::from_millis(100)).await;
        }
        Outcome::unknown("no answer")
    }
}

impl Caller {
    async fn call(&self, line: &mut Option<BufReader<Box<dyn Stream>>>, entry: &Entry) -> std::io::Result<String> {
        if line.is_none() {
            let address = self.host.servers()[0].address();
            *line = Some(BufReader::new(self.host.world().net.connect(&address).await?));
        }
        let stream = line.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        stream.write_all(&[entry.bytes().as_ref(), b"\n"].concat()).await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        Ok(reply)
    }
}

// ---- the runs ----

fn judged(flaw: Flaw, seed: u64, steps: &str) -> Result<(RunSummary, String), Failed> {
    run::judged(&run::request(scenario(flaw, "10s", steps), seed))
}

fn scenario(flaw: Flaw, length: &str, steps: &str) -> String {
    let clients = FLAWS.iter().position(|it| *it == flaw).map_or(1, |at| at + 1);
    let servers = if flaw == Flaw::CatchesUpLate { 3 } else { 1 };
    format!(
        "title = \"toy\"\n[cluster]\nservers = {servers}\n[workload]\nclients = {clients}\nappends = \"40/s\"\nfor = \"{length}\"\n{steps}\n"
    )
}

/// The first violation of an invariant; an error where there is none.
fn violation(flaw: Flaw, seed: u64, steps: &str, invariant: Invariant) -> Result<(Violation, String), Failed> {
    let (summary, screen) = judged(flaw, seed, steps)?;
    let found = summary.judgement.violated().find(|(violated, _)| *violated == invariant);
    let Some((_, violations)) = found else {
        return Err(format!("{invariant} is not violated:\n{}{screen}", terminal::row(&summary, Palette::Plain)).into());
    };
    Ok((violations[0].clone(), screen))
}

/// The sentence and the cause.
fn told(violation: &Violation) -> String {
    format!("{}\nwhy: {}", violation.summary, violation.why.as_deref().unwrap_or("nobody knows"))
}

const RESTART: &str = "[[step]]\nname = \"deploy\"\naction = \"restart\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"";
const CRASH: &str = "[[step]]\naction = \"crash\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"";

fn a_sound_log_is_accused_of_nothing() -> Result<(), Failed> {
    for steps in [RESTART, CRASH, POWER_LOSS] {
        for seed in 0..3 {
            let (summary, screen) = judged(Flaw::None, seed, steps)?;
            if summary.judgement.verdict != Verdict::Holds {
                return Err(format!("{screen}{}", terminal::row(&summary, Palette::Plain)).into());
            }
        }
    }
    Ok(())
}

fn a_server_that_does_not_stop_when_it_is_asked_is_violated_and_its_death_is_no_evidence() -> Result<(), Failed> {
    let (violation, screen) = violation(Flaw::NeverStops, 1, RESTART, Invariant::StopsWhenAsked)?;
    says(&told(&violation), &["server-1 was asked to stop at ", "still ran 30.0s later", "still connected to it"])?;
    says(&screen, &["stops-when-asked", "did NOT stop when asked, killed"])?;
    let (summary, _) = judged(Flaw::NeverStops, 1, RESTART)?;
    if summary.judgement.facts.faults_bit != (0, 1) {
        return Err(format!("the kill counts as a restart: {:?}", summary.judgement.facts).into());
    }
    Ok(())
}

/// It stands still for longer than it may take to stop, and stops as soon as it can.
fn a_server_that_stands_still_has_its_time_to_stop_afterwards() -> Result<(), Failed> {
    let paused = format!("[[step]]\naction = \"pause\"\non = \"server-1\"\nat = \"2s\"\nfor = \"40s\"\n{RESTART}");
    let (summary, screen) = run::judged(&run::request(scenario(Flaw::None, "50s", &paused), 1))?;
    match summary.judgement.verdict {
        Verdict::Holds => Ok(()),
        _ => Err(format!("{screen}{}", terminal::row(&summary, Palette::Plain)).into()),
    }
}

fn an_entry_that_is_recorded_twice_is_violated_though_the_log_promises_no_order() -> Result<(), Failed> {
    let (violation, screen) = violation(Flaw::Repeats, 1, CRASH, Invariant::AtMostOnce)?;
    says(&told(&violation), &["was recorded twice, at ", "server-1 crashed at ", "between its submission at "])?;
    says(&screen, &["no-gaps: clients append concurrently"])
}

fn a_server_that_ends_by_itself_is_violated_with_its_error() -> Result<(), Failed> {
    let (violation, _) = violation(Flaw::EndsByItself, 1, "", Invariant::StaysUp)?;
    says(&told(&violation), &["server-1 ended by itself at ", "entry twenty is one too many"])
}

fn a_server_that_cannot_start_after_a_power_loss_is_told_whole_with_what_it_lost() -> Result<(), Failed> {
    let mut seen = 0;
    for seed in 0..12 {
        // Not every power loss tears something.
        let Ok((violation, screen)) = violation(Flaw::TakesTornForCorrupt, seed, POWER_LOSS, Invariant::StaysUp) else {
            continue;
        };
        seen += 1;
        let told = told(&violation);
        says(
            &told,
            &[
                "is corrupt, restore it from a backup. It happened ",
                "times in all",
                "why: it had lost ",
                "of `log` at ",
            ],
        )?;
        says(&screen, &["restore it from a backup"])?;
        let (summary, _) = judged(Flaw::TakesTornForCorrupt, seed, POWER_LOSS)?;
        let recovers = summary.judgement.violated().find(|(invariant, _)| *invariant == Invariant::Recovers);
        let why = recovers.and_then(|(_, all)| all[0].why.clone()).ok_or("it recovers, or nobody knows why not")?;
        says(
            &why,
            &["server-1 failed to start ", " times from ", "is corrupt, restore it from a backup; it had lost "],
        )?;
    }
    if seen == 0 { Err("no power loss tore anything".into()) } else { Ok(()) }
}

/// How long a log may take to be whole everywhere is for its scenario to say.
fn a_server_that_is_behind_at_the_end_has_as_long_as_the_log_may_take_to_recover() -> Result<(), Failed> {
    let within = |time: &str| format!("{CRASH}\n[expect]\nrecovers-within = \"{time}\"");
    let (summary, screen) = judged(Flaw::CatchesUpLate, 1, &within("60s"))?;
    if summary.judgement.verdict != Verdict::Holds {
        return Err(format!("{screen}{}", terminal::row(&summary, Palette::Plain)).into());
    }
    let (violation, _) = violation(Flaw::CatchesUpLate, 1, &within("20s"), Invariant::Recovers)?;
    says(&told(&violation), &["at the end 1 server shows it at "])
}

/// Whatever no step is about is met only by readings at other times in every run.
fn readings_now_and_then_come_when_the_seed_draws_them() -> Result<(), Failed> {
    let kept = tempfile::NamedTempFile::new()?;
    let mut pauses = BTreeSet::new();
    for seed in 0..3 {
        let history = Some(kept.path().to_owned());
        run::judged(&RunRequest { history, ..run::request(scenario(Flaw::None, "60s", ""), seed) })?;
        let history = history::read(kept.path()).map_err(|error| error.to_string())?;
        let began = history.events.iter().filter(|event| matches!(event.what, What::ReadingBegan { last: false, .. }));
        let began: Vec<Duration> = began.map(|event| event.at).collect();
        pauses.extend(began.windows(2).map(|two| (two[1] - two[0]).as_millis()));
    }
    // Half of a quarter of the run at least, and one and a half at most.
    let (shortest, longest) = (pauses.first().copied().unwrap_or(0), pauses.last().copied().unwrap_or(0));
    if shortest < 7_500 || longest > 22_600 || longest < shortest + 3_000 || pauses.len() < 6 {
        return Err(format!("from one reading to the next {pauses:?} ms").into());
    }
    Ok(())
}

/// It takes a reading between the last sync and a power loss. Nothing here aims at it.
fn what_is_shown_before_it_is_synced_is_caught_by_readings_around_the_fault() -> Result<(), Failed> {
    let mut caught = 0;
    // Half-way between two syncs: at a whole second it would come just after one.
    let power_loss = POWER_LOSS.replace("at = \"3s\"", "at = \"3110ms\"");
    for seed in 0..12 {
        let (summary, _) = judged(Flaw::ShowsTheUnsynced, seed, &power_loss)?;
        let vanished = summary.judgement.violated().find(|(invariant, _)| *invariant == Invariant::NoPhantoms);
        let Some((_, violations)) = vanished else { continue };
        caught += 1;
        let part = "was not synced then";
        says(&told(&violations[0]), &["was found at position ", "the reading of server-1", "server-1 lost ", part])?;
    }
    if caught >= 3 { Ok(()) } else { Err(format!("caught under {caught} of 12 seeds").into()) }
}

fn a_name_that_was_lost_is_told_as_a_name() -> Result<(), Failed> {
    for seed in 0..8 {
        if let Ok((violation, _)) = violation(Flaw::ForgetsItsFolder, seed, POWER_LOSS, Invariant::AckedDurable) {
            return says(
                &told(&violation),
                &["server-1 lost the name `log` and the ", "its folder was not synced since the name was made at 0.0"],
            );
        }
    }
    Err("no power loss took the name".into())
}

fn a_sync_that_failed_and_was_ignored_is_named_with_what_was_lost_with_it() -> Result<(), Failed> {
    let steps = format!("[[step]]\naction = \"fsync-error\"\non = \"server-1\"\nat = \"2s\"\n{POWER_LOSS}");
    for seed in 0..4 {
        let (violation, _) = violation(Flaw::IgnoresFailedSyncs, seed, &steps, Invariant::AckedDurable)?;
        says(&told(&violation), &["of `log` at ", "what its failed sync at ", "os error 5"])?;
    }
    Ok(())
}

fn an_address_that_is_in_use_is_told_as_that() -> Result<(), Failed> {
    let error = match judged(Flaw::ListensTwice, 1, "") {
        Ok((summary, _)) => return Err(format!("it came up: {}", terminal::row(&summary, Palette::Plain)).into()),
        Err(error) => error.message().unwrap_or_default().to_owned(),
    };
    says(&error, &["server-1 said: ", "0.0.0.0:50051", "address in use"])
}

fn corruption_that_is_told_of_a_sound_disk_is_violated() -> Result<(), Failed> {
    let (violation, _) = violation(Flaw::CriesWolf, 1, "", Invariant::StaysUp)?;
    says(&told(&violation), &["server-1 told of corruption in `log`", "nothing had damaged its disk"])
}

fn main() -> ExitCode {
    explore::become_worker_if_asked(|| Toy(Flaw::None));
    macro_rules! trials {
        ($($test:ident),* $(,)?) => { vec![$(Trial::test(stringify!($test), $test)),*] };
    }
    let trials = trials![
        a_sound_log_is_accused_of_nothing,
        a_server_that_does_not_stop_when_it_is_asked_is_violated_and_its_death_is_no_evidence,
        a_server_that_stands_still_has_its_time_to_stop_afterwards,
        an_entry_that_is_recorded_twice_is_violated_though_the_log_promises_no_order,
        a_server_that_ends_by_itself_is_violated_with_its_error,
        a_server_that_cannot_start_after_a_power_loss_is_told_whole_with_what_it_lost,
        a_server_that_is_behind_at_the_end_has_as_long_as_the_log_may_take_to_recover,
        readings_now_and_then_come_when_the_seed_draws_them,
        what_is_shown_before_it_is_synced_is_caught_by_readings_around_the_fault,
        a_name_that_was_lost_is_told_as_a_name,
        a_sync_that_failed_and_was_ignored_is_named_with_what_was_lost_with_it,
        an_address_that_is_in_use_is_told_as_that,
        corruption_that_is_told_of_a_sound_disk_is_violated,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
