//! The cluster, and the work of the clients: one, three or five servers next door or on other continents, entries of
//! every size, and rates from idle to more than the log can take.

use std::time::Duration;

use super::{Subject, dice::Dice};
use crate::scenario::{
    Call, Cluster, Expect, LATENCY_DEFAULT, MEMORY_DEFAULT, Per, Rate, SECTORS, SIZE_DEFAULT, Scenario,
    WALL_CLOCK_DEFAULT, Workload,
};

/// The largest distance between members, one way: any two cities, by satellite.
const LATENCY_MAX_MS: u64 = 200;

/// The largest entry of a scenario, in bytes, if the log takes that much.
const SIZE_MAX: u64 = 59 << 10;

/// The largest segment of a scenario, in bytes. With a larger one, no run begins a second segment.
const SEGMENT_MAX: u64 = 1 << 20;

/// The most clients of any scenario, and of fifteen in sixteen scenarios.
const CLIENTS_MAX: u64 = 64;
const FEW: u32 = 8;

/// The largest entry if there are more than a few clients, because each of them may resend what it has in flight.
const SIZE_OF_MANY_MAX: u64 = 4 << 10;

/// The range of wall clocks, used in some runs: from the beginning of 2000 to the end of 2099, the latest that a file
/// can give.
const WALL_CLOCKS: (u64, u64) = (946_684_800, 4_102_444_799);

/// Draws a scenario in which nothing goes wrong yet.
pub(super) fn quiet(dice: &mut Dice, subject: &Subject, seed: u64) -> Scenario {
    let workload = workload(dice, subject);
    let cluster = cluster(dice, subject, &workload);
    Scenario {
        title: format!("Drawn from seed {seed}"),
        story: String::new(),
        cluster,
        workload,
        steps: Vec::new(),
        expect: Expect::default(),
        // A larger seed cannot be written in TOML; it is given on the command line.
        seeds: i64::try_from(seed).map(|_| vec![seed]).unwrap_or_default(),
        known_violation: None,
        path: format!("explored-{seed}.toml").into(),
        source: "".into(),
    }
}

fn workload(dice: &mut Dice, subject: &Subject) -> Workload {
    let many = dice.one_in(16).then(|| dice.magnitude(u64::from(FEW) + 1, CLIENTS_MAX) as u32);
    let clients = many.unwrap_or_else(|| *dice.pick(&[1, 2, 3, 3, 5, FEW]).unwrap_or(&3));
    let largest = if many.is_some() { SIZE_OF_MANY_MAX } else { SIZE_MAX };
    let largest = largest.min(subject.sizes.entry_max);
    let size = match dice.below(8) {
        0..=3 => SIZE_DEFAULT.min(largest),
        4 => 64,
        5 => largest,
        _ => dice.magnitude(64, largest),
    };
    // Per minute, from a single entry to as many as a simulation can carry; mostly in between.
    let appends = match dice.below(12) {
        0 => Rate { count: dice.magnitude(1, 60) as u32, per: Per::Hour },
        1 => Rate { count: dice.magnitude(1, 120) as u32, per: Per::Minute },
        2 => Rate { count: dice.magnitude(300, 3_000) as u32, per: Per::Second },
        _ => Rate { count: dice.magnitude(2, 300) as u32, per: Per::Second },
    };
    let seconds = if dice.one_in(16) { dice.magnitude(60, 600) } else { dice.between(12, 50) };
    let call = if dice.one_in(2) { Call::AppendStream } else { Call::Append };
    let oversize_every = (subject.explored.dead_letters && dice.one_in(10)).then(|| dice.magnitude(2, 200));
    Workload { clients, appends, duration: Duration::from_secs(seconds), call, size, oversize_every }
}

fn cluster(dice: &mut Dice, subject: &Subject, workload: &Workload) -> Cluster {
    let latency = match dice.below(4) {
        0 => Duration::from_millis(dice.magnitude(1, LATENCY_MAX_MS)),
        1 => Duration::from_millis(dice.between(1, LATENCY_MAX_MS)),
        _ => LATENCY_DEFAULT,
    };
    // With many clients, each further one makes a tick more expensive.
    let latency = if workload.clients > FEW { latency.max(LATENCY_DEFAULT) } else { latency };
    let renew = subject.explored.renewals && dice.one_in(3);
    let clock = if dice.one_in(8) { dice.between(WALL_CLOCKS.0, WALL_CLOCKS.1) as i64 } else { WALL_CLOCK_DEFAULT };
    let payload_max = workload.oversize_every.map(|_| {
        // An entry that exceeds this by half is still one that a client takes.
        let most = subject.sizes.payload_max * 2 / 3;
        workload.size.saturating_add(dice.magnitude(64, 4_096)).min(most)
    });
    let (least, most) = (*subject.sizes.segment.start(), *subject.sizes.segment.end());
    let segment = dice.one_in(3).then(|| dice.magnitude(least, SEGMENT_MAX.clamp(least, most)));
    let memory = if dice.one_in(4) { dice.magnitude(256 << 10, 16 << 20) } else { MEMORY_DEFAULT };
    Cluster {
        servers: *dice.pick(&subject.explored.servers).unwrap_or(&1),
        latency,
        renew_before: renew.then(|| Duration::from_secs(dice.magnitude(5, 3_600))),
        wall_clock: clock,
        memory,
        payload_max,
        sector: *dice.pick(&SECTORS).unwrap_or(&SECTORS[0]),
        segment,
    }
}

/// Reduces a workload until `enough` is true: first its rate, then its size, then the entries that are too large. An
/// ordinary entry larger than `payload-max` gets the default size first.
pub(super) fn lighten(scenario: &mut Scenario, enough: impl Fn(&Scenario) -> bool) {
    if scenario.cluster.payload_max.is_some_and(|most| scenario.workload.size > most) {
        scenario.workload.size = SIZE_DEFAULT;
    }
    for _ in 0..64 {
        if enough(scenario) {
            return;
        }
        let workload = &mut scenario.workload;
        if workload.appends.count > 4 {
            workload.appends.count /= 2;
        } else if workload.size > 128 {
            workload.size /= 2;
        } else if workload.oversize_every.take().is_some() {
            scenario.cluster.payload_max = None;
        } else {
            scenario.cluster.memory = MEMORY_DEFAULT;
            workload.duration = workload.duration / 2 + Duration::from_secs(1);
        }
    }
}
