//! # stays-up
//!
//! No server ends by itself, reports corruption, or loses what it had acknowledged, unless a step struck it.
//!
//! **Where it comes from.** *Crash-stop* is what a fault does to a process (Cachin, Guerraoui and Rodrigues,
//! "Introduction to Reliable and Secure Distributed Programming", section 2.2), not what a correct process does to
//! itself. A supervisor that starts the process again hides its end from everybody except whoever reads the journal,
//! until the process ends everywhere at once.
//!
//! **What it looks at.** Every server's process. It may end because it was asked to, because a step ended it, or with
//! an error once a step has struck what it depends on: its disk, its clock, its certificate, its memory, from the
//! beginning of that step on (`gapless explain FAULT` says of each fault whether it does). A crash, a power loss, a
//! restart, a pause, or anything on the network is no reason: a process must come up after each, and stay up. A server
//! may report corruption only where its disk was damaged, failed or was emptied; on a sound disk the fault is its own.
//! What a repair has replaced (`replica-repaired`) is sound from then on, until its disk is struck again. The same goes
//! for a server that a leader found to hold less than it had acknowledged (`member-lost-tail`): on a sound disk it had
//! acknowledged what was not synced, which no entry shows as long as a majority kept it. A disk that was put back to an
//! earlier state is sound; it explains, once to each leader, that the server holds less.
//!
//! **What leaves it idle.** No server ran.
//!
//! **A corner that goes wrong.** A power loss took a file, or its name, because it was not synced, and a start takes
//! what is left for corrupt. A read meets a truncation half-way. A listener's old socket is still open. A peer sends an
//! odd message, and the process answers by ending.

use std::collections::{BTreeMap, BTreeSet};

use gapless_world::LogEvent;

use super::super::{
    cause,
    index::Index,
    verdict::{Finding, Violation},
    violations::Violations,
    words,
};
use crate::history::{Down, Name, What};

/// What is known of one server.
#[derive(Debug, Default)]
struct Server {
    lives: u64,
    /// Whether it was asked to stop since it last ended. The request may be recorded before the life that it ends: a
    /// process begins a moment after it was started.
    asked: bool,
    /// Whether a step has struck what its process depends on.
    struck: bool,
    /// Whether its disk was emptied.
    emptied: bool,
    /// If its disk was put back to an earlier state, the leaders that have since found out what it forgot.
    put_back: Option<BTreeSet<Name>>,
    /// Files that were damaged, or could not be read or written, and have not been replaced since.
    damaged: BTreeSet<String>,
}

impl Server {
    /// Returns whether its disk was emptied, or holds files that were damaged or failed.
    fn disk_struck(&self) -> bool {
        self.emptied || !self.damaged.is_empty()
    }

    /// Returns whether a leader may find that it holds less than it had acknowledged. A disk that was put back explains
    /// this once to each leader.
    fn may_have_forgotten(&mut self, leader: &Name) -> bool {
        self.disk_struck() || self.put_back.as_mut().is_some_and(|told| told.insert(leader.clone()))
    }
}

pub(super) fn check(index: &Index<'_>) -> Finding {
    let mut servers: BTreeMap<&Name, Server> =
        index.history.header.servers.iter().map(|name| (name, Server::default())).collect();
    let mut strikes = strikes(index).into_iter().peekable();
    let mut violations = Violations::default();
    for (at, event) in index.history.events.iter().enumerate().filter(|(_, event)| concerns_a_life(&event.what)) {
        while let Some((_, hosts)) = strikes.next_if(|(begins, _)| *begins <= at) {
            for host in hosts {
                if let Some(server) = servers.get_mut(host) {
                    server.struck = true;
                }
            }
        }
        if let What::Log { event: LogEvent::MemberLostTail { member, .. } } = &event.what
            && servers.contains_key(&event.host)
            && servers.get_mut(&Name::from(member.as_str())).is_some_and(|it| !it.may_have_forgotten(&event.host))
        {
            violations.add("forgot", None, || forgot(index, at));
        }
        let Some(server) = servers.get_mut(&event.host) else { continue };
        match &event.what {
            What::Up { .. } => server.lives += 1,
            What::StopRequested {} => server.asked = true,
            What::Damaged { path, .. } | What::Disk { path, error: Some(_), .. } => {
                server.struck = true;
                server.damaged.insert(path.clone());
            }
            What::Wiped {} => (server.struck, server.emptied) = (true, true),
            What::Rewound { .. } => (server.struck, server.put_back) = (true, Some(BTreeSet::new())),
            What::Log { event: LogEvent::ReplicaRepaired { replaced, .. } } => {
                server.damaged.retain(|path| !replaced.iter().any(|new| path.starts_with(new)));
            }
            What::Failed { .. } | What::Down { how: Down::Stop } if !server.asked && !server.struck => {
                violations.add("ended", None, || ended(index, &event.host, at));
            }
            What::Log { event: LogEvent::CorruptionFound { .. } } if !server.disk_struck() => {
                violations.add("false-alarm", None, || false_alarm(index, &event.host, at));
            }
            _ => {}
        }
        if matches!(event.what, What::Down { .. } | What::Failed { .. }) {
            server.asked = false;
        }
    }
    let lives: u64 = servers.values().map(|server| server.lives).sum();
    violations.or_held(lives, || words::count(lives, "life of a server", "lives of servers"), "no server ran")
}

