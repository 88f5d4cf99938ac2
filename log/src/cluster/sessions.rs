//! Client sessions: whether an entry counts, decided from the log alone (Raft dissertation, section 6.3).
//!
//! Every node applies the same entries in the same order and comes to the same decisions, whichever node led and
//! however often a client sent an entry. An entry with the next sequence of its client's epoch counts. A repeat of an
//! entry in the log is void and is answered with the first index. An entry that skips a sequence, or has other bytes
//! under a sequence that is taken, is void and refused. A larger epoch, once opened, closes the smaller ones.
//!
//! This module is pure: it uses no clock and no disk, and `apply` checks no signatures. Nothing here may depend on
//! anything but the entries applied before.

use std::collections::BTreeMap;

use super::{
    super::{
        leaf::{Body, ClientId, Entry, Epoch, Index, Sequence, SignedEntry},
        note::VerifyingKey,
        wire::refusal::Reason,
    },
    Appended, Refusal,
};

/// How far above the open epoch of a client, or above 0 where it has none, the next one may be: 139 years in
/// milliseconds, so that a client whose clock stood at 1970 can be put right. Without this bound, anyone with a
/// client's certificate could open the largest epoch there is, after which that name could never be used again; with
/// it, that takes four million entries, each of them in the log.
///
/// Only a leader checks this bound, before it proposes. What counts is decided at apply, from the log alone, by rules
/// that never change: an older log that holds a larger epoch reads the same on every member, whatever its release.
const EPOCH_STEP_MAX: u64 = 1 << 42;

/// SHA-256 of a signed entry's bytes.
pub(super) type Digest = [u8; 32];

/// What the log decides about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is the next entry of its client, and counts, at this leaf.
    Counted(u64),
    /// Void: it already stands at this leaf.
    Repeated(u64),
    /// Void: sequences from `expected` on are missing before it.
    Gap { expected: u64 },
    /// Void: other bytes stand under its sequence.
    Reused,
    /// Void: its epoch is not the open one.
    WrongEpoch { open: Option<Epoch> },
    /// Not admitted: it would open an epoch that leaves too few above it.
    FarEpoch { most: Epoch },
    /// Void: sequence 0 opens an epoch, and nothing else does.
    Misplaced,
    /// Void: its signature does not verify under the key of its epoch.
    Unsigned,
}

impl Outcome {
    /// The answer that its caller gets.
    pub(super) fn answer(&self, entry: &Entry) -> Appended {
        let (Sequence(sequence), Epoch(epoch)) = (entry.sequence, entry.epoch);
        mark!("gap-refused", matches!(self, Outcome::Gap { .. }));
        let (reason, detail, expected) = match self {
            Outcome::Counted(index) => return Appended::Counted { index: Index(*index) },
            Outcome::Repeated(index) => return Appended::Repeated { index: Index(*index) },
            Outcome::Gap { expected } => (
                Reason::SequenceGap,
                format!("sequence {sequence} came before {expected}: send {expected} first"),
                *expected,
            ),
            Outcome::Reused => {
                (Reason::SequenceReused, format!("another entry stands under sequence {sequence} of epoch {epoch}"), 0)
            }
            Outcome::WrongEpoch { open: Some(Epoch(open)) } => {
                (Reason::WrongEpoch, format!("epoch {epoch} is not open, epoch {open} is: open a larger one"), 0)
            }
            Outcome::WrongEpoch { open: None } => {
                (Reason::WrongEpoch, format!("epoch {epoch} was never opened: send its sequence 0 first"), 0)
            }
            Outcome::FarEpoch { most: Epoch(most) } => {
                let detail = format!(
                    "epoch {epoch} is beyond {most}, the largest that may be opened here: epochs are milliseconds since \
                     1970, so set the clock"
                );
                (Reason::WrongEpoch, detail, 0)
            }
            Outcome::Unsigned => {
                (Reason::Malformed, "its signature does not verify under the key of its epoch".to_owned(), 0)
            }
            Outcome::Misplaced => {
                let detail = format!("sequence 0 opens an epoch and nothing else does; this is sequence {sequence}");
                (Reason::Malformed, detail, 0)
            }
        };
        Appended::Refused(Refusal { reason, detail, expected })
    }
}

