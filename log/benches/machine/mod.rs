//! The machine on which a table was measured: without it, none of its figures means anything.

use std::{env, fs, process::Command, thread};

/// Returns one line: processor, cores, load, compiler, and the build that is measured.
pub(crate) fn machine(measured: &str) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let build = if cfg!(debug_assertions) { "DEBUG build, of no use for comparison" } else { "release build" };
    format!("{} · {} cores · load {load} · {} · {measured} · {build}\n", model(), cores(), compiler())
}

/// Returns what a page says of it: processor, cores, and the version of the compiler.
pub(crate) fn described() -> String {
    let compiler = compiler();
    // `rustc 1.89.0 (29483883e 2025-08-04)`
    let version = compiler.split(" (").next().unwrap_or_default();
    format!("{}, {} cores, {version}", model(), cores())
}

fn model() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = processor.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':'));
    model.map_or_else(|| "unknown processor".to_owned(), |(_, model)| model.trim().to_owned())
}

fn compiler() -> String {
    let compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    compiler.map_or_else(
        |_| "unknown compiler".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}
