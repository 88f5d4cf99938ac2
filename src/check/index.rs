//! One pass over a history, shared by all checks.
//!
//! For each entry it records what was submitted, answered and found; for each reading and follower, what it was given;
//! and which reading is the *final log*: the longest complete one among the last readings of all servers. It judges
//! nothing: it must work on any history, however absurd, in time and memory linear in its events.

use std::collections::BTreeMap;

use bytes::Bytes;
use gapless_world::LogEvent;
use prost::{DecodeError, Message as _};

use super::{
    expectations::{Expect, Expectations, Untouched},
    merkle::{self, Hash},
    note::{self, Note},
    wire, words,
};
use crate::history::{
    EntryId, Event, Found, History, Invariant, Name, Outcome, RunClock, StepEvent, What, mark::find_mark,
};

/// What is known of one entry.
#[derive(Debug)]
pub(super) struct Entry<'h> {
    pub(super) client: &'h Name,
    pub(super) number: u64,
    /// The event that submitted it, and its bytes.
    pub(super) submitted: Option<(usize, &'h Bytes)>,
    /// The event that answered it, and the answer.
    pub(super) returned: Option<(usize, &'h Outcome)>,
    /// The event by which its client took it into the outbox.
    pub(super) accepted: Option<usize>,
    /// The first find of it in the final log that counts.
    pub(super) first: Option<usize>,
    /// How often it counts in the final log.
    pub(super) times: u32,
    /// The first find of it in the final log that does not count.
    pub(super) void: Option<usize>,
    /// The number of servers in whose final readings it counts.
    pub(super) copies: u32,
    copied_from: Option<usize>,
}

impl Entry<'_> {
    pub(super) fn id(&self) -> EntryId {
        EntryId { client: self.client.clone(), number: self.number }
    }

    /// Returns the event of the acknowledgement and the position told, if the entry was acknowledged.
    pub(super) fn acked(&self) -> Option<(usize, Option<u64>)> {
        match self.returned {
            Some((event, Outcome::Acked { at })) => Some((event, *at)),
            _ => None,
        }
    }
}

/// One reading of one server.
#[derive(Debug)]
pub(super) struct Reading<'h> {
    pub(super) server: &'h Name,
    pub(super) last: bool,
    pub(super) began: usize,
    /// The event at which it ended, at the end of the log or not.
    pub(super) ended: Option<usize>,
    /// Whether it reached the end of the log.
    pub(super) complete: bool,
    /// Its finds, in the order in which they came.
    pub(super) finds: Vec<usize>,
}

/// Who was given a find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A reading, by its number in [`Index::readings`].
    Reading(usize),
    /// A follower; its host is the host of the event.
    Follower,
}

/// Something that a reader or follower found in the log.
#[derive(Debug)]
pub(super) struct Find<'h> {
    pub(super) event: usize,
    pub(super) found: &'h Found,
    /// The number in [`Index::entries`].
    pub(super) entry: Option<usize>,
    pub(super) source: Source,
}

/// A checkpoint that somebody signed, kept or read.
#[derive(Debug)]
pub(super) struct Checkpoint<'h> {
    pub(super) event: usize,
    pub(super) size: u64,
    /// The root as the event states it.
    pub(super) root: &'h str,
    /// The note that was signed, or why it cannot be read. `None` if the event has no note.
    pub(super) note: Option<Result<Note<'h>, &'static str>>,
}

impl Checkpoint<'_> {
    /// Returns the size and root that a checkpoint states: by its note where the note can be read, else by its event.
    pub(super) fn stated(&self) -> Option<(u64, Hash)> {
        match &self.note {
            Some(Ok(note)) => Some((note.size, note.root)),
            _ => merkle::from_hex(self.root).map(|root| (self.size, root)),
        }
    }
}

/// A receipt that a client accepted.
#[derive(Debug)]
pub(super) struct AcceptedReceipt {
    pub(super) event: usize,
    /// The index as its client took it.
    pub(super) index: u64,
    pub(super) decoded: Result<wire::Receipt, DecodeError>,
    /// The epoch and the sequence of the client.
    pub(super) slot: (u64, u64),
}

