//! The seams to the outside: disk, network, and somebody who watches.
//!
//! The audit log reaches everything outside itself through a [`World`]. In production the parts are real; under
//! simulation they are not, and the log cannot tell. Entropy and clocks need no seam here: they are answered at libc.

pub mod disk;
mod event_doc;
#[cfg(test)]
pub(crate) mod meddled;
pub mod net;
pub mod observer;
pub mod real;

use std::sync::Arc;

pub use disk::{Disk, File, OpenMode, Pending};
pub use event_doc::{EventDoc, ToldBy};
pub use net::{Listener, Net, Stream};
pub use observer::{LogEvent, Observer};

/// All that a process gets from outside.
#[derive(Clone)]
pub struct World {
    /// Where its files are. Paths are relative to the data folder.
    pub disk: Arc<dyn Disk>,
    /// How it listens and connects.
    pub net: Arc<dyn Net>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl World {
    /// Tells the observer.
    pub fn tell(&self, event: LogEvent) {
        self.observer.see(event);
    }
}
