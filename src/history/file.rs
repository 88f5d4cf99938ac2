//! A history as a file: JSON lines, the header first.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::{Event, Header, History};

/// Why a history cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused.
    #[error("cannot access the history {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{path}:{line}: not a history: {why}; was it written by another version?")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// Writes a history; an existing file is replaced.
pub fn write(path: &Path, history: &History) -> Result<(), HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let mut to = BufWriter::new(fs::File::create(path).map_err(io)?);
    let mut line = |value: serde_json::Result<Vec<u8>>| -> io::Result<()> {
        to.write_all(&value.map_err(io::Error::other)?)?;
        to.write_all(b"\n")
    };
    line(serde_json::to_vec(&history.header)).map_err(io)?;
    for event in &history.events {
        line(serde_json::to_vec(event)).map_err(io)?;
    }
    to.flush().map_err(io)
}

/// Reads a history.
pub fn read(path: &Path) -> Result<History, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let bad = |line, why: String| HistoryError::Line { path: path.to_owned(), line, why };
    let mut lines = BufReader::new(fs::File::open(path).map_err(io)?).lines();
    let first = lines.next().transpose().map_err(io)?.ok_or_else(|| bad(1, "the file is empty".to_owned()))?;
    let header: Header = serde_json::from_str(&first).map_err(|e| bad(1, e.to_string()))?;
    let mut events: Vec<Event> = Vec::new();
    for (n, line) in lines.enumerate() {
        let line = line.map_err(io)?;
        events.push(serde_json::from_str(&line).map_err(|e| bad(n + 2, e.to_string()))?);
    }
    Ok(History { header, events })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::history::{DiskOp, Down, EntryId, Found, Invariant, LeafBytes, Outcome, Promises, StepEvent, What};
    use gapless_world::{LogEvent, observer::Direction};

    fn header() -> Header {
        Header {
            format: 1,
            scenario: "power-loss-in-a-batch".to_owned(),
            seed: u64::MAX,
            build: "0.1.0+abc".to_owned(),
            epoch: -1,
            tick: Duration::from_millis(5),
            servers: vec!["server-1".into()],
            clients: vec!["client-1".into()],
            promises: Promises {
                kept: Invariant::ALL.to_vec(),
                declined: vec![(Invariant::Authentic, "not signed".to_owned())],
                may_repeat: Some("a retry may repeat".to_owned()),
            },
            log_key: Some("log+00000000+AQ==".to_owned()),
            recovers_within: Duration::from_nanos(30_000_000_001),
        }
    }

    /// Returns one event of each kind, with fields that are called like those of the envelope around them.
    fn every_kind() -> Vec<What> {
        let entry = || EntryId { client: "client-1".into(), number: 7 };
        let found = || Found {
            position: 3,
            entry: Some(entry()),
            counts: true,
            numbered: Some(("client-1".into(), 2, u64::MAX)),
            bytes: Bytes::from_static(b"\x00\xff"),
            leaf: Some(LeafBytes(Bytes::from_static(b"leaf"))),
        };
        let step = |event| What::Step { step: "cut-off".into(), event };
        vec![
            What::Began {},
            What::WorkloadEnded {},
            What::Healed {},
            What::Settled { quiet: true },
            step(StepEvent::Begins { hosts: vec!["server-1".into()] }),
            step(StepEvent::Bites { evidence: "3 held".to_owned() }),
            step(StepEvent::Nth { n: 2 }),
            step(StepEvent::Ended { evidence: None }),
            step(StepEvent::NotRun { why: "never came".to_owned() }),
            What::Up { life: 2 },
            What::Runs { revision: "next".to_owned() },
            What::Down { how: Down::PowerLoss },
            What::Wiped {},
            What::Rewound { to: Duration::from_nanos(7) },
            What::Failed { error: "disk".to_owned() },
            What::Paused { paused: true },
            What::Clock { offset: i64::MIN, rate_ppm: -150 },
            What::Memory { budget: u64::MAX },
            What::Disk { op: DiskOp::SyncFolder, path: "a".to_owned(), bytes: 0, error: Some("full".to_owned()) },
            What::Lost { path: "a".to_owned(), bytes: 9, torn: 1 },
            What::Damaged { path: "a".to_owned(), offset: u64::MAX, bytes: 9, fault: "bit-rot".to_owned() },
            What::Mended { path: "a".to_owned(), offset: 0, bytes: 9 },
            What::Certificate {
                serial: u64::MAX,
                name: "server-1".to_owned(),
                authority: "authority 1".to_owned(),
                not_before: -1,
                not_after: i64::MAX,
                for_servers: true,
                for_clients: false,
                trusts: vec!["authority 1".to_owned()],
                why: "a test".to_owned(),
            },
            What::Took { serial: u64::MAX },
            What::Connected { peer: "server-1".into(), connection: 7, dialled: Duration::from_nanos(3) },
            What::Disconnected { connection: 7 },
            What::Submitted { entry: entry(), bytes: Bytes::from_static(b"\n\"") },
            What::Returned { entry: entry(), outcome: Outcome::Acked { at: Some(12) } },
            What::Returned { entry: entry(), outcome: Outcome::Acked { at: None } },
            What::Returned { entry: entry(), outcome: Outcome::Refused { why: "no".to_owned() } },
            What::Returned { entry: entry(), outcome: Outcome::Unknown { why: "late".to_owned() } },
            What::Holds { outbox: vec![entry()], dead_letters: vec![] },
            What::ReadingBegan { reading: 1, server: "server-1".into(), last: true },
            What::Found { reading: 1, found: found() },
            What::Followed { found: found() },
            What::CheckpointRead { reading: 1, size: 4, root: "00".to_owned() },
            What::ReadingEnded { reading: 1, error: None },
            What::Marked { mark: "rare".to_owned() },
        ]
    }

    /// Some of the log's own, with every kind of field.
    fn of_the_log() -> impl Iterator<Item = What> {
        let (direction, bytes) = (Direction::Request, Bytes::from_static(b"x"));
        let events = [
            LogEvent::CorruptionFound { file: "a".to_owned(), offset: 1, what: "bad sum".to_owned() },
            LogEvent::CallMessage { call: 1, direction, bytes, omitted: 7 },
            LogEvent::EntryAccepted { epoch: 1, sequence: 2, entry: Bytes::from_static(b"y") },
            LogEvent::Resumed {},
        ];
        events.into_iter().map(|event| What::Log { event })
    }

    #[test]
    fn every_kind_of_event_survives_the_way_to_the_file_and_back() {
        let events = every_kind().into_iter().chain(of_the_log()).enumerate().map(|(n, what)| Event {
            at: Duration::from_nanos(u64::MAX - n as u64),
            host: "server-1".into(),
            what,
        });
        let history = History { header: header(), events: events.collect() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        write(&path, &history).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.header, history.header);
        for (again, event) in again.events.iter().zip(&history.events) {
            assert_eq!(again, event);
        }
        assert_eq!(again.events.len(), history.events.len());
    }

    #[test]
    fn a_spoiled_line_is_named_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        write(&path, &History { header: header(), events: Vec::new() }).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"at\":1,\"host\":\"a\",\"what\":\"nothing-known\"}}\n")).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, HistoryError::Line { line: 2, .. }), "{error}");
        fs::write(&path, "").unwrap();
        assert!(matches!(read(&path).unwrap_err(), HistoryError::Line { line: 1, .. }));
    }
}
