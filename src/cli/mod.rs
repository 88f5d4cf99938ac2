//! The command line. There is one file per verb, without logic of its own. Results go to stdout, everything else to
//! stderr.
//!
//! The program `gapless` has this command line, and so has every test binary made by [`main!`](crate::main!), behind
//! `--gapless` and for the log that is tested there. A [`Home`] holds what differs between them.

mod causes;
mod check;
mod completions;
mod explain;
mod explore;
mod home;
mod interrupt;
mod list;
mod new;
mod progress;
mod replay;
mod run;
mod schema;
mod select;
mod shrink;
mod told;
mod values;
mod words;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::{
    explore::draw::Subject,
    report::{COLUMNS_MAX, Layout, Palette},
    system::System,
};

pub use home::Home;
pub(crate) use home::quoted;

/// How a command ended, as a number that scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything holds.
    Holds = 0,
    /// Something in gapless or around it failed.
    Internal = 1,
    /// The command line is wrong. (clap uses the same number.)
    Usage = 2,
    /// A scenario file is not valid.
    InvalidScenario = 3,
    /// There is nothing to do: no file was given, or none matches.
    NothingSelected = 4,
    /// An invariant was violated.
    Violated = 100,
    /// Nothing was violated, but not everything was exercised.
    Inconclusive = 101,
    /// Ctrl-C was pressed: the results so far were reported, and the rest was not run.
    Interrupted = 130,
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
    /// Colour the output. With `auto`, only if it goes to a terminal that is not dumb and NO_COLOR is not set.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

const EXIT_STATUS: &str = "\
Exit status: 0 holds · 1 internal error · 2 wrong usage · 3 invalid scenario · 4 nothing selected ·
100 violated · 101 inconclusive · 130 interrupted. Results go to stdout, everything else to stderr.
`gapless explain exit-codes` explains each status.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Simulate scenario files, or whole folders of them.
    Run(run::Arguments),
    /// Draw random scenarios, simulate them, and keep those that fail.
    Explore(explore::Arguments),
    /// Reduce a failing scenario to the few steps that matter.
    Shrink(shrink::Arguments),
    /// Simulate one scenario under one seed and show its full timeline.
    Replay(replay::Arguments),
    /// Validate scenario files, and print every error with its line, its cause and its cure.
    Check(check::Arguments),
    /// Write a runnable scenario with its story, from a template.
    New(new::Arguments),
    /// List scenarios, faults, events or invariants.
    List(list::Arguments),
    /// Explain a fault, an event, an invariant or a word of the reports.
    Explain(explain::Arguments),
    /// Print the JSON Schema of scenario files, for editors.
    Schema,
    /// Print a script that makes a shell complete this command line.
    Completions(completions::Arguments),
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

/// Returns the number of columns for the layout of results: that of COLUMNS if it is exported, else that of the
/// terminal, else the largest number allowed.
fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.filter(|columns| *columns > 0).or_else(terminal_columns).unwrap_or(COLUMNS_MAX)
}

/// Returns the width of the terminal to which results go.
fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills in the structure that it is given, or fails. The structure lives until the call returns.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (asked == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Reads and executes the command line of `gapless`, which tests `system`, and returns the exit status.
pub fn main(system: &impl System) -> ExitCode {
    run_as(&Home::gapless(system.sizes()), &|| Subject::of(system), std::env::args_os().skip(1).collect())
}

/// Reads and executes `words`, those after the program's name, as the command line of `home` for the log that `subject`
/// describes. Returns the exit status.
pub fn run_as(home: &Home, subject: &dyn Fn() -> Subject, words: Vec<OsString>) -> ExitCode {
    let command = Arguments::command().no_binary_name(true).bin_name(home.command.clone());
    let matches = command.try_get_matches_from(words).unwrap_or_else(|error| error.exit());
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let palette = if arguments.color.on(&io::stdout()) { Palette::Ansi } else { Palette::Plain };
    let layout = Layout::new(palette, columns());
    let result = match arguments.verb {
        Verb::Run(verb) => run::run(&verb, home, subject, layout),
        Verb::Explore(verb) => explore::explore(&verb, home, &subject(), layout),
        Verb::Shrink(verb) => shrink::run(&verb, home, &subject(), layout),
        Verb::Replay(verb) => replay::replay(&verb, home, layout),
        Verb::Check(verb) => check::check(&verb, home, layout),
        Verb::New(verb) => new::new(&verb, home, layout),
        Verb::List(verb) => list::list(&verb, home, layout),
        Verb::Explain(verb) => explain::explain(&verb, layout),
        Verb::Schema => schema::schema(home),
        Verb::Completions(verb) => completions::completions(&verb, home),
    };
    match result {
        Ok(exit) => exit.into(),
        // The reader has seen enough, but the runs have not come to their end, so there is no verdict.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            stop(Exit::Internal, "stopped: the reader of the results has gone away")
        }
        Err(Stop::Output(error)) => stop(Exit::Internal, &format!("cannot write the output: {error}")),
        Err(Stop::With(exit, message)) => stop(exit, &message),
    }
}

/// Accepts that a reader has seen enough (`gapless list | head`), for verbs that know their result before they print.
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
    /// The verb ends with this status and prints this message to stderr.
    With(Exit, String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Output(error)
    }
}
