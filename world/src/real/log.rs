//! What the log reports about itself, as lines for the people who operate it.
//!
//! Only what somebody might act on is logged at `info` and above; the rest is at `debug`. Payloads and keys are never
//! logged.

use tracing::{debug, error, info, warn};

use crate::{LogEvent, Observer};

/// Turns events into `tracing` events of the target `gapless::audit`.
#[derive(Debug, Default, Clone, Copy)]
pub struct TracingObserver;

const TARGET: &str = "gapless::audit";

impl Observer for TracingObserver {
    fn see(&self, event: LogEvent) {
        use LogEvent as E;
        match event {
            E::ServerStarted { log_id, node, size } => info!(target: TARGET, log_id, node, size, "serving"),
            E::LogRecovered { frames, leaves } => info!(target: TARGET, frames, leaves, "log recovered"),
            E::TornTailTruncated { file, offset, bytes, kept_as } => {
                warn!(target: TARGET, file, offset, bytes, kept_as, "torn tail kept aside and cut off");
            }
            E::CorruptionFound { file, offset, what } => {
                error!(target: TARGET, file, offset, what, "corruption found");
            }
            E::ReadOnly { leaves, why } => {
                error!(target: TARGET, leaves, why, "the damaged log is shown up to the damage, and takes nothing");
            }
            E::RepairStalled { why } => {
                error!(target: TARGET, why, "the damaged replica cannot be repaired yet, it neither votes nor serves");
            }
            E::ReplicaRebuilt { frames, leaves, from } => {
                info!(target: TARGET, frames, leaves, from, "what replaces the damaged replica is verified, and takes its place");
            }
            E::ReplicaRepaired { frames, leaves, from, .. } => {
                warn!(target: TARGET, frames, leaves, from, "the damaged replica was repaired");
            }
            E::MemberLostTail { node, member, holds, acknowledged } => {
                error!(
                    target: TARGET,
                    node, member, holds, acknowledged, "a member lost what it had acknowledged: its disk is not to be trusted"
                );
            }
            E::LeaderChange { node, term } => info!(target: TARGET, node, term, "leader changed"),
            E::ShutdownBegun {} => info!(target: TARGET, "shutting down"),
            E::ShutdownDone { size } => info!(target: TARGET, size, "shut down"),
            E::EntryRefused { client, sequence, reason } => {
                warn!(target: TARGET, client, sequence, reason, "entry refused");
            }
            E::LoadShed { queued } => warn!(target: TARGET, queued, "queue full, a caller was told to come back"),
            E::HandshakeRefused { peer, reason } => warn!(target: TARGET, peer, reason, "handshake refused"),
            E::RefusalsCounted { reason, count } => {
                warn!(target: TARGET, reason, count, "more handshakes refused, for the same reason");
            }
            E::OutboxRecovered { epoch, next_sequence, pending, dead_letters } => {
                info!(target: TARGET, epoch, next_sequence, pending, dead_letters, "outbox recovered");
            }
            E::Retry { sequence, attempt, wait_ms, why } => {
                info!(target: TARGET, sequence, attempt, wait_ms, why, "will retry");
            }
            E::ReceiptRejected { sequence, why } => error!(target: TARGET, sequence, why, "receipt does not verify"),
            E::DeadLettered { epoch, sequence, reason } => {
                error!(target: TARGET, epoch, sequence, reason, "entry became a dead letter");
            }
            E::Parked { why } => error!(target: TARGET, why, "delivery is parked until somebody cures this"),
            E::Resumed {} => info!(target: TARGET, "delivery goes on"),
            E::OutboxRolledBack { epoch, sequence } => {
                error!(target: TARGET, epoch, sequence, "outbox was put back to an earlier state: start again");
            }
            E::OutboxFull { pending } => warn!(target: TARGET, pending, "outbox full, the caller waits"),
            other => debug!(target: TARGET, event = other.name()),
        }
    }
}
