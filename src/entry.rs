//! The entry of a test binary: each scenario file is a test of its own name, through the libtest protocol.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::Verdict,
    explore::{self, Order, Outcome, RUN_MAX},
    report::{Palette, terminal},
    scenario::{self, Scenario},
    system::System,
};

/// Makes this the whole of a test binary (`harness = false`): defines the libc seam in it, speaks libtest, and runs
/// every scenario file below the folder against the system, each run in a process of its own.
///
/// `GAPLESS_SEED=7 cargo test --test NAME SCENARIO` runs one seed of one scenario.
#[macro_export]
macro_rules! main {
    ($system:expr, $scenarios:literal) => {
        $crate::define_seam!();

        fn main() -> ::std::process::ExitCode {
            $crate::entry::main(|| $system, $scenarios, env!("CARGO_MANIFEST_DIR"), env!("CARGO_CRATE_NAME"))
        }
    };
}

/// What [`main!`](crate::main!) calls.
pub fn main<S: System>(
    system: impl FnOnce() -> S + Send + 'static,
    scenarios: &str,
    manifest: &str,
    test: &str,
) -> ExitCode {
    explore::become_worker_if_asked(system);
    let arguments = libtest_mimic::Arguments::from_args();
    let folder = Path::new(manifest).join(scenarios);
    let trials = match trials(&folder, test, arguments.nocapture) {
        Ok(trials) => trials,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials(folder: &Path, test: &str, talk: bool) -> Result<Vec<Trial>, String> {
    let seed = match std::env::var_os("GAPLESS_SEED") {
        Some(text) => Some(seed(&text.to_string_lossy())?),
        None => None,
    };
    let files = scenario::discover(&[folder.to_owned()]).map_err(|error| error.to_string())?;
    let trial = |path: PathBuf| {
        let name = name(folder, &path);
        let case = Case { path, seed, reproduce: reproduce(test, &name), talk };
        Trial::test(name, move || case.run())
    };
    Ok(files.into_iter().map(trial).collect())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("GAPLESS_SEED is `{text}`, which is not a seed: give a number from 0 to {}", u64::MAX))
}

/// The path below the folder, without its ending: two files never share it.
fn name(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).with_extension("").display().to_string()
}

fn reproduce(test: &str, name: &str) -> String {
    format!("GAPLESS_SEED={{seed}} cargo test --test {test} -- --exact {name}")
}

/// One scenario file as a test.
struct Case {
    path: PathBuf,
    seed: Option<u64>,
    reproduce: String,
    /// Say what every run came to (`--nocapture`).
    talk: bool,
}

impl Case {
    fn run(&self) -> Result<(), Failed> {
        let scenario = scenario::read(&self.path).map_err(|error| match error {
            scenario::ReadError::Invalid { path, text, problems } => {
                scenario::render::problems(&path, &text, &problems)
            }
            other => other.to_string(),
        })?;
        let seeds = match self.seed {
            Some(seed) => vec![seed],
            None => std::iter::once(0).chain(scenario.seeds.iter().copied().filter(|seed| *seed != 0)).collect(),
        };
        seeds.into_iter().try_for_each(|seed| self.run_seed(&scenario, seed))
    }

    fn run_seed(&self, scenario: &Scenario, seed: u64) -> Result<(), Failed> {
        let order = Order {
            path: self.path.clone(),
            text: scenario.source.to_string(),
            seed,
            history: None,
            trail: None,
            bare: false,
            colour: false,
            reproduce: self.reproduce.clone(),
        };
        let again = || format!("reproduce  {}", self.reproduce.replace("{seed}", &seed.to_string()));
        let outcome = explore::run(&order, RUN_MAX).map_err(|error| format!("seed {seed}: {error}\n{}", again()))?;
        let (summary, screen) = match outcome {
            Outcome::Failed { error } => return Err(format!("seed {seed}: {error}\n{}", again()).into()),
            Outcome::Judged { summary, screen, .. } => (summary, screen),
        };
        match summary.judgement.verdict {
            Verdict::Holds if self.talk => println!("{}: seed {seed} hash {}", summary.scenario, summary.hash),
            Verdict::Holds => {}
            Verdict::Violated => return Err(screen.into()),
            // A test that exercised nothing must not look like one that passed.
            Verdict::Inconclusive => {
                return Err(format!("{}{}", terminal::row(&summary, Palette::Plain), again()).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_by_its_path_below_the_folder() {
        assert_eq!(name(Path::new("/a/scenarios"), Path::new("/a/scenarios/tls/expired.toml")), "tls/expired");
        assert_eq!(reproduce("survives", "x"), "GAPLESS_SEED={seed} cargo test --test survives -- --exact x");
    }

    #[test]
    fn what_is_not_a_seed_is_said_to_be_none() {
        assert_eq!(seed("7"), Ok(7));
        assert!(seed("x").is_err_and(|error| error.contains("`x`")));
        assert!(seed("-1").is_err() && seed("").is_err());
    }
}