/// One step of the scenario.
#[derive(Debug)]
pub(super) struct StepRecord<'h> {
    pub(super) name: &'h Name,
    pub(super) hosts: &'h [Name],
    pub(super) begins: Option<usize>,
    pub(super) bites: Option<usize>,
    pub(super) nth: Vec<(u32, usize)>,
    pub(super) ended: Option<usize>,
    pub(super) not_run: Option<(usize, &'h str)>,
    summed_up: bool,
}

impl StepRecord<'_> {
    /// Returns whether it left evidence.
    pub(super) fn has_bitten(&self) -> bool {
        self.bites.is_some() || self.summed_up
    }
}

/// The final log.
#[derive(Debug)]
pub(super) struct Log {
    /// The event at which that reading began: the log owes nothing that happened later.
    pub(super) began: usize,
    /// Positions and finds, ascending by position; of repeated positions the first.
    finds: Vec<(u64, usize)>,
}

impl Log {
    /// Returns the find at a position.
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        let first = self.finds.first()?.0;
        let guess = usize::try_from(position.checked_sub(first)?).ok()?;
        match self.finds.get(guess) {
            Some(&(found, find)) if found == position => Some(find),
            _ => self.finds.binary_search_by_key(&position, |it| it.0).ok().map(|at| self.finds[at].1),
        }
    }

    /// Returns all finds, ascending by position.
    pub(super) fn finds(&self) -> impl ExactSizeIterator<Item = usize> {
        self.finds.iter().map(|&(_, find)| find)
    }
}

/// Everything that the checks ask for.
#[derive(Debug)]
pub(super) struct Index<'h> {
    pub(super) history: &'h History,
    pub(super) expect: &'h Expect,
    /// What the catalogue says about each step, by its name.
    pub(super) catalogue: &'h BTreeMap<Name, Untouched>,
    clients: BTreeMap<&'h str, usize>,
    by_number: BTreeMap<(usize, u64), usize>,
    acked: Vec<u64>,
    readings_by_id: BTreeMap<u32, usize>,
    /// In the order in which they are first mentioned.
    pub(super) entries: Vec<Entry<'h>>,
    pub(super) readings: Vec<Reading<'h>>,
    /// The last complete one among the `last` readings of each server.
    pub(super) finals: Vec<usize>,
    /// `None` if no last reading is complete.
    pub(super) log: Option<Log>,
    /// The finds of readings and followers, in the order of events.
    pub(super) finds: Vec<Find<'h>>,
    /// Leaves that clients read: event, position, bytes.
    pub(super) leaves: Vec<(usize, u64, &'h Bytes)>,
    pub(super) checkpoints: Vec<Checkpoint<'h>>,
    pub(super) receipts: Vec<AcceptedReceipt>,
    /// Entries that clients took into their outbox: event, epoch, number in [`Index::entries`].
    pub(super) accepted: Vec<(usize, u64, usize)>,
    /// What each client holds at the end: event, outbox, dead letters.
    pub(super) holds: BTreeMap<&'h str, (usize, &'h [EntryId], &'h [EntryId])>,
    pub(super) steps: Vec<StepRecord<'h>>,
    /// The latest event that submitted an entry which stands in a last reading.
    pub(super) shown_until: Option<usize>,
    pub(super) healed: Option<usize>,
    pub(super) settled: Option<(usize, bool)>,
    /// Whether the log numbers its clients' entries.
    pub(super) numbered: bool,
    /// Whether the log shows its leaves, and so counts positions from 0.
    pub(super) merkle: bool,
    /// The time of the last event.
    pub(super) end: RunClock,
}

impl<'h> Index<'h> {
    pub(super) fn of(history: &'h History, expectations: &'h Expectations) -> Self {
        let mut index = Index {
            history,
            expect: &expectations.expect,
            catalogue: &expectations.catalogue,
            clients: BTreeMap::new(),
            by_number: BTreeMap::new(),
            acked: Vec::new(),
            readings_by_id: BTreeMap::new(),
            entries: Vec::new(),
            readings: Vec::new(),
            finals: Vec::new(),
            log: None,
            finds: Vec::new(),
            leaves: Vec::new(),
            checkpoints: Vec::new(),
            receipts: Vec::new(),
            accepted: Vec::new(),
            holds: BTreeMap::new(),
            steps: Vec::new(),
            shown_until: None,
            healed: None,
            settled: None,
            numbered: false,
            merkle: false,
            end: history.events.last().map(|last| last.at).unwrap_or_default(),
        };
        for (at, event) in history.events.iter().enumerate() {
            index.take(at, event);
        }
        index.choose_final_log();
        index.count_finds();
        index
    }

