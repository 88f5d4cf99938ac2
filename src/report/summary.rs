//! One run as reports need it: small enough to cross a process boundary as JSON, without its history.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Judgement;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSummary {
    /// The name of the scenario.
    pub scenario: String,
    /// The file of the scenario, as the user named it.
    pub file: String,
    /// The seed.
    pub seed: u64,
    /// The judgement.
    pub judgement: Judgement,
    /// Simulated time.
    pub simulated: Duration,
    /// The real time that the run took, if it was measured.
    pub wall: Option<Duration>,
    /// The hash of the whole run: the same seed gives the same hash.
    pub hash: String,
}

/// What to type next: printed as given, left out if not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The command that reproduces the run.
    pub reproduce: Option<String>,
    /// The command that finds a smaller scenario.
    pub shrink: Option<String>,
    /// The place of the full report.
    pub report: Option<String>,
}
