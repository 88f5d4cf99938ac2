//! What simulating an append costs over making it for real: processor time over processor time, in one run on one
//! machine, so that no machine is better at it than another.
//!
//! Both sides get the same load: as many servers and clients of the same build, and as many entries of as many bytes,
//! at the same times. For real these are processes that speak TLS over loopback and sync their disks. What it takes to
//! begin is no part of it on either side: for real the processes are looked at while they are at it, and a simulated
//! run is compared with a shorter one of the same seed.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gapless::explore::RunRequest;
use gapless_log::wire::AuditEvent;

use crate::{
    Failure, Measured, held, median, order,
    page::grouped,
    ran,
    real::{self, Log, Process},
    whole,
};

const CLIENTS: usize = 3;
/// Of each client, every so often.
const EVERY: Duration = Duration::from_millis(10);
const DETAIL_BYTES: usize = 256;
/// Not counted, then counted.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
const REPETITIONS: usize = 3;

/// The row of a log of so many servers.
pub(crate) fn simulated_over_real(servers: usize) -> Result<Measured, Failure> {
    let gapless_log = production().map_err(|why| why.to_string())?;
    let (mut simulated, mut bare, mut real) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        simulated.push(simulate(servers, false)?);
        bare.push(simulate(servers, true)?);
        real.push(make(&gapless_log, servers).map_err(|why| why.to_string())?);
    }
    let ratio = |of: &[f64]| median(of.iter().zip(&real).map(|(simulated, real)| simulated / real).collect());
    let how = format!(
        "median of {REPETITIONS} in turns, {}/s of {DETAIL_BYTES} B by {CLIENTS} clients: {} µs over {} µs each; \
         {:.2} × without history, hash and checks",
        grouped(CLIENTS as f64 / EVERY.as_secs_f64()),
        grouped(median(simulated.clone())),
        grouped(median(real.clone())),
        ratio(&bare),
    );
    Ok(Measured::timed("-".into(), format!("{:.2} ×", ratio(&simulated)), how))
}

/// Entries that are offered in such a time.
fn entries(time: Duration) -> f64 {
    CLIENTS as f64 * time.as_secs_f64() / EVERY.as_secs_f64()
}

/// Microseconds of processor time for each simulated entry, judged and all unless it is `bare`.
fn simulate(servers: usize, bare: bool) -> Result<f64, Failure> {
    let spent = |time: Duration| -> Result<Duration, Failure> {
        let text = format!(
            "title = \"for measuring\"\n[cluster]\nservers = {servers}\n[workload]\nclients = {CLIENTS}\n\
             appends = \"{}/s\"\nsize = \"{DETAIL_BYTES}B\"\ncall = \"append-stream\"\nfor = \"{}s\"\n",
            entries(Duration::from_secs(1)),
            time.as_secs(),
        );
        let run = if bare { ran(&RunRequest { bare, ..order(&text) })? } else { held(&order(&text))? };
        Ok(whole(run.took).processor)
    };
    let more = spent(WARM_UP + MEASURED)?.saturating_sub(spent(WARM_UP)?);
    Ok(more.as_secs_f64() * 1e6 / entries(MEASURED))
}

/// The program for production, built as it is shipped: without what only a rehearsal needs.
fn production() -> Result<PathBuf, real::Failure> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no folder for what is built")?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--locked", "--package", "gapless-log", "--target-dir"]).arg(target);
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    let built = target.join("release/gapless-log");
    if status.success() {
        Ok(built)
    } else {
        Err(format!("gapless-log was not built: {build:?} ended with {status}").into())
    }
}

/// The same for each real entry, by all processes together.
fn make(gapless_log: &Path, servers: usize) -> Result<f64, real::Failure> {
    let log = Log::start(gapless_log, servers, CLIENTS)?;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut command = Command::new(gapless_log);
        // Nobody takes what it says before its end, so it says no more than why it failed.
        command.args(["append", "--config"]).arg(client(&log, n)?).env("RUST_LOG", "error");
        clients.push(fed(&mut command)?);
    }
    let (processes, inputs): (Vec<Process>, Vec<ChildStdin>) = clients.into_iter().unzip();
    let begin = Instant::now();
    let end = begin + WARM_UP + MEASURED;
    let feeding: Vec<_> =
        (0..).zip(inputs).map(|(n, input)| thread::spawn(move || feed(n, input, begin, end))).collect();
    let spent = || Process::all(log.processes.iter().chain(&processes));
    thread::sleep(WARM_UP);
    let before = spent()?;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let after = spent()?;
    for feeding in feeding {
        feeding.join().map_err(|_| "a thread that feeds a client panicked")??;
    }
    // They end once the log has proven that it holds all of it.
    processes.into_iter().try_for_each(succeeded)?;
    Ok((after - before).as_secs_f64() * 1e6 / entries(MEASURED))
}

/// Starts a process that reads what is written to it.
fn fed(command: &mut Command) -> Result<(Process, ChildStdin), real::Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    Ok((Process(child), stdin.ok_or("a child without a standard input")?))
}

/// Waits until a process has ended by itself.
fn succeeded(mut process: Process) -> Result<(), real::Failure> {
    // First what it says, up to its end: a process whose words nobody takes does not come to it.
    let mut why = String::new();
    if let Some(mut stderr) = process.0.stderr.take() {
        io::Read::read_to_string(&mut stderr, &mut why)?;
    }
    let status = process.0.wait()?;
    if status.success() { Ok(()) } else { Err(format!("a process ended with {status}: {why}").into()) }
}

/// A line for each entry, as many bytes as the event of a simulated application has; the clients take turns.
fn feed(n: u32, mut input: ChildStdin, begin: Instant, end: Instant) -> io::Result<()> {
    let event = AuditEvent {
        actor: format!("client-{n}"),
        action: "read".to_owned(),
        resource: "record/1000".to_owned(),
        outcome: 3,
        detail: vec![0; DETAIL_BYTES].into(),
    };
    let mut line = vec![b'x'; prost::Message::encoded_len(&event)];
    line.push(b'\n');
    let mut due = begin + EVERY * n / CLIENTS as u32;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        input.write_all(&line)?;
        due += EVERY;
    }
    Ok(())
}

/// The configuration of a client.
fn client(log: &Log, n: usize) -> Result<std::path::PathBuf, real::Failure> {
    let path = |name: &str| format!("{:?}", log.file(name).display().to_string());
    let servers = (1..).zip(&log.addresses);
    let servers: Vec<_> =
        servers.map(|(n, address)| format!("{{ address = {address:?}, name = \"server-{n}\" }}")).collect();
    let cosigners: Vec<_> = (1..=servers.len()).map(|n| path(&format!("server-{n}/cosigner.vkey"))).collect();
    let text = format!(
        "name = \"client-{n}\"\nservers = [{}]\nlog-key = {}\ncosigners = [{}]\noutbox = {}\ncheckpoint = {}\n[tls]\n\
         certificate = {}\nkey = {}\nca = {}\n",
        servers.join(", "),
        path("log.vkey"),
        cosigners.join(", "),
        path(&format!("client-{n}/outbox")),
        path(&format!("client-{n}/checkpoint")),
        path(&format!("server-1/client-{n}.pem")),
        path(&format!("server-1/client-{n}.key")),
        path("ca.pem"),
    );
    let file = log.file(&format!("client-{n}.toml"));
    fs::write(&file, text)?;
    Ok(file)
}
