//! Turns what a scenario file says under `[expect]` into what the checks ask of a history.

use std::collections::BTreeMap;

use crate::{
    check::{Expectations, Pattern, Untouched},
    history::Name,
    scenario::{EventPattern, HostRef, Scenario, step_names},
};

/// Returns the expectations of a scenario, with groups of hosts spelled out.
pub(super) fn expectations(scenario: &Scenario) -> Expectations {
    Expectations {
        expect: scenario.expect.map(|written| pattern(scenario, written)),
        known_violation: scenario.known_violation.clone(),
        catalogue: untouched(scenario),
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
        during: written.during.as_deref().map(Name::from),
        after: written.after.clone(),
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
