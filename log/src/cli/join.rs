//! `gapless-log join`: makes the empty folder of a server that is to join an existing cluster.
//!
//! The counterpart of `init`, which begins a log. The folder contains nothing but its identity: the server waits until
//! an operator adds it, and is then sent the log. It must never use the key of an earlier server.

use std::{io, path::PathBuf, sync::Arc};

use gapless_world::{
    World,
    observer::Unobserved,
    real::{RealDisk, RealNet},
    tls::Identity,
};

use super::{
    Failure,
    config::LogConfig,
    folder,
    key::{LogKey, MemberKey, verifier_path},
};
use crate::cluster::{self, ClusterSettings, NodeSettings};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new server's configuration, with a node of its own that this log has never had, and with itself among the
    /// [[member]]s.
    #[arg(long)]
    config: PathBuf,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = LogConfig::read(&args.config)?;
    let Some(cluster) = &config.cluster else {
        return Err(config.no_cluster(&args.config).into());
    };
    // The log's key is never made here: a server with another key would belong to another log.
    let key = LogKey::read(&config.key, &config.origin)?;
    // The cosigner's key always is: by this key, the other members tell this folder from a lost folder of the same node
    // id.
    if cluster.key.exists() {
        let why = format!(
            "{} exists: a server that joins has a key that the log has never known; name another file as cosigner-key",
            cluster.key.display()
        );
        return Err(Failure::File(io::Error::new(io::ErrorKind::AlreadyExists, why)));
    }
    let cosigner = MemberKey::generate(&cluster.own().name);
    let identity = Identity { chain_pem: String::new(), key_pem: String::new(), ca_pem: String::new() }.fixed();
    let own = ClusterSettings { identity, cosigner: cosigner.signing.clone(), contacts: Vec::new() };
    let settings = NodeSettings { cluster: Some(own), ..config.settings_of_one(&key) };
    let disk = RealDisk::create(&config.data).map_err(Failure::File)?;
    let world = World { disk: Arc::new(disk), net: Arc::new(RealNet), observer: Arc::new(Unobserved) };
    cluster::join(&world, &settings).await?;
    // A crash before this leaves a folder without a key; `gapless-log cosigner` makes one that is just as new.
    cosigner.create(&cluster.key)?;
    folder::note(&world, &cluster.key).await?;
    eprintln!("node {} may join the log `{}`: serve it, then `gapless-log member add` it;", config.node, config.origin);
    eprintln!("the operator and everybody who appends or reads need {}:", verifier_path(&cluster.key).display());
    println!("{}", cosigner.verifier);
    Ok(())
}
