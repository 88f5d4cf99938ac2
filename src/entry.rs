//! The entry point of a test binary. Each scenario file is a test of its own name, through the libtest protocol, and
//! `--gapless` gives access to the whole command line.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::Verdict,
    cli::{self, Home, quoted},
    explore::{self, RUN_MAX, RunOutcome, RunRequest, draw::Subject},
    report::{Palette, terminal},
    scenario::{self, Scenario, Sizes},
    system::System,
};

/// Makes up the whole of a test binary (`harness = false`) or of an example. It defines the libc seam, speaks libtest,
/// and runs every scenario file below the folder against the system, each run in a process of its own.
///
/// `GAPLESS_SEED=7 cargo test --test NAME SCENARIO` runs one seed of one scenario. With `--gapless` the binary is the
/// command line of gapless for this system: `cargo test --test NAME -- --gapless run --seeds 0..20`,
/// `… --gapless replay SCENARIO --seed 7`, and so on (`… --gapless help`). A scenario is called by its name in the
/// folder or by a path.
#[macro_export]
macro_rules! main {
    ($system:expr, $scenarios:literal) => {
        $crate::define_seam!();

        fn main() -> ::std::process::ExitCode {
            let target = $crate::entry::Target {
                manifest: env!("CARGO_MANIFEST_DIR"),
                file: file!(),
                crate_name: env!("CARGO_CRATE_NAME"),
                bin_name: option_env!("CARGO_BIN_NAME"),
            };
            $crate::entry::main(|| $system, $scenarios, &target)
        }
    };
}

/// What a binary knows about itself from its compilation, in Cargo's terms. [`main!`](crate::main!) fills it in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The folder of its package.
    pub manifest: &'static str,
    /// Its main source file.
    pub file: &'static str,
    /// Its name, with `_` where the target says `-`.
    pub crate_name: &'static str,
    /// Its name, if it is a binary or an example.
    pub bin_name: Option<&'static str>,
}

impl Target {
    /// Returns how a user starts it, without its own arguments.
    fn launch(&self) -> String {
        match self.bin_name {
            Some(name) if self.is_example() => format!("cargo run --example {name} --"),
            Some(name) => format!("cargo run --bin {name} --"),
            None => format!("cargo test --test {} --", self.test_name()),
        }
    }

    /// Returns a word that a shell takes for a command.
    fn name(&self) -> String {
        self.bin_name.unwrap_or(self.crate_name).to_owned()
    }

    /// Returns whether it is an example: `examples/x.rs` or `examples/x/main.rs`.
    fn is_example(&self) -> bool {
        let file = Path::new(self.file);
        let folder = if file.file_stem().is_some_and(|stem| stem == "main") { file.parent() } else { Some(file) };
        folder.and_then(Path::parent).and_then(Path::file_name).is_some_and(|name| name == "examples")
    }

    /// Returns the name by which Cargo starts a test. Cargo does not tell a test this name: it is that of the file or
    /// of its folder, else a pattern that Cargo expands.
    fn test_name(&self) -> String {
        let file = Path::new(self.file);
        let names = [file.file_stem(), file.parent().and_then(Path::file_name)];
        let is_it = |name: &String| name.replace('-', "_") == self.crate_name;
        let names = names.into_iter().flatten().map(|name| name.to_string_lossy().into_owned());
        names.into_iter().find(is_it).unwrap_or_else(|| quoted(&self.crate_name.replace('_', "?")))
    }

    /// Returns the folder of its scenarios, as the shortest path from the current folder.
    fn folder(&self, scenarios: &str) -> PathBuf {
        let folder = Path::new(self.manifest).join(scenarios);
        let here = env::current_dir().unwrap_or_default();
        match folder.strip_prefix(here) {
            Ok(short) if short != Path::new("") => short.to_owned(),
            _ => folder,
        }
    }
}

/// Runs the binary. [`main!`](crate::main!) calls this.
pub fn main<S: System>(system: impl Fn() -> S + Clone + Send + 'static, scenarios: &str, target: &Target) -> ExitCode {
    explore::become_worker_if_asked(system.clone());
    main_of(&|| Subject::of(&system()), scenarios, target)
}

