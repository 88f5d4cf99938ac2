//! The parts of a scenario file that were read so far, with their places.

use std::{ops::Range, path::Path, sync::Arc, time::Duration};

use super::model::{self, Cluster, EventPattern, Expect, KnownViolation, Scenario, Start, Workload};
use crate::fault::{Action, Fault, HostRef};

/// The parts of a file that were read so far; a part that was wrong is missing.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) title: Option<String>,
    pub(super) story: String,
    pub(super) cluster: Option<Cluster>,
    /// The number of servers, if at least that could be read.
    pub(super) servers: Option<u32>,
    pub(super) clients: Option<u32>,
    pub(super) work: Option<Duration>,
    pub(super) workload: Option<Workload>,
    /// The places of the largest payload and of what exceeds it, if the file has them.
    pub(super) payload_max_span: Option<Range<usize>>,
    pub(super) oversize_span: Option<Range<usize>>,
    pub(super) steps: Vec<DraftStep>,
    pub(super) expect: Expect,
    pub(super) patterns: Vec<DraftPattern>,
    pub(super) seeds: Vec<u64>,
    pub(super) known_violation: Option<KnownViolation>,
    pub(super) lines: Lines,
}

/// An event pattern with the places of its parts.
#[derive(Debug)]
pub(super) struct DraftPattern {
    pub(super) list: &'static str,
    pub(super) pattern: EventPattern,
    pub(super) span: Range<usize>,
    pub(super) hosts: Vec<(HostRef, Range<usize>)>,
    pub(super) during_span: Range<usize>,
    pub(super) after_span: Range<usize>,
}

impl Draft {
    pub(super) fn finish(self, path: &Path, text: &str) -> Option<Scenario> {
        let lines = &self.lines;
        let steps = self.steps.into_iter().map(|step| {
            let line = lines.of(step.header.start);
            Some(model::Step {
                name: step.name,
                action: step.action?,
                start: step.start?,
                duration: step.duration,
                line,
            })
        });
        let steps = steps.collect::<Option<Vec<_>>>()?;
        let mut expect = self.expect;
        for DraftPattern { list, pattern, .. } in self.patterns {
            match list {
                "seen" => expect.seen.push(pattern),
                "never" => expect.never.push(pattern),
                _ => expect.sometimes.push(pattern),
            }
        }
        Some(Scenario {
            title: self.title?,
            story: self.story,
            cluster: self.cluster?,
            workload: self.workload?,
            steps,
            expect,
            seeds: self.seeds,
            known_violation: self.known_violation,
            path: path.to_owned(),
            source: Arc::from(text),
        })
    }
}

/// The positions of newlines, to find the line of a byte.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// Returns the line of a byte, from 1.
    pub(super) fn of(&self, at: usize) -> usize {
        self.0.partition_point(|newline| *newline < at) + 1
    }
}

/// A step with the places of its parts.
#[derive(Debug)]
pub(super) struct DraftStep {
    pub(super) header: Range<usize>,
    pub(super) name: String,
    /// Whether a name was given; else the name is the action's.
    pub(super) named: bool,
    pub(super) name_span: Range<usize>,
    pub(super) fault: Option<&'static Fault>,
    pub(super) action: Option<Action>,
    /// Every host word with its place, including those at the two ends of a link.
    pub(super) hosts: Vec<(HostRef, Range<usize>)>,
    /// The place of the whole selection: `on`, `between` or `from`.
    pub(super) place: Range<usize>,
    pub(super) start: Option<Start>,
    /// The place of `at` or `after`.
    pub(super) start_span: Range<usize>,
    pub(super) since_span: Range<usize>,
    pub(super) duration: Option<Duration>,
    /// Whether `for` was given, rightly or wrongly.
    pub(super) has_for: bool,
}
