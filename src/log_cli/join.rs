//! `gapless-log join`: makes the empty folder of a server that is to join a cluster which is there already.
//!
//! The counterpart of `init`, which begins a log. The folder holds nothing but who it is: the server waits until an
//! operator adds it, and is then sent the log.

use std::{path::PathBuf, sync::Arc};

use super::{Failure, config::LogConfig, key::LogKey};
use crate::{
    audit::{cluster, tls::Identity},
    world::{
        World,
        observer::Unobserved,
        real::{RealDisk, RealNet},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new server's configuration: its own node, which this log has never had, and itself among the [[member]]s.
    #[arg(long)]
    config: PathBuf,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = LogConfig::read(&args.config)?;
    if config.cluster.is_none() {
        return Err(config.no_cluster(&args.config).into());
    }
    // The key is never made here: a server with another key would belong to another log.
    let key = LogKey::read(&config.key, &config.origin)?;
    let nothing = Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() };
    let settings = config.node_settings(&key, nothing.fixed())?;
    let disk = RealDisk::create(&config.data).map_err(Failure::File)?;
    let world = World { disk: Arc::new(disk), net: Arc::new(RealNet), observer: Arc::new(Unobserved) };
    cluster::join(&world, &settings).await?;
    eprintln!("node {} may join the log `{}`: serve it, then `gapless-log member add` it", config.node, config.origin);
    Ok(())
}
