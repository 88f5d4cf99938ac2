//! The layout of the source: what ARCHITECTURE.md says of it is what it is, and no files of a room need each other in a
//! circle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;

/// The packages, each with the folder of its source.
const PACKAGES: [(&str, &str); 3] = [("gapless", "src"), ("gapless_log", "log/src"), ("gapless_world", "world/src")];

/// Rooms as ARCHITECTURE.md calls them (`src/check`, `log/src/store`), each with what its code imports: other rooms of its
/// package by their names, other packages by theirs.
type Rooms = BTreeMap<String, BTreeSet<String>>;

/// A module, by the names on the way to it from the root of its package.
type Module = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pattern(regex: &str) -> Regex {
    Regex::new(regex).unwrap()
}

/// The tables of rooms in ARCHITECTURE.md: the backticked words of the third column are what is imported.
fn written() -> Rooms {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let row = pattern(r"(?m)^\| ((?:`(?:log/|world/)?src(?:/[a-z_.]+)?`(?:, )?)+) \| .* \| (.*) \|$");
    let word = pattern("`([a-z_/.-]+)`");
    let words = |cell: &str| -> Vec<String> { word.captures_iter(cell).map(|found| found[1].to_owned()).collect() };
    let mut rooms = Rooms::new();
    for found in row.captures_iter(&text) {
        let imports: BTreeSet<String> = words(&found[2]).into_iter().map(|name| name.replace('-', "_")).collect();
        for name in words(&found[1]) {
            let name = name.trim_end_matches(".rs").to_owned();
            assert!(rooms.insert(name.clone(), imports.clone()).is_none(), "`{name}` stands in the tables twice");
        }
    }
    rooms
}

/// The imports that the code has, without those of its tests. A package of one row is one room.
fn real(written: &Rooms) -> Rooms {
    let mut rooms = Rooms::new();
    for (package, folder) in PACKAGES {
        let is_one_room = written.contains_key(folder);
        for (module, imports) in modules(package, &root().join(folder)) {
            let Some(room) = module.first() else { continue };
            let of_package = imports.inner.iter().filter(|_| !is_one_room).filter_map(|path| path.first());
            let name = if is_one_room { folder.to_owned() } else { format!("{folder}/{room}") };
            let of_package = of_package.filter(|other| *other != room);
            rooms.entry(name).or_default().extend(of_package.chain(&imports.packages).cloned());
        }
    }
    rooms
}

/// What the code of a module names.
#[derive(Default)]
struct Imports {
    /// Modules of its own package; of a name that is no module, such as a function of the root, the module it is in.
    inner: BTreeSet<Module>,
    /// Other packages.
    packages: BTreeSet<String>,
}

/// All modules below a folder that have a file of their own, without those that only tests have.
fn modules(package: &str, folder: &Path) -> BTreeMap<Module, Imports> {
    let mut texts = BTreeMap::new();
    for path in sources(folder) {
        let inside = path.strip_prefix(folder).unwrap().with_extension("");
        let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| ["lib", "mod"].contains(&last.as_str())) {
            module.pop();
        }
        texts.insert(module, code(&fs::read_to_string(&path).unwrap()));
    }
    let known: BTreeSet<Module> = texts.keys().cloned().collect();
    texts.into_iter().map(|(module, code)| (module.clone(), imports(&code, package, &module, &known))).collect()
}

/// All files of Rust below a folder, without those that only tests have.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap().to_string_lossy();
        let of_tests = ["tests", "testing", "crash_disk", "lives", "meddled"];
        if of_tests.contains(&&*name) || name.ends_with("_tests") {
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

/// A text without comments, strings, and what only tests have.
fn code(text: &str) -> String {
    static SAID: LazyLock<Regex> = LazyLock::new(|| pattern(r##"//[^\n]*|r#"(?s:.*?)"#|'"'|"(?:[^"\\]|\\(?s:.))*""##));
    static TESTED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"#\[cfg\(test\)\]\s*(pub(\([a-z]+\))? )?(use|mod) [^;{]*;"));
    let code = SAID.replace_all(text, "");
    // A module of tests ends its file.
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    TESTED.replace_all(code, "").into_owned()
}

/// What the code of a module names, of the known ones of its package and of other packages.
fn imports(code: &str, package: &str, module: &Module, known: &BTreeSet<Module>) -> Imports {
    static USE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\buse ([^;]+);"));
    // A macro stands in no module.
    static NAMED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?:^|[^$\w:])((?:crate|super|self|gapless(?:_[a-z]+)?)(?:::\w+)+)(!?)"));
    let mut imports = Imports::default();
    let used = USE.captures_iter(code).flat_map(|found| paths(found.get(1).unwrap().as_str()));
    let rest = USE.replace_all(code, "");
    let named = NAMED.captures_iter(&rest).filter(|found| found[2].is_empty());
    for path in used.chain(named.map(|found| paths(found.get(1).unwrap().as_str()).remove(0))) {
        let up = path.iter().take_while(|part| ["crate", package, "super", "self"].contains(&part.as_str())).count();
        let mut found: Module = match path[0].as_str() {
            "crate" => Module::new(),
            own if own == package => Module::new(),
            "super" | "self" => {
                let supers = path[..up].iter().filter(|part| *part == "super").count();
                module[..module.len().saturating_sub(supers)].to_vec()
            }
            other if other.starts_with("gapless") => {
                imports.packages.insert(other.to_owned());
                continue;
            }
            child if known.contains(&child_of(module, child)) => module.clone(),
            _ => continue,
        };
        for part in &path[up..] {
            let deeper = child_of(&found, part);
            if !known.contains(&deeper) {
                break;
            }
            found = deeper;
        }
        imports.inner.insert(found);
    }
    imports.inner.remove(module);
    imports
}

