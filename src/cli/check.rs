//! `gapless check`: validates scenario files.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::words::counted;
use super::{Exit, Home, Stop, closed, select};
use crate::{
    report::{Layout, terminal},
    scenario::{self, PROBLEMS_MAX},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario files, names of scenarios, or folders of them [default: all scenarios].
    paths: Vec<PathBuf>,
}

/// Prints every error of every file.
pub(super) fn check(arguments: &Arguments, home: &Home, layout: Layout) -> Result<Exit, Stop> {
    let files = select::files(home, &arguments.paths)?;
    let (mut errors, mut more) = (0, false);
    let mut text = String::new();
    for path in &files {
        match scenario::read(path, &home.sizes) {
            Ok(_) => {}
            Err(scenario::ReadError::Invalid { path, text: source, problems }) => {
                errors += problems.len();
                more |= problems.len() >= PROBLEMS_MAX;
                text.push_str(&scenario::render::problems_within(&path, &source, &problems, layout.columns()));
            }
            Err(error) => {
                errors += 1;
                text.push_str(&format!("error: {error}\n"));
            }
        }
    }
    let exit = if errors == 0 { Exit::Holds } else { Exit::InvalidScenario };
    let found = match errors {
        0 => "no errors".to_owned(),
        n if more => format!("{} and more", counted(n, "error")),
        n => format!("{}, all shown", counted(n, "error")),
    };
    let line = format!("{}, {found}", counted(files.len(), "file"));
    writeln!(io::stdout(), "{text}{}", terminal::with_exit(&line, exit as u8, layout)).or_else(closed)?;
    Ok(exit)
}