fn main_of(subject: &dyn Fn() -> Subject, scenarios: &str, target: &Target) -> ExitCode {
    let folder = target.folder(scenarios);
    let sizes = subject().sizes;
    if env::args_os().nth(1).is_some_and(|word| word == "--gapless") {
        let command = format!("{} --gapless", target.launch());
        let home = Home { command, name: target.name(), scenarios: folder, by_name: true, sizes };
        return cli::run_as(&home, subject, env::args_os().skip(2).collect());
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = match trials(&folder, &target.launch(), arguments.nocapture, &sizes) {
        Ok(trials) => trials,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials(folder: &Path, launch: &str, talk: bool, sizes: &Sizes) -> Result<Vec<Trial>, String> {
    let seed = match env::var_os("GAPLESS_SEED") {
        Some(text) => Some(seed(&text.to_string_lossy())?),
        None => None,
    };
    let files = scenario::discover(&[folder.to_owned()]).map_err(|error| error.to_string())?;
    let trial = |path: PathBuf| {
        let name = name(folder, &path);
        let case = Case { path, sizes: sizes.clone(), seed, reproduce: reproduce(launch, &name), talk };
        Trial::test(name, move || case.run())
    };
    Ok(files.into_iter().map(trial).collect())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("GAPLESS_SEED is `{text}`, which is not a seed: give a number from 0 to {}", u64::MAX))
}

/// Returns the path below the folder, without its extension. No two files share it.
fn name(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).with_extension("").display().to_string()
}

fn reproduce(launch: &str, name: &str) -> String {
    format!("GAPLESS_SEED={{seed}} {launch} --exact {}", quoted(name))
}

/// One scenario file as a test.
struct Case {
    path: PathBuf,
    /// The sizes that the log takes.
    sizes: Sizes,
    seed: Option<u64>,
    reproduce: String,
    /// Whether to print the result of every run (`--nocapture`).
    talk: bool,
}

impl Case {
    fn run(&self) -> Result<(), Failed> {
        let scenario = scenario::read(&self.path, &self.sizes).map_err(|error| match error {
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
        let request = RunRequest {
            reproduce: self.reproduce.clone(),
            ..RunRequest::new(self.path.clone(), scenario.source.to_string(), seed)
        };
        let again = || format!("reproduce  {}", self.reproduce.replace("{seed}", &seed.to_string()));
        let outcome = explore::run(&request, RUN_MAX).map_err(|error| format!("seed {seed}: {error}\n{}", again()))?;
        let (summary, screen) = match outcome {
            RunOutcome::Failed { error } => return Err(format!("seed {seed}: {error}\n{}", again()).into()),
            RunOutcome::Judged { summary, screen, .. } => (summary, screen),
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
        let launch = target("tests/survives.rs", "survives", None).launch();
        assert_eq!(reproduce(&launch, "x"), "GAPLESS_SEED={seed} cargo test --test survives -- --exact x");
        assert_eq!(reproduce("cargo", "a b"), "GAPLESS_SEED={seed} cargo --exact 'a b'");
    }

    fn target(file: &'static str, crate_name: &'static str, bin_name: Option<&'static str>) -> Target {
        Target { manifest: "/src/acme", file, crate_name, bin_name }
    }

    #[test]
    fn a_binary_is_started_by_the_name_that_cargo_takes() {
        let launch = |file, crate_name, bin_name| target(file, crate_name, bin_name).launch();
        assert_eq!(launch("acme/tests/it-holds.rs", "it_holds", None), "cargo test --test it-holds --");
        assert_eq!(launch("tests/holds/main.rs", "holds", None), "cargo test --test holds --");
        assert_eq!(launch("tests/other.rs", "it_holds", None), "cargo test --test 'it?holds' --");
        assert_eq!(launch("examples/a-log.rs", "a_log", Some("a-log")), "cargo run --example a-log --");
        assert_eq!(launch("examples/a_log/main.rs", "a_log", Some("a_log")), "cargo run --example a_log --");
        assert_eq!(launch("examples/acme/src/main.rs", "acme", Some("acme")), "cargo run --bin acme --");
    }

    #[test]
    fn scenarios_are_called_from_here_where_they_are_below_here() {
        let here = env::current_dir().expect("somewhere");
        let manifest: &'static str = here.to_string_lossy().into_owned().leak();
        assert_eq!(Target { manifest, ..target("x.rs", "x", None) }.folder("a/b"), Path::new("a/b"));
        assert_eq!(target("x.rs", "x", None).folder("a/b"), Path::new("/src/acme/a/b"));
    }

    #[test]
    fn what_is_not_a_seed_is_said_to_be_none() {
        assert_eq!(seed("7"), Ok(7));
        assert!(seed("x").is_err_and(|error| error.contains("`x`")));
        assert!(seed("-1").is_err() && seed("").is_err());
    }
}
