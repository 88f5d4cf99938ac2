//! Faults of disks.

use std::time::Duration;

/// What a step does to a disk while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// A sync fails: the `nth`, and with `onwards` all that follow. What it covered is marked clean without having been
    /// written.
    SyncError {
        /// Counted from 1 at the step's beginning.
        nth: u64,
        /// Whether later syncs fail, too.
        onwards: bool,
    },
    /// Operations fail.
    Error {
        /// Whether reads fail.
        reads: bool,
        /// Whether writes fail.
        writes: bool,
    },
    /// All files together can grow only by this much.
    Full {
        /// The number of bytes.
        free: u64,
    },
    /// Syncs and reads take longer.
    Slow {
        /// The additional time.
        latency: Duration,
    },
    /// Of the `nth` write of several sectors, only the first ones reach the platter, although a sync reports success.
    TornWrite {
        /// Counted from 1 at the step's beginning.
        nth: u64,
    },
    /// The `nth` write lands somewhere else.
    MisdirectedWrite {
        /// Counted from 1 at the step's beginning.
        nth: u64,
    },
    /// Bits of durable bytes flip at the beginning.
    BitRot {
        /// How many bits flip.
        bits: u64,
    },
}

impl DiskFault {
    /// Returns the name of the fault that does this.
    pub fn name(self) -> &'static str {
        match self {
            DiskFault::SyncError { .. } => "fsync-error",
            DiskFault::Error { .. } => "disk-error",
            DiskFault::Full { .. } => "disk-full",
            DiskFault::Slow { .. } => "slow-disk",
            DiskFault::TornWrite { .. } => "torn-write",
            DiskFault::MisdirectedWrite { .. } => "misdirected-write",
            DiskFault::BitRot { .. } => "bit-rot",
        }
    }
}

words! {
    /// Which accesses to a disk fail.
    Access {
        Both = "both": "reads and writes fail",
        Reads = "reads": "only reads fail",
        Writes = "writes": "only writes fail",
    }
}
