//! Faults of memory and load.

use crate::fault::Rate;

/// What a step does to memory or load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFault {
    /// Queues and caches have to make do with less memory.
    MemoryPressure {
        /// The budget, in bytes.
        budget: u64,
    },
    /// Clients offer more entries than usual.
    Surge {
        /// What all clients together offer on top of the workload.
        appends: Rate,
    },
}
