//! The harness against logs that deserve it: one that loses what it acknowledged, one that panics, one that starts
//! threads, one that blocks, one that never yields. Each must be found out, and told in a way that leads to the place.

#[path = "toy/run.rs"]
mod run;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use gapless::{
    check::{Finding, Verdict},
    explore::{self, RUN_MAX, RunOutcome, RunRequest, Scratch},
    history::{Name, What},
    report::RunSummary,
    system::{Client, Entry, Failure, Findings, Host, Invariant, Outcome, Peer, Promises, System},
    world::{File, OpenMode, Stream},
};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use run::{POWER_LOSS, says};

gapless::define_seam!();

/// What is wrong with the log. A run says so by the number of its clients, the one thing that reaches a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Acknowledges what is in the page cache only.
    Forgets,
    Panics,
    StartsAThread,
    BlocksATask,
    NeverYields,
    Exits,
    WritesAFile,
    OpensASocket,
    RenamesAFile,
    RemovesAFile,
    MakesAFolder,
    StartsAProcess,
}

const FLAWS: [Flaw; 13] = [
    Flaw::None,
    Flaw::Forgets,
    Flaw::Panics,
    Flaw::StartsAThread,
    Flaw::BlocksATask,
    Flaw::NeverYields,
    Flaw::Exits,
    Flaw::WritesAFile,
    Flaw::OpensASocket,
    Flaw::RenamesAFile,
    Flaw::RemovesAFile,
    Flaw::MakesAFolder,
    Flaw::StartsAProcess,
];

/// A log over bare TCP: a line per entry, a connection per append.
struct Toy(Flaw);

struct Caller(Host);

const PATIENCE: Duration = Duration::from_secs(2);

/// The entry at which a flaw shows.
const FATAL: &str = "#10;";

impl System for Toy {
    type Client = Caller;

    fn promises(&self) -> Promises {
        let declined = vec![(Invariant::Authentic, "a toy signs nothing".to_owned())];
        Promises { kept: vec![Invariant::AckedDurable], declined, may_repeat: None }
    }

    fn prepare(&mut self, _servers: &[Name], clients: &[Name]) -> Result<(), Failure> {
        self.0 = FLAWS[clients.len() - 1];
        Ok(())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let file = host.world().disk.open(Path::new("log"), OpenMode::Create).await?;
        host.world().disk.sync_folder(Path::new("")).await?;
        drop_torn_tail(&*file).await?;
        let mut listener = host.world().net.listen(host.listen_address()).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(talk(self.0, file.clone(), stream));
        }
    }

    async fn client(&self, host: Host) -> Result<Caller, Failure> {
        Ok(Caller(host))
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        run::read_lines(&auditor, server, found).await
    }
}

async fn drop_torn_tail(file: &dyn File) -> std::io::Result<()> {
    let bytes = file.read_at(0, usize::MAX / 2).await?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.truncate(whole as u64).await?;
    file.sync().await
}

/// One connection of the server.
async fn talk(flaw: Flaw, file: Arc<dyn File>, stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line == "READ\n" {
        let bytes = file.read_at(0, usize::MAX / 2).await?;
        stream.write_all(&bytes).await?;
        return stream.write_all(b"END\n").await;
    }
    if line.contains(FATAL) {
        show(flaw).await;
    }
    file.append(line.into()).await?;
    if flaw != Flaw::Forgets {
        file.sync().await?;
    }
    stream.write_all(b"ok\n").await
}

async fn show(flaw: Flaw) {
    match flaw {
        Flaw::None => reads_a_file(),
        Flaw::Forgets => {}
        Flaw::Panics => panic!("entry ten is one too many"),
        Flaw::StartsAThread => spawns_a_thread(),
        Flaw::BlocksATask => blocks_a_task().await,
        Flaw::NeverYields => never_yields(),
        Flaw::Exits => std::process::exit(0),
        Flaw::WritesAFile => writes_a_file(),
        Flaw::OpensASocket => opens_a_socket(),
        Flaw::RenamesAFile => renames_a_file(),
        Flaw::RemovesAFile => removes_a_file(),
        Flaw::MakesAFolder => makes_a_folder(),
        Flaw::StartsAProcess => starts_a_process(),
    }
}

