//! # recovers
//!
//! After the last fault has healed, each client's appends succeed within the stated time, everything owed is delivered,
//! and no server stays behind the others.
//!
//! **Where it comes from.** Liveness after the *global stabilisation time* (Dwork, Lynch and Stockmeyer, 1988): safety
//! is owed always, progress only once the network behaves, but then it is owed. TigerBeetle's simulator ends its runs
//! in the same way, with a liveness phase in which everything heals.
//!
//! **What it looks at.** Each client that has something to send when the last fault heals, or submits something later:
//! it must have an acknowledgement within `recovers-within` of that moment. Each entry submitted after the heal must be
//! answered within the same time, counted from its submission. At the end of the settle phase nothing may be left to
//! deliver. By then every server that can be read must show as much of the log as the others (where the log shows its
//! leaves), and a quorum of servers must show what was acknowledged; a server that is behind is read again until the
//! time is over.
//!
//! **What leaves it idle.** The run ended before the last fault healed, no client had anything to send afterwards, or
//! the run ended before the time to recover was over.
//!
//! **A corner that goes wrong.** A back-off doubled through a long outage, and the client waits longer than the outage
//! took. A client parked for want of a certificate; the certificate arrived, and nobody told the client. Everybody can
//! reach the leader except the one client whose connection still points at the old one. A replica is up, and answers,
//! and was forgotten by the leader: everybody is served, until the others are lost.

use super::super::{
    cause,
    index::{Entry, Index},
    obligations::{Owed, obligations},
    replicas,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Name, Outcome, What};

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut violations = Violations::default();
    if let Some((event, false)) = index.settled {
        violations.add("not-quiet", None, || not_quiet(index, event));
    }
    replicas::behind(index, &mut violations);
    replicas::unshown(index, &mut violations);
    let Some(healed) = index.healed else {
        return violations.or(Finding::Idle { why: "the run ended before the last fault healed".to_owned() });
    };
    let within = index.expect.recovers_within;
    let obligations = obligations(index, healed);
    let mut judged = 0;
    for (client, owed) in &obligations {
        match owed.acked {
            Some(acked) if index.event(acked).at <= owed.since.saturating_add(within) => judged += 1,
            None if index.end < owed.since.saturating_add(within) => {}
            _ => violations.add("blind", None, || still_blind(index, client, owed, healed)),
        }
    }
    for entry in &index.entries {
        if unanswered(index, entry, healed) {
            violations.add("unanswered", Some(entry.id()), || no_answer(index, entry));
        }
    }
    let why = if obligations.is_empty() {
        "no client had anything to send after the last fault had healed"
    } else {
        "the run was over before the time to recover was"
    };
    let exercised = || format!("{} that had something to send", words::count(judged, "client", "clients"));
    violations.or_held(judged, exercised, why)
}

/// Returns whether an entry submitted after the heal was left without an answer for longer than is allowed, or was
/// answered "unknown" when the log ought to have recovered.
fn unanswered(index: &Index<'_>, entry: &Entry<'_>, healed: usize) -> bool {
    let within = index.expect.recovers_within;
    let Some((submitted, _)) = entry.submitted.filter(|&(at, _)| at > healed) else { return false };
    let due = index.event(submitted).at.saturating_add(within);
    let recovered = index.event(healed).at.saturating_add(within);
    match entry.returned {
        Some((at, Outcome::Unknown { .. })) => index.event(at).at > recovered,
        Some((at, _)) => index.event(at).at > due,
        None => index.end > due,
    }
}

