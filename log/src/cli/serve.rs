//! `gapless-log serve`: serves until it is told to stop, and ends the process when it cannot be relied upon any more.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use gapless_world::{
    Observer,
    real::{self, EventFile, Several, TracingObserver},
    tls::{self, Identity, Succession},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};

use super::{
    Failure,
    config::{LogConfig, TlsFiles},
    descriptors, folder,
    key::LogKey,
};
use crate::serve::{ServeSettings, serve, start};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log's configuration.
    #[arg(long)]
    config: PathBuf,
    /// Appends the events that the log reports to this file, as JSON lines. They contain entries.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// How often the certificate files are checked. A new certificate is shown from the next handshake on.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(5);
/// Descriptors in addition to those of connections and reads: for the files of the log, the connections to other
/// members, and the runtime.
const DESCRIPTORS_BESIDE: u64 = 128;
/// How long the last events may take to reach their file.
const EVENTS_FLUSH: Duration = Duration::from_secs(2);

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    abort_on_panic();
    let config = LogConfig::read(&args.config)?;
    let key = LogKey::read(&config.key, &config.origin)?;
    let identity = config.tls.load()?;
    // Checked before the disk is touched, so that mistakes in the configuration are reported first.
    tls::server_config(&identity)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;

    let events = args.events.as_deref().map(EventFile::open).transpose().map_err(Failure::File)?.map(Arc::new);
    let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(TracingObserver)];
    observers.extend(events.clone().map(|events| events as Arc<dyn Observer>));
    let world = real::world(&config.data, Arc::new(Several(observers))).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::File(std::io::Error::new(why.kind(), format!("{why}; `gapless-log init` makes a new log")))
        }
        _ => Failure::File(why),
    })?;

    if let Some(cluster) = &config.cluster {
        folder::belongs(&world, &cluster.key).await?;
    }

    let (renewals, shown) = watch::channel(identity);
    let node_settings = config.node_settings(&key, shown.clone())?;
    let mut settings = ServeSettings::new(&node_settings.log_id, config.node, &config.listen, shown);
    settings.connections_max = config.connections_max.unwrap_or(settings.connections_max);
    settings.connections_per_name = config.connections_per_name;
    settings.operators.clone_from(&config.operators);
    allow_descriptors(&args.config, &settings, config.memory);
    let renewing = tokio::spawn(watch_certificates(config.tls, renewals));
    let mut stop = pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let served = match start(&world, &node_settings, &settings, stop.as_mut()).await {
        Ok(Some(node)) => serve(world, node, settings, stop).await.map_err(Failure::from),
        Ok(None) => Ok(0), // stopped while the log was being repaired
        Err(why) => Err(why.into()),
    };
    renewing.abort();
    if let Some(events) = events
        && !events.flush(EVENTS_FLUSH)
    {
        tracing::warn!("the last events did not reach their file");
    }
    served?;
    Ok(())
}

/// Raises the limit of descriptors so that it suffices for all connections that the configuration allows, and for the
/// files. If the limit stays lower, the server works until the descriptors are used up and then lacks them for its
/// files, too, so it warns.
fn allow_descriptors(config: &Path, settings: &ServeSettings, memory: u64) {
    let connections = settings.sockets_max() as u64;
    // A read of leaves that are not cached opens a file, and sets aside a part of the memory: usually a mebibyte.
    let needed = connections.saturating_add(DESCRIPTORS_BESIDE + (memory >> 20));
    let (config, connections_max) = (config.display(), settings.connections_max);
    match descriptors::allow_descriptors(needed) {
        Ok(allowed) if allowed < needed => tracing::warn!(
            "this process may have {allowed} file descriptors open and may need {needed}: {connections} for connections \
             (`connections-max` of {config} is {connections_max}), the rest for files and other members; where they are \
             used up, connections are turned away, and a file that cannot be opened may end the server: raise the hard \
             limit (`ulimit -Hn {needed}`, in a systemd unit `LimitNOFILE={needed}`), or lower `connections-max`"
        ),
        Ok(_) => {}
        Err(why) => tracing::warn!(
            "the limit of file descriptors cannot be raised to the {needed} that {config} may need: {why}; raise it \
             before the server is started (`ulimit -n {needed}`)"
        ),
    }
}

/// A task that panicked may have left anything behind: the process ends at once and recovers from its disk, as after
/// any other crash.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Passes on changes of the certificate files. It compares texts and not modification times, which copies and clocks
/// that jump leave unchanged.
async fn watch_certificates(files: TlsFiles, renewals: watch::Sender<Identity>) {
    loop {
        sleep(CERTIFICATE_CHECK).await;
        match files.load() {
            Ok(found) => _ = renewals.send_if_modified(|shown| replace(shown, found)),
            Err(why) => tracing::warn!(%why, "certificates cannot be read, the old ones stay"),
        }
    }
}

/// Takes over what the files contain, as far as it is valid already. Returns whether anything changed.
fn replace(shown: &mut Identity, found: Identity) -> bool {
    let same =
        |a: &Identity, b: &Identity| a.chain_pem == b.chain_pem && a.key_pem == b.key_pem && a.ca_pem == b.ca_pem;
    if same(&found, shown) {
        return false;
    }
    let next = match Succession::of(shown, found) {
        Succession::Now(found) => found,
        // The files are checked again later.
        Succession::Later { meanwhile, .. } => meanwhile,
    };
    let changes = !same(&next, shown);
    if changes {
        *shown = next;
    }
    changes
}
