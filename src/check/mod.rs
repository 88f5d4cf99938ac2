//! The judge decides what a history says about the invariants that the log under test promises. It is a pure function
//! from a `History` to a `Judgement`.
//!
//! The invariants are in `invariants`; beside that folder is what they share. The judge computes Merkle roots and
//! verifies signatures with code of its own, because it must not share a mistake with the log that it judges.
//!
//! It never says that an invariant holds unless the run could have shown it to be broken.

mod batch;
mod cause;
mod dials;
mod expect;
mod expectations;
mod facts;
mod forgotten;
mod fresh_reads;
mod index;
mod invariants;
mod merkle;
mod note;
mod obligations;
mod replicas;
#[cfg(test)]
pub(crate) mod testing;
mod verdict;
mod violations;
mod wall;
mod wire;
pub(crate) mod words;

pub use expectations::{Expect, Expectations, KnownViolation, Pattern, Untouched};
pub use verdict::{ENTRIES_MAX, EVENTS_MAX, Facts, Finding, Hits, Judgement, Unknowns, Unmet, Verdict, Violation};
pub use wall::WallClocks;

use self::{index::Index, invariants::CHECKS};
use crate::history::{History, Invariant};

/// Judges a run, in time linear in its events up to logarithms.
pub fn judge(history: &History, expectations: &Expectations) -> Judgement {
    let index = Index::of(history, expectations);
    let findings = findings(&index);
    let facts = facts::facts(&index);
    let (mut unmet, sometimes) = expect::judge(&index, &facts);
    unmet.extend(nothing_judged(&findings));
    let verdict = match &expectations.known_violation {
        None => verdict(&findings, &unmet),
        Some(known) => {
            let (verdict, said) = excuse(known, &findings, &unmet);
            unmet.push(said);
            verdict
        }
    };
    let remarks = expect::unbounded(index.expect, &facts).into_iter().collect();
    Judgement { verdict, findings, unmet, remarks, sometimes, facts }
}

/// Returns a finding for each invariant that the log promises or declines.
fn findings(index: &Index<'_>) -> Vec<(Invariant, Finding)> {
    let promises = &index.history.header.promises;
    let finding = |&invariant: &Invariant| {
        if let (Invariant::AtMostOnce, Some(why)) = (invariant, &promises.may_repeat) {
            return Some((invariant, Finding::Declined { why: why.clone() }));
        }
        if let Some((_, why)) = promises.declined.iter().find(|(declined, _)| *declined == invariant) {
            return Some((invariant, Finding::Declined { why: why.clone() }));
        }
        if !promises.kept.contains(&invariant) {
            return None;
        }
        let finding = match CHECKS.iter().find(|check| check.invariant == invariant) {
            Some(check) => (check.run)(index),
            None => Finding::Declined { why: "no check judges it yet".to_owned() },
        };
        Some((invariant, finding))
    };
    Invariant::ALL.iter().filter_map(finding).collect()
}

fn verdict(findings: &[(Invariant, Finding)], unmet: &[Unmet]) -> Verdict {
    let found = findings.iter().map(|(invariant, finding)| match finding {
        Finding::Holds { .. } | Finding::Declined { .. } => Verdict::Holds,
        Finding::Idle { .. } if arises_only_under_faults(*invariant) => Verdict::Holds,
        Finding::Idle { .. } => Verdict::Inconclusive,
        Finding::Violated(_) => Verdict::Violated,
    });
    let expected = unmet.iter().map(|it| if it.contradicted { Verdict::Violated } else { Verdict::Inconclusive });
    found.chain(expected).max().unwrap_or(Verdict::Holds)
}

/// Reports a log that declines every invariant: nothing shows such a log to be sound.
fn nothing_judged(findings: &[(Invariant, Finding)]) -> Option<Unmet> {
    let judged = findings.iter().any(|(_, finding)| !matches!(finding, Finding::Declined { .. }));
    (!judged).then(|| Unmet {
        text: "nothing was judged: the log declines every promise".to_owned(),
        cure: Some("promise what the log is for, e.g. with Promises::of_an_append_only_log()".to_owned()),
        line: None,
        contradicted: false,
        events: Vec::new(),
    })
}