    fn take(&mut self, at: usize, event: &'h Event) {
        match &event.what {
            What::Healed {} => self.healed = Some(at),
            What::Settled { quiet } => self.settled = Some((at, *quiet)),
            What::Step { step, event } => self.take_step(at, step, event),
            What::Submitted { entry, bytes } => {
                let entry = self.entry_of(&entry.client, entry.number);
                self.entries[entry].submitted.get_or_insert((at, bytes));
            }
            What::Returned { entry, outcome } => {
                let entry = self.entry_of(&entry.client, entry.number);
                if self.entries[entry].returned.is_none() {
                    self.entries[entry].returned = Some((at, outcome));
                    let client = self.clients[&**self.entries[entry].client];
                    self.acked[client] += u64::from(matches!(outcome, Outcome::Acked { .. }));
                }
            }
            What::Holds { outbox, dead_letters } => {
                self.holds.insert(&event.host, (at, outbox, dead_letters));
            }
            What::ReadingBegan { .. } | What::ReadingEnded { .. } | What::CheckpointRead { .. } => {
                self.take_reading(at, event);
            }
            What::Found { reading, found } => {
                if let Some(&reading) = self.readings_by_id.get(reading) {
                    self.readings[reading].finds.push(self.finds.len());
                    self.take_find(at, found, Source::Reading(reading));
                }
            }
            What::Followed { found } => self.take_find(at, found, Source::Follower),
            What::Log { event: log } => self.take_log(at, &event.host, log),
            _ => {}
        }
    }

    fn take_step(&mut self, at: usize, name: &'h Name, event: &'h StepEvent) {
        let n = self.steps.iter().position(|step| step.name == name).unwrap_or_else(|| {
            let (begins, bites, ended, not_run) = (None, None, None, None);
            let step =
                StepRecord { name, hosts: &[], begins, bites, nth: Vec::new(), ended, not_run, summed_up: false };
            self.steps.push(step);
            self.steps.len() - 1
        });
        let step = &mut self.steps[n];
        match event {
            StepEvent::Begins { hosts } => {
                step.begins.get_or_insert(at);
                step.hosts = hosts;
            }
            StepEvent::Bites { .. } => {
                step.bites.get_or_insert(at);
            }
            StepEvent::Nth { n } => step.nth.push((*n, at)),
            StepEvent::Ended { evidence } => {
                step.ended = Some(at);
                step.summed_up |= evidence.is_some();
            }
            StepEvent::NotRun { why } => step.not_run = Some((at, why)),
        }
    }

    fn take_reading(&mut self, at: usize, event: &'h Event) {
        match &event.what {
            What::ReadingBegan { reading, server, last } => {
                self.readings_by_id.insert(*reading, self.readings.len());
                let (finds, complete) = (Vec::new(), false);
                self.readings.push(Reading { server, last: *last, began: at, ended: None, complete, finds });
            }
            What::ReadingEnded { reading, error } => {
                if let Some(&reading) = self.readings_by_id.get(reading) {
                    self.readings[reading].complete = error.is_none();
                    self.readings[reading].ended = Some(at);
                }
            }
            What::CheckpointRead { size, root, .. } => {
                self.checkpoints.push(Checkpoint { event: at, size: *size, root, note: None });
            }
            _ => {}
        }
    }

    fn take_find(&mut self, at: usize, found: &'h Found, source: Source) {
        let entry = found.entry.as_ref().map(|id| self.entry_of(&id.client, id.number));
        self.numbered |= found.numbered.is_some();
        self.merkle |= found.leaf.is_some();
        self.finds.push(Find { event: at, found, entry, source });
    }

