//! Ed25519 keys (RFC 8032), and the memory of what they signed and verified.
//!
//! Secrets leave [`SigningKey`] only through [`SigningKey::seed`].
//!
//! A process meets the same checkpoint many times: a client gets it with every receipt of a batch, and a member of a
//! cluster is asked to cosign it and then told that a quorum did, itself included. So what this process signed a moment
//! ago, or found to verify, is remembered by its digest, and a second look costs a hash. Only what holds is remembered,
//! and an attacker who finds another key, message or signature with the same SHA-256 has broken more than this memory.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ed25519_dalek::{Signature, Signer as _};
use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};

/// The number of signatures that the whole process remembers: 128 KiB.
const REMEMBERED: usize = 4096;

static VERIFIED: Verified = Verified(Mutex::new([[0; 32]; REMEMBERED]));

/// An Ed25519 key pair. `Debug` never shows the secret.
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    public: VerifyingKey,
}

impl SigningKey {
    /// Makes a fresh key from the system's entropy.
    ///
    /// # Panics
    /// If the operating system provides no entropy: no key may be made without it.
    pub fn generate() -> Self {
        let mut seed = [0; 32];
        OsRng.try_fill_bytes(&mut seed).expect("the operating system gives entropy; a key without it would be no key");
        Self::from_seed(&seed)
    }

    /// Makes the key of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifyingKey(secret.verifying_key().to_bytes());
        Self { secret, public }
    }

    /// Returns the seed, which may be stored only where its owner alone has access.
    pub fn seed(&self) -> [u8; 32] {
        self.secret.to_bytes()
    }

    /// Returns the public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// Signs a message. The signature depends on the key and the message alone.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.secret.sign(message).to_bytes();
        VERIFIED.remember(digest(&self.public, message, &signature));
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// An Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Checks a signature of 64 bytes, strictly: a key or a commitment of small order, under which one signature could
    /// hold for many messages, is refused.
    ///
    /// # Errors
    /// If it is not this key's signature of this message, or not a signature at all.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = signature.try_into().map_err(|_| BadSignature)?;
        let digest = digest(self, message, signature);
        if !VERIFIED.knows(&digest) {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
            key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)?;
            VERIFIED.remember(digest);
        }
        Ok(())
    }
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Digests of signatures that hold. Each digest has one place, and a newer digest replaces an older one in its place.
struct Verified(Mutex<[[u8; 32]; REMEMBERED]>);

impl Verified {
    fn knows(&self, digest: &[u8; 32]) -> bool {
        self.lock()[Self::place(digest)] == *digest
    }

    fn remember(&self, digest: [u8; 32]) {
        self.lock()[Self::place(&digest)] = digest;
    }

    fn lock(&self) -> MutexGuard<'_, [[u8; 32]; REMEMBERED]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(digest: &[u8; 32]) -> usize {
        usize::from(u16::from_be_bytes([digest[0], digest[1]])) % REMEMBERED
    }
}

/// Returns the digest of a signature and of all that it depends on. Key and signature are of fixed length, so no two of
/// them share one text.
fn digest(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> [u8; 32] {
    Sha256::new().chain_update(key.0).chain_update(signature).chain_update(message).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let seed: [u8; 32] = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
            0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = SigningKey::from_seed(&seed);
        assert_eq!(key.seed(), seed);
        assert_eq!(key.verifying_key().0[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(key.sign(b"")[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert!(key.verifying_key().verify(b"", &key.sign(b"")).is_ok());
        assert!(key.verifying_key().verify(b"x", &key.sign(b"")).is_err());
        assert!(key.verifying_key().verify(b"", b"short").is_err());
    }

    #[test]
    fn two_generated_keys_differ_and_hide_their_seed() {
        let (one, two) = (SigningKey::generate(), SigningKey::generate());
        assert_ne!(one.seed(), two.seed());
        assert_eq!(format!("{one:?}"), "SigningKey(..)");
    }

    #[test]
    fn a_signature_that_was_remembered_vouches_for_no_other() {
        let (key, other) = (SigningKey::from_seed(&[8; 32]), SigningKey::from_seed(&[9; 32]).verifying_key());
        let signature = key.sign(b"paid");
        for _ in 0..2 {
            assert_eq!(key.verifying_key().verify(b"paid", &signature), Ok(()));
            assert_eq!(key.verifying_key().verify(b"owed", &signature), Err(BadSignature));
            assert_eq!(other.verify(b"paid", &signature), Err(BadSignature));
            for bit in 0..signature.len() * 8 {
                let mut flipped = signature;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.verifying_key().verify(b"paid", &flipped), Err(BadSignature), "bit {bit}");
            }
        }
    }
}
