//! The layout of the source: what ARCHITECTURE.md says of it is what it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// Rooms by name, each with the other rooms that its code imports.
type Rooms = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The table of rooms in ARCHITECTURE.md: the backticked words of its third column are the rooms imported.
fn written() -> Rooms {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let row = Regex::new(r"(?m)^\| ((?:`src/[a-z_.]+`(?:, )?)+) \| .* \| (.*) \|$").unwrap();
    let word = Regex::new("`([a-z_/.]+)`").unwrap();
    let words = |cell: &str| -> Vec<String> { word.captures_iter(cell).map(|found| found[1].to_owned()).collect() };
    let mut rooms = Rooms::new();
    for found in row.captures_iter(&text) {
        let imports: BTreeSet<String> = words(&found[2]).into_iter().collect();
        for name in words(&found[1]) {
            let name = name.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
            assert!(rooms.insert(name.clone(), imports.clone()).is_none(), "`{name}` stands in the table twice");
        }
    }
    rooms
}

/// The imports that the code has, without those of its tests.
fn real() -> Rooms {
    let mut rooms = Rooms::new();
    for path in sources(&root().join("src")) {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        if room == "lib" {
            continue;
        }
        let imports = imports(&fs::read_to_string(&path).unwrap());
        rooms.entry(room).or_default().extend(imports);
    }
    for (room, imports) in &mut rooms {
        imports.remove(room);
        imports.remove("build_id"); // a function of the crate, and no room
    }
    rooms
}

/// All files of Rust below a folder, without those that only tests have.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap().to_string_lossy();
        let is_test = name == "tests" || name == "testing" || name.ends_with("_tests") || name == "crash_disk";
        if is_test {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The rooms that a text names behind `crate::`, or behind `gapless::` in a program of its own.
fn imports(text: &str) -> BTreeSet<String> {
    let said = Regex::new(r##"//[^\n]*|r#"(?s:.*?)"#|'"'|"(?:[^"\\]|\\(?s:.))*""##).unwrap();
    let code = said.replace_all(text, "");
    // A module of tests ends its file.
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let tested = Regex::new(r"#\[cfg\(test\)\]\s*(pub(\([a-z]+\))? )?use [^;]*;").unwrap();
    let code = tested.replace_all(code, "");
    // A macro stands in no room.
    let single = Regex::new(r"(?:^|[^$\w])(?:crate|gapless)::([a-z_]+)(!?)").unwrap();
    let is_room = |found: &regex::Captures<'_>| found[2].is_empty().then(|| found[1].to_owned());
    let mut rooms: BTreeSet<String> = single.captures_iter(&code).filter_map(|found| is_room(&found)).collect();
    let group = Regex::new(r"(?:^|[^$\w])(?:crate|gapless)::\{").unwrap();
    let first = Regex::new(r"^\s*([a-z_]+)").unwrap();
    for found in group.find_iter(&code) {
        rooms.extend(parts(&code[found.end()..]).iter().filter_map(|part| Some(first.captures(part)?[1].to_owned())));
    }
    rooms
}

/// The parts of a group of imports, up to the brace that closes it.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0_u32, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn the_table_of_rooms_says_what_each_room_imports() {
    let (written, real) = (written(), real());
    let names = |rooms: &Rooms| rooms.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&real), "rooms in ARCHITECTURE.md, and in `src`");
    for (room, imports) in &real {
        assert_eq!(&written[room], imports, "`src/{room}`: in ARCHITECTURE.md, and in its code");
    }
}

#[test]
fn imports_are_found_alone_in_groups_and_in_code_but_not_in_comments_texts_and_tests() {
    let text = "//! See [`crate::no`].\nuse crate::{\n    audit::{a, b::c},\n    world,\n    link::Link,\n};\n\
                use crate::fault::x;\n\
                fn f() { crate::seam::arm(); $crate::no(); crate::no!(); \"crate::no::x // \"; } // crate::no\n\
                #[cfg(test)]\nuse crate::no::x;\n#[cfg(test)]\nmod tests {\n    use crate::no::y;\n}\n";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["audit", "fault", "link", "seam", "world"]);
}

#[test]
fn every_page_of_the_internals_is_in_the_index() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 150, "ARCHITECTURE.md is to be read in ten minutes: at most 150 lines");
    for page in fs::read_dir(root().join("docs/internals")).unwrap() {
        let name = page.unwrap().file_name().to_string_lossy().into_owned();
        assert!(text.contains(&format!("](docs/internals/{name})")), "{name} is not in the index of ARCHITECTURE.md");
    }
}
