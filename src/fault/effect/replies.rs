//! Faults of what servers reply.

use std::time::Duration;

/// What a step does to replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyFault {
    /// One bit of a reply is flipped in the server's memory, before TLS.
    BitFlip {
        /// The time from one flipped reply to the next.
        every: Duration,
    },
}