/// Returns whether an event matters here. Few events do, and looking up the server of every other event would take
/// longer than the rest of this check.
fn concerns_a_life(what: &What) -> bool {
    match what {
        What::Disk { error, .. } => error.is_some(),
        What::Log { event } => matches!(
            event,
            LogEvent::CorruptionFound { .. } | LogEvent::MemberLostTail { .. } | LogEvent::ReplicaRepaired { .. }
        ),
        What::Up { .. } | What::Down { .. } | What::Failed { .. } | What::StopRequested {} => true,
        What::Damaged { .. } | What::Wiped {} | What::Rewound { .. } => true,
        _ => false,
    }
}

/// Returns the beginnings of steps that may end a process, and the hosts that they strike.
fn strikes<'h>(index: &Index<'h>) -> Vec<(usize, &'h [Name])> {
    let may_end = |name: &Name| index.catalogue.get(name).is_some_and(|step| step.may_end);
    let steps = index.steps.iter().filter(|step| may_end(step.name));
    let mut strikes: Vec<(usize, &[Name])> = steps.filter_map(|step| Some((step.begins?, step.hosts))).collect();
    strikes.sort_by_key(|(begins, _)| *begins);
    strikes
}

fn ended(index: &Index<'_>, server: &Name, at: usize) -> Violation {
    let event = index.event(at);
    let when = words::time(event.at);
    let summary = match &event.what {
        What::Failed { error } => format!("{server} ended by itself at {when}: {}.", error.trim_end_matches('.')),
        _ => format!("{server} ended by itself at {when}, without an error and without having been asked to."),
    };
    let (why, events) = cause::what_befell(index, server, at).unzip();
    let up =
        (0..at).rev().find(|&up| index.event(up).host == *server && matches!(index.event(up).what, What::Up { .. }));
    Violation::new(summary).because(why).shown_by(up.into_iter().chain([at]).chain(events.into_iter().flatten()))
}

fn forgot(index: &Index<'_>, at: usize) -> Violation {
    let event = index.event(at);
    let What::Log { event: LogEvent::MemberLostTail { member, holds, acknowledged, .. } } = &event.what else {
        return Violation::new("a member lost what it had acknowledged.".to_owned());
    };
    let (when, lost) = (words::time(event.at), words::count(acknowledged.saturating_sub(*holds), "leaf", "leaves"));
    let summary = format!(
        "{member} no longer held {lost} at {when} that it had acknowledged to {}, and nothing had damaged its disk.",
        event.host
    );
    let (why, events) = cause::what_befell(index, &Name::from(member.as_str()), at).unzip();
    Violation::new(summary).because(why).shown_by([at].into_iter().chain(events.into_iter().flatten()))
}

