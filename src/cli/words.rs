//! Small texts of the command line.

use std::time::Duration;

/// Returns `1 run` or `2 runs`.
pub(super) fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Returns a length of time in the two units that matter: `2h 05m`, `3m 07s`, `4.2s`.
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        3600.. => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        60.. => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{:.1}s", time.as_secs_f64()),
    }
}
