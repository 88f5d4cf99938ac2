//! `gapless-log member`: how an operator shows and changes the members of a cluster, from outside and while it serves.
//!
//! The command finds the leader by itself, reports each step that it takes, and waits with a deadline. If it is
//! interrupted, the same command can be given again: it continues where it stopped.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Subcommand;
use gapless_world::{
    World,
    observer::Unobserved,
    real::{RealDisk, RealNet},
};

use super::{
    Failure, Format,
    config::{ClientConfig, ConfigError, cosigner, is_address},
};
use crate::{
    client::{Change, Member, MembersResponse, Operator},
    cluster::MemberSettings,
};

#[derive(Debug, Subcommand)]
pub(super) enum MemberVerb {
    /// Prints the members, the leader, and how far each member is.
    List {
        #[command(flatten)]
        operator: OperatorArgs,
        /// How the list looks.
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Adds a server that `gapless-log join` made: as a learner first, and as a voter once it has caught up.
    Add {
        #[command(flatten)]
        operator: OperatorArgs,
        #[command(flatten)]
        member: NewArgs,
        /// Leaves the server a learner: it is sent the log and can be read from, but does not count for a quorum.
        #[arg(long)]
        learner: bool,
    },
    /// Makes a learner a voter, once it has caught up.
    Promote {
        /// The node of the learner.
        #[arg(value_name = "NODE")]
        node: u64,
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Removes a member for good, dead or alive. Its node id is never used again.
    Remove {
        /// The node of the member.
        #[arg(value_name = "NODE")]
        node: u64,
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Replaces a member by a server that `gapless-log join` made: adds the new server, waits until it has caught up,
    /// gives it the vote of the old member in one step, and removes the old member.
    Replace {
        /// The node of the old member, dead or alive. The new server may have its name and its address.
        #[arg(value_name = "OLD")]
        old: u64,
        #[command(flatten)]
        operator: OperatorArgs,
        #[command(flatten)]
        member: NewArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct OperatorArgs {
    /// A client's configuration, with a certificate whose name the servers list under `operators`.
    #[arg(long)]
    config: PathBuf,
    /// How many seconds the command may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    within: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// The new server's node id, which this log has never had.
    #[arg(long)]
    node: u64,
    /// Where the other members reach the new server, as `host:port`.
    #[arg(long)]
    address: String,
    /// The file of its cosigner's verifier key, which also contains its name.
    #[arg(long, value_name = "FILE")]
    cosigner: PathBuf,
}

pub(super) async fn run(verb: MemberVerb) -> Result<(), Failure> {
    match verb {
        MemberVerb::List { operator, format } => {
            let within = Duration::from_secs(operator.within.min(LIST_SECONDS_MAX));
            print(&operator.open()?.members(within).await?, format)?;
        }
        MemberVerb::Add { operator, member, learner: true } => {
            let change = Change::Add { member: member.read()?, replaces: None };
            make(&change, &operator).await?;
        }
        MemberVerb::Promote { node, operator } => make(&Change::Promote { node, replaces: None }, &operator).await?,
        MemberVerb::Remove { node, operator } => make(&Change::Remove { node }, &operator).await?,
        MemberVerb::Add { operator, member, learner: false } => {
            let (new, within) = (member.read()?, operator.within());
            let status = operator.open()?.bring_in(new, None, within, tell).await?;
            print(&status, Format::Human)?;
        }
        MemberVerb::Replace { old, operator, member } => {
            let (new, within) = (member.read()?, operator.within());
            let status = operator.open()?.bring_in(new, Some(old), within, tell).await?;
            print(&status, Format::Human)?;
        }
    }
    Ok(())
}

/// Makes one change.
async fn make(change: &Change, operator: &OperatorArgs) -> Result<(), Failure> {
    tell(&change.to_string());
    let status = operator.open()?.change(change, operator.within()).await?;
    print(&status, Format::Human)
}

/// A list waits for the leader no longer than an election takes: without a leader, it shows what any server knows.
const LIST_SECONDS_MAX: u64 = 5;

fn tell(step: &str) {
    eprintln!("{step}");
}

impl OperatorArgs {
    fn within(&self) -> Duration {
        Duration::from_secs(self.within)
    }

    fn open(&self) -> Result<Operator, Failure> {
        let config = ClientConfig::read(&self.config)?;
        let settings = config.settings;
        // Nothing is kept: everything that an operator needs to know is in the log.
        let disk = RealDisk::create(&config.folder).map_err(Failure::File)?;
        let world = World { disk: Arc::new(disk), net: Arc::new(RealNet), observer: Arc::new(Unobserved) };
        Ok(Operator::new(world, settings.identity.fixed(), &settings.log_key, settings.servers))
    }
}

impl NewArgs {
    fn read(&self) -> Result<MemberSettings, ConfigError> {
        let key = cosigner(&self.cosigner)?;
        if !is_address(&self.address) {
            let why = "it must be host:port, as in 10.0.0.4:50051".to_owned();
            let (path, value) = (self.cosigner.clone(), self.address.clone());
            return Err(ConfigError::Value { path, field: "--address", value, why });
        }
        Ok(MemberSettings { node: self.node, name: key.name, address: self.address.clone(), cosigner: key.key })
    }
}

fn print(status: &MembersResponse, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", json(status))?,
        Format::Human => {
            let leads = match status.leader {
                0 => "nobody leads".to_owned(),
                leader => format!("node {leader} leads in term {}", status.term),
            };
            let (entries, committed) = (status.entries, status.committed);
            writeln!(out, "{leads}; {entries} entries, {committed} leaves shown; reported by node {}", status.node)?;
            if status.changing {
                writeln!(out, "a change of the voters is half-way: give its command again")?;
            }
            for member in &status.members {
                writeln!(out, "{}", line(member, status))?;
            }
        }
    }
    Ok(())
}

fn line(member: &Member, status: &MembersResponse) -> String {
    let Member { node, name, address, voter, entries, heard_ms, .. } = member;
    let role = match (voter, *node == status.leader) {
        (_, true) => "leader",
        (true, false) => "voter",
        (false, false) => "learner",
    };
    let state = match (entries, heard_ms) {
        (Some(_), None) => ", has never answered".to_owned(),
        (Some(held), Some(heard)) => {
            let behind = status.entries.saturating_sub(*held);
            let silent = if *heard > SILENT_MS { format!(", silent for {} s", heard / 1000) } else { String::new() };
            format!(", {behind} entries behind{silent}")
        }
        (None, _) => String::new(),
    };
    format!("{node:>4}  {name:<24} {address:<24} {role}{state}")
}

/// A member that has not answered for this long is silent: the leader asks each member about three times a second.
const SILENT_MS: u64 = 2_000;

fn json(status: &MembersResponse) -> serde_json::Value {
    let member = |member: &Member| {
        serde_json::json!({
            "node": member.node, "name": member.name, "address": member.address, "cosigner": member.cosigner,
            "voter": member.voter, "entries": member.entries, "heard-ms": member.heard_ms,
        })
    };
    serde_json::json!({
        "node": status.node, "leader": Some(status.leader).filter(|leader| *leader != 0), "term": status.term,
        "entries": status.entries, "committed": status.committed, "changing": status.changing,
        "members": status.members.iter().map(member).collect::<Vec<_>>(),
    })
}
