//! The two configuration files: that of a log and that of a client.
//!
//! What a file says and what was found to be usable are two types, so that nothing works with an unchecked value. Paths
//! are relative to the file that names them.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use gapless_world::{
    Server,
    tls::{self, Identity, TlsError},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    Failure,
    files::{self, Secret},
    key::{LogKey, MemberKey},
};
use crate::{
    budget::{MEMORY_DEFAULT, MEMORY_MIN, fixed},
    client::ClientSettings,
    cluster::{ClusterSettings, Contact, Limits, MemberSettings, NodeSettings},
    leaf::ClientId,
    note::{self, CosignerKey, NoteKey, Policy},
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
    #[error("{path} can be read by others (mode {mode:03o}); whoever has it can {can}: chmod 600 {path}", path = .path.display())]
    Exposed { path: PathBuf, mode: u32, can: &'static str },
    #[error("{certificate}, {key} and {ca}: {why}", certificate = .files.certificate.display(), key = .files.key.display(), ca = .files.ca.display())]
    Identity { files: Box<TlsFiles>, why: Box<TlsError> },
}

/// The configuration of a log, for its server and for `init`.
#[derive(Debug, Clone)]
pub(super) struct LogConfig {
    pub(super) origin: String,
    pub(super) node: u64,
    pub(super) listen: String,
    pub(super) data: PathBuf,
    pub(super) key: PathBuf,
    pub(super) tls: TlsFiles,
    pub(super) connections_max: Option<usize>,
    pub(super) connections_per_name: Option<usize>,
    /// The names of those who may change the members of a cluster.
    pub(super) operators: Vec<String>,
    /// Bytes for queues and caches.
    pub(super) memory: u64,
    /// `None` for a log of one.
    pub(super) cluster: Option<ClusterConfig>,
}

/// A member's part in a cluster of several.
#[derive(Debug, Clone)]
pub(super) struct ClusterConfig {
    node: u64,
    /// File of the key that cosigns checkpoints.
    pub(super) key: PathBuf,
    /// All members that the cluster begins with, this one among them.
    pub(super) members: Vec<MemberConfig>,
}

/// A member, as all members know it.
#[derive(Debug, Clone)]
pub(super) struct MemberConfig {
    pub(super) node: u64,
    pub(super) name: String,
    pub(super) address: String,
    /// File of its cosigner's verifier key.
    pub(super) cosigner: PathBuf,
}

/// The configuration of a client of a log, which appends, reads and verifies.
#[derive(Debug, Clone)]
pub(super) struct ClientConfig {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    pub(super) outbox: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) settings: ClientSettings,
}

/// The files of an identity.
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
    connections_per_name: Option<usize>,
    memory: Option<String>,
    /// Only in a cluster of several.
    cosigner_key: Option<PathBuf>,
    /// Names in certificates.
    #[serde(default)]
    operators: Vec<String>,
    #[serde(default, rename = "member")]
    members: Vec<RawMember>,
    tls: RawTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    node: u64,
    name: String,
    address: String,
    cosigner: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawClient {
    name: String,
    servers: Vec<RawServer>,
    log_key: PathBuf,
    /// Verifier keys of the cluster's members. More than half of them have to cosign what the client believes.
    #[serde(default)]
    cosigners: Vec<PathBuf>,
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
    /// Reads and checks the file, but not the files that it names.
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
            return Err(wrong("listen", &raw.listen, "it must be host:port, as in 127.0.0.1:50051"));
        }
        if raw.connections_max == Some(0) {
            return Err(wrong("connections-max", "0", "nobody could connect"));
        }
        if raw.connections_per_name == Some(0) {
            return Err(wrong("connections-per-name", "0", "nobody could connect"));
        }
        let memory = match &raw.memory {
            None => MEMORY_DEFAULT,
            Some(text) => size(text)
                .filter(|bytes| *bytes >= MEMORY_MIN)
                .ok_or_else(|| wrong("memory", text, "it must be a size of at least 1MiB, as in \"64MiB\""))?,
        };
        let cluster = ClusterConfig::of(raw.node, raw.cosigner_key, raw.members, &folder)
            .map_err(|(field, value, why)| wrong(field, &value, why))?;
        Ok(LogConfig {
            memory,
            cluster,
            origin: raw.origin,
            node: raw.node,
            listen: raw.listen,
            data: folder.join(raw.data),
            key: folder.join(raw.key),
            tls: raw.tls.within(&folder),
            connections_max: raw.connections_max,
            connections_per_name: raw.connections_per_name,
            operators: raw.operators,
        })
    }

    /// Returns the settings of a node. The identity that the node shows to other members may be renewed while it runs.
    pub(super) fn node_settings(
        &self,
        key: &LogKey,
        identity: watch::Receiver<Identity>,
    ) -> Result<NodeSettings, Failure> {
        let cluster = match &self.cluster {
            None => None,
            Some(cluster) => {
                let key = MemberKey::read(&cluster.key, &cluster.own().name)?;
                Some(ClusterSettings { identity, cosigner: key.signing, contacts: cluster.contacts() })
            }
        };
        Ok(NodeSettings { cluster, ..self.settings_of_one(key) })
    }

    /// Returns the same settings without the part in a cluster.
    pub(super) fn settings_of_one(&self, key: &LogKey) -> NodeSettings {
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

    /// Returns the members that a new log begins with; none for a log of one.
    pub(super) fn members(&self) -> Result<Vec<MemberSettings>, ConfigError> {
        let member = |member: &MemberConfig| {
            let MemberConfig { node, name, address, .. } = member.clone();
            Ok(MemberSettings { node, name, address, cosigner: cosigner(&member.cosigner)?.key })
        };
        self.cluster.iter().flat_map(|cluster| &cluster.members).map(member).collect()
    }

    /// Returns the error of a verb that is only for members of a cluster.
    pub(super) fn no_cluster(&self, path: &Path) -> ConfigError {
        wrong(path, "member", "[]", "this is a log of one; name all members, each as a [[member]], and a cosigner-key")
    }
}

