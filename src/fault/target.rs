//! Whom a fault strikes: hosts, and links between hosts.
//!
//! These are the words of a scenario file (`servers`, `leader`, `client-2`, `@cut`), not yet the names of hosts in
//! one run: some are drawn from the seed and some are looked up only when the step's moment has come. Nothing here
//! decides which host a word means.

use std::fmt;

use serde::Serialize;

/// A word of the scenario file that stands for one or more hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostRef {
    /// Every server.
    Servers,
    /// Every client.
    Clients,
    /// The reader that follows the log from outside and compares what it sees.
    Auditor,
    /// The host that issues certificates; there where `[cluster] renew-before` is given.
    Issuer,
    /// The server that leads when the step begins; kept for the step's length.
    Leader,
    /// The servers that do not lead when the step begins.
    Followers,
    /// One server, drawn from the seed before the run.
    AnyServer,
    /// One client, drawn from the seed before the run.
    AnyClient,
    /// `server-N`, counted from 1.
    Server(u32),
    /// `client-N`, counted from 1.
    Client(u32),
    /// `@step`: the hosts that this step hit.
    Step(String),
}

impl HostRef {
    /// The words that need no number and no step name.
    pub const WORDS: &'static [(&'static str, HostRef)] = &[
        ("servers", HostRef::Servers),
        ("clients", HostRef::Clients),
        ("auditor", HostRef::Auditor),
        ("issuer", HostRef::Issuer),
        ("leader", HostRef::Leader),
        ("followers", HostRef::Followers),
        ("any-server", HostRef::AnyServer),
        ("any-client", HostRef::AnyClient),
    ];

    /// Reads a word; `None` if it is none. Whether `server-9` or `@cut` exists is not asked here.
    /// Numbers have no leading zero and start at 1.
    pub fn read(word: &str) -> Option<HostRef> {
        if let Some((_, host)) = Self::WORDS.iter().find(|(name, _)| *name == word) {
            return Some(host.clone());
        }
        if let Some(step) = word.strip_prefix('@') {
            return Some(HostRef::Step(step.to_owned()));
        }
        let (kind, number) = word.rsplit_once('-')?;
        if number.starts_with('0') || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok()?;
        match kind {
            "server" => Some(HostRef::Server(number)),
            "client" => Some(HostRef::Client(number)),
            _ => None,
        }
    }

    /// Whether every host that it can stand for is a server. `@step` is not asked: that depends on the step.
    pub fn is_server(&self) -> bool {
        use HostRef::{AnyServer, Followers, Leader, Server, Servers};
        matches!(self, Servers | Leader | Followers | AnyServer | Server(_))
    }

    /// Whether every host that it can stand for is a client.
    pub fn is_client(&self) -> bool {
        matches!(self, HostRef::Clients | HostRef::AnyClient | HostRef::Client(_))
    }
}

impl fmt::Display for HostRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostRef::Server(n) => write!(f, "server-{n}"),
            HostRef::Client(n) => write!(f, "client-{n}"),
            HostRef::Step(name) => write!(f, "@{name}"),
            word => {
                let name = Self::WORDS.iter().find(|(_, host)| host == word).map_or("", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

/// What lies between two groups of hosts. Only pairs of two different hosts count, so `servers` to `servers` is
/// every pair of servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link<T = Vec<HostRef>> {
    /// Both ways.
    Between(T, T),
    /// Only what is sent by `from` and received by `to`. The other way stays untouched.
    OneWay {
        /// Who sends.
        from: T,
        /// Who receives.
        to: T,
    },
}

impl<T> Link<T> {
    /// The two ends, in the order in which they were written.
    pub fn ends(&self) -> (&T, &T) {
        match self {
            Link::Between(a, b) => (a, b),
            Link::OneWay { from, to } => (from, to),
        }
    }

    /// Whether only one way is struck.
    pub fn is_one_way(&self) -> bool {
        matches!(self, Link::OneWay { .. })
    }

    /// The same link with other ends.
    pub fn map<U>(&self, each: &mut impl FnMut(&T) -> U) -> Link<U> {
        match self {
            Link::Between(a, b) => Link::Between(each(a), each(b)),
            Link::OneWay { from, to } => Link::OneWay { from: each(from), to: each(to) },
        }
    }
}
