//! The values that a fault's parameters take, each with the bounds that its entry sets.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{HostRef, Link};

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// A length of time.
    Duration(Duration),
    /// A length of time with a sign, in milliseconds.
    Offset(i64),
    /// How much faster (or slower) a clock runs, in parts per million.
    Drift(i32),
    /// A number of bytes.
    Size(u64),
    /// How often something happens.
    Rate(Rate),
    /// One of the words that the parameter knows.
    Word(&'static str),
    /// Yes or no.
    Flag(bool),
    /// A count, or an index that starts at 1.
    Count(u64),
    /// A selection of files of a host; empty for all of them.
    Path(String),
}

/// The kind of a parameter's value. Bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A length of time.
    Duration {
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A length of time with a sign; never zero.
    Offset {
        /// The largest offset in either direction.
        most: Duration,
    },
    /// Parts per million, with a sign; never zero.
    Drift {
        /// The largest value in either direction.
        most: i32,
    },
    /// A number of bytes.
    Size {
        /// The fewest allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// How often something happens; see [`Rate`] for its bounds.
    Rate,
    /// One of these words, each with its meaning.
    Word(&'static [(&'static str, &'static str)]),
    /// `true` or `false`.
    Flag,
    /// A bare number.
    Count {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A selection of files of a host; see [`path_problem`] for the paths that cannot be one.
    Path,
}

/// The longest path in a scenario file, in bytes.
pub const PATH_BYTES_MAX: usize = 200;

/// Returns whether the path `wanted` of a scenario file selects the file at `path`: it is the beginning of that path,
/// or its file name.
pub fn path_matches(wanted: &str, path: &str) -> bool {
    path.starts_with(wanted) || path.rsplit('/').next() == Some(wanted)
}

/// Returns why no file of a host can have such a path, if that is so. Paths are plain, and relative to the data folder.
pub fn path_problem(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("it is empty"),
        _ if path.len() > PATH_BYTES_MAX => Some("it is too long"),
        _ if path.starts_with('/') => Some("it is absolute"),
        _ if path.split('/').any(|part| part == ".." || part == ".") => {
            Some("it contains a part `.` or leaves the data folder with `..`")
        }
        _ if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') => {
            Some("only ASCII letters, digits and punctuation are allowed, without spaces or backslashes")
        }
        _ => None,
    }
}

/// How often something happens: `60/s`, `30/m`, `10/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rate {
    /// How many times.
    pub count: u32,
    /// The length of time in which this happens.
    pub per: Per,
}

/// The length of time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each second.
    Second,
    /// Each minute.
    Minute,
    /// Each hour.
    Hour,
}

impl Per {
    /// Returns the length itself.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3600,
        })
    }
}

/// The values that a step gives for its fault: everything that [`Fault::action`](super::Fault::action) needs. Defaults
/// are already filled in.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Hosts, for a fault that acts on hosts.
    pub on: Option<Vec<HostRef>>,
    /// A link, for a fault that acts on links.
    pub link: Option<Link>,
    /// How long the step lasts, if `for` is given.
    pub length: Option<Duration>,
    /// How long the step waits after its moment, if it begins after one.
    pub wait: Option<Duration>,
    /// The other parameters.
    pub values: BTreeMap<&'static str, Value>,
}

impl Given {
    /// Returns a parameter that is a length of time.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        if let Some(Value::Duration(length)) = self.values.get(name) { Some(*length) } else { None }
    }

    /// Returns a parameter that is a length of time with a sign, in milliseconds.
    pub fn offset(&self, name: &str) -> Option<i64> {
        if let Some(Value::Offset(ms)) = self.values.get(name) { Some(*ms) } else { None }
    }

    /// Returns a parameter in parts per million.
    pub fn drift(&self, name: &str) -> Option<i32> {
        if let Some(Value::Drift(ppm)) = self.values.get(name) { Some(*ppm) } else { None }
    }

    /// Returns a parameter in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        if let Some(Value::Size(bytes)) = self.values.get(name) { Some(*bytes) } else { None }
    }

    /// Returns a parameter that is a rate.
    pub fn rate(&self, name: &str) -> Option<Rate> {
        if let Some(Value::Rate(rate)) = self.values.get(name) { Some(*rate) } else { None }
    }

    /// Returns a parameter that is a word.
    pub fn word(&self, name: &str) -> Option<&'static str> {
        if let Some(Value::Word(word)) = self.values.get(name) { Some(word) } else { None }
    }

    /// Returns a parameter that is a count.
    pub fn count(&self, name: &str) -> Option<u64> {
        if let Some(Value::Count(count)) = self.values.get(name) { Some(*count) } else { None }
    }

    /// Returns a parameter that selects files.
    pub fn path(&self, name: &str) -> Option<String> {
        if let Some(Value::Path(path)) = self.values.get(name) { Some(path.clone()) } else { None }
    }

    /// Returns a parameter that is yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        if let Some(Value::Flag(flag)) = self.values.get(name) { Some(*flag) } else { None }
    }
}
