//! `gapless-log certify`: issues certificates with the small authority that `init` makes beside a log.
//!
//! It suffices for a first evening, a test bench or a handful of clients. An organisation that has an authority of its
//! own names its certificates in the configuration and does not use this verb.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use gapless_world::tls::{Issuer, KeyKind, fresh_serial};

use super::{
    Failure,
    config::{LogConfig, TlsFiles, read_secret},
    files::{self, Access},
};
use crate::leaf::ClientId;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log's configuration. The certificates are written where the log's own certificate is.
    #[arg(long)]
    config: PathBuf,
    /// The clients to issue certificates for.
    #[arg(value_name = "CLIENT", required_unless_present = "server")]
    clients: Vec<String>,
    /// Also issues the server's certificate anew. A running server takes it up without a restart.
    #[arg(long)]
    server: bool,
    /// Replaces existing certificates.
    #[arg(long)]
    replace: bool,
    /// How many days the certificates are valid.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// The kind of the authority's key and of all other keys.
const KEYS: KeyKind = KeyKind::EcdsaP256;
const DAYS: u16 = 365;
const AUTHORITY_DAYS: u16 = 3650;
/// Certificates are valid from a little earlier than the present, because of clocks that are late.
const EARLIER_SECONDS: i64 = 300;

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = LogConfig::read(&args.config)?;
    let order =
        Order { config: &config, server: args.server, clients: &args.clients, replace: args.replace, days: args.days };
    order.check()?;
    order.fulfil()
}

/// What to issue.
pub(super) struct Order<'a> {
    config: &'a LogConfig,
    server: bool,
    clients: &'a [String],
    replace: bool,
    days: u16,
}

impl<'a> Order<'a> {
    /// Returns the first order of a new log, already checked.
    pub(super) fn first(config: &'a LogConfig, clients: &'a [String]) -> Result<Order<'a>, Failure> {
        let order = Order { config, server: true, clients, replace: false, days: DAYS };
        order.check()?;
        Ok(order)
    }

    /// Checks that the names are valid, that the authority can be used, and that nothing would be overwritten.
    fn check(&self) -> Result<(), Failure> {
        for client in self.clients {
            if let Err(why) = ClientId::new(client) {
                return Err(invalid(format!("`{client}` cannot name a client: {why}")));
            }
        }
        self.kept_issuer()?;
        let standing = self.files().into_iter().flat_map(|(_, files)| [files.certificate, files.key]);
        match standing.into_iter().find(|path| path.exists() && !self.replace) {
            Some(path) => Err(invalid(format!(
                "{} exists and is not overwritten; remove it, or use `gapless-log certify --replace`",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// Issues and writes everything. Private keys can be read only by their owner.
    pub(super) fn fulfil(&self) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX / 2);
        let issuer = self.issuer(now)?;
        let write = if self.replace { files::replace } else { files::create };
        for (names, files) in self.files() {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let end = now + i64::from(self.days) * 86_400;
            let identity = issuer.issue_for(&names, fresh_serial()?, now - EARLIER_SECONDS, end)?;
            write(&files.certificate, &identity.chain_pem, Access::Public).map_err(Failure::File)?;
            write(&files.key, &identity.key_pem, Access::Secret).map_err(Failure::File)?;
            eprintln!("{} is a certificate for {}", files.certificate.display(), names.join(", "));
        }
        Ok(())
    }

    /// Returns the authority that an earlier order made, if there is one.
    fn kept_issuer(&self) -> Result<Option<Issuer>, Failure> {
        let (ca, key) = (&self.config.tls.ca, self.config.tls.ca.with_extension("key"));
        if ca.exists() || key.exists() { restore(ca, &key).map(Some) } else { Ok(None) }
    }

    /// Returns the authority beside the log, which the first order makes.
    fn issuer(&self, now: i64) -> Result<Issuer, Failure> {
        if let Some(issuer) = self.kept_issuer()? {
            return Ok(issuer);
        }
        let (ca, key) = (&self.config.tls.ca, self.config.tls.ca.with_extension("key"));
        let (begin, end) = (now - EARLIER_SECONDS, now + i64::from(AUTHORITY_DAYS) * 86_400);
        let issuer = Issuer::with_key(KEYS, &format!("{} clients and servers", self.config.origin), begin, end)?;
        files::create(&key, &issuer.key_pem(), Access::Secret).map_err(Failure::File)?;
        files::create(ca, issuer.ca_pem(), Access::Public).map_err(Failure::File)?;
        Ok(issuer)
    }

    /// Returns the names and files of all that is to be issued.
    fn files(&self) -> Vec<(Vec<String>, TlsFiles)> {
        let tls = &self.config.tls;
        let folder = tls.certificate.parent().unwrap_or(Path::new("."));
        let server = self.server.then(|| (server_names(self.config), tls.clone()));
        let clients = self.clients.iter().map(|client| {
            let files = TlsFiles {
                certificate: folder.join(format!("{client}.pem")),
                key: folder.join(format!("{client}.key")),
                ca: tls.ca.clone(),
            };
            (vec![client.clone()], files)
        });
        server.into_iter().chain(clients).collect()
    }
}

/// Restores the authority that an earlier order made. The keys that it certifies are of a kind that all clients can
/// read, whatever its own key is.
fn restore(ca: &Path, key: &Path) -> Result<Issuer, Failure> {
    let missing = |path: &Path, other: &Path| {
        invalid(format!(
            "{} is missing beside {}: both are needed to make certificates. Restore it, or get certificates from the \
             owner of that authority; `init --with-certificates` makes an authority if neither file exists",
            path.display(),
            other.display()
        ))
    };
    match (ca.exists(), key.exists()) {
        (true, false) => return Err(missing(key, ca)),
        (false, true) => return Err(missing(ca, key)),
        _ => {}
    }
    let key_pem = read_secret(key, "make certificates for any name")?;
    let issuer = Issuer::restore(&files::read(ca).map_err(Failure::File)?, &key_pem)
        .map_err(|why| Failure::Authority { ca: ca.to_owned(), key: key.to_owned(), why: Box::new(why) })?;
    Ok(issuer.granting(KEYS))
}

/// Returns the names of the server. It is reached as `localhost`, by its loopback address, and by the host that it
/// listens on. The other members of a cluster know it by its own name, which comes first.
fn server_names(config: &LogConfig) -> Vec<String> {
    let listen = config.listen.as_str();
    let mut names: Vec<String> = config.cluster.iter().map(|cluster| cluster.own().name.clone()).collect();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']);
    if host != "0.0.0.0" && host != "::" && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    names
}

fn invalid(why: String) -> Failure {
    Failure::File(std::io::Error::new(std::io::ErrorKind::InvalidInput, why))
}
