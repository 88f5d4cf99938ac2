//! What a log may be asked to survive. A drawn scenario keeps every rule here, and so does a scenario to which a
//! violation is reduced: a scenario that asks for the impossible would blame a log that is sound.
//!
//! A rule is data with a reason, which `gapless explore --rules` shows. A log can add rules of its own, and can be free
//! of one of these rules if it promises more ([`Explored`](crate::system::Explored)).

use std::{collections::BTreeSet, time::Duration};

use super::Subject;
use crate::{
    fault::{Effect, End, HostRef, NetworkFault, ProcessFault, RevisionRole, Synced},
    scenario::{Expect, LATENCY_DEFAULT, Moment, Scenario, Start, Step},
    system::Rule,
};

/// The rules for any log.
pub static RULES: &[Rule] = &[
    Rule {
        name: "damage-stays-with-a-minority",
        reason: "No log can show what most of its disks have lost. So only fewer than half of the servers, always the \
                 same ones, lose or damage what a sync had covered. With one server, its disk may be damaged until the \
                 step ends, but is never wiped or put back to an earlier state.",
        allows: damage_stays_with_a_minority,
    },
    Rule {
        name: "one-disk-alone-keeps-its-syncs",
        reason: "The note that a sync took place becomes durable with the next sync. So after a power loss, a single \
                 server whose disk lied about its last sync finds what looks like an entry that was never synced; only \
                 its clients can tell. With one server, no write is torn or misdirected in a run in which its power \
                 fails.",
        allows: one_disk_alone_keeps_its_syncs,
    },
    Rule {
        name: "a-client-keeps-its-disk",
        reason: "What a client has accepted and not delivered is on a single disk. If that disk damages what a sync had \
                 covered, nobody can know of it. A disk that is put back to an earlier state is another matter: what \
                 the client has accepted since is known to be lost.",
        allows: a_client_keeps_its_disk,
    },
    Rule {
        name: "a-client-is-put-back-once",
        reason: "An outbox that was put back goes on in a new epoch. If it is put back once more, to a time before that \
                 epoch, the log refuses the old one, and cannot tell the outbox from a second one under the same name; \
                 only a person can. So each client is put back once.",
        allows: a_client_is_put_back_once,
    },
    Rule {
        name: "the-others-know-what-a-server-forgot",
        reason: "A server whose disk is put back does not know what it has acknowledged since, so that is on one disk \
                 less than a quorum had. If another of these disks is out of reach before the server is up to date, a \
                 quorum may elect a leader that lacks an acknowledged entry, and no log that trusts its disks can tell. \
                 So from a while before the image until a while after the return, no other step strikes a server or \
                 the network between servers, and the server stays dark until the others have a leader.",
        allows: the_others_know_what_a_server_forgot,
    },
    Rule {
        name: "the-others-know-what-a-disk-lost",
        reason: "The same is true of a server whose disk lied about the last sync before a power loss: it cannot know \
                 what it has lost. So where writes are torn or misdirected on a server whose power fails, no step \
                 strikes another server or the network between servers.",
        allows: the_others_know_what_a_disk_lost,
    },
    Rule {
        name: "a-breaking-revision-is-taken-back",
        reason: "A log that cannot read what it is sent refuses it, and goes on once the revision has been rolled \
                 back. So at most one host runs `breaking`, for a part of the run; nothing else is upgraded meanwhile, \
                 and no step delays the rollback until the run is over.",
        allows: a_breaking_revision_is_taken_back,
    },
    Rule {
        name: "memory-holds-some-entries",
        reason: "With less memory than a few of the largest entries take, nothing can be appended. So the memory of \
                 the cluster, to which every process returns in the end, has room for sixteen of them, and for 256 KiB \
                 more.",
        allows: memory_holds_some_entries,
    },
    Rule {
        name: "a-run-can-be-waited-for",
        reason: "A run has five minutes of real time. So hosts, simulated time, entries and bytes together stay below \
                 what takes about fifteen seconds of one core.",
        allows: a_run_can_be_waited_for,
    },
];

/// Returns the rules that bind a log, its own included.
pub fn rules(subject: &Subject) -> impl Iterator<Item = &Rule> {
    let bound = |rule: &&Rule| !subject.explored.free_of.contains(&rule.name);
    RULES.iter().filter(bound).chain(&subject.explored.rules)
}

