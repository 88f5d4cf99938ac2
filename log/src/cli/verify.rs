//! `gapless-log verify`: reads everything through the public interface and judges it as a stranger would.
//!
//! It asks three questions. Is the newest checkpoint signed by the pinned key? Do the leaves, hashed anew, have its
//! root? Does it extend the checkpoint that the last run remembered? Only if all three hold is the new checkpoint
//! remembered: a log that was rolled back must not become the new truth.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use gapless_world::real::{self, TracingObserver};

use super::{
    Failure, Format,
    config::ClientConfig,
    files::{self, Access},
    judged,
    level::{self, LevelArgs},
};
use crate::{
    client::{Bound, LogReader, ReaderSettings},
    note::{Checkpoint, NoteKey},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The client's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The file of the remembered checkpoint, instead of the configured one. It contains the signed note.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    level: LevelArgs,
    /// How the verdict looks.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = ClientConfig::read(&args.config)?;
    let memory = args.checkpoint.unwrap_or(config.checkpoint);
    let remembered = recall(&memory, &config.settings.log_key)?;
    let world = real::world(&config.folder, Arc::new(TracingObserver)).map_err(Failure::File)?;
    let reader = LogReader::connect(world, ReaderSettings::from(&config.settings))?;

    let (verified, bound) = reader.verify_all_at(args.level.level()).await.map_err(judged)?;
    if let Some(remembered) = &remembered {
        reader.consistency(remembered, &verified).await.map_err(judged)?;
    }
    // The note of the checkpoint that was just verified, or of a newer one that is then proven to extend it.
    let (newest, note) = reader.signed_checkpoint().await.map_err(judged)?;
    reader.consistency(&verified, &newest).await.map_err(judged)?;
    // Another run may have remembered more meanwhile: what is remembered never goes back.
    if let Some(newer) = recall(&memory, &config.settings.log_key)?.filter(|newer| newer.size >= newest.size) {
        reader.consistency(&newest, &newer).await.map_err(judged)?;
        return Ok(print(args.format, &verified, &bound, remembered.as_ref())?);
    }
    files::replace(&memory, &note, Access::Public).map_err(Failure::File)?;
    Ok(print(args.format, &verified, &bound, remembered.as_ref())?)
}

/// Returns the checkpoint of the last run; `None` if there was none.
fn recall(path: &Path, key: &NoteKey) -> Result<Option<Checkpoint>, Failure> {
    match files::read(path) {
        Ok(note) => Checkpoint::verify(&note, key)
            .map(Some)
            .map_err(|why| Failure::Unverified(format!("the remembered checkpoint {}: {why}", path.display()))),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(Failure::File(why)),
    }
}

fn print(format: Format, verified: &Checkpoint, bound: &Bound, remembered: Option<&Checkpoint>) -> io::Result<()> {
    let root: String = verified.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            let verdict = serde_json::json!({
                "origin": verified.origin,
                "size": verified.size,
                "root": root,
                "linearizable": bound.linearizable,
                "age-ms": bound.age.map(level::whole_ms),
                "extends": remembered.map(|remembered| remembered.size),
                "verdict": "holds",
            });
            writeln!(out, "{verdict}")
        }
        Format::Human => {
            writeln!(out, "log      {}", verified.origin)?;
            writeln!(out, "size     {}", verified.size)?;
            writeln!(out, "root     {root}")?;
            writeln!(out, "newest   {}", level::bound(bound))?;
            match remembered {
                Some(remembered) => writeln!(out, "extends  the {} leaves of the last time", remembered.size)?,
                None => writeln!(out, "extends  nothing: no checkpoint was remembered")?,
            }
            writeln!(out, "verdict  holds: every leaf was read, hashed and found under the signed root")
        }
    }
}
