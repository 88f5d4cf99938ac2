//! Leaks: calls that bypassed the simulation during a run and reached the real system. Each leak names its place in the
//! code, so that a developer can remove it there.

use std::{
    backtrace::Backtrace,
    cell::Cell,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How many leaks are kept. This is enough to see the pattern; without a limit, a thread that polls a clock would fill
/// the memory.
const LEAKS_MAX: usize = 8;

static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! { static RECORDING: Cell<bool> = const { Cell::new(false) }; }

/// Returns what has leaked so far: for each leak a sentence and the place in the code.
pub fn leaks() -> Vec<String> {
    LEAKS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Notes a leak with the place that caused it. Capturing a backtrace allocates and may itself read clocks, so a call
/// from within this function is ignored.
pub(super) fn record(what: &str) {
    if RECORDING.try_with(|on| on.replace(true)).unwrap_or(true) {
        return;
    }
    let mut leaks = LEAKS.lock().unwrap_or_else(PoisonError::into_inner);
    if leaks.len() < LEAKS_MAX {
        let place = place(&Backtrace::force_capture().to_string());
        leaks.push(format!("{what}\n{place}"));
    }
    drop(leaks);
    let _ = RECORDING.try_with(|on| on.set(false));
}

/// How many frames are shown at most.
const FRAMES_MAX: usize = 6;

/// Names of frames that are on every stack and tell the reader nothing.
const MACHINERY: [&str; 12] = [
    "std::",
    "core::",
    "alloc::",
    "gapless::seam",
    "gapless::sim",
    "gapless::explore",
    "turmoil::",
    "gapless_libc_seam",
    "backtrace",
    "__",
    "start_thread",
    "clone",
];

/// Folders of this crate for which the same holds.
const MACHINERY_FOLDERS: [&str; 3] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/seam/"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/sim/"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/explore/"),
];

/// Names of frames that lead through a library, for frames about which nothing else is known.
const LIBRARIES: [&str; 4] = ["tokio::", "futures", "tracing::", "hyper"];

/// Folders in which the sources of libraries lie.
const LIBRARY_FOLDERS: [&str; 3] = ["/registry/src/", "/git/checkouts/", "/vendor/"];

/// Returns the frames on which a reader can act: the user's own frames, preceded by what they called. If a library
/// acted by itself, its frames are returned. Frames of std, of the harness and of the C library are left out.
pub(super) fn place(backtrace: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let frames: Vec<(Origin, Frame<'_>)> = frames(backtrace)
        .map(|frame| (frame.origin(&here), frame))
        .filter(|(origin, _)| *origin != Origin::Machinery)
        .collect();
    if frames.is_empty() {
        return "    somewhere: this build holds no symbols; set debug = \"line-tables-only\" in its profile"
            .to_owned();
    }
    let shown: Vec<&Frame<'_>> = match frames.iter().position(|(origin, _)| *origin == Origin::User) {
        None => frames.iter().map(|(_, frame)| frame).collect(),
        Some(first) => {
            let called = first.checked_sub(1).map(|at| &frames[at].1);
            let own = frames[first..].iter().filter(|(origin, _)| *origin == Origin::User).map(|(_, frame)| frame);
            called.into_iter().chain(own).collect()
        }
    };
    shown.iter().take(FRAMES_MAX).map(|frame| frame.to_string()).collect::<Vec<_>>().join("\n")
}

/// Whose code a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Machinery,
    Library,
    User,
}

/// One call on a stack.
struct Frame<'a> {
    /// The full path of the function, or only its name if the build has nothing but line tables.
    name: &'a str,
    /// `file:line:column`.
    at: Option<&'a str>,
}

impl Frame<'_> {
    fn origin(&self, here: &Path) -> Origin {
        let file = self.at.map_or_else(PathBuf::new, |at| here.join(at.trim_start_matches("./")));
        let file = file.to_string_lossy();
        // Paths look like `<std::thread::Builder>::spawn` or `<&mut T as …>::poll`.
        let path = self.name.trim_start_matches(['<', '&', ' ']).trim_start_matches("mut ");
        let named = |names: &[&str]| names.iter().any(|name| path.starts_with(name));
        let of_std = file.contains("/rustc/") || file.contains("/library/std/") || file.contains("/library/core/");
        let turmoil = file.contains("/turmoil-");
        if of_std || turmoil || MACHINERY_FOLDERS.iter().any(|folder| file.starts_with(folder)) || named(&MACHINERY) {
            Origin::Machinery
        } else if LIBRARY_FOLDERS.iter().any(|folder| file.contains(folder)) || named(&LIBRARIES) {
            Origin::Library
        } else {
            Origin::User
        }
    }
}