/// The open epoch of each client.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    clients: BTreeMap<ClientId, Session>,
}

/// An open epoch: its key and, per sequence, the leaf and the digest of the entry that stands there; 40 bytes per
/// sequence.
#[derive(Debug)]
struct Session {
    epoch: Epoch,
    key: VerifyingKey,
    slots: Vec<(u64, Digest)>,
}

impl Sessions {
    /// Decides whether `entry`, which stands at leaf `index`, counts, and remembers it if it does.
    pub(super) fn apply(&mut self, entry: &Entry, digest: Digest, index: u64) -> Outcome {
        let outcome = match self.judge(entry, &digest) {
            None => Outcome::Counted(index),
            Some(void) => return void,
        };
        if let Body::EpochOpened { key, .. } = &entry.body {
            let session = Session { epoch: entry.epoch, key: key.clone(), slots: vec![(index, digest)] };
            self.clients.insert(entry.client.clone(), session);
        } else if let Some(session) = self.clients.get_mut(&entry.client) {
            session.slots.push((index, digest));
        }
        outcome
    }

    /// The sequence that comes next in this epoch of a client; 0 if the epoch is not open.
    pub(super) fn next(&self, client: &ClientId, epoch: Epoch) -> u64 {
        self.open(client).filter(|open| open.epoch == epoch).map_or(0, |open| open.next)
    }

    /// Why `entry` would be void if it came next; `None` if it would count.
    fn judge(&self, entry: &Entry, digest: &Digest) -> Option<Outcome> {
        match rule(self.open(&entry.client), entry) {
            Ruling::Counts => None,
            Ruling::Void(outcome) => Some(outcome),
            Ruling::Stands => Some(self.compare(entry, digest)),
        }
    }

    fn compare(&self, entry: &Entry, digest: &Digest) -> Outcome {
        let slot = self.clients.get(&entry.client).and_then(|session| at(&session.slots, entry.sequence.0));
        match slot {
            Some((index, standing)) if standing == digest => Outcome::Repeated(*index),
            _ => Outcome::Reused,
        }
    }

    /// The largest epoch that a client may open next.
    fn most(&self, client: &ClientId) -> Epoch {
        let open = self.clients.get(client).map_or(0, |session| session.epoch.0);
        Epoch(open.saturating_add(EPOCH_STEP_MAX))
    }

    fn open(&self, client: &ClientId) -> Option<Open> {
        let session = self.clients.get(client)?;
        Some(Open { epoch: session.epoch, next: session.slots.len() as u64 })
    }

    /// Returns whether an entry is signed by the key that has to sign it. An entry without such a key passes: it is
    /// void for its epoch, whoever signed it.
    pub(super) fn is_signed(&self, entry: &SignedEntry) -> bool {
        self.signer(entry.entry()).is_none_or(|key| entry.verify(key).is_ok())
    }

    /// The key that has to sign an entry: that of its epoch, or the one with which it opens an epoch. An epoch that is
    /// not open has none.
    pub(super) fn signer<'a>(&'a self, entry: &'a Entry) -> Option<&'a VerifyingKey> {
        match &entry.body {
            Body::EpochOpened { key, .. } => Some(key),
            _ => self.key(&entry.client, entry.epoch),
        }
    }

    /// The key that signs the entries of a client's open epoch.
    pub(super) fn key(&self, client: &ClientId, epoch: Epoch) -> Option<&VerifyingKey> {
        self.clients.get(client).filter(|session| session.epoch == epoch).map(|session| &session.key)
    }
}

/// The sessions as they will be once the batch in the making is applied.
///
/// It only saves work: it keeps void entries out of the log and finds the key of an epoch that opens in the same batch.
/// The decision that counts is that of [`Sessions::apply`].
#[derive(Debug, Default)]
pub(super) struct Preview {
    clients: BTreeMap<ClientId, Ahead>,
}

