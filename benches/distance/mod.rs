//! What the distance between hosts costs, in simulated time: the same on every machine, whatever else it does.

use crate::{Failure, Measured, held, median, order, page::grouped, seeded};

/// Of each run that delivers.
const SECONDS: u64 = 10;
/// What is owed by then may take that long, or the run would be one that did not recover.
const DRAINED_WITHIN: &str = "20m";

/// Entries of 256 bytes that one client has acknowledged each second, by a log of one so far away, one way. It has more
/// of them than any round trip could carry one by one.
pub(crate) fn one_client(latency_ms: u64) -> Result<Measured, Failure> {
    delivery(Load { servers: 1, clients: 1, latency_ms, offered: 8_000, bytes: 256 })
}

/// The same of three clients and three servers, all of them so far from each other.
pub(crate) fn three_servers(latency_ms: u64, bytes: u64) -> Result<Measured, Failure> {
    let offered = if bytes > 1024 { 200 } else { 4_000 };
    delivery(Load { servers: 3, clients: 3, latency_ms, offered, bytes })
}

struct Load {
    servers: u32,
    clients: u32,
    latency_ms: u64,
    /// Entries a second, by all clients together.
    offered: u64,
    /// Of each entry.
    bytes: u64,
}

fn delivery(load: Load) -> Result<Measured, Failure> {
    let Load { servers, clients, latency_ms, offered, bytes } = load;
    let text = format!(
        "title = \"for measuring\"\n[cluster]\nservers = {servers}\nlatency = \"{latency_ms}ms\"\n[workload]\n\
         clients = {clients}\nappends = \"{offered}/s\"\nsize = \"{bytes}B\"\ncall = \"append-stream\"\n\
         for = \"{SECONDS}s\"\n[expect]\nrecovers-within = \"{DRAINED_WITHIN}\"\n"
    );
    let facts = held(&order(&text))?.summary.judgement.facts;
    let (blind, _) = facts.longest_blind.ok_or("no client was ever without an answer")?;
    let how = format!(
        "one run: {}/s of {} B offered for {SECONDS} s, all of it delivered when the run was over after {:.1} s; the \
         longest that a client had no answer {:.1} s",
        grouped(offered as f64),
        grouped(bytes as f64),
        facts.simulated.as_secs_f64(),
        blind.as_secs_f64(),
    );
    let rate = facts.acked_in_time as f64 / SECONDS as f64;
    Ok(Measured::simulated(format!("{}/s", grouped(rate)), how))
}

/// The longest time for which a client had no answer, over many seeds: nothing else happens than that the leader of
/// three servers dies.
pub(crate) fn failover(latency_ms: u64) -> Result<Measured, Failure> {
    const SEEDS: u64 = 30;
    let text = format!(
        "title = \"for measuring\"\n[cluster]\nservers = 3\nlatency = \"{latency_ms}ms\"\n[workload]\nclients = 3\n\
         appends = \"50/s\"\nfor = \"20s\"\n[[step]]\nname = \"lost\"\naction = \"crash\"\non = \"leader\"\n\
         at = \"8s\"\nfor = \"8s\"\n"
    );
    let mut blind = Vec::new();
    for run in seeded(&text, SEEDS)? {
        let (longest, _) = run.summary.judgement.facts.longest_blind.ok_or("no client was ever without an answer")?;
        blind.push(longest.as_secs_f64());
    }
    let longest = blind.iter().copied().fold(0.0, f64::max);
    let how =
        format!("median of {SEEDS} seeds: the longest that a client had no answer; the longest of all {longest:.1} s");
    Ok(Measured::simulated(format!("{:.1} s", median(blind)), how))
}
