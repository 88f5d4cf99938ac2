//! Faults of processes and of the machines that they run on.

use std::time::Duration;

/// What a step does to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessFault {
    /// The process ends at once; the operating system and its page cache survive.
    Crash,
    /// The machine loses power: what was not synced is gone or torn.
    PowerLoss,
    /// A graceful stop, then a start. The step's duration is the time between the two.
    Restart,
    /// Crashes again and again.
    Churn {
        /// The time from one crash to the next.
        every: Duration,
        /// How long the process stays down each time; shorter than `every`.
        down: Duration,
    },
    /// The process stands still; its connections stay open.
    Pause,
    /// The machine loses power, and its disk is empty when it comes back.
    Wipe,
    /// The machine loses power, and its disk is as it was at the beginning of the step when it comes back.
    Rewind {
        /// How long the machine stays dark.
        down: Duration,
    },
    /// The machine is lost for good, and an operator puts an empty one in its place.
    Replace,
}
