//! Tiny histories, written by hand, for tests of checks and reports.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use gapless_world::LogEvent;

use super::{Expect, Expectations, Finding, Judgement, Untouched, Violation, judge};
use crate::history::{EntryId, Event, Found, Header, History, Invariant, LeafBytes, Name, Outcome, Promises, What};

/// A history under construction. Time stands still until it is set.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) history: History,
    pub(crate) expect: Expect,
    /// What the catalogue says about each step.
    pub(crate) catalogue: BTreeMap<Name, Untouched>,
    now: Duration,
    readings: u32,
}

impl Story {
    /// Three servers, two clients, and every invariant that has a check and needs no signatures.
    pub(crate) fn new() -> Self {
        let unchecked = [Invariant::TrustedPeers, Invariant::NoSilentCorruption];
        let kept = Invariant::ALL.iter().copied().filter(|it| !unchecked.contains(it));
        let header = Header {
            format: 1,
            scenario: "story".to_owned(),
            seed: 7,
            build: "0.1.0".to_owned(),
            epoch: 1_767_225_600,
            tick: Duration::from_millis(5),
            servers: ["server-1", "server-2", "server-3"].map(Into::into).to_vec(),
            clients: ["client-1", "client-2"].map(Into::into).to_vec(),
            promises: Promises { kept: kept.collect(), declined: Vec::new(), may_repeat: None },
            log_key: None,
            recovers_within: Duration::from_secs(30),
        };
        let history = History { header, events: Vec::new() };
        Story { history, expect: Expect::default(), catalogue: BTreeMap::new(), now: Duration::ZERO, readings: 0 }
    }

    /// A run in which everything goes well and nothing is left idle: five entries of two clients, one call, one
    /// checkpoint, healed at 30 s, read at 100 s.
    pub(crate) fn healthy() -> Self {
        let mut story = Story::new();
        let call = LogEvent::CallStarted {
            call: 1,
            method: "Append".to_owned(),
            peer: "server-1".to_owned(),
            attempt: 1,
            deadline_ms: 5_000,
        };
        for server in ["server-1", "server-2", "server-3"] {
            story.says(server, What::Up { life: 1 });
        }
        story.says("harness", What::Began {});
        for number in 0..2 {
            for client in ["client-1", "client-2"] {
                story.at(1_000 + 100 * number).submits(client, number).accepts(client, number);
                story.at(1_050 + 100 * number).acked(client, number, None);
            }
        }
        story.says("client-1", What::Log { event: call });
        let used = LogEvent::MemoryUsed { what: "queue".to_owned(), bytes: 512, limit: 1 << 20 };
        story.says("server-1", What::Log { event: used });
        let ended = LogEvent::CallEnded { call: 1, status: "ok".to_owned(), detail: String::new() };
        story.says("client-1", What::Log { event: ended });
        story.at(1_500).says("auditor", What::CheckpointRead { reading: 0, size: 0, root: hex_of_nothing() });
        story.at(30_000).says("harness", What::Healed {});
        story.submits("client-1", 2).accepts("client-1", 2).at(30_050).acked("client-1", 2, None);
        story.at(90_000).says("harness", What::Settled { quiet: true });
        let order = [("client-1", 0), ("client-2", 0), ("client-1", 1), ("client-2", 1), ("client-1", 2)];
        let found = order.iter().enumerate().map(|(at, (client, number))| story.find(at as u64, client, *number));
        let found: Vec<Found> = found.collect();
        story.at(100_000).reads_everywhere(&found);
        for client in ["client-1", "client-2"] {
            story.says(client, What::Holds { outbox: vec![], dead_letters: vec![] });
        }
        story.now = Duration::from_millis(1_500);
        story
    }