/// Returns the first rule that a scenario breaks.
pub fn broken<'a>(subject: &'a Subject, scenario: &Scenario) -> Option<&'a Rule> {
    rules(subject).find(|rule| !(rule.allows)(scenario))
}

/// Returns the steps that remove from a disk, or change on it, what a sync had covered.
fn damaging(scenario: &Scenario) -> impl Iterator<Item = &Step> {
    scenario.steps.iter().filter(|step| step.action.fault().synced != Synced::Kept)
}

fn damage_stays_with_a_minority(scenario: &Scenario) -> bool {
    let mut struck = BTreeSet::new();
    for step in damaging(scenario) {
        for host in step.action.on().into_iter().flatten() {
            match host {
                HostRef::Server(n) => struck.insert(*n),
                // Clients are the subject of another rule.
                HostRef::Client(_) | HostRef::Clients | HostRef::AnyClient => false,
                // The run decides which server this is, so it may be another one than before.
                _ => return false,
            };
        }
    }
    let servers = scenario.cluster.servers;
    match servers {
        1 => damaging(scenario).all(|step| step.action.fault().synced == Synced::Damaged || !strikes_servers(step)),
        _ => struck.len() * 2 < servers as usize,
    }
}

/// Faults after which a power loss takes what a sync had covered.
const LIES: &[&str] = &["torn-write", "misdirected-write"];

/// Returns whether the power of some server may fail.
fn servers_lose_power(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| step.action.name() == "power-loss" && strikes_servers(step))
}

fn one_disk_alone_keeps_its_syncs(scenario: &Scenario) -> bool {
    let lies = scenario.steps.iter().any(|step| LIES.contains(&step.action.name()));
    scenario.cluster.servers > 1 || !lies || !servers_lose_power(scenario)
}

/// Returns whether a step may strike a server.
fn strikes_servers(step: &Step) -> bool {
    !step.action.on().is_some_and(|on| on.iter().all(HostRef::is_client))
}

/// Returns whether a step may strike a client.
fn strikes_clients(step: &Step) -> bool {
    !step.action.on().is_some_and(|on| on.iter().all(HostRef::is_server))
}

fn a_client_keeps_its_disk(scenario: &Scenario) -> bool {
    damaging(scenario).all(|step| step.action.fault().synced == Synced::Forgotten || !strikes_clients(step))
}

fn a_client_is_put_back_once(scenario: &Scenario) -> bool {
    let mut struck = BTreeSet::new();
    let clients = damaging(scenario).filter(|step| strikes_clients(step));
    clients.flat_map(|step| step.action.on().into_iter().flatten()).all(|host| match host {
        HostRef::Client(_) => struck.insert(host.clone()),
        // The run decides which client this is, so it may be one that was put back before.
        _ => false,
    })
}

/// Returns a time in which the members of a cluster elect a leader and bring each other up to date, if nothing keeps
/// them from it.
pub(super) fn brought_up_to_date(latency: Duration) -> Duration {
    Duration::from_secs(10).saturating_add(latency.saturating_mul(100))
}

/// Returns whether a step may strike a server, or the network between servers.
fn strikes_among_servers(step: &Step) -> bool {
    match step.action.link() {
        Some(link) => {
            let (one, other) = link.ends();
            [one, other].into_iter().all(|end| !end.iter().all(HostRef::is_client))
        }
        None => step.action.on().is_some() && strikes_servers(step),
    }
}

fn the_others_know_what_a_disk_lost(scenario: &Scenario) -> bool {
    let lying: Vec<&Step> =
        scenario.steps.iter().filter(|step| LIES.contains(&step.action.name()) && strikes_servers(step)).collect();
    if scenario.cluster.servers == 1 || lying.is_empty() || !servers_lose_power(scenario) {
        return true;
    }
    let hosts: BTreeSet<&HostRef> = lying.iter().flat_map(|step| step.action.on().into_iter().flatten()).collect();
    // A step that strikes the hosts of another one strikes these servers if that one does.
    let same = |host: &HostRef| hosts.contains(host) || matches!(host, HostRef::Step(_)) || host.is_client();
    let others = scenario.steps.iter().filter(|step| strikes_among_servers(step));
    others.into_iter().all(|step| step.action.on().is_some_and(|on| on.iter().all(same)))
}

