//! Refusals: what the log means by them, and what becomes of the entry.
//!
//! A refusal is the log's word, not a proof. So it may move an entry's bytes from one durable place to another, but
//! never out of both. This module is pure.

use crate::{
    leaf::{Body, SignedEntry},
    wire::{Refusal, refusal::Reason},
    words::reason_name,
};

/// What follows from a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Earlier sequences are missing: delivery goes back.
    Gap,
    /// The entry is refused for good: its bytes are kept as a dead letter, and another entry closes the slot.
    DeadLetter {
        /// The reason, in kebab-case.
        reason: &'static str,
        /// The detail, in the log's words.
        detail: String,
    },
    /// The slot is taken in the log, and the bytes are already a dead letter: the entry is done.
    Closed {
        /// The reason, in the log's words.
        reason: String,
    },
    /// Another entry has the slot of an event. If the event was sent alone, as the first of a life of the outbox is, the
    /// outbox was put back to an earlier state, and assigned the sequence a second time. Otherwise it is a dead letter.
    Taken {
        /// The reason, in kebab-case.
        reason: &'static str,
        /// The detail, in the log's words.
        detail: String,
    },
    /// Only a person can cure this.
    Park {
        /// What is wrong, and what to do.
        why: String,
    },
}

pub(crate) fn verdict(refusal: &Refusal, entry: &SignedEntry) -> Verdict {
    let reason = refusal.reason();
    let name = reason_name(reason);
    let detail = refusal.detail.clone();
    match (reason, &entry.entry().body) {
        (Reason::SequenceGap, _) => Verdict::Gap,
        (Reason::WrongEpoch, _) => Verdict::Park {
            why: format!(
                "wrong-epoch: the log refuses epoch {} of `{}`: {detail}; another outbox may deliver under this name, \
                 this one may have been put back to a time before its newest epoch, or the clock was behind when it was \
                 opened",
                entry.entry().epoch.0,
                entry.entry().client.as_str(),
            ),
        },
        // An outbox holds only entries of its own client. If the log sees another name, the certificate is the wrong
        // one.
        (Reason::WrongClient, _) => Verdict::Park { why: format!("{name}: {detail}; replace the certificate") },
        (Reason::Oversize | Reason::Malformed, Body::Event(_)) => Verdict::DeadLetter { reason: name, detail },
        (Reason::SequenceReused, Body::Event(_)) => Verdict::Taken { reason: name, detail },
        // The entry that closes a dead letter's slot finds it taken: there is no gap, and the refused bytes are kept.
        (Reason::SequenceReused, Body::DeadLettered { .. }) => Verdict::Closed { reason: format!("{name}: {detail}") },
        (Reason::Unspecified, _) => {
            Verdict::Park { why: format!("a refusal for a reason that this build does not know: {detail}") }
        }
        // An entry that opens an epoch or closes a slot has nothing that could become a dead letter.
        (_, Body::EpochOpened { .. } | Body::DeadLettered { .. }) => {
            Verdict::Park { why: format!("{name}: the log refuses sequence {}: {detail}", entry.entry().sequence.0) }
        }
    }
}
