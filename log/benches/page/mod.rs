//! The page of what was measured, `docs/speed.md`: its tables, and how a bench writes its figures there.
//!
//! Each table stands between two markers, and with `--write` a bench replaces the rows that it measured. Nobody writes
//! such a row by hand, so no figure is older than its last measurement. Everything outside the markers stays as it is,
//! byte for byte, and figures of two machines never stand under one line that names only one of them.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// The page, from the root of the repository.
pub(crate) const PAGE: &str = "docs/speed.md";

/// What a run costs the machine.
pub(crate) const SPEED: Table =
    Table { block: "speed", columns: &["what", "wall", "processor", "floor", "aim", "how"], made: Made::OnAMachine };

/// What takes simulated time.
pub(crate) const SIMULATED: Table =
    Table { block: "simulated", columns: &["what", "simulated", "floor", "aim", "how"], made: Made::InASimulation };

/// What real servers take.
pub(crate) const THROUGHPUT: Table = Table {
    block: "throughput",
    columns: &["what", "entries/s", "p50", "p99", "servers, each", "how"],
    made: Made::OnAMachine,
};

/// All tables of the page.
#[allow(dead_code, reason = "a bench knows its own; the test of the page asks for all")]
pub(crate) const TABLES: &[Table] = &[SPEED, SIMULATED, THROUGHPUT];

/// A table of the page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// The word in its markers.
    pub(crate) block: &'static str,
    /// The first one is the name of the row, the last one says how its figures were made.
    pub(crate) columns: &'static [&'static str],
    pub(crate) made: Made,
}

/// Where figures come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Made {
    /// Another machine has others.
    OnAMachine,
    /// Every machine has the same.
    InASimulation,
}

impl Table {
    /// Returns the lines before and after the table.
    pub(crate) fn markers(&self) -> [String; 2] {
        ["begin", "end"].map(|edge| format!("<!-- {edge}: {} -->", self.block))
    }

    /// Returns the two lines above the rows.
    fn head(&self) -> String {
        format!("{}{}", line(self.columns), line(&vec!["---"; self.columns.len()]))
    }

    /// Returns the line that says where the figures come from.
    fn source(&self, machine: &str) -> String {
        match self.made {
            Made::OnAMachine => format!("Measured on: {machine}."),
            Made::InASimulation => "Simulated time, the same on every machine.".to_owned(),
        }
    }

    /// Finds what stands between the markers of the table.
    fn place(&self, page: &str) -> Result<Range<usize>, String> {
        let [begin, end] = self.markers();
        let (mut begins, mut ends, mut at) = (Vec::new(), Vec::new(), 0);
        for line in page.split_inclusive('\n') {
            if line.trim() == begin {
                begins.push(at + line.len());
            } else if line.trim() == end {
                ends.push(at);
            }
            at += line.len();
        }
        let cause = match (begins.as_slice(), ends.as_slice()) {
            ([after], [before]) if after <= before => return Ok(*after..*before),
            ([], _) => format!("the line `{begin}` is missing"),
            (_, []) => format!("the line `{end}` is missing"),
            ([_], [_]) => format!("the line `{end}` stands before `{begin}`"),
            _ => format!("`{begin}` or `{end}` stands on several lines"),
        };
        Err(format!(
            "{PAGE}: {cause}, so the figures have no place; write `{begin}` and `{end}` once each, on lines of their \
             own, with the table between them, or with nothing between them if the table is new"
        ))
    }
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The rows of a table, as a bench has them: their names in order, and the cells of those that were measured.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) table: Table,
    names: Vec<&'static str>,
    cells: BTreeMap<&'static str, Vec<String>>,
    /// Whether the head of the table was printed.
    begun: bool,
}

impl Rows {
    pub(crate) fn new(table: Table, names: impl IntoIterator<Item = &'static str>) -> Rows {
        Rows { table, names: names.into_iter().collect(), cells: BTreeMap::new(), begun: false }
    }

    /// Keeps the cells of a row, all but its name.
    pub(crate) fn keep(&mut self, name: &'static str, cells: Vec<String>) {
        self.cells.insert(name, cells);
    }

    /// Prints the cells of a row, and keeps them.
    pub(crate) fn came(&mut self, name: &'static str, cells: Vec<String>) {
        self.print(name, &cells);
        self.keep(name, cells);
    }

    /// Prints why a row has no figures.
    pub(crate) fn came_to_nothing(&mut self, name: &str, word: &str, why: &str) {
        self.print(name, &[word, why]);
    }

    fn print(&mut self, name: &str, cells: &[impl AsRef<str>]) {
        if !self.begun {
            self.begun = true;
            let [what, columns @ ..] = self.table.columns else { return };
            println!("\n{}", aligned(&format!("{}: {what}", self.table.block), columns));
        }
        println!("{}", aligned(name, cells));
    }
}

/// A line for a terminal: a name, figures below each other, and words.
fn aligned(name: &str, cells: &[impl AsRef<str>]) -> String {
    let Some((words, figures)) = cells.split_last() else { return name.to_owned() };
    let figures: String = figures.iter().map(|figure| format!(" {:>13}", figure.as_ref())).collect();
    format!("{name:<58}{figures}  {}", words.as_ref())
}