    fn take_log(&mut self, at: usize, host: &'h Name, event: &'h LogEvent) {
        match event {
            LogEvent::CheckpointSigned { size, root, note } | LogEvent::CheckpointKept { size, root, note } => {
                self.checkpoints.push(Checkpoint { event: at, size: *size, root, note: Some(note::parse(note)) });
            }
            LogEvent::ReceiptVerified { epoch, sequence, index, receipt } => {
                let decoded = wire::Receipt::decode(receipt.clone());
                self.receipts.push(AcceptedReceipt { event: at, index: *index, decoded, slot: (*epoch, *sequence) });
            }
            LogEvent::EntryAccepted { epoch, entry, .. } => {
                if let Some((client, number)) = find_mark(entry)
                    && client == &**host
                {
                    let entry = self.entry_of(host, number);
                    self.entries[entry].accepted.get_or_insert(at);
                    self.accepted.push((at, *epoch, entry));
                }
            }
            LogEvent::LeafRead { index, leaf } => {
                self.merkle = true;
                self.leaves.push((at, *index, leaf));
            }
            _ => {}
        }
    }

    /// Returns the number of the entry, which is added if it is new.
    fn entry_of(&mut self, client: &'h Name, number: u64) -> usize {
        let next = self.clients.len();
        let which = *self.clients.entry(client).or_insert(next);
        if which == next {
            self.acked.push(0);
        }
        let entries = &mut self.entries;
        *self.by_number.entry((which, number)).or_insert_with(|| {
            entries.push(Entry {
                client,
                number,
                submitted: None,
                returned: None,
                accepted: None,
                first: None,
                times: 0,
                void: None,
                copies: 0,
                copied_from: None,
            });
            entries.len() - 1
        })
    }

    fn choose_final_log(&mut self) {
        let mut by_server: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, reading) in self.readings.iter().enumerate().filter(|(_, it)| it.last && it.complete) {
            by_server.insert(reading.server, n);
        }
        self.finals = by_server.into_values().collect();
        self.finals.sort_unstable();
        let longest = self.finals.iter().copied().rev().max_by_key(|&n| self.readings[n].finds.len());
        self.log = longest.map(|reading| {
            let finds = self.readings[reading].finds.iter().map(|&find| (self.finds[find].found.position, find));
            let mut finds: Vec<(u64, usize)> = finds.collect();
            finds.sort_by_key(|it| it.0);
            finds.dedup_by_key(|it| it.0);
            Log { began: self.readings[reading].began, finds }
        });
    }

    /// Counts where and how often each entry stands in the final readings.
    fn count_finds(&mut self) {
        let (finds, entries) = (&self.finds, &mut self.entries);
        for &reading in &self.finals {
            for &find in &self.readings[reading].finds {
                let Some(entry) = finds[find].entry else { continue };
                let entry = &mut entries[entry];
                if finds[find].found.counts && entry.copied_from != Some(reading) {
                    entry.copied_from = Some(reading);
                    entry.copies += 1;
                    self.shown_until = self.shown_until.max(entry.submitted.map(|it| it.0));
                }
            }
        }
        for find in self.log.iter().flat_map(Log::finds) {
            let Some(entry) = finds[find].entry else { continue };
            let entry = &mut entries[entry];
            if finds[find].found.counts {
                entry.first.get_or_insert(find);
                entry.times += 1;
            } else {
                entry.void.get_or_insert(find);
            }
        }
    }

    pub(super) fn event(&self, at: usize) -> &'h Event {
        &self.history.events[at]
    }

    /// Names who was given a find, for sentences.
    pub(super) fn reader(&self, find: &Find<'_>) -> String {
        match find.source {
            Source::Reading(reading) => format!("the reading of {}", self.readings[reading].server),
            Source::Follower => format!("the follower on {}", self.event(find.event).host),
        }
    }

    /// Returns the number of the entry with that id, if any event mentions it.
    pub(super) fn entry(&self, id: &EntryId) -> Option<usize> {
        let client = self.clients.get(&*id.client)?;
        self.by_number.get(&(*client, id.number)).copied()
    }

    /// Returns how many entries of a client were acknowledged.
    pub(super) fn acked_of(&self, client: &str) -> u64 {
        self.clients.get(client).map_or(0, |&client| self.acked[client])
    }

    pub(super) fn step(&self, name: &str) -> Option<&StepRecord<'h>> {
        self.steps.iter().find(|step| &**step.name == name)
    }

    /// Returns the smallest number of servers that is more than half of them.
    pub(super) fn quorum(&self) -> usize {
        self.history.header.servers.len() / 2 + 1
    }

    /// Returns whether the final log owes what happened at `event`, because it happened before that log was read.
    pub(super) fn owed(&self, event: usize) -> bool {
        self.log.as_ref().is_some_and(|log| event < log.began)
    }

    /// Returns how many servers' last readings end before a position. These servers show nothing there, which does not
    /// mean that they hold nothing.
    pub(super) fn ending_before(&self, position: u64) -> usize {
        self.finals.iter().filter(|&&reading| self.end_of(reading) <= position).count()
    }

    /// Returns the position behind the last one of a reading.
    pub(super) fn end_of(&self, reading: usize) -> u64 {
        let positions = self.readings[reading].finds.iter().map(|&find| self.finds[find].found.position);
        positions.max().map_or(0, |last| last.saturating_add(1))
    }

    /// Returns whether an entry that was acknowledged at `acked`, and is in no last reading, is merely not shown:
    /// several servers hold the log, and none of them shows anything that was submitted later. A log without a leader
    /// shows what it last knew to be committed, and may hold more. `recovers` judges such an entry, so this is false
    /// where the log does not promise that.
    pub(super) fn is_merely_not_shown(&self, acked: usize) -> bool {
        self.history.header.servers.len() > 1
            && self.promises_to_recover()
            && self.shown_until.is_none_or(|shown| shown < acked)
    }

    /// Returns whether the log is held to `recovers`.
    pub(super) fn promises_to_recover(&self) -> bool {
        self.history.header.promises.kept.contains(&Invariant::Recovers)
    }

    /// Returns whether an entry counts at a position of the final log, which need not be its first one.
    pub(super) fn stands_at(&self, entry: &Entry<'_>, position: u64) -> bool {
        let find = self.log.as_ref().and_then(|log| log.at(position)).map(|find| &self.finds[find]);
        find.is_some_and(|find| find.found.counts && find.found.entry.as_ref() == Some(&entry.id()))
    }

    /// Returns why there is no final log.
    pub(super) fn why_no_log(&self) -> String {
        match self.readings.iter().filter(|reading| reading.last).count() as u64 {
            0 => "nobody read the log after everything had healed".to_owned(),
            1 => "the last reading did not reach the end of the log".to_owned(),
            tried => format!("not one of the {} last readings reached the end of the log", words::number(tried)),
        }
    }

    /// Returns the entries of the workload that count, in the order of the log, each with its find; repeats are
    /// included.
    pub(super) fn counting<'i>(&'i self, log: &'i Log) -> impl Iterator<Item = (usize, &'i Entry<'h>)> {
        log.finds().filter_map(|at| {
            let find = &self.finds[at];
            let entry = find.entry.filter(|_| find.found.counts)?;
            Some((at, &self.entries[entry]))
        })
    }

    /// Returns the position of an entry in the final log.
    pub(super) fn position(&self, entry: &Entry<'_>) -> Option<u64> {
        entry.first.map(|find| self.finds[find].found.position)
    }
}

