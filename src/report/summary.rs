//! One run as reports need it: small enough to cross a process boundary as JSON, without its history.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Judgement;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSummary {
    /// The scenario's name.
    pub scenario: String,
    /// Its file, as the user named it.
    pub file: String,
    /// The seed.
    pub seed: u64,
    /// The judgement.
    pub judgement: Judgement,
    /// Simulated time.
    pub simulated: Duration,
    /// Time on the wall, where somebody measured it.
    pub wall: Option<Duration>,
    /// Hash of the whole run: same seed, same hash.
    pub hash: String,
}

/// What to type next: printed as given, left out where not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Reproduces the run.
    pub reproduce: Option<String>,
    /// Finds a smaller scenario.
    pub shrink: Option<String>,
    /// Where the full report is.
    pub report: Option<String>,
}