/// What a batch in the making adds to a client.
#[derive(Debug)]
struct Ahead {
    epoch: Epoch,
    key: VerifyingKey,
    /// Sequences below this one stand in the sessions.
    from: u64,
    /// Position in the batch and digest, per sequence.
    slots: Vec<(usize, Digest)>,
}

/// What to do with an entry that is to enter the batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It would count: take it.
    Counts,
    /// The batch already holds it, at this position.
    InBatch(usize),
    /// It would be void, with this outcome.
    Void(Outcome),
}

impl Preview {
    /// What would become of `entry` if it came next in the batch.
    pub(super) fn judge(&self, sessions: &Sessions, entry: &Entry, digest: &Digest) -> Expected {
        let most = match self.clients.get(&entry.client) {
            // The bound also holds between the epochs that one batch opens.
            Some(ahead) => Epoch(ahead.epoch.0.saturating_add(EPOCH_STEP_MAX)),
            None => sessions.most(&entry.client),
        };
        if entry.epoch > most {
            return Expected::Void(Outcome::FarEpoch { most });
        }
        let Some(ahead) = self.clients.get(&entry.client) else {
            return sessions.judge(entry, digest).map_or(Expected::Counts, Expected::Void);
        };
        let open = Open { epoch: ahead.epoch, next: ahead.from + ahead.slots.len() as u64 };
        match rule(Some(open), entry) {
            Ruling::Counts => Expected::Counts,
            Ruling::Void(outcome) => Expected::Void(outcome),
            Ruling::Stands => match entry.sequence.0.checked_sub(ahead.from) {
                None => Expected::Void(sessions.compare(entry, digest)),
                Some(ahead_by) => match at(&ahead.slots, ahead_by) {
                    Some((position, standing)) if standing == digest => Expected::InBatch(*position),
                    _ => Expected::Void(Outcome::Reused),
                },
            },
        }
    }

    /// Notes that `entry`, which [`judge`](Preview::judge) expects to count, stands at `position` of the batch.
    pub(super) fn add(&mut self, sessions: &Sessions, entry: &Entry, digest: Digest, position: usize) {
        if let Body::EpochOpened { key, .. } = &entry.body {
            let ahead = Ahead { epoch: entry.epoch, key: key.clone(), from: 0, slots: vec![(position, digest)] };
            self.clients.insert(entry.client.clone(), ahead);
        } else if let Some(ahead) = self.clients.get_mut(&entry.client) {
            ahead.slots.push((position, digest));
        } else if let Some(session) = sessions.clients.get(&entry.client) {
            let from = session.slots.len() as u64;
            let (epoch, key) = (session.epoch, session.key.clone());
            self.clients.insert(entry.client.clone(), Ahead { epoch, key, from, slots: vec![(position, digest)] });
        }
    }

    /// The key that signs the entries of a client's epoch, once the batch is applied.
    pub(super) fn key(&self, sessions: &Sessions, client: &ClientId, epoch: Epoch) -> Option<VerifyingKey> {
        match self.clients.get(client) {
            Some(ahead) => (ahead.epoch == epoch).then(|| ahead.key.clone()),
            None => sessions.key(client, epoch).cloned(),
        }
    }
}

/// A client's open epoch and its next sequence, which is at least 1: the opening itself is sequence 0.
struct Open {
    epoch: Epoch,
    next: u64,
}

enum Ruling {
    Counts,
    /// Its sequence is taken: the digests decide.
    Stands,
    Void(Outcome),
}

