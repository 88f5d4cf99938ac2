//! The catalogue of faults: the name of each fault, what it does, what it strikes, and what proves that it bit.
//!
//! There is one file per fault. Its entry is the only source for the parser, for `gapless explain` and for the reports.
//! Operators read its text at night, so it says exactly what is lost and what is not. What faults of one family do is
//! in a file of `effect`. The catalogue performs nothing; the simulator and the drill do.

mod action;
mod effect;
mod target;
mod value;

mod bit_flip;
mod bit_rot;
mod blackhole;
mod ca_rotate;
mod cert_expire;
mod cert_mismatch;
mod cert_rotate;
mod churn;
mod clock_drift;
mod clock_jump;
mod clock_skew;
mod crash;
mod disk_error;
mod disk_full;
mod fsync_error;
mod isolate;
mod latency;
mod memory_pressure;
mod misdirected_write;
mod partition;
mod pause;
mod power_loss;
mod refuse;
mod replace;
mod reset;
mod restart;
mod rewind;
mod rollback;
mod rolling_upgrade;
mod slow_disk;
mod slow_reader;
mod surge;
mod torn_write;
mod upgrade;
mod wipe;

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

pub use action::Action;
pub(crate) use cert_expire::INSTALLED_BEFORE;
pub use effect::{
    Access, CertificateFault, ClockFault, DiskFault, Effect, LoadFault, Mismatch, NetworkFault, ProcessFault,
    ReleaseFault, ReplyFault, RevisionRole,
};
pub use target::{HostRef, Link};
pub use value::{Given, Kind, PATH_BYTES_MAX, Per, Rate, Value, path_matches, path_problem};

/// One entry of the catalogue. Names are unique, so two entries of one name are the same.
pub struct Fault {
    /// Its name in scenario files, kebab-case.
    pub name: &'static str,
    /// One sentence, for lists.
    pub summary: &'static str,
    /// The faults with which it has a cause in common, in words. An exploration leaves out some of these groups.
    pub group: &'static str,
    /// What it does, in plain words.
    pub does: &'static str,
    /// Exactly what is lost, and what is not.
    pub loses: &'static str,
    /// How the simulator performs it.
    pub simulated: &'static str,
    /// How a drill performs it on real processes, or why it cannot.
    pub drilled: &'static str,
    /// What proves that it bit. Without this evidence the verdict is inconclusive.
    pub evidence: &'static str,
    /// What did not happen if a step left no trace; `{hosts}` stands for the hosts that it was to strike.
    pub untouched: &'static str,
    /// What to change in the scenario so that the fault bites.
    pub cure: &'static str,
    /// What it strikes: hosts, links or the workload.
    pub acts_on: ActsOn,
    /// Whether it ends, and when it does so by default.
    pub end: End,
    /// What it means if two steps of this fault overlap on one host or link.
    pub overlap: Overlap,
    /// What it does repeatedly (such as `crash`), if `STEP:2` may refer to the second time.
    pub counted: Option<&'static str>,
    /// The parameters, without hosts, links, `for` and the start.
    pub parameters: &'static [Parameter],
    /// Events of the log that it can cause and that do not occur in a quiet run.
    pub causes: &'static [&'static str],
    /// A rule between parameters.
    pub rule: Option<Rule>,
    /// Whether a sound process may end by itself because of this fault, at once or later. This holds for faults that
    /// strike what a process depends on: its disk, its clock, its certificate or its memory. A fault that only ends a
    /// process, slows it down or cuts its links gives the process no reason to end by itself.
    pub may_end_process: bool,
    /// Whether nothing runs on a struck host while the fault lasts, so that there is no process left to strike.
    pub keeps_down: bool,
    /// Whether it strikes nothing on a host whose process does not run. (An upgrade strikes such a host: it comes up
    /// upgraded.)
    pub needs_process: bool,
    /// What becomes of what a sync had covered.
    pub synced: Synced,
    /// The smallest number of servers with which a cluster survives it.
    pub servers_min: u32,
    /// Makes its effect of the parameters. Returns `None` if one that it needs was not given.
    pub build: fn(&Given) -> Option<Effect>,
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Fault {}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A rule between the parameters of one fault, `for` and `wait` included.
pub type Rule = fn(&Given) -> Result<(), Broken>;

