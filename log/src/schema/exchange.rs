//! What one end knows of the schemas that it has met: verdicts by fingerprint, each reached once.
//!
//! An end believes nobody's word about a schema: it computes the fingerprint of the descriptors that it is shown and
//! judges them itself. At its start it knows only its own contract, so a build that happens to contain several
//! revisions behaves like a build that contains one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Fingerprint, Revision, Schema, SchemaError, compatible};

/// Metadata of each call and each response: the fingerprint of the schema that its sender speaks.
pub const FINGERPRINT: &str = "gapless-schema";
/// Metadata of a refusal that only asks to see the caller's descriptors.
pub const ASKED_FOR: &str = "gapless-schema-asked-for";

/// The number of verdicts that are remembered. The oldest makes room; an end that still needs it shows its descriptors
/// again.
const REMEMBERED_MAX: usize = 64;
/// The number of characters that are kept of what another end calls its revision.
const LABEL_CHARS_MAX: usize = 40;

/// The verdict on another end's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It is the same schema.
    Same,
    /// It differs and is compatible. Contains what the other end calls it.
    Compatible(String),
    /// It is not compatible. Contains the first contradiction.
    Incompatible(String),
}

/// One end's own schema and its verdicts, shared by all its connections.
#[derive(Debug)]
pub struct Exchange {
    revision: Revision,
    schema: Schema,
    fingerprint: Fingerprint,
    verdicts: Mutex<VecDeque<(Fingerprint, Judged)>>,
}

impl Exchange {
    /// Makes an end that speaks `revision` and has met no other end yet.
    pub fn new(revision: Revision) -> Result<Arc<Exchange>, SchemaError> {
        let schema = Schema::read(revision.descriptors())?;
        let fingerprint = schema.fingerprint();
        Ok(Arc::new(Exchange { revision, schema, fingerprint, verdicts: Mutex::default() }))
    }

    /// Returns the revision that this end speaks.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the fingerprint of the schema that this end speaks.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the verdict on a schema, if it was reached.
    pub fn verdict(&self, theirs: &Fingerprint) -> Option<Judged> {
        if *theirs == self.fingerprint {
            return Some(Judged::Same);
        }
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.iter().find(|(known, _)| known == theirs).map(|(_, judged)| judged.clone())
    }

    /// Reads the descriptors of another end, judges them and remembers the verdict. `label` is what that end calls its
    /// revision; people read it.
    pub fn learn(&self, label: &str, descriptors: &[u8]) -> Result<(Fingerprint, Judged), SchemaError> {
        let theirs = Schema::read(descriptors)?;
        let fingerprint = theirs.fingerprint();
        if fingerprint == self.fingerprint {
            return Ok((fingerprint, Judged::Same));
        }
        let judged = match compatible(&self.schema, &theirs) {
            Ok(()) => Judged::Compatible(printable(label, LABEL_CHARS_MAX)),
            Err(why) => Judged::Incompatible(why.to_string()),
        };
        self.remember(fingerprint, judged.clone());
        Ok((fingerprint, judged))
    }

    /// Remembers a verdict, which replaces an older verdict on the same schema.
    pub fn remember(&self, theirs: Fingerprint, judged: Judged) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.retain(|(known, _)| *known != theirs);
        if verdicts.len() >= REMEMBERED_MAX {
            verdicts.pop_front();
        }
        verdicts.push_back((theirs, judged));
    }
}

/// Makes what a stranger says fit for logs.
pub(crate) fn printable(said: &str, chars_max: usize) -> String {
    let fit = |c: &char| c.is_ascii_graphic() || *c == ' ';
    said.chars().filter(fit).take(chars_max).collect()
}
