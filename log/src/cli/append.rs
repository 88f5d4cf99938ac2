//! `gapless-log append`: hands lines to the outbox and prints the index in the log of each one.
//!
//! An entry counts as accepted once it is durable in the outbox, and is printed once the log has proven that it holds
//! the entry. What could not be delivered in time stays in the outbox, and goes first the next time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesOrdered};
use gapless_world::{
    LogEvent, Observer, World,
    real::{RealDisk, RealNet, TracingObserver},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Failure, config::ClientConfig};
use crate::client::{AuditClient, Delivered, Delivery};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The client's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The entries. Without any, each line of standard input is an entry, except empty lines.
    #[arg(value_name = "ENTRY")]
    entries: Vec<String>,
    /// Reads the entries from the lines of this file instead.
    #[arg(long, conflicts_with = "entries")]
    file: Option<PathBuf>,
    /// The folder of the outbox, instead of the configured one.
    #[arg(long, value_name = "DIR")]
    outbox: Option<PathBuf>,
    /// How many seconds delivery may take after the last entry was read.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    within: u64,
}

/// The number of entries that are read ahead, and of entries that wait for their proof.
const READ_AHEAD: usize = 256;
const UNPROVEN_MAX: usize = 1024;
/// How long the files of the outbox may take to close.
const CLOSE_WITHIN: Duration = Duration::from_millis(100);

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = ClientConfig::read(&args.config)?;
    let mut lines = source(&args)?;
    let disk = RealDisk::create(args.outbox.as_ref().unwrap_or(&config.outbox)).map_err(Failure::File)?;
    let setback = Arc::new(Setback::default());
    let world = World { disk: Arc::new(disk), net: Arc::new(RealNet), observer: setback.clone() };
    let client = AuditClient::open(world, config.settings).await?;

    let mut unproven: FuturesOrdered<Delivery> = FuturesOrdered::new();
    let mut rejected = 0_u64;
    let mut deadline = None;
    while deadline.is_none() || !unproven.is_empty() {
        tokio::select! {
            biased;
            Some(delivered) = unproven.next() => rejected += print(delivered)?,
            line = lines.recv(), if deadline.is_none() && unproven.len() < UNPROVEN_MAX => match line {
                Some(line) => unproven.push_back(client.submit(line.map_err(Failure::File)?).await?.delivered),
                None => deadline = Some(Instant::now() + Duration::from_secs(args.within)),
            },
            () = at(deadline) => break,
        }
    }
    // The time for what is still owed is over.
    if let Err(owed) = client.close(CLOSE_WITHIN).await {
        return Err(match setback.last() {
            Some(why) => Failure::NotDelivered(format!("{owed}; the last attempt failed: {why}")),
            None => owed.into(),
        });
    }
    match rejected {
        0 => Ok(()),
        n => Err(Failure::NotDelivered(format!("the log rejected {n} entries for good; they are dead letters"))),
    }
}

/// Passes on what the client reports, and remembers why its last attempt failed.
#[derive(Default)]
struct Setback(Mutex<Option<String>>);

impl Setback {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Setback {
    fn see(&self, event: LogEvent) {
        if let LogEvent::Retry { why, .. } | LogEvent::Parked { why } = &event {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        }
        TracingObserver.see(event);
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Prints the index. Returns how many entries were rejected: none or one.
fn print(delivered: Delivered) -> Result<u64, Failure> {
    match delivered {
        Delivered::Receipt(receipt) => {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", receipt.index.0)?;
            out.flush()?;
            Ok(0)
        }
        Delivered::DeadLetter { reason } => {
            eprintln!("rejected: {reason}");
            Ok(1)
        }
        Delivered::Owed => Ok(0),
    }
}

/// Returns the source of the entries. A thread reads it, because there is no other way to wait for standard input.
fn source(args: &Args) -> Result<mpsc::Receiver<io::Result<Bytes>>, Failure> {
    let (lines, read) = mpsc::channel(READ_AHEAD);
    let reader: Box<dyn BufRead + Send> = match &args.file {
        Some(path) => Box::new(BufReader::new(open(path)?)),
        None if args.entries.is_empty() => Box::new(BufReader::new(io::stdin())),
        None => Box::new(io::Cursor::new(args.entries.join("\n"))),
    };
    thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || send_lines(reader, &lines))
        .map_err(Failure::Runtime)?;
    Ok(read)
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path)
        .map_err(|why| Failure::File(io::Error::new(why.kind(), format!("cannot read {}: {why}", path.display()))))
}

/// Ends at the end of the input, at its first error, or when the receiver is gone.
fn send_lines(mut reader: Box<dyn BufRead + Send>, lines: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut line = Vec::new();
        let read = match reader.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        };
        let failed = read.is_err();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() && !failed {
            continue;
        }
        if lines.blocking_send(read.map(|()| Bytes::copy_from_slice(line))).is_err() || failed {
            return;
        }
    }
}
