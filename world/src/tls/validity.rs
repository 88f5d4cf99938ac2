//! The time during which certificates count: how long a connection may last, and which of two certificates is shown.
//!
//! Each host judges the certificates that it sees by its own wall clock, and a clock may jump in either direction or be
//! wrong at the issuer. Nothing here may make a certificate count that has ended or is not yet valid by the clock of
//! the host that judges it.

use super::{Identity, Peer, wall_seconds};

/// How long a connection may last, by the wall clock of the end that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The first second of the other end's certificate, since 1970. The other end judges this end's certificate.
    pub not_before: i64,
    /// The last second of the certificate of the two that ends first, since 1970.
    pub not_after: i64,
}

/// Why a connection may not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
    /// The clock has passed the end of a certificate.
    #[error("a certificate of this connection has ended")]
    Ended,
    /// The clock went back to before a certificate began.
    #[error("the certificate at the other end of this connection is not yet valid by this host's clock")]
    NotYetValid,
}

impl Lifetime {
    /// Returns the lifetime of a connection between these two.
    pub fn of(own: &Peer, other: &Peer) -> Lifetime {
        Lifetime { not_before: other.not_before, not_after: own.not_after.min(other.not_after) }
    }

    /// Fails while the wall clock shows a time outside the lifetime.
    pub fn check(&self) -> Result<(), Outside> {
        match wall_seconds() {
            now if now > self.not_after => Err(Outside::Ended),
            now if now < self.not_before => Err(Outside::NotYetValid),
            _ => Ok(()),
        }
    }
}

/// What happens to an identity that is to replace another.
#[derive(Debug)]
pub enum Succession {
    /// It is shown from now on.
    Now(Identity),
    /// Its certificate begins in the future, and the old one is still good: the old one is shown for now.
    Later {
        /// The old certificate with the authorities that the new identity trusts: trust has no beginning to wait for.
        meanwhile: Identity,
        /// The identity to show from then on.
        renewed: Identity,
        /// The first second of its certificate, since 1970.
        begins: i64,
    },
}

impl Succession {
    /// Decides by the wall clock. An issuer whose clock is ahead makes certificates that nobody accepts for a while;
    /// shown at once, they would lock out hosts that have a good one.
    pub fn of(shown: &Identity, renewed: Identity) -> Succession {
        let (Ok(old), Ok(new)) = (shown.peer(), renewed.peer()) else { return Succession::Now(renewed) };
        let now = wall_seconds();
        if new.not_before <= now || !(old.not_before..=old.not_after).contains(&now) {
            return Succession::Now(renewed);
        }
        let meanwhile = Identity { ca_pem: renewed.ca_pem.clone(), ..shown.clone() };
        // The old certificate is not good either if its authority is thrown out with this very renewal.
        match meanwhile.verify_by_own_issuers() {
            Ok(()) => Succession::Later { meanwhile, renewed, begins: new.not_before },
            Err(_) => Succession::Now(renewed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Issuer, *};

    const LONG_AGO: i64 = 1_000_000_000;
    const FAR_AWAY: i64 = 4_000_000_000;

    #[test]
    fn a_connection_lasts_while_the_other_end_is_valid_and_neither_certificate_has_ended() {
        let peer = |not_before, not_after| Peer { name: "a".into(), not_before, not_after };
        let now = wall_seconds();
        let check =
            |own: (i64, i64), other: (i64, i64)| Lifetime::of(&peer(own.0, own.1), &peer(other.0, other.1)).check();
        assert_eq!(check((LONG_AGO, FAR_AWAY), (LONG_AGO, FAR_AWAY)), Ok(()));
        assert_eq!(check((LONG_AGO, now - 60), (LONG_AGO, FAR_AWAY)), Err(Outside::Ended));
        assert_eq!(check((LONG_AGO, FAR_AWAY), (LONG_AGO, now - 60)), Err(Outside::Ended));
        assert_eq!(check((LONG_AGO, FAR_AWAY), (now + 60, FAR_AWAY)), Err(Outside::NotYetValid));
        assert_eq!(check((now + 60, FAR_AWAY), (LONG_AGO, FAR_AWAY)), Ok(()), "the other end judges it");
    }

    #[test]
    fn a_certificate_that_begins_later_waits_only_behind_one_that_is_good() {
        let issuer = Issuer::new("first", LONG_AGO, FAR_AWAY).unwrap();
        let other = Issuer::new("second", LONG_AGO, FAR_AWAY).unwrap();
        let now = wall_seconds();
        let good = issuer.issue("a", 1, LONG_AGO, FAR_AWAY).unwrap();
        let later = |issuer: &Issuer, trusted: &[&Issuer]| Identity {
            ca_pem: trusted.iter().map(|issuer| issuer.ca_pem()).collect(),
            ..issuer.issue("a", 2, now + 600, FAR_AWAY).unwrap()
        };
        let waits = |shown: &Identity, renewed: Identity| match Succession::of(shown, renewed.clone()) {
            Succession::Now(taken) => {
                assert_eq!(taken.chain_pem, renewed.chain_pem);
                None
            }
            Succession::Later { meanwhile, begins, .. } => {
                assert_eq!((&meanwhile.chain_pem, begins), (&shown.chain_pem, now + 600));
                Some(meanwhile.ca_pem)
            }
        };
        let both = later(&other, &[&issuer, &other]);
        assert_eq!(waits(&good, both.clone()), Some(both.ca_pem), "whom it trusts counts at once");
        assert_eq!(waits(&good, later(&other, &[&other])), None, "the old one is trusted by nobody any more");
        let ended = issuer.issue("a", 3, LONG_AGO, now - 60).unwrap();
        assert_eq!(waits(&ended, later(&issuer, &[&issuer])), None);
        assert_eq!(waits(&good, issuer.issue("a", 4, now - 1, FAR_AWAY).unwrap()), None, "it has begun");
    }
}
