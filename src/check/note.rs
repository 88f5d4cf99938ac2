//! Signed checkpoints, as the judge reads them: C2SP `tlog-checkpoint` inside a C2SP `signed-note`. Ed25519 signatures
//! are verified by ring, or by [`batch`] where many are verified in one go.
//!
//! This is written from the specifications and apart from the audit log's own code, for the same reason as
//! [`super::merkle`]. It must never treat a note as signed because it could not read it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::{batch, merkle::Hash};

/// The algorithm byte of Ed25519 in a verifier key.
const ED25519_KEY: u8 = 1;

/// The number of signatures verified in one go; a larger batch gains nothing.
const BATCH: usize = 1024;

/// A checkpoint inside its note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note<'a> {
    /// The log that signs, from the first line.
    pub(super) origin: &'a str,
    /// The number of leaves.
    pub(super) size: u64,
    /// The root of those leaves.
    pub(super) root: Hash,
    /// The signed text: everything up to the empty line, with its last newline.
    body: &'a str,
    /// The signature lines.
    signatures: &'a str,
}

/// Reads a note without verifying it.
pub(super) fn parse(note: &str) -> Result<Note<'_>, &'static str> {
    // Find the last empty line. Lines are found faster than two newlines in a row.
    let (mut end, mut split) = (0, None);
    for line in note.split_inclusive('\n') {
        split = if line == "\n" && end > 0 { Some(end) } else { split };
        end += line.len();
    }
    let split = split.ok_or("it has no empty line before its signatures")?;
    let (body, signatures) = (&note[..split], &note[split + 1..]);
    if !signatures.ends_with('\n') {
        return Err("its last line is not complete");
    }
    let mut lines = body.lines();
    let origin = lines.next().filter(|line| !line.is_empty()).ok_or("it names no origin")?;
    let size = lines.next().and_then(decimal).ok_or("its second line is no tree size")?;
    let root = lines.next().and_then(|line| STANDARD.decode(line).ok()).and_then(|root| root.try_into().ok());
    Ok(Note { origin, size, root: root.ok_or("its third line is no root hash")?, body, signatures })
}

/// Reads an ASCII decimal without leading zeroes.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// A verifier key: `name+hash+base64(0x01 || key)`.
#[derive(Debug)]
pub(super) struct Verifier {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl Verifier {
    /// Reads the text form and checks that the hash in it belongs to the name and key.
    pub(super) fn parse(vkey: &str) -> Result<Self, &'static str> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("it is not `name+hash+key`");
        };
        let bytes = STANDARD.decode(key).map_err(|_| "its key is not base64")?;
        let (&algorithm, key) = bytes.split_first().ok_or("its key is empty")?;
        if algorithm != ED25519_KEY {
            return Err("its key is not Ed25519");
        }
        let key: [u8; 32] = key.try_into().map_err(|_| "its key is not 32 bytes long")?;
        let digest = Sha256::new().chain_update(name).chain_update(b"\n").chain_update(&bytes).finalize();
        let id = [digest[0], digest[1], digest[2], digest[3]];
        if super::merkle::hex(&id) != hash {
            return Err("its hash is not that of its name and key");
        }
        Ok(Verifier { name: name.to_owned(), id, key })
    }

    /// Checks that the note is from this log and signed by this key. Signatures by others are ignored, as the
    /// specification demands.
    fn signed(&self, note: &Note<'_>) -> Result<(), String> {
        if note.origin != self.name {
            return Err(format!("it is a checkpoint of `{}`, not of `{}`", note.origin, self.name));
        }
        let signature = self.signature(note).ok_or_else(|| format!("`{}` has not signed it", self.name))?;
        UnparsedPublicKey::new(&ED25519, self.key)
            .verify(note.body.as_bytes(), &signature)
            .map_err(|_| format!("the signature by `{}` does not verify", self.name))
    }

    /// Returns this key's signature from among those of the note.
    fn signature(&self, note: &Note<'_>) -> Option<Vec<u8>> {
        note.signatures.lines().find_map(|line| {
            let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok().filter(|_| name == self.name)?;
            signature.strip_prefix(&self.id).map(<[u8]>::to_vec)
        })
    }
}

/// Verifies notes, each pair of text and signature once: every receipt of a batch comes with the same checkpoint.
#[derive(Debug, Default)]
pub(super) struct Seen {
    known: BTreeMap<Hash, Result<(), String>>,
}

