//! The command line of `gapless-log`: one file per verb, and no logic of the log.
//!
//! Results go to stdout, and messages to stderr. Each failure says what happened, with which value, and what to do
//! about it; the exit status says how the command ended.

mod append;
mod certify;
mod config;
mod cosigner;
mod descriptors;
mod files;
mod folder;
mod init;
mod join;
mod key;
mod level;
mod member;
mod serve;
mod tail;
mod verify;

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use gapless_world::tls::TlsError;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    client::{ClientError, OperatorError},
    cluster::NodeError,
    serve::ServeError,
};

/// A signed, append-only audit log over gRPC.
#[derive(Debug, Parser)]
#[command(name = "gapless-log", version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How messages on stderr look. The environment variable RUST_LOG selects which messages appear.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
}

const EXIT_STATUS: &str = "Exit status: 0 ok, 1 failed, 2 wrong usage, 3 invalid configuration, \
                           100 verification failed";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a new log: its data folder, its signing key and, if wanted, certificates. Overwrites nothing.
    Init(init::Args),
    /// Makes the key with which a member of a cluster cosigns. This is the first step of a cluster, on each of its
    /// servers.
    Cosigner(cosigner::Args),
    /// Makes the empty folder of a server that is to join an existing cluster. Overwrites nothing.
    Join(join::Args),
    /// Shows the members of a cluster, and changes them while it serves.
    #[command(subcommand)]
    Member(member::MemberVerb),
    /// Serves a log until SIGTERM or SIGINT. Everything that was accepted is answered before it exits.
    Serve(serve::Args),
    /// Appends entries, and prints the index of each once the log has proven that it holds the entry.
    Append(append::Args),
    /// Prints the leaves of the log and, if told to follow, each new one.
    Tail(tail::Args),
    /// Reads the whole log and proves that it is what was signed, and that it extends what earlier runs saw.
    Verify(verify::Args),
    /// Issues further certificates with the authority that `init --with-certificates` made.
    Certify(certify::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Parses the arguments, does what they ask and returns the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.log_format, matches!(cli.verb, Verb::Serve(_)));
    let done = match cli.verb {
        Verb::Init(args) => block_on(init::run(args)),
        Verb::Cosigner(args) => cosigner::run(args),
        Verb::Join(args) => block_on(join::run(args)),
        Verb::Member(verb) => block_on(member::run(verb)),
        Verb::Serve(args) => block_on(serve::run(args)),
        Verb::Append(args) => block_on(append::run(args)),
        Verb::Tail(args) => block_on(tail::run(args)),
        Verb::Verify(args) => block_on(verify::run(args)),
        Verb::Certify(args) => certify::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(Failure::Output(why)) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let done = runtime.block_on(verb);
    // Tasks may still wait for a peer; nothing that they hold is owed to anybody.
    runtime.shutdown_background();
    done
}

/// A server reports what it does; the other verbs report only what needs attention.
fn start_logging(format: LogFormat, serves: bool) {
    let usual = if serves { "warn,gapless=info" } else { "warn" };
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let (filter, wrong) = filter(asked.as_deref(), usual);
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let subscriber = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => subscriber.with(lines.with_target(false)).init(),
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true)).init(),
    }
    if let Some(why) = wrong {
        tracing::warn!("RUST_LOG is not followed, because it cannot be read: {why}. It lists levels, like `{usual}`");
    }
}

/// Returns which messages appear: those that `asked` names, or else the usual ones, with the reason if `asked` cannot be
/// read.
fn filter(asked: Option<&str>, usual: &str) -> (Targets, Option<ParseError>) {
    let usual = || usual.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::WARN));
    match asked.map(str::parse) {
        None => (usual(), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(why)) => (usual(), Some(why)),
    }
}

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Key(#[from] key::KeyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("{ca} and {key} are no authority for certificates: {why}", ca = .ca.display(), key = .key.display())]
    Authority { ca: PathBuf, key: PathBuf, why: Box<TlsError> },
    #[error("{0}")]
    File(io::Error),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("{0}")]
    NotDelivered(String),
    #[error("verification failed: {0}")]
    Unverified(String),
}

impl Failure {
    /// Returns 3 if the configuration or a file that it names is at fault, 100 if the log is not what it should be, and
    /// otherwise 1.
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Config(_) | Failure::Key(_) | Failure::Tls(_) | Failure::Authority { .. } => ExitCode::from(3),
            Failure::Serve(ServeError::Identity(_)) => ExitCode::from(3),
            Failure::Client(ClientError::Settings(_) | ClientError::Tls(_)) => ExitCode::from(3),
            Failure::Unverified(_) => ExitCode::from(100),
            _ => ExitCode::from(1),
        }
    }
}

/// Judges an error of a verb that reads: a failed proof is not an accident, but a verdict.
fn judged(error: ClientError) -> Failure {
    match error {
        ClientError::Note(_)
        | ClientError::Unproven(_)
        | ClientError::BoundNotKept { .. }
        | ClientError::WrongRoot { .. }
        | ClientError::OutOfOrder { .. } => Failure::Unverified(error.to_string()),
        other => Failure::Client(other),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn messages_are_selected_by_level_and_target_and_a_word_that_cannot_be_read_is_told() {
        let of = |asked| filter(asked, "warn,gapless=info");
        let (usual, wrong) = of(None);
        assert!(wrong.is_none());
        assert!(usual.would_enable("gapless_log::serve", &tracing::Level::INFO));
        assert!(!usual.would_enable("rustls", &tracing::Level::INFO));
        let (asked, wrong) = of(Some("error,gapless_log::store=trace"));
        assert!(wrong.is_none());
        assert!(asked.would_enable("gapless_log::store::cell", &tracing::Level::TRACE));
        assert!(!asked.would_enable("gapless_log::serve", &tracing::Level::WARN));
        let (instead, wrong) = of(Some("gapless=loud"));
        assert!(wrong.is_some());
        assert_eq!(instead, usual);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
