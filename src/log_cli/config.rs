//! The two configuration files: that of a log and that of a client.
//!
//! What stands in a file and what was found to be usable are two types, so that nothing works with a value that nobody
//! looked at. Paths are relative to the file that names them.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{files, key::LogKey};
use crate::audit::{
    budget::{MEMORY_DEFAULT, MEMORY_MIN, fixed},
    client::{ClientSettings, Server},
    cluster::{Limits, NodeSettings},
    leaf::ClientId,
    note::{self, NoteKey},
    tls::Identity,
};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{0}")]
    Read(io::Error),
    #[error("{path} is not a configuration:\n{why}", path = .path.display())]
    Parse { path: PathBuf, why: String },
    #[error("{path}: `{field}` is `{value}`: {why}", path = .path.display())]
    Value { path: PathBuf, field: &'static str, value: String, why: String },
}

/// A log, as its server and `init` see it.
#[derive(Debug, Clone)]
pub(super) struct LogConfig {
    pub(super) origin: String,
    pub(super) node: u64,
    pub(super) listen: String,
    pub(super) data: PathBuf,
    pub(super) key: PathBuf,
    pub(super) tls: TlsFiles,
    pub(super) connections_max: Option<usize>,
    /// Bytes for queues and caches.
    pub(super) memory: u64,
}

/// A client of a log: who appends, reads, verifies.
#[derive(Debug, Clone)]
pub(super) struct ClientConfig {
    /// Folder of the configuration.
    pub(super) folder: PathBuf,
    pub(super) outbox: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) settings: ClientSettings,
}