/// What was seen at each position: dense where positions are near 0, as those of a log are, else in a map.
#[derive(Debug)]
pub(super) struct Positions {
    dense: Vec<u32>,
    sparse: BTreeMap<u64, u32>,
    dense_max: u64,
}

impl Positions {
    const NONE: u32 = u32::MAX;

    /// Makes room for about `count` positions.
    pub(super) fn new(count: usize) -> Self {
        Positions { dense: Vec::new(), sparse: BTreeMap::new(), dense_max: count as u64 * 2 + 1_024 }
    }

    /// Returns what is known at `position`. If nothing is, `value` is known there from then on.
    pub(super) fn known_or(&mut self, position: u64, value: usize) -> Option<usize> {
        let value = u32::try_from(value).ok().filter(|&value| value != Self::NONE)?;
        if position >= self.dense_max {
            let known = *self.sparse.entry(position).or_insert(value);
            return (known != value).then_some(known as usize);
        }
        let at = position as usize;
        if at >= self.dense.len() {
            self.dense.resize(at + 1, Self::NONE);
        }
        let known = std::mem::replace(&mut self.dense[at], value);
        if known == Self::NONE {
            return None;
        }
        self.dense[at] = known;
        Some(known as usize)
    }

    /// Returns what is known at `position`.
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        let dense = usize::try_from(position).ok().and_then(|at| self.dense.get(at));
        let known = dense.or_else(|| self.sparse.get(&position)).copied()?;
        (known != Self::NONE).then_some(known as usize)
    }
}