fn false_alarm(index: &Index<'_>, server: &Name, at: usize) -> Violation {
    let event = index.event(at);
    let told = match &event.what {
        What::Log { event: LogEvent::CorruptionFound { file, offset, what } } => {
            format!("corruption in `{file}` at byte {offset} ({what})")
        }
        _ => "corruption".to_owned(),
    };
    let when = words::time(event.at);
    let summary = format!("{server} told of {told} at {when}, and nothing had damaged its disk.");
    let (why, events) = cause::what_befell(index, server, at).unzip();
    Violation::new(summary).because(why).shown_by([at].into_iter().chain(events.into_iter().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Untouched, testing::Story},
        history::{DiskOp, Invariant, RunClock, StepEvent},
    };

    fn failed() -> What {
        What::Failed { error: "open journal/0.seg: no such file".to_owned() }
    }

    fn corruption() -> What {
        let (file, what) = ("journal/0.seg".to_owned(), "bad checksum".to_owned());
        What::Log { event: LogEvent::CorruptionFound { file, offset: 512, what } }
    }

    fn up() -> Story {
        let mut story = Story::new();
        story.says("server-1", What::Up { life: 1 }).says("server-2", What::Up { life: 1 });
        story.at(1_000);
        story
    }

    /// Adds a step of this action that strikes server-1.
    fn step(story: &mut Story, action: &str) {
        let fault = crate::fault::find(action).expect("in the catalogue");
        let known = Untouched {
            action: action.to_owned(),
            what: fault.untouched.to_owned(),
            cure: fault.cure.to_owned(),
            line: 1,
            may_end: fault.may_end_process,
        };
        story.catalogue.insert("it".into(), known);
        let event = StepEvent::Begins { hosts: vec!["server-1".into()] };
        story.says("harness", What::Step { step: "it".into(), event });
    }

    fn finding(story: &Story) -> Finding {
        story.finding(Invariant::StaysUp)
    }

    #[test]
    fn servers_that_run_hold_and_where_none_ran_it_is_idle() {
        assert_eq!(finding(&up()), Finding::Holds { exercised: "2 lives of servers".to_owned() });
        assert!(matches!(finding(&Story::new()), Finding::Idle { .. }));
    }

    #[test]
    fn a_server_that_ends_by_itself_is_a_violation_with_its_whole_error_and_how_often() {
        let mut story = up();
        for life in 2..19 {
            story.says("server-1", failed()).says("server-1", What::Up { life });
        }
        let told = story.violation(Invariant::StaysUp).summary;
        let said = "server-1 ended by itself at 1.000s: open journal/0.seg: no such file. It happened 17 times in all.";
        assert_eq!(told, said);
        let mut quietly = up();
        quietly.says("server-2", What::Down { how: Down::Stop });
        assert!(quietly.violation(Invariant::StaysUp).summary.contains("without having been asked to"));
    }

    #[test]
    fn one_that_was_asked_to_stop_may_end_and_only_in_that_life() {
        let mut story = up();
        story.says("server-1", What::StopRequested {}).says("server-1", What::Down { how: Down::Stop });
        assert!(matches!(finding(&story), Finding::Holds { .. }));
        story.says("server-1", What::Up { life: 2 }).says("server-1", failed());
        assert!(matches!(finding(&story), Finding::Violated(_)));
    }

    #[test]
    fn one_that_was_asked_to_stop_as_it_was_started_may_end() {
        let mut story = up();
        story.says("server-1", What::Down { how: Down::Crash }).says("server-1", What::StopRequested {});
        story.says("server-1", What::Up { life: 2 }).says("server-1", What::Down { how: Down::Stop });
        assert!(matches!(finding(&story), Finding::Holds { .. }));
        story.says("server-1", What::Up { life: 3 }).says("server-1", What::Down { how: Down::Stop });
        assert!(matches!(finding(&story), Finding::Violated(_)));
    }

    #[test]
    fn a_step_on_what_a_process_stands_on_excuses_that_host_and_no_other() {
        for (action, excused) in [("bit-rot", true), ("disk-full", true), ("clock-jump", true), ("crash", false)] {
            let mut story = up();
            step(&mut story, action);
            story.says("server-1", failed());
            assert_eq!(matches!(finding(&story), Finding::Holds { .. }), excused, "{action}");
            story.says("server-2", failed());
            assert!(matches!(finding(&story), Finding::Violated(_)), "{action} strikes one host");
        }
        let mut before = up();
        before.says("server-1", failed());
        step(&mut before, "bit-rot");
        assert!(matches!(finding(&before), Finding::Violated(_)), "what comes later excuses nothing");
    }

    #[test]
    fn what_a_power_loss_took_excuses_nothing_and_is_the_cause() {
        let mut story = up();
        step(&mut story, "power-loss");
        story.says("server-1", What::Down { how: Down::PowerLoss });
        story.says("server-1", What::Lost { path: "journal/0.seg".to_owned(), bytes: 33_107, torn: 0 });
        story.at(2_000).says("server-1", What::Up { life: 2 }).says("server-1", failed());
        let why = story.violation(Invariant::StaysUp).why.expect("a cause");
        assert!(why.starts_with("it had lost 33 107 unsynced bytes of `journal/0.seg` at 1.000s"), "{why}");
    }

    #[test]
    fn corruption_on_a_disk_that_nothing_touched_is_a_violation() {
        let mut story = up();
        step(&mut story, "clock-jump");
        story.says("server-1", corruption());
        let told = story.violation(Invariant::StaysUp).summary;
        assert!(told.contains("corruption in `journal/0.seg` at byte 512 (bad checksum) at 1.000s"), "{told}");
        let (path, fault) = ("journal/0.seg".to_owned(), "bit-rot".to_owned());
        let damaged = What::Damaged { path: path.clone(), offset: 512, bytes: 1, fault };
        let refused = What::Disk { op: DiskOp::Sync, path, bytes: 9, error: Some("EIO".to_owned()) };
        for strike in [damaged, refused, What::Wiped {}] {
            let mut story = up();
            story.says("server-1", strike).says("server-1", corruption()).says("server-1", failed());
            assert!(matches!(finding(&story), Finding::Holds { .. }));
        }
    }

    #[test]
    fn corruption_of_what_was_repaired_is_a_violation_unless_the_disk_was_struck_again() {
        let damaged =
            |path: &str| What::Damaged { path: path.to_owned(), offset: 512, bytes: 1, fault: "bit-rot".to_owned() };
        let repaired = || {
            let replaced = vec!["journal/".to_owned(), "checkpoint".to_owned()];
            let event = LogEvent::ReplicaRepaired { frames: 9, leaves: 9, from: "server-2".to_owned(), replaced };
            What::Log { event }
        };
        for (before, after, excused) in [
            (vec!["journal/0.seg"], vec![], false),
            (vec!["journal/0.seg"], vec!["journal/0.seg"], true),
            (vec!["journal/0.seg", "vote"], vec![], true),
        ] {
            let mut story = up();
            before.iter().for_each(|path| _ = story.says("server-1", damaged(path)));
            story.says("server-1", corruption()).says("server-1", repaired());
            after.iter().for_each(|path| _ = story.says("server-1", damaged(path)));
            story.at(2_000).says("server-1", corruption());
            assert_eq!(matches!(finding(&story), Finding::Holds { .. }), excused, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_member_that_lost_what_it_had_acknowledged_on_a_sound_disk_is_a_violation() {
        let lost_tail = |member: &str| {
            let (member, holds, acknowledged) = (member.to_owned(), 40, 43);
            What::Log { event: LogEvent::MemberLostTail { node: 2, member, holds, acknowledged } }
        };
        let mut story = up();
        step(&mut story, "power-loss");
        story.says("server-1", What::Down { how: Down::PowerLoss });
        story.says("server-1", What::Lost { path: "journal/0.seg".to_owned(), bytes: 512, torn: 0 });
        story.at(2_000).says("server-1", What::Up { life: 2 }).says("server-2", lost_tail("server-1"));
        let violation = story.violation(Invariant::StaysUp);
        let said = "server-1 no longer held 3 leaves at 2.000s that it had acknowledged to server-2, and nothing had damaged its disk.";
        assert_eq!(violation.summary, said);
        assert!(violation.why.is_some_and(|why| why.contains("512 unsynced bytes of `journal/0.seg`")));

        let (path, fault) = ("journal/0.seg".to_owned(), "torn-write".to_owned());
        let damaged = What::Damaged { path, offset: 512, bytes: 512, fault };
        for (struck, excused) in [("server-1", true), ("server-2", false)] {
            let mut story = up();
            story.says(struck, damaged.clone()).says("server-2", lost_tail("server-1"));
            assert_eq!(matches!(finding(&story), Finding::Holds { .. }), excused, "{struck}");
        }
        let mut back = up();
        back.says("server-1", What::Rewound { to: RunClock::ZERO }).says("server-2", lost_tail("server-1"));
        assert!(matches!(finding(&back), Finding::Holds { .. }));
        back.says("server-2", lost_tail("server-1"));
        assert!(matches!(finding(&back), Finding::Violated(_)), "it was brought up to date, and forgot again");
        let mut sound = up();
        sound.says("server-1", What::Rewound { to: RunClock::ZERO }).says("server-1", corruption());
        assert!(matches!(finding(&sound), Finding::Violated(_)), "an earlier state of a disk is sound");
        let mut gone = up();
        gone.says("server-2", lost_tail("server-9"));
        assert!(matches!(finding(&gone), Finding::Holds { .. }), "nobody of this run");
    }
}