impl std::fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Types fill lines and say little: `spawn<closure, ()>` becomes `spawn`.
        let name = match self.name.find('<') {
            Some(at) if at > 0 && !self.name[..at].ends_with("::") => &self.name[..at],
            _ => self.name,
        };
        write!(f, "    {name}")?;
        let Some(at) = self.at else { return Ok(()) };
        // For a library, only its name, version and file are shown.
        let short = at.split_once("/registry/src/").and_then(|(_, rest)| Some(rest.split_once('/')?.1));
        write!(f, " at {}", short.unwrap_or(at))
    }
}

/// Parses frames as std prints them: `  3: name`, and below it, if known, `at file:line:column`. Inlined calls follow
/// without a number.
fn frames(backtrace: &str) -> impl Iterator<Item = Frame<'_>> {
    let mut lines = backtrace.lines().map(str::trim).peekable();
    std::iter::from_fn(move || {
        let line = lines.next()?;
        let at = lines.next_if(|next| next.starts_with("at ")).map(|at| at.trim_start_matches("at "));
        let name = match line.split_once(": ") {
            Some((number, name)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => line,
        };
        Some(Frame { name, at })
    })
    .filter(|frame| !matches!(frame.name, "" | "<unknown>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_PATHS: &str = "   0: std::backtrace::Backtrace::force_capture
             at /rustc/x/library/std/src/backtrace.rs:331:9
   1: gapless::seam::leak::record
   2: <std::thread::Builder>::spawn_unchecked
   3: tokio::runtime::blocking::pool::Spawner::spawn_thread
   4: tokio::task::blocking::spawn_blocking
   5: mine::open_it::{{closure}}
             at ./src/mine.rs:12:9
   6: <unknown>
   7: __libc_start_main";

    const LINE_TABLES: &str = concat!(
        "   0: record\n             at ",
        env!("CARGO_MANIFEST_DIR"),
        "/src/seam/leak.rs:29:28
   1: spawn_blocking_inner<mine::open_it, ()>
             at /home/me/.cargo/registry/src/index.crates.io-1949/tokio-1.54.1/src/runtime/blocking/pool.rs:451:28
   2: spawn_blocking<mine::open_it, ()>
             at /home/me/.cargo/registry/src/index.crates.io-1949/tokio-1.54.1/src/task/blocking.rs:239:39
   3: {async_fn#0}
             at /home/me/mine/src/sim/open.rs:12:9
   4: poll<mine::open_it>
             at /home/me/.cargo/registry/src/index.crates.io-1949/tokio-1.54.1/src/runtime/task/core.rs:380:24
   5: call_once<()>
             at /rustc/x/library/core/src/ops/function.rs:253:5"
    );

    #[test]
    fn the_users_own_frames_are_shown_and_what_they_called() {
        assert_eq!(
            place(WITH_PATHS),
            "    tokio::task::blocking::spawn_blocking\n    mine::open_it::{{closure}} at ./src/mine.rs:12:9"
        );
    }

    #[test]
    fn with_line_tables_alone_the_files_tell_whose_code_it_is() {
        assert_eq!(
            place(LINE_TABLES),
            "    spawn_blocking at tokio-1.54.1/src/task/blocking.rs:239:39\n    \
             {async_fn#0} at /home/me/mine/src/sim/open.rs:12:9"
        );
    }

    #[test]
    fn a_library_that_does_it_by_itself_is_shown_too() {
        let cut = WITH_PATHS.find("   5: mine").expect("there");
        assert!(place(&WITH_PATHS[..cut]).starts_with("    tokio::runtime::blocking::pool::Spawner::spawn_thread"));
        assert!(place("").contains("no symbols"));
    }
}
