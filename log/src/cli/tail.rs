//! `gapless-log tail`: prints leaves. It prints what the server says; `verify` proves it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gapless_world::real::{self, TracingObserver};

use super::{
    Failure, Format,
    config::ClientConfig,
    judged,
    level::{self, LevelArgs},
};
use crate::{
    client::{LogReader, ReaderSettings, Tail},
    leaf::{Body, Content, Index, Leaf},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The client's configuration.
    #[arg(long)]
    config: PathBuf,
    /// Index of the first leaf.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Goes on with each new leaf, across any failure, until it is interrupted. With `--max-age`, it leaves a server
    /// that falls behind by more than that time, or does not answer within it, for another server.
    #[arg(long, conflicts_with = "linearizable")]
    follow: bool,
    #[command(flatten)]
    level: LevelArgs,
    /// How leaves look.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = ClientConfig::read(&args.config)?;
    let world = real::world(&config.folder, Arc::new(TracingObserver)).map_err(Failure::File)?;
    let settings = ReaderSettings::from(&config.settings);
    if args.follow {
        let mut tail = Tail::new(world, settings, args.from)?;
        if let Some(max_age) = args.level.max_age {
            tail = tail.within(max_age);
        }
        loop {
            let (index, leaf) = tail.next().await.map_err(judged)?;
            print(args.format, index, leaf)?;
        }
    }
    let reader = LogReader::connect(world, settings)?;
    let (checkpoint, _, bound) = reader.signed_checkpoint_at(args.level.level()).await.map_err(judged)?;
    let size = checkpoint.size;
    let mut next = args.from;
    while next < size {
        let leaves = reader.read(next).await.map_err(judged)?;
        if leaves.is_empty() {
            return Err(Failure::Unverified(format!("{size} leaves are signed, but none is served from {next} on")));
        }
        for (index, leaf) in leaves {
            print(args.format, index, leaf)?;
            next = index.0 + 1;
        }
    }
    eprintln!("{size} leaves: {}", level::bound(&bound));
    Ok(())
}

fn print(format: Format, index: Index, bytes: Bytes) -> Result<(), Failure> {
    let line = match (format, Leaf::decode(bytes.clone())) {
        (Format::Human, Ok(leaf)) => human(index, &leaf.content),
        (Format::Human, Err(why)) => format!("{}\tunknown\t{why}", index.0),
        (Format::Json, leaf) => json(index, &bytes, leaf.ok().as_ref()).to_string(),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns index, author and content. Control characters are escaped: an entry must not control the reader's terminal.
fn human(index: Index, content: &Content) -> String {
    let said = match content {
        Content::LeaderStarted { node } => format!("node {node}\tbegan to lead"),
        Content::Membership(_) => "cluster\tmembers changed".to_owned(),
        Content::ClockAnomaly { node, by_ms } => {
            format!("node {node}\tits wall clock moved by {by_ms:+} ms against its monotonic one")
        }
        Content::Entry(signed) => {
            let entry = signed.entry();
            let what = match &entry.body {
                Body::Event(payload) => String::from_utf8_lossy(payload).escape_debug().to_string(),
                Body::EpochOpened { .. } => "opened its outbox".to_owned(),
                Body::DeadLettered { reason, .. } => format!("dead letter: {}", reason.escape_debug()),
            };
            format!("{} {}#{}\t{what}", entry.client.as_str(), entry.epoch.0, entry.sequence.0)
        }
    };
    format!("{}\t{said}", index.0)
}

fn json(index: Index, bytes: &Bytes, leaf: Option<&Leaf>) -> serde_json::Value {
    let mut line = serde_json::json!({ "index": index.0, "leaf": STANDARD.encode(bytes), "kind": "unknown" });
    match leaf.map(|leaf| &leaf.content) {
        None => {}
        Some(Content::LeaderStarted { node }) => {
            line["kind"] = "leader-started".into();
            line["node"] = (*node).into();
        }
        Some(Content::Membership(_)) => line["kind"] = "membership".into(),
        Some(Content::ClockAnomaly { node, by_ms }) => {
            line["kind"] = "clock-anomaly".into();
            line["node"] = (*node).into();
            line["by-ms"] = (*by_ms).into();
        }
        Some(Content::Entry(signed)) => {
            let entry = signed.entry();
            line["client"] = entry.client.as_str().into();
            line["epoch"] = entry.epoch.0.into();
            line["sequence"] = entry.sequence.0.into();
            match &entry.body {
                Body::Event(payload) => {
                    line["kind"] = "event".into();
                    line["payload"] = STANDARD.encode(payload).into();
                }
                Body::EpochOpened { .. } => line["kind"] = "epoch-opened".into(),
                Body::DeadLettered { reason, .. } => {
                    line["kind"] = "dead-lettered".into();
                    line["reason"] = reason.as_str().into();
                }
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        leaf::{ClientId, Entry, Epoch, Sequence},
        note::SigningKey,
    };

    #[test]
    fn an_entry_cannot_steer_the_terminal() {
        let body = Body::Event(Bytes::from_static(b"\x1b[2Jgone\nnext"));
        let entry = Entry { client: ClientId::new("client-1").unwrap(), epoch: Epoch(1), sequence: Sequence(7), body };
        let line = human(Index(3), &Content::Entry(entry.sign(&SigningKey::from_seed(&[1; 32]))));
        assert_eq!(line, "3\tclient-1 1#7\t\\u{1b}[2Jgone\\nnext");
    }
}