fn child_of(module: &Module, child: &str) -> Module {
    [module.as_slice(), &[child.to_owned()]].concat()
}

/// Every path of a tree of imports: `a::{b, c::{d, e}}` has three.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let segments = |path: &str| -> Vec<String> {
        path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
    };
    match tree.split_once('{') {
        None => vec![segments(tree.split(" as ").next().unwrap_or_default())],
        Some((begin, group)) => {
            let inner = parts(group).into_iter().flat_map(paths);
            inner.map(|path| [segments(begin), path].concat()).collect()
        }
    }
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
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Which files of a folder need each other in a circle: the way round, by their names. What a folder's `mod.rs` and its
/// files have of each other is no circle, and two files that lie in different folders count as these folders.
fn circles(modules: &BTreeMap<Module, Imports>) -> Vec<String> {
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, imports) in modules {
        for other in &imports.inner {
            let common = module.iter().zip(other).take_while(|(one, other)| one == other).count();
            if common < module.len().min(other.len()) {
                edges.entry(module[..=common].to_vec()).or_default().insert(other[..=common].to_vec());
            }
        }
    }
    let none = BTreeSet::new();
    let way_back = |from: &Module| -> Option<Vec<Module>> {
        let (mut ways, mut seen) = (vec![vec![from.clone()]], BTreeSet::new());
        while let Some(way) = ways.pop() {
            for next in edges.get(way.last()?).unwrap_or(&none) {
                if next == from {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    ways.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        None
    };
    // Each circle is told where it is met first.
    let mut told: BTreeSet<BTreeSet<Module>> = BTreeSet::new();
    let found = edges.keys().filter_map(way_back).filter(|way| told.insert(way.iter().cloned().collect()));
    let name = |module: &Module| module.join("/");
    found.map(|way| way.iter().map(name).collect::<Vec<_>>().join(" -> ")).collect()
}

#[test]
fn the_tables_of_rooms_say_what_each_room_imports() {
    let written = written();
    let real = real(&written);
    let names = |rooms: &Rooms| rooms.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&real), "rooms in ARCHITECTURE.md, and in the packages");
    for (room, imports) in &real {
        assert_eq!(&written[room], imports, "`{room}`: in ARCHITECTURE.md, and in its code");
    }
}

#[test]
fn no_files_of_a_room_need_each_other_in_a_circle() {
    for (package, folder) in PACKAGES {
        assert_eq!(circles(&modules(package, &root().join(folder))), Vec::<String>::new(), "in `{folder}`");
    }
}

#[test]
fn imports_are_found_alone_in_groups_and_in_code_but_not_in_comments_texts_and_tests() {
    let text = "//! See [`crate::no`].\nuse crate::{\n    audit::{a, b::c},\n    world,\n    link::Link,\n};\n\
                use super::{super::fault, next::{self, x as y}};\nuse below::Thing;\nuse gapless_world::{no, Disk};\nuse gapless_log::own;\n\
                fn f() { crate::seam::arm(); $crate::no(); crate::no!(); \"crate::no::x // \"; } // crate::no\n\
                #[cfg(test)]\nuse crate::no::x;\n#[cfg(test)]\nmod tests {\n    use crate::no::y;\n}\n";
    let module = |path: &str| -> Module { path.split('/').map(str::to_owned).collect() };
    let rooms = ["audit", "audit/b", "fault", "here", "here/inner", "here/inner/below", "here/next", "link", "no"];
    let known = rooms.iter().chain(["own", "seam", "world"].iter()).map(|path| module(path)).collect();
    let found = imports(&code(text), "gapless_log", &module("here/inner"), &known);
    let names: Vec<String> = found.inner.iter().map(|module| module.join("/")).collect();
    assert_eq!(names, ["audit", "audit/b", "fault", "here/inner/below", "here/next", "link", "own", "seam", "world"]);
    assert_eq!(Vec::from_iter(found.packages), ["gapless_world"]);
}

#[test]
fn a_circle_is_found_however_long_and_a_folder_and_its_own_files_are_none() {
    let module = |path: &str| -> Module { path.split('/').map(str::to_owned).collect() };
    let found = |edges: &[(&str, &[&str])]| {
        let imports = |to: &[&str]| Imports { inner: to.iter().map(|to| module(to)).collect(), ..Imports::default() };
        circles(&edges.iter().map(|(from, to)| (module(from), imports(to))).collect())
    };
    assert!(found(&[("a", &["a/b"]), ("a/b", &["a", "c"]), ("c", &["d"])]).is_empty());
    assert_eq!(found(&[("r/a", &["r/b"]), ("r/b", &["r/c", "r"]), ("r/c", &["r/a"])]), ["r/a -> r/b -> r/c"]);
    assert_eq!(found(&[("r/a/x", &["r/b/y"]), ("r/b/z", &["r/a"])]), ["r/a -> r/b"]);
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
