//! Turns what a scenario file says under `[expect]` into what the checks ask of a history.

use std::collections::BTreeMap;

use crate::{
    check::{ConnectionsAtMost, Expectations, KnownViolation, MomentRef, Pattern, Point, Untouched},
    history::Name,
    scenario::{EventPattern, HostRef, Moment, Scenario, step_names},
};

/// Returns the expectations of a scenario, with groups of hosts spelled out.
pub(super) fn expectations(scenario: &Scenario) -> Expectations {
    let patterns = |list: &[EventPattern]| list.iter().map(|one| pattern(scenario, one)).collect();
    let expect = &scenario.expect;
    Expectations {
        recovers_within: expect.recovers_within,
        blind_at_most: expect.blind_at_most,
        dead_letters: expect.dead_letters,
        acked_at_least: expect.acked_at_least,
        connections_at_most: expect
            .connections_at_most
            .map(|most| ConnectionsAtMost { count: u64::from(most.count), within: most.per.length() }),
        seen: patterns(&expect.seen),
        never: patterns(&expect.never),
        sometimes: patterns(&expect.sometimes),
        known_violation: scenario.known_violation.as_ref().map(|known| KnownViolation {
            invariant: known.invariant.clone(),
            issue: known.issue.clone(),
            saying: known.saying.clone(),
        }),
        steps: untouched(scenario),
    }
}

/// Returns what the catalogue says about each step.
fn untouched(scenario: &Scenario) -> BTreeMap<Name, Untouched> {
    let steps = scenario.steps.iter().zip(step_names(scenario));
    let known = steps.map(|(step, name)| {
        let fault = step.action.fault();
        let (action, what, cure) = (fault.name.to_owned(), fault.untouched.to_owned(), fault.cure.to_owned());
        let may_end = fault.may_end_process;
        (name.into(), Untouched { action, what, cure, line: step.line, may_end })
    });
    known.collect()
}

fn pattern(scenario: &Scenario, written: &EventPattern) -> Pattern {
    Pattern {
        event: written.event.clone(),
        on: written.on.as_ref().map(|hosts| hosts.iter().flat_map(|host| names(scenario, host)).collect()),
        during: written
            .during
            .as_ref()
            .map(|name| MomentRef::Step { step: name.as_str().into(), point: Point::Begins }),
        after: written.after.as_ref().map(moment),
        reason: written.reason.clone(),
        text: written.to_string(),
        line: written.line,
    }
}

/// Spells out groups of hosts. `@step` stays, because only the history knows which hosts the step struck.
fn names(scenario: &Scenario, host: &HostRef) -> Vec<Name> {
    let names = match host {
        HostRef::Servers | HostRef::AnyServer | HostRef::Leader | HostRef::Followers => scenario.server_names(),
        HostRef::Clients | HostRef::AnyClient => scenario.client_names(),
        HostRef::Auditor | HostRef::Issuer | HostRef::Server(_) | HostRef::Client(_) | HostRef::Step(_) => {
            vec![host.to_string()]
        }
    };
    names.into_iter().map(Name::from).collect()
}

fn moment(moment: &Moment) -> MomentRef {
    let step = |step: &String, point| MomentRef::Step { step: step.as_str().into(), point };
    match moment {
        Moment::Ended(name) => step(name, Point::Ended),
        Moment::Begins(name) => step(name, Point::Begins),
        Moment::Bites(name) => step(name, Point::Bites),
        Moment::Nth(name, n) => step(name, Point::Nth(*n)),
        Moment::First(event) => MomentRef::First { event: event.clone() },
    }
}