fn no_answer(index: &Index<'_>, entry: &Entry<'_>) -> Violation {
    let submitted = entry.submitted.map(|it| it.0);
    let at = words::time(submitted.map(|at| index.event(at).at).unwrap_or_default());
    let what = match entry.returned {
        Some((at, Outcome::Unknown { why })) => {
            format!("came back unknown at {} ({why})", words::time(index.event(at).at))
        }
        Some((at, _)) => format!("was answered only at {}", words::time(index.event(at).at)),
        None => "never came back".to_owned(),
    };
    let summary = format!("{} was submitted at {at}, after everything had healed, and {what}.", entry.id());
    let events = [index.healed, submitted, entry.returned.map(|it| it.0)];
    let (why, shown) = cause::server_that_fails(index, index.history.events.len());
    Violation::new(summary).because(why).shown_by(events.into_iter().flatten().chain(shown))
}

fn still_blind(index: &Index<'_>, client: &Name, owed: &Owed, healed: usize) -> Violation {
    let (since, within) = (words::time(owed.since), words::span(index.expect.recovers_within));
    let what = match owed.acked {
        Some(acked) => format!("its first acknowledgement came at {}", words::time(index.event(acked).at)),
        None => "none of its appends was acknowledged".to_owned(),
    };
    let summary =
        format!("{client} had something to send at {since}, after the last heal, and {what}; {within} were allowed.");
    let pending: Vec<&Entry<'_>> = pending(index, healed).filter(|entry| entry.client == client).collect();
    let tries = (healed..index.history.events.len()).filter(|&at| {
        index.event(at).host == *client && matches!(index.event(at).what.name(), "retry" | "parked" | "resumed")
    });
    let events = [Some(healed), owed.acked, pending.first().and_then(|it| it.submitted).map(|it| it.0)];
    let entries = pending.iter().map(|entry| entry.id());
    let (why, shown) = cause::server_that_fails(index, index.history.events.len());
    let events = events.into_iter().flatten().chain(shown).chain(tries.take(6));
    Violation::new(summary).of(entries).because(why).shown_by(events)
}

/// Returns the entries that had been submitted and not answered when `event` happened.
fn pending<'i, 'h>(index: &'i Index<'h>, event: usize) -> impl Iterator<Item = &'i Entry<'h>> {
    index.entries.iter().filter(move |entry| {
        entry.submitted.is_some_and(|it| it.0 < event) && entry.returned.is_none_or(|it| it.0 > event)
    })
}