/// Returns the page with what was measured, below a line that names this machine. Rows that were not measured stay, and
/// rows that the bench no longer has go.
pub(crate) fn replaced(page: &str, rows: &Rows, machine: &str) -> Result<String, String> {
    let place = rows.table.place(page)?;
    let old = Old::of(&page[place.clone()]);
    let (source, head) = (rows.table.source(machine), rows.table.head());
    let (mut lines, mut kept) = (String::new(), Vec::new());
    for name in &rows.names {
        if let Some(cells) = rows.cells.get(name) {
            lines += &format!("| {name} {}", line(cells));
        } else if let Some(row) = old.rows.get(name) {
            lines += row;
            kept.push(*name);
        }
    }
    if let Some(cause) = old.differs(&source, &head).filter(|_| !kept.is_empty()) {
        return Err(format!(
            "{PAGE}: the table `{}` {cause}, but these rows would stay in it: {}; measure all of its rows at once, \
             without words that choose some, and see that none fails or is left out",
            rows.table.block,
            kept.join("; ")
        ));
    }
    Ok([&page[..place.start], &format!("\n{source}\n\n{head}{lines}\n"), &page[place.end..]].concat())
}

/// What stands in the place of a table.
struct Old<'p> {
    source: &'p str,
    head: String,
    rows: BTreeMap<&'p str, &'p str>,
}

impl<'p> Old<'p> {
    fn of(text: &'p str) -> Old<'p> {
        let is_row = |line: &&str| line.starts_with('|');
        let source = text.lines().find(|line| !line.is_empty() && !is_row(line)).unwrap_or_default();
        let lines: Vec<&str> = text.split_inclusive('\n').filter(is_row).collect();
        let (head, rows) = lines.split_at(lines.len().min(2));
        let named = |row: &&'p str| Some((row.split('|').nth(1)?.trim(), *row));
        Old { source, head: head.concat(), rows: rows.iter().filter_map(named).collect() }
    }

    /// Returns why no row of the old table may stand in a new one.
    fn differs(&self, source: &str, head: &str) -> Option<String> {
        if self.source != source {
            Some(format!("says `{}` and not `{source}`", self.source))
        } else if self.head != head {
            Some("has other columns than the bench".to_owned())
        } else {
            None
        }
    }
}

/// What a bench is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Whether the figures go to the page.
    write: bool,
    /// Words that choose rows; none chooses all.
    words: Vec<String>,
}

impl Asked {
    /// Reads the arguments of a bench.
    pub(crate) fn of(arguments: impl IntoIterator<Item = String>) -> Result<Asked, String> {
        let mut asked = Asked { write: false, words: Vec::new() };
        for argument in arguments {
            match argument.as_str() {
                "--write" => asked.write = true,
                // Cargo's own, for every bench.
                "--bench" => {}
                option if option.starts_with('-') => {
                    return Err(format!(
                        "the command line: no option is called `{option}`; give `--write`, and words that choose rows"
                    ));
                }
                _ => asked.words.push(argument),
            }
        }
        Ok(asked)
    }

    /// Returns whether a row is to be measured: its name, behind that of its table and a colon, contains one of the
    /// words. Backticks, which a shell would take for its own, do not count.
    pub(crate) fn wants(&self, table: &Table, name: &str) -> bool {
        let plain = |text: &str| text.replace('`', "");
        let name = plain(&format!("{}: {name}", table.block));
        self.words.is_empty() || self.words.iter().any(|word| name.contains(&plain(word)))
    }

    /// Says before anything is measured what would make it useless: that no row is meant, or that the page would not
    /// take the figures.
    pub(crate) fn check(&self, tables: &[Rows], machine: &str) -> Result<(), String> {
        let mut meant = Vec::new();
        for Rows { table, names, .. } in tables {
            let mut rows = Rows::new(*table, names.iter().copied());
            for name in names.iter().filter(|name| self.wants(table, name)) {
                rows.keep(name, Vec::new());
            }
            meant.push(rows);
        }
        if meant.iter().all(|rows| rows.cells.is_empty()) {
            let named = |rows: &Rows| -> Vec<String> {
                rows.names.iter().map(|name| format!("\n  {}: {name}", rows.table.block)).collect()
            };
            return Err(format!(
                "the command line: no row's name contains {}; give a part of one of these:{}",
                self.words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
                meant.iter().flat_map(named).collect::<String>()
            ));
        }
        if !self.write {
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return Err(format!("{PAGE}: this is a debug build, whose figures mean nothing; use `cargo bench`"));
        }
        let page = read(&path()?)?;
        meant.iter().filter(|rows| !rows.cells.is_empty()).try_for_each(|rows| replaced(&page, rows, machine).map(drop))
    }

    /// Writes what was measured to the page, if that is asked for. A table that the page does not take keeps no other
    /// one from it.
    pub(crate) fn write(&self, tables: &[Rows], machine: &str) -> Result<(), String> {
        if !self.write {
            return Ok(());
        }
        let path = path()?;
        // As it is now: somebody may have changed it during the measurement.
        let mut page = read(&path)?;
        let (mut written, mut problems) = (Vec::new(), Vec::new());
        for rows in tables.iter().filter(|rows| !rows.cells.is_empty()) {
            match replaced(&page, rows, machine) {
                Ok(new) => {
                    page = new;
                    written.push(format!("{PAGE}: `{}` has {} new rows", rows.table.block, rows.cells.len()));
                }
                Err(problem) => problems.push(problem),
            }
        }
        fs::write(&path, page).map_err(|why| format!("{}: {why}; see that it may be written", path.display()))?;
        if !written.is_empty() {
            println!("\n{}", written.join("\n"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}; see that it may be read", path.display()))
}

/// Finds the page, from the folder of whichever package measures.
fn path() -> Result<PathBuf, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().map(|folder| folder.join(PAGE)).find(|path| path.is_file()).ok_or_else(|| {
        format!("{}: no folder above it has {PAGE}; measure in a checkout of the repository", package.display())
    })
}

/// A number as the page has it: rounded, with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
