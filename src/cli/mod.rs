//! The command line: one file per verb, no logic of its own. Results go to stdout, talk goes to stderr.
//!
//! It is that of the program `gapless` and, behind `--gapless`, that of every test binary made by
//! [`main!`](crate::main!), for the log that is tested there. What differs between them is a [`Home`].

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
    /// Ctrl-C: what ran was told, the rest was not run.
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
    /// Colour in the output: by default where it goes to a terminal and NO_COLOR is not set.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

const EXIT_STATUS: &str = "\
Exit status: 0 holds · 1 internal error · 2 wrong usage · 3 invalid scenario · 4 nothing selected ·
100 violated · 101 inconclusive · 130 interrupted. Results go to stdout, everything else to stderr.
`gapless explain exit-codes` says when which.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Simulate scenario files or folders.
    Run(run::Arguments),
    /// Draw scenarios that nobody wrote down, simulate them, and keep those that fail.
    Explore(explore::Arguments),
    /// Cut a scenario that fails down to the few steps that matter.
    Shrink(shrink::Arguments),
    /// Simulate one scenario under one seed and show its full timeline.
    Replay(replay::Arguments),
    /// Validate scenario files: every error with its line, its cause and its cure.
    Check(check::Arguments),
    /// Write a runnable scenario with its story, from a template.
    New(new::Arguments),
    /// List scenarios, faults, events or invariants.
    List(list::Arguments),
    /// Show the page of a fault, an event, an invariant or a word of the reports.
    Explain(explain::Arguments),
    /// Print the JSON Schema of scenario files, for editors.
    Schema,
    /// Print the script with which a shell completes this command line.
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

/// In how many columns results are laid out: as many as COLUMNS says where somebody exported it, else as the terminal
/// has, else as many as there may be.
fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.filter(|columns| *columns > 0).or_else(terminal_columns).unwrap_or(COLUMNS_MAX)
}

/// The width of the terminal that results go to.
fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills in the structure that it is given, which lives until it returns, or fails.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (asked == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Reads the command line of `gapless`, which tests `system`, does what it says, and returns the exit status.
pub fn main<S: System>(system: &S) -> ExitCode {
    run_as(&Home::gapless(system.sizes()), || Subject::of(system), std::env::args_os().skip(1))
}

/// The same for the words after the program's name, as the command line of `home`, for the log that `subject` describes.
pub fn run_as(home: &Home, subject: impl FnOnce() -> Subject, words: impl IntoIterator<Item = OsString>) -> ExitCode {
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
