//! The command line: one file per verb, no logic of its own. Results go to stdout, talk goes to stderr.

mod check;
mod list;
mod replay;
mod run;
mod select;
mod words;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

/// How a command ended, as a number that scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything holds.
    Holds = 0,
    /// Something in gapless or around it failed.
    Internal = 1,
    /// The command line makes no sense. (clap's own number.)
    Usage = 2,
    /// A scenario file is not valid.
    InvalidScenario = 3,
    /// There is nothing to do: no file, or none that matches.
    NothingSelected = 4,
    /// An invariant was violated.
    Violated = 100,
    /// Nothing was violated, but not everything was exercised.
    Inconclusive = 101,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Proves that an audit log stays append-only and gapless while everything around it fails.
#[derive(Debug, Parser)]
#[command(name = "gapless", version, propagate_version = true, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Colour in the output: by default where it goes to a terminal and NO_COLOR is not set.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

const EXIT_STATUS: &str = "\
Exit status: 0 holds · 1 internal error · 2 wrong usage · 3 invalid scenario · 4 nothing selected ·
100 violated · 101 inconclusive. Results go to stdout, everything else to stderr.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Simulate scenario files or folders.
    Run(run::Arguments),
    /// Simulate one scenario under one seed and show its full timeline.
    Replay(replay::Arguments),
    /// Validate scenario files: every error with its line, its cause and its cure.
    Check(check::Arguments),
    /// List scenarios, faults or events.
    List(list::Arguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    fn on(self, to: &impl IsTerminal) -> bool {
        match self {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
                to.is_terminal() && said("NO_COLOR").is_none() && said("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Reads the command line, does what it says, and answers with the exit status.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let colour = arguments.color.on(&io::stdout());
    let result = match arguments.verb {
        Verb::Run(verb) => run::run(&verb, colour),
        Verb::Replay(verb) => replay::replay(&verb, colour),
        Verb::Check(verb) => check::check(&verb),
        Verb::List(verb) => list::list(&verb),
    };
    match result {
        Ok(exit) => exit.into(),
        // Whoever reads us has seen enough, but the runs have not come to their end: not a verdict.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            stop(Exit::Internal, "stopped: nobody reads the results")
        }
        Err(Stop::Output(error)) => stop(Exit::Internal, &format!("cannot write the output: {error}")),
        Err(Stop::With(exit, message)) => stop(exit, &message),
    }
}

/// Forgives a reader that has seen enough (`gapless list | head`), for verbs that know their result before they print.
fn closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn stop(exit: Exit, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{message}");
    exit.into()
}

/// Why a verb stopped before its end.
#[derive(Debug)]
enum Stop {
    /// The output cannot be written.
    Output(io::Error),
    /// With this status, and this to say on stderr.
    With(Exit, String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Output(error)
    }
}
