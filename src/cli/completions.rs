//! `gapless completions`: the script that teaches a shell to complete this command line.
//!
//! The command line of a test binary stands behind `cargo test --test NAME -- --gapless`, where no shell looks for it.
//! The script of a test binary therefore also defines a command with the name of the test, which stands for all of
//! these words.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Exit, Home, Stop, closed};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(super) fn completions(arguments: &Arguments, home: &Home) -> Result<Exit, Stop> {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    if let Some(defined) = define(arguments.shell, &home.name, &home.command) {
        script.extend_from_slice(defined.as_bytes());
    }
    clap_complete::generate(arguments.shell, &mut command, &home.name, &mut script);
    io::stdout().lock().write_all(&script).or_else(closed)?;
    Ok(Exit::Holds)
}

/// Returns how a shell defines `name` as the command `whole`, or `None` if the command has that name already.
fn define(shell: Shell, name: &str, whole: &str) -> Option<String> {
    if name == whole {
        return None;
    }
    let function = match shell {
        Shell::Fish => format!("function {name}\n    {whole} $argv\nend\n"),
        Shell::PowerShell => format!("function {name} {{ {whole} @args }}\n"),
        Shell::Elvish => format!("edit:add-var {name}~ {{|@words| {whole} $@words }}\n"),
        _ => format!("{name}() {{\n    {whole} \"$@\"\n}}\n"),
    };
    // zsh recognises a completion script by its first line.
    let first = if shell == Shell::Zsh { format!("#compdef {name}\n") } else { String::new() };
    Some(format!("{first}# `{name}` stands for `{whole}`, and can be completed.\n{function}\n"))
}
