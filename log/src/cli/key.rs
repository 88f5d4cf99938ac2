//! Signing keys in files, in the form that Go's `sumdb/note` gives a signer key:
//! `PRIVATE+KEY+<name>+<hash>+<base64 of the algorithm and the seed>`. The verifier key is beside it, for those who
//! read the log. The algorithm is 0x01 for the log's key and 0x04 for the key of a member that cosigns.
//!
//! Whoever has the log's key can sign a different history, so a key file that others may read is refused.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::files::{self, Access, Secret};
use crate::note::{CosignerKey, NoteKey, SigningKey};

const PREFIX: &str = "PRIVATE+KEY+";
const LOG: u8 = 0x01;
const COSIGNER: u8 = 0x04;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("{0}; `gapless-log init` makes a log's key, and `gapless-log cosigner` makes a cosigner's key")]
    Missing(io::Error),
    #[error("{0}")]
    File(io::Error),
    #[error("{path} can be read by others (mode {mode:03o}); whoever has it can sign for the log: chmod 600 {path}", path = .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is not a signing key: {why}; restore it from a copy: a log cannot change its key", path = .path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{path} is the key of `{found}`, the configuration says `{expected}`; one of them is wrong", path = .path.display())]
    OtherOrigin { path: PathBuf, found: String, expected: String },
}

/// A log's key and its name.
#[derive(Debug, Clone)]
pub(super) struct LogKey {
    pub(super) signing: Arc<SigningKey>,
    pub(super) verifier: NoteKey,
}

impl LogKey {
    /// Makes a fresh key.
    pub(super) fn generate(origin: &str) -> LogKey {
        LogKey::named(origin, SigningKey::generate())
    }

    /// Reads the key of `origin`.
    pub(super) fn read(path: &Path, origin: &str) -> Result<LogKey, KeyError> {
        Ok(LogKey::named(origin, read_secret(path, origin, LOG)?))
    }

    /// Writes the key, and its verifier key beside it. Does not overwrite a key.
    pub(super) fn create(&self, path: &Path) -> Result<(), KeyError> {
        create_secret(path, LOG, &self.signing, &self.verifier.to_string())?;
        self.publish(path)
    }

    /// Writes the verifier key beside the key.
    pub(super) fn publish(&self, path: &Path) -> Result<(), KeyError> {
        let text = format!("{}\n", self.verifier);
        files::replace(&verifier_path(path), &text, Access::Public).map_err(KeyError::File)
    }

    /// Returns the id of the log that this key signs: the first 16 bytes of the SHA-256 of its verifier key. So data
    /// folder and key belong together, and neither can be exchanged unnoticed.
    pub(super) fn log_id(&self) -> [u8; 16] {
        use sha2::Digest as _;
        let digest: [u8; 32] = sha2::Sha256::digest(self.verifier.to_string()).into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id
    }

    fn named(origin: &str, signing: SigningKey) -> LogKey {
        let verifier = NoteKey { name: origin.to_owned(), key: signing.verifying_key() };
        LogKey { signing: Arc::new(signing), verifier }
    }
}

/// The key with which a member of a cluster cosigns checkpoints.
#[derive(Debug, Clone)]
pub(super) struct MemberKey {
    pub(super) signing: Arc<SigningKey>,
    pub(super) verifier: CosignerKey,
}

impl MemberKey {
    /// Makes a fresh key.
    pub(super) fn generate(name: &str) -> MemberKey {
        MemberKey::named(name, SigningKey::generate())
    }

    /// Reads the key of the member `name`.
    pub(super) fn read(path: &Path, name: &str) -> Result<MemberKey, KeyError> {
        Ok(MemberKey::named(name, read_secret(path, name, COSIGNER)?))
    }

    /// Writes the key, and its verifier key beside it. Does not overwrite a key.
    pub(super) fn create(&self, path: &Path) -> Result<(), KeyError> {
        let verifier = self.verifier.to_string();
        create_secret(path, COSIGNER, &self.signing, &verifier)?;
        files::replace(&verifier_path(path), &format!("{verifier}\n"), Access::Public).map_err(KeyError::File)
    }

    fn named(name: &str, signing: SigningKey) -> MemberKey {
        let verifier = CosignerKey { name: name.to_owned(), key: signing.verifying_key() };
        MemberKey { signing: Arc::new(signing), verifier }
    }
}

/// Returns the path of a key's verifier key.
pub(super) fn verifier_path(key: &Path) -> PathBuf {
    key.with_extension("vkey")
}