/// Returns whether an invariant can be put to the test only by faults that are about it. In runs without such a fault
/// it is idle, which is reported and not held against the run; in a run with one, the fault must show that it bit.
pub(crate) fn arises_only_under_faults(invariant: Invariant) -> bool {
    matches!(invariant, Invariant::TrustedPeers | Invariant::NoSilentCorruption | Invariant::StopsWhenAsked)
}

/// Returns the verdict where a violation is known: that violation alone does not count, and its absence does. What was
/// excused is reported.
fn excuse(known: &KnownViolation, findings: &[(Invariant, Finding)], unmet: &[Unmet]) -> (Verdict, Unmet) {
    let KnownViolation { invariant, issue, saying } = known;
    let is_known = |violation: &Violation| saying.as_ref().is_none_or(|text| violation.summary.contains(text));
    let mut excused: Vec<&str> = Vec::new();
    let mut others = Vec::new();
    for (judged, finding) in findings {
        match finding {
            Finding::Violated(all) if judged == invariant => {
                let (known, unknown): (Vec<_>, Vec<_>) = all.iter().partition(|it| is_known(it));
                excused.extend(known.iter().map(|it| it.summary.as_str()));
                if !unknown.is_empty() {
                    others.push((*judged, Finding::Violated(unknown.into_iter().cloned().collect())));
                }
            }
            _ => others.push((*judged, finding.clone())),
        }
    }
    let which = saying.as_ref().map(|text| format!(" that says \"{text}\"")).unwrap_or_default();
    let text = match excused.is_empty() {
        false => format!("known violation: `{invariant}`, see {issue}; it does not count: {}", excused.join(" ")),
        true => format!(
            "the known violation of `{invariant}`{which} ({issue}) did not happen: remove `known-violation` if it is \
             cured, or run only seeds that show it"
        ),
    };
    let said = Unmet { text, cure: None, line: None, contradicted: excused.is_empty(), events: Vec::new() };
    match excused.is_empty() {
        true => (Verdict::Violated, said),
        false => (verdict(&others, unmet), said),
    }
}