/// A rule that a step breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// The kind of the problem, as errors of scenario files name it.
    pub code: &'static str,
    /// The key to which the problem belongs.
    pub key: &'static str,
    /// What is wrong.
    pub text: &'static str,
    /// How to fix it.
    pub cure: &'static str,
}

/// What a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActsOn {
    /// The hosts in `on`. They must be of these kinds.
    Hosts {
        /// Servers may be named.
        servers: bool,
        /// Clients may be named.
        clients: bool,
        /// The auditor may be named.
        auditor: bool,
        /// The host that issues certificates may be named.
        issuer: bool,
    },
    /// The link in `between`, or with `one_way` also the link in `from` and `to`.
    Links {
        /// Whether one direction alone can be struck.
        one_way: bool,
    },
    /// The work that the clients are asked to do.
    Workload,
}

impl ActsOn {
    /// Returns the kinds of hosts that may be named, in words.
    pub fn kinds(self) -> Vec<&'static str> {
        let ActsOn::Hosts { servers, clients, auditor, issuer } = self else { return Vec::new() };
        let kinds = [(servers, "servers"), (clients, "clients"), (auditor, "the auditor"), (issuer, "the issuer")];
        kinds.iter().filter(|(may, _)| *may).map(|(_, kind)| *kind).collect()
    }
}

/// How a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It happens at one instant; `for` is an error.
    Instant,
    /// It lasts for `for`, or until the final heal.
    Healed,
    /// It lasts for `for`, or by default for this long.
    After(Duration),
}

/// What it means if two steps of one fault overlap on one host or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing special: both take effect.
    Allowed,
    /// An error unless their parameters are equal, since it would be unclear which step counts.
    SameValues,
    /// An error, since the second step would find nothing to strike.
    Refused,
}

/// What a fault does to what a sync had covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// Nothing.
    Kept,
    /// Some bytes are lost or changed.
    Damaged,
    /// The whole disk is another one: empty, or as it was at an earlier time.
    Forgotten,
}

/// One parameter of a fault.
#[derive(Debug)]
pub struct Parameter {
    /// Its key, kebab-case.
    pub name: &'static str,
    /// The kind of value that it takes, with its bounds.
    pub kind: Kind,
    /// What happens if it is not given.
    pub need: Need,
    /// What it means, in one sentence.
    pub means: &'static str,
}

/// What happens if a parameter is not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Its absence is an error.
    Required,
    /// It has this value.
    Default(Value),
}

/// Every fault, in the order in which they are listed.
pub static CATALOGUE: &[&Fault] = &[
    &crash::FAULT,
    &power_loss::FAULT,
    &restart::FAULT,
    &churn::FAULT,
    &pause::FAULT,
    &wipe::FAULT,
    &rewind::FAULT,
    &replace::FAULT,
    &fsync_error::FAULT,
    &disk_error::FAULT,
    &disk_full::FAULT,
    &slow_disk::FAULT,
    &torn_write::FAULT,
    &bit_rot::FAULT,
    &misdirected_write::FAULT,
    &partition::FAULT,
    &blackhole::FAULT,
    &refuse::FAULT,
    &isolate::FAULT,
    &reset::FAULT,
    &latency::FAULT,
    &slow_reader::FAULT,
    &bit_flip::FAULT,
    &cert_expire::FAULT,
    &cert_rotate::FAULT,
    &cert_mismatch::FAULT,
    &ca_rotate::FAULT,
    &clock_skew::FAULT,
    &clock_drift::FAULT,
    &clock_jump::FAULT,
    &upgrade::FAULT,
    &rolling_upgrade::FAULT,
    &rollback::FAULT,
    &memory_pressure::FAULT,
    &surge::FAULT,
];

/// Returns the fault of this name.
pub fn find(name: &str) -> Option<&'static Fault> {
    CATALOGUE.iter().copied().find(|fault| fault.name == name)
}

/// The hosts of servers and clients, on which most faults of a process act.
const SERVERS_AND_CLIENTS: ActsOn = ActsOn::Hosts { servers: true, clients: true, auditor: false, issuer: false };

/// Every host, that of the issuer included. The faults of a clock act on these.
const EVERYBODY: ActsOn = ActsOn::Hosts { servers: true, clients: true, auditor: true, issuer: true };

