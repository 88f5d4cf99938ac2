//! Faults of wall clocks.

/// What a step does to wall clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockFault {
    /// The clock is wrong by a constant.
    Skew {
        /// The error, in milliseconds.
        offset: i64,
    },
    /// The clock runs too fast or too slow.
    Drift {
        /// The error of the rate, in parts per million.
        drift: i32,
        /// The error that the clock already has when the step begins, in milliseconds.
        offset: i64,
    },
    /// The clock jumps, from whatever it shows.
    Jump {
        /// The error, in milliseconds.
        by: i64,
    },
}