/// Which is let through, also to a device and for a backtrace: the sound log holds all the same.
fn reads_a_file() {
    let own = std::fs::read_to_string(file!()).expect("this file");
    assert!(own.contains("fn reads_a_file"));
    std::fs::write("/dev/null", &own).expect("a device takes everything");
    assert!(!std::backtrace::Backtrace::force_capture().to_string().is_empty());
}

#[inline(never)]
fn writes_a_file() {
    let path = std::env::temp_dir().join(format!("gapless-harness-{}", std::process::id()));
    std::fs::write(&path, b"past the simulation").expect("written");
    std::fs::remove_file(&path).expect("removed");
}

/// Of what is not there: the attempt is enough.
#[inline(never)]
fn renames_a_file() {
    let _ = std::fs::rename("/nowhere/from", "/nowhere/to");
}

#[inline(never)]
fn removes_a_file() {
    let _ = std::fs::remove_file("/nowhere/file");
}

#[inline(never)]
fn makes_a_folder() {
    let _ = std::fs::create_dir("/nowhere/folder");
}

#[inline(never)]
fn starts_a_process() {
    let _ = std::process::Command::new("/nowhere/program").spawn();
}

#[inline(never)]
fn opens_a_socket() {
    drop(std::net::UdpSocket::bind("127.0.0.1:0"));
}

#[inline(never)]
fn spawns_a_thread() {
    let _ = std::thread::spawn(|| {}).join();
}

#[inline(never)]
async fn blocks_a_task() {
    let _ = tokio::task::spawn_blocking(|| {}).await;
}

#[inline(never)]
fn never_yields() {
    let mut n = 0_u64;
    while std::hint::black_box(n) < u64::MAX {
        n = std::hint::black_box(n) | 1;
    }
}

impl Client for Caller {
    async fn append(&self, entry: &Entry) -> Outcome {
        match timeout(PATIENCE, self.call(entry)).await {
            Ok(Ok(reply)) if reply == "ok\n" => Outcome::Acked { at: None },
            Ok(Ok(reply)) => Outcome::Unknown { why: format!("{reply:?} is no answer") },
            Ok(Err(error)) => Outcome::Unknown { why: error.to_string() },
            Err(_) => Outcome::Unknown { why: "no answer".to_owned() },
        }
    }
}

