//! Signed checkpoints (C2SP `tlog-checkpoint` in a C2SP `signed-note`, Ed25519) and the keys that sign them.
//!
//! A checkpoint is the one sentence that the log can be held to: "of these leaves, this is the root". It is text in a
//! standard format, so that a stranger's tool can verify it. Parsing is strict: of two texts that say the same thing,
//! one is refused, because a checker compares checkpoints.

use std::{collections::BTreeSet, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::tree::Hash;

pub use super::key::{BadSignature, SigningKey, VerifyingKey};

/// Longest note that is read, in bytes. A checkpoint with cosignatures has a few hundred bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The signature type of Ed25519 in signed notes and verifier keys.
const ALGORITHM_ED25519: u8 = 0x01;
/// The signature type of timestamped Ed25519 cosignatures (C2SP tlog-cosignature).
const ALGORITHM_COSIGNATURE: u8 = 0x04;

/// A named verifier key as C2SP signed-note writes it: `name+keyhash+base64(0x01 || key)`.
///
/// `Display` writes this text, and `FromStr` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    /// Name of the key, which is the log's origin.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
}

impl NoteKey {
    /// Returns the four-byte key id: the first bytes of `SHA-256(name || 0x0A || 0x01 || key)`.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, ALGORITHM_ED25519, &self.key)
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, ALGORITHM_ED25519, &self.key)
    }
}

/// Text that is not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key of the form `name+hash+key`: {0}")]
pub struct BadNoteKey(pub String);

impl FromStr for NoteKey {
    type Err = BadNoteKey;

    fn from_str(text: &str) -> Result<Self, BadNoteKey> {
        let (name, key) = read_key(text, ALGORITHM_ED25519, "type 1 (Ed25519)")?;
        Ok(NoteKey { name, key })
    }
}

/// The key of a cosigner of checkpoints, as C2SP tlog-cosignature writes it: `name+keyhash+base64(0x04 || key)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CosignerKey {
    /// Name of the key.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, ALGORITHM_COSIGNATURE, &self.key)
    }
}

impl FromStr for CosignerKey {
    type Err = BadNoteKey;

    fn from_str(text: &str) -> Result<Self, BadNoteKey> {
        let (name, key) = read_key(text, ALGORITHM_COSIGNATURE, "type 4 (cosignature)")?;
        Ok(CosignerKey { name, key })
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, name: &str, algorithm: u8, key: &VerifyingKey) -> fmt::Result {
    let id = u32::from_be_bytes(key_id(name, algorithm, key));
    let mut typed = vec![algorithm];
    typed.extend_from_slice(&key.0);
    write!(f, "{name}+{id:08x}+{}", STANDARD.encode(typed))
}

fn read_key(text: &str, algorithm: u8, kind: &str) -> Result<(String, VerifyingKey), BadNoteKey> {
    // Base64 may contain a plus sign; a name and a hash may not.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(BadNoteKey(format!("`{text}` has no three parts")));
    };
    if !is_key_name(name) {
        return Err(BadNoteKey(format!("`{name}` is not a key name")));
    }
    let decoded = STANDARD.decode(key).map_err(|error| BadNoteKey(format!("its key is not base64: {error}")))?;
    let key = match decoded.split_first() {
        Some((found, key)) if *found == algorithm => key,
        _ => return Err(BadNoteKey(format!("its key is not of {kind}"))),
    };
    let key = key.try_into().map_err(|_| BadNoteKey(format!("its key has {} bytes, not 32", key.len())))?;
    let key = VerifyingKey(key);
    let expected = format!("{:08x}", u32::from_be_bytes(key_id(name, algorithm, &key)));
    if hash != expected {
        return Err(BadNoteKey(format!("its hash is `{hash}`, but name and key have `{expected}`")));
    }
    Ok((name.into(), key))
}

/// Returns whether a text may name a key, and so be a log's origin: it is not empty, and has no plus sign, white space
/// or control characters (C2SP signed-note).
pub fn is_key_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

fn key_id(name: &str, algorithm: u8, key: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', algorithm]).chain_update(key.0).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The origin of the log: the name of a key, see [`is_key_name`].
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of those leaves.
    pub root: Hash,
}

/// Why a note is not a checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is not in the format.
    #[error("not a checkpoint: {0}")]
    Malformed(String),
    /// The checkpoint is of another log.
    #[error("a checkpoint of `{found}`, not of `{expected}`")]
    WrongOrigin {
        /// The origin that was expected.
        expected: String,
        /// The origin that was found.
        found: String,
    },
    /// No signature by the pinned key is valid.
    #[error("no signature by `{0}` verifies")]
    Unsigned(String),
    /// Too few cosignatures are valid.
    #[error("{found} of the {wanted} cosignatures that the policy asks for verify")]
    NoQuorum {
        /// The number of valid cosignatures, of different cosigners.
        found: usize,
        /// The number that the policy asks for.
        wanted: usize,
    },
}