/// Selects the files of a host that a fault of its disk strikes.
const PATH: Parameter = Parameter {
    name: "path",
    kind: Kind::Path,
    need: Need::Default(Value::Path(String::new())),
    means: "only files whose path begins with this, or whose name is this",
};

/// Events that damaged bytes can cause.
const DAMAGE: &[&str] = &[
    "corruption-found",
    "torn-tail-truncated",
    "read-only",
    "repair-stalled",
    "replica-rebuilt",
    "replica-repaired",
    "member-lost-tail",
    "retry",
    "handshake-refused",
    "connection-closed",
];

/// Selects the write or sync that a fault of a disk strikes.
const NTH: Kind = Kind::Count { min: 1, max: 1_000_000 };

/// The largest error of a clock: ten years.
const FARTHEST: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Fault {
    /// What holds for most faults. Each entry has its own texts, and says what is different.
    const USUAL: Fault = Fault {
        name: "",
        summary: "",
        group: "",
        does: "",
        loses: "",
        simulated: "",
        drilled: "",
        evidence: "",
        untouched: "",
        cure: "",
        acts_on: ActsOn::Workload,
        end: End::Healed,
        overlap: Overlap::Allowed,
        counted: None,
        parameters: &[],
        causes: &[],
        rule: None,
        may_end_process: false,
        keeps_down: false,
        needs_process: false,
        synced: Synced::Kept,
        servers_min: 1,
        build: |_| None,
    };

    /// Returns its page in plain text, as `gapless explain` prints it.
    pub fn page(&self) -> String {
        let mut page = format!("{}: {}\n", self.name, self.summary);
        let sections = [
            ("What it does", self.does),
            ("What is lost, and what is not", self.loses),
            ("In the simulator", self.simulated),
            ("Against real processes", self.drilled),
            ("What proves that it bit", self.evidence),
        ];
        for (title, text) in sections {
            let _ = write!(page, "\n{title}\n{text}\n");
        }
        if self.may_end_process {
            let excuse = "A server that this fault has struck may end by itself without breaking `stays-up`.";
            let _ = write!(page, "\nA server that ends\n{excuse}\n");
        }
        let untouched = self.untouched.replace("{hosts}", "the host");
        let _ = write!(page, "\nIf it leaves no trace\nWhy: {untouched}.\nCure: {}.\n", self.cure);
        let _ = write!(page, "\nEvents that it can cause\n");
        for line in rows(self.causes) {
            let _ = writeln!(page, "{line}");
        }
        let _ = write!(page, "\nParameters\n{}", self.parameter_list());
        page
    }

    fn parameter_list(&self) -> String {
        let mut list = String::new();
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(list, "  {name:<9} {text}");
        };
        match self.acts_on {
            ActsOn::Hosts { .. } => {
                line("on", &format!("hosts: {}; one name or a list", self.acts_on.kinds().join(", ")));
            }
            ActsOn::Links { one_way } => {
                line("between", "the two ends, each a name or a list: both directions are struck");
                if one_way {
                    line("from, to", "instead of between: only what `from` sends to `to` is struck");
                }
            }
            ActsOn::Workload => {}
        }
        for parameter in self.parameters {
            let need = match &parameter.need {
                Need::Required => "required".to_owned(),
                Need::Default(Value::Duration(Duration::ZERO) | Value::Offset(0)) => "default none".to_owned(),
                Need::Default(Value::Path(path)) if path.is_empty() => "default: all files".to_owned(),
                Need::Default(value) => format!("default {value}"),
            };
            line(parameter.name, &format!("{} ({need})", parameter.means));
            if let Kind::Word(words) = parameter.kind {
                words.iter().for_each(|(word, means)| line("", &format!("  {word}: {means}")));
            }
        }
        match self.end {
            End::Instant => line("for", "not allowed: it happens at one instant"),
            End::Healed => line("for", "how long (default: until the final heal)"),
            End::After(length) => line("for", &format!("how long (default {length:?})")),
        }
        list
    }

    /// Returns the keys that a step of this fault may have, besides those that every step has.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = match self.acts_on {
            ActsOn::Hosts { .. } => vec!["on"],
            ActsOn::Links { one_way: true } => vec!["between", "from", "to"],
            ActsOn::Links { one_way: false } => vec!["between"],
            ActsOn::Workload => Vec::new(),
        };
        keys.extend(self.parameters.iter().map(|parameter| parameter.name));
        keys
    }
}