impl Caller {
    async fn call(&self, entry: &Entry) -> std::io::Result<String> {
        let address = self.0.servers()[0].address();
        let mut stream = BufReader::new(self.0.world().net.connect(&address).await?);
        stream.write_all(entry.bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        Ok(reply)
    }
}

// ---- the runs ----

fn request(flaw: Flaw, top: &str, step: &str) -> RunRequest {
    let clients = FLAWS.iter().position(|it| *it == flaw).map_or(1, |at| at + 1);
    let text = format!(
        "title = \"toy\"\n{top}[cluster]\nservers = 1\n[workload]\nclients = {clients}\nappends = \"{}/s\"\nfor = \"10s\"\n{step}\n",
        clients * 10
    );
    let reproduce = "GAPLESS_SEED={seed} cargo test --test harness {scenario}".to_owned();
    RunRequest { reproduce, ..run::request(text, 3) }
}

fn judged(flaw: Flaw, step: &str) -> Result<(RunSummary, String), Failed> {
    run::judged(&request(flaw, "", step))
}

/// What the user is told of a run that came to no end.
fn failed(flaw: Flaw, limit: Duration) -> Result<String, Failed> {
    failed_with(flaw, "", limit)
}

fn failed_with(flaw: Flaw, step: &str, limit: Duration) -> Result<String, Failed> {
    match explore::run(&request(flaw, "", step), limit) {
        Ok(RunOutcome::Failed { error }) => Ok(error),
        Ok(RunOutcome::Judged { summary, .. }) => Err(format!("it was judged: {summary:?}").into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn a_sound_log_holds() -> Result<(), Failed> {
    let (summary, screen) = judged(Flaw::None, POWER_LOSS)?;
    if summary.judgement.verdict == Verdict::Holds && screen.is_empty() {
        return Ok(());
    }
    Err(format!("{screen}{:?}", summary.judgement).into())
}

fn a_log_that_loses_acknowledged_entries_is_violated_and_the_screen_says_which() -> Result<(), Failed> {
    let (summary, screen) = judged(Flaw::Forgets, POWER_LOSS)?;
    let (invariant, violation) = summary.judgement.headline().ok_or("nothing was violated")?;
    if summary.judgement.verdict != Verdict::Violated || invariant != Invariant::AckedDurable {
        return Err(format!("{invariant}: {violation:?}").into());
    }
    let entry = violation.entries.first().ok_or("no entry is named")?;
    says(
        &screen,
        &[
            "VIOLATED",
            "acked-durable",
            "scenarios/toy.toml    seed 3",
            &format!("{} #{}", entry.client, entry.number),
            "✖",
            "a toy signs nothing",
            "GAPLESS_SEED=3 cargo test --test harness toy",
        ],
    )?;
    let widest = screen.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    if widest > 100 || screen.lines().count() > 40 {
        return Err(format!("the screen does not fit a screen:\n{screen}").into());
    }
    Ok(())
}

fn a_step_that_cannot_bite_is_inconclusive_and_says_so() -> Result<(), Failed> {
    // Nobody reads from the second host, so nothing on its link can be refused.
    let step = "[[step]]\nname = \"shut\"\naction = \"refuse\"\nfrom = \"server-1\"\nto = \"client-1\"\nat = \"3s\"\nfor = \"1s\"";
    let (summary, _) = judged(Flaw::None, step)?;
    let judgement = &summary.judgement;
    if judgement.verdict != Verdict::Inconclusive || judgement.facts.faults_bit != (0, 1) {
        return Err(format!("{judgement:?}").into());
    }
    let row = gapless::report::terminal::row(&summary, gapless::report::Palette::Plain);
    let why = "step `shut` left no trace: nobody tried to connect over the link from";
    let cure = "cure: add reset on the same link while the step lasts, so that its ends reconnect";
    says(&row, &["inconclusive", "0 of 1", why, cure, "gapless explain refuse"])
}

/// A violation that is known does not count while it happens, and its absence does.
fn a_known_violation_holds_while_it_happens_and_is_violated_once_it_does_not() -> Result<(), Failed> {
    let known = |invariant: &str| {
        format!("known-violation = {{ invariant = \"{invariant}\", issue = \"https://example.org/7\" }}\n")
    };
    let (summary, screen) = run::judged(&request(Flaw::Forgets, &known("acked-durable"), POWER_LOSS))?;
    let row = gapless::report::terminal::row(&summary, gapless::report::Palette::Plain);
    if summary.judgement.verdict != Verdict::Holds || !screen.is_empty() {
        return Err(format!("a known violation counts:\n{row}").into());
    }
    says(&row, &["holds", "acked-durable: ", "known violation: `acked-durable`", "https://example.org/7"])?;
    let (summary, screen) = run::judged(&request(Flaw::None, &known("acked-durable"), POWER_LOSS))?;
    if summary.judgement.verdict != Verdict::Violated {
        return Err(format!("a cured violation goes unnoticed: {:?}", summary.judgement).into());
    }
    says(&screen, &["the known violation of `acked-durable`", "did not happen: remove"])
}

fn a_log_without_work_is_inconclusive() -> Result<(), Failed> {
    let (summary, _) = judged(Flaw::None, "[expect]\nacked-at-least = 100000")?;
    let idle = summary.judgement.findings.iter().any(|(_, finding)| matches!(finding, Finding::Violated(_)));
    match summary.judgement.verdict {
        Verdict::Holds => Err("a workload that is too thin passed".into()),
        _ if idle => Err(format!("an expectation became a violated promise: {:?}", summary.judgement).into()),
        _ => Ok(()),
    }
}

fn a_panic_in_a_task_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let error = failed(Flaw::Panics, RUN_MAX)?;
    says(&error, &["a task panicked", "entry ten is one too many", "tests/harness.rs:", "of simulated time"])?;
    // What happened until then is kept as of any other run.
    let scratch = Scratch::new()?;
    let request = RunRequest { history: Some(scratch.path()), ..request(Flaw::Panics, "", "") };
    explore::run(&request, RUN_MAX)?;
    let events = gapless::history::read(&scratch.path())?.events;
    match events.iter().any(|event| matches!(event.what, What::Submitted { .. })) {
        true => Ok(()),
        false => Err(format!("{} events, and nobody submitted anything", events.len()).into()),
    }
}

fn a_thread_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let error = failed(Flaw::StartsAThread, RUN_MAX)?;
    says(&error, &["not replayable", "a thread was started", "spawns_a_thread", "tests/harness.rs:"])?;
    noise(&error)
}

fn a_blocking_task_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let error = failed(Flaw::BlocksATask, RUN_MAX)?;
    says(&error, &["not replayable", "a thread was started", "    spawn_blocking at tokio-", "tests/harness.rs:"])?;
    noise(&error)
}

fn a_real_file_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let error = failed(Flaw::WritesAFile, RUN_MAX)?;
    says(&error, &["not replayable", "a real file was opened for writing", "    writes_a_file", "tests/harness.rs:"])?;
    noise(&error)
}