impl ClusterConfig {
    /// Returns this member, which was checked to be among the members.
    pub(super) fn own(&self) -> &MemberConfig {
        let own = self.members.iter().find(|member| member.node == self.node);
        own.expect("a cluster that was read names this node among its members")
    }

    /// Returns where the members are found.
    fn contacts(&self) -> Vec<Contact> {
        let contact = |MemberConfig { node, name, address, .. }: &MemberConfig| Contact {
            node: *node,
            name: name.clone(),
            address: address.clone(),
        };
        self.members.iter().map(contact).collect()
    }

    fn of(
        node: u64,
        key: Option<PathBuf>,
        members: Vec<RawMember>,
        folder: &Path,
    ) -> Result<Option<ClusterConfig>, (&'static str, String, &'static str)> {
        if members.is_empty() && key.is_none() {
            return Ok(None);
        }
        let Some(key) = key else {
            return Err(("cosigner-key", String::new(), "a member cosigns: name the file of its key"));
        };
        let (mut nodes, mut names) = (BTreeSet::new(), BTreeSet::new());
        for member in &members {
            let RawMember { node, name, address, .. } = member;
            if !note::is_key_name(name) {
                return Err((
                    "name",
                    name.clone(),
                    "a member's name is the one in its certificate, and has no space or `+`",
                ));
            }
            if !is_address(address) {
                return Err(("address", address.clone(), "it must be host:port, as in 10.0.0.1:50051"));
            }
            if *node == 0 || !nodes.insert(*node) || !names.insert(name) {
                return Err(("member", name.clone(), "each member has its own node, from 1, and its own name"));
            }
        }
        if !nodes.contains(&node) {
            return Err(("node", node.to_string(), "no [[member]] has this node: name all members, this one too"));
        }
        let member = |RawMember { node, name, address, cosigner }| MemberConfig {
            node,
            name,
            address,
            cosigner: folder.join(cosigner),
        };
        let members = members.into_iter().map(member).collect();
        Ok(Some(ClusterConfig { node, key: folder.join(key), members }))
    }
}

/// Reads a cosigner's verifier key.
pub(super) fn cosigner(path: &Path) -> Result<CosignerKey, ConfigError> {
    let text = files::read(path).map_err(ConfigError::Read)?;
    text.trim()
        .parse()
        .map_err(|why: note::BadNoteKey| wrong(path, "cosigner", &path.display().to_string(), &why.to_string()))
}

