//! Faults of connections between hosts.

use std::time::Duration;

/// What a step does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFault {
    /// Nothing passes; everything flows on at the heal.
    Partition,
    /// What is sent is swallowed; connections that lost bytes are dead after the heal.
    Blackhole,
    /// New connections are refused at once. On a one-way link, `from` is the end that connects.
    Refuse,
    /// A partition of the hosts, as one group, from every other host.
    Isolate,
    /// Open connections are reset, always in both directions.
    Reset,
    /// Bytes arrive later.
    Latency {
        /// How much later, on top of the latency of the network.
        delay: Duration,
        /// Up to this much later still, drawn for each piece of data; zero for none.
        jitter: Duration,
    },
    /// Hosts are slow to read what they are sent.
    SlowReader {
        /// The bytes a second that a host takes from each of its connections.
        bytes: u64,
    },
}