/// The cosignatures that a checkpoint must have in addition to the log's own signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The cosigners whose cosignatures count.
    pub cosigners: Vec<CosignerKey>,
    /// How many of them are needed, by name. If it is 0, the log's signature suffices.
    pub quorum: usize,
}

impl Policy {
    /// Asks for more than half of these, by name: several keys of one name are one cosigner, whose machine was or will
    /// be replaced.
    pub fn majority(cosigners: Vec<CosignerKey>) -> Policy {
        let quorum = names(&cosigners) / 2 + 1;
        Policy { cosigners, quorum }
    }
}

fn names<'a>(cosigners: impl IntoIterator<Item = &'a CosignerKey>) -> usize {
    cosigners.into_iter().map(|cosigner| &cosigner.name).collect::<BTreeSet<_>>().len()
}

impl Checkpoint {
    /// Returns the text that is signed: origin, size and root, each on a line.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Returns the signed note. It verifies only if the origin is a key name.
    pub fn sign(&self, key: &SigningKey) -> String {
        let text = self.text();
        let mut signature = key_id(&self.origin, ALGORITHM_ED25519, &key.verifying_key()).to_vec();
        signature.extend_from_slice(&key.sign(text.as_bytes()));
        format!("{text}\n{}", signature_line(&self.origin, &signature))
    }

    /// Returns a cosignature, as one more line of the signed note: this cosigner saw this tree at `time`, in seconds
    /// since 1970, and will never cosign a tree that is not consistent with it (C2SP tlog-cosignature,
    /// `cosignature/v1`).
    pub fn cosign(&self, name: &str, key: &SigningKey, time: u64) -> String {
        let mut signature = key_id(name, ALGORITHM_COSIGNATURE, &key.verifying_key()).to_vec();
        signature.extend_from_slice(&time.to_be_bytes());
        signature.extend_from_slice(&key.sign(&cosigned(time, &self.text())));
        signature_line(name, &signature)
    }

    /// Parses and verifies a signed note: the origin, and at least one valid signature by `key`. Unknown signatures are
    /// ignored, as the specification demands, and so are extension lines. A signature that claims to be by `key` and is
    /// not makes the whole note void.
    ///
    /// # Errors
    /// See [`NoteError`].
    pub fn verify(note: &str, key: &NoteKey) -> Result<Self, NoteError> {
        let (text, signatures) = split_note(note)?;
        let checkpoint = Self::parse(text)?;
        if checkpoint.origin != key.name {
            return Err(NoteError::WrongOrigin { expected: key.name.clone(), found: checkpoint.origin });
        }
        let mut signed = false;
        for line in signatures.split_terminator('\n') {
            let (name, signature) = parse_signature(line)?;
            let Some(signature) = signature.strip_prefix(&key.id()).filter(|_| name == key.name) else { continue };
            key.key.verify(text.as_bytes(), signature).map_err(|_| NoteError::Unsigned(key.name.clone()))?;
            signed = true;
        }
        if signed { Ok(checkpoint) } else { Err(NoteError::Unsigned(key.name.clone())) }
    }

    /// Like [`verify`](Self::verify), but also asks for the cosignatures of the policy. A cosignature that claims to be
    /// by one of its cosigners and is not makes the whole note void.
    ///
    /// # Errors
    /// See [`NoteError`].
    pub fn verify_by(note: &str, key: &NoteKey, policy: &Policy) -> Result<Self, NoteError> {
        let checkpoint = Self::verify(note, key)?;
        let found = names(cosigned_by(note, &policy.cosigners)?);
        match found < policy.quorum {
            true => Err(NoteError::NoQuorum { found, wanted: policy.quorum }),
            false => Ok(checkpoint),
        }
    }

