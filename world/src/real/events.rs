//! What the log reports about itself, as JSON lines in a file: the record that a drill merges into its history.
//!
//! Reports must never hold up the log, so lines go through a bounded queue to a thread of their own. When the queue is
//! full an event is lost, and the next line states how many were: a history with holes must not pass for a whole one.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{LogEvent, Observer};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// The wall clock of the process, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Events that were lost just before this one, because the file could not keep up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: LogEvent,
}

/// The number of events that may wait for the disk; further events are lost and counted.
const WAITING_MAX: usize = 65_536;

/// An observer that writes [`EventLine`]s.
#[derive(Debug)]
pub struct EventFile {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Box<EventLine>),
    Flush(SyncSender<()>),
}

impl EventFile {
    /// Opens the file to append to it, and creates it readable by its owner only, because events carry entries.
    pub fn open(path: &Path) -> io::Result<EventFile> {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(path)
            .map_err(|why| io::Error::new(why.kind(), format!("cannot write events to {}: {why}", path.display())))?;
        let (queue, waiting) = sync_channel(WAITING_MAX);
        thread::Builder::new().name("events".to_owned()).spawn(move || write_lines(file, &waiting))?;
        Ok(EventFile { queue, lost: Arc::default() })
    }

    /// Waits until everything reported so far is in the file, but no longer than `within`. Returns false if the time
    /// was up. It blocks, so it is for the end of a process.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, flushed) = sync_channel(1);
        self.queue.send(Message::Flush(done)).is_ok() && flushed.recv_timeout(within).is_ok()
    }
}

impl Observer for EventFile {
    fn see(&self, event: LogEvent) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if self.queue.try_send(Message::Line(Box::new(EventLine { at_ns, lost, event }))).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn write_lines(file: File, waiting: &Receiver<Message>) {
    let mut out = BufWriter::new(file);
    loop {
        // The file is brought up to date whenever nothing waits, so that a killed process loses no more than its last
        // lines.
        let message = match waiting.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                if let Err(why) = out.flush() {
                    tracing::error!(%why, "events cannot be written");
                }
                match waiting.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        match message {
            Message::Line(line) => {
                if let Err(why) = write_line(&mut out, &line) {
                    tracing::error!(%why, "events cannot be written");
                }
            }
            Message::Flush(done) => {
                if out.flush().is_ok() {
                    // This fails only if nobody waits any more.
                    let _ = done.try_send(());
                }
            }
        }
    }
}

fn write_line(out: &mut BufWriter<File>, line: &EventLine) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Several observers, told in order.
pub struct Several(pub Vec<Arc<dyn Observer>>);

impl Observer for Several {
    fn see(&self, event: LogEvent) {
        if let Some((last, others)) = self.0.split_last() {
            others.iter().for_each(|observer| observer.see(event.clone()));
            last.see(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_event_is_one_line_that_reads_back_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let events = [
            LogEvent::ShutdownBegun {},
            LogEvent::LeaderChange { node: 1, term: u64::MAX },
            LogEvent::LeafRead { index: 7, leaf: Bytes::from_static(b"\0line\nbreak") },
        ];
        let file = EventFile::open(&path).unwrap();
        events.iter().for_each(|event| file.see(event.clone()));
        assert!(file.flush(Duration::from_secs(10)));
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<EventLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.iter().map(|line| line.event.clone()).collect::<Vec<_>>(), events);
        assert!(read.iter().all(|line| line.lost == 0 && line.at_ns > 0));
    }

    #[test]
    fn what_was_lost_is_counted_in_the_next_line() {
        let (queue, waiting) = sync_channel(1);
        let file = EventFile { queue, lost: Arc::default() };
        (0..4).for_each(|_| file.see(LogEvent::Resumed {}));
        assert!(matches!(waiting.recv().unwrap(), Message::Line(line) if line.lost == 0));
        file.see(LogEvent::Resumed {});
        assert!(matches!(waiting.recv().unwrap(), Message::Line(line) if line.lost == 3));
    }
}