fn the_others_know_what_a_server_forgot(scenario: &Scenario) -> bool {
    let settled = brought_up_to_date(scenario.cluster.latency);
    let disturbs = |begins: Duration, returns: Duration, other: &Step| match other.start {
        Start::At(at) if at >= returns.saturating_add(settled) => false,
        Start::At(at) => {
            let lasts = match other.action.fault().end {
                End::Instant => Some(Duration::ZERO),
                _ => other.duration,
            };
            lasts.is_none_or(|lasts| {
                at.saturating_add(lasts).saturating_add(down(other)).saturating_add(settled) > begins
            })
        }
        // The run decides when that is.
        Start::After { .. } => true,
    };
    // A machine whose disk is empty knows that it has forgotten everything.
    let forgets = |step: &&Step| step.action.name() == "rewind" && strikes_servers(step);
    scenario.steps.iter().filter(forgets).all(|step| {
        let (Start::At(at), Some(lasts)) = (&step.start, step.duration) else { return false };
        let returns = at.saturating_add(lasts).saturating_add(down(step));
        let others = scenario.steps.iter().filter(|other| other.name != step.name && strikes_among_servers(other));
        down(step) >= settled && !others.into_iter().any(|other| disturbs(*at, returns, other))
    })
}

fn a_breaking_revision_is_taken_back(scenario: &Scenario) -> bool {
    let mut breaking = scenario.steps.iter().filter(|step| step.action.revision() == Some(RevisionRole::Breaking));
    let Some(mistake) = breaking.next() else { return true };
    let is_one = |on: &Vec<HostRef>| matches!(on.as_slice(), [HostRef::Server(_) | HostRef::Client(_)]);
    let one = mistake.action.name() == "upgrade" && mistake.action.on().is_some_and(is_one);
    let others = scenario.steps.iter().filter(|step| step.action.revision().is_some()).count();
    let back: Vec<&Step> = scenario.steps.iter().filter(|step| step.action.name() == "rollback").collect();
    let [back] = back[..] else { return false };
    let Start::After { moment: Moment::Ended(name), wait, .. } = &back.start else { return false };
    // A rollback that would come after the workload never comes. Neither does a rollback that waits for a host which
    // another step holds, or keeps from starting, until everything heals.
    let held = held_down(scenario, mistake.action.on().map_or(&[], Vec::as_slice));
    let stop = if scenario.steps.iter().any(silences) { DRAIN } else { Duration::ZERO };
    let in_time = match &mistake.start {
        Start::At(at) => {
            let before = at.saturating_add(*wait).saturating_add(held).saturating_add(stop);
            before.saturating_add(ROLLOUT) <= scenario.workload.duration
        }
        Start::After { .. } => false,
    };
    let ends = |step: &Step| step.duration.is_some() || step.action.fault().end == End::Instant;
    let follows = *name == mistake.name && in_time && scenario.steps.iter().all(ends);
    one && others == 1 && back.action.on() == mistake.action.on() && follows
}

/// Returns how long all other steps together may keep one of these hosts from serving. Any fault of a host may do so: a
/// start on a slow disk takes long, and one on a disk with errors is repeated.
fn held_down(scenario: &Scenario, hosts: &[HostRef]) -> Duration {
    let may_be = |struck: &HostRef| {
        hosts.iter().any(|host| match struck {
            HostRef::Server(_) | HostRef::Client(_) | HostRef::Auditor | HostRef::Issuer => struck == host,
            HostRef::Clients | HostRef::AnyClient => !host.is_server(),
            HostRef::Step(_) => true,
            HostRef::Servers | HostRef::AnyServer | HostRef::Leader | HostRef::Followers => host.is_server(),
        })
    };
    let strikes = |step: &&Step| step.action.on().is_some_and(|on| on.iter().any(may_be));
    scenario.steps.iter().filter(strikes).map(|step| step.duration.unwrap_or_default() + down(step)).sum()
}

/// Returns how long a step keeps its hosts down beyond its end.
fn down(step: &Step) -> Duration {
    step.action.duration("down").unwrap_or_default()
}