/// Where an identity is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLog {
    origin: String,
    #[serde(default = "first_node")]
    node: u64,
    listen: String,
    data: PathBuf,
    key: PathBuf,
    connections_max: Option<usize>,
    memory: Option<String>,
    tls: RawTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawClient {
    name: String,
    servers: Vec<RawServer>,
    log_key: PathBuf,
    outbox: PathBuf,
    checkpoint: PathBuf,
    tls: RawTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    address: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

fn first_node() -> u64 {
    1
}

impl LogConfig {
    /// Reads and checks the file. Does not read the files that it names.
    pub(super) fn read(path: &Path) -> Result<LogConfig, ConfigError> {
        let raw: RawLog = parse(path)?;
        let folder = folder(path);
        let wrong = |field, value: &str, why: &str| wrong(path, field, value, why);
        if !note::is_key_name(&raw.origin) || raw.origin.len() > 255 {
            return Err(wrong("origin", &raw.origin, "it names the log: 1 to 255 bytes without space or `+`"));
        }
        if raw.node == 0 {
            return Err(wrong("node", "0", "nodes are counted from 1"));
        }
        if !is_address(&raw.listen) {
            return Err(wrong("listen", &raw.listen, "it has to be host:port, as in 127.0.0.1:50051"));
        }
        if raw.connections_max == Some(0) {
            return Err(wrong("connections-max", "0", "nobody could connect"));
        }
        let memory = match &raw.memory {
            None => MEMORY_DEFAULT,
            Some(text) => size(text)
                .filter(|bytes| *bytes >= MEMORY_MIN)
                .ok_or_else(|| wrong("memory", text, "it has to be a size of at least 1MiB, as in \"64MiB\""))?,
        };
        Ok(LogConfig {
            memory,
            origin: raw.origin,
            node: raw.node,
            listen: raw.listen,
            data: folder.join(raw.data),
            key: folder.join(raw.key),
            tls: raw.tls.within(&folder),
            connections_max: raw.connections_max,
        })
    }

    /// What a node is told.
    pub(super) fn node_settings(&self, key: &LogKey) -> NodeSettings {
        NodeSettings {
            origin: self.origin.clone(),
            log_id: key.log_id(),
            node: self.node,
            signing_key: key.signing.clone(),
            cluster: None,
            limits: Limits::default(),
            memory: fixed(self.memory),
        }
    }
}

impl ClientConfig {
    /// Reads and checks the file, and the keys and certificates that it names.
    pub(super) fn read(path: &Path) -> Result<ClientConfig, ConfigError> {
        let raw: RawClient = parse(path)?;
        let folder = folder(path);
        let name = ClientId::new(&raw.name).map_err(|why| wrong(path, "name", &raw.name, &why.to_string()))?;
        if raw.servers.is_empty() {
            return Err(wrong(path, "servers", "[]", "there has to be one, as { address = \"…\", name = \"…\" }"));
        }
        if let Some(server) = raw.servers.iter().find(|server| !is_address(&server.address)) {
            let why = "an address has to be host:port, as in 127.0.0.1:50051";
            return Err(wrong(path, "servers", &server.address, why));
        }
        let servers = raw.servers.into_iter().map(|RawServer { address, name }| Server { address, tls_name: name });
        let key_path = folder.join(&raw.log_key);
        let key_text = files::read(&key_path).map_err(ConfigError::Read)?;
        let log_key: NoteKey = key_text.trim().parse().map_err(|why: note::BadNoteKey| {
            wrong(path, "log-key", &key_path.display().to_string(), &why.to_string())
        })?;
        let identity = raw.tls.within(&folder).load()?;
        Ok(ClientConfig {
            outbox: folder.join(raw.outbox),
            checkpoint: folder.join(raw.checkpoint),
            settings: ClientSettings::new(name, servers.collect(), identity, log_key),
            folder,
        })
    }
}

impl TlsFiles {
    /// Reads the identity.
    pub(super) fn load(&self) -> Result<Identity, ConfigError> {
        let read = |path: &Path| files::read(path).map_err(ConfigError::Read);
        Ok(Identity { chain_pem: read(&self.certificate)?, key_pem: read(&self.key)?, ca_pem: read(&self.ca)? })
    }
}

impl RawTls {
    fn within(self, folder: &Path) -> TlsFiles {
        TlsFiles { certificate: folder.join(self.certificate), key: folder.join(self.key), ca: folder.join(self.ca) }
    }
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = files::read(path).map_err(ConfigError::Read)?;
    toml::from_str(&text).map_err(|why| ConfigError::Parse { path: path.to_owned(), why: why.to_string() })
}

fn wrong(path: &Path, field: &'static str, value: &str, why: &str) -> ConfigError {
    ConfigError::Value { path: path.to_owned(), field, value: value.to_owned(), why: why.to_owned() }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Bytes, written as in `64MiB`.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Result<LogConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.toml");
        std::fs::write(&path, text).unwrap();
        LogConfig::read(&path)
    }

    const GOOD: &str = r#"
        origin = "log.example/first"
        listen = "127.0.0.1:50051"
        data = "data"
        key = "/etc/log.key"
        [tls]
        certificate = "server.pem"
        key = "server.key"
        ca = "ca.pem"
    "#;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        let config = log(GOOD).unwrap();
        assert_eq!(config.key, Path::new("/etc/log.key"));
        assert!(config.data.is_absolute() && config.data.ends_with("data"));
        assert_eq!(config.data.parent(), config.tls.ca.parent());
        assert_eq!(config.node, 1);
        assert_eq!(config.memory, 64 << 20);
        let config = log(&GOOD.replace("data =", "memory = \"2MiB\"\ndata =")).unwrap();
        assert_eq!(config.memory, 2 << 20);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (from, to, field) in [
            ("log.example/first", "a log", "origin"),
            ("127.0.0.1:50051", "127.0.0.1", "listen"),
            ("data = \"data\"", "data = \"data\"\nnode = 0", "node"),
            ("data = \"data\"", "data = \"data\"\nconnections-max = 0", "connections-max"),
            ("data = \"data\"", "data = \"data\"\nmemory = \"64\"", "memory"),
            ("data = \"data\"", "data = \"data\"\nmemory = \"1023KiB\"", "memory"),
            ("data = \"data\"", "data = \"data\"\nmemory = \"18446744073709551615GiB\"", "memory"),
        ] {
            let error = log(&GOOD.replace(from, to)).unwrap_err();
            assert!(matches!(error, ConfigError::Value { field: found, .. } if found == field), "{error}");
        }
        let error = log(&GOOD.replace("data =", "date =")).unwrap_err().to_string();
        assert!(error.contains("date") && error.contains("line 4"), "{error}");
    }

    #[test]
    fn the_examples_are_good() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        LogConfig::read(&examples.join("log.toml")).unwrap();
        let error = parse::<RawClient>(&examples.join("client.toml"));
        error.unwrap();
    }
}
