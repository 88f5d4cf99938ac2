//! Which data folder belongs to a cosigner's key. This is noted beside the key when the folder is made, and compared
//! with the folder at each start.
//!
//! A member's key outlives its disk if the two are kept apart. An `init` that finds the key and no folder cannot tell a
//! member that is being made from a member whose disk was lost; the note can. A member that was lost has forgotten what
//! it voted for and what it acknowledged, so another folder must never speak under its key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gapless_world::{World, observer::Unobserved, real};

use super::{
    Failure,
    files::{self, Access},
};
use crate::cluster::{self, NodeError};

/// What is noted beside a key. `None` if nothing is: earlier releases noted nothing.
struct Note {
    path: PathBuf,
    incarnation: Option<String>,
}

impl Note {
    fn beside(key: &Path) -> Result<Note, Failure> {
        let path = key.with_extension("folder");
        match files::read(&path) {
            Ok(text) => Ok(Note { path, incarnation: Some(text.trim().to_owned()) }),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Note { path, incarnation: None }),
            Err(why) => Err(Failure::File(why)),
        }
    }
}

/// Refuses to make the folder `data` for a key that already had one. Makes nothing.
///
/// # Errors
/// [`NodeError::Settings`] if a folder was made under this key already.
pub(super) async fn is_the_first(data: &Path, key: &Path) -> Result<(), Failure> {
    let Note { path, incarnation: Some(noted) } = Note::beside(key)? else { return Ok(()) };
    if data.is_dir() && own(&real::world(data, Arc::new(Unobserved)).map_err(Failure::File)?).await?.is_some() {
        return Ok(()); // `init` itself reports what is wrong with an existing folder
    }
    Err(refused(format!(
        "{} belongs to the data folder {noted} (noted in {}), and that folder is not here. If it was lost, it must not be \
         made again: it has forgotten what it voted for and acknowledged. Let a new member take its place: `gapless-log \
         join` under a node and a key of its own, then `gapless-log member replace`",
        key.display(),
        path.display()
    )))
}

/// Notes which folder was made.
pub(super) async fn note(world: &World, key: &Path) -> Result<(), Failure> {
    let Some(own) = own(world).await? else { return Ok(()) };
    files::replace(&Note::beside(key)?.path, &format!("{own}\n"), Access::Public).map_err(Failure::File)
}

/// Refuses a folder that does not belong to this key. If nothing is noted yet, notes this folder.
pub(super) async fn belongs(world: &World, key: &Path) -> Result<(), Failure> {
    let Some(own) = own(world).await? else { return Ok(()) };
    match Note::beside(key)? {
        Note { incarnation: None, .. } => {
            if let Err(why) = note(world, key).await {
                // Nothing is lost: an earlier release would not have noted it either.
                tracing::warn!(%why, "which data folder belongs to the cosigner's key could not be noted");
            }
            Ok(())
        }
        Note { incarnation: Some(noted), .. } if noted == own => Ok(()),
        Note { incarnation: Some(noted), path } => Err(refused(format!(
            "the data folder is {own}, and {} belongs to {noted} (noted in {}). Either the configuration names another \
             member's folder, or this one was made again after the first was lost, and must not be served: let a new \
             member take its place, with `gapless-log join` and `gapless-log member replace`",
            key.display(),
            path.display()
        ))),
    }
}

async fn own(world: &World) -> Result<Option<String>, Failure> {
    let incarnation = cluster::incarnation(world).await?;
    Ok(incarnation.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn refused(why: String) -> Failure {
    Failure::Node(NodeError::Settings(why))
}