/// Writes a key whose verifier key is `name+hash+…`.
fn create_secret(path: &Path, algorithm: u8, key: &SigningKey, verifier: &str) -> Result<(), KeyError> {
    let mut secret = vec![algorithm];
    secret.extend_from_slice(&key.seed());
    let (name, rest) = verifier.split_once('+').unwrap_or_default();
    let (hash, _) = rest.split_once('+').unwrap_or_default();
    let text = format!("{PREFIX}{name}+{hash}+{}\n", STANDARD.encode(secret));
    files::create(path, &text, Access::Secret).map_err(KeyError::File)
}

/// Reads a key of that algorithm and that name, which only its owner may read.
fn read_secret(path: &Path, name: &str, algorithm: u8) -> Result<SigningKey, KeyError> {
    let found = files::read_secret(path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(why),
        _ => KeyError::File(why),
    })?;
    let text = match found {
        Secret::Kept(text) => text,
        Secret::Exposed(mode) => return Err(KeyError::Exposed { path: path.to_owned(), mode }),
    };
    let malformed = |why| KeyError::Malformed { path: path.to_owned(), why };
    let (found, key) = parse(text.trim(), algorithm).map_err(malformed)?;
    if found != name {
        return Err(KeyError::OtherOrigin { path: path.to_owned(), found, expected: name.to_owned() });
    }
    Ok(key)
}

fn parse(text: &str, algorithm: u8) -> Result<(String, SigningKey), String> {
    let rest = text.strip_prefix(PREFIX).ok_or_else(|| format!("it does not begin with `{PREFIX}`"))?;
    // Base64 may contain a plus sign; a name and a hash may not.
    let (secret, hash, name) = match rest.splitn(3, '+').collect::<Vec<_>>()[..] {
        [name, hash, secret] => (secret, hash, name),
        _ => return Err("it has no name, hash and key".to_owned()),
    };
    let secret = STANDARD.decode(secret).map_err(|why| format!("its key is not base64: {why}"))?;
    let seed = match secret.split_first() {
        Some((found, seed)) if *found == algorithm => seed,
        _ => return Err(format!("its key is not of type {algorithm}")),
    };
    let seed: [u8; 32] = seed.try_into().map_err(|_| format!("its key has {} bytes, not 32", seed.len()))?;
    let key = SigningKey::from_seed(&seed);
    let verifier = match algorithm {
        COSIGNER => CosignerKey { name: name.to_owned(), key: key.verifying_key() }.to_string(),
        _ => NoteKey { name: name.to_owned(), key: key.verifying_key() }.to_string(),
    };
    match verifier.strip_prefix(&format!("{name}+{hash}+")) {
        Some(_) => Ok((name.to_owned(), key)),
        None => Err("its hash does not belong to its name and key".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_itself_and_stands_beside_its_verifier_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let made = LogKey::generate("log.example/a");
        made.create(&path).unwrap();
        let read = LogKey::read(&path, "log.example/a").unwrap();
        assert_eq!((read.signing.seed(), &read.verifier), (made.signing.seed(), &made.verifier));
        assert_eq!(read.log_id(), made.log_id());
        let published: NoteKey = files::read(&verifier_path(&path)).unwrap().trim().parse().unwrap();
        assert_eq!(published, made.verifier);
        assert!(matches!(made.create(&path), Err(KeyError::File(_))), "no key is overwritten");
    }

    #[test]
    fn a_members_key_reads_back_and_is_not_taken_for_a_logs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server-1.key");
        let made = MemberKey::generate("server-1");
        made.create(&path).unwrap();
        let read = MemberKey::read(&path, "server-1").unwrap();
        assert_eq!((read.signing.seed(), &read.verifier), (made.signing.seed(), &made.verifier));
        let published: CosignerKey = files::read(&verifier_path(&path)).unwrap().trim().parse().unwrap();
        assert_eq!(published, made.verifier);
        assert!(matches!(LogKey::read(&path, "server-1"), Err(KeyError::Malformed { .. })));
        assert!(matches!(MemberKey::read(&path, "server-2"), Err(KeyError::OtherOrigin { .. })));
    }

    #[test]
    fn a_key_that_cannot_be_used_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        assert!(matches!(LogKey::read(&path, "a"), Err(KeyError::Missing(_))));
        LogKey::generate("a").create(&path).unwrap();
        assert!(matches!(LogKey::read(&path, "b"), Err(KeyError::OtherOrigin { .. })));
        let text = files::read(&path).unwrap();
        files::replace(&path, &text.replace("KEY+a", "KEY+c"), Access::Secret).unwrap();
        assert!(matches!(LogKey::read(&path, "c"), Err(KeyError::Malformed { .. })));
        files::replace(&path, &text, Access::Public).unwrap();
        assert!(matches!(LogKey::read(&path, "a"), Err(KeyError::Exposed { mode: 0o644, .. })));
    }
}
