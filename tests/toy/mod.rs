//! The toy of the faults' self-tests: a log over bare TCP, a line per entry, so that nothing between it and a fault
//! hides anything; and what a run of it with one step showed.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use gapless::{
    explore::RunRequest,
    history::{self, History, StepEvent, What},
    system::{Client, Entry, Failure, Findings, Host, Invariant, Outcome, Peer, Promises, System},
    world::{File, OpenMode, Stream},
};
use libtest_mimic::Failed;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Mutex,
    time::timeout,
};

/// A log over bare TCP. It syncs every entry but those that say `nosync`.
pub(crate) struct Toy;

pub(crate) struct Caller {
    host: Host,
    line: Mutex<Option<BufReader<Box<dyn Stream>>>>,
}

/// The wall clock at the start of a run.
pub(crate) const EPOCH: i64 = 1_767_225_600;

/// An append ends by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

impl System for Toy {
    type Client = Caller;

    fn promises(&self) -> Promises {
        Promises { kept: vec![Invariant::NoPhantoms], declined: Vec::new(), may_repeat: Some("a toy".to_owned()) }
    }

    fn can_suffer(&self, _fault: &str) -> Result<(), std::borrow::Cow<'static, str>> {
        Ok(())
    }

    fn revisions(&self) -> &[&str] {
        &["previous", "current", "next"]
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        host.mark(&format!("server runs {}", host.revision()));
        let disk = host.world().disk.clone();
        let file = disk.open(Path::new("log"), OpenMode::Create).await?;
        disk.sync_folder(Path::new("")).await?;
        let kept = file.len().await?;
        host.mark(&format!("found {kept} bytes"));
        // Entries are printable: whatever else stands there is not what was written.
        let all = file.read_at(0, usize::MAX / 2).await?;
        let odd = all.iter().filter(|byte| !byte.is_ascii_graphic() && !b" \n".contains(byte)).count();
        host.mark(&format!("odd {odd} bytes"));
        tokio::spawn(watch_budget(host.clone()));
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
        host.mark(&format!("client runs {}", host.revision()));
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

/// Marks the memory that the host may use, and each change of it.
pub(crate) async fn watch_budget(host: Host) {
    let mut budget = host.memory_budget();
    loop {
        let bytes = *budget.borrow_and_update();
        host.mark(&format!("budget {bytes}"));
        if budget.changed().await.is_err() {
            return;
        }
    }
}

/// Both clocks, in nanoseconds: the wall clock since 1970, the monotonic one since it was first asked.
pub(crate) fn clocks() -> String {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let monotonic = FIRST.get_or_init(Instant::now).elapsed().as_nanos();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("clocks {wall} {monotonic}")
}

/// One connection of the server.
pub(crate) async fn talk(host: Host, file: Arc<dyn File>, stream: Box<dyn Stream>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(0) => return host.mark("server saw the end"),
            Err(error) => return host.mark(&format!("server saw {:?}", error.kind())),
            Ok(_) => {}
        }
        let mut reply = if line == "READ\n" {
            let bytes = match file.read_at(0, usize::MAX / 2).await {
                Ok(bytes) => bytes,
                Err(error) => return host.mark(&format!("read failed: {}", error.raw_os_error().unwrap_or_default())),
            };
            [bytes.as_ref(), b"END\n"].concat()
        } else {
            host.mark(&format!("got {}", number(&line)));
            host.mark(&clocks());
            let failed = |what: &str, error: &std::io::Error| {
                host.mark(&format!("{what} {} failed: {}", number(&line), error.raw_os_error().unwrap_or_default()));
            };
            let offset = match file.append(line.clone().into()).await {
                Ok(offset) => offset,
                Err(error) => return failed("append", &error),
            };
            // Every fourth entry stays in the page cache.
            if number(&line) % 4 != 3
                && let Err(error) = file.sync().await
            {
                return failed("sync", &error);
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

pub(crate) fn number(line: &str) -> u64 {
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
            if let Ok(shown) = self.host.identity().peer() {
                self.host.mark(&format!("shows {} until {}", shown.name, shown.not_after - EPOCH));
            }
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
pub(crate) struct Seen {
    pub(crate) history: History,
    pub(crate) hash: String,
}

impl Seen {
    /// Simulates ten seconds of twenty appends a second by one client, with one step.
    pub(crate) fn of(step: &str) -> Result<Self, Failed> {
        Self::under(1, step)
    }

    pub(crate) fn under(seed: u64, step: &str) -> Result<Self, Failed> {
        let text = format!(
            "title = \"toy\"\n[cluster]\nservers = 1\n[workload]\nclients = 1\nappends = \"20/s\"\nfor = \"10s\"\n\
             [[step]]\nname = \"it\"\n{step}\n"
        );
        let kept = tempfile::NamedTempFile::new().map_err(|error| format!("no file for the history: {error}"))?;
        let request = RunRequest { history: Some(kept.path().to_owned()), ..run::request(text, seed) };
        let (summary, _) = run::judged(&request)?;
        let history = history::read(kept.path()).map_err(|error| error.to_string())?;
        Ok(Self { history, hash: summary.hash })
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = (Duration, &str)> {
        self.history.events.iter().filter_map(|event| match &event.what {
            What::Marked { mark } => Some((event.at, mark.as_str())),
            _ => None,
        })
    }

    /// What the software on servers or clients said that it runs, life by life.
    pub(crate) fn revisions(&self, of: &str) -> Vec<&str> {
        self.marks().filter_map(|(_, mark)| mark.strip_prefix(of)?.strip_prefix(" runs ")).collect()
    }

    /// What the harness says that a host runs, life by life.
    pub(crate) fn runs(&self, host: &str) -> Vec<&str> {
        let of_host = self.history.events.iter().filter(|event| &*event.host == host);
        of_host
            .filter_map(|event| match &event.what {
                What::Runs { revision } => Some(revision.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn count(&self, mark: &str) -> usize {
        self.marks().filter(|(_, said)| *said == mark).count()
    }

    pub(crate) fn step_event(&self, wanted: fn(&StepEvent) -> bool) -> Option<Duration> {
        self.history.events.iter().find_map(|event| match &event.what {
            What::Step { event: step, .. } if wanted(step) => Some(event.at),
            _ => None,
        })
    }

    pub(crate) fn began(&self) -> Duration {
        self.step_event(|event| matches!(event, StepEvent::Begins { .. })).unwrap_or_default()
    }

    pub(crate) fn ended(&self) -> Duration {
        self.step_event(|event| matches!(event, StepEvent::Ended { .. })).unwrap_or(Duration::MAX)
    }

    pub(crate) fn evidence(&self) -> String {
        let ended = self.history.events.iter().find_map(|event| match &event.what {
            What::Step { step, event: StepEvent::Ended { evidence } } if &**step == "it" => evidence.clone(),
            _ => None,
        });
        ended.unwrap_or_default()
    }

    /// The first evidence, also of a step that happened at one instant.
    pub(crate) fn bites(&self) -> String {
        let bites = self.history.events.iter().find_map(|event| match &event.what {
            What::Step { event: StepEvent::Bites { evidence }, .. } => Some(evidence.clone()),
            _ => None,
        });
        bites.unwrap_or_default()
    }

    /// What was installed at a host before the final heal: when, and what it says.
    pub(crate) fn installed(&self, host: &str) -> Vec<(Duration, &What)> {
        let healed = self.history.events.iter().find(|event| event.what == What::WorkloadEnded {});
        let until = healed.map_or(Duration::MAX, |event| event.at);
        let here = self.history.events.iter().filter(|event| &*event.host == host && event.at < until);
        let certificates = here.filter(|event| matches!(event.what, What::Certificate { .. }));
        certificates.map(|event| (event.at, &event.what)).collect()
    }

    /// Each look of the server at its two clocks: when, the wall clock since 1970, the monotonic one.
    pub(crate) fn clocks(&self) -> Vec<(Duration, i128, i128)> {
        let looks = self.marks().filter_map(|(at, mark)| {
            let (wall, monotonic) = mark.strip_prefix("clocks ")?.split_once(' ')?;
            Some((at, wall.parse().ok()?, monotonic.parse().ok()?))
        });
        looks.collect()
    }

    /// By how much each look of the server's found its wall clock wrong, for those between two times.
    pub(crate) fn wrong_by(&self, from: Duration, to: Duration) -> Vec<(Duration, i128)> {
        let epoch = i128::from(self.history.header.epoch) * 1_000_000_000;
        let looks = self.clocks().into_iter().filter(|(at, ..)| (from..to).contains(at));
        looks.map(|(at, wall, _)| (at, wall - epoch - nanoseconds(at))).collect()
    }

    /// The times at which a step of this name began and ended.
    pub(crate) fn span(&self, name: &str) -> (Duration, Duration) {
        let at = |wanted: fn(&StepEvent) -> bool| {
            self.history.events.iter().find_map(|event| match &event.what {
                What::Step { step, event: this } if &**step == name && wanted(this) => Some(event.at),
                _ => None,
            })
        };
        let begins = at(|event| matches!(event, StepEvent::Begins { .. }));
        let ended = at(|event| matches!(event, StepEvent::Ended { .. }));
        (begins.unwrap_or_default(), ended.unwrap_or(Duration::MAX))
    }

    pub(crate) fn submitted(&self, from: Duration, to: Duration) -> Vec<u64> {
        let events = self.history.events.iter().filter(|event| (from..to).contains(&event.at));
        let numbers = events.filter_map(|event| match &event.what {
            What::Submitted { entry, .. } => Some(entry.number),
            _ => None,
        });
        numbers.collect()
    }

    /// Entries that reached the server between two times.
    pub(crate) fn arrived(&self, from: Duration, to: Duration) -> Vec<u64> {
        let got = self.marks().filter(|(at, _)| (from..to).contains(at));
        got.filter_map(|(_, mark)| mark.strip_prefix("got ")?.parse().ok()).collect()
    }

    /// The numbers that the last readings found.
    pub(crate) fn found_at_last(&self) -> BTreeSet<u64> {
        let events = || self.history.events.iter().map(|event| &event.what);
        let last = events().filter_map(|what| match what {
            What::ReadingBegan { reading, last: true, .. } => Some(*reading),
            _ => None,
        });
        let last: BTreeSet<u32> = last.collect();
        let finds = events().filter_map(|what| match what {
            What::Found { reading, found } if last.contains(reading) => found.entry.as_ref().map(|entry| entry.number),
            _ => None,
        });
        finds.collect()
    }

    pub(crate) fn acked(&self, from: Duration, to: Duration) -> usize {
        let acked = |what: &What| matches!(what, What::Returned { outcome: Outcome::Acked { .. }, .. });
        self.history.events.iter().filter(|event| (from..to).contains(&event.at) && acked(&event.what)).count()
    }

    /// Times from an entry's submission to its acknowledgement, for those submitted between two times.
    pub(crate) fn latencies(&self, from: Duration, to: Duration) -> Vec<Duration> {
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
pub(crate) const IN_FLIGHT: Duration = Duration::from_millis(30);

pub(crate) fn check(holds: bool, what: &str, seen: &Seen) -> Result<(), Failed> {
    if holds {
        return Ok(());
    }
    let marks: Vec<String> = seen.marks().map(|(at, mark)| format!("{at:?} {mark}")).collect();
    Err(format!("{what}\nevidence: {}\nmarks:\n{}", seen.evidence(), marks.join("\n")).into())
}

pub(crate) fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}
