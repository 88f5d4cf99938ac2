//! One run of a log that is tested here, and what is asked of its outcome.

#![allow(dead_code, reason = "each test program uses a part of it")]

use gapless::{
    explore::{self, RUN_MAX, RunOutcome, RunRequest},
    report::RunSummary,
    system::{Failure, Findings, Host, Peer},
};
use libtest_mimic::Failed;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// The only server loses its power for a second.
pub(crate) const POWER_LOSS: &str = "[[step]]\naction = \"power-loss\"\non = \"server-1\"\nat = \"3s\"\nfor = \"1s\"";

/// A run of the scenario with this text under this seed, which keeps nothing.
pub(crate) fn request(text: String, seed: u64) -> RunRequest {
    RunRequest::new("scenarios/toy.toml", text, seed)
}

/// The judgement and the screen of a run; an error where it came to none.
pub(crate) fn judged(request: &RunRequest) -> Result<(RunSummary, String), Failed> {
    match explore::run(request, RUN_MAX).map_err(|error| error.to_string())? {
        RunOutcome::Judged { summary, screen, .. } => Ok((*summary, screen)),
        RunOutcome::Failed { error } => Err(format!("no judgement: {error}").into()),
    }
}

/// An error where one of the parts is not in the text.
pub(crate) fn says(text: &str, parts: &[&str]) -> Result<(), Failed> {
    match parts.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(format!("`{part}` is not in:\n{text}").into()),
    }
}

/// Reads a log over bare TCP whole.
pub(crate) async fn read_lines(auditor: &Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
    (0..).zip(lines(auditor, server).await?).for_each(|(position, line)| found.entry(position, line));
    Ok(())
}

/// The entries of a log over bare TCP: a line each, up to one that says that it is the end.
pub(crate) async fn lines(auditor: &Host, server: &Peer) -> Result<Vec<Vec<u8>>, Failure> {
    let mut stream = BufReader::new(auditor.world().net.connect(&server.address()).await?);
    stream.write_all(b"READ\n").await?;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err("cut off".into());
        }
        if line == "END\n" {
            return Ok(lines);
        }
        lines.push(line.trim_end().as_bytes().to_vec());
    }
}