/// Joins words with commas, in lines of at most 92 columns.
fn rows(words: &[&str]) -> Vec<String> {
    const COLUMNS: usize = 92;
    let mut rows: Vec<String> = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let comma = if n + 1 < words.len() { "," } else { "" };
        match rows.last_mut() {
            Some(row) if row.len() + word.len() + 2 <= COLUMNS => row.push_str(&format!(" {word}{comma}")),
            _ => rows.push(format!("{word}{comma}")),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapless_world::LogEvent;

    #[test]
    fn names_are_unique_and_events_exist() {
        for (i, fault) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE.iter().skip(i + 1).all(|other| other.name != fault.name), "{} twice", fault.name);
            for event in fault.causes {
                assert!(LogEvent::NAMES.contains(event), "{}: no event is called {event}", fault.name);
            }
        }
    }

    fn some_value(kind: Kind) -> Value {
        match kind {
            Kind::Duration { min, .. } => Value::Duration(min),
            Kind::Offset { .. } => Value::Offset(-1_000),
            Kind::Drift { .. } => Value::Drift(100),
            Kind::Size { min, .. } => Value::Size(min),
            Kind::Rate => Value::Rate(Rate { count: 9, per: Per::Second }),
            Kind::Word(words) => Value::Word(words[0].0),
            Kind::Flag => Value::Flag(true),
            Kind::Count { min, .. } => Value::Count(min),
            Kind::Path => Value::Path("log".to_owned()),
        }
    }

    #[test]
    fn a_built_action_leads_back_to_its_entry() {
        for fault in CATALOGUE {
            let mut given = Given::default();
            match fault.acts_on {
                ActsOn::Hosts { .. } => given.on = Some(vec![HostRef::Servers]),
                ActsOn::Links { .. } => {
                    given.link = Some(Link::Between(vec![HostRef::Clients], vec![HostRef::Servers]));
                }
                ActsOn::Workload => {}
            }
            for parameter in fault.parameters {
                given.values.insert(parameter.name, some_value(parameter.kind));
            }
            let action = fault.action(&given).unwrap_or_else(|| panic!("{} was not built", fault.name));
            assert_eq!(action.name(), fault.name);
            let names: Vec<_> = action.values().iter().map(|(name, _)| *name).collect();
            assert_eq!(names, fault.parameters.iter().map(|p| p.name).collect::<Vec<_>>());
            assert_eq!(action.on().is_some(), matches!(fault.acts_on, ActsOn::Hosts { .. }));
            assert_eq!(action.link().is_some(), matches!(fault.acts_on, ActsOn::Links { .. }));
            assert_eq!(action.map(&mut Clone::clone), action);
            assert!(fault.action(&Given::default()).is_none(), "{} needs something", fault.name);
        }
    }

    #[test]
    fn every_entry_has_all_its_texts_and_rules_that_agree() {
        for fault in CATALOGUE {
            let Fault { name, summary, group, does, loses, simulated, drilled, evidence, untouched, cure, .. } =
                **fault;
            let texts = [name, summary, group, does, loses, simulated, drilled, evidence, untouched, cure];
            assert!(texts.iter().all(|text| !text.is_empty()), "{name} lacks a text");
            assert!(!fault.causes.is_empty(), "{name} causes nothing");
            assert!(fault.needs_process || !fault.keeps_down, "{name} ends a process and needs none");
        }
    }

    #[test]
    fn every_page_names_every_parameter_and_fits_a_terminal() {
        for fault in CATALOGUE {
            let page = fault.page();
            for parameter in fault.parameters {
                assert!(page.contains(parameter.name));
            }
            let longest = page.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= 100, "{}: a line of {longest} columns", fault.name);
            let about_hosts = matches!(fault.acts_on, ActsOn::Hosts { .. });
            assert!(about_hosts || !fault.untouched.contains("{hosts}"), "{} acts on no host", fault.name);
        }
    }

    #[test]
    fn a_host_word_reads_back_as_written() {
        for word in ["servers", "leader", "any-client", "server-1", "client-64", "@cut", "auditor", "issuer"] {
            assert_eq!(HostRef::read(word).map(|host| host.to_string()).as_deref(), Some(word));
        }
        for word in ["server", "server-", "server-01", "server-0", "server-+1", "server-99999999999", ""] {
            assert_eq!(HostRef::read(word), None, "{word}");
        }
    }
}
