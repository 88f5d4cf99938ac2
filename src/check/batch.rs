//! Verifies many Ed25519 signatures under one key by one equation.
//!
//! A signature (R, s) of M under A holds where sB = R + hA, with h = SHA-512(R, A, M) (RFC 8032, section 5.1.7).
//! Instead of each signature, a random combination of all of them is tested (Bernstein et al., "High-speed
//! high-security signatures", section 5): Σ z·s B = Σ z·R + (Σ z·h) A, with z of 128 bits. A signature that does not
//! hold passes with a chance of about one in 2^128, except for a part of small order in R, which only the holder of the
//! key could put there. As all signatures are under one key, the multiples of A are one term, so a signature costs half
//! a scalar and not one and a half.
//!
//! The z are drawn from a hash of everything that is verified. They are therefore the same in every run, and unknown to
//! anyone who has yet to choose a signature.

use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, edwards::CompressedEdwardsY, traits::IsIdentity as _,
    traits::VartimeMultiscalarMul as _,
};
use sha2::{Digest as _, Sha512};

/// Returns whether every signature is one of `key` over the message beside it. A key or an R of small order never
/// verifies.
pub(super) fn all_signed(key: &[u8; 32], signed: &[(&[u8], [u8; 64])]) -> bool {
    let Some(public) = CompressedEdwardsY(*key).decompress().filter(|key| !key.is_small_order()) else { return false };
    let mut all = Sha512::new();
    let mut parts = Vec::with_capacity(signed.len());
    for (message, signature) in signed {
        let (commitment, response) = signature.split_at(32);
        let challenge: [u8; 64] =
            Sha512::new().chain_update(commitment).chain_update(key).chain_update(message).finalize().into();
        all.update(challenge);
        all.update(response);
        let Some((commitment, response)) = decode(commitment, response) else { return false };
        parts.push((commitment, response, Scalar::from_bytes_mod_order_wide(&challenge)));
    }
    let all = all.finalize();
    let weight = |n: u64| {
        let drawn = Sha512::new().chain_update(all).chain_update(n.to_be_bytes()).finalize();
        Scalar::from(u128::from_be_bytes(std::array::from_fn(|byte| drawn[byte])))
    };
    let weights: Vec<Scalar> = (0..).map(weight).take(parts.len()).collect();
    let (mut of_base, mut of_key) = (Scalar::ZERO, Scalar::ZERO);
    for (weight, (_, response, challenge)) in weights.iter().zip(&parts) {
        of_base -= weight * response;
        of_key += weight * challenge;
    }
    let scalars = [of_base, of_key].into_iter().chain(weights);
    let points = [ED25519_BASEPOINT_POINT, public].into_iter().chain(parts.iter().map(|part| part.0));
    EdwardsPoint::vartime_multiscalar_mul(scalars, points).is_identity()
}

/// Decodes the R and the s of a signature. Each has only one valid encoding.
fn decode(commitment: &[u8], response: &[u8]) -> Option<(EdwardsPoint, Scalar)> {
    let commitment = CompressedEdwardsY::from_slice(commitment).ok()?.decompress()?;
    let response = Scalar::from_canonical_bytes(response.try_into().ok()?).into_option()?;
    (!commitment.is_small_order()).then_some((commitment, response))
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    struct Signed {
        key: [u8; 32],
        messages: Vec<Vec<u8>>,
        signatures: Vec<[u8; 64]>,
    }

    impl Signed {
        fn new(count: usize) -> Self {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
            let messages: Vec<Vec<u8>> = (0..count).map(|n| format!("message {n}").into_bytes()).collect();
            let signatures = messages.iter().map(|message| pair.sign(message).as_ref().try_into().unwrap()).collect();
            Self { key: pair.public_key().as_ref().try_into().unwrap(), messages, signatures }
        }

        fn holds(&self) -> bool {
            let messages = self.messages.iter().map(|message| &message[..]);
            all_signed(&self.key, &messages.zip(self.signatures.iter().copied()).collect::<Vec<_>>())
        }
    }

    #[test]
    fn signatures_of_ring_hold_in_any_number() {
        for count in [0, 1, 2, 100, 600, 1100] {
            assert!(Signed::new(count).holds(), "{count}");
        }
    }

    #[test]
    fn one_wrong_bit_among_many_is_seen() {
        let mut signed = Signed::new(9);
        for bit in 0..512 {
            signed.signatures[4][bit / 8] ^= 1 << (bit % 8);
            assert!(!signed.holds(), "bit {bit} of a signature");
            signed.signatures[4][bit / 8] ^= 1 << (bit % 8);
        }
        signed.messages[8].push(0);
        assert!(!signed.holds(), "a message");
        signed.messages[8].pop();
        assert!(signed.holds());
        signed.key[0] ^= 1;
        assert!(!signed.holds(), "the key");
    }

    #[test]
    fn two_errors_do_not_cancel_each_other() {
        let mut signed = Signed::new(2);
        signed.signatures.swap(0, 1);
        assert!(!signed.holds());
        // The sum of both responses stays the same.
        let mut signed = Signed::new(2);
        for (n, by) in [Scalar::ONE, -Scalar::ONE].into_iter().enumerate() {
            let response = decode(&signed.signatures[n][..32], &signed.signatures[n][32..]).unwrap().1;
            signed.signatures[n][32..].copy_from_slice((response + by).as_bytes());
        }
        assert!(!signed.holds());
    }

    #[test]
    fn a_key_or_commitment_of_small_order_signs_nothing() {
        // Under the neutral element, R = sB is a signature of every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!all_signed(&neutral, &[(b"any", signature)]));
        assert!(!all_signed(&Signed::new(0).key, &[(b"any", signature)]));
    }
}