impl ClientConfig {
    /// Reads and checks the file, and the keys and certificates that it names.
    pub(super) fn read(path: &Path) -> Result<ClientConfig, ConfigError> {
        let raw: RawClient = parse(path)?;
        let folder = folder(path);
        let name = ClientId::new(&raw.name).map_err(|why| wrong(path, "name", &raw.name, &why.to_string()))?;
        if raw.servers.is_empty() {
            return Err(wrong(path, "servers", "[]", "there must be one, as in { address = \"…\", name = \"…\" }"));
        }
        if let Some(server) = raw.servers.iter().find(|server| !is_address(&server.address)) {
            let why = "an address must be host:port, as in 127.0.0.1:50051";
            return Err(wrong(path, "servers", &server.address, why));
        }
        let servers = raw.servers.into_iter().map(|RawServer { address, name }| Server { address, tls_name: name });
        let key_path = folder.join(&raw.log_key);
        let key_text = files::read(&key_path).map_err(ConfigError::Read)?;
        let log_key: NoteKey = key_text.trim().parse().map_err(|why: note::BadNoteKey| {
            wrong(path, "log-key", &key_path.display().to_string(), &why.to_string())
        })?;
        let identity = raw.tls.within(&folder).load()?;
        let mut settings = ClientSettings::new(name, servers.collect(), identity, log_key);
        if !raw.cosigners.is_empty() {
            let keys: Result<_, _> = raw.cosigners.iter().map(|path| cosigner(&folder.join(path))).collect();
            settings.policy = Policy::majority(keys?);
        }
        Ok(ClientConfig { outbox: folder.join(raw.outbox), checkpoint: folder.join(raw.checkpoint), settings, folder })
    }
}

impl TlsFiles {
    /// Reads the identity and checks that it can be used: the files may be in the middle of a change from one pair of
    /// certificate and key to the next.
    pub(super) fn load(&self) -> Result<Identity, ConfigError> {
        let read = |path: &Path| files::read(path).map_err(ConfigError::Read);
        let key_pem = read_secret(&self.key, "speak in the name of its certificate")?;
        let identity = Identity { chain_pem: read(&self.certificate)?, key_pem, ca_pem: read(&self.ca)? };
        match identity.peer().and_then(|_| tls::client_config(&identity)) {
            Ok(_) => Ok(identity),
            Err(why) => Err(ConfigError::Identity { files: Box::new(self.clone()), why: Box::new(why) }),
        }
    }
}

impl RawTls {
    fn within(self, folder: &Path) -> TlsFiles {
        TlsFiles { certificate: folder.join(self.certificate), key: folder.join(self.key), ca: folder.join(self.ca) }
    }
}

/// Reads a TLS key. `can` says what a person who has the key can do.
pub(super) fn read_secret(path: &Path, can: &'static str) -> Result<String, ConfigError> {
    match files::read_secret(path).map_err(ConfigError::Read)? {
        Secret::Kept(text) => Ok(text),
        Secret::Exposed(mode) => Err(ConfigError::Exposed { path: path.to_owned(), mode, can }),
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

/// Reads a number of bytes, written as in `64MiB`.
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

pub(super) fn is_address(text: &str) -> bool {
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
    fn a_cluster_names_all_its_members_and_itself_among_them() {
        let member = |node: u64, name: &str| {
            format!(
                "[[member]]\nnode = {node}\nname = \"{name}\"\naddress = \"10.0.0.{node}:1\"\ncosigner = \"{name}.vkey\"\n"
            )
        };
        let cluster = |head: &str, members: &[String]| {
            log(&format!("{}\n{}", GOOD.replace("data =", &format!("{head}\ndata =")), members.concat()))
        };
        let config = cluster("node = 2\ncosigner-key = \"a.key\"", &[member(1, "a"), member(2, "b")]).unwrap();
        assert_eq!(config.cluster.unwrap().own().name, "b");
        for (head, members, field) in [
            ("", vec![member(1, "a")], "cosigner-key"),
            ("cosigner-key = \"a.key\"", vec![member(2, "a")], "node"),
            ("cosigner-key = \"a.key\"", vec![member(1, "a"), member(1, "b")], "member"),
            ("cosigner-key = \"a.key\"", vec![member(1, "a"), member(2, "a")], "member"),
            ("cosigner-key = \"a.key\"", vec![member(1, "a b")], "name"),
        ] {
            let error = cluster(head, &members).unwrap_err();
            assert!(matches!(error, ConfigError::Value { field: found, .. } if found == field), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (from, to, field) in [
            ("log.example/first", "a log", "origin"),
            ("127.0.0.1:50051", "127.0.0.1", "listen"),
            ("data = \"data\"", "data = \"data\"\nnode = 0", "node"),
            ("data = \"data\"", "data = \"data\"\nconnections-max = 0", "connections-max"),
            ("data = \"data\"", "data = \"data\"\nconnections-per-name = 0", "connections-per-name"),
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
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        LogConfig::read(&examples.join("log.toml")).unwrap();
        parse::<RawClient>(&examples.join("client.toml")).unwrap();
        for node in 1..=4 {
            let config = LogConfig::read(&examples.join(format!("cluster/server-{node}.toml"))).unwrap();
            assert_eq!(config.cluster.unwrap().own().name, format!("server-{node}"));
        }
        parse::<RawClient>(&examples.join("cluster/client.toml")).unwrap();
        parse::<RawClient>(&examples.join("cluster/operator.toml")).unwrap();
    }
}