fn what_is_done_to_real_files_or_by_other_processes_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let attempts = [
        (Flaw::RenamesAFile, "a real file was renamed", "renames_a_file"),
        (Flaw::RemovesAFile, "a real file or folder was removed", "removes_a_file"),
        (Flaw::MakesAFolder, "a real folder was made", "makes_a_folder"),
        (Flaw::StartsAProcess, "a process was started", "starts_a_process"),
    ];
    for (flaw, what, place) in attempts {
        let error = failed(flaw, RUN_MAX)?;
        says(&error, &["not replayable", what, place, "tests/harness.rs:"])?;
        noise(&error)?;
    }
    Ok(())
}

fn a_real_socket_fails_the_run_and_names_its_place() -> Result<(), Failed> {
    let error = failed(Flaw::OpensASocket, RUN_MAX)?;
    says(&error, &["not replayable", "a real socket was opened", "    opens_a_socket", "tests/harness.rs:"])?;
    noise(&error)
}

fn a_host_that_never_yields_is_ended_and_the_place_named() -> Result<(), Failed> {
    let error = failed(Flaw::NeverYields, Duration::from_secs(2))?;
    says(&error, &["did not end within 2s", "server-1 never yields, at ", "never_yields", "tests/harness.rs:"])?;
    noise(&error)
}

fn a_run_that_is_only_long_is_ended_too() -> Result<(), Failed> {
    let long = "[[step]]\naction = \"pause\"\non = \"server-1\"\nat = \"1s\"\nfor = \"20h\"";
    let error = failed_with(Flaw::None, long, Duration::from_millis(1500))?;
    says(&error, &["did not end within 1.5s", "it had come to ", "of simulated time"])
}

fn a_process_that_exits_by_itself_is_no_verdict() -> Result<(), Failed> {
    let error = failed(Flaw::Exits, RUN_MAX)?;
    says(&error, &["ended with exit status: 0 and without an outcome"])
}

/// Frames that lead nowhere.
fn noise(error: &str) -> Result<(), Failed> {
    match ["std::", "/library/", "turmoil", "src/seam", "src/sim/", "/registry/", "closure_env"]
        .iter()
        .find(|part| error.contains(**part))
    {
        None => Ok(()),
        Some(part) => Err(format!("`{part}` leads nowhere:\n{error}").into()),
    }
}

fn main() -> ExitCode {
    explore::become_worker_if_asked(|| Toy(Flaw::None));
    macro_rules! trials {
        ($($test:ident),* $(,)?) => { vec![$(Trial::test(stringify!($test), $test)),*] };
    }
    let trials = trials![
        a_sound_log_holds,
        a_log_that_loses_acknowledged_entries_is_violated_and_the_screen_says_which,
        a_step_that_cannot_bite_is_inconclusive_and_says_so,
        a_known_violation_holds_while_it_happens_and_is_violated_once_it_does_not,
        a_log_without_work_is_inconclusive,
        a_panic_in_a_task_fails_the_run_and_names_its_place,
        a_thread_fails_the_run_and_names_its_place,
        a_blocking_task_fails_the_run_and_names_its_place,
        a_real_file_fails_the_run_and_names_its_place,
        a_real_socket_fails_the_run_and_names_its_place,
        what_is_done_to_real_files_or_by_other_processes_fails_the_run_and_names_its_place,
        a_host_that_never_yields_is_ended_and_the_place_named,
        a_run_that_is_only_long_is_ended_too,
        a_process_that_exits_by_itself_is_no_verdict,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
