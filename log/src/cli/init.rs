//! `gapless-log init`: makes a new log. Only this verb turns an empty folder into a log; a server never does so by
//! itself, because an empty folder may also mean that a disk was lost.

use std::{path::PathBuf, sync::Arc};

use gapless_world::{
    World,
    observer::Unobserved,
    real::{RealDisk, RealNet},
    tls::Identity,
};

use super::{
    Failure, certify,
    config::LogConfig,
    folder,
    key::{LogKey, verifier_path},
};
use crate::cluster;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log's configuration.
    #[arg(long)]
    config: PathBuf,
    /// Also makes an authority, a certificate for the server, and one for each of these clients.
    #[arg(long, value_name = "CLIENT", num_args = 1..)]
    with_certificates: Vec<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = LogConfig::read(&args.config)?;
    // Checked before anything is made: an `init` that refuses has done nothing.
    let certificates = match args.with_certificates.is_empty() {
        true => None,
        false => Some(certify::Order::first(&config, &args.with_certificates)?),
    };
    let cosigner = config.cluster.as_ref().map(|cluster| &cluster.key);
    if let Some(cosigner) = cosigner {
        folder::is_the_first(&config.data, cosigner).await?;
    }
    // An existing key is used: it may have been made elsewhere, or by an `init` that was interrupted.
    let key = match config.key.exists() {
        true => LogKey::read(&config.key, &config.origin)?,
        false => {
            let key = LogKey::generate(&config.origin);
            key.create(&config.key)?;
            key
        }
    };
    let disk = RealDisk::create(&config.data).map_err(Failure::File)?;
    let world = World { disk: Arc::new(disk), net: Arc::new(RealNet), observer: Arc::new(Unobserved) };
    // Nothing is sent yet, so no identity is shown.
    let nothing = Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() };
    cluster::init(&world, &config.node_settings(&key, nothing.fixed())?, &config.members()?).await?;
    // A crash before this leaves a folder that is not noted; its first start notes it.
    if let Some(cosigner) = cosigner {
        folder::note(&world, cosigner).await?;
    }
    key.publish(&config.key)?;
    if let Some(certificates) = certificates {
        certificates.fulfil()?;
    }
    eprintln!("the log `{}` is in {}", config.origin, config.data.display());
    eprintln!("its key is {}; its readers pin {}:", config.key.display(), verifier_path(&config.key).display());
    println!("{}", key.verifier);
    Ok(())
}