/// Returns whether a step may silence a line or a peer, so that a connection does not end when it is asked to.
fn silences(step: &Step) -> bool {
    use ProcessFault::{Pause, PowerLoss, Replace, Rewind, Wipe};
    match step.action.effect() {
        Effect::Network(fault) => !matches!(fault, NetworkFault::Refuse | NetworkFault::Reset),
        Effect::Process(fault) => matches!(fault, Pause | PowerLoss | Replace | Rewind { .. } | Wipe),
        Effect::Disk { .. }
        | Effect::Reply(_)
        | Effect::Certificate(_)
        | Effect::Clock(_)
        | Effect::Release(_)
        | Effect::Load(_) => false,
    }
}

/// By this time, a server of this repository's log that is asked to stop has cut off the connections that do not end.
const DRAIN: Duration = Duration::from_secs(11);

/// By this time a process has been restarted and others have connected to it, wherever it is.
const ROLLOUT: Duration = Duration::from_secs(8);

/// Returns the size of the largest entry of a scenario, in bytes.
fn largest(scenario: &Scenario) -> u64 {
    let oversize = scenario.workload.oversize_every.and(scenario.cluster.payload_max).map_or(0, |most| most + most / 2);
    scenario.workload.size.max(oversize)
}

fn memory_holds_some_entries(scenario: &Scenario) -> bool {
    scenario.cluster.memory >= (256 << 10) + 16 * largest(scenario)
}

/// The largest cost of a run, in microseconds of one core. [`cost`] is based on measurements of a release build: of
/// idle hosts, of what each server and client does for an entry, and of what its bytes cost.
const COST_MAX: u64 = 15_000_000;

fn a_run_can_be_waited_for(scenario: &Scenario) -> bool {
    cost(scenario) <= COST_MAX
}

pub(super) fn cost(scenario: &Scenario) -> u64 {
    let servers = u64::from(scenario.cluster.servers);
    let hosts = servers + u64::from(scenario.workload.clients);
    // The tick of a simulation is as long as the latency, up to 5 ms. Every host pays for a shorter tick.
    let ticks = u64::try_from(5 / scenario.cluster.latency.as_millis().clamp(1, 5)).unwrap_or(5);
    let beyond = Scenario::STARTUP + Scenario::SETTLE + scenario.expect.recovers_within;
    let waits = scenario.steps.iter().map(|step| {
        // A run waits for both phases of a rotation, and for the whole of a rollout.
        let length = |name| step.action.duration(name).unwrap_or_default();
        length("overlap").saturating_mul(2).max(length("pause").saturating_mul(hosts as u32))
    });
    let waits = waits.max().unwrap_or_default();
    let seconds = scenario.horizon().saturating_sub(beyond).saturating_add(waits).as_secs();
    let entries = offered(scenario);
    let bytes = entries.saturating_mul(scenario.workload.size);
    // The simulated network looks through all links for every host, in each tick, of which there are at least 200 a
    // second.
    let links = hosts.saturating_pow(3) * 3 / 5;
    let at_rest = seconds.saturating_mul((hosts * 300 + links) * ticks);
    // After each entry that is refused, the entries in flight are resent.
    let sent = entries.saturating_add(refused(scenario).saturating_mul(SENT_ANEW));
    let per_entry = sent.saturating_mul(200 + 150 * servers);
    // This includes all the connections that are opened again.
    let per_start = starts(scenario, seconds, hosts).saturating_mul(60_000);
    at_rest.saturating_add(per_entry).saturating_add(bytes.saturating_mul(servers) / 10).saturating_add(per_start)
}

/// Returns how often processes are restarted at most by steps that end them again and again. A step without an end does
/// so for all `seconds` of the run.
fn starts(scenario: &Scenario, seconds: u64, hosts: u64) -> u64 {
    let of = |step: &Step| {
        let (true, Some(on)) = (step.action.name() == "churn", step.action.on()) else { return 0 };
        let every = step.action.duration("every").unwrap_or_default();
        let lasts = step.duration.unwrap_or(Duration::from_secs(seconds)).as_millis();
        let times = u64::try_from(lasts / every.as_millis().max(1)).unwrap_or(u64::MAX);
        let one = |host: &HostRef| {
            matches!(host, HostRef::Server(_) | HostRef::Client(_) | HostRef::AnyServer | HostRef::AnyClient)
        };
        times.saturating_mul(if on.iter().all(one) { on.len() as u64 } else { hosts })
    };
    scenario.steps.iter().map(of).fold(0, u64::saturating_add)
}