    /// Sets the time of the run, in milliseconds.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Duration::from_millis(ms);
        self
    }

    /// Returns the time of the run.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Adds any event.
    pub(crate) fn says(&mut self, host: &str, what: What) -> &mut Self {
        self.history.events.push(Event { at: self.now, host: host.into(), what });
        self
    }

    pub(crate) fn id(client: &str, number: u64) -> EntryId {
        EntryId { client: client.into(), number }
    }

    /// The bytes of an entry.
    pub(crate) fn bytes(client: &str, number: u64) -> Bytes {
        format!("an event, {}", Story::id(client, number).mark()).into()
    }

    pub(crate) fn submits(&mut self, client: &str, number: u64) -> &mut Self {
        let what = What::Submitted { entry: Story::id(client, number), bytes: Story::bytes(client, number) };
        self.says(client, what)
    }

    /// Adds the acceptance into the outbox, in epoch 1 with the entry's number as sequence.
    pub(crate) fn accepts(&mut self, client: &str, number: u64) -> &mut Self {
        let event = LogEvent::EntryAccepted { epoch: 1, sequence: number, entry: Story::bytes(client, number) };
        self.says(client, What::Log { event })
    }

    fn returns(&mut self, client: &str, number: u64, outcome: Outcome) -> &mut Self {
        self.says(client, What::Returned { entry: Story::id(client, number), outcome })
    }

    pub(crate) fn acked(&mut self, client: &str, number: u64, at: Option<u64>) -> &mut Self {
        self.returns(client, number, Outcome::Acked { at })
    }

    pub(crate) fn refused(&mut self, client: &str, number: u64) -> &mut Self {
        self.returns(client, number, Outcome::Refused { why: "refused".to_owned() })
    }

    pub(crate) fn unknown(&mut self, client: &str, number: u64) -> &mut Self {
        self.returns(client, number, Outcome::Unknown { why: "late".to_owned() })
    }

    /// An entry as a reader finds it when everything is well.
    pub(crate) fn find(&self, position: u64, client: &str, number: u64) -> Found {
        let entry = Some(Story::id(client, number));
        Found { position, entry, counts: true, numbered: None, bytes: Story::bytes(client, number), leaf: None }
    }

    /// A leaf that holds no entry of the workload.
    pub(crate) fn leaf(position: u64, leaf: &str) -> Found {
        let leaf = Some(LeafBytes(Bytes::copy_from_slice(leaf.as_bytes())));
        Found { position, entry: None, counts: false, numbered: None, bytes: Bytes::new(), leaf }
    }

    /// The event of a client that reads a leaf.
    pub(crate) fn leaf_read(index: u64, leaf: &str) -> What {
        What::Log { event: LogEvent::LeafRead { index, leaf: Bytes::copy_from_slice(leaf.as_bytes()) } }
    }

    /// Adds a complete reading of a server by the auditor.
    pub(crate) fn reads(&mut self, server: &str, last: bool, found: &[Found]) -> &mut Self {
        self.readings += 1;
        let reading = self.readings;
        self.says("auditor", What::ReadingBegan { reading, server: server.into(), last });
        for found in found {
            self.says("auditor", What::Found { reading, found: found.clone() });
        }
        self.says("auditor", What::ReadingEnded { reading, error: None })
    }

    /// Adds the last readings, in which all three servers show the same.
    pub(crate) fn reads_everywhere(&mut self, found: &[Found]) -> &mut Self {
        self.reads("server-1", true, found).reads("server-2", true, found).reads("server-3", true, found)
    }

    pub(crate) fn judge(&self) -> Judgement {
        let (expect, catalogue) = (self.expect.clone(), self.catalogue.clone());
        judge(&self.history, &Expectations { expect, catalogue, known_violation: None })
    }

    pub(crate) fn finding(&self, invariant: Invariant) -> Finding {
        let found = self.judge().findings.into_iter().find(|it| it.0 == invariant);
        found.expect("the invariant is promised").1
    }

    /// Returns the first violation of an invariant.
    pub(crate) fn violation(&self, invariant: Invariant) -> Violation {
        match self.finding(invariant) {
            Finding::Violated(mut violations) => violations.swap_remove(0),
            other => panic!("{invariant} is not violated: {other:?}"),
        }
    }
}

fn hex_of_nothing() -> String {
    super::merkle::hex(&super::merkle::Range::default().root())
}