    /// Parses the text of a checkpoint, without its signatures: C2SP tlog-checkpoint.
    fn parse(text: &str) -> Result<Self, NoteError> {
        let malformed = |why: String| NoteError::Malformed(why);
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        let [origin, size, root, extensions @ ..] = lines.as_slice() else {
            return Err(malformed(format!("it has {} of at least 3 lines", lines.len())));
        };
        if origin.is_empty() || extensions.iter().any(|line| line.is_empty()) {
            return Err(malformed("it has an empty line".into()));
        }
        let canonical = size.bytes().all(|byte| byte.is_ascii_digit()) && (!size.starts_with('0') || *size == "0");
        let size = size.parse().ok().filter(|_| canonical);
        let size = size.ok_or_else(|| malformed("its size is not a decimal number below 2^64".into()))?;
        let root = STANDARD.decode(root).map_err(|error| malformed(format!("its root is not base64: {error}")))?;
        let root = root.try_into().map_err(|root: Vec<u8>| malformed(format!("its root has {} bytes", root.len())))?;
        Ok(Checkpoint { origin: (*origin).into(), size, root })
    }
}

/// Returns which of these cosigners cosigned a note, each once.
///
/// # Errors
/// If it is not a signed note, or if a cosignature claims to be by one of them and is not.
pub fn cosigned_by<'a>(note: &str, cosigners: &'a [CosignerKey]) -> Result<BTreeSet<&'a CosignerKey>, NoteError> {
    let (text, signatures) = split_note(note)?;
    let mut found = BTreeSet::new();
    for line in signatures.split_terminator('\n') {
        let (name, signature) = parse_signature(line)?;
        for cosigner in cosigners.iter().filter(|cosigner| cosigner.name == name) {
            let id = key_id(&cosigner.name, ALGORITHM_COSIGNATURE, &cosigner.key);
            let Some(signature) = signature.strip_prefix(&id) else { continue };
            let unsigned = || NoteError::Unsigned(cosigner.name.clone());
            let (time, signature) = signature.split_first_chunk().ok_or_else(unsigned)?;
            cosigner.key.verify(&cosigned(u64::from_be_bytes(*time), text), signature).map_err(|_| unsigned())?;
            found.insert(cosigner);
        }
    }
    Ok(found)
}

/// Returns the bytes that a cosignature signs.
fn cosigned(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

fn signature_line(name: &str, signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", STANDARD.encode(signature))
}

/// Splits a signed note into its text and its signature lines. Signature lines are never empty, so the last empty line
/// separates the two.
fn split_note(note: &str) -> Result<(&str, &str), NoteError> {
    let malformed = |why: &str| Err(NoteError::Malformed(why.into()));
    if note.len() > NOTE_BYTES_MAX {
        return malformed("it is longer than 64 KiB");
    }
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return malformed("it has control characters");
    }
    let Some(at) = note.rfind("\n\n") else { return malformed("it has no signatures") };
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return malformed("its last line is not a whole signature");
    }
    Ok((text, signatures))
}