/// The rules, in one place for both the applied state and the preview.
fn rule(open: Option<Open>, entry: &Entry) -> Ruling {
    let opens = matches!(entry.body, Body::EpochOpened { .. });
    if opens != (entry.sequence.0 == 0) {
        return Ruling::Void(Outcome::Misplaced);
    }
    match open {
        Some(Open { epoch, next }) if entry.epoch == epoch => match entry.sequence.0 {
            sequence if sequence < next => Ruling::Stands,
            sequence if sequence == next => Ruling::Counts,
            _ => Ruling::Void(Outcome::Gap { expected: next }),
        },
        Some(Open { epoch, .. }) if entry.epoch < epoch || !opens => {
            Ruling::Void(Outcome::WrongEpoch { open: Some(epoch) })
        }
        None if !opens => Ruling::Void(Outcome::WrongEpoch { open: None }),
        _ => Ruling::Counts,
    }
}

fn at<T>(slots: &[T], sequence: u64) -> Option<&T> {
    slots.get(usize::try_from(sequence).ok()?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(epoch: u64, sequence: u64, text: &str) -> Entry {
        let body = match sequence {
            0 => Body::EpochOpened { key: VerifyingKey([epoch as u8; 32]), previous: None },
            _ => Body::Event(Bytes::copy_from_slice(text.as_bytes())),
        };
        Entry { client: ClientId::new("billing").unwrap(), epoch: Epoch(epoch), sequence: Sequence(sequence), body }
    }

    fn digest(text: &str) -> Digest {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(text).into()
    }

    /// Applies `(epoch, sequence, text)` at leaves 0, 1, 2 …
    fn applied(entries: &[(u64, u64, &str)]) -> (Sessions, Vec<Outcome>) {
        let mut sessions = Sessions::default();
        let apply = |(index, (epoch, sequence, text)): (u64, &(u64, u64, &str))| {
            sessions.apply(&entry(*epoch, *sequence, text), digest(text), index)
        };
        let outcomes = (0..).zip(entries).map(apply).collect();
        (sessions, outcomes)
    }

    #[test]
    fn the_next_sequence_counts_and_a_repeat_gets_the_first_index() {
        let (_, outcomes) = applied(&[(1, 0, "open"), (1, 1, "a"), (1, 1, "a"), (1, 0, "open"), (1, 2, "b")]);
        use Outcome::*;
        assert_eq!(outcomes, [Counted(0), Counted(1), Repeated(1), Repeated(0), Counted(4)]);
    }

    #[test]
    fn a_jump_is_refused_with_the_sequence_that_is_expected() {
        let (_, outcomes) = applied(&[(1, 0, "open"), (1, 2, "b"), (1, 1, "a")]);
        assert_eq!(outcomes[1..], [Outcome::Gap { expected: 1 }, Outcome::Counted(2)]);
    }

    #[test]
    fn other_bytes_under_a_sequence_that_stands_are_refused() {
        let (_, outcomes) = applied(&[(1, 0, "open"), (1, 1, "a"), (1, 1, "A"), (1, 0, "OPEN")]);
        assert_eq!(outcomes[2..], [Outcome::Reused, Outcome::Reused]);
    }

    #[test]
    fn a_larger_epoch_closes_the_smaller_one() {
        let (sessions, outcomes) =
            applied(&[(1, 0, "open"), (2, 1, "early"), (2, 0, "again"), (1, 1, "late"), (1, 0, "open"), (2, 1, "a")]);
        let wrong = |open| Outcome::WrongEpoch { open: Some(Epoch(open)) };
        assert_eq!(outcomes[1..], [wrong(1), Outcome::Counted(2), wrong(2), wrong(2), Outcome::Counted(5)]);
        let client = ClientId::new("billing").unwrap();
        assert_eq!(sessions.key(&client, Epoch(2)), Some(&VerifyingKey([2; 32])));
        assert_eq!(sessions.key(&client, Epoch(1)), None);
    }

    #[test]
    fn an_epoch_that_was_never_opened_is_refused() {
        assert_eq!(applied(&[(1, 1, "a")]).1, [Outcome::WrongEpoch { open: None }]);
    }

    #[test]
    fn only_sequence_zero_opens_and_it_does_nothing_else() {
        let mut event = entry(1, 1, "a");
        event.sequence = Sequence(0);
        let mut opening = entry(1, 0, "");
        opening.sequence = Sequence(3);
        let mut sessions = Sessions::default();
        assert_eq!(sessions.apply(&event, digest("a"), 0), Outcome::Misplaced);
        assert_eq!(sessions.apply(&opening, digest("b"), 1), Outcome::Misplaced);
    }

    #[test]
    fn an_epoch_that_would_leave_none_above_it_is_not_let_in_and_counts_where_it_stands_already() {
        let judge =
            |applied: &Sessions, preview: &Preview, epoch| preview.judge(applied, &entry(epoch, 0, ""), &digest(""));
        let far = |most| Expected::Void(Outcome::FarEpoch { most: Epoch(most) });
        let (none, none_ahead) = (Sessions::default(), Preview::default());
        let now = 1_767_225_600_000; // milliseconds in 2026
        for epoch in [0, 1, now, EPOCH_STEP_MAX] {
            assert_eq!(judge(&none, &none_ahead, epoch), Expected::Counts, "{epoch}");
        }
        for epoch in [EPOCH_STEP_MAX + 1, u64::MAX] {
            assert_eq!(judge(&none, &none_ahead, epoch), far(EPOCH_STEP_MAX), "{epoch}");
        }
        let (sessions, outcomes) = applied(&[(7, 0, "a clock that stood at 1970")]);
        assert_eq!(outcomes, [Outcome::Counted(0)]);
        assert_eq!(judge(&sessions, &none_ahead, now), Expected::Counts, "and was put right");
        assert_eq!(judge(&sessions, &none_ahead, 8 + EPOCH_STEP_MAX), far(7 + EPOCH_STEP_MAX));
        let mut ahead = Preview::default();
        ahead.add(&sessions, &entry(7 + EPOCH_STEP_MAX, 0, ""), digest(""), 0);
        assert_eq!(judge(&sessions, &ahead, u64::MAX), far(7 + 2 * EPOCH_STEP_MAX), "no leap within a batch");
        // A log from before there was a bound.
        let (sessions, outcomes) = applied(&[(u64::MAX, 0, "open"), (u64::MAX, 1, "a")]);
        assert_eq!(outcomes, [Outcome::Counted(0), Outcome::Counted(1)]);
        assert_eq!(none_ahead.judge(&sessions, &entry(u64::MAX, 2, "b"), &digest("b")), Expected::Counts);
    }

    proptest! {
        /// Whatever is sent, what the preview lets into a batch counts once the batch is applied, and what it keeps
        /// out would have been void.
        #[test]
        fn the_preview_foresees_what_applying_decides(
            before in proptest::collection::vec((0u64..3, 0u64..5, 0u8..2), 0..20),
            batch in proptest::collection::vec((0u64..3, 0u64..5, 0u8..2), 0..20),
        ) {
            let mut sessions = Sessions::default();
            let text = |n: u8| if n == 0 { "a" } else { "b" };
            for (index, (epoch, sequence, n)) in (0..).zip(&before) {
                sessions.apply(&entry(*epoch, *sequence, text(*n)), digest(text(*n)), index);
            }
            let mut preview = Preview::default();
            let mut taken: Vec<(Entry, Digest)> = Vec::new();
            let mut expected = Vec::new();
            for (epoch, sequence, n) in &batch {
                let (entry, digest) = (entry(*epoch, *sequence, text(*n)), digest(text(*n)));
                let verdict = preview.judge(&sessions, &entry, &digest);
                if verdict == Expected::Counts {
                    preview.add(&sessions, &entry, digest, taken.len());
                    taken.push((entry.clone(), digest));
                }
                expected.push((entry, digest, verdict));
            }
            for (entry, digest) in &taken {
                prop_assert_eq!(sessions.apply(entry, *digest, 1000), Outcome::Counted(1000));
            }
            for (entry, digest, verdict) in &expected {
                let now = sessions.apply(entry, *digest, 2000);
                prop_assert!(!matches!(now, Outcome::Counted(2000)) || matches!(verdict, Expected::Void(_)));
            }
        }
    }
}
