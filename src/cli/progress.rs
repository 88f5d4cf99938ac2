//! The progress of a sweep, on a terminal. Without the feature `cli` nothing is shown, so that a test suite does not
//! need the dependency.

#[cfg(feature = "cli")]
pub(super) struct Progress(indicatif::ProgressBar);

#[cfg(feature = "cli")]
impl Progress {
    /// Returns a bar of `total` steps, or a hidden one.
    pub(super) fn new(total: usize, shown: bool) -> Self {
        if !shown {
            return Self(indicatif::ProgressBar::hidden());
        }
        let bar = indicatif::ProgressBar::new(total as u64);
        Self(match indicatif::ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos} of {len} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// Returns a line for a sweep whose number of steps is not known, or a hidden one.
    pub(super) fn endless(shown: bool) -> Self {
        if !shown {
            return Self(indicatif::ProgressBar::hidden());
        }
        let line = indicatif::ProgressBar::no_length();
        Self(match indicatif::ProgressStyle::with_template("{elapsed_precise} {msg}") {
            Ok(style) => line.with_style(style),
            Err(_) => line,
        })
    }

    /// Advances by one step and shows a message.
    pub(super) fn step(&self, said: &str) {
        self.0.set_message(said.to_owned());
        self.0.inc(1);
    }

    /// Prints while the bar is out of the way.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(not(feature = "cli"))]
pub(super) struct Progress;

#[cfg(not(feature = "cli"))]
impl Progress {
    pub(super) fn new(_total: usize, _shown: bool) -> Self {
        Self
    }

    pub(super) fn endless(_shown: bool) -> Self {
        Self
    }

    pub(super) fn step(&self, _said: &str) {}

    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        print()
    }

    pub(super) fn clear(&self) {}
}
