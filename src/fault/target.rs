//! What a fault strikes: hosts, and links between hosts.
//!
//! These are the words of a scenario file (`servers`, `leader`, `client-2`, `@cut`), not yet the names of hosts in one
//! run. Some words are drawn from the seed, and some are looked up only when the step begins. Nothing in this file
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
    /// The host that issues certificates. It exists only if `[cluster] renew-before` is given.
    Issuer,
    /// The server that leads when the step begins. It stays the same for the step's length.
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
    /// `@step`: the hosts that this step struck.
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

    /// Reads a word. Returns `None` if it is not a word for hosts. Does not check whether `server-9` or `@cut` exists.
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

    /// Returns whether every host that it can stand for is a server. False for `@step`, whose hosts depend on the step.
    pub fn is_server(&self) -> bool {
        use HostRef::{AnyServer, Followers, Leader, Server, Servers};
        matches!(self, Servers | Leader | Followers | AnyServer | Server(_))
    }

    /// Returns whether every host that it can stand for is a client. False for `@step`.
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

/// The connections between two groups of hosts. Only pairs of different hosts count, so `servers` to `servers` is every
/// pair of servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link<T = Vec<HostRef>> {
    /// Both directions.
    Between(T, T),
    /// Only what `from` sends to `to`. The other direction stays untouched.
    OneWay {
        /// The end that sends.
        from: T,
        /// The end that receives.
        to: T,
    },
}

impl<T> Link<T> {
    /// Returns the two ends, in the order in which they were written.
    pub fn ends(&self) -> (&T, &T) {
        match self {
            Link::Between(a, b) => (a, b),
            Link::OneWay { from, to } => (from, to),
        }
    }

    /// Returns whether only one direction is struck.
    pub fn is_one_way(&self) -> bool {
        matches!(self, Link::OneWay { .. })
    }

    /// Returns the same link with its ends replaced.
    pub fn map<U>(&self, each: &mut impl FnMut(&T) -> U) -> Link<U> {
        match self {
            Link::Between(a, b) => Link::Between(each(a), each(b)),
            Link::OneWay { from, to } => Link::OneWay { from: each(from), to: each(to) },
        }
    }
}
