//! The machine on which a table was measured: without it, none of its figures means anything.

use std::{env, fs, process::Command, thread};

/// Returns one line: processor, cores, load, compiler, and the build that is measured.
pub(crate) fn machine(measured: &str) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = processor.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    let compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    let compiler = compiler.map_or_else(
        |_| "unknown compiler".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let build = if cfg!(debug_assertions) { "DEBUG build, of no use for comparison" } else { "release build" };
    format!("{model} · {} cores · load {load} · {compiler} · {measured} · {build}\n\n", cores())
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}