/// Returns the name and the bytes (key id, then signature) of a signature line.
fn parse_signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let malformed = || NoteError::Malformed(format!("`{line}` is not a signature line"));
    let (name, encoded) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
    let signature = STANDARD.decode(encoded).map_err(|_| malformed())?;
    if !is_key_name(name) || signature.len() < 5 {
        return Err(malformed());
    }
    Ok((name, signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: &str = "log.example/audit";

    fn keys() -> (SigningKey, NoteKey) {
        let signing = SigningKey::from_seed(&[7; 32]);
        let verifying = NoteKey { name: ORIGIN.into(), key: signing.verifying_key() };
        (signing, verifying)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: 20_852_163, root: [0xfb; 32] }
    }

    /// Signs any text, to try what our own signer would never write.
    fn sign_text(text: &str) -> String {
        let (signing, verifying) = keys();
        let signature = [&verifying.id()[..], &signing.sign(text.as_bytes())].concat();
        format!("{text}\n\u{2014} {ORIGIN} {}\n", STANDARD.encode(signature))
    }

    #[test]
    fn the_published_verifier_key_of_a_public_log_is_read_and_written() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: NoteKey = text.parse().unwrap();
        assert_eq!(key.name, "PeterNeumann");
        assert_eq!(key.to_string(), text);
    }

    #[test]
    fn a_verifier_key_with_a_defect_is_refused() {
        let text = keys().1.to_string();
        assert_eq!(text.parse::<NoteKey>().unwrap(), keys().1);
        for bad in [
            "",
            "log.example",
            "a+b",
            &text.replacen("log", "lot", 1),
            &text.to_uppercase(),
            &format!("{text} "),
            &format!(" {text}"),
            &text[..text.len() - 4],
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(bad.parse::<NoteKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_checkpoint_is_written_as_the_specification_says() {
        let note = checkpoint().sign(&keys().0);
        let (text, signature) = note.split_once("\n\n").unwrap();
        assert_eq!(text, "log.example/audit\n20852163\n+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=");
        assert!(signature.starts_with("\u{2014} log.example/audit "));
        assert!(signature.ends_with('\n'));
        assert_eq!(Checkpoint::verify(&note, &keys().1).unwrap(), checkpoint());
    }

    #[test]
    fn extension_lines_and_unknown_signatures_are_tolerated() {
        let note = sign_text(&format!("{}an extension\nanother\n", checkpoint().text()));
        let note = format!("{note}\u{2014} witness.example {}\n", STANDARD.encode([1; 76]));
        assert_eq!(Checkpoint::verify(&note, &keys().1).unwrap(), checkpoint());
    }

    #[test]
    fn a_false_signature_beside_a_true_one_makes_the_note_void() {
        let false_signature = [&keys().1.id()[..], &[9; 64]].concat();
        let note =
            format!("{}\u{2014} {ORIGIN} {}\n", sign_text(&checkpoint().text()), STANDARD.encode(false_signature));
        assert_eq!(Checkpoint::verify(&note, &keys().1), Err(NoteError::Unsigned(ORIGIN.into())));
    }

    #[test]
    fn another_log_and_another_key_are_told_apart() {
        let note = checkpoint().sign(&keys().0);
        let other_log = NoteKey { name: "other".into(), ..keys().1 };
        assert!(matches!(Checkpoint::verify(&note, &other_log), Err(NoteError::WrongOrigin { .. })));
        let other_key = NoteKey { key: SigningKey::from_seed(&[8; 32]).verifying_key(), ..keys().1 };
        assert_eq!(Checkpoint::verify(&note, &other_key), Err(NoteError::Unsigned(ORIGIN.into())));
    }

    #[test]
    fn a_signed_text_that_is_not_canonical_is_malformed() {
        let root = STANDARD.encode([0xfb; 32]);
        for text in [
            format!("{ORIGIN}\n\n{root}\n"),
            format!("{ORIGIN}\n007\n{root}\n"),
            format!("{ORIGIN}\n+7\n{root}\n"),
            format!("{ORIGIN}\n-7\n{root}\n"),
            format!("{ORIGIN}\n 7\n{root}\n"),
            format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
            format!("{ORIGIN}\n7\n{}\n", STANDARD.encode([0; 31])),
            format!("{ORIGIN}\n7\n{}\n", STANDARD.encode([0; 33])),
            format!("{ORIGIN}\n7\n{}\n", root.trim_end_matches('=')),
            format!("{ORIGIN}\n7\n{}\n", root.replace("s=", "t=")),
            format!("{ORIGIN}\n7\n{root}\r\n"),
            format!("{ORIGIN}\n7\n{root}\nextension\n\nanother\n"),
            format!("{ORIGIN}\n7\n"),
            String::new(),
        ] {
            let verified = Checkpoint::verify(&sign_text(&text), &keys().1);
            assert!(matches!(verified, Err(NoteError::Malformed(_))), "{text:?} gave {verified:?}");
        }
    }

    #[test]
    fn a_note_without_whole_signature_lines_is_malformed() {
        let text = checkpoint().text();
        for note in [
            text.clone(),
            format!("{text}\n"),
            sign_text(&text).trim_end().to_owned(),
            sign_text(&text).replace('\u{2014}', "-"),
            format!("{}\n", sign_text(&text)),
            format!("{text}\n\u{2014} {ORIGIN} AAAA\n"),
            "x".repeat(NOTE_BYTES_MAX + 1),
        ] {
            let verified = Checkpoint::verify(&note, &keys().1);
            assert!(matches!(verified, Err(NoteError::Malformed(_))), "{note:?} gave {verified:?}");
        }
    }

    fn cosigner(seed: u8) -> (SigningKey, CosignerKey) {
        let key = SigningKey::from_seed(&[seed; 32]);
        let cosigner = CosignerKey { name: format!("server-{seed}"), key: key.verifying_key() };
        (key, cosigner)
    }

    #[test]
    fn a_policy_counts_each_cosigner_once_and_strangers_never() {
        let (signing, key) = keys();
        let cosigners: Vec<_> = (1..=4).map(cosigner).collect();
        let line = |n: usize| checkpoint().cosign(&cosigners[n].1.name, &cosigners[n].0, 1_767_225_600);
        let policy = Policy::majority(cosigners[..3].iter().map(|(_, key)| key.clone()).collect());
        let note = checkpoint().sign(&signing);
        let with = |lines: &[usize]| lines.iter().fold(note.clone(), |note, n| note + &line(*n));
        assert_eq!(policy.quorum, 2);
        assert_eq!(Checkpoint::verify_by(&with(&[0, 2]), &key, &policy), Ok(checkpoint()));
        assert_eq!(
            Checkpoint::verify(&with(&[0, 3]), &key),
            Ok(checkpoint()),
            "the log's own signature stands by itself"
        );
        for lines in [&[][..], &[1], &[1, 1], &[1, 3]] {
            let found = lines.iter().filter(|n| **n == 1).count().min(1);
            let refused = Checkpoint::verify_by(&with(lines), &key, &policy);
            assert_eq!(refused, Err(NoteError::NoQuorum { found, wanted: 2 }), "{lines:?}");
        }
    }

    #[test]
    fn the_old_and_the_new_key_of_a_replaced_machine_are_one_cosigner() {
        let (signing, key) = keys();
        let (secret, _) = cosigner(9);
        let renewed = CosignerKey { name: "server-1".into(), key: secret.verifying_key() };
        let (first, old) = cosigner(1);
        let (second, two) = cosigner(2);
        let policy = Policy::majority(vec![old.clone(), renewed.clone(), two.clone(), cosigner(3).1]);
        assert_eq!(policy.quorum, 2);
        let line = |secret: &SigningKey, key: &CosignerKey| checkpoint().cosign(&key.name, secret, 5);
        let note = checkpoint().sign(&signing);
        let twice = format!("{note}{}{}", line(&first, &old), line(&secret, &renewed));
        let refused = Err(NoteError::NoQuorum { found: 1, wanted: 2 });
        assert_eq!(Checkpoint::verify_by(&twice, &key, &policy), refused);
        let both = format!("{note}{}{}", line(&second, &two), line(&secret, &renewed));
        assert_eq!(Checkpoint::verify_by(&both, &key, &policy), Ok(checkpoint()));
    }

    #[test]
    fn a_cosignature_of_another_tree_or_another_time_voids_the_note() {
        let (signing, key) = keys();
        let (secret, cosigner) = cosigner(1);
        let policy = Policy::majority(vec![cosigner.clone()]);
        let other = Checkpoint { size: 7, ..checkpoint() }.cosign(&cosigner.name, &secret, 5);
        let note = checkpoint().sign(&signing);
        let unsigned = Err(NoteError::Unsigned(cosigner.name.clone()));
        assert_eq!(Checkpoint::verify_by(&format!("{note}{other}"), &key, &policy), unsigned);
        let good = checkpoint().cosign(&cosigner.name, &secret, 5);
        let mut bytes = STANDARD.decode(good.trim_end().rsplit(' ').next().unwrap()).unwrap();
        bytes[11] ^= 1; // the last byte of its time
        let moved = signature_line(&cosigner.name, &bytes);
        assert_eq!(Checkpoint::verify_by(&format!("{note}{moved}"), &key, &policy), unsigned);
        assert_eq!(Checkpoint::verify_by(&format!("{note}{good}"), &key, &policy), Ok(checkpoint()));
    }

    #[test]
    fn a_cosigners_key_is_read_as_it_is_written_and_is_no_logs_key() {
        let (_, cosigner) = cosigner(3);
        let text = cosigner.to_string();
        assert_eq!(text.parse(), Ok(cosigner));
        assert!(text.parse::<NoteKey>().is_err_and(|error| error.to_string().contains("type 1")));
        assert!(keys().1.to_string().parse::<CosignerKey>().is_err_and(|error| error.to_string().contains("type 4")));
    }

    proptest! {
        #[test]
        fn what_is_signed_is_what_is_verified(size: u64, root: [u8; 32], seed: [u8; 32]) {
            let signing = SigningKey::from_seed(&seed);
            let key = NoteKey { name: ORIGIN.into(), key: signing.verifying_key() };
            let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root };
            prop_assert_eq!(Checkpoint::verify(&checkpoint.sign(&signing), &key), Ok(checkpoint));
            prop_assert_eq!(key.to_string().parse::<NoteKey>(), Ok(key));
        }

        #[test]
        fn a_note_with_one_altered_byte_never_verifies(at: usize, flip in 1u8..128) {
            let mut note = checkpoint().sign(&keys().0).into_bytes();
            let at = at % note.len();
            note[at] ^= flip;
            if let Ok(note) = String::from_utf8(note) {
                prop_assert!(Checkpoint::verify(&note, &keys().1).is_err());
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(note in "(\\PC|\n|\u{2014} |[a-z0-9+/=]){0,300}") {
            prop_assert!(Checkpoint::verify(&note, &keys().1).is_err());
            let _ = note.parse::<NoteKey>();
        }
    }
}
