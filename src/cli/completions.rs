//! `gapless completions`: the script that teaches a shell to complete this command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Exit, Stop, closed};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
pub(super) fn completions(arguments: &Arguments) -> Result<Exit, Stop> {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "gapless", &mut script);
    io::stdout().lock().write_all(&script).or_else(closed)?;
    Ok(Exit::Holds)
}
