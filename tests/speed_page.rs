//! The page of what was measured: how a bench writes its figures to `docs/speed.md`, and that the page has a place for
//! each of its tables.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test are tests")]

use std::{fs, path::Path};

use page::{Asked, Made, PAGE, Rows, TABLES, Table, grouped, replaced};

#[allow(dead_code, reason = "a test prints no table and writes no page")]
#[path = "../log/benches/page/mod.rs"]
mod page;

const TABLE: Table = Table { block: "toy", columns: &["what", "wall", "how"], made: Made::OnAMachine };

const NAMES: [&str; 3] = ["one server", "three servers", "`explore`"];

const TEXT: &str = "# Toy

It took long.

<!-- begin: toy -->

Measured on: Abacus, 2 cores, rustc 1.0.0.

| what | wall | how |
| --- | --- | --- |
| one server | 1 s | median of 3 |
| three servers | 3 s | median of 3 |
| `explore` | 9,000/h | seeds 0..32 |

<!-- end: toy -->

| what | wall | how |
| --- | --- | --- |
| one server | of another table | |
";

const ABACUS: &str = "Abacus, 2 cores, rustc 1.0.0";

fn measured(rows: &[(&'static str, &str)]) -> Rows {
    let mut measured = Rows::new(TABLE, NAMES);
    for (name, wall) in rows {
        measured.keep(name, vec![(*wall).to_owned(), "median of 5".to_owned()]);
    }
    measured
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn a_measured_row_is_replaced_and_all_else_stays() {
    let new = replaced(TEXT, &measured(&[("three servers", "2 s")]), ABACUS).unwrap();
    assert_eq!(new, TEXT.replace("| three servers | 3 s | median of 3 |", "| three servers | 2 s | median of 5 |"));
}

#[test]
fn writing_the_same_twice_changes_nothing_the_second_time() {
    let rows = measured(&[("one server", "2 s"), ("`explore`", "1/h")]);
    let once = replaced(TEXT, &rows, ABACUS).unwrap();
    assert_ne!(once, TEXT);
    assert_eq!(replaced(&once, &rows, ABACUS).unwrap(), once);
}

#[test]
fn a_whole_table_has_the_rows_of_the_bench_in_its_order_and_the_machine_that_measured_them() {
    let all = measured(&[("`explore`", "3/h"), ("three servers", "2 s"), ("one server", "1 s")]);
    let stale = TEXT.replace("| one server | 1 s", "| two servers | 1 s").replace("wall", "time");
    let new = replaced(&stale, &all, "Loom, 8 cores, rustc 1.0.0").unwrap();
    let table = "\nMeasured on: Loom, 8 cores, rustc 1.0.0.\n\n| what | wall | how |\n| --- | --- | --- |\n\
                 | one server | 1 s | median of 5 |\n| three servers | 2 s | median of 5 |\n\
                 | `explore` | 3/h | median of 5 |\n\n";
    let [begin, end] = TABLE.markers();
    assert!(new.contains(&format!("{begin}\n{table}{end}\n")), "{new}");
    assert!(new.ends_with("| one server | of another table | |\n"), "{new}");
    // Nothing between the markers is as good as an old table.
    let empty = format!("before\n{begin}\n{end}\nafter\n");
    let filled = replaced(&empty, &all, "Loom, 8 cores, rustc 1.0.0").unwrap();
    assert_eq!(filled, format!("before\n{begin}\n{table}{end}\nafter\n"));
}

#[test]
fn a_marker_that_is_missing_or_misplaced_is_named_with_the_cure() {
    let rows = measured(&[("one server", "1 s")]);
    let refused = |page: &str| replaced(page, &rows, ABACUS).unwrap_err();
    let [begin, end] = TABLE.markers();
    for marker in [&begin, &end] {
        let why = refused(&TEXT.replace(marker.as_str(), ""));
        assert!(why.starts_with(&format!("{PAGE}: the line `{marker}` is missing")), "{why}");
        assert!(why.contains(&format!("write `{begin}` and `{end}` once each")), "{why}");
        let why = refused(&format!("{marker}\n{TEXT}"));
        assert!(why.contains("stands on several lines"), "{why}");
    }
    let why = refused(&format!("{end}\n{begin}\n"));
    assert!(why.contains("stands before"), "{why}");
}

#[test]
fn figures_of_two_machines_or_under_two_heads_are_never_mixed() {
    let rows = measured(&[("one server", "1 s")]);
    let why = replaced(TEXT, &rows, "Loom, 8 cores, rustc 1.0.0").unwrap_err();
    assert!(why.contains("`Measured on: Abacus, 2 cores, rustc 1.0.0.`"), "{why}");
    assert!(why.contains("these rows would stay in it: three servers; `explore`;"), "{why}");
    let why = replaced(&TEXT.replace("wall", "time"), &rows, ABACUS).unwrap_err();
    assert!(why.contains("other columns"), "{why}");
}

#[test]
fn words_choose_rows_by_their_names_or_their_table_and_an_unknown_option_is_refused() {
    let asked = |arguments: &[&str]| Asked::of(arguments.iter().map(|argument| (*argument).to_owned()));
    let wanted = |arguments: &[&str]| -> Vec<&str> {
        let asked = asked(arguments).unwrap();
        NAMES.into_iter().filter(|name| asked.wants(&TABLE, name)).collect()
    };
    assert_eq!(wanted(&["--bench", "--write"]), NAMES);
    assert_eq!(wanted(&["toy"]), NAMES);
    assert_eq!(wanted(&["--write", "server", "no such"]), ["one server", "three servers"]);
    assert_eq!(wanted(&["toy: explore"]), ["`explore`"]);
    let why = asked(&["--wirte"]).unwrap_err();
    assert!(why.contains("`--wirte`") && why.contains("`--write`"), "{why}");
    let why = asked(&["--write", "four"]).unwrap().check(&[Rows::new(TABLE, NAMES)], ABACUS).unwrap_err();
    assert!(why.contains("`four`") && why.contains("\n  toy: three servers"), "{why}");
}

#[test]
fn thousands_are_grouped() {
    assert_eq!([0.4, 999.5, 1_000.0, 1_234_567.0].map(grouped), ["0", "1,000", "1,000", "1,234,567"]);
}

#[test]
fn the_page_has_a_place_for_each_table_and_no_row_that_no_bench_has() {
    let page = file(PAGE);
    let benches = file("benches/speed.rs") + &file("log/benches/throughput.rs");
    for table in TABLES {
        // With the same check as a bench makes: no rows, but a place for them.
        replaced(&page, &Rows::new(*table, []), "any").unwrap_or_else(|why| panic!("{why}"));
        let [begin, end] = table.markers();
        let block = page.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).unwrap().0;
        let rows: Vec<&str> = block.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows[0], format!("| {} |", table.columns.join(" | ")), "the head of `{}`", table.block);
        for row in &rows[2..] {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), table.columns.len(), "in `{}`: {row}", table.block);
            let name = format!("\"{}\"", cells[0]);
            assert!(benches.contains(&name), "{PAGE}: no bench has the row {name} of `{}`; take it out", table.block);
        }
    }
}
