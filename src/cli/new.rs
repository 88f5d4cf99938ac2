//! `gapless new`: writes a runnable scenario with its story, as a starting point for a new one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use super::{Exit, Home, Stop, closed};
use crate::{report::Layout, scenario};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of the file, without `.toml`: a-z, 0-9 and -, a letter first.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// The template to start from; `--list` shows all of them.
    #[arg(long, default_value = "crash")]
    template: String,
    /// The folder for the file, or the file itself if the path ends in `.toml` [default: the folder of scenarios].
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// List the templates.
    #[arg(long, conflicts_with_all = ["name", "template", "to"])]
    list: bool,
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Each template's name and text.
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name, ".toml")))),*];
    };
}

templates!["crash", "power-loss", "partition", "certificate", "clock", "upgrade", "memory"];

/// The first line of every template, as a file in `scenarios/` needs it.
const SCHEMA_LINE: &str = "#:schema ../schema/scenario.json\n";

/// The longest name, in bytes.
const NAME_MAX: usize = 64;

/// Writes the file and prints the next commands.
pub(super) fn new(arguments: &Arguments, home: &Home, layout: Layout) -> Result<Exit, Stop> {
    let name = match &arguments.name {
        Some(name) if !arguments.list => name,
        _ => return list(layout),
    };
    let to = arguments.to.as_ref().unwrap_or(&home.scenarios);
    let path = if is_file(to) { to.clone() } else { to.join(format!("{name}.toml")) };
    check_name(name)?;
    let text = text(template(&arguments.template)?, &path);
    write_new(&path, &text)?;
    let (command, file) = (&home.command, home.word(&path));
    let mut said = format!("wrote {}, from the template `{}`; now\n", path.display(), arguments.template);
    said.push_str(&format!("  {command} check {file}\n  {command} run {file}\n"));
    io::stdout().lock().write_all(said.as_bytes()).or_else(closed)?;
    if !Path::new("schema/scenario.json").exists() {
        let hint = "for completion in an editor: mkdir -p schema && gapless schema > schema/scenario.json";
        let _ = writeln!(io::stderr(), "{hint}");
    }
    Ok(Exit::Holds)
}

fn list(layout: Layout) -> Result<Exit, Stop> {
    let title = |text: &str| {
        let scenario = scenario::parse(Path::new("template.toml"), text).ok();
        scenario.map_or_else(String::new, |scenario| scenario.title)
    };
    let lines: Vec<_> = TEMPLATES.iter().map(|(name, text)| ((*name).to_owned(), title(text))).collect();
    io::stdout().lock().write_all(super::list::table(&lines, "", layout.columns()).as_bytes()).or_else(closed)?;
    Ok(Exit::Holds)
}

fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "toml")
}

/// Checks a name. Names of steps follow the same rule: a shell, a test filter and a report can all handle such a name.
fn check_name(name: &str) -> Result<(), Stop> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if letter && name.len() <= NAME_MAX && name.bytes().all(legal) {
        return Ok(());
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let rule = format!("1 to {NAME_MAX} of a-z, 0-9 and -, a letter first");
    Err(wrong(format!("error: `{shown}` cannot be the name of a scenario\nwrite {rule}; --to says where it goes")))
}

fn template(name: &str) -> Result<&'static str, Stop> {
    let known: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
    let found = TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    found.ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        wrong(format!("error: no template is called `{shown}`\n{}", scenario::suggest(name, &known)))
    })
}

/// Returns the template with its path to the schema, or without that line if the path is not known.
fn text(template: &str, path: &Path) -> String {
    let story = template.strip_prefix(SCHEMA_LINE).unwrap_or(template);
    let mut up = String::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        match part {
            Component::Normal(_) => up.push_str("../"),
            Component::CurDir => {}
            _ => return story.to_owned(),
        }
    }
    format!("#:schema {up}schema/scenario.json\n{story}")
}

/// Writes a new file. Never replaces an existing one.
fn write_new(path: &Path, text: &str) -> Result<(), Stop> {
    let cannot =
        |error: io::Error| Stop::With(Exit::Internal, format!("error: cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let path = path.display();
            wrong(format!("error: {path} is there already and stays as it is\nchoose another name, or --to"))
        }
        _ => cannot(error),
    })?;
    file.write_all(text.as_bytes()).map_err(cannot)
}

fn wrong(message: String) -> Stop {
    Stop::With(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_template_is_a_sound_scenario_with_its_story() {
        for (name, text) in TEMPLATES {
            let path = PathBuf::from(format!("src/cli/templates/{name}.toml"));
            let scenario = scenario::parse(&path, text)
                .unwrap_or_else(|problems| panic!("{}", scenario::render::problems(&path, text, &problems)));
            assert!(text.starts_with(SCHEMA_LINE), "{name}");
            assert!(scenario.story.lines().count() >= 2 && !scenario.steps.is_empty(), "{name}");
            assert!(!scenario.expect.seen.is_empty(), "{name} says what is to be seen");
            assert!(scenario.expect.blind_at_most.is_some(), "{name} bounds how long nobody is answered");
            assert!(scenario.title.chars().count() <= 80, "{name}");
        }
    }

    #[test]
    fn every_template_in_the_folder_is_offered() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/templates");
        let files = scenario::discover(&[folder]).unwrap();
        let files: BTreeSet<&str> = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(files, TEMPLATES.iter().map(|(name, _)| *name).collect());
    }

    #[test]
    fn the_way_to_the_schema_follows_the_file() {
        let template = format!("{SCHEMA_LINE}title = \"t\"\n");
        let first = |path: &str| text(&template, Path::new(path)).lines().next().unwrap().to_owned();
        assert_eq!(first("scenarios/a.toml"), "#:schema ../schema/scenario.json");
        assert_eq!(first("./tests/deep/a.toml"), "#:schema ../../schema/scenario.json");
        assert_eq!(first("a.toml"), "#:schema schema/scenario.json");
        assert_eq!(first("/tmp/a.toml"), "title = \"t\"");
        assert_eq!(first("../a.toml"), "title = \"t\"");
    }
}