fn not_quiet(index: &Index<'_>, event: usize) -> Violation {
    let mut owed: Vec<_> = pending(index, event).map(Entry::id).collect();
    for id in index.holds.values().flat_map(|(_, outbox, _)| outbox.iter()) {
        if index.entry(id).is_none_or(|entry| index.entries[entry].returned.is_some()) {
            owed.push(id.clone());
        }
    }
    let at = words::time(index.event(event).at);
    let total = owed.len() as u64;
    let what = match total {
        0 => "something was still to be delivered".to_owned(),
        1 => format!("1 entry was still to be delivered: {}", words::entries(&owed, 1)),
        _ => format!("{} entries were still to be delivered: {}", words::number(total), words::entries(&owed, total)),
    };
    let summary = format!("at {at} the settle phase was over and {what}.");
    let last = (0..event).rev().filter(|&at| matches!(index.event(at).what, What::Log { .. }));
    let tries = last.filter(|&at| matches!(index.event(at).what.name(), "retry" | "parked"));
    let (why, shown) = cause::server_that_fails(index, event);
    let events = index.healed.into_iter().chain([event]).chain(shown).chain(tries.take(4));
    Violation::new(summary).of(owed).because(why).shown_by(events)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{check::testing::Story, history::Invariant};

    /// client-1 #0 is submitted at 1 s, and everything heals at 10 s; then `tell` runs; the run is over at `end_ms`.
    fn story(end_ms: u64, quiet: bool, tell: impl FnOnce(&mut Story)) -> Story {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0);
        story.at(10_000).says("harness", What::Healed {});
        tell(&mut story);
        story.at(end_ms).says("harness", What::Settled { quiet });
        story
    }

    fn summary(story: &Story) -> String {
        story.violation(Invariant::Recovers).summary
    }

    #[test]
    fn an_acknowledgement_in_time_holds_and_its_time_is_reported() {
        let story = story(90_000, true, |story| {
            story.at(22_100).acked("client-1", 0, None);
        });
        let Finding::Holds { exercised } = story.finding(Invariant::Recovers) else { panic!("not held") };
        assert_eq!(exercised, "1 client that had something to send");
        assert_eq!(story.judge().facts.recovered_after, Some(Duration::from_millis(12_100)));
    }

    #[test]
    fn a_late_acknowledgement_and_none_are_violations() {
        let late = story(90_000, true, |story| {
            story.at(41_000).acked("client-1", 0, None);
        });
        assert_eq!(
            summary(&late),
            "client-1 had something to send at 10.000s, after the last heal, and its first acknowledgement came at \
             41.000s; 30.0s were allowed."
        );
        let none = story(90_000, true, |_| ());
        assert!(summary(&none).contains("none of its appends was acknowledged"));
    }

    #[test]
    fn nothing_to_send_or_too_short_a_run_is_idle() {
        assert!(matches!(Story::new().finding(Invariant::Recovers), Finding::Idle { .. }));
        assert!(matches!(story(20_000, true, |_| ()).finding(Invariant::Recovers), Finding::Idle { .. }));
        let mut quiet = Story::new();
        quiet.says("harness", What::Healed {});
        assert!(matches!(quiet.finding(Invariant::Recovers), Finding::Idle { .. }));
    }

    #[test]
    fn what_is_still_to_be_delivered_at_the_end_is_named() {
        let story = story(20_000, false, |_| ());
        let told = "at 20.000s the settle phase was over and 1 entry was still to be delivered: client-1 #0.";
        assert_eq!(summary(&story), told);
    }

    #[test]
    fn an_unknown_answer_is_allowed_only_while_the_log_recovers() {
        let answered = |ms: u64| {
            story(90_000, true, |story| {
                story.at(11_000).acked("client-1", 0, None).at(ms - 500).submits("client-1", 1);
                story.at(ms).unknown("client-1", 1);
            })
        };
        assert!(matches!(answered(20_000).finding(Invariant::Recovers), Finding::Holds { .. }));
        let late = summary(&answered(45_000));
        assert_eq!(
            late,
            "client-1 #1 was submitted at 44.500s, after everything had healed, and came back unknown at \
             45.000s (late)."
        );
    }

    #[test]
    fn a_server_that_cannot_start_is_the_cause_with_its_whole_error_and_what_it_had_lost() {
        let mut story = Story::new();
        story.at(1_000).submits("client-1", 0);
        let made = Duration::from_millis(700);
        let error = "journal/0: the segment before it is missing".to_owned();
        story.at(2_000).says("server-1", What::LostName { path: "journal/0".to_owned(), made, bytes: 33_150 });
        for life in 2..19 {
            story.at(1_000 + 1_000 * life).says("server-1", What::Up { life: life as u32 });
            story.says("server-1", What::Failed { error: error.clone() });
        }
        story.at(20_000).says("harness", What::Healed {});
        story.at(60_000).says("harness", What::Settled { quiet: false });
        let why = "server-1 failed to start 17 times from 3.000s on, the last time at 19.000s: journal/0: the segment \
                   before it is missing; it had lost the name `journal/0` and the 33 150 bytes behind it at 2.000s: its \
                   folder was not synced since the name was made at 0.700s";
        assert_eq!(story.violation(Invariant::Recovers).why.as_deref(), Some(why));
    }

    #[test]
    fn a_server_that_came_up_again_is_no_cause() {
        let mut story = story(20_000, false, |_| ());
        let failed = What::Failed { error: "no".to_owned() };
        story
            .history
            .events
            .insert(0, crate::history::Event { at: Duration::ZERO, host: "server-1".into(), what: failed });
        let up = crate::history::Event { at: Duration::ZERO, host: "server-1".into(), what: What::Up { life: 2 } };
        story.history.events.insert(1, up);
        assert_eq!(story.violation(Invariant::Recovers).why, None);
    }
}