/// Returns how many entries the workload and its surges offer at most.
pub(super) fn offered(scenario: &Scenario) -> u64 {
    let count = |interval: Duration, length: Duration| {
        u64::try_from(length.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    };
    let workload = &scenario.workload;
    let clients = u64::from(workload.clients);
    let mut all = count(workload.appends.interval(), workload.duration).saturating_add(3 * clients);
    for step in &scenario.steps {
        if let Some(appends) = step.action.rate("appends") {
            let length = step.duration.unwrap_or(workload.duration).min(workload.duration);
            // A surge begins and ends with a tick, and no tick is longer than this.
            let length = length + 2 * LATENCY_DEFAULT;
            all = all.saturating_add(count(appends.interval(), length));
        }
    }
    all
}

/// How many entries a client has in flight if it is behind. It resends them when one of them is refused.
const SENT_ANEW: u64 = 128;

/// Returns how many entries are refused at most because they are too large.
fn refused(scenario: &Scenario) -> u64 {
    let every = scenario.workload.oversize_every;
    every.map_or(0, |every| offered(scenario) / every + u64::from(scenario.workload.clients))
}

/// Returns how long after the last heal a log may take until everything is delivered, given what the faults have left
/// behind.
///
/// The time is the sum of these parts: half a minute, which scenarios have by default; half a minute for connections
/// and elections that wait out their back-off; a hundred times the latency, for a handshake, an election, and the round
/// trips of a delivery; the time for which syncs and bytes in flight are still held when a step ends; the time in which
/// what was offered can be delivered, at 200 entries and 256 KiB a second, or at as many entries per round as a small
/// memory takes; and, for each entry of a client that is too large, the round trips in which it is refused, kept, and
/// its place in the log closed, while the entries behind it wait.
pub(super) fn recovers_within(scenario: &Scenario) -> Duration {
    let mut time = Duration::from_secs(60) + scenario.cluster.latency.saturating_mul(100);
    for step in &scenario.steps {
        // A slow disk holds what it is given for its `latency`; a slow link, for its `delay` and `jitter`.
        let held = ["latency", "delay", "jitter"].map(|name| step.action.duration(name).unwrap_or_default());
        time += held.into_iter().fold(Duration::ZERO, Duration::saturating_add).saturating_mul(3);
    }
    let entries = offered(scenario);
    let bytes = entries.saturating_mul(largest(scenario));
    time += Duration::from_secs((entries / 200).max(bytes >> 18)).max(in_little_memory(scenario));
    let of_one = refused(scenario).div_ceil(u64::from(scenario.workload.clients.max(1)));
    let closing = scenario.cluster.latency.saturating_mul(12).saturating_add(Duration::from_millis(100));
    time += closing.saturating_mul(u32::try_from(of_one).unwrap_or(u32::MAX));
    // Whole seconds, so that it is not taken for a measured figure.
    Duration::from_secs(time.as_secs() + 1)
}

/// Returns how long it takes to deliver what was offered if memory is the only limit. A server lends three eighths of
/// its memory to requests, and a quarter of that to one connection. An entry is held with its answer until a quorum has
/// it, which takes two round trips and the time of syncs. Half of that memory may be in use already; and a client that
/// was turned away comes back a quarter of a second later.
fn in_little_memory(scenario: &Scenario) -> Duration {
    let held = largest(scenario).saturating_add(1_536);
    let in_a_round = (scenario.cluster.memory * 3 / 64 / held).max(1) * u64::from(scenario.workload.clients.min(4));
    let rounds = u32::try_from(offered(scenario) / in_a_round).unwrap_or(u32::MAX);
    scenario.cluster.latency.saturating_mul(8).saturating_add(Duration::from_millis(300)).saturating_mul(rounds)
}

/// Returns what is expected of a drawn scenario besides the invariants: that the log recovers, and that there are no
/// more dead letters than entries that were too large.
pub(super) fn expectations(scenario: &Scenario) -> Expect {
    Expect { recovers_within: recovers_within(scenario), dead_letters: refused(scenario), ..Expect::default() }
}
