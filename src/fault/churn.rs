//! A process that is killed again and again, as by an orchestrator that finds it unhealthy.

use std::time::Duration;

use super::{
    Broken, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, ProcessFault, SERVERS_AND_CLIENTS, Value,
};

/// The entry of `churn`.
pub(super) static FAULT: Fault = Fault {
    name: "churn",
    summary: "crashes again and again",
    group: "processes",
    does: "\
The process of each host in `on` crashes at the start of the step and then once every `every`.
Each time it is started again `down` later. If recovery takes longer than the rest of the
interval, the next crash strikes recovery itself.",
    loses: "\
Lost, each time: what a crash loses, that is memory, calls in flight and connections. Not lost:
anything that was handed to the operating system. The last crash is timed to leave room for its
restart before the step ends.",
    simulated: "\
Like crash, repeated. The intervals are exact.",
    drilled: "\
Like crash, repeated. Intervals count from crash to crash, so a slow start does not shift them.",
    evidence: "\
At least two crashes struck a running process, and the process served again after the last one.
The run shows the number of crashes.",
    untouched: "no process ran on {hosts}",
    cure: "begin the step while the host is up, and make `for` longer than `every`",
    acts_on: SERVERS_AND_CLIENTS,
    end: End::Healed,
    overlap: Overlap::Refused,
    counted: Some("crash"),
    parameters: &[
        Parameter {
            name: "every",
            kind: Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(3600) },
            need: Need::Default(Value::Duration(Duration::from_secs(5))),
            means: "from one crash to the next",
        },
        Parameter {
            name: "down",
            kind: Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(3600) },
            need: Need::Default(Value::Duration(Duration::from_secs(1))),
            means: "how long the process stays down each time; shorter than `every`",
        },
    ],
    causes: &["retry", "duplicate-answered", "handshake-refused", "connection-closed"],
    rule: Some(up_between_crashes),
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Process(ProcessFault::Churn { every: given.duration("every")?, down: given.duration("down")? }))
}

fn up_between_crashes(given: &Given) -> Result<(), Broken> {
    let broken = |key, text| Err(Broken { code: "out-of-range", key, text, cure: "mend one of them" });
    let (Some(every), Some(down)) = (given.duration("every"), given.duration("down")) else { return Ok(()) };
    if down >= every {
        return broken("down", "the process would never be up: `down` must be shorter than `every`");
    }
    if given.length.is_some_and(|length| length < every.saturating_add(down)) {
        return broken("for", "too short for two crashes: `for` must be at least `every` and `down` together");
    }
    Ok(())
}
