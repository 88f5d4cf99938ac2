//! The real disk, the real network, and observers that write down what they see.
//!
//! This is everything that a process in production gets from outside. The parts are thin on purpose: the traits in
//! [`super`] document what they promise, and everything that has logic lives on the other side of those traits, where
//! the simulator can reach it. Only this module may own threads.

mod backlog;
mod disk;
mod events;
mod log;
mod net;

use std::{io, path::Path, sync::Arc};

pub use disk::RealDisk;
pub use events::{EventFile, EventLine, Several};
pub use log::TracingObserver;
pub use net::RealNet;

use super::{Observer, World};

/// Returns the real world over an existing data folder.
pub fn world(folder: &Path, observer: Arc<dyn Observer>) -> io::Result<World> {
    Ok(World { disk: Arc::new(RealDisk::open(folder)?), net: Arc::new(RealNet), observer })
}