/// Returns the page that explains an invariant: the opening comment of its file, in Markdown. `None` if no check judges
/// it.
pub fn explain(invariant: Invariant) -> Option<String> {
    let source = CHECKS.iter().find(|check| check.invariant == invariant)?.source;
    let page = source.lines().map_while(|line| line.strip_prefix("//!"));
    Some(page.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Found, LeafBytes, Outcome, What},
        report::{Hints, Palette, RunSummary, terminal},
    };
    use gapless_world::LogEvent;

    #[test]
    fn a_healthy_run_holds_and_every_promised_invariant_has_a_finding() {
        let judgement = Story::healthy().judge();
        assert_eq!(judgement.verdict, Verdict::Holds, "{judgement:#?}");
        let kept: Vec<Invariant> = judgement.findings.iter().map(|it| it.0).collect();
        assert_eq!(kept, Story::healthy().history.header.promises.kept);
    }

    fn known(story: &Story, invariant: Invariant) -> Judgement {
        known_saying(story, invariant, None)
    }

    fn known_saying(story: &Story, invariant: Invariant, saying: Option<&str>) -> Judgement {
        let issue = "https://example.org/417".to_owned();
        let known_violation = Some(KnownViolation { invariant, issue, saying: saying.map(str::to_owned) });
        judge(&story.history, &Expectations { known_violation, ..Expectations::default() })
    }

    #[test]
    fn a_known_violation_that_no_longer_happens_is_a_violation() {
        let judgement = known(&Story::healthy(), Invariant::AckedDurable);
        assert_eq!(judgement.verdict, Verdict::Violated);
        assert!(judgement.unmet.iter().any(|it| it.text.contains("did not happen")), "{:?}", judgement.unmet);
    }

    #[test]
    fn a_known_violation_that_happens_does_not_count_but_any_other_does() {
        let mut story = Story::new();
        story.submits("client-1", 0).acked("client-1", 0, Some(0));
        story.at(9_000).reads_everywhere(&[]);
        let broken: Vec<Invariant> = story.judge().violated().map(|it| it.0).collect();
        assert!(!broken.is_empty());
        let judgement = known(&story, broken[0]);
        assert_eq!(judgement.verdict == Verdict::Violated, broken.len() > 1, "{judgement:#?}");
        let said = judgement.unmet.iter().find(|it| it.text.starts_with("known violation")).expect("it is said");
        let summary = &judgement.violated().next().expect("violated").1[0].summary;
        assert!(said.text.ends_with(summary.as_str()), "what was excused is told: {said:?}");
    }

    #[test]
    fn a_known_violation_that_says_something_excuses_no_other_of_its_invariant() {
        // A repeat in the numbers, and entries of one client out of order: both belong to `no-gaps`.
        let mut story = Story::new();
        story.history.header.promises.kept = vec![Invariant::NoGaps];
        story.expect.acked_at_least = 0;
        for number in 0..3 {
            story.at(1_000 + number).submits("client-1", number).acked("client-1", number, None);
        }
        let find = |at, number, sequence| Found {
            numbered: Some(("client-1".into(), 1, sequence)),
            ..story.find(at, "client-1", number)
        };
        let found = [find(0, 0, 0), find(1, 2, 1), find(2, 1, 1)];
        story.at(9_000).reads_everywhere(&found);
        let order = known_saying(&story, Invariant::NoGaps, Some("stands at position 2, behind"));
        assert_eq!(order.verdict, Verdict::Violated, "the repeat is not the known one: {order:#?}");
        assert_ne!(known(&story, Invariant::NoGaps).verdict, Verdict::Violated);
        let absent = known_saying(&story, Invariant::NoGaps, Some("position 17"));
        assert!(absent.unmet.iter().any(|it| it.text.contains("that says \"position 17\"")), "{absent:#?}");
    }

    #[test]
    fn every_invariant_has_a_check() {
        for invariant in Invariant::ALL {
            assert!(CHECKS.iter().any(|check| check.invariant == *invariant), "{invariant}");
        }
    }

    #[test]
    fn a_declined_invariant_is_not_judged_and_says_why() {
        let mut story = Story::new();
        story.history.header.promises.kept = vec![Invariant::AppendOnly];
        story.history.header.promises.declined = vec![(Invariant::AppendOnly, "it forgets".to_owned())];
        let why = "it forgets".to_owned();
        assert_eq!(story.judge().verdict, Verdict::Inconclusive, "nothing at all was judged");
        assert!(story.judge().unmet.iter().any(|it| it.text.contains("declines every promise")));
        assert_eq!(story.judge().findings, [(Invariant::AppendOnly, Finding::Declined { why })]);
    }

    #[test]
    fn an_idle_check_makes_the_verdict_inconclusive_and_a_violation_outweighs_it() {
        let mut story = Story::new();
        assert_eq!(story.judge().verdict, Verdict::Inconclusive);
        let found = [story.find(0, "client-1", 0)];
        story.reads("server-1", false, &found);
        assert_eq!(story.judge().verdict, Verdict::Violated);
    }

    #[test]
    fn every_check_explains_itself_in_the_same_order() {
        for check in CHECKS {
            let page = explain(check.invariant).unwrap();
            let name = check.invariant.name();
            assert!(page.starts_with(&format!("# {name}\n\n")), "{name}: {page}");
            let parts = ["**Where it comes from.**", "**What it looks at.**", "**What leaves it idle.**", "**A corner"];
            let at: Vec<usize> = parts.iter().map(|part| page.find(part).expect(part)).collect();
            assert!(at.is_sorted(), "{name}");
        }
    }

    /// Any event, with numbers at both ends of their range, in no sensible order.
    fn any_event() -> impl Strategy<Value = What> {
        let number = || prop_oneof![0u64..4, Just(u64::MAX), Just(u64::MAX - 1)];
        let client = || prop_oneof![Just("client-1"), Just("client-2"), Just("stranger")];
        let id = move || (client(), number()).prop_map(|(client, number)| Story::id(client, number));
        let epoch =
            (client(), number(), number()).prop_map(|(client, epoch, sequence)| (client.into(), epoch, sequence));
        let numbered = proptest::option::of(epoch);
        let found = (number(), proptest::option::of(id()), any::<bool>(), numbered, any::<bool>());
        let found = found.prop_map(|(position, entry, counts, numbered, leaf)| Found {
            position,
            entry,
            counts,
            numbered,
            bytes: Default::default(),
            leaf: leaf.then(|| LeafBytes(position.to_be_bytes().to_vec().into())),
        });
        prop_oneof![
            Just(What::Began {}),
            Just(What::Healed {}),
            any::<bool>().prop_map(|quiet| What::Settled { quiet }),
            any::<bool>().prop_map(|paused| What::Paused { paused }),
            Just(What::Down { how: Down::PowerLoss }),
            Just(What::Up { life: 2 }),
            Just(What::Lost { path: "log".to_owned(), bytes: u64::MAX, torn: u64::MAX }),
            number().prop_map(|number| What::Damaged {
                path: "log".to_owned(),
                offset: number,
                bytes: number,
                fault: "bit-rot".to_owned()
            }),
            id().prop_map(|entry| What::Submitted { bytes: entry.mark().into(), entry }),
            (id(), number()).prop_map(|(entry, at)| What::Returned { entry, outcome: Outcome::Acked { at: Some(at) } }),
            id().prop_map(|entry| What::Returned { entry, outcome: Outcome::Refused { why: "no".to_owned() } }),
            id().prop_map(|entry| What::Holds { outbox: vec![entry], dead_letters: vec![] }),
            (0u32..3, any::<bool>()).prop_map(|(reading, last)| What::ReadingBegan {
                reading,
                server: "server-1".into(),
                last
            }),
            (0u32..3, found.clone()).prop_map(|(reading, found)| What::Found { reading, found }),
            (0u32..3).prop_map(|reading| What::ReadingEnded { reading, error: None }),
            found.prop_map(|found| What::Followed { found }),
            number().prop_map(|size| What::CheckpointRead { reading: 0, size, root: "00".repeat(32) }),
            (number(), number()).prop_map(|(call, deadline_ms)| What::Log {
                event: LogEvent::CallStarted {
                    call,
                    method: "m".to_owned(),
                    peer: "p".to_owned(),
                    attempt: 1,
                    deadline_ms
                },
            }),
            number().prop_map(|budget| What::Memory { budget }),
            (number(), number()).prop_map(|(bytes, limit)| What::Log {
                event: LogEvent::MemoryUsed { what: format!("queue-{bytes}"), bytes, limit },
            }),
            number().prop_map(|call| What::Log {
                event: LogEvent::CallEnded { call, status: "ok".to_owned(), detail: String::new() },
            }),
            (number(), number()).prop_map(|(epoch, sequence)| What::Log {
                event: LogEvent::ReceiptVerified { epoch, sequence, index: sequence, receipt: Default::default() },
            }),
            (id(), number()).prop_map(|(entry, sequence)| What::Log {
                event: LogEvent::EntryAccepted { epoch: sequence, sequence, entry: entry.mark().into() },
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_history_however_absurd_gets_a_verdict_and_a_screen(
            events in proptest::collection::vec((any_event(), 0u64..100_000, 0usize..3), 0..60),
        ) {
            let mut story = Story::new();
            for (what, ms, host) in events {
                story.at(ms).says(["client-1", "server-1", "harness"][host], what);
            }
            let judgement = story.judge();
            for (invariant, violations) in judgement.violated() {
                for violation in violations {
                    prop_assert!(!violation.summary.is_empty() && violation.events.len() <= EVENTS_MAX, "{invariant}");
                    prop_assert!(violation.events.iter().all(|&at| at < story.history.events.len()));
                }
            }
            let run = RunSummary {
                scenario: "any".to_owned(),
                file: "any.toml".to_owned(),
                seed: 0,
                simulated: judgement.facts.simulated,
                judgement,
                wall: None,
                hash: String::new(),
            };
            let screen = terminal::screen(&run, &story.history, &Hints::default(), Palette::Plain);
            prop_assert!(screen.lines().count() <= terminal::LINES_MAX, "{}", screen);
            prop_assert!(screen.lines().all(|line| line.chars().count() <= terminal::COLUMNS_MAX), "{}", screen);
        }
    }

    #[test]
    fn a_judgement_crosses_a_process_boundary_as_json() {
        let mut story = Story::healthy();
        let found = [story.find(7, "client-9", 9)];
        story.reads("server-1", false, &found);
        let judgement = story.judge();
        let text = serde_json::to_string(&judgement).unwrap();
        assert_eq!(serde_json::from_str::<Judgement>(&text).unwrap(), judgement);
    }
}
