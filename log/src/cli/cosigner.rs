//! `gapless-log cosigner`: makes the key with which a member of a cluster cosigns checkpoints, before the cluster
//! begins.

use std::path::PathBuf;

use super::{
    Failure,
    config::LogConfig,
    key::{MemberKey, verifier_path},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The member's configuration.
    #[arg(long)]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = LogConfig::read(&args.config)?;
    let cluster = config.cluster.as_ref().ok_or_else(|| config.no_cluster(&args.config))?;
    let key = MemberKey::generate(&cluster.own().name);
    key.create(&cluster.key)?;
    eprintln!("{} cosigns as `{}`; the other members and", cluster.key.display(), key.verifier.name);
    eprintln!("everybody who appends or reads need {}:", verifier_path(&cluster.key).display());
    println!("{}", key.verifier);
    Ok(())
}