impl Seen {
    /// Does what [`Seen::signed`] does for many notes in one go, which costs a fraction of verifying each. A batch
    /// settles its notes only if all of them verify; otherwise each note of that batch is verified alone.
    pub(super) fn all_signed(&mut self, verifier: &Verifier, notes: &[&Note<'_>]) -> Vec<Result<(), String>> {
        let mut batch = BTreeMap::new();
        let mut digests = Vec::with_capacity(notes.len());
        for note in notes {
            let signature = verifier.signature(note).unwrap_or_default();
            let digest = Self::digest(&signature, note);
            digests.push(digest);
            let Ok(signature) = signature.try_into() else { continue };
            if note.origin == verifier.name && !self.known.contains_key(&digest) {
                batch.insert(digest, (note.body.as_bytes(), signature));
            }
            if batch.len() == BATCH {
                self.settle(verifier, std::mem::take(&mut batch));
            }
        }
        self.settle(verifier, batch);
        let of = |(note, digest): (&&Note<'_>, Hash)| self.look_up(verifier, note, digest);
        notes.iter().zip(digests).map(of).collect()
    }

    fn settle(&mut self, verifier: &Verifier, signed: BTreeMap<Hash, (&[u8], [u8; 64])>) {
        if batch::all_signed(&verifier.key, &signed.values().copied().collect::<Vec<_>>()) {
            self.known.extend(signed.into_keys().map(|digest| (digest, Ok(()))));
        }
    }

    fn digest(signature: &[u8], note: &Note<'_>) -> Hash {
        Sha256::new().chain_update(signature).chain_update(note.body).finalize().into()
    }

    /// Checks that `verifier` has signed `note`, or returns why not.
    pub(super) fn signed(&mut self, verifier: &Verifier, note: &Note<'_>) -> Result<(), String> {
        let signature = verifier.signature(note).unwrap_or_default();
        self.look_up(verifier, note, Self::digest(&signature, note))
    }

    fn look_up(&mut self, verifier: &Verifier, note: &Note<'_>, digest: Hash) -> Result<(), String> {
        self.known.entry(digest).or_insert_with(|| verifier.signed(note)).clone()
    }

    /// Returns the number of notes verified.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// The key of a log, which signs checkpoints.
    pub(in crate::check) struct Signer {
        name: String,
        pair: Ed25519KeyPair,
    }

    impl Signer {
        pub(in crate::check) fn new(name: &str, seed: u8) -> Self {
            Signer { name: name.to_owned(), pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap() }
        }

        fn bytes(&self) -> Vec<u8> {
            [&[ED25519_KEY], self.pair.public_key().as_ref()].concat()
        }

        fn id(&self) -> [u8; 4] {
            let digest = Sha256::digest([self.name.as_bytes(), b"\n", &self.bytes()].concat());
            [digest[0], digest[1], digest[2], digest[3]]
        }

        pub(in crate::check) fn vkey(&self) -> String {
            format!("{}+{}+{}", self.name, crate::check::merkle::hex(&self.id()), STANDARD.encode(self.bytes()))
        }

        pub(in crate::check) fn note(&self, size: u64, root: &Hash) -> String {
            let body = format!("{}\n{size}\n{}\n", self.name, STANDARD.encode(root));
            let signature = [&self.id(), self.pair.sign(body.as_bytes()).as_ref()].concat();
            format!("{body}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
        }
    }

    fn verify(note: &str, vkey: &str) -> Result<(), String> {
        Verifier::parse(vkey)?.signed(&parse(note)?)
    }

    #[test]
    fn a_note_verifies_under_its_own_key_only() {
        let (log, other) = (Signer::new("log.example", 1), Signer::new("log.example", 2));
        let note = log.note(7, &[9; 32]);
        let read = parse(&note).unwrap();
        assert_eq!((read.origin, read.size, read.root), ("log.example", 7, [9; 32]));
        verify(&note, &log.vkey()).unwrap();
        verify(&note, &other.vkey()).unwrap_err();
        verify(&note, &Signer::new("another", 1).vkey()).unwrap_err();
        verify(&note.replace("\n7\n", "\n8\n"), &log.vkey()).unwrap_err();
    }

    #[test]
    fn notes_verified_together_are_judged_as_if_alone() {
        let log = Signer::new("log.example", 1);
        let verifier = Verifier::parse(&log.vkey()).unwrap();
        let mut notes: Vec<String> = (1..2_500).map(|size| log.note(size, &[7; 32])).collect();
        notes[300] = notes[300].replace("\n301\n", "\n999\n");
        notes[301] = Signer::new("log.example", 2).note(302, &[7; 32]);
        let mut seen = Seen::default();
        let parsed: Vec<Note<'_>> = notes.iter().map(|note| parse(note).unwrap()).collect();
        let together = seen.all_signed(&verifier, &parsed.iter().collect::<Vec<_>>());
        assert_eq!((together.len(), seen.len()), (notes.len(), notes.len()));
        for (n, (note, together)) in parsed.iter().zip(together).enumerate() {
            let alone = verifier.signed(note);
            assert_eq!(together, alone);
            assert_eq!(seen.signed(&verifier, note), alone);
            assert_eq!(alone.is_ok(), n != 300 && n != 301);
        }
    }

    #[test]
    fn signatures_by_others_are_passed_over() {
        let log = Signer::new("log.example", 1);
        let note = log.note(7, &[9; 32]);
        let cosigned = note.replace("\n\n", "\n\n\u{2014} witness AAAAAAAAAAAA\n");
        verify(&cosigned, &log.vkey()).unwrap();
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        for text in ["", "log\n7\n\n", "log\n07\nAAAA\n\n\n", "\n\n", "log\n7\nAAAA\n\n\u{2014} log AAAA\n"] {
            parse(text).unwrap_err();
        }
        let vkey = Signer::new("log.example", 1).vkey();
        Verifier::parse(&vkey.replace("log.example", "log.example2")).unwrap_err();
        Verifier::parse("log").unwrap_err();
    }
}
